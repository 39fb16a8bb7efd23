#!/usr/bin/env python3
"""What the second door costs, and what going past the kernel buys: placement "door" (MEASURES), on links between namespaces.

    tests/bench/bench_bypass.py [--quick] [--model MODEL] [requests] [tokens] [packets] [calls] [idle] [loss]

requests  /health on a warm connection, by a client that spins on CPU 0; the door alone on CPU 1: on AF_XDP, on the kernel's
          UDP socket spinning (AF_XDP's p50 at most 0.95 of its) and sleeping (at most 0.6), on memif; and the first door's
          HTTP/1.1 over TLS 1.3, spinning. They alternate; each ratio is the median of its rounds.
tokens    engine, client and a hog on CPU 0, doors polling on CPU 1, in turn: from a token's publication until it has been
          handed over (the call, or the device's burst, is back). The kernel's doors: HTTP/1.1, and HTTP/3 on a UDP socket;
          memif's p99 at most 0.5 of theirs. Beside it the floor: for how long a loop on CPU 1 that only reads the clock is
          away, at a moment that is chosen blindly. Each is the median of its rounds.
packets   a flood of small datagrams that belong to no connection, from CPU 0; the door on AF_XDP handles 500,000 a second,
          or 60 % of what testpmd takes on the same link.
calls     system calls and allocations of the door on memif: none a packet, none a token. Of two runs that differ in length
          alone, and without what an idle door does.
idle      5,000 connections that have each had an answer: at most 400 MiB in all.
loss      streams through a bridge that loses 5 % of all packets say the same as without it.

ROUNDS=5, COUNT=10 (how long each round is) and STREAMS="1 4" in the environment change the cases.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "bypass"))
from net import BUILD, CLIENT, DEVICES, KEY, OURS, PEER, SERVER, UDP_PORT, Doors, Net, needs, run, skip  # noqa: E402
from box import TINY  # noqa: E402
from bench_door import buckets, quantile, streams  # noqa: E402

QUIC = os.path.join(BUILD, "tests/quic/quic_client")
TLS, FLOOD = (os.path.join(BUILD, "tests/bench", name) for name in ("ask_tls", "flood_xdp"))
COUNT_MALLOC = os.path.join(BUILD, "tests/integration/libcount_malloc.so")
PLAIN, PLAIN_PEER = "10.79.0.1", "10.79.0.2"  # a link without XDP
AUTH = ["--header", "authorization: Bearer " + KEY]


def say(case, text):
    print(f"{case:8}  {text}", flush=True)


def on_cpu(*cpus):
    os.sched_setaffinity(0, cpus)


def weigh():
    """Other groups of this machine's scheduler get less while this runs, where it is allowed."""
    with contextlib.suppress(OSError):
        os.setsid()
        with open("/proc/self/autogroup", "w") as file:
            file.write("-20")


@contextlib.contextmanager
def alone_on(cpu):
    """The kernel's own threads that may run elsewhere do so meanwhile, as on an appliance's isolated CPU."""
    moved = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/stat") as file:
                parent = file.read().rsplit(") ", 1)[1].split()[1]
            cpus = os.sched_getaffinity(int(pid))
            if parent == "2" and cpus > {cpu}:
                os.sched_setaffinity(int(pid), cpus - {cpu})
                moved[int(pid)] = cpus
    try:
        yield
    finally:
        for pid, cpus in moved.items():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(pid, cpus)


# ---- Clients ----

def figures(text):
    """{"answers": {"p50": 21.0, ...}, ...} of quic_client's lines."""
    found = {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word in ("connections", "answers", "gaps", "packets") and "=" in rest:
            found[word] = {name: float(value) for name, value in re.findall(r"(\w+)=(\S+)", rest)}
    return found


def quic_words(address, *options, path="/health"):
    return [QUIC, *AUTH, *map(str, options), f"https://{address}{path}"]


def said(address, *options, path="/health"):
    """memif's own thread shares CPU 0 with the hog, and may not have taken leave of the client before."""
    for _ in range(20):
        done = subprocess.run(quic_words(address, *options, path=path), capture_output=True, text=True)
        if "Failed to connect socket" not in done.stderr:
            break
        time.sleep(0.1)
    if done.returncode:
        raise RuntimeError(f"quic_client: {done.stdout[-600:]}{done.stderr[-600:]}")
    return done.stdout


def quic(address, *options, path="/health"):
    return figures(said(address, *options, path=path))


def metrics(address, *options):
    return said(address, *options, "--show", path="/metrics")


def metric(text, name):
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))


