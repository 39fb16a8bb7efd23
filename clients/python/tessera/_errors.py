"""Errors: the sentence of whoever refused, and a class by what can be done about it."""

import errno
from typing import Any

from ._libtessera import ffi, lib


class TesseraError(Exception):
    """What went wrong and what to do, in a sentence."""


class Invalid(TesseraError, ValueError):
    """The request makes no sense: an option out of range, an empty prompt."""


class TooLarge(Invalid):
    """More than this engine can ever do."""


class Unsupported(TesseraError):
    """This engine or its model cannot do that: a chat without a chat template, for instance."""


class Forbidden(TesseraError):
    """The engine's policy does not allow it."""


class Busy(TesseraError):
    """Try again after `retry_ms` milliseconds (0: unknown)."""

    retry_ms: int = 0
    permille: int | None = None
    """While the model loads: how far, 0 to 1000."""


class EngineGone(TesseraError, ConnectionError):
    """No engine is there, or it went away: close, and connect again once it is back."""


class InUse(TesseraError, RuntimeError):
    """Another thread is using this Engine: give each thread an Engine of its own."""


_BY_ERRNO: dict[int, type[TesseraError]] = {
    -errno.EINVAL: Invalid,
    -errno.E2BIG: TooLarge,
    -errno.EAGAIN: Busy,
    -errno.EACCES: Forbidden,
    -errno.EPERM: Forbidden,
    -errno.ENOENT: EngineGone,
    -errno.ECONNREFUSED: EngineGone,
    -errno.ETIMEDOUT: EngineGone,
    -errno.EPIPE: EngineGone,
}

_BY_CODE: dict[int, type[TesseraError]] = {
    lib.TESSERA_CODE_INVALID: Invalid,
    lib.TESSERA_CODE_TOO_LARGE: TooLarge,
    lib.TESSERA_CODE_BUSY: Busy,
    lib.TESSERA_CODE_UNSUPPORTED: Unsupported,
    lib.TESSERA_CODE_FORBIDDEN: Forbidden,
    lib.TESSERA_CODE_SHUTDOWN: EngineGone,
}


def of_call(err: Any) -> TesseraError:
    """What a call put into its `struct tessera_error`."""
    error = _BY_ERRNO.get(err.code, TesseraError)(ffi.string(err.text).decode(errors="replace"))
    if isinstance(error, Busy):
        error.retry_ms = err.retry_ms
        error.permille = err.permille if err.permille >= 0 else None
    return error


def of_event(event: Any, text: str) -> TesseraError:
    """What a last event says that is no answer."""
    if event.kind == lib.TESSERA_DONE and event.reason == lib.TESSERA_SHUTDOWN:
        return EngineGone(text or "the engine was stopped before the answer's end")
    name = (
        lib.tessera_reason_name(event.reason)
        if event.kind == lib.TESSERA_DONE
        else lib.tessera_code_name(event.code)
    )
    error = _BY_CODE.get(event.code, TesseraError)(
        text or f"the engine ended the request: {ffi.string(name).decode()}"
    )
    if isinstance(error, Busy):
        error.retry_ms = event.retry_ms
    return error
