"""What goes in and what comes out. Names and units are those of tessera.h."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict


class Options(TypedDict, total=False):
    """Keywords of a request; None is the default."""

    tokens_max: int | None
    """Tokens to generate; the engine's default: `info.tokens_max_default`."""
    temperature: float | None
    """0: always the likeliest token (the default)."""
    top_p: float | None
    min_p: float | None
    top_k: int | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    penalty_tokens: int | None
    """Penalties look at that many last tokens; 0: all."""
    seed: int | None
    """The same seed, the same answer; without one the engine draws it: `answer.accepted.seed`."""
    biases: Mapping[int, float] | None
    """Added to the logits of these tokens, -100 to 100."""
    stops: str | Sequence[str] | None
    """Strings that end the answer."""
    logprobs: bool | None
    top_logprobs: int | None
    """That many alternatives with each token: `token.top`."""
    ignore_end: bool | None
    """End-of-text tokens do not end the answer."""
    special: bool | None
    """Special tokens spelled in a text prompt are recognised."""
    no_bos: bool | None
    show_special: bool | None
    """The answer's text includes special tokens."""
    no_turn: bool | None
    """Chat: do not open the assistant's turn."""
    template: Mapping[str, Any] | None
    """Chat: further variables for the model's template, such as {"enable_thinking": False};
    "continue_with" is the beginning of the answer."""
    deadline_ms: int | None
    """Until the last token."""
    priority: int | None
    """0 to 255, limited by the engine's policy; usually 128."""
    tenant: int | None


@dataclass(slots=True)
class Top:
    """An alternative to a token. `text` may lack what is not a whole character."""

    token: int
    logprob: float
    text: str


@dataclass(slots=True)
class Token:
    """A piece of an answer: whole characters of text, which may be none."""

    text: str
    token: int | None
    """None: text that was held back, and no token."""
    index: int
    logprob: float | None
    """None where the request did not ask for `logprobs`."""
    top: Sequence[Top]
    special: bool
    time_ns: int
    """CLOCK_MONOTONIC (time.monotonic_ns) at the engine."""


@dataclass(slots=True)
class Accepted:
    """What the engine said when it admitted a request."""

    prompt_tokens: int
    cached_tokens: int
    tokens_max: int
    queue_position: int
    seed: int
    in_reasoning: bool
    """The chat's prompt ends with <think>: the answer begins there."""


@dataclass(slots=True)
class End:
    """Why an answer ended, and its figures."""

    reason: str
    """"end", "stop", "length", "deadline", "cancelled", ..."""
    stop_index: int
    """With "stop": which of `stops`."""
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queue_ns: int
    prefill_ns: int
    decode_ns: int


@dataclass(slots=True)
class Info:
    """What the engine said of itself when it opened the channel."""

    model: str
    architecture: str
    weights: str
    engine: str
    context_tokens: int
    request_tokens_max: int
    sequences_max: int
    queue_max: int
    requests_max: int
    payload_bytes_max: int
    vocabulary: int
    tokens_max_default: int
    top_logprobs_max: int
    park_seconds: int
    weights_bytes: int
    parameters: int
    embedding_width: int
    """0: this engine makes no embeddings of this model."""
    pooling: str
    """"none", "mean", "cls", "last"."""
    has_chat: bool
    has_tools: bool
    has_reasoning: bool
    tools: str
    """How the model writes calls of tools: "none", "hermes", "llama3", "mistral"."""


@dataclass(slots=True)
class StatusNode:
    """A node's memory by size of page."""

    node: int
    bytes_1g: int
    bytes_2m: int
    bytes_thp: int
    bytes_4k: int
    misplaced_bytes: int


@dataclass(slots=True)
class StatusThread:
    name: str
    cpu: int
    node: int
    state: str
    """"sleeps", "spins", "works"."""


@dataclass(slots=True)
class StatusRequest:
    id: int
    """0: another user's."""
    tenant: int
    age_ns: int
    state: str
    """"waiting", "prefilling", "decoding", "parking"."""
    prompt_tokens: int
    completion_tokens: int
    tokens_max: int


@dataclass(slots=True)
class Status:
    """The engine at this moment."""

    model: str
    architecture: str
    weights: str
    kernels: str
    engine: str
    uptime_ns: int
    load_ns: int
    weights_bytes: int
    kv_bytes: int
    kv_used_bytes: int
    steps: int
    prompt_tokens: int
    completion_tokens: int
    requests_done: int
    requests_refused: int
    requests_ended: Mapping[str, int]
    """Of those done, by the reason of their end."""
    cached_tokens: int
    queue_ns: int
    prefill_ns: int
    decode_ns: int
    requests_running: int
    requests_waiting: int
    requests_parked: int
    channels: int
    nodes: Sequence[StatusNode]
    threads: Sequence[StatusThread]
    requests: Sequence[StatusRequest]
