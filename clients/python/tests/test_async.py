"""Answers under asyncio, without a plugin of pytest."""

import asyncio

import pytest
from test_answers import LONG, wait_until_quiet

import tessera


def test_eight_at_once(engine):
    def ask(i):
        return engine.generate(f"Number {i}", tokens_max=30, ignore_end=True)

    async def read(i):
        return "".join([token.text async for token in ask(i)])

    async def main():
        return await asyncio.gather(*(read(i) for i in range(8)))

    alone = [ask(i).read() for i in range(8)]
    assert asyncio.run(main()) == alone
    assert asyncio.run(main()) == alone  # on another loop


def test_the_loop_goes_on_meanwhile(engine):
    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        ticker = asyncio.create_task(tick())
        await engine.generate("Once", tokens_max=50, ignore_end=True).aread()
        ticker.cancel()
        return ticks

    assert asyncio.run(main()) > 50


def test_calls_that_block_do_not_lose_a_waiting_coroutine(engine):
    async def main():
        reading = asyncio.create_task(engine.generate("Once", **LONG).aread())
        for _ in range(20):
            await asyncio.sleep(0)
            engine.status()
            engine.tokenize("Once")
        return await reading

    assert asyncio.run(main()) == engine.generate("Once", **LONG).read()


def test_cancelling_a_task_cancels_its_request(engine):
    async def main():
        reading = asyncio.create_task(engine.generate("Once", **LONG).aread())
        while not engine.status().requests_running:
            await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(engine.generate("Once", **LONG).aread(), 0.01)
        async for _ in engine.generate("Once", **LONG):
            break
        async with engine.generate("Once", **LONG) as answer:
            await anext(answer)
        wait_until_quiet(engine)

    asyncio.run(main())


def test_whole_answers(engine):
    async def main():
        chat = [{"role": "user", "content": "list all files"}]
        return await asyncio.gather(
            engine.atokenize("Once upon a time"),
            engine.atokenize_chat(chat),
            engine.chat(chat, tokens_max=4).aread(),
        )

    ids, chat_ids, text = asyncio.run(main())
    assert ids == engine.tokenize("Once upon a time") and chat_ids and text


def test_a_prompt_longer_than_the_ring(engine):
    async def main():
        return len(await engine.atokenize("word " * 20_000))

    assert asyncio.run(main()) >= 20_000


def test_an_engine_that_dies(mortal):
    async def main():
        engine = tessera.connect(mortal.socket)
        answers = [engine.generate("Once", **LONG) for _ in range(2)]
        await anext(answers[0])
        mortal.kill()
        for answer in answers:
            with pytest.raises(tessera.EngineGone):
                await asyncio.wait_for(answer.aread(), 10)
        engine.close()

    asyncio.run(main())
