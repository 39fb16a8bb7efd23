"""A stand-in for the box: it serves the page with its policy and answers as a box could at its worst. What it answers is
chosen by the prompt's first word. The page against the real dataplane: check_box.py."""

import http.server
import json
import pathlib
import sys
import threading
import time

MODEL = "stand-in-1B"
META = {
    "architecture": "llama", "weights": "q4_1", "parameters": 134515008, "weights_bytes": 91_000_000, "vocabulary": 49152,
    "context_tokens": 8192, "engine": "0.1.0", "kernels": "avx512", "chat": True, "reasoning": True,
    "embedding": {"width": 576, "pooling": "mean"}, "tools": "hermes", "connected": True,
}  # fmt: skip
BOUNDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, float("inf")]
HOSTILE = (
    "<script>window.hurt = 1</script> <img src=x onerror='window.hurt = 2'> <iframe srcdoc='<script>top.hurt=3</script>'>\n\n"
    "[press](javascript:window.hurt=4) [data](data:text/html,<script>hurt=5</script>) ![picture](http://example.invalid/a.png)\n\n"
    "```html\n</code></pre><script>window.hurt = 6</script>\n```\n\n| a | b |\n|---|---|\n| <b onclick=hurt=7>x</b> | y |\n\n"
    "# <svg onload=window.hurt=8>\n\n- </article></main><style>*{display:none}</style>\n"
)
SHOWN = """Huge pages cut the **cost of translation**: one entry of the TLB then covers 2 MiB instead of 4 KiB.

1. A walk through the page table takes up to four reads.
2. With `2M` pages it takes three, and far fewer entries are needed.

```c
/* Sums what lies in `row`: one stream, strictly forwards. */
float sum(const float *row, size_t n)
{
    float total = 0;
    for (size_t i = 0; i < n; i++)
        total += row[i];
    return total;
}
```

| Page | Entries for 1 GiB |
| --- | ---: |
| 4 KiB | 262,144 |
| 2 MiB | 512 |

> Measured, not guessed. See [the kernel's notes](https://docs.kernel.org/admin-guide/mm/hugetlbpage.html).
"""


