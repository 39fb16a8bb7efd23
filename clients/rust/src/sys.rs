//! `tessera.h` as Rust sees it. The build holds the structs' sizes against the C compiler, `tests/layout.rs` every field
//! and constant.

#![allow(missing_docs, non_camel_case_types)]

use std::os::raw::{c_char, c_int};

pub const TESSERA_TOP_MAX: u32 = 20;

pub const TESSERA_WAIT_AUTO: u32 = 0;
pub const TESSERA_WAIT_SLEEP: u32 = 1;
pub const TESSERA_WAIT_POLL: u32 = 2;

pub const TESSERA_POOLING_NONE: u32 = 0;
pub const TESSERA_POOLING_MEAN: u32 = 1;
pub const TESSERA_POOLING_CLS: u32 = 2;
pub const TESSERA_POOLING_LAST: u32 = 3;

pub const TESSERA_TOOLS_NONE: u32 = 0;
pub const TESSERA_TOOLS_HERMES: u32 = 1;
pub const TESSERA_TOOLS_LLAMA3: u32 = 2;
pub const TESSERA_TOOLS_MISTRAL: u32 = 3;

pub const TESSERA_ACCEPTED: u32 = 1;
pub const TESSERA_TOKEN: u32 = 2;
pub const TESSERA_TOKENS: u32 = 3;
pub const TESSERA_DONE: u32 = 4;
pub const TESSERA_FAILED: u32 = 5;
pub const TESSERA_EMBEDDING: u32 = 6;
pub const TESSERA_TEXT: u32 = 7;

pub const TESSERA_END: u32 = 1;
pub const TESSERA_STOP: u32 = 2;
pub const TESSERA_LENGTH: u32 = 3;
pub const TESSERA_CANCELLED: u32 = 4;
pub const TESSERA_DEADLINE: u32 = 5;
pub const TESSERA_PARKED: u32 = 6;
pub const TESSERA_ERROR: u32 = 7;
pub const TESSERA_SHUTDOWN: u32 = 8;
pub const TESSERA_TOKENIZED: u32 = 9;
pub const TESSERA_EMBEDDED: u32 = 10;
pub const TESSERA_WRITTEN: u32 = 11;

pub const TESSERA_CODE_INVALID: u32 = 1;
pub const TESSERA_CODE_TOO_LARGE: u32 = 2;
pub const TESSERA_CODE_BUSY: u32 = 3;
pub const TESSERA_CODE_UNSUPPORTED: u32 = 4;
pub const TESSERA_CODE_FORBIDDEN: u32 = 5;
pub const TESSERA_CODE_SHUTDOWN: u32 = 8;

// size_of::<NAME>() of each struct is what C says, or this does not compile.
include!(concat!(env!("OUT_DIR"), "/sizes.rs"));

#[repr(C)]
pub struct tessera {
    opaque: [u8; 0],
}

#[repr(C)]
pub struct tessera_error {
    pub code: c_int,
    pub retry_ms: c_int,
    pub permille: c_int,
    pub text: [c_char; 512],
}

#[repr(C)]
pub struct tessera_connect_options {
    pub size: usize,
    pub name: *const c_char,
    pub timeout_ms: c_int,
    pub wait_mode: u32,
    pub credit: u32,
}

#[repr(C)]
pub struct tessera_info {
    pub model: *const c_char,
    pub architecture: *const c_char,
    pub weights: *const c_char,
    pub engine: *const c_char,
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
    pub pooling: u32,
    pub has_chat: c_int,
    pub has_tools: c_int,
    pub has_reasoning: c_int,
    pub tools: u32,
    pub may_poll: c_int,
}

#[repr(C)]
pub struct tessera_bias {
    pub token: u32,
    pub bias: f32,
}

#[repr(C)]
pub struct tessera_options {
    pub size: usize,
    pub tokens_max: u32,
    pub temperature: f32,
    pub top_p: f32,
    pub min_p: f32,
    pub top_k: u32,
    pub repetition_penalty: f32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    pub penalty_tokens: u32,
    pub has_seed: c_int,
    pub seed: u64,
    pub biases: *const tessera_bias,
    pub bias_count: u32,
    pub stops: *const *const c_char,
    pub stop_count: u32,
    pub logprobs: c_int,
    pub top_logprobs: u32,
    pub ignore_end: c_int,
    pub special: c_int,
    pub no_bos: c_int,
    pub show_special: c_int,
    pub no_turn: c_int,
    pub template_json: *const c_char,
    pub deadline_ms: u32,
    pub priority: u8,
    pub tenant: u64,
    pub credit: u32,
}

#[repr(C)]
pub struct tessera_message {
    pub role: *const c_char,
    pub content: *const c_char,
}

#[repr(C)]
pub struct tessera_top {
    pub token: u32,
    pub logprob: f32,
    pub text: *const c_char,
    pub text_bytes: u32,
}

#[repr(C)]
pub struct tessera_piece {
    pub token: u32,
    pub text_bytes: u32,
    pub text: *const c_char,
}

#[repr(C)]
pub struct tessera_event {
    pub kind: u32,
    pub id: u64,
    pub text: *const c_char,
    pub text_bytes: u32,
    pub has_token: c_int,
    pub token: u32,
    pub index: u32,
    pub is_special: c_int,
    pub has_logprob: c_int,
    pub logprob: f32,
    pub top_count: u32,
    pub top: *const tessera_top,
    pub time_ns: u64,
    pub piece_first: u32,
    pub piece_count: u32,
    pub piece_total: u32,
    pub pieces: *const tessera_piece,
    pub value_first: u32,
    pub value_count: u32,
    pub value_total: u32,
    pub values: *const f32,
    pub text_offset: u32,
    pub text_total: u32,
    pub prompt_tokens: u32,
    pub cached_tokens: u32,
    pub tokens_max: u32,
    pub queue_position: u32,
    pub seed: u64,
    pub in_reasoning: c_int,
    pub reason: u32,
    pub stop_index: u32,
    pub completion_tokens: u32,
    pub queue_ns: u64,
    pub prefill_ns: u64,
    pub decode_ns: u64,
    pub code: u32,
    pub retry_ms: u32,
}

