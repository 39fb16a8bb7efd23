"""What may happen to the second door while it is under load: an engine dies, the certificate changes or breaks, the link goes
and comes, the door is told to end, or dies. Who is served by another engine loses no token; everyone else gets a clear
error, or an answer; nothing hangs and nothing is left.

As door/test_chaos.py does it for the first door. Clients are tests/quic's.
"""
import re
import signal
import sys
import time

from net import DEVICES, SERVER, Doors, Net, needs, patience, run
from box import TINY
from witness import CHAT, ask, client, door_figures, process_figures, said, serves, texts

TOKENS = 60
net = Net()


def models():
    return re.findall(r'"id":\s*"([^"]+)"', said(client(path="/v1/models")))


def settled(doors):
    """What the door and the engine that stays have, when nobody but who asks is there."""
    doors.wait(lambda: door_figures(doors.bypass.pid)["connections"] <= 1, "connections are left")
    return {"door": door_figures(doors.bypass.pid), "engine": process_figures(doors.engines[1].pid)}


def under_load(names, right, change, requests=3):
    """While change() happens two clients ask the engine that stays, and two the other one. Returns what the latter said."""
    stays = [client("--requests", str(requests), "--data", ask(TOKENS, names[1]), path=CHAT) for _ in range(2)]
    other = [client("--requests", str(requests), "--data", ask(200, names[0]), path=CHAT) for _ in range(2)]
    time.sleep(0.3)
    change()
    for one in stays:
        assert texts(said(one)) == [right] * requests, "a token was lost"
    return [(one.communicate()[0], one.returncode) for one in other]


def engine_dies(doors, names, right):
    for text, code in under_load(names, right, lambda: doors.kill_engine(0)):
        assert code == 0 or "error" in text or re.search(r"^:status: 5\d\d$", text, re.M), text[-600:]
    doors.start_engine(0)
    doors.wait(lambda: client("--data", ask(1, names[0]), path=CHAT).wait() == 0, "the engine that was killed is not back")


def certificate_changes(doors, names, right):
    def change():
        doors.make_certificate()
        doors.bypass.send_signal(signal.SIGHUP)
        assert serves()
        with open(doors.certificate, "w") as file:
            file.write("no certificate\n")
        before = doors.bypass_errors().count("stays as it was")
        doors.bypass.send_signal(signal.SIGHUP)
        doors.wait(lambda: doors.bypass_errors().count("stays as it was") > before, "nobody is told of a broken certificate")
        assert serves()
        doors.make_certificate()
        doors.bypass.send_signal(signal.SIGHUP)
        assert serves()
    for text, code in under_load(names, right, change):
        assert code == 0, text[-600:]


def link_goes_and_comes(doors, names, right):
    def change():
        run("ip", "-n", SERVER, "link", "set", "v0", "down")
        time.sleep(0.5)
        run("ip", "-n", SERVER, "link", "set", "v0", "up")
        if net.ours:
            net.address()
    for text, code in under_load(names, right, change, requests=2):
        assert code == 0, text[-600:]
    doors.wait(serves, "nobody is served since the link has come back")


def door_is_told_to_end(doors, names, right):
    asks = [client("--data", ask(TOKENS, names[1]), path=CHAT) for _ in range(3)]
    time.sleep(0.3)
    doors.bypass.terminate()
    for one in asks:
        assert texts(said(one)) == [right], "an answer under way was not ended"
    assert doors.bypass.wait(patience(30)) == 0, doors.bypass_errors()[-2000:]
    doors.bypass.stdout.close()


def door_dies(doors, names, start):
    asks = [client("--data", ask(2000, names[1]), path=CHAT, seconds=40) for _ in range(3)]
    time.sleep(0.5)
    doors.stop_bypass("kill")
    start()
    for one in asks:
        text = one.communicate()[0]
        assert one.returncode == 1 and "a connection has ended" in text, f"{one.returncode}: {text[-600:]}"


def try_device(doors, device):
    net.ours = device != "af_packet"
    net.link(ours=net.ours)

    def start():
        doors.start_bypass(DEVICES[device], "--idle-seconds", "5", "--drain-seconds", "20")
        doors.wait(lambda: serves() and len(models()) == 2, "not both engines are there")
    start()
    names = models()
    right = texts(said(client("--data", ask(TOKENS, names[1]), path=CHAT)))[0]
    assert len(right) > 20, right
    after = []
    for _ in range(2):
        for happens in (engine_dies, certificate_changes, link_goes_and_comes):
            happens(doors, names, right)
        after.append(settled(doors))
    first, second = after
    print(device, *({who: (one["KiB"], one["descriptors"]) for who, one in found.items()} for found in after), flush=True)
    for who, one in second.items():
        assert one["descriptors"] == first[who]["descriptors"], f"{who}: descriptors are left"
        assert one["KiB"] <= first[who]["KiB"] * 1.02 + 1024, f"{who}: memory grew"
    assert second["door"]["memory_bytes"] < 1 << 20, "memory of connections is left"
    door_is_told_to_end(doors, names, right)
    start()
    door_dies(doors, names, start)
    assert texts(said(client("--data", ask(TOKENS, names[1]), path=CHAT))) == [right]
    doors.stop_bypass()


def main():
    needs("dataplane/bypass/tessera-bypass", "dataplane/uring/tessera-dataplane", "tests/quic/quic_client")
    with net, Doors(models=(TINY, TINY)) as doors:
        for device in sys.argv[1:] or ("socket", "af_packet"):
            try_device(doors, device)
        doors.stop()


main()
