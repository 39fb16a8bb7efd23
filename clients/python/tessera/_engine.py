"""The connection to an engine."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

from . import _errors
from ._errors import InUse, Invalid, TesseraError, Unsupported
from ._libtessera import ffi, lib
from ._requests import Answer, Embedding, Request, Text, TokenIds, read, reason_name
from ._types import Info, Options, Status, StatusNode, StatusRequest, StatusThread

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

Message = Mapping[str, Any]
Tool = Mapping[str, Any]
Prompt = str | Sequence[int]

_WAIT_MODES = {
    "auto": lib.TESSERA_WAIT_AUTO,
    "sleep": lib.TESSERA_WAIT_SLEEP,
    "poll": lib.TESSERA_WAIT_POLL,
}
_POOLINGS = ("none", "mean", "cls", "last")
_TOOLS = ("none", "hermes", "llama3", "mistral")
_THREAD_STATES = ("sleeps", "spins", "works")
_REQUEST_STATES = ("waiting", "prefilling", "decoding", "parking")


def connect(
    path: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    timeout: float = 5,
    wait_mode: Literal["auto", "sleep", "poll"] = "auto",
    credit: int = 256,
) -> Engine:
    """Connects to the engine whose socket is `path` ($TESSERA_SOCKET, else /run/tessera/engine.sock).

    name: how this program calls itself in status and logs [the script's name].
    timeout: for the handshake, in seconds.
    wait_mode: how iteration waits: "poll" takes a CPU, "auto" does so only beside the engine's own.
    credit: tokens of an answer that may wait unread.

    EngineGone: no engine is there. Busy: its model is loading (`permille`), or it has too many
    channels (`retry_ms`). Forbidden: it does not let this user in.
    """
    if not 1 <= credit < 2**31:
        raise Invalid(f"credit is {credit}: it must be 1 to {2**31 - 1}")
    if wait_mode not in _WAIT_MODES:
        raise Invalid(f"wait_mode is {wait_mode!r}: it must be one of {', '.join(_WAIT_MODES)}")
    options = ffi.new("struct tessera_connect_options *")
    lib.tessera_connect_options_init(options)
    called = ffi.new("char[]", (name or os.path.basename(sys.argv[0]) or "python").encode())
    options.name = called
    options.timeout_ms = int(timeout * 1000)
    options.wait_mode = _WAIT_MODES[wait_mode]
    options.credit = 0  # each answer grants as it is read
    handle, err = ffi.new("struct tessera **"), ffi.new("struct tessera_error *")
    where = ffi.NULL if path is None else os.fsencode(path)
    if lib.tessera_connect(handle, where, options, err) != 0:
        raise _errors.of_call(err)
    return Engine(handle[0], credit)


class _Turn:
    """One thread at a time: a second one is told so, and not made to wait."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> None:
        engine = self._engine
        if engine._resting and threading.get_ident() != engine._loop_thread:
            raise InUse("an event loop in another thread is using this Engine")
        if not engine._lock.acquire(blocking=False):
            raise InUse("another thread is using this Engine: give each thread one of its own")

    def __exit__(self, *error: object) -> None:
        try:
            self._engine._send_cancels()
            self._engine._arm()
        finally:
            self._engine._lock.release()


class Engine:
    """A connection to an engine, made by `connect`. Close it, or use it as a context manager.

    Any number of requests (up to `info.requests_max`) may be live at once; each answer is read on its
    own. It may be handed from thread to thread, but two at a time get InUse; so does any other thread
    while coroutines wait for it. After fork() it belongs to the parent; the child connects anew.
    """

    info: Info
    """What the engine said of itself."""

    def __init__(self, handle: Any, credit: int) -> None:
        self._handle = handle
        self._closed = "this Engine is closed"
        self._credit = credit
        self._lock = threading.Lock()
        self._requests: weakref.WeakValueDictionary[int, Request] = weakref.WeakValueDictionary()
        self._cancels: deque[int] = deque()  # of answers that were dropped during another's turn
        self._event = ffi.new("struct tessera_event *")
        self._err = ffi.new("struct tessera_error *")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._resting: set[Request] = set()  # coroutines wait for these
        self._armed = False
        self._timer: asyncio.TimerHandle | None = None
        info = ffi.new("struct tessera_info *")
        lib.tessera_info(handle, info)
        self.info = read(
            Info,
            info,
            has_chat=bool(info.has_chat),
            has_tools=bool(info.has_tools),
            has_reasoning=bool(info.has_reasoning),
            pooling=_POOLINGS[info.pooling],
            tools=_TOOLS[info.tools],
        )
        _engines.add(self)

    # ---- Asking ----

    def generate(self, prompt: Prompt, **options: Unpack[Options]) -> Answer:
        """Continues a text, or a list of token ids."""
        answer = Answer(self, self._credit)
        self._submit_prompt(
            answer, prompt, options, lib.tessera_submit_text, lib.tessera_submit_tokens
        )
        return answer

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] | None = None,
        **options: Unpack[Options],
    ) -> Answer:
        """Answers a chat: `messages` and `tools` as the model's template takes them, which is
        OpenAI's shape. A call of a tool is in the answer's text, as the model writes it."""
        answer = Answer(self, self._credit)
        self._submit_chat(answer, messages, tools, options, lib.tessera_submit_chat)
        return answer

    def tokenize(self, text: str, **options: Unpack[Options]) -> list[int]:
        """The ids of a text. Of the options `special` and `no_bos` count."""
        return self._tokenize(text, options).result()

    async def atokenize(self, text: str, **options: Unpack[Options]) -> list[int]:
        return await self._tokenize(text, options)

    def tokenize_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] | None = None,
        **options: Unpack[Options],
    ) -> list[int]:
        """The ids of a chat as the model's template renders it."""
        return self._tokenize_chat(messages, tools, options).result()

    async def atokenize_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] | None = None,
        **options: Unpack[Options],
    ) -> list[int]:
        return await self._tokenize_chat(messages, tools, options)

    def detokenize(self, tokens: Sequence[int], **options: Unpack[Options]) -> str:
        """The text of ids. Of the options `show_special` counts."""
        return self._detokenize(tokens, options).result()

    async def adetokenize(self, tokens: Sequence[int], **options: Unpack[Options]) -> str:
        return await self._detokenize(tokens, options)

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] | None = None,
        **options: Unpack[Options],
    ) -> str:
        """The prompt that the model's template makes of a chat."""
        return self._render(messages, tools, options).result()

    async def arender(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] | None = None,
        **options: Unpack[Options],
    ) -> str:
        return await self._render(messages, tools, options)

    def embed(
        self, prompts: str | Sequence[Prompt], **options: Unpack[Options]
    ) -> NDArray[numpy.float32]:
        """The embeddings of prompts, [len(prompts), info.embedding_width]; of a single text
        [info.embedding_width]. Each is of length 1. Needs numpy.

        The array is the memory into which the engine's values went: nothing is copied again."""
        array, requests = self._embed(prompts, options)
        for request in requests:
            request.result()
        return array

    async def aembed(
        self, prompts: str | Sequence[Prompt], **options: Unpack[Options]
    ) -> NDArray[numpy.float32]:
        array, requests = self._embed(prompts, options)
        for request in requests:
            await request
        return array

    def status(self, timeout: float = 5) -> Status:
        """Asks the engine how it is; blocks for at most `timeout` seconds."""
        s = ffi.new("struct tessera_status *")
        with self._turn():
            self._dispatch(0)
            if lib.tessera_status(self._open(), s, int(timeout * 1000), self._err) != 0:
                raise _errors.of_call(self._err)
        return read(
            Status,
            s,
            requests_ended={reason_name(i): n for i, n in enumerate(s.requests_ended) if n},
            nodes=[read(StatusNode, s.nodes[i]) for i in range(s.node_count)],
            threads=[
                read(StatusThread, thread, state=_THREAD_STATES[thread.state])
                for thread in s.threads[0 : s.thread_count]
            ],
            requests=[
                read(StatusRequest, request, state=_REQUEST_STATES[request.state])
                for request in s.requests[0 : s.request_count]
            ],
        )

    def close(self) -> None:
        """Hangs up; the engine cancels what is live."""
        if not self._handle:
            return
        with self._turn():
            self._end(TesseraError("the Engine was closed"))
            handle, self._handle = self._handle, None
            lib.tessera_close(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"{len(self._requests)} requests" if self._handle else "closed"
        return f"<tessera.Engine {self.info.model!r}, {state}>"

    # ---- Submitting ----

    def _open(self) -> Any:
        if not self._handle:
            raise TesseraError(self._closed)
        return self._handle

    def _submit(self, request: Request, options: Options, submit: Any, *what: Any) -> None:
        with self._turn():
            handle = self._open()
            self._dispatch(0)  # last events give their places back
            c_options, _alive = _c_options(options, self._credit)
            number = submit(handle, *what, c_options, self._err)
            if not number:
                raise _errors.of_call(self._err)
            self._requests[number] = request
            request.begin(number)

    def _submit_prompt(
        self, request: Request, prompt: Prompt, options: Options, by_text: Any, by_tokens: Any
    ) -> None:
        if isinstance(prompt, str):
            text = prompt.encode()
            self._submit(request, options, by_text, text, len(text))
            return
        if isinstance(prompt, bytes):
            raise Invalid("a prompt is text or token ids, not bytes")
        try:
            tokens = ffi.new("uint32_t[]", list(prompt))
        except (TypeError, OverflowError) as error:
            raise Invalid(f"token ids: {error}") from error
        self._submit(request, options, by_tokens, tokens, len(tokens))

    def _submit_chat(
        self,
        request: Request,
        messages: Sequence[Message],
        tools: Sequence[Tool] | None,
        options: Options,
        submit: Any,
    ) -> None:
        if not messages:
            raise Invalid("the chat has no messages")
        variables: dict[str, Any] = {**(options.get("template") or {}), "messages": list(messages)}
        if tools:
            variables["tools"] = list(tools)
        with_chat: Options = {**options, "template": variables}
        self._submit(request, with_chat, submit, ffi.NULL, 0)

    def _tokenize(self, text: str, options: Options) -> TokenIds:
        request, data = TokenIds(self), text.encode()
        self._submit(request, options, lib.tessera_submit_tokenize, data, len(data))
        return request

    def _tokenize_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] | None,
        options: Options,
    ) -> TokenIds:
        request = TokenIds(self)
        self._submit_chat(request, messages, tools, options, lib.tessera_submit_tokenize_chat)
        return request

    def _detokenize(self, tokens: Sequence[int], options: Options) -> Text:
        request = Text(self)
        submit = lib.tessera_submit_detokenize
        self._submit_prompt(request, list(tokens), options, submit, submit)
        return request

    def _render(
        self, messages: Sequence[Message], tools: Sequence[Tool] | None, options: Options
    ) -> Text:
        request = Text(self)
        self._submit_chat(request, messages, tools, options, lib.tessera_submit_render)
        return request

    def _embed(
        self, prompts: str | Sequence[Prompt], options: Options
    ) -> tuple[NDArray[numpy.float32], Iterator[Embedding]]:
        """The array, and its requests as they are to be waited for."""
        import numpy

        width = self.info.embedding_width
        if not width:
            raise Unsupported(f"this engine makes no embeddings of {self.info.model}")
        rows: Sequence[Prompt] = [prompts] if isinstance(prompts, str) else prompts
        memory = ffi.new("float[]", len(rows) * width)
        array = numpy.frombuffer(ffi.buffer(memory), numpy.float32)
        shaped = array if isinstance(prompts, str) else array.reshape(len(rows), width)
        return shaped, self._embed_rows(rows, memory, width, options)

    def _embed_rows(
        self, rows: Sequence[Prompt], memory: Any, width: int, options: Options
    ) -> Iterator[Embedding]:
        """As many at once as the engine computes together."""
        under_way: deque[Embedding] = deque()
        for i, prompt in enumerate(rows):
            if len(under_way) >= min(self.info.sequences_max, self.info.requests_max):
                yield under_way.popleft()
            request = Embedding(self, memory, i * width, width)
            by_text, by_tokens = lib.tessera_submit_embed, lib.tessera_submit_embed_tokens
            self._submit_prompt(request, prompt, options, by_text, by_tokens)
            under_way.append(request)
        while under_way:
            yield under_way.popleft()

    def _grant(self, number: int, credit: int) -> None:
        with self._turn():
            lib.tessera_credit(self._open(), number, credit, ffi.NULL)

    def _cancel(self, number: int) -> None:
        """Also called by the collector, whenever and in whichever thread it likes."""
        self._cancels.append(number)
        try:
            with self._turn():
                pass
        except InUse:
            pass  # sent at the end of that turn

    def _send_cancels(self) -> None:
        while self._cancels and self._handle:
            number = self._cancels.popleft()
            self._requests.pop(number, None)
            lib.tessera_cancel(self._handle, number, ffi.NULL)

    # ---- Events ----

    def _turn(self) -> _Turn:
        return _Turn(self)

    def _take_events(self, timeout_ms: int) -> None:
        """Gives what is there to its requests; waits so long for the first."""
        with self._turn():
            self._dispatch(timeout_ms)

    def _dispatch(self, timeout_ms: int) -> None:
        handle, event = self._open(), self._event
        self._armed = False
        # A kind that is set already: Ctrl-C came between that event and its request.
        got = 1 if event.kind else lib.tessera_wait(handle, event, timeout_ms, self._err)
        while got > 0:
            request = self._requests.get(event.id)
            if request:
                request.take(event)
            event.kind = 0
            got = lib.tessera_poll(handle, event, self._err)
        if got < 0:
            self._end(_errors.of_call(self._err))

    def _end(self, error: TesseraError) -> None:
        """No event will come any more."""
        for request in list(self._requests.values()):
            request.fail(error)
        self._requests.clear()
        if self._loop and not self._loop.is_closed():
            self._loop.remove_reader(lib.tessera_fd(self._handle))
        if self._timer:
            self._timer.cancel()
        self._loop = self._timer = None

    # ---- Event loop: the engine rings the descriptor where libtessera was armed. ----

    async def _rest(self, request: Request) -> None:
        """Until something came for the request."""
        if not self._armed:
            self._take_events(0)
            if request.is_ready():
                await asyncio.sleep(0)  # an engine that is always ahead does not starve the loop
                return
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._watch(loop)
        request.rest(waiter)
        try:
            with self._turn():
                pass  # which arms
            await waiter
        finally:
            request.wake()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            fd = lib.tessera_fd(self._open())
            if self._loop and not self._loop.is_closed():
                self._loop.remove_reader(fd)
            loop.add_reader(fd, self._on_readable)
            self._loop, self._loop_thread = loop, threading.get_ident()

    def _arm(self) -> None:
        """Ends each turn: what polls disarms, and coroutines may wait."""
        if not self._resting or self._armed or not self._handle or not self._loop:
            return
        got = 0 if self._event.kind else lib.tessera_arm(self._handle, self._err)
        if got < 0:
            self._end(_errors.of_call(self._err))
            return
        self._armed = got == 1
        timeout_ms = lib.tessera_timeout_ms(self._handle) if self._armed else 0
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if timeout_ms >= 0:
            self._timer = self._loop.call_later(timeout_ms / 1000, self._on_readable)

    def _on_readable(self) -> None:
        if not self._handle:
            return
        with self._turn():
            if not self._event.kind:
                lib.tessera_arm(self._handle, ffi.NULL)  # only an armed poll reads the bell
            self._dispatch(0)

    def _let_go_after_fork(self) -> None:
        """In the child: the parent goes on, so nothing but this process's descriptor is touched."""
        if self._handle:
            os.close(lib.tessera_fd(self._handle))
            self._handle = self._loop = None
            self._closed = "this Engine was opened before fork(): connect again in this process"
            self._lock = threading.Lock()
            self._resting.clear()


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _after_fork() -> None:
    for engine in _engines:
        engine._let_go_after_fork()