def wait_for_engine(box, *options):
    box.wait(lambda: metric(metrics(f"{OURS}:{UDP_PORT}", *options), "tessera:engine_up") == 1, "the door finds no engine")


def chat(tokens, content="find file"):
    return json.dumps({"messages": [{"role": "user", "content": content}], "max_tokens": tokens, "stream": True, "ignore_eos": True, "temperature": 0})


# ---- Doors ----

class Bench(Doors):
    """Engines, and any number of doors, of which one runs at a time: the others are stopped."""

    def __init__(self, *models, **options):
        super().__init__(models=models, **options)
        self.doors = {}

    def start_door(self):
        pass  # as the case wants

    def add_second(self, name, address, device=None, *options):
        cpus = os.sched_getaffinity(0)
        if "--cpus" in options:
            on_cpu(0, 1)  # its queue pins itself; what else it runs does not belong there
        self.start_bypass(device, *options, listen=[address])
        on_cpu(*cpus)
        self._add(name, self.bypass)
        self.bypass = None

    def add_first(self, name, *options):
        engines = [word for index in range(len(self.models)) for word in ("--engine", self.socket(index))]
        self._add(name, self._start("dataplane/uring/tessera-dataplane", ["--config", "/dev/null", "--keys", self.keys, *engines, *options], r"^ready", self.prefix))

    def _add(self, name, process):
        self.doors[name] = process
        process.send_signal(signal.SIGSTOP)

    @contextlib.contextmanager
    def running(self, name):
        self.doors[name].send_signal(signal.SIGCONT)
        yield self.doors[name]
        self.doors[name].send_signal(signal.SIGSTOP)

    def __exit__(self, *_):
        for process in self.doors.values():
            process.kill()
            process.wait()
            process.stdout.close()
        super().__exit__()


def memif(role, folder):
    return f"net_memif0,role={role},socket-abstract=no,socket={folder}/memif"


def memif_client(folder):
    return ["--device", memif("client", folder), "--local", f"{PEER}/24:5000", "--cpu", "0"]


def plain_link(net):
    """A second link between the same namespaces."""
    net._pair(SERVER, "w0", CLIENT, "w1", 1500)
    run("ip", "-n", SERVER, "addr", "add", PLAIN + "/24", "dev", "w0")
    run("ip", "-n", CLIENT, "addr", "add", PLAIN_PEER + "/24", "dev", "w1")
    for link in ("v1", "w1"):  # what the kernel does for the client is done on the client's CPU, not in the door's send
        run("ip", "netns", "exec", CLIENT, "sh", "-c", f"for queue in /sys/class/net/{link}/queues/rx-*; do echo 1 >$queue/rps_cpus; done")


# ---- Cases ----

