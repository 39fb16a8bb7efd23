//! Three questions at once on one connection, each in a task. `block_on` stands for whatever runtime you have.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use tessera::{AsyncEngine, Message, Options};

async fn ask(engine: AsyncEngine, question: String) -> tessera::Result<String> {
    let options = Options { tokens_max: 32, ..Options::default() };
    let mut answer = engine.chat(&[Message::user(&question)], &options);
    let mut text = question + " ";
    while let Some(token) = answer.next().await {
        text.push_str(&token?.text);
    }
    Ok(text)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = AsyncEngine::new(tessera::connect()?)?;
    let tasks: Vec<_> = (1..4)
        .map(|i| ask(engine.clone(), format!("What is {i} times {i}?")))
        .map(|task| thread::spawn(move || block_on(task)))
        .collect();
    for task in tasks {
        println!("{}", task.join().unwrap()?);
    }
    Ok(())
}

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