os.register_at_fork(after_in_child=_after_fork)


def _c_options(options: Options, credit: int) -> tuple[Any, list[Any]]:
    """The struct, and what it points to."""
    out = ffi.new("struct tessera_options *")
    lib.tessera_options_init(out)
    out.credit = credit
    alive: list[Any] = []

    def keep(new: Any) -> Any:
        alive.append(new)
        return new

    value: Any
    for name, value in options.items():
        if value is None:
            continue
        try:
            if name == "stops":
                _set_stops(out, value, keep)
            elif name == "biases":
                out.biases = keep(ffi.new("struct tessera_bias[]", list(value.items())))
                out.bias_count = len(value)
            elif name == "template":
                out.template_json = keep(
                    ffi.new("char[]", json.dumps(value, ensure_ascii=False).encode())
                )
            elif name == "seed":
                out.seed, out.has_seed = value, 1
            elif name in Options.__annotations__:
                setattr(out, name, value)
            else:
                raise TypeError(
                    f"there is no such option; there are {', '.join(Options.__annotations__)}"
                )
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise Invalid(f"{name}: {error}") from error
    return out, alive


def _set_stops(out: Any, stops: Any, keep: Any) -> None:
    texts = [stop.encode() for stop in ([stops] if isinstance(stops, str) else stops)]
    if any(b"\0" in text for text in texts):
        raise ValueError("a stop string cannot have a NUL character")
    out.stops = keep(ffi.new("char *[]", [keep(ffi.new("char[]", text)) for text in texts]))
    out.stop_count = len(texts)
