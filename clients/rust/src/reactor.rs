//! Under async runtimes: a thread has the handle, polls it, and wakes the tasks.

use crate::answer::{Answer, Whole};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handle::{Event, Handle, Want};
use crate::types::*;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io::{Read, Write};
use std::os::raw::{c_int, c_short, c_ulong};
use std::os::unix::io::AsRawFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

/// An engine for tasks of any runtime: cheap to clone, `Send` and `Sync`. One thread serves all of them; it ends
/// with the last clone and the last request.
#[derive(Clone, Debug)]
pub struct AsyncEngine {
    door: Arc<Door>,
    info: Arc<Info>,
    credit: u32,
}

/// What tasks hold; the thread holds the desk behind it.
#[derive(Debug)]
struct Door {
    desk: Arc<Desk>,
    bell: UnixStream,
}

/// Where tasks leave what they want of the thread.
#[derive(Debug, Default)]
struct Desk {
    orders: Mutex<Vec<Order>>,
}

#[derive(Debug)]
enum Order {
    Submit(Want, Prompt, Options, Arc<Slot>),
    Grant(Arc<Slot>, u32),
    Cancel(Arc<Slot>),
    Quit,
}

/// A request: events on their way from the thread to the task.
#[derive(Debug, Default)]
struct Slot {
    inner: Mutex<Events>,
}

#[derive(Debug, Default)]
struct Events {
    events: VecDeque<Event>,
    waker: Option<Waker>,
    id: u64, // the thread's; 0: not submitted
}

/// Nothing that panics is done under these locks, so what they guard is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    fn put(&self, event: Event) {
        let mut inner = lock(&self.inner);
        inner.events.push_back(event);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll_event(&self, context: &mut Context<'_>) -> Poll<Event> {
        let mut inner = lock(&self.inner);
        match inner.events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => {
                inner.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Door {
    fn order(&self, order: Order) {
        lock(&self.desk.orders).push(order);
        let _ = (&self.bell).write(&[1]); // a full bell has rung
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.order(Order::Quit);
    }
}

impl AsyncEngine {
    /// Takes a connection over, with a thread of its own.
    pub fn new(engine: Engine) -> std::io::Result<AsyncEngine> {
        let (handle, info) = engine.into_parts();
        let credit = handle.credit();
        let (bell, rung) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        rung.set_nonblocking(true)?;
        let desk = Arc::new(Desk::default());
        let reactor =
            Reactor { handle, rung, desk: desk.clone(), live: HashMap::new(), lost: None };
        thread::Builder::new().name("tessera".into()).spawn(move || reactor.run())?;
        Ok(AsyncEngine { door: Arc::new(Door { desk, bell }), info: Arc::new(info), credit })
    }

    /// What the engine said of itself.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Continues a text or token ids, or answers a chat. What is wrong with the request is the answer's first item.
    pub fn generate(&self, prompt: impl Into<Prompt>, options: &Options) -> TokenStream {
        let request = self.submit(Want::Answer, prompt.into(), options);
        TokenStream { request, answer: Answer::new(self.credit) }
    }

    /// Answers a chat.
    pub fn chat(&self, messages: &[Message], options: &Options) -> TokenStream {
        self.generate(messages, options)
    }

    /// The ids of a text, or of a chat as the model's template renders it.
    pub async fn tokenize(&self, prompt: impl Into<Prompt>, options: &Options) -> Result<Vec<u32>> {
        match prompt.into() {
            Prompt::Tokens(ids) => Ok(ids),
            prompt => Ok(self.submit(Want::Ids, prompt, options).whole().await?.ids),
        }
    }

    /// The text of ids. Of the options `show_special` counts.
    pub async fn detokenize(&self, ids: &[u32], options: &Options) -> Result<String> {
        Ok(self.submit(Want::Text, ids.into(), options).whole().await?.text)
    }

    /// The prompt that the model's template makes of a chat.
    pub async fn render(&self, messages: &[Message], options: &Options) -> Result<String> {
        Ok(self.submit(Want::Text, messages.into(), options).whole().await?.text)
    }

    /// The embeddings of prompts, `info().embedding_width` values each, of length 1.
    pub async fn embed<P: Into<Prompt>>(
        &self,
        prompts: impl IntoIterator<Item = P>,
        options: &Options,
    ) -> Result<Vec<Vec<f32>>> {
        let width = self.info.embedding_width;
        let mut under_way: VecDeque<Request> = VecDeque::new();
        let mut out = Vec::new();
        let prompts: Vec<Prompt> = prompts.into_iter().map(Into::into).collect();
        for prompt in prompts {
            if under_way.len() >= self.info.at_once() {
                if let Some(request) = under_way.pop_front() {
                    out.push(request.whole().await?.embedding(width)?);
                }
            }
            under_way.push_back(self.submit(Want::Embedding, prompt, options));
        }
        for request in under_way {
            out.push(request.whole().await?.embedding(width)?);
        }
        Ok(out)
    }

    fn submit(&self, want: Want, prompt: Prompt, options: &Options) -> Request {
        let slot = Arc::new(Slot::default());
        self.door.order(Order::Submit(want, prompt, options.clone(), slot.clone()));
        Request { door: self.door.clone(), slot }
    }
}

#[derive(Debug)]
struct Request {
    door: Arc<Door>,
    slot: Arc<Slot>,
}

impl Request {
    async fn whole(&self) -> Result<Whole> {
        let mut whole = Whole::default();
        while !whole.take(NextEvent(&self.slot).await)? {}
        Ok(whole)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.door.order(Order::Cancel(self.slot.clone()));
    }
}

struct NextEvent<'a>(&'a Slot);

impl Future for NextEvent<'_> {
    type Output = Event;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Event> {
        self.0.poll_event(context)
    }
}

