"""Ask a Tessera engine on the same machine, through shared memory.

    import tessera

    with tessera.connect() as engine:
        for token in engine.chat([{"role": "user", "content": "What is the capital of France?"}]):
            print(token.text, end="", flush=True)

Errors are TesseraError, each with the engine's sentence.
"""

from ._engine import Engine, connect
from ._errors import (
    Busy,
    EngineGone,
    Forbidden,
    InUse,
    Invalid,
    TesseraError,
    TooLarge,
    Unsupported,
)
from ._requests import Answer
from ._types import (
    Accepted,
    End,
    Info,
    Options,
    Status,
    StatusNode,
    StatusRequest,
    StatusThread,
    Token,
    Top,
)

__all__ = [
    "Accepted",
    "Answer",
    "Busy",
    "End",
    "Engine",
    "EngineGone",
    "Forbidden",
    "InUse",
    "Info",
    "Invalid",
    "Options",
    "Status",
    "StatusNode",
    "StatusRequest",
    "StatusThread",
    "TesseraError",
    "Token",
    "TooLarge",
    "Top",
    "Unsupported",
    "connect",
]
