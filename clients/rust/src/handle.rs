//! A libtessera handle with Rust's types: all that is unsafe about the library is here.

use crate::error::{Error, Result};
use crate::sys;
use crate::types::*;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::raw::{c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;
use std::time::Duration;

/// How to connect, and how answers are waited for.
#[derive(Clone, Debug)]
pub struct Connect {
    /// The engine's socket; None: $TESSERA_SOCKET, else /run/tessera/engine.sock.
    pub path: Option<PathBuf>,
    /// How this program calls itself in status and logs; None: its own name.
    pub name: Option<String>,
    /// For the handshake.
    pub timeout: Duration,
    /// Sleep or poll.
    pub wait: Wait,
    /// Tokens of an answer that may wait unread, at least 1.
    pub credit: u32,
}

/// How a thread waits for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Wait {
    /// Polls only where its CPUs are none of the engine's.
    Auto = sys::TESSERA_WAIT_AUTO,
    /// Always sleeps.
    Sleep = sys::TESSERA_WAIT_SLEEP,
    /// Always polls: takes a CPU from the engine unless you know better.
    Poll = sys::TESSERA_WAIT_POLL,
}

impl Default for Connect {
    fn default() -> Connect {
        let timeout = Duration::from_secs(5);
        Connect { path: None, name: None, timeout, wait: Wait::Auto, credit: 256 }
    }
}

impl Default for Options {
    fn default() -> Options {
        let mut c = MaybeUninit::uninit();
        // SAFETY: fills the whole struct.
        let c: sys::tessera_options = unsafe {
            sys::tessera_options_init(c.as_mut_ptr());
            c.assume_init()
        };
        Options {
            tokens_max: c.tokens_max,
            temperature: c.temperature,
            top_p: c.top_p,
            min_p: c.min_p,
            top_k: c.top_k,
            repetition_penalty: c.repetition_penalty,
            presence_penalty: c.presence_penalty,
            frequency_penalty: c.frequency_penalty,
            penalty_tokens: c.penalty_tokens,
            seed: None,
            biases: Vec::new(),
            stops: Vec::new(),
            logprobs: false,
            top_logprobs: 0,
            ignore_end: false,
            special: false,
            no_bos: false,
            show_special: false,
            no_turn: false,
            template_json: None,
            deadline: None,
            priority: c.priority,
            tenant: 0,
        }
    }
}

/// What is wanted of a prompt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Want {
    Answer,
    Ids,
    /// The text of ids, or of a rendered chat.
    Text,
    Embedding,
}

/// An event that owns what it brings.
#[derive(Debug)]
pub(crate) enum Event {
    Accepted(Accepted),
    Token(Token),
    Ids(Vec<u32>),
    Text(String),
    Values(Vec<f32>),
    /// The last one.
    Done(Result<End>),
}

/// The milliseconds of a C call; long ones are cut.
fn millis(time: Duration) -> c_int {
    c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX)
}

fn c_string(text: &str, what: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::Invalid(format!("{what} has a NUL character")))
}

fn or_null(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(ptr::null(), |text| text.as_ptr())
}

/// A string of libtessera that lives as long as the call.
unsafe fn text_of(text: *const c_char) -> String {
    CStr::from_ptr(text).to_string_lossy().into_owned()
}