def requests(net, rounds, count):
    net.link()
    plain_link(net)
    with Bench() as box:
        on_cpu(1)
        box.add_second("af_xdp", f"{OURS}/24:{UDP_PORT}", DEVICES["af_xdp"], "--spin", "--cpus", "1")
        box.add_second("memif", f"{OURS}/24:{UDP_PORT}", memif("server", box.work), "--spin", "--cpus", "1")
        box.add_second("spinning", f"{PLAIN}:{UDP_PORT}", None, "--spin")
        box.add_second("sleeping", f"{PLAIN}:{UDP_PORT + 1}")
        box.add_first("tls", "--listen-tls", f"{PLAIN}:{UDP_PORT}", "--tls-certificate", box.certificate, "--tls-key", box.certificate_key, "--spin")
        on_cpu(0)
        options = ["--spin", "--warm", count // 10, "--requests", count]
        asks = {
            "af_xdp": lambda: quic(f"{OURS}:{UDP_PORT}", *options),
            "spinning": lambda: quic(f"{PLAIN}:{UDP_PORT}", *options),
            "sleeping": lambda: quic(f"{PLAIN}:{UDP_PORT + 1}", *options),
            "memif": lambda: quic(f"{OURS}:{UDP_PORT}", *options, *memif_client(box.work)),
            "tls": lambda: figures(run(TLS, PLAIN, str(UDP_PORT), "/health", str(count)).stdout),
        }
        seen = {name: [] for name in asks}
        for _ in range(rounds):
            for name, ask in asks.items():
                with box.running(name):
                    seen[name].append(ask()["answers"])
    limits = {"spinning": " (at most 0.95)", "sleeping": " (at most 0.60)"}
    for name, answers in seen.items():
        p50, p99 = (statistics.median(answer[part] for answer in answers) for part in ("p50", "p99"))
        ratio = statistics.median(ours["p50"] / theirs["p50"] for ours, theirs in zip(seen["af_xdp"], answers))
        say("requests", f"{name:8} p50 {p50:6.1f} us, p99 {p99:6.1f}; af_xdp is {ratio:.2f} of it{limits.get(name, '')}")


@contextlib.contextmanager
def hog():
    process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "taskset", "-c", "0", "sh", "-c", "while :; do :; done"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def tokens(net, model, rounds, length, counts):
    net.link()
    plain_link(net)
    post = ["--header", "content-type: application/json", "--data", chat(length)]

    def ask_first(count):
        asyncio.run(streams(UDP_PORT, count, 1, length, host=PLAIN, headers=f"authorization: Bearer {KEY}\r\n"))

    def seen_first():
        with urllib.request.urlopen(urllib.request.Request(f"http://{PLAIN}:{UDP_PORT}/metrics", headers={"authorization": "Bearer " + KEY})) as answer:
            return answer.read().decode()

    def second(address, *options):
        return (lambda count: quic(f"{address}:{UDP_PORT}", *options, *post, "--connections", count, path="/v1/chat/completions"),
                lambda: metrics(f"{address}:{UDP_PORT}", *options))

    on_cpu(0)
    with Bench(model, engine=["--threads", "1", "--cpus", "0", "--sequences", str(max(counts))]) as box:
        on_cpu(1)
        box.add_first("http1", "--listen", f"{PLAIN}:{UDP_PORT}", "--spin")
        box.add_second("socket", f"{PLAIN}:{UDP_PORT}", None, "--spin", "--cpus", "1")
        box.add_second("af_xdp", f"{OURS}/24:{UDP_PORT}", DEVICES["af_xdp"], "--spin", "--cpus", "1")
        box.add_second("memif", f"{OURS}/24:{UDP_PORT}", memif("server", box.work), "--spin", "--cpus", "1")
        on_cpu(0)
        sides = {"http1": (ask_first, seen_first), "socket": second(PLAIN), "af_xdp": second(OURS), "memif": second(OURS, *memif_client(box.work))}
        for name, (ask, seen) in sides.items():
            with box.running(name):
                box.wait(lambda seen=seen: metric(seen(), "tessera:engine_up") == 1, f"the {name} door finds no engine")
                ask(1)
        for count in counts:
            seen_in = {name: [] for name in sides}  # each round's [p50, p90, p99]
            aways = []
            for _ in range(rounds):
                for name, (ask, seen) in sides.items():
                    with box.running(name), hog():
                        before = buckets(seen(), "tessera:door_token_seconds", 'woken="no"')
                        ask(count)
                        after = buckets(seen(), "tessera:door_token_seconds", 'woken="no"')
                        seen_in[name].append([quantile(before, after, part) for part in (0.5, 0.9, 0.99)])
                with hog():
                    aways.append(away(stalls(), 0.99))
            show_tokens(count, seen_in, aways)


STALLS_S = 0.3


def stalls():
    """A loop that reads the clock on CPU 1, for so long: how long its turns of more than 2 us were, in microseconds."""
    on_cpu(1)
    clock, now, found = time.perf_counter_ns, time.perf_counter_ns(), []
    until = now + int(STALLS_S * 1e9)
    while now < until:
        before, now = now, clock()
        if now - before > 2000:
            found.append((now - before) / 1000)
    on_cpu(0)
    return found


def away(found, part):
    """For how long the CPU is still away at a moment (quantile `part` of all moments), in microseconds."""
    low, high = 0.0, max(found, default=0.0)
    for _ in range(40):
        middle = (low + high) / 2
        if sum(stall - middle for stall in found if stall > middle) > (1 - part) * STALLS_S * 1e6:
            low = middle
        else:
            high = middle
    return high


def show_tokens(count, seen, aways):
    figures = {name: [statistics.median(column) for column in zip(*rounds)] for name, rounds in seen.items()}
    for name, (p50, p90, p99) in figures.items():
        ratios = ", ".join(f"{p99 / figures[other][2]:.2f} of {other}'s p99" for other in ("http1", "socket") if other != name)
        say("tokens", f"{count} streams beside a hog: {name:6} p50 {p50:6.1f} us, p90 {p90:6.1f}, p99 {p99:6.1f}; {ratios}"
            + (" (at most 0.50)" if name == "memif" else ""))
    say("tokens", f"{count} streams: at a moment this CPU itself is away for {statistics.median(aways):.1f} us (p99), by a loop that reads the clock")


def flood(seconds):
    """Packets a second that were sent."""
    mac = run("ip", "-n", SERVER, "-o", "link", "show", "v0").stdout.split("link/ether ")[1].split()[0]
    return float(run(FLOOD, "v1", mac, PEER, OURS, str(UDP_PORT), str(seconds)).stdout.split("per_s=")[1])


def testpmd(seconds):
    """(sent, taken) a second."""
    words = ["dpdk-testpmd", "-l", "0,1", "--no-huge", "--no-shconf", "--no-pci", "-m", "256", "--vdev", DEVICES["af_xdp"], "--", "--forward-mode=rxonly",
             "--auto-start", "--total-num-mbufs=16384"]
    run("ip", "-n", SERVER, "link", "set", "v0", "xdp", "off")  # the door's stays until another comes
    process = subprocess.Popen(["ip", "netns", "exec", SERVER, "taskset", "-c", "0,1", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    try:
        Doors.wait(lambda: "prog/xdp" in run("ip", "-n", SERVER, "link", "show", "v0").stdout, "testpmd does not start")
        time.sleep(1)
        sent = flood(seconds)
        said, _ = process.communicate("\n", timeout=30)  # ends it
    finally:
        process.kill()
    return sent, float(re.findall(r"RX-packets: (\d+)", said)[-1]) / seconds


def packets(net, rounds, seconds):
    needs("tests/bench/flood_xdp")
    net.link()
    ours, theirs = [], []
    with Bench() as box:
        for _ in range(rounds):
            on_cpu(1)
            box.start_bypass(DEVICES["af_xdp"], "--spin", "--cpus", "1", listen=[f"{OURS}/24:{UDP_PORT}"])
            on_cpu(0)
            before = metric(metrics(f"{OURS}:{UDP_PORT}"), "tessera:door_datagrams_received_total")
            sent = flood(seconds)
            ours.append((sent, (metric(metrics(f"{OURS}:{UDP_PORT}"), "tessera:door_datagrams_received_total") - before) / seconds))
            box.stop_bypass()
            if shutil.which("dpdk-testpmd"):
                theirs.append(testpmd(seconds))
    sent, taken = (statistics.median(column) for column in zip(*ours))
    say("packets", f"door     {taken:9.0f}/s handled of {sent:9.0f}/s sent (at least 500000, or 0.60 of testpmd)")
    if theirs:
        sent, taken = (statistics.median(column) for column in zip(*theirs))
        ratio = statistics.median(mine[1] / its[1] for mine, its in zip(ours, theirs))
        say("packets", f"testpmd  {taken:9.0f}/s taken   of {sent:9.0f}/s sent; the door is {ratio:.2f} of it")


class Calls:
    """Counts system calls of a process while it is open, by strace."""

    def __init__(self, pid, folder):
        self.path = os.path.join(folder, "strace")
        self.process = subprocess.Popen(["strace", "-f", "-qq", "-c", "-o", self.path, "-p", str(pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        self.began = time.monotonic()

    def close(self):
        """(calls, seconds)"""
        seconds = time.monotonic() - self.began
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        with open(self.path) as file:
            return sum(int(line.split()[3]) for line in file if re.match(r"\s*\d+\.\d+\s", line) and not line.endswith("total\n")), seconds


def allocations(path):
    with open(path, "rb") as file:
        return sum(struct.unpack("2Q", file.read(16)))


def calls(net, model, count, length):
    if not shutil.which("strace"):
        return say("calls", "left out: it wants strace")
    net.link()
    on_cpu(0)
    with Bench(model, engine=["--threads", "1", "--cpus", "0", "--sequences", "4"]) as box:
        counts = os.path.join(box.work, "counts")
        with open(counts, "wb") as file:
            file.write(bytes(16))
        box.own(counts)
        on_cpu(1)
        os.environ.update(LD_PRELOAD=COUNT_MALLOC, TESSERA_TEST_COUNTS=counts)
        box.start_bypass(memif("server", box.work), "--spin", "--cpus", "1", listen=[f"{OURS}/24:{UDP_PORT}"])
        del os.environ["LD_PRELOAD"], os.environ["TESSERA_TEST_COUNTS"]
        on_cpu(0)
        wait_for_engine(box, *memif_client(box.work))

        def packets_of(size):
            seen = quic(f"{OURS}:{UDP_PORT}", *memif_client(box.work), "--streams", 4, "--requests", size * count, "--spin")["packets"]
            return seen["in"] + seen["out"]

        def tokens_of(size):
            return quic(f"{OURS}:{UDP_PORT}", *memif_client(box.work), "--data", chat(size * length), path="/v1/chat/completions")["gaps"]["events"]

        ask = {"packets": packets_of, "tokens": tokens_of}
        watch = Calls(box.bypass.pid, box.work)
        time.sleep(1)
        idle_calls, seconds = watch.close()

        def measure(do, size):
            """Beyond what a door does that has nothing to do: (what was moved, calls, allocations)"""
            before, watch = allocations(counts), Calls(box.bypass.pid, box.work)
            moved = do(size)
            called, lasted = watch.close()
            return moved, called - idle_calls / seconds * lasted, allocations(counts) - before

        for name, do in ask.items():
            do(1)
            few, many = measure(do, 1), measure(do, 5)  # both shake hands once
            moved, called, allocated = (b - a for a, b in zip(few, many))
            say("calls", f"{moved:.0f} more {name}: {called:.0f} more calls, {called / moved:.4f} for each (none); {allocated} more allocations, {allocated / moved:.4f} for each")


def resident_mib(pid):
    with open(f"/proc/{pid}/status") as file:
        return sum(int(kib) for kib in re.findall(r"(?:VmRSS|HugetlbPages):\s+(\d+)", file.read())) / 1024


def idle(net, count):
    net.link()
    with Bench() as box:
        box.start_bypass(DEVICES["af_xdp"], "--connections", str(count + 8), "--connections-per-address", "0", listen=[f"{OURS}/24:{UDP_PORT}"])
        empty = resident_mib(box.bypass.pid)
        client = subprocess.Popen(quic_words(f"{OURS}:{UDP_PORT}", "--connections", count, "--timeout", 100, "--hold", 100), stdout=subprocess.PIPE, text=True)
        said = ""
        for line in client.stdout:
            if line == "held\n":
                break
            said += line
        full, open_now = resident_mib(box.bypass.pid), figures(said)["connections"]["open"]
        client.kill()
        client.wait()
        client.stdout.close()
    say("idle", f"{open_now:.0f} connections: {full:.0f} MiB, {1024 * (full - empty) / max(1, open_now):.1f} KiB each beside {empty:.0f} MiB (at most 400 MiB)")


def said_by_streams(count, length):
    """What the streams said, one text a stream."""
    done = subprocess.run(quic_words(f"{OURS}:{UDP_PORT}", "--connections", count, "--data", chat(length), "--timeout", 100, "--show", path="/v1/chat/completions"),
                          capture_output=True, text=True)
    texts = []
    for answer in done.stdout.split(":status: ")[1:]:
        events = re.findall(r"^data: ({.*})$", answer, re.M)
        deltas = [choice["delta"].get("content") or "" for event in events for choice in json.loads(event)["choices"]]
        texts.append("".join(deltas) if "data: [DONE]" in answer else "not whole")
    return texts, len(re.findall(r"^data: {", done.stdout, re.M))


def loss(net, model, count, length):
    net.link(bridged=True)
    with Bench(model, engine=["--threads", "1", "--sequences", str(count)]) as box:
        box.start_bypass(DEVICES["af_xdp"], listen=[f"{OURS}/24:{UDP_PORT}"])
        wait_for_engine(box)
        whole, _ = said_by_streams(count, length)
        before = net.bridge.set(loss=0.05)["lost"]
        texts, events = said_by_streams(count, length)
        lost = net.bridge.counts()["lost"] - before
        box.stop_bypass()
    wrong = sum(text not in whole or text == "not whole" for text in texts) + count - len(texts)
    say("loss", f"{lost} packets lost; of {count} streams with {events} events {wrong} say something else than without loss (0)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--quick", action="store_true", help="small: whether it still runs")
    parser.add_argument("--model", default=TINY)
    o = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        skip("two CPUs are wanted")
    needs("dataplane/bypass/tessera-bypass", "tests/quic/quic_client", "tests/bench/ask_tls")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    weigh()
    rounds = 1 if o.quick else int(os.environ.get("ROUNDS", "5"))
    small = 1 if o.quick else int(os.environ.get("COUNT", "10"))
    cases = {
        "requests": lambda net: requests(net, rounds, 500 * small),
        "tokens": lambda net: tokens(net, o.model, 3 * rounds if rounds > 1 else 1, 20 * small, [1] if o.quick else [int(n) for n in os.environ.get("STREAMS", "1 4").split()]),
        "packets": lambda net: packets(net, rounds, 0.2 * small),
        "calls": lambda net: calls(net, o.model, 500 * small, 20 * small),
        "idle": lambda net: idle(net, 500 * small),
        "loss": lambda net: loss(net, o.model, 8, 20 * small),
    }
    for case in o.cases or cases:
        with Net() as net, alone_on(1):
            cases[case](net)


if __name__ == "__main__":
    main()