#[repr(C)]
pub struct tessera_status_node {
    pub node: u32,
    pub bytes_1g: u64,
    pub bytes_2m: u64,
    pub bytes_thp: u64,
    pub bytes_4k: u64,
    pub misplaced_bytes: u64,
}

#[repr(C)]
pub struct tessera_status_thread {
    pub name: [c_char; 16],
    pub cpu: c_int,
    pub node: c_int,
    pub state: u32,
}

#[repr(C)]
pub struct tessera_status_request {
    pub id: u64,
    pub tenant: u64,
    pub age_ns: u64,
    pub state: u32,
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    pub tokens_max: u32,
}

#[repr(C)]
pub struct tessera_status {
    pub model: [c_char; 128],
    pub architecture: [c_char; 32],
    pub weights: [c_char; 32],
    pub kernels: [c_char; 32],
    pub engine: [c_char; 32],
    pub uptime_ns: u64,
    pub load_ns: u64,
    pub weights_bytes: u64,
    pub kv_bytes: u64,
    pub kv_used_bytes: u64,
    pub steps: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub requests_done: u64,
    pub requests_refused: u64,
    pub requests_ended: [u64; 16],
    pub cached_tokens: u64,
    pub queue_ns: u64,
    pub prefill_ns: u64,
    pub decode_ns: u64,
    pub requests_running: u32,
    pub requests_waiting: u32,
    pub requests_parked: u32,
    pub channels: u32,
    pub node_count: u32,
    pub thread_count: u32,
    pub request_count: u32,
    pub nodes: [tessera_status_node; 16],
    pub threads: [tessera_status_thread; 128],
    pub requests: [tessera_status_request; 64],
}

extern "C" {
    pub fn tessera_connect_options_init(options: *mut tessera_connect_options);
    pub fn tessera_connect(
        t: *mut *mut tessera,
        path: *const c_char,
        options: *const tessera_connect_options,
        err: *mut tessera_error,
    ) -> c_int;
    pub fn tessera_close(t: *mut tessera);
    pub fn tessera_info(t: *mut tessera, info: *mut tessera_info);
    pub fn tessera_options_init(options: *mut tessera_options);
    pub fn tessera_submit_text(
        t: *mut tessera,
        text: *const c_char,
        text_bytes: usize,
        options: *const tessera_options,
        err: *mut tessera_error,
    ) -> u64;
    pub fn tessera_submit_chat(
        t: *mut tessera,
        messages: *const tessera_message,
        count: usize,
        options: *const tessera_options,
        err: *mut tessera_error,
    ) -> u64;
    pub fn tessera_submit_tokens(
        t: *mut tessera,
        tokens: *const u32,
        count: usize,
        options: *const tessera_options,
        err: *mut tessera_error,
    ) -> u64;
    pub fn tessera_submit_tokenize(
        t: *mut tessera,
        text: *const c_char,
        text_bytes: usize,
        options: *const tessera_options,
        err: *mut tessera_error,
    ) -> u64;
    pub fn tessera_submit_tokenize_chat(
        t: *mut tessera,
        messages: *const tessera_message,
        count: usize,
        options: *const tessera_options,
        err: *mut tessera_error,
    ) -> u64;
    pub fn tessera_submit_detokenize(
        t: *mut tessera,
        tokens: *const u32,
        count: usize,
        options: *const tessera_options,
        err: *mut tessera_error,
    ) -> u64;
    pub fn tessera_submit_render(
        t: *mut tessera,
        messages: *const tessera_message,
        count: usize,
        options: *const tessera_options,
        err: *mut tessera_error,
    ) -> u64;
    pub fn tessera_submit_embed(
        t: *mut tessera,
        text: *const c_char,
        text_bytes: usize,
        options: *const tessera_options,
        err: *mut tessera_error,
    ) -> u64;
    pub fn tessera_submit_embed_tokens(
        t: *mut tessera,
        tokens: *const u32,
        count: usize,
        options: *const tessera_options,
        err: *mut tessera_error,
    ) -> u64;
    pub fn tessera_submit_embed_chat(
        t: *mut tessera,
        messages: *const tessera_message,
        count: usize,
        options: *const tessera_options,
        err: *mut tessera_error,
    ) -> u64;
    pub fn tessera_cancel(t: *mut tessera, id: u64, err: *mut tessera_error) -> c_int;
    pub fn tessera_credit(t: *mut tessera, id: u64, credit: u32, err: *mut tessera_error) -> c_int;
    pub fn tessera_poll(
        t: *mut tessera,
        event: *mut tessera_event,
        err: *mut tessera_error,
    ) -> c_int;
    pub fn tessera_wait(
        t: *mut tessera,
        event: *mut tessera_event,
        timeout_ms: c_int,
        err: *mut tessera_error,
    ) -> c_int;
    pub fn tessera_fd(t: *const tessera) -> c_int;
    pub fn tessera_arm(t: *mut tessera, err: *mut tessera_error) -> c_int;
    pub fn tessera_timeout_ms(t: *const tessera) -> c_int;
    pub fn tessera_status(
        t: *mut tessera,
        status: *mut tessera_status,
        timeout_ms: c_int,
        err: *mut tessera_error,
    ) -> c_int;
    pub fn tessera_reason_name(reason: u32) -> *const c_char;
    pub fn tessera_code_name(code: u32) -> *const c_char;
}
