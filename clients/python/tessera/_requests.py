"""A request from its submit to its last event: what came of it waits here until it is read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import fields
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from . import _errors
from ._errors import TesseraError
from ._libtessera import ffi, lib
from ._types import Accepted, End, Token, Top

if TYPE_CHECKING:
    from ._engine import Engine

_SLICE_MS = 100  # libtessera's waits do not end by signals: look for Ctrl-C so often
_BROKEN_OFF = (lib.TESSERA_ERROR, lib.TESSERA_SHUTDOWN, lib.TESSERA_PARKED)
_COMPLETE = (lib.TESSERA_TOKENIZED, lib.TESSERA_EMBEDDED, lib.TESSERA_WRITTEN)

T = TypeVar("T")


def text_of(pointer: Any, count: int) -> str:
    return ffi.unpack(pointer, count).decode(errors="replace") if count else ""


def reason_name(reason: int) -> str:
    return ffi.string(lib.tessera_reason_name(reason)).decode()  # type: ignore[no-any-return]


def read(kind: type[T], struct: Any, **more: Any) -> T:
    """The dataclass whose fields are those of a C struct, but for what `more` says."""
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in more:
            value = getattr(struct, field.name)
            more[field.name] = (
                value if isinstance(value, int) else ffi.string(value).decode(errors="replace")
            )
    return kind(**more)


class Request:
    """What requests have in common. The engine's events come through `take`, its end through `fail`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._id = 0
        self._live = False
        self._error: TesseraError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def begin(self, request: int) -> None:
        self._id = request
        self._live = True

    def take(self, event: Any) -> None:
        if event.kind == lib.TESSERA_FAILED or event.kind == lib.TESSERA_DONE:
            self._live = False
            if event.kind == lib.TESSERA_FAILED or self.is_error(event.reason):
                self._error = _errors.of_event(event, text_of(event.text, event.text_bytes))
        self.wake()

    def is_error(self, reason: int) -> bool:
        return reason in _BROKEN_OFF

    def fail(self, error: TesseraError) -> None:
        self._live = False
        self._error = error
        self.wake()

    def is_ready(self) -> bool:
        """Waiting would bring nothing more."""
        return not self._live

    def cancel(self) -> None:
        if self._live:
            self._live = False
            self._engine._cancel(self._id)

    def __del__(self) -> None:
        self.cancel()

    def rest(self, waiter: asyncio.Future[None]) -> None:
        if self._waiter:
            raise RuntimeError("another task waits for this request already")
        self._waiter = waiter
        self._engine._resting.add(self)

    def wake(self) -> None:
        if self._waiter:
            if not self._waiter.done():
                self._waiter.set_result(None)
            self._waiter = None
            self._engine._resting.discard(self)

    def wait(self) -> None:
        """Until it is ready; whatever ends the wait early cancels the request."""
        try:
            while not self.is_ready():
                self._engine._take_events(_SLICE_MS)
        except BaseException:
            self.cancel()
            raise

    async def wait_async(self) -> None:
        try:
            while not self.is_ready():
                await self._engine._rest(self)
        except BaseException:
            self.cancel()
            raise


class Whole(Request, Generic[T]):
    """A request whose answer is taken when it is complete: `result()`, or awaited."""

    def is_error(self, reason: int) -> bool:
        return reason not in _COMPLETE

    def _value(self) -> T:
        raise NotImplementedError

    def _result(self) -> T:
        if self._error:
            raise self._error
        return self._value()

    def result(self) -> T:
        self.wait()
        return self._result()

    def __await__(self) -> Generator[Any, None, T]:
        yield from self.wait_async().__await__()
        return self._result()


class TokenIds(Whole[list[int]]):
    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._ids: list[int] = []

    def take(self, event: Any) -> None:
        if event.kind == lib.TESSERA_TOKENS:
            self._ids += [piece.token for piece in ffi.unpack(event.pieces, event.piece_count)]
        super().take(event)

    def _value(self) -> list[int]:
        return self._ids


