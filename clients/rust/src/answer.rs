//! What becomes of a request's events, however they were waited for.

use crate::error::{Error, Result};
use crate::handle::Event;
use crate::types::*;

/// The reader's side of an answer: what it knows, and when to grant credit again.
#[derive(Debug)]
pub(crate) struct Answer {
    pub accepted: Option<Accepted>,
    pub end: Option<End>,
    pub over: bool,
    read: u32,
    grant_at: u32,
}

impl Answer {
    pub fn new(credit: u32) -> Answer {
        let grant_at = (credit + 1) / 2;
        Answer { accepted: None, end: None, over: false, read: 0, grant_at }
    }

    /// A token, or the error that ended the answer; None: neither.
    pub fn take(&mut self, event: Event) -> Option<Result<Token>> {
        match event {
            Event::Token(token) => {
                self.read += 1;
                return Some(Ok(token));
            }
            Event::Accepted(accepted) => self.accepted = Some(accepted),
            Event::Done(end) => {
                self.over = true;
                match end {
                    Ok(end) => self.end = Some(end),
                    Err(error) => return Some(Err(error)),
                }
            }
            Event::Ids(_) | Event::Text(_) | Event::Values(_) => {}
        }
        None
    }

    /// How much credit is to be granted now; 0: none yet.
    pub fn grant(&mut self) -> u32 {
        if self.over || self.read < self.grant_at {
            return 0;
        }
        std::mem::take(&mut self.read)
    }
}

/// An answer that is given when it is complete.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    pub ids: Vec<u32>,
    pub text: String,
    pub values: Vec<f32>,
}

impl Whole {
    /// True: complete.
    pub fn take(&mut self, event: Event) -> Result<bool> {
        match event {
            Event::Ids(ids) => self.ids.extend(ids),
            Event::Text(text) => self.text.push_str(&text),
            Event::Values(values) => self.values.extend(values),
            Event::Accepted(_) | Event::Token(_) => {}
            Event::Done(end) => {
                return match end?.reason {
                    Reason::End => Ok(true),
                    reason => {
                        Err(Error::Other(format!("the engine ended the request: {reason:?}")))
                    }
                }
            }
        }
        Ok(false)
    }

    pub fn embedding(self, width: u32) -> Result<Vec<f32>> {
        if self.values.len() != width as usize {
            let got = self.values.len();
            return Err(Error::Other(format!(
                "the engine's embedding has {got} of {width} values"
            )));
        }
        Ok(self.values)
    }
}
