use crate::answer::{Answer, Whole};
use crate::error::{Error, Result};
use crate::handle::{Connect, Event, Handle, Want};
use crate::types::*;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// A connection to an engine. Any number of requests, up to `info().requests_max`, may be live at once.
///
/// One thread uses it at a time: it is `Send`, not `Sync`. [`AsyncEngine`](crate::AsyncEngine) is both.
#[derive(Debug)]
pub struct Engine {
    state: RefCell<State>,
    info: Info,
}

#[derive(Debug)]
struct State {
    handle: Handle,
    waiting: HashMap<u64, VecDeque<Event>>, // what came for requests that are not read just now
}

impl State {
    /// The next event of a request, for which those of others are put aside.
    fn next(&mut self, id: u64) -> Result<Event> {
        loop {
            if let Some(event) = self.waiting.get_mut(&id).and_then(VecDeque::pop_front) {
                return Ok(event);
            }
            match self.handle.wait()? {
                Some((of, event)) => self.put(of, event),
                None => return Err(Error::Other("the request is not live".into())),
            }
        }
    }

    /// Events of requests that nobody reads any more are dropped.
    fn put(&mut self, id: u64, event: Event) {
        if let Some(events) = self.waiting.get_mut(&id) {
            events.push_back(event);
        }
    }
}

impl Connect {
    /// Connects. [`Error::Gone`]: no engine is there. [`Error::Busy`]: its model is loading, or it has
    /// too many channels.
    pub fn open(&self) -> Result<Engine> {
        let mut handle = Handle::connect(self)?;
        let info = handle.info();
        Ok(Engine { state: RefCell::new(State { handle, waiting: HashMap::new() }), info })
    }
}

/// Connects to the engine at $TESSERA_SOCKET, else /run/tessera/engine.sock.
pub fn connect() -> Result<Engine> {
    Connect::default().open()
}

impl Engine {
    /// What the engine said of itself.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Continues a text or token ids, or answers a chat.
    pub fn generate(&self, prompt: impl Into<Prompt>, options: &Options) -> Result<Tokens<'_>> {
        let request = self.submit(Want::Answer, &prompt.into(), options)?;
        let credit = self.state.borrow().handle.credit();
        Ok(Tokens { request, answer: Answer::new(credit) })
    }

    /// Answers a chat.
    pub fn chat(&self, messages: &[Message], options: &Options) -> Result<Tokens<'_>> {
        self.generate(messages, options)
    }

    /// The ids of a text, or of a chat as the model's template renders it.
    pub fn tokenize(&self, prompt: impl Into<Prompt>, options: &Options) -> Result<Vec<u32>> {
        match prompt.into() {
            Prompt::Tokens(ids) => Ok(ids),
            prompt => Ok(self.submit(Want::Ids, &prompt, options)?.whole()?.ids),
        }
    }

    /// The text of ids. Of the options `show_special` counts.
    pub fn detokenize(&self, ids: &[u32], options: &Options) -> Result<String> {
        Ok(self.submit(Want::Text, &ids.into(), options)?.whole()?.text)
    }

    /// The prompt that the model's template makes of a chat.
    pub fn render(&self, messages: &[Message], options: &Options) -> Result<String> {
        Ok(self.submit(Want::Text, &messages.into(), options)?.whole()?.text)
    }

    /// The embeddings of prompts, `info().embedding_width` values each, of length 1.
    pub fn embed<P: Into<Prompt>>(
        &self,
        prompts: impl IntoIterator<Item = P>,
        options: &Options,
    ) -> Result<Vec<Vec<f32>>> {
        let width = self.info.embedding_width;
        let mut under_way = VecDeque::new();
        let mut out = Vec::new();
        for prompt in prompts {
            if under_way.len() >= self.info.at_once() {
                out.extend(finish(&mut under_way, width)?);
            }
            under_way.push_back(self.submit(Want::Embedding, &prompt.into(), options)?);
        }
        while let Some(embedding) = finish(&mut under_way, width)? {
            out.push(embedding);
        }
        Ok(out)
    }

    /// Asks the engine how it is; waits for at most so long.
    pub fn status(&self, timeout: Duration) -> Result<Status> {
        self.state.borrow_mut().handle.status(timeout)
    }

    fn submit(&self, want: Want, prompt: &Prompt, options: &Options) -> Result<Request<'_>> {
        let state = &mut *self.state.borrow_mut();
        while let Some((id, event)) = state.handle.poll()? {
            state.put(id, event); // last events give their places back
        }
        let id = state.handle.submit(want, prompt, options)?;
        state.waiting.insert(id, VecDeque::new());
        Ok(Request { engine: self, id })
    }

    pub(crate) fn into_parts(self) -> (Handle, Info) {
        (self.state.into_inner().handle, self.info)
    }
}

impl Info {
    /// Embeddings that are asked for together.
    pub(crate) fn at_once(&self) -> usize {
        self.sequences_max.min(self.requests_max).max(1) as usize
    }
}

fn finish(under_way: &mut VecDeque<Request<'_>>, width: u32) -> Result<Option<Vec<f32>>> {
    under_way.pop_front().map(|request| request.whole()?.embedding(width)).transpose()
}

#[derive(Debug)]
struct Request<'e> {
    engine: &'e Engine,
    id: u64,
}

impl Request<'_> {
    fn next(&self) -> Result<Event> {
        self.engine.state.borrow_mut().next(self.id)
    }

    fn whole(&self) -> Result<Whole> {
        let mut whole = Whole::default();
        while !whole.take(self.next()?)? {}
        Ok(whole)
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        let mut state = self.engine.state.borrow_mut();
        state.waiting.remove(&self.id);
        state.handle.cancel(self.id); // nothing where it has ended
    }
}

/// An answer as it comes. Dropping it ends the request at the engine.
///
/// At most `Connect::credit` tokens wait unread: a slow reader holds back its own answer and no other.
/// One that takes nothing for `info().park_seconds` loses it, and gets an error.
#[derive(Debug)]
pub struct Tokens<'e> {
    request: Request<'e>,
    answer: Answer,
}

impl Tokens<'_> {
    /// Once the engine has admitted the request.
    pub fn accepted(&self) -> Option<&Accepted> {
        self.answer.accepted.as_ref()
    }

    /// Once the answer is complete.
    pub fn end(&self) -> Option<&End> {
        self.answer.end.as_ref()
    }

    /// The rest of the answer's text, once it is complete.
    pub fn text(&mut self) -> Result<String> {
        self.map(|token| Ok(token?.text)).collect()
    }
}

impl Iterator for Tokens<'_> {
    type Item = Result<Token>;

    fn next(&mut self) -> Option<Result<Token>> {
        while !self.answer.over {
            let event = self.request.next().unwrap_or_else(|error| Event::Done(Err(error)));
            let taken = self.answer.take(event);
            let credit = self.answer.grant();
            if credit > 0 {
                self.request.engine.state.borrow_mut().handle.grant(self.request.id, credit);
            }
            if taken.is_some() {
                return taken;
            }
        }
        None
    }
}