class Text(Whole[str]):
    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._text = ""

    def take(self, event: Any) -> None:
        if event.kind == lib.TESSERA_TEXT:
            self._text += text_of(event.text, event.text_bytes)
        super().take(event)

    def _value(self) -> str:
        return self._text


class Embedding(Whole[None]):
    """Its values go from the ring to their place in `out`, `width` floats from `first` on."""

    def __init__(self, engine: Engine, out: Any, first: int, width: int) -> None:
        super().__init__(engine)
        self._out, self._first, self._width = out, first, width
        self._missing = width

    def take(self, event: Any) -> None:
        if event.kind == lib.TESSERA_EMBEDDING:
            if event.value_first + event.value_count > self._width:
                self._error = TesseraError("the engine's embedding is wider than it said")
            else:
                at = self._out + self._first + event.value_first
                ffi.memmove(at, event.values, event.value_count * ffi.sizeof("float"))
                self._missing -= event.value_count
        super().take(event)

    def _value(self) -> None:
        if self._missing:
            raise TesseraError(f"the embedding lacks {self._missing} of {self._width} values")


class Answer(Request):
    """An answer as it comes: iterate it (`for` or `async for`) to get its tokens, once.

    At most `credit` tokens wait here unread (see `connect`): a slow reader holds back its own answer
    and no other. A reader that takes nothing for `info.park_seconds` loses it, and gets an error.

    Leaving the loop, closing the answer, dropping its last reference or cancelling the task that
    waits for it ends the request at the engine.
    """

    accepted: Accepted | None = None
    """Once the engine has admitted the request."""
    end: End | None = None
    """Once the answer is complete."""

    def __init__(self, engine: Engine, credit: int) -> None:
        super().__init__(engine)
        self._tokens: deque[Token] = deque()
        self._read = 0
        self._grant_at = (credit + 1) // 2

    def take(self, event: Any) -> None:
        if event.kind == lib.TESSERA_TOKEN:
            self._tokens.append(_token_of(event))
        elif event.kind == lib.TESSERA_ACCEPTED:
            self.accepted = read(Accepted, event, in_reasoning=bool(event.in_reasoning))
        elif event.kind == lib.TESSERA_DONE:
            self.end = read(End, event, reason=reason_name(event.reason))
        super().take(event)

    def is_ready(self) -> bool:
        return bool(self._tokens) or not self._live

    def _next(self) -> Token | None:
        """The first waiting token; None at the end."""
        if self._tokens:
            self._read += 1
            if self._read >= self._grant_at and self._live:
                self._engine._grant(self._id, self._read)
                self._read = 0
            return self._tokens.popleft()
        error, self._error = self._error, None
        if error:
            raise error
        return None

    def __iter__(self) -> Iterator[Token]:
        return self

    def __next__(self) -> Token:
        if not self._tokens:
            self.wait()
        token = self._next()
        if token is None:
            raise StopIteration
        return token

    def __aiter__(self) -> AsyncIterator[Token]:
        return self

    async def __anext__(self) -> Token:
        if not self._tokens:
            await self.wait_async()
        token = self._next()
        if token is None:
            raise StopAsyncIteration
        return token

    def read(self) -> str:
        """The rest of the answer's text, once it is complete."""
        return "".join(token.text for token in self)

    async def aread(self) -> str:
        return "".join([token.text async for token in self])

    def close(self) -> None:
        """Ends the request. What has not been read is dropped."""
        self.cancel()
        self._tokens.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _token_of(event: Any) -> Token:
    top = (
        [
            Top(each.token, each.logprob, text_of(each.text, each.text_bytes))
            for each in event.top[0 : event.top_count]
        ]
        if event.top_count
        else []
    )
    return Token(
        text_of(event.text, event.text_bytes),
        event.token if event.has_token else None,
        event.index,
        event.logprob if event.has_logprob else None,
        top,
        bool(event.is_special),
        event.time_ns,
    )
