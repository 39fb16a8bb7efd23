use crate::sys;
use std::fmt;
use std::time::Duration;

/// What went wrong and what to do, in a sentence; the variant says what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The request makes no sense: an option out of range, an empty prompt.
    Invalid(String),
    /// More than this engine can ever do.
    TooLarge(String),
    /// Try again after `retry`, where the engine knows.
    Busy {
        /// The sentence.
        text: String,
        /// When to try again.
        retry: Option<Duration>,
        /// While the model loads: how far, 0 to 1000.
        permille: Option<u32>,
    },
    /// This engine or its model cannot do that.
    Unsupported(String),
    /// The engine's policy does not allow it.
    Forbidden(String),
    /// No engine is there, or it went away: connect again once it is back.
    Gone(String),
    /// Anything else.
    Other(String),
}

/// The result of most calls.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Invalid(text)
            | Error::TooLarge(text)
            | Error::Busy { text, .. }
            | Error::Unsupported(text)
            | Error::Forbidden(text)
            | Error::Gone(text)
            | Error::Other(text) => text,
        })
    }
}

impl std::error::Error for Error {}

fn busy(text: String, retry_ms: u64, permille: Option<u32>) -> Error {
    let retry = if retry_ms > 0 { Some(Duration::from_millis(retry_ms)) } else { None };
    Error::Busy { text, retry, permille }
}

impl Error {
    /// What a call put into its error.
    pub(crate) fn of_call(err: &sys::tessera_error) -> Error {
        let text = crate::handle::text_of_array(&err.text);
        match std::io::Error::from_raw_os_error(-err.code).kind() {
            std::io::ErrorKind::InvalidInput => Error::Invalid(text),
            std::io::ErrorKind::WouldBlock => {
                busy(text, err.retry_ms.max(0) as u64, u32::try_from(err.permille).ok())
            }
            std::io::ErrorKind::PermissionDenied => Error::Forbidden(text),
            std::io::ErrorKind::NotFound
            | std::io::ErrorKind::ConnectionRefused
            | std::io::ErrorKind::TimedOut
            | std::io::ErrorKind::BrokenPipe => Error::Gone(text),
            _ if err.code == -E2BIG => Error::TooLarge(text),
            _ => Error::Other(text),
        }
    }

    /// What a request's last event says that is no answer.
    pub(crate) fn of_event(event: &sys::tessera_event, text: String) -> Error {
        let done = event.kind == sys::TESSERA_DONE;
        if done && event.reason == sys::TESSERA_SHUTDOWN {
            return Error::Gone(text);
        }
        match event.code {
            sys::TESSERA_CODE_INVALID => Error::Invalid(text),
            sys::TESSERA_CODE_TOO_LARGE => Error::TooLarge(text),
            sys::TESSERA_CODE_BUSY => busy(text, event.retry_ms.into(), None),
            sys::TESSERA_CODE_UNSUPPORTED => Error::Unsupported(text),
            sys::TESSERA_CODE_FORBIDDEN => Error::Forbidden(text),
            sys::TESSERA_CODE_SHUTDOWN => Error::Gone(text),
            _ => Error::Other(text),
        }
    }
}

const E2BIG: i32 = 7;
