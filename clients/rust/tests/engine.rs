//! The safe interface against a real engine.

mod daemon;

use daemon::Daemon;
use std::time::Duration;
use tessera::{Connect, Engine, Error, Message, Options, Reason, Token};

fn short(tokens: u32) -> Options {
    Options { tokens_max: tokens, ignore_end: true, ..Options::default() }
}

/// Longer than its credit: parked for ever where it is neither read nor cancelled.
fn long() -> Options {
    short(400)
}

fn chat() -> [Message; 1] {
    [Message::user("list all files")]
}

fn text(tokens: &[Token]) -> String {
    tokens.iter().map(|token| token.text.as_str()).collect()
}

fn wait_until_quiet(engine: &Engine) {
    loop {
        let status = engine.status(Duration::from_secs(60)).unwrap();
        if status.requests_running + status.requests_waiting + status.requests_parked == 0 {
            return;
        }
    }
}

#[test]
fn answers_come_as_tokens_with_figures() {
    let daemon = Daemon::start("answers");
    let engine = daemon.engine();
    let mut answer = engine.generate("Once upon a time", &short(12)).unwrap();
    let tokens: Vec<Token> = answer.by_ref().map(Result::unwrap).collect();
    let ids: Vec<u32> = tokens.iter().filter_map(|token| token.token).collect();
    assert_eq!(ids.len(), 12);
    let end = answer.end().unwrap();
    assert_eq!((end.reason, end.completion_tokens), (Reason::Length, 12));
    assert_eq!(answer.accepted().unwrap().prompt_tokens, end.prompt_tokens);
    assert!(answer.next().is_none());

    let prompt = engine.tokenize("Once upon a time", &Options::default()).unwrap();
    let again = engine.generate(prompt, &short(12)).unwrap().text().unwrap();
    assert_eq!(again, text(&tokens));

    let stop = text(&tokens).split_whitespace().next().unwrap().to_string();
    let options = Options { stops: vec!["\u{1}never".into(), stop], ..short(12) };
    let mut stopped = engine.generate("Once upon a time", &options).unwrap();
    stopped.text().unwrap();
    assert_eq!(stopped.end().unwrap().reason, Reason::Stop(1));

    for token in
        engine.generate("Once upon a time", &Options { top_logprobs: 3, ..short(2) }).unwrap()
    {
        let token = token.unwrap();
        assert_eq!((token.top[0].token, token.top.len()), (token.token.unwrap(), 3));
        assert_eq!(token.logprob, Some(token.top[0].logprob));
    }
    let banned = Options { biases: vec![(ids[0], -100.0)], ..short(1) };
    let mut answer = engine.generate("Once upon a time", &banned).unwrap();
    assert_ne!(answer.next().unwrap().unwrap().token, Some(ids[0]));

    let drawn = Options { temperature: 1.0, seed: Some(u64::MAX), ..short(12) };
    let draw = || engine.generate("Once", &drawn).unwrap().text().unwrap();
    assert_eq!(draw(), draw());
}

#[test]
fn chats_and_tokens() {
    let daemon = Daemon::start("chats");
    let engine = daemon.engine();
    let options = Options::default();
    let ids = engine.tokenize(&chat(), &options).unwrap();
    let mut answer = engine.chat(&chat(), &short(4)).unwrap();
    assert!(!answer.text().unwrap().is_empty());
    assert_eq!(answer.accepted().unwrap().prompt_tokens as usize, ids.len());
    let rendered = engine.render(&chat(), &options).unwrap();
    assert!(rendered.contains("list all files"));
    let exact = Options { special: true, no_bos: true, ..Options::default() };
    assert_eq!(engine.tokenize(&rendered, &exact).unwrap(), ids);
    let shown = Options { show_special: true, ..Options::default() };
    assert_eq!(engine.detokenize(&ids, &shown).unwrap(), rendered);
    let json = r#"{"messages": [{"role": "user", "content": "list all files"}]}"#;
    let by_json = Options { template_json: Some(json.into()), ..Options::default() };
    assert_eq!(engine.render(&[], &by_json).unwrap(), rendered);
    assert!(engine.tokenize("word ".repeat(20_000), &options).unwrap().len() >= 20_000);
    assert_eq!(engine.info().context_tokens, 2048);
}

#[test]
fn embeddings() {
    let daemon = Daemon::start("embeddings");
    let engine = daemon.engine();
    let usual = Options::default();
    let count = 3 * engine.info().requests_max;
    let many = engine.embed((0..count).map(|i| format!("number {i}")), &usual).unwrap();
    assert_eq!(many.len(), count as usize);
    for embedding in &many {
        let length: f32 = embedding.iter().map(|value| value * value).sum();
        assert!(
            embedding.len() == engine.info().embedding_width as usize
                && (length - 1.0).abs() < 1e-4
        );
    }
    let ids = engine.tokenize("number 7", &usual).unwrap();
    assert_eq!(engine.embed([ids], &usual).unwrap()[0], many[7]);
    assert!(matches!(engine.embed(["fine", ""], &usual), Err(Error::Invalid(_))));
    wait_until_quiet(&engine);
}

