"""Floods of all kinds (flood.c), several at once, while others stream: no token is lost, who is new gets in, drops have their causes,
and afterwards memory, descriptors and connections are where they were.

    test_floods.py [DEVICE [KIND...]]

How late tokens are meanwhile is measured by bench/bench_flood.py.
"""
import os
import re
import subprocess
import sys
import time

from net import BUILD, DEVICES, OURS, OURS6, PEER, PEER6, SERVER, UDP_PORT, Doors, Net, needs, patience, run
from witness import CHAT, ask, client, door_figures, said, serves, texts

SECONDS = int(os.environ.get("FLOOD_SECONDS", "1"))
GROUPS = int(os.environ.get("FLOOD_GROUPS", "4"))  # of kinds that attack at once
RATE = int(os.environ.get("FLOOD_RATE", "500"))  # packets a second of each kind
STATELESS = ["garbage", "short", "versions", "hellos", "broken-hellos", "half-hellos", "tokens", "forged-macs", "neighbours", "echoes"]
CONNECTED = ["pings", "moves", "challenges", "new-ids", "retired-ids", "resets", "small-data", "empty-frames", "holes", "crypto-holes",
             "settings", "streams", "pages", "slow-readers", "slow-heads", "slow-bodies"]
# Little time and room, so that all of it is used up and given back.
LIMITS = ["--handshake-seconds", "4", "--idle-seconds", "5", "--stall-seconds", "5", "--connections", "512", "--retry-from", "16"]

net = Net()


def settle(pid):
    """When all that came of a flood is over: the one connection is that which asks."""
    end = time.monotonic() + patience(30)
    while (now := door_figures(pid))["connections"] > 1 or now["handshakes_open"]:
        assert time.monotonic() < end, f"connections are left: {now}"
        time.sleep(0.2)
    return now


def attack(kinds):
    """One process a kind; half of what goes without connections comes by IPv6."""
    attackers = []
    for kind in kinds:
        for server, prefix in ((OURS, "10.99"), (f"[{OURS6}]", "fd99::")) if kind in STATELESS else ((OURS, "10.99"),):
            attackers.append(subprocess.Popen(
                [os.path.join(BUILD, "tests/bypass/flood"), "--device", "v1", "--macs", net.macs().hex(), "--server", f"{server}:{UDP_PORT}",
                 "--from", prefix, "--seconds", str(SECONDS), "--rate", str(RATE), "--connections", "16", kind], stdout=subprocess.PIPE, text=True))
    return attackers


def storm(doors, kinds, right):
    """Returns how many packets were sent of each kind."""
    witnesses = [client("--requests", "2", "--data", ask(60), address=address, path=CHAT) for address in (OURS, OURS6)]
    time.sleep(0.2)  # they are there when it begins
    attackers = attack(kinds)
    newcomers = 0
    while any(attacker.poll() is None for attacker in attackers):
        doors.wait(lambda: serves("/health", 10), "nobody new gets in", 60)
        newcomers += 1
    for witness in witnesses:
        assert texts(said(witness)) == [right] * 2, "a token was lost"
    sent = {}
    for attacker in attackers:
        line = attacker.communicate()[0]
        assert attacker.returncode == 0, attacker.args
        kind, packets, established = re.match(r"kind=(\S+) sent=(\d+) established=(\d+)", line).groups()
        assert int(packets) > 0 and (kind in STATELESS or int(established) > 0), line
        sent[kind] = sent.get(kind, 0) + int(packets)
    assert newcomers > 0
    assert doors.bypass.poll() is None, doors.bypass_errors()[-2000:]
    return sent, newcomers


def try_device(doors, device, kinds):
    net.link(ours=device != "af_packet")
    # answers to the attackers' addresses come back to them
    run("ip", "-n", SERVER, "route", "add", "10.99.0.0/16", "via", PEER, "dev", "v0", check=device != "af_packet")
    run("ip", "-n", SERVER, "-6", "route", "add", "fd99::/64", "via", PEER6, "dev", "v0", check=device != "af_packet")
    doors.start_bypass(DEVICES[device], *LIMITS)
    pid = doors.bypass.pid
    doors.wait(serves, "the door is not ready")
    right = texts(said(client("--data", ask(60), path=CHAT)))[0]
    assert len(right) > 20, right
    after = []
    for _ in range(2):
        sent, newcomers = {}, 0
        for some in range(GROUPS):
            packets, came = storm(doors, kinds[some::GROUPS], right) if kinds[some::GROUPS] else ({}, 0)
            sent, newcomers = sent | packets, newcomers + came
        after.append(settle(pid))
        print(f"{device}: {sum(sent.values())} packets of {len(sent)} kinds; {newcomers} newcomers got in; {after[-1]['KiB']} KiB", flush=True)
    check(*after, kinds)
    doors.stop_bypass()


def check(first, second, kinds):
    assert second["descriptors"] == first["descriptors"], "descriptors are left"
    assert second["KiB"] <= first["KiB"] * 1.05 + 1024, f"memory grew: {first['KiB']} to {second['KiB']} KiB"
    assert second["memory_bytes"] <= first["memory_bytes"] + 65536, "memory of connections is left"
    causes = {name: value for name, value in second.items() if name.startswith("datagrams_dropped") and value}
    print(f"    {causes}")
    if kinds == STATELESS + CONNECTED:
        for cause in ("malformed", "unknown", "closed"):
            assert second[f'datagrams_dropped_total{{cause="{cause}"}}'] > 0, f"nothing was dropped as {cause}"
        for kind in ("retry", "version", "reset", "refused"):
            assert second[f'stateless_total{{kind="{kind}"}}'] > 0, f"nothing was answered by {kind}"
        assert second["excessive_total"] > 0 and second['closed_total{of="quic"}'] > 0


def main():
    needs("dataplane/bypass/tessera-bypass", "dataplane/uring/tessera-dataplane", "tests/quic/quic_client")
    with net, Doors() as doors:
        for device in sys.argv[1:2] or ("socket", "af_packet"):
            try_device(doors, device, sys.argv[2:] or STATELESS + CONNECTED)
        doors.stop()


main()
