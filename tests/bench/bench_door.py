#!/usr/bin/env python3
"""What the kernel's door costs, on two CPUs: placement "door" (MEASURES).

    tests/bench/bench_door.py [--quick] [--model MODEL] [health] [idle] [tokens]

health  /health by wrk on CPU 0; the door alone on CPU 1, then nginx with a constant answer alone there; they alternate.
        At least nginx's rate.
idle    10,000 keep-alive connections that have each had an answer: memory of the door. At most 200 MiB.
tokens  engine and clients on CPU 0, the door on CPU 1, polling: from a token's publication until the kernel is called
        with its bytes (p50 at most 30 us), and until that call is back (on one machine it does the client's receiving
        too, and wakes it); from a request's last byte until its record is there for the engine (p50 at most 60 us), and
        what the bell of an engine that sleeps takes. Then the same with a door that sleeps: its wake-ups are in it.

ROUNDS=5, SECONDS=5 and STREAMS="1 8" in the environment change the cases.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "door"))
from box import BUILD, TINY, Box, skip  # noqa: E402

DOOR = os.path.join(BUILD, "dataplane", "uring", "tessera-dataplane")
NGINX = """\
daemon off; worker_processes 1; error_log stderr crit; pid %(work)s/pid;
events { worker_connections 1024; }
http {
    access_log off; keepalive_requests 1000000000; keepalive_timeout 75s;
    client_body_temp_path %(work)s/1; proxy_temp_path %(work)s/2; fastcgi_temp_path %(work)s/3; uwsgi_temp_path %(work)s/4; scgi_temp_path %(work)s/5;
    server { listen 127.0.0.1:%(port)d; location = /health { default_type text/plain; return 200 "ok"; } }
}
"""


def pinned(cpu, *words):
    return ["taskset", "-c", str(cpu), *words]


class Server:
    """A program on CPU 1 that says `ready`, or answers at its port."""

    def __init__(self, words, port=None):
        self.process = subprocess.Popen(pinned(1, *words), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = port
        if port:
            Box.wait(lambda: not self.refuses(), f"{words[0]} does not listen")
            return
        said = ""
        while not said.endswith("ready\n"):
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"{words[0]} did not start")
            said += line
        self.port = int(re.search(r":(\d+)\n", said)[1])

    def refuses(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) != 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


def door(*options):
    return Server([DOOR, "--config", "/dev/null", "--quiet", "--listen", "127.0.0.1:0", "--engine", "/nonexistent/engine.sock", *options])


def wrk(port, seconds, connections=64):
    said = subprocess.run(pinned(0, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"http://127.0.0.1:{port}/health"), capture_output=True,
                          text=True, check=True).stdout
    if re.search("Non-2xx|Socket errors", said):
        raise RuntimeError(said)
    return float(re.search(r"Requests/sec:\s+(\S+)", said)[1])


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def health(rounds, seconds):
    nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if not nginx or not shutil.which("wrk"):
        return print("health   left out: it wants wrk and nginx (wrk, nginx-light)")
    with tempfile.TemporaryDirectory() as work:
        port = free_port()
        with open(os.path.join(work, "conf"), "w") as file:
            file.write(NGINX % {"work": work, "port": port})
        ours, theirs = [], []
        for _ in range(rounds):
            with door("--spin") as server:
                ours.append(wrk(server.port, seconds))
            with Server([nginx, "-p", work, "-c", os.path.join(work, "conf")], port) as server:
                theirs.append(wrk(port, seconds))
        ratio = statistics.median(a / b for a, b in zip(ours, theirs))
        print(f"health   tessera {statistics.median(ours):9.0f}/s  nginx {statistics.median(theirs):9.0f}/s  ratio {ratio:.2f} (at least 1.0)")


def rss_mib(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) / 1024


def idle(count):
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with door("--connections", str(count + 8), "--connections-per-address", "0") as server:
        empty = rss_mib(server.process.pid)
        many = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(count)]
        for connection in many:
            connection.sendall(request)
        for connection in many:
            if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
                raise RuntimeError("a connection has no answer")
        full = rss_mib(server.process.pid)
        print(f"idle     {count} connections: {full:.0f} MiB, {1024 * (full - empty) / count:.2f} KiB each beside {empty:.0f} MiB (at most 200 MiB)")
        for connection in many:
            connection.close()


async def stream(port, index, tokens, host="127.0.0.1", headers=""):
    body = json.dumps({"messages": [{"role": "user", "content": f"find file {index}"}], "max_tokens": tokens, "stream": True, "ignore_eos": True})
    reader, writer = await asyncio.open_connection(host, port)
    writer.write((f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n{headers}"
                  f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
    said = await reader.read()
    writer.close()
    if b"data: [DONE]" not in said:
        raise RuntimeError(said[:500])


async def streams(port, count, requests, tokens, **where):
    async def one(index):
        for turn in range(requests):
            await stream(port, index + turn * count, tokens, **where)
    await asyncio.gather(*[one(index) for index in range(count)])


def buckets(metrics, name, labels=""):
    """Upper bound -> how many were at most that."""
    found = re.findall(rf'^{name}_bucket\{{(.*?)le="([^"]+)"\}} (\d+)$', metrics, re.M)
    return {float(bound.replace("+Inf", "inf")): int(count) for label, bound, count in found if labels in label}


def quantile(before, after, part):
    """In microseconds, from the straight line through its bucket; and of how many."""
    low, below = 0.0, 0
    total = max(after.values()) - max(before.values())
    for bound in sorted(after):
        count = after[bound] - before[bound]
        if total and count >= part * total:
            return 1e6 * (low + (min(bound, 1) - low) * (part * total - below) / (count - below))
        low, below = bound, count
    return float("nan")


def tokens(model, counts, requests, length):
    cpus = os.sched_getaffinity(0)
    for spins in (True, False):
        box = Box(models=[model], engine=["--threads", "1", "--cpus", "0", "--sequences", str(max(counts))], dataplane=["--spin"] if spins else [])
        try:
            box.start_engine()
            os.sched_setaffinity(0, {1})
            box.start_door()
            os.sched_setaffinity(0, {0})
            port = int(box.url.rsplit(":", 1)[1])
            asyncio.run(streams(port, 1, 2, length))
            for count in counts:
                woken = 'woken="no"' if spins else 'woken="yes"'
                names = [("tessera:door_token_work_seconds", woken), ("tessera:door_token_seconds", woken), ("tessera:door_request_seconds", ""),
                         ("tessera:door_bell_seconds", "")]
                before = [buckets(box.get("/metrics")[1], *name) for name in names]
                asyncio.run(streams(port, count, requests, length))
                after = [buckets(box.get("/metrics")[1], *name) for name in names]
                work, token, request, bell = [" ".join(f"{quantile(b, a, part):7.1f}" for part in (0.5, 0.99)) for b, a in zip(before, after)]
                print(f"tokens   {'polling ' if spins else 'sleeping'} {count:3} streams, p50 and p99 in us: token to kernel {work}"
                      f"{' (p50 at most 30)' if spins else ''}, and back {token}; request to record {request}"
                      f"{' (p50 at most 60)' if spins else ''}, engine's bell {bell}", flush=True)
        finally:
            box.__exit__()
            os.sched_setaffinity(0, cpus)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--quick", action="store_true", help="small: whether it still runs")
    parser.add_argument("--model", default=TINY)
    o = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        skip("two CPUs are wanted")
    cases = o.cases or ["health", "idle", "tokens"]
    if "health" in cases:
        health(1 if o.quick else int(os.environ.get("ROUNDS", "5")), 1 if o.quick else int(os.environ.get("SECONDS", "5")))
    if "idle" in cases:
        idle(500 if o.quick else 10000)
    if "tokens" in cases:
        tokens(o.model, [1] if o.quick else [int(n) for n in os.environ.get("STREAMS", "1 8").split()], 2 if o.quick else 20, 20 if o.quick else 200)


if __name__ == "__main__":
    main()
