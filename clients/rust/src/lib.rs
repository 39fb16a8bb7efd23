#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod answer;
mod engine;
mod error;
mod handle;
mod reactor;
pub mod sys;
mod types;

pub use engine::{connect, Engine, Tokens};
pub use error::{Error, Result};
pub use handle::{Connect, Wait};
pub use reactor::{AsyncEngine, TokenStream};
pub use types::*;
