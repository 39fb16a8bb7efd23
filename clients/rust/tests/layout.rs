//! `sys` says what the C compiler says: sizes, offsets and widths of every field, and the constants.

use std::fmt::Write;
use std::mem::{size_of, MaybeUninit};
use std::path::Path;
use std::process::Command;
use tessera::sys;

fn size_of_pointee<T>(_: *const T) -> usize {
    size_of::<T>()
}

/// Lines of "name number", as Rust has them, and the statements that print them in C.
#[derive(Default)]
struct Both {
    rust: String,
    c: String,
}

impl Both {
    fn line(&mut self, name: &str, c: &str, value: usize) {
        writeln!(self.rust, "{name} {value}").unwrap();
        writeln!(self.c, "printf(\"{name} %zu\\n\", (size_t)({c}));").unwrap();
    }
}

macro_rules! structs {
    ($both:ident, $($name:ident { $($field:ident)* })*) => {$(
        let of = concat!("struct ", stringify!($name));
        $both.line(of, &format!("sizeof({of})"), size_of::<sys::$name>());
        let value = MaybeUninit::<sys::$name>::uninit();
        let base = value.as_ptr();
        $(
            // An address, nothing is read.
            let field = unsafe { std::ptr::addr_of!((*base).$field) };
            let name = concat!(stringify!($name), ".", stringify!($field));
            let member = stringify!($field);
            $both.line(name, &format!("offsetof({of}, {member})"), field as usize - base as usize);
            $both.line(name, &format!("sizeof((({of} *)0)->{member})"), size_of_pointee(field));
        )*
    )*};
}

macro_rules! constants {
    ($both:ident, $($name:ident)*) => {$(
        $both.line(stringify!($name), stringify!($name), sys::$name as usize);
    )*};
}

#[test]
fn sys_is_what_the_header_says() {
    let mut both = Both::default();
    structs! { both,
        tessera_error { code retry_ms permille text }
        tessera_connect_options { size name timeout_ms wait_mode credit }
        tessera_info {
            model architecture weights engine context_tokens request_tokens_max sequences_max queue_max
            requests_max payload_bytes_max vocabulary tokens_max_default top_logprobs_max park_seconds
            weights_bytes parameters embedding_width pooling has_chat has_tools has_reasoning tools may_poll
        }
        tessera_bias { token bias }
        tessera_options {
            size tokens_max temperature top_p min_p top_k repetition_penalty presence_penalty
            frequency_penalty penalty_tokens has_seed seed biases bias_count stops stop_count logprobs
            top_logprobs ignore_end special no_bos show_special no_turn template_json deadline_ms priority
            tenant credit
        }
        tessera_message { role content }
        tessera_top { token logprob text text_bytes }
        tessera_piece { token text_bytes text }
        tessera_event {
            kind id text text_bytes has_token token index is_special has_logprob logprob top_count top
            time_ns piece_first piece_count piece_total pieces value_first value_count value_total values
            text_offset text_total prompt_tokens cached_tokens tokens_max queue_position seed in_reasoning
            reason stop_index completion_tokens queue_ns prefill_ns decode_ns code retry_ms
        }
        tessera_status_node { node bytes_1g bytes_2m bytes_thp bytes_4k misplaced_bytes }
        tessera_status_thread { name cpu node state }
        tessera_status_request {
            id tenant age_ns state prompt_tokens completion_tokens tokens_max
        }
        tessera_status {
            model architecture weights kernels engine uptime_ns load_ns weights_bytes kv_bytes kv_used_bytes
            steps prompt_tokens completion_tokens requests_done requests_refused requests_ended cached_tokens
            queue_ns prefill_ns decode_ns requests_running
            requests_waiting requests_parked channels node_count thread_count request_count nodes threads
            requests
        }
    }
    constants! { both,
        TESSERA_TOP_MAX TESSERA_WAIT_AUTO TESSERA_WAIT_SLEEP TESSERA_WAIT_POLL
        TESSERA_POOLING_NONE TESSERA_POOLING_MEAN TESSERA_POOLING_CLS TESSERA_POOLING_LAST
        TESSERA_TOOLS_NONE TESSERA_TOOLS_HERMES TESSERA_TOOLS_LLAMA3 TESSERA_TOOLS_MISTRAL
        TESSERA_ACCEPTED TESSERA_TOKEN TESSERA_TOKENS TESSERA_DONE TESSERA_FAILED TESSERA_EMBEDDING
        TESSERA_TEXT TESSERA_END TESSERA_STOP TESSERA_LENGTH TESSERA_CANCELLED TESSERA_DEADLINE
        TESSERA_PARKED TESSERA_ERROR TESSERA_SHUTDOWN TESSERA_TOKENIZED TESSERA_EMBEDDED TESSERA_WRITTEN
        TESSERA_CODE_INVALID TESSERA_CODE_TOO_LARGE TESSERA_CODE_BUSY TESSERA_CODE_UNSUPPORTED
        TESSERA_CODE_FORBIDDEN TESSERA_CODE_SHUTDOWN
    }
    assert_eq!(print_by_c(&both.c), both.rust);
}

#[test]
fn the_crate_has_the_library_s_version() {
    let header =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("c/include/tessera.h"));
    let line = format!("#define TESSERA_VERSION \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(header.unwrap().contains(&line));
}

fn print_by_c(statements: &str) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, program) = (folder.join("layout.c"), folder.join("layout"));
    let text = format!(
        "#include <stddef.h>\n#include <stdio.h>\n#include <tessera.h>\nint main(void)\n{{\n{statements}}}\n"
    );
    std::fs::write(&source, text).unwrap();
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let mut compile = Command::new(cc);
    compile.arg("-I").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("c/include"));
    assert!(compile.arg(&source).arg("-o").arg(&program).status().unwrap().success());
    String::from_utf8(Command::new(&program).output().unwrap().stdout).unwrap()
}
