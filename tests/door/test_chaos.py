"""Clients that do everything wrong, while others stream: nobody else loses a token, and afterwards all is where it began.

Two engines stand behind one dataplane. Witnesses stream from the second all the time and compare every answer with the one
that they got in peace. Meanwhile others disconnect, stall, send garbage, half requests and 10,000 headers, and the first
engine is killed and started again. Two rounds: after the second, memory, descriptors and sequences are as after the first.
"""

import asyncio
import json
import os
import random
import re
import sys
import time

from box import TINY, Box

ROUND_SECONDS = float(os.environ.get("CHAOS_SECONDS", "5"))
ASK = {"messages": [{"role": "user", "content": "find all python files"}], "temperature": 0, "stream": True}


def request(model, tokens, headers="", **more):
    body = json.dumps(ASK | {"model": model, "max_tokens": tokens, "ignore_eos": True} | more)
    return (f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
            f"Content-Length: {len(body)}\r\n\r\n{body}").encode()


async def answer(port, model, tokens):
    """The text of a streamed answer, whole or not at all."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request(model, tokens, headers="Connection: close\r\n"))
        said = (await reader.read()).decode()
    finally:
        writer.close()
    if not said.startswith("HTTP/1.1 200"):
        raise RuntimeError(said[:300])
    if "data: [DONE]" not in said:
        raise RuntimeError("the stream ended in the middle: " + said[-300:])
    return "".join(json.loads(text) for text in re.findall(r'"content":("(?:[^"\\]|\\.)*")', said))


async def witness(port, model, right, until, count):
    while asyncio.get_running_loop().time() < until:
        text = await answer(port, model, 40)
        assert text == right, f"a token was lost: {text!r} instead of {right!r}"
        count[0] += 1


async def drain(reader):
    while await reader.read(65536):
        pass


async def disturb(port, models, kind, dice):
    reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 20)
    try:
        if kind == "leaves":  # somewhere in its answer
            writer.write(request(dice.choice(models), 400))
            await reader.read(dice.randrange(1, 4000))
        elif kind == "leaves with a reset":
            writer.write(request(dice.choice(models), 400))
            await reader.read(1)
            writer.transport.abort()
        elif kind == "stalls":  # asks for much, reads nothing
            writer.transport.pause_reading()
            for _ in range(3):
                writer.write(request(dice.choice(models), 1200, logprobs=True, top_logprobs=20))
            await asyncio.sleep(dice.uniform(0.5, 1.5))
        elif kind == "garbage":
            writer.write(dice.randbytes(dice.randrange(1, 20000)))
            await asyncio.wait_for(drain(reader), 5)
        elif kind == "half a request":
            whole = request(models[1], 10)
            writer.write(whole[: dice.randrange(1, len(whole))])
            await asyncio.sleep(dice.uniform(0, 0.3))
        elif kind == "10,000 headers":
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"x%d: y\r\n" % i for i in range(10000)) + b"\r\n")
            status = await asyncio.wait_for(reader.readline(), 10)
            assert b" 431 " in status, status
        elif kind == "smuggles":
            writer.write(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n")
            said = await asyncio.wait_for(reader.read(), 10)
            assert said.startswith(b"HTTP/1.1 400") and said.count(b"HTTP/1.1 ") == 1, said
        elif kind == "bad JSON":
            writer.write(request(models[1], 10)[:-2] + b"]]")
            assert b" 400 " in await asyncio.wait_for(reader.readline(), 10)
        elif kind == "too deep":
            body = b'{"messages":' + b"[" * 100000
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert b" 400 " in await asyncio.wait_for(reader.readline(), 10)
        elif kind == "a larger body than there may be":
            writer.write(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n")
            assert b" 413 " in await asyncio.wait_for(reader.readline(), 10)
        elif kind == "TLS to a plain port":
            writer.write(bytes.fromhex("16030100c8010000c40303") + dice.randbytes(190))
            await asyncio.wait_for(drain(reader), 5)
    except (ConnectionError, asyncio.IncompleteReadError):
        pass  # being hung up on is what some of these deserve
    finally:
        writer.close()


KINDS = ["leaves", "leaves with a reset", "stalls", "garbage", "half a request", "10,000 headers", "smuggles", "bad JSON",
         "too deep", "a larger body than there may be", "TLS to a plain port"]


async def disturb_until(port, models, until, dice, done):
    while asyncio.get_running_loop().time() < until:
        kind = dice.choice(KINDS)
        await disturb(port, models, kind, dice)
        done[kind] = done.get(kind, 0) + 1


async def one_round(box, models, right, dice):
    port = int(box.url.rsplit(":", 1)[1])
    until = asyncio.get_running_loop().time() + ROUND_SECONDS
    count, done = [0], {}
    tasks = [asyncio.create_task(witness(port, models[1], right, until, count)) for _ in range(3)]
    tasks += [asyncio.create_task(disturb_until(port, models, until, random.Random(dice.random()), done)) for _ in range(8)]
    await asyncio.sleep(ROUND_SECONDS / 3)
    await asyncio.to_thread(box.kill_engine, 0)
    await asyncio.sleep(ROUND_SECONDS / 6)
    await asyncio.to_thread(box.start_engine, 0)
    await asyncio.gather(*tasks)
    print(f"{count[0]} answers of the witnesses, none with a token lost; " + ", ".join(f"{n} x {kind}" for kind, n in sorted(done.items())))
    assert count[0] >= 3
    box.wait(lambda: box.get("/v1/models")[1].count('"id"') == 2, "the engine that was killed is not back")
    box.idle()
    box.wait(lambda: box.metric("tessera:door_connections") <= 1, "connections are left")
    for _ in range(8):  # peace: what caches there are fill in both rounds alike
        assert await answer(port, models[1], 40) == right


def figures(pid):
    time.sleep(0.3)  # the last connections are closed a moment after their clients have gone
    with open(f"/proc/{pid}/status") as file:
        kib = int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])
    return {"KiB": kib, "descriptors": len(os.listdir(f"/proc/{pid}/fd"))}


def main():
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(1 << 32)))
    print(f"seed {seed} (CHAOS_SEED repeats it)")
    dice = random.Random(seed)
    with Box(models=(TINY, TINY), engine=["--park-seconds", "2"]) as box:
        box.wait(lambda: box.get("/v1/models")[1].count('"id"') == 2, "the second engine is not there")
        models = re.findall(r'"id":\s*"([^"]+)"', box.get("/v1/models")[1])
        right = asyncio.run(answer(int(box.url.rsplit(":", 1)[1]), models[1], 40))
        after = []
        for _ in range(2):
            asyncio.run(one_round(box, models, right, dice))
            after.append({"dataplane": figures(box.door.pid), "engine": figures(box.engines[1].pid)})
        print(after)
        for who in after[0]:
            first, second = after[0][who], after[1][who]
            assert second["descriptors"] == first["descriptors"], f"{who}: descriptors are left"
            assert second["KiB"] <= first["KiB"] * 1.02 + 512, f"{who}: memory grew"
        box.stop()


if __name__ == "__main__":
    sys.exit(main())
