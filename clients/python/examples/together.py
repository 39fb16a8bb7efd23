"""Eight questions at once on one connection, under asyncio."""

import asyncio

import tessera


async def ask(engine: tessera.Engine, question: str) -> None:
    text = ""
    async for token in engine.chat([{"role": "user", "content": question}], tokens_max=32):
        text += token.text
    print(f"{question} {text!r}")


async def main() -> None:
    with tessera.connect() as engine:
        await asyncio.gather(*(ask(engine, f"What is {i} times {i}?") for i in range(1, 9)))


asyncio.run(main())