pub(crate) fn text_of_array(text: &[c_char]) -> String {
    let bytes: Vec<u8> = text.iter().take_while(|&&c| c != 0).map(|&c| c as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

unsafe fn slice_of<'a, T>(first: *const T, count: u32) -> &'a [T] {
    if count == 0 {
        &[]
    } else {
        std::slice::from_raw_parts(first, count as usize)
    }
}

unsafe fn counted(text: *const c_char, bytes: u32) -> String {
    String::from_utf8_lossy(slice_of(text.cast(), bytes)).into_owned()
}

/// `sys::tessera_options` and what it points to.
struct COptions {
    c: sys::tessera_options,
    _biases: Vec<sys::tessera_bias>,
    _stops: Vec<CString>,
    _stop_pointers: Vec<*const c_char>,
    _template: Option<CString>,
}

impl COptions {
    fn new(o: &Options, credit: u32) -> Result<COptions> {
        let biases: Vec<_> =
            o.biases.iter().map(|&(token, bias)| sys::tessera_bias { token, bias }).collect();
        let stops = o
            .stops
            .iter()
            .map(|stop| c_string(stop, "a stop string"))
            .collect::<Result<Vec<_>>>()?;
        let stop_pointers: Vec<_> = stops.iter().map(|stop| stop.as_ptr()).collect();
        let template =
            o.template_json.as_ref().map(|json| c_string(json, "template_json")).transpose()?;
        let too_many = |_| Error::Invalid("too many biases or stop strings".into());
        let c = sys::tessera_options {
            size: std::mem::size_of::<sys::tessera_options>(),
            tokens_max: o.tokens_max,
            temperature: o.temperature,
            top_p: o.top_p,
            min_p: o.min_p,
            top_k: o.top_k,
            repetition_penalty: o.repetition_penalty,
            presence_penalty: o.presence_penalty,
            frequency_penalty: o.frequency_penalty,
            penalty_tokens: o.penalty_tokens,
            has_seed: o.seed.is_some().into(),
            seed: o.seed.unwrap_or(0),
            biases: biases.as_ptr(),
            bias_count: u32::try_from(biases.len()).map_err(too_many)?,
            stops: stop_pointers.as_ptr(),
            stop_count: u32::try_from(stops.len()).map_err(too_many)?,
            logprobs: o.logprobs.into(),
            top_logprobs: o.top_logprobs,
            ignore_end: o.ignore_end.into(),
            special: o.special.into(),
            no_bos: o.no_bos.into(),
            show_special: o.show_special.into(),
            no_turn: o.no_turn.into(),
            template_json: or_null(&template),
            deadline_ms: o.deadline.map_or(0, |time| millis(time).max(1) as u32),
            priority: o.priority,
            tenant: o.tenant,
            credit,
        };
        Ok(COptions {
            c,
            _biases: biases,
            _stops: stops,
            _stop_pointers: stop_pointers,
            _template: template,
        })
    }
}

/// Exclusive: `&mut` wherever libtessera wants one thread at a time.
#[derive(Debug)]
pub(crate) struct Handle {
    t: *mut sys::tessera,
    credit: u32,
}

// SAFETY: libtessera takes a handle from any thread, one at a time.
unsafe impl Send for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: ours, and not used again.
        unsafe { sys::tessera_close(self.t) }
    }
}

/// Calls with a place for the error, which is filled where the call says that it failed.
fn with_error<T>(
    call: impl FnOnce(*mut sys::tessera_error) -> T,
    failed: impl FnOnce(&T) -> bool,
) -> Result<T> {
    let mut err = sys::tessera_error { code: 0, retry_ms: 0, permille: -1, text: [0; 512] };
    let got = call(&mut err);
    if failed(&got) {
        Err(Error::of_call(&err))
    } else {
        Ok(got)
    }
}

impl Handle {
    pub fn connect(how: &Connect) -> Result<Handle> {
        if how.credit == 0 {
            return Err(Error::Invalid("credit is 0: it must be at least 1".into()));
        }
        let name = how.name.as_ref().map(|name| c_string(name, "the name")).transpose()?;
        let path = how
            .path
            .as_ref()
            .map(|path| CString::new(path.as_os_str().as_bytes()))
            .transpose()
            .map_err(|_| Error::Invalid("the path has a NUL character".into()))?;
        let mut t = ptr::null_mut();
        with_error(
            // SAFETY: strings and options live through the call, which copies them.
            |err| unsafe {
                let mut options = MaybeUninit::uninit();
                sys::tessera_connect_options_init(options.as_mut_ptr());
                let mut options = options.assume_init();
                options.name = or_null(&name);
                options.timeout_ms = millis(how.timeout);
                options.wait_mode = how.wait as u32;
                options.credit = 0; // each answer grants as it is read
                sys::tessera_connect(&mut t, or_null(&path), &options, err)
            },
            |&got| got != 0,
        )?;
        Ok(Handle { t, credit: how.credit })
    }

    /// Of an answer.
    pub fn credit(&self) -> u32 {
        self.credit
    }

    pub fn info(&mut self) -> Info {
        let mut info = MaybeUninit::uninit();
        // SAFETY: fills the whole struct; its strings live as long as the handle.
        unsafe {
            sys::tessera_info(self.t, info.as_mut_ptr());
            let c: sys::tessera_info = info.assume_init();
            Info {
                model: text_of(c.model),
                architecture: text_of(c.architecture),
                weights: text_of(c.weights),
                engine: text_of(c.engine),
                context_tokens: c.context_tokens,
                request_tokens_max: c.request_tokens_max,
                sequences_max: c.sequences_max,
                queue_max: c.queue_max,
                requests_max: c.requests_max,
                payload_bytes_max: c.payload_bytes_max,
                vocabulary: c.vocabulary,
                tokens_max_default: c.tokens_max_default,
                top_logprobs_max: c.top_logprobs_max,
                park_seconds: c.park_seconds,
                weights_bytes: c.weights_bytes,
                parameters: c.parameters,
                embedding_width: c.embedding_width,
                pooling: match c.pooling {
                    sys::TESSERA_POOLING_MEAN => Pooling::Mean,
                    sys::TESSERA_POOLING_CLS => Pooling::Cls,
                    sys::TESSERA_POOLING_LAST => Pooling::Last,
                    _ => Pooling::None,
                },
                has_chat: c.has_chat != 0,
                has_tools: c.has_tools != 0,
                has_reasoning: c.has_reasoning != 0,
                tools: match c.tools {
                    sys::TESSERA_TOOLS_HERMES => Tools::Hermes,
                    sys::TESSERA_TOOLS_LLAMA3 => Tools::Llama3,
                    sys::TESSERA_TOOLS_MISTRAL => Tools::Mistral,
                    _ => Tools::None,
                },
            }
        }
    }