class Box:
    """What is counted, as /metrics tells it."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counters = {"prompt_tokens_total": 0, "generation_tokens_total": 0}
        self.running = 0
        self.histograms = {"time_to_first_token_seconds": [], "inter_token_latency_seconds": []}
        self.requests = []  # (path, headers, body)
        self.aborted = 0
        self.up = 1
        self.api_key = None

    def observe(self, name, seconds):
        with self.lock:
            self.histograms[name].append(seconds)

    def metrics(self):
        with self.lock:
            at = f'{{model_name="{MODEL}"'
            lines = [f"tessera:engine_up{at}}} {self.up}"]
            lines += [f"tessera:{name}{at}}} {value}" for name, value in self.counters.items()]
            lines += [f"tessera:num_requests_running{at}}} {self.running}", f"tessera:num_requests_waiting{at}}} 0"]
            lines.append(f"tessera:kv_cache_usage_perc{at}}} {min(1, 0.031 + self.running * 0.07)}")
            for name, seen in self.histograms.items():
                for bound in BOUNDS:
                    le = "+Inf" if bound == float("inf") else f"{bound:g}"
                    lines.append(f'tessera:{name}_bucket{at},le="{le}"}} {sum(s <= bound for s in seen)}')
                lines += [f"tessera:{name}_sum{at}}} {sum(seen)}", f"tessera:{name}_count{at}}} {len(seen)}"]
            for node, pages in (("0", {"1G": 2 << 30, "2M": 300 << 20, "4K": 9 << 20}), ("1", {"1G": 2 << 30, "2M": 128 << 20})):
                lines += [f'tessera:memory_bytes{{node="{node}",page="{page}"}} {size}' for page, size in pages.items()]
                lines.append(f'tessera:memory_misplaced_bytes{{node="{node}"}} {int(node) << 22}')
            # Another model behind the same box, which is not the one looked at.
            lines.append('tessera:kv_cache_usage_perc{model_name="another \\"one\\""} 0.99')
        return "# HELP tessera:engine_up 1: the engine answers\n" + "\n".join(lines) + "\n"


def handler_of(box, folder):
    page = (folder / "page.html").read_bytes()
    policy = (folder / "policy.txt").read_text()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status, body, kind="application/json", headers=()):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def refuse(self, status, sentence, headers=()):
            self.answer(status, json.dumps({"error": {"message": sentence, "type": "x"}}).encode(), headers=headers)

        def allowed(self):
            if box.api_key is None or self.headers.get("Authorization") == f"Bearer {box.api_key}":
                return True
            self.refuse(401, "An API key is needed.")
            return False

        def do_GET(self):
            box.requests.append((self.path, dict(self.headers), None))
            if self.path == "/":
                self.answer(200, page, "text/html; charset=utf-8", [("Content-Security-Policy", policy)])
            elif not self.allowed():
                pass
            elif self.path == "/v1/models":
                model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "tessera", "max_model_len": 8192, "meta": META}
                self.answer(200, json.dumps({"object": "list", "data": [model]}).encode())
            elif self.path == "/metrics":
                self.answer(200, box.metrics().encode(), "text/plain; version=0.0.4")
            else:
                self.refuse(404, f"There is nothing at {self.path}.")

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            box.requests.append((self.path, dict(self.headers), body))
            if not self.allowed():
                return
            prompt = body["messages"][-1]["content"]
            if prompt.startswith("refused"):
                self.refuse(400, "'temperature' is 3, and at most 2 is possible.")
            elif prompt.startswith("busy"):
                self.refuse(503, "The engine is being started.", [("Retry-After", "2")])
            elif prompt.startswith("gateway"):
                self.answer(502, b"<h1>Bad gateway</h1>", "text/html")
            else:
                self.stream(prompt)

        def stream(self, prompt):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with box.lock:
                box.running += 1
                box.counters["prompt_tokens_total"] += len(prompt.split())
            try:
                self.say(prompt)
            except (BrokenPipeError, ConnectionResetError):
                box.aborted += 1
            finally:
                self.close_connection = True
                with box.lock:
                    box.running -= 1

        def chunk(self, raw):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))

        def event(self, value):
            self.chunk(b"data: " + (value if isinstance(value, str) else json.dumps(value)).encode() + b"\n\n")

        def delta(self, finish=None, **delta):
            self.event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

        def tokens(self, pieces, pause, name="content"):
            last = time.monotonic()
            for at, piece in enumerate(pieces):
                time.sleep(pause(at) if callable(pause) else pause)
                self.delta(**{name: piece})
                now = time.monotonic()
                box.observe("inter_token_latency_seconds" if at else "time_to_first_token_seconds", now - last)
                last = now
                with box.lock:
                    box.counters["generation_tokens_total"] += 1

        def conclude(self, count, reason="stop"):
            self.delta(finish=reason)
            usage = {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}
            self.event({"choices": [], "usage": usage})
            self.event("[DONE]")
            self.chunk(b"")

        def say(self, prompt):
            self.delta(role="assistant", content="")
            word = prompt.split()[0]
            if word == "slow":
                self.tokens([f"word{at} " for at in range(1000)], 0.03)
            elif word == "huge":
                line = "A sentence with `code`, *stress* and a [link](https://example.org/). " * 16 + "\n\n"
                for _ in range(1024):
                    self.delta(content=line)
                self.conclude(1024)
            elif word == "hostile":
                self.tokens([HOSTILE[at : at + 7] for at in range(0, len(HOSTILE), 7)], 0)
                self.conclude(9)
            elif word == "error":
                self.tokens(["So ", "far "], 0)
                self.event({"error": {"message": "The engine ended while it answered.", "type": "server_error"}})
                self.chunk(b"")
            elif word == "cut":
                self.tokens(["So ", "far "], 0)
                time.sleep(0.2)
            elif word == "garbled":
                self.tokens(["So ", "far "], 0)
                self.event("{not json")
                self.chunk(b"")
            elif word == "length":
                self.tokens(["So ", "far "], 0)
                self.conclude(2, "length")
            elif word == "think":
                self.tokens(["Let me ", "see. "], 0.01, "reasoning_content")
                self.tokens(["It is ", "four."], 0.01)
                self.conclude(4)
            elif word == "split":
                raw = 'data: {"choices": [{"index": 0, "delta": {"content": "é€😀"}, "finish_reason": "stop"}]}\r\n\r\ndata: [DONE]\r\n\r\n'
                for byte in raw.encode():
                    self.chunk(bytes([byte]))
                    time.sleep(0.001)
                self.chunk(b"")
            else:
                self.tokens([SHOWN[at : at + 4] for at in range(0, len(SHOWN), 4)], lambda at: 0.08 if at % 41 == 40 else 0.008)
                self.conclude(len(SHOWN) // 4 + 1)

    return Handler


def start(folder):
    """(the box, its URL); it runs until the process ends."""
    box = Box()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler_of(box, pathlib.Path(folder)))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a browser that has gone
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return box, f"http://127.0.0.1:{server.server_address[1]}/"


if __name__ == "__main__":
    print(start(sys.argv[1])[1])
    threading.Event().wait()