#[test]
fn several_answers_at_once() {
    let daemon = Daemon::start("several");
    let engine = Connect { credit: 4, ..daemon.how() }.open().unwrap();
    let ask = |i: usize| engine.generate(format!("Number {i}"), &short(100)).unwrap();
    let alone: Vec<String> = (0..4).map(|i| ask(i).text().unwrap()).collect();
    let mut answers: Vec<_> = (0..4).map(ask).collect();
    let mut texts = vec![String::new(); 4];
    texts[3] = answers[3].text().unwrap(); // while the others are not read
    for _ in 0..200 {
        for i in 0..3 {
            if let Some(token) = answers[i].next() {
                texts[i].push_str(&token.unwrap().text);
            }
        }
    }
    assert_eq!(texts, alone);
}

#[test]
fn dropping_an_answer_cancels_it() {
    let daemon = Daemon::start("dropping");
    let engine = daemon.engine();
    for _ in 0..2 * engine.info().requests_max {
        let mut answer = engine.generate("Once", &long()).unwrap();
        answer.next().unwrap().unwrap();
    }
    wait_until_quiet(&engine);
    let deadline = Options { deadline: Some(Duration::from_nanos(1)), ..long() };
    let mut answer = engine.generate("Once", &deadline).unwrap();
    let _ = answer.text();
    assert!(answer.end().map_or(true, |end| end.reason == Reason::Deadline));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let daemon = Daemon::start("refused");
    let engine = daemon.engine();
    let refused = |prompt: &str, options: Options| {
        let error =
            engine.generate(prompt, &options).and_then(|mut answer| answer.text()).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
    };
    let usual = Options::default;
    refused("", usual());
    refused("Once", Options { temperature: f32::NAN, ..usual() });
    refused("Once", Options { top_p: 0.0, ..usual() });
    refused("Once", Options { top_logprobs: 21, ..usual() });
    refused("Once", Options { stops: vec!["a\0b".into()], ..usual() });
    refused("Once", Options { stops: vec!["x".into(); 17], ..usual() });
    refused("Once", Options { biases: vec![(1, 1000.0)], ..usual() });
    refused("Once", Options { biases: vec![(1, 1.0); 1025], ..usual() });
    let over = vec![engine.info().vocabulary];
    assert!(engine.generate(over, &usual()).unwrap().text().is_err());
    assert!(matches!(engine.chat(&[], &usual()), Err(Error::Invalid(_))));
    let nul = [Message::user("a\0b")];
    assert!(matches!(engine.chat(&nul, &usual()), Err(Error::Invalid(_))));
    let huge = "x".repeat(engine.info().payload_bytes_max as usize + 1);
    assert!(matches!(engine.generate(huge, &usual()), Err(Error::TooLarge(_))));

    let mut answers = Vec::new();
    let busy = loop {
        match engine.generate("Once", &long()) {
            Ok(answer) => answers.push(answer),
            Err(error) => break error,
        }
    };
    assert!(matches!(busy, Error::Busy { .. }), "{busy:?}");
    assert_eq!(answers.len(), engine.info().requests_max as usize);

    let nobody = Connect { path: Some("/nowhere/nobody.sock".into()), ..Connect::default() };
    let error = nobody.open().unwrap_err();
    assert!(matches!(error, Error::Gone(_)) && error.to_string().contains("nobody.sock"));
    assert!(matches!(Connect { credit: 0, ..daemon.how() }.open(), Err(Error::Invalid(_))));
}

#[test]
fn an_engine_that_dies() {
    let mut daemon = Daemon::start("dies");
    let engine = daemon.engine();
    let mut answers: Vec<_> = (0..2).map(|_| engine.generate("Once", &long()).unwrap()).collect();
    answers[0].next().unwrap().unwrap();
    daemon.kill();
    for answer in &mut answers {
        assert!(matches!(answer.text(), Err(Error::Gone(_))));
        assert!(answer.next().is_none());
    }
    assert!(matches!(engine.generate("Once", &long()), Err(Error::Gone(_))));
    assert!(matches!(engine.status(Duration::from_secs(60)), Err(Error::Gone(_))));
}

#[test]
fn an_engine_moves_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    let daemon = Daemon::start("moves");
    let engine = daemon.engine();
    is_send(&engine);
    let here = engine.generate("Once", &short(8)).unwrap().text().unwrap();
    let there =
        std::thread::spawn(move || engine.generate("Once", &short(8)).unwrap().text().unwrap());
    assert_eq!(there.join().unwrap(), here);
}
