"""How late tokens are while the second door is flooded, kind by kind (bypass/flood.c).

    bench_flood.py [--quick] [--device socket|af_packet|af_xdp] [--rate N] [--rounds N] [KIND...]

Placement *door*: the engine's worker, the client that streams and the attacker on CPU 0, the door polls alone on CPU 1. In
the quiet run the same attacker sends to a port where nobody listens. Attackers keep their CPU busy while they wait to send:
else one whom the door answers would take more of it from the engine than one whom nobody answers. Runs alternate; a line a
kind gives the medians of both gaps between tokens (p99), their ratio, and the limit: 1.5; then how long the door took over a
token (p99), from its publication until the device had it: the gaps are mostly those of a CPU that engine and attacker share.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bypass"))
from net import BUILD, DEVICES, KEY, OURS, PEER, SERVER, UDP_PORT, Doors, Net, needs, run  # noqa: E402
from bench_bypass import metrics  # noqa: E402
from bench_door import buckets, quantile  # noqa: E402
from box import skip  # noqa: E402
from witness import CHAT, CLIENT, ask, serves  # noqa: E402

KINDS = ["garbage", "short", "hellos", "broken-hellos", "half-hellos", "tokens", "echoes", "neighbours", "pings", "moves", "challenges", "new-ids",
         "small-data", "holes", "settings", "pages", "resets", "slow-readers", "slow-heads"]
LIMIT = 1.5
CLOSED_PORT = 4444
net = Net()


def pin(cpu, pid):
    run("taskset", "-a", "-c", "-p", str(cpu), str(pid))


def stream(tokens):
    """p50 and p99 of the gaps between tokens, in microseconds."""
    done = run("taskset", "-c", "0", CLIENT, "--header", f"authorization: Bearer {KEY}", "--timeout", "120",
               "--data", ask(tokens), f"https://{OURS}:{UDP_PORT}{CHAT}")
    p50, p99 = re.search(r"^gaps events=\d+ p50=(\S+) p99=(\S+)", done.stdout, re.M).groups()
    return float(p50), float(p99)


def door_tokens():
    return buckets(metrics(f"{OURS}:{UDP_PORT}"), "tessera:door_token_seconds", 'woken="no"')


def flooded(kind, options, closed):
    """The same while the attacker is at work, and the p99 of the door's own part."""
    arguments = ["--server", f"{OURS}:{CLOSED_PORT if closed else UDP_PORT}", *(["--closed"] if closed else [])]
    attacker = subprocess.Popen(["taskset", "-c", "0", os.path.join(BUILD, "tests/bypass/flood"), "--device", "v1", "--macs", net.macs().hex(), "--from", "10.99",
                                 "--seconds", "600", "--busy", "--rate", str(options.rate), *arguments, kind], stdout=subprocess.DEVNULL)
    try:
        before = door_tokens()
        p50, p99 = stream(options.tokens)
        return p50, p99, quantile(before, door_tokens(), 0.99)
    finally:
        attacker.kill()
        attacker.wait()


def measure(kind, options):
    figures = {True: [], False: []}
    for _ in range(options.rounds):
        for closed in (True, False):
            figures[closed].append(flooded(kind, options, closed))
    quiet, flood = ([statistics.median(run[at] for run in figures[closed]) for at in range(3)] for closed in (True, False))
    ratio = flood[1] / quiet[1]
    print(f"{options.device} {kind:14} {options.rate} packets/s: gap p50 {quiet[0]:.0f} us quiet, {flood[0]:.0f} flooded; "
          f"p99 {quiet[1]:.0f}, {flood[1]:.0f}: {ratio:.2f} (limit {LIMIT}); the door's part {quiet[2]:.0f}, {flood[2]:.0f}", flush=True)
    return ratio


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="af_packet", choices=DEVICES)
    parser.add_argument("--rate", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("kinds", nargs="*", default=KINDS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.tokens, options.kinds, options.rate = 1, 30, ["hellos", "resets"], 1000
    needs("dataplane/bypass/tessera-bypass", "tests/quic/quic_client")
    if os.cpu_count() < 2:
        skip("needs two CPUs")
    with net, Doors(engine=["--threads", "1"]) as doors:
        net.link(ours=options.device != "af_packet")
        run("ip", "-n", SERVER, "route", "add", "10.99.0.0/16", "via", PEER, "dev", "v0", check=False)
        doors.start_bypass(DEVICES[options.device], "--spin", "--handshake-seconds", "4", "--idle-seconds", "10")
        pin(0, doors.engines[0].pid)
        pin(1, doors.bypass.pid)
        doors.wait(serves, "the door is not ready")
        stream(options.tokens)
        ratios = [measure(kind, options) for kind in options.kinds]
        doors.stop_bypass()
        doors.stop()
    print(f"worst {max(ratios):.2f}, of {len(ratios)} kinds {sum(ratio <= LIMIT for ratio in ratios)} within {LIMIT}")


main()