    pub fn submit(&mut self, want: Want, prompt: &Prompt, options: &Options) -> Result<u64> {
        let options = COptions::new(options, self.credit)?;
        let (t, o) = (self.t, &options.c as *const _);
        // SAFETY: what the prompt and the options point to lives through the call, which copies it.
        with_error(
            |err| unsafe {
                match prompt {
                    Prompt::Text(text) => {
                        let submit = match want {
                            Want::Answer => sys::tessera_submit_text,
                            Want::Embedding => sys::tessera_submit_embed,
                            Want::Ids | Want::Text => sys::tessera_submit_tokenize,
                        };
                        Ok(submit(t, text.as_ptr().cast(), text.len(), o, err))
                    }
                    Prompt::Tokens(tokens) => {
                        let submit = match want {
                            Want::Answer => sys::tessera_submit_tokens,
                            Want::Embedding => sys::tessera_submit_embed_tokens,
                            Want::Ids | Want::Text => sys::tessera_submit_detokenize,
                        };
                        Ok(submit(t, tokens.as_ptr(), tokens.len(), o, err))
                    }
                    Prompt::Chat(messages) => {
                        let submit = match want {
                            Want::Answer => sys::tessera_submit_chat,
                            Want::Embedding => sys::tessera_submit_embed_chat,
                            Want::Ids => sys::tessera_submit_tokenize_chat,
                            Want::Text => sys::tessera_submit_render,
                        };
                        let strings = messages
                            .iter()
                            .map(|m| {
                                Ok((
                                    c_string(&m.role, "a role")?,
                                    c_string(&m.content, "a message")?,
                                ))
                            })
                            .collect::<Result<Vec<_>>>()?;
                        let list: Vec<_> = strings
                            .iter()
                            .map(|(role, content)| sys::tessera_message {
                                role: role.as_ptr(),
                                content: content.as_ptr(),
                            })
                            .collect();
                        Ok(submit(t, list.as_ptr(), list.len(), o, err))
                    }
                }
            },
            |got| matches!(got, Ok(0)),
        )?
    }

    pub fn cancel(&mut self, id: u64) {
        // SAFETY: any id may be given. An engine that is gone has nothing to cancel.
        unsafe { sys::tessera_cancel(self.t, id, ptr::null_mut()) };
    }

    pub fn grant(&mut self, id: u64, credit: u32) {
        // SAFETY: any id may be given.
        unsafe { sys::tessera_credit(self.t, id, credit, ptr::null_mut()) };
    }

    /// The next event and its request, if there is one.
    pub fn poll(&mut self) -> Result<Option<(u64, Event)>> {
        let t = self.t;
        // SAFETY: ours, exclusively.
        self.take(|event, err| unsafe { sys::tessera_poll(t, event, err) })
    }

    /// The same, waiting for it; None where nothing is live, so that nothing can come.
    pub fn wait(&mut self) -> Result<Option<(u64, Event)>> {
        let t = self.t;
        // SAFETY: ours, exclusively.
        self.take(|event, err| unsafe { sys::tessera_wait(t, event, -1, err) })
    }

    fn take(
        &mut self,
        call: impl FnOnce(*mut sys::tessera_event, *mut sys::tessera_error) -> c_int,
    ) -> Result<Option<(u64, Event)>> {
        let mut event = MaybeUninit::uninit();
        let got = with_error(|err| call(event.as_mut_ptr(), err), |&got| got < 0)?;
        // SAFETY: 1 says that the event is filled, and what it points to lives until the next call.
        Ok(if got > 0 { unsafe { Some(event_of(&event.assume_init())) } } else { None })
    }

    /// Becomes readable when an event comes, after `arm` said true.
    pub fn fd(&self) -> c_int {
        // SAFETY: ours.
        unsafe { sys::tessera_fd(self.t) }
    }

    /// False: an event is there already.
    pub fn arm(&mut self) -> Result<bool> {
        // SAFETY: ours, exclusively.
        with_error(|err| unsafe { sys::tessera_arm(self.t, err) }, |&got| got < 0)
            .map(|got| got == 1)
    }

