//! What goes in and what comes out. Names and units are those of `tessera.h`.

use std::time::Duration;

/// A message of a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// "system", "user", "assistant", ...
    pub role: String,
    /// What it says.
    pub content: String,
}

impl Message {
    /// A message of any role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: content.into() }
    }

    /// What the user says.
    pub fn user(content: impl Into<String>) -> Message {
        Message::new("user", content)
    }

    /// How the model is to be.
    pub fn system(content: impl Into<String>) -> Message {
        Message::new("system", content)
    }

    /// What the model said.
    pub fn assistant(content: impl Into<String>) -> Message {
        Message::new("assistant", content)
    }
}

/// What is asked: a text to continue, token ids, or a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Continued as it is.
    Text(String),
    /// The same, by ids.
    Tokens(Vec<u32>),
    /// As the model's template renders it. May be empty where `Options::template_json` has `messages`.
    Chat(Vec<Message>),
}

macro_rules! prompt_from {
    ($($from:ty => $kind:ident),*) => {$(
        impl From<$from> for Prompt {
            fn from(value: $from) -> Prompt {
                Prompt::$kind(value.into())
            }
        }
    )*};
}
prompt_from!(&str => Text, &String => Text, String => Text, &[u32] => Tokens, Vec<u32> => Tokens,
             &[Message] => Chat, Vec<Message> => Chat);

impl From<&Vec<u32>> for Prompt {
    fn from(value: &Vec<u32>) -> Prompt {
        Prompt::Tokens(value.clone())
    }
}

impl From<&Vec<Message>> for Prompt {
    fn from(value: &Vec<Message>) -> Prompt {
        Prompt::Chat(value.clone())
    }
}

impl<const N: usize> From<&[Message; N]> for Prompt {
    fn from(value: &[Message; N]) -> Prompt {
        Prompt::Chat(value.to_vec())
    }
}

/// How a request is to be answered. The default: greedy, as many tokens as the engine usually gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// To generate; 0: the engine's default.
    pub tokens_max: u32,
    /// 0: always the likeliest token.
    pub temperature: f32,
    /// 0 < top_p <= 1; 1: off.
    pub top_p: f32,
    /// 0 to 1; 0: off.
    pub min_p: f32,
    /// 0: off.
    pub top_k: u32,
    /// 0 < r <= 10; 1: off.
    pub repetition_penalty: f32,
    /// -10 to 10.
    pub presence_penalty: f32,
    /// -10 to 10.
    pub frequency_penalty: f32,
    /// Penalties look at that many last tokens; 0: all.
    pub penalty_tokens: u32,
    /// The same seed, the same answer; None: the engine draws one (`Accepted::seed`).
    pub seed: Option<u64>,
    /// Added to these tokens' logits, -100 to 100.
    pub biases: Vec<(u32, f32)>,
    /// Strings that end the answer.
    pub stops: Vec<String>,
    /// Report log-probabilities ...
    pub logprobs: bool,
    /// ... and that many alternatives.
    pub top_logprobs: u32,
    /// End-of-text tokens do not end the answer.
    pub ignore_end: bool,
    /// Special tokens spelled in a text prompt are recognised.
    pub special: bool,
    /// Do not put the model's BOS in front of a text prompt.
    pub no_bos: bool,
    /// The answer's text includes special tokens.
    pub show_special: bool,
    /// Chat: do not open the assistant's turn.
    pub no_turn: bool,
    /// Chat: a JSON object with further variables for the template: `tools`, `messages`,
    /// `continue_with`.
    pub template_json: Option<String>,
    /// Until the last token.
    pub deadline: Option<Duration>,
    /// 0 to 255, limited by the engine's policy.
    pub priority: u8,
    /// For whom, where the policy lets this user speak for others; 0: this user.
    pub tenant: u64,
}

/// An alternative to a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Top {
    /// Its id.
    pub token: u32,
    /// Its log-probability.
    pub logprob: f32,
    /// Its text; what is not a whole character is replaced.
    pub text: String,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Whole characters, which may be none.
    pub text: String,
    /// None: text that was held back, and no token.
    pub token: Option<u32>,
    /// Its number in the answer.
    pub index: u32,
    /// Where the request asked for `logprobs`.
    pub logprob: Option<f32>,
    /// `Options::top_logprobs` of them.
    pub top: Vec<Top>,
    /// A special token.
    pub special: bool,
    /// CLOCK_MONOTONIC at the engine.
    pub time_ns: u64,
}

/// What the engine said when it admitted a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Of the prompt.
    pub prompt_tokens: u32,
    /// Of these, in the cache.
    pub cached_tokens: u32,
    /// That may be generated.
    pub tokens_max: u32,
    /// 0: runs at once.
    pub queue_position: u32,
    /// What the answer was drawn with.
    pub seed: u64,
    /// The chat's prompt ends with `<think>`: the answer begins there.
    pub in_reasoning: bool,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The model ended it.
    End,
    /// The stop string of this number appeared.
    Stop(u32),
    /// `tokens_max` or the context was reached.
    Length,
    /// It was cancelled.
    Cancelled,
    /// `Options::deadline` passed.
    Deadline,
}

/// An answer's end, and its figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub reason: Reason,
    /// Of the prompt.
    pub prompt_tokens: u32,
    /// Of these, in the cache.
    pub cached_tokens: u32,
    /// Of the answer.
    pub completion_tokens: u32,
    /// From the engine's pick-up to the first step.
    pub queue: Duration,
    /// From there to the first token.
    pub prefill: Duration,
    /// From there to the last token.
    pub decode: Duration,
}

/// How hidden states become an embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooling {
    /// This engine makes no embeddings of this model.
    None,
    /// The mean.
    Mean,
    /// The first token's.
    Cls,
    /// The last token's.
    Last,
}

/// How the model writes calls of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tools {
    /// Not at all, or in a way that is none of these.
    None,
    /// `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`
    Hermes,
    /// `{"name": ..., "parameters": {...}}`
    Llama3,
    /// `[TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]`
    Mistral,
}

/// What the engine said when it opened the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // as in tessera.h
pub struct Info {
    pub model: String,
    pub architecture: String,
    pub weights: String,
    pub engine: String,
    pub context_tokens: u32,
    pub request_tokens_max: u32,
    pub sequences_max: u32,
    pub queue_max: u32,
    pub requests_max: u32,
    pub payload_bytes_max: u32,
    pub vocabulary: u32,
    pub tokens_max_default: u32,
    pub top_logprobs_max: u32,
    pub park_seconds: u32,
    pub weights_bytes: u64,
    pub parameters: u64,
    pub embedding_width: u32,
    pub pooling: Pooling,
    pub has_chat: bool,
    pub has_tools: bool,
    pub has_reasoning: bool,
    pub tools: Tools,
}

/// The engine at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // as in tessera.h
pub struct Status {
    pub model: String,
    pub kernels: String,
    pub engine: String,
    pub uptime: Duration,
    pub weights_bytes: u64,
    pub kv_bytes: u64,
    pub kv_used_bytes: u64,
    pub steps: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub requests_done: u64,
    pub requests_refused: u64,
    /// Of those done, by `enum tessera_reason`.
    pub requests_ended: [u64; 16],
    pub cached_tokens: u64,
    pub queue: Duration,
    pub prefill: Duration,
    pub decode: Duration,
    pub requests_running: u32,
    pub requests_waiting: u32,
    pub requests_parked: u32,
    pub channels: u32,
}