/// An answer as it comes, for a task. Dropping it ends the request at the engine; so does dropping the task.
///
/// `poll_next` is that of `futures::Stream`; with that crate, `stream::poll_fn(move |context| tokens.poll_next(context))`
/// is one. As with [`Tokens`](crate::Tokens), a slow reader holds back itself only.
#[derive(Debug)]
pub struct TokenStream {
    request: Request,
    answer: Answer,
}

impl TokenStream {
    /// The next token, None at the end. May be dropped and called again.
    pub async fn next(&mut self) -> Option<Result<Token>> {
        NextToken(self).await
    }

    /// The same for who writes a `Stream`.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Token>>> {
        while !self.answer.over {
            let event = match self.request.slot.poll_event(context) {
                Poll::Ready(event) => event,
                Poll::Pending => return Poll::Pending,
            };
            let taken = self.answer.take(event);
            let credit = self.answer.grant();
            if credit > 0 {
                self.request.door.order(Order::Grant(self.request.slot.clone(), credit));
            }
            if taken.is_some() {
                return Poll::Ready(taken);
            }
        }
        Poll::Ready(None)
    }

    /// Once the engine has admitted the request.
    pub fn accepted(&self) -> Option<&Accepted> {
        self.answer.accepted.as_ref()
    }

    /// Once the answer is complete.
    pub fn end(&self) -> Option<&End> {
        self.answer.end.as_ref()
    }

    /// The rest of the answer's text, once it is complete.
    pub async fn text(&mut self) -> Result<String> {
        let mut text = String::new();
        while let Some(token) = self.next().await {
            text.push_str(&token?.text);
        }
        Ok(text)
    }
}

struct NextToken<'a>(&'a mut TokenStream);

impl Future for NextToken<'_> {
    type Output = Option<Result<Token>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_next(context)
    }
}

/// The thread: the only one that touches the handle.
struct Reactor {
    handle: Handle,
    rung: UnixStream,
    desk: Arc<Desk>,
    live: HashMap<u64, Arc<Slot>>,
    lost: Option<Error>,
}

impl Reactor {
    fn run(mut self) {
        while self.take_orders() {
            if let Err(error) = self.take_events() {
                for (_, slot) in self.live.drain() {
                    slot.put(Event::Done(Err(error.clone())));
                }
                self.lost = Some(error);
            }
        }
    }

    /// False: nobody is left.
    fn take_orders(&mut self) -> bool {
        let mut bytes = [0; 64];
        while matches!((&self.rung).read(&mut bytes), Ok(count) if count > 0) {}
        let orders = std::mem::take(&mut *lock(&self.desk.orders));
        for order in orders {
            match order {
                Order::Submit(want, prompt, options, slot) => {
                    self.submit(want, &prompt, &options, slot)
                }
                Order::Grant(slot, credit) => {
                    let id = lock(&slot.inner).id;
                    self.handle.grant(id, credit);
                }
                Order::Cancel(slot) => {
                    let id = lock(&slot.inner).id;
                    if self.live.remove(&id).is_some() {
                        self.handle.cancel(id);
                    }
                }
                Order::Quit => return false,
            }
        }
        true
    }

    fn submit(&mut self, want: Want, prompt: &Prompt, options: &Options, slot: Arc<Slot>) {
        match self.handle.submit(want, prompt, options) {
            Ok(id) => {
                lock(&slot.inner).id = id;
                self.live.insert(id, slot);
            }
            Err(error) => slot.put(Event::Done(Err(error))),
        }
    }

    /// Gives what is there to its tasks, and sleeps where there is nothing until the engine or a task rings.
    fn take_events(&mut self) -> Result<()> {
        if self.lost.is_some() {
            sleep([self.rung.as_raw_fd(), -1], -1);
            return Ok(());
        }
        while let Some((id, event)) = self.handle.poll()? {
            let last = matches!(event, Event::Done(_));
            if let Some(slot) = self.live.get(&id) {
                slot.put(event);
            }
            if last {
                self.live.remove(&id);
            }
        }
        if self.handle.arm()? {
            sleep([self.rung.as_raw_fd(), self.handle.fd()], self.handle.timeout_ms());
        }
        Ok(())
    }
}

#[repr(C)]
struct PollFd {
    fd: c_int,
    events: c_short,
    revents: c_short,
}

const POLLIN: c_short = 1;

extern "C" {
    fn poll(fds: *mut PollFd, count: c_ulong, timeout_ms: c_int) -> c_int;
}

/// Until one of them is readable, or the time is up. Negative descriptors are none.
fn sleep(fds: [c_int; 2], timeout_ms: c_int) {
    let mut fds = fds.map(|fd| PollFd { fd, events: POLLIN, revents: 0 });
    // SAFETY: an array of so many; what poll() says is looked for by the caller anyway.
    unsafe { poll(fds.as_mut_ptr(), fds.len() as c_ulong, timeout_ms) };
}
