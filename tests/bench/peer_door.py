#!/usr/bin/env python3
"""The door beside llama.cpp's server: the same model, machine, prompts and clients; alternating runs, medians.

    tests/bench/peer_door.py PEER MODEL.gguf      PEER: the folder with llama-server

CLIENTS="1 8 64", ROUNDS=3, TOKENS=64 and THREADS=2 in the environment change the case. Placement: packed (MEASURES): both
servers use all CPUs, the client sleeps. For each number of clients a line: time to first token, time between tokens as the
client sees it (p50, p99), what the server adds to it over its own account of decoding, and tokens/s in all.
"""

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "door"))
from box import Box  # noqa: E402

CLIENTS = [int(n) for n in os.environ.get("CLIENTS", "1 8 64").split()]
ROUNDS = int(os.environ.get("ROUNDS", "3"))
TOKENS = int(os.environ.get("TOKENS", "64"))
THREADS = os.environ.get("THREADS", "2")
TOPICS = ["the sea", "old maps", "bread", "a bridge", "winter", "glass", "a library", "rain", "trains", "gold", "bees", "salt"]


def prompt(index):
    topic = TOPICS[index % len(TOPICS)]
    return [{"role": "user", "content": f"Number {index}. Write a story about {topic} in which somebody learns patience, and "
             "let it have a beginning, a middle and an end. Mention the weather, a meal, and what the neighbours say of it."}]


async def ask(port, index, tokens):
    """(seconds to the first token, [moments of tokens], the server's own seconds for a token, or None)"""
    body = json.dumps({"messages": prompt(index), "max_tokens": tokens, "temperature": 0, "stream": True, "ignore_eos": True,
                       "cache_prompt": False})
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write((f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode())
    moments, own = [], None
    while line := await reader.readline():
        if re.search(rb'"content":"[^"]', line):
            moments.append(time.monotonic())
        if match := re.search(rb'"predicted_per_token_ms":([0-9.]+)', line):
            own = float(match[1]) / 1e3
    writer.close()
    if len(moments) < tokens * 0.8:  # a few share a chunk while half a character waits
        raise RuntimeError(f"{len(moments)} chunks for {tokens} tokens")
    return moments[0] - began, moments, own


async def run(port, clients):
    began = time.monotonic()
    answers = await asyncio.gather(*[ask(port, index, TOKENS) for index in range(clients)])
    seconds = time.monotonic() - began
    gaps = sorted(b - a for _, moments, _ in answers for a, b in zip(moments, moments[1:]))
    pace = statistics.mean((moments[-1] - moments[0]) / (TOKENS - 1) for _, moments, _ in answers)
    return {
        "first": statistics.median(first for first, _, _ in answers),
        "p50": gaps[len(gaps) // 2],
        "p99": gaps[int(len(gaps) * 0.99)],
        "pace": pace,
        "own": [own for _, _, own in answers if own],
        "rate": clients * TOKENS / seconds,
    }


class Peer:
    """llama-server with as many slots as clients."""

    def __init__(self, folder, model, clients, port):
        self.port = port
        environment = os.environ | {"LD_LIBRARY_PATH": folder}
        self.process = subprocess.Popen(
            [os.path.join(folder, "llama-server"), "-m", model, "-t", THREADS, "-np", str(clients), "-c", str(512 * clients),
             "--host", "127.0.0.1", "--port", str(port), "--no-webui"],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        Box.wait(lambda: self.healthy(), "llama-server is not ready", 120)
        return self

    def healthy(self):
        if self.process.poll() is not None:
            raise RuntimeError("llama-server ended")
        try:
            self.url = f"http://127.0.0.1:{self.port}"
            return Box.get(self, "/health")[0] == 200
        except OSError:
            return False

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def ours(model, clients):
    with Box(models=[model], engine=["--threads", THREADS, "--kv-bytes", "1G", "--sequences", str(max(clients, 8))]) as box:
        port = int(box.url.rsplit(":", 1)[1])
        asyncio.run(run(port, 1))  # warm
        name = "tessera:request_decode_time_seconds_sum"
        before = box.metric(name)
        result = asyncio.run(run(port, clients))
        result["own"] = [(box.metric(name) - before) / clients / (TOKENS - 1)]
        return result


def theirs(folder, model, clients):
    with Peer(folder, model, clients, 18080) as peer:
        asyncio.run(run(peer.port, 1))
        return asyncio.run(run(peer.port, clients))


def main(folder, model):
    for clients in CLIENTS:
        rounds = [(ours(model, clients), theirs(folder, model, clients)) for _ in range(ROUNDS)]
        figures = []
        for side, name in enumerate(("tessera", "llama.cpp")):
            runs = [pair[side] for pair in rounds]
            figure = {key: statistics.median(r[key] for r in runs) for key in ("first", "p50", "p99", "pace", "rate")}
            figure["added"] = statistics.median(r["pace"] - statistics.mean(r["own"]) for r in runs if r["own"])
            figures.append(figure)
            print(f"{clients:3} clients  {name:9}  first token {1e3 * figure['first']:8.1f} ms  between tokens p50 "
                  f"{1e3 * figure['p50']:7.2f} p99 {1e3 * figure['p99']:7.2f} ms, added {1e6 * figure['added']:7.0f} us  "
                  f"{figure['rate']:7.1f} tokens/s", flush=True)
        a, b = figures
        print(f"{clients:3} clients  ratio      first token {a['first'] / b['first']:8.2f}     between tokens p50 "
              f"{a['p50'] / b['p50']:7.2f} p99 {a['p99'] / b['p99']:7.2f}                    {a['rate'] / b['rate']:7.2f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
