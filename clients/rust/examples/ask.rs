//! Asks the engine a question and prints the answer as it comes: ask "What is the capital of France?"

use std::io::Write;
use tessera::{Message, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let question = std::env::args().nth(1).unwrap_or("What is the capital of France?".into());
    let engine = tessera::connect()?;
    let chat = [Message::system("You answer in one sentence."), Message::user(question)];
    let mut answer = engine.chat(&chat, &Options { tokens_max: 64, ..Options::default() })?;
    for token in answer.by_ref() {
        print!("{}", token?.text);
        std::io::stdout().flush()?;
    }
    if let Some(end) = answer.end() {
        println!("\n[{} tokens, {:?}]", end.completion_tokens, end.reason);
    }
    Ok(())
}
