//! The same for tasks, without a runtime: a thread a task.

mod daemon;

use daemon::Daemon;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use tessera::{AsyncEngine, Error, Message, Options};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = Box::pin(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(out) => return out,
            Poll::Pending => thread::park(),
        }
    }
}

/// All of them in one task.
async fn all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut out: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, out) in futures.iter_mut().zip(&mut out).filter(|(_, out)| out.is_none()) {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                *out = Some(value);
            }
        }
        if out.iter().all(Option::is_some) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    out.into_iter().flatten().collect()
}

/// As in the standard library of Rust 1.64.
fn poll_fn<F: FnMut(&mut Context<'_>) -> Poll<()> + Unpin>(f: F) -> impl Future<Output = ()> {
    struct PollFn<F>(F);
    impl<F: FnMut(&mut Context<'_>) -> Poll<()> + Unpin> Future for PollFn<F> {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            (self.0)(context)
        }
    }
    PollFn(f)
}

fn options(tokens: u32) -> Options {
    Options { tokens_max: tokens, ignore_end: true, ..Options::default() }
}

fn ask(engine: &AsyncEngine, i: usize) -> impl Future<Output = String> + Send + 'static {
    let mut answer = engine.generate(format!("Number {i}"), &options(60));
    async move { answer.text().await.unwrap() }
}

#[test]
fn eight_at_once_in_a_task_and_in_threads() {
    let daemon = Daemon::start("eight");
    let engine = daemon.engine();
    let alone: Vec<String> = (0..8)
        .map(|i| engine.generate(format!("Number {i}"), &options(60)).unwrap().text().unwrap())
        .collect();
    let engine = AsyncEngine::new(engine).unwrap();
    assert_eq!(block_on(all((0..8).map(|i| ask(&engine, i)))), alone);
    let threads: Vec<_> = (0..8)
        .map(|i| {
            let engine = engine.clone();
            thread::spawn(move || block_on(ask(&engine, i)))
        })
        .collect();
    let texts: Vec<String> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(texts, alone);
}

#[test]
fn whole_answers_and_errors() {
    let daemon = Daemon::start("whole");
    let engine = AsyncEngine::new(daemon.engine()).unwrap();
    let usual = Options::default();
    block_on(async {
        let chat = [Message::user("list all files")];
        let ids = engine.tokenize(&chat, &usual).await.unwrap();
        let shown = Options { show_special: true, ..Options::default() };
        let rendered = engine.render(&chat, &usual).await.unwrap();
        assert_eq!(engine.detokenize(&ids, &shown).await.unwrap(), rendered);
        assert!(!engine.chat(&chat, &options(4)).text().await.unwrap().is_empty());
        assert!(engine.tokenize("word ".repeat(20_000), &usual).await.unwrap().len() >= 20_000);
        let vectors = engine.embed((0..9).map(|i| format!("number {i}")), &usual).await.unwrap();
        assert_eq!(vectors[8], engine.embed(["number 8"], &usual).await.unwrap()[0]);
        let wrong = Options { top_p: 0.0, ..Options::default() };
        let mut refused = engine.generate("Once", &wrong);
        assert!(matches!(refused.next().await, Some(Err(Error::Invalid(_)))));
        assert!(refused.next().await.is_none());
    });
}

#[test]
fn dropping_a_stream_cancels_it() {
    let daemon = Daemon::start("stream");
    let engine = AsyncEngine::new(daemon.engine()).unwrap();
    for _ in 0..4 {
        let mut answer = engine.generate("Once", &options(400));
        block_on(answer.next()).unwrap().unwrap();
    }
    let observer = daemon.engine();
    while {
        let status = observer.status(std::time::Duration::from_secs(60)).unwrap();
        status.requests_running + status.requests_waiting + status.requests_parked > 0
    } {}
    // With the last user the thread ends, and with it the connection.
    drop(engine);
    while observer.status(std::time::Duration::from_secs(60)).unwrap().channels > 1 {}
}

#[test]
fn an_engine_that_dies() {
    let mut daemon = Daemon::start("dies-async");
    let engine = AsyncEngine::new(daemon.engine()).unwrap();
    let mut first = engine.generate("Once", &options(400));
    let mut second = engine.generate("Once", &options(400));
    block_on(first.next()).unwrap().unwrap();
    daemon.kill();
    assert!(matches!(block_on(first.text()), Err(Error::Gone(_))));
    assert!(matches!(block_on(second.text()), Err(Error::Gone(_))));
    assert!(matches!(block_on(engine.tokenize("Once", &options(1))), Err(Error::Gone(_))));
}
