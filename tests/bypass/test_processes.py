"""A process of this machine asks over HTTP/3 on links without the kernel: memif, and virtio-user with vhost;
and the door on a tap, and on huge pages; an idle door asleep."""
import contextlib
import json
import os
import subprocess
import sys
import time

from net import BUILD, BYPASS, DATAPLANE, DEVICES, KEY, OURS, OURS6, PEER, PEER6, SERVER, UDP_PORT, Doors, Net, kinds, needs, patience, run, run_tests, skip

net = Net()
CLIENT_PROGRAM = "tests/quic/quic_client"
CHAT = json.dumps({"messages": [{"role": "user", "content": "list files"}], "max_tokens": 40, "ignore_eos": True, "stream": True})


def attempt(link, path, *options, v6=False, prefix=()):
    """quic_client, when it has ended. link: its options for a device."""
    if link:
        link = [*link, "--local", (f"[{PEER6}/64]" if v6 else f"{PEER}/24") + ":9000"]
    return subprocess.run([*prefix, os.path.join(BUILD, CLIENT_PROGRAM), *link, "--timeout", str(round(patience(100))), "--header", f"authorization: Bearer {KEY}", *options,
                           f"https://{f'[{OURS6}]' if v6 else OURS}:{UDP_PORT}{path}"], capture_output=True, text=True, timeout=patience(120))


def client(link, path, *options, **more):
    """What quic_client printed."""
    done = attempt(link, path, *options, **more)
    assert done.returncode == 0, (link, done.stdout[-600:], done.stderr[-600:])
    return done.stdout


def asks(link, **more):
    """Several connections by both families, and text as a stream. Each is a process of its own, which the door must take back."""
    for v6 in (False, True):
        client(link, "/health", "--connections", "8", "--requests", "10", "--streams", "4", v6=v6, **more)
    doors.wait(lambda: attempt(link, "/ready", **more).returncode == 0, "the door has no engine")
    said = client(link, "/v1/chat/completions", "--header", "content-type: application/json", "--data", CHAT, "--show", **more)
    assert "data: [DONE]" in said, said[-600:]


def try_link(ours, theirs, mtu=1500):
    doors.start_bypass(ours, "--mtu", str(mtu))
    asks(["--device", theirs, "--mtu", str(mtu)])
    doors.stop_bypass()


def test_memif():
    link = f"socket={doors.work}/link.sock,socket-abstract=no"
    for mtu in (1500, 9000):
        try_link(f"net_memif0,role=server,{link}", f"net_memif0,role=client,{link}", mtu)


def faults():
    with open(f"/proc/{doors.bypass.pid}/stat") as file:
        return int(file.read().rsplit(") ", 1)[1].split()[7])


def test_memif_faults():
    """A peer's memory is mapped when it comes: answers take no page faults."""
    link = f"socket={doors.work}/link.sock,socket-abstract=no"
    doors.start_bypass(f"net_memif0,role=server,{link}")
    theirs = ["--device", f"net_memif0,role=client,{link}"]
    few, many = [], []
    for requests, seen in ((10, few), (810, many)) * 2:
        before = faults()
        client(theirs, "/health", "--requests", str(requests))
        seen.append(faults() - before)
    assert min(many) - min(few) < 80, (few, many)
    doors.stop_bypass()


def test_vhost():
    try_link(f"net_vhost0,iface={doors.work}/link.sock", f"net_virtio_user0,path={doors.work}/link.sock")


def test_link_is_not_another_file():
    """Who may write to the folder of a link puts something else in its place as the door starts: that stays whose it is."""
    folder, victim = (os.path.join(doors.work, name) for name in ("shared", "victim"))
    path, other = (os.path.join(folder, name) for name in ("link.sock", "other"))
    os.makedirs(folder, exist_ok=True)
    with open(victim, "w"):
        pass
    os.chmod(victim, 0o600)
    os.symlink(victim, other)
    with subprocess.Popen([*doors.prefix, os.path.join(BUILD, BYPASS), "--config", "/dev/null", "--no-huge", "--user", "nobody", "--keys", doors.keys, "--tls-certificate", doors.certificate,
                           "--tls-key", doors.certificate_key, "--engine", doors.socket(), "--listen", f"{OURS}/24:{UDP_PORT}",
                           "--device", f"net_memif0,role=server,socket={path},socket-abstract=no"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as door:
        while door.poll() is None and not os.path.exists(path):
            pass
        assert os.path.exists(path), "there is no link"
        os.rename(other, path)
        time.sleep(1)
        door.terminate()
    kept = os.stat(victim)
    assert (kept.st_uid, kept.st_mode & 0o777) == (os.geteuid(), 0o600), kept


def test_tap():
    """The other end is the kernel's, in the server's namespace."""
    doors.start_bypass("net_tap0,iface=tsr0")
    for address in (f"{PEER}/24", f"{PEER6}/64"):
        run("ip", "-n", SERVER, "addr", "add", address, "dev", "tsr0", *(["nodad"] if ":" in address else []))
    asks([], prefix=["ip", "netns", "exec", SERVER])
    doors.stop_bypass()


def wakes():
    """How often the door's thread went to sleep in two seconds without a request, after an answer."""
    def count():
        with open(f"/proc/{doors.bypass.pid}/status") as file:
            return int(file.read().split("\nvoluntary_ctxt_switches:")[1].split()[0])
    time.sleep(0.5)
    before = count()
    time.sleep(2)
    return count() - before


def test_idle():
    """On a device that interrupts the door sleeps until then, else it naps; each time it wakes for a request."""
    net.link(ours=False)
    doors.start_bypass(DEVICES["af_packet"])
    client([], "/health")
    naps = wakes()
    client([], "/health")
    doors.stop_bypass()
    doors.start_bypass("net_tap0,iface=tsr0")
    run("ip", "-n", SERVER, "addr", "add", f"{PEER}/24", "dev", "tsr0")
    inside = ["ip", "netns", "exec", SERVER]
    client([], "/health", prefix=inside)
    asleep = wakes()
    client([], "/health", "--connections", "8", "--requests", "100", "--streams", "4", prefix=inside)
    doors.stop_bypass()
    print(f"  {naps} naps in two seconds, {asleep} wake-ups where the device interrupts")
    assert asleep * 10 < naps, (asleep, naps)


@contextlib.contextmanager
def huge_pages(n):
    """So many more than there are, if the machine has them."""
    def add(more):
        with open("/proc/sys/vm/nr_hugepages", "r+") as file:
            now = int(file.read())
            file.seek(0)
            file.write(str(now + more))
            file.seek(0)
            return int(file.read()) - now
    got = add(n)
    try:
        yield got == n
    finally:
        add(-got)


def test_huge_pages():
    with huge_pages(64) as enough:
        if not enough:
            print("  skipped: the machine gives no huge pages now")
            return
        net.link(ours=False)
        doors.start_bypass(DEVICES["af_packet"], no_huge=False)
        asks([])
        doors.stop_bypass()


def main():
    global doors
    needs(DATAPLANE, BYPASS, CLIENT_PROGRAM)
    if "af_xdp" not in kinds():
        skip("built without DPDK")
    with net, Doors() as doors:
        run_tests(globals(), sys.argv[1:])
        doors.stop()


main()