    /// How long `fd` may be waited for before the next poll; -1: as long as one likes.
    pub fn timeout_ms(&self) -> c_int {
        // SAFETY: ours.
        unsafe { sys::tessera_timeout_ms(self.t) }
    }

    pub fn status(&mut self, timeout: Duration) -> Result<Status> {
        let mut status = Box::new(MaybeUninit::<sys::tessera_status>::zeroed());
        with_error(
            // SAFETY: ours, exclusively.
            |err| unsafe { sys::tessera_status(self.t, status.as_mut_ptr(), millis(timeout), err) },
            |&got| got != 0,
        )?;
        // SAFETY: plain numbers, for which zeros are valid, and filled.
        let c = unsafe { &*status.as_ptr() };
        Ok(Status {
            model: text_of_array(&c.model),
            kernels: text_of_array(&c.kernels),
            engine: text_of_array(&c.engine),
            uptime: Duration::from_nanos(c.uptime_ns),
            weights_bytes: c.weights_bytes,
            kv_bytes: c.kv_bytes,
            kv_used_bytes: c.kv_used_bytes,
            steps: c.steps,
            prompt_tokens: c.prompt_tokens,
            completion_tokens: c.completion_tokens,
            requests_done: c.requests_done,
            requests_refused: c.requests_refused,
            requests_ended: c.requests_ended,
            cached_tokens: c.cached_tokens,
            queue: Duration::from_nanos(c.queue_ns),
            prefill: Duration::from_nanos(c.prefill_ns),
            decode: Duration::from_nanos(c.decode_ns),
            requests_running: c.requests_running,
            requests_waiting: c.requests_waiting,
            requests_parked: c.requests_parked,
            channels: c.channels,
        })
    }
}

unsafe fn event_of(c: &sys::tessera_event) -> (u64, Event) {
    let event = match c.kind {
        sys::TESSERA_ACCEPTED => Event::Accepted(Accepted {
            prompt_tokens: c.prompt_tokens,
            cached_tokens: c.cached_tokens,
            tokens_max: c.tokens_max,
            queue_position: c.queue_position,
            seed: c.seed,
            in_reasoning: c.in_reasoning != 0,
        }),
        sys::TESSERA_TOKEN => Event::Token(Token {
            text: counted(c.text, c.text_bytes),
            token: if c.has_token != 0 { Some(c.token) } else { None },
            index: c.index,
            logprob: if c.has_logprob != 0 { Some(c.logprob) } else { None },
            top: slice_of(c.top, c.top_count)
                .iter()
                .map(|top| Top {
                    token: top.token,
                    logprob: top.logprob,
                    text: counted(top.text, top.text_bytes),
                })
                .collect(),
            special: c.is_special != 0,
            time_ns: c.time_ns,
        }),
        sys::TESSERA_TOKENS => {
            Event::Ids(slice_of(c.pieces, c.piece_count).iter().map(|piece| piece.token).collect())
        }
        sys::TESSERA_TEXT => Event::Text(counted(c.text, c.text_bytes)),
        sys::TESSERA_EMBEDDING => Event::Values(slice_of(c.values, c.value_count).to_vec()),
        _ => Event::Done(end_of(c)),
    };
    (c.id, event)
}

/// DONE or FAILED.
unsafe fn end_of(c: &sys::tessera_event) -> Result<End> {
    let reason = match c.reason {
        _ if c.kind != sys::TESSERA_DONE => None,
        sys::TESSERA_END
        | sys::TESSERA_TOKENIZED
        | sys::TESSERA_EMBEDDED
        | sys::TESSERA_WRITTEN => Some(Reason::End),
        sys::TESSERA_STOP => Some(Reason::Stop(c.stop_index)),
        sys::TESSERA_LENGTH => Some(Reason::Length),
        sys::TESSERA_CANCELLED => Some(Reason::Cancelled),
        sys::TESSERA_DEADLINE => Some(Reason::Deadline),
        _ => None,
    };
    match reason {
        Some(reason) => Ok(End {
            reason,
            prompt_tokens: c.prompt_tokens,
            cached_tokens: c.cached_tokens,
            completion_tokens: c.completion_tokens,
            queue: Duration::from_nanos(c.queue_ns),
            prefill: Duration::from_nanos(c.prefill_ns),
            decode: Duration::from_nanos(c.decode_ns),
        }),
        None => {
            let mut text = counted(c.text, c.text_bytes);
            if text.is_empty() {
                let name = if c.kind == sys::TESSERA_DONE {
                    sys::tessera_reason_name(c.reason)
                } else {
                    sys::tessera_code_name(c.code)
                };
                text = format!("the engine ended the request: {}", text_of(name));
            }
            Err(Error::of_event(c, text))
        }
    }
}
