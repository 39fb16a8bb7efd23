"""tessera-bypass as a program on devices: several queues, what it may after its start, and links to a process beside it."""
import mmap
import os
import re
import signal
import struct
import subprocess
import sys
import threading

from net import BUILD, BYPASS, DATAPLANE, KEY, OURS, OURS6, SERVER, UDP_PORT, Doors, Net, kinds, needs, patience, run, run_tests, skip

QUIC = os.path.join(BUILD, "tests/quic/quic_client")
COUNT_MALLOC = os.path.join(BUILD, "tests/integration/libcount_malloc.so")
CHAT = '{"messages":[{"role":"user","content":"list files"}],"max_tokens":64,"stream":true,"temperature":0,"ignore_eos":true}'
LONG = CHAT.replace('64', '400')
QUEUES = {"socket": None, "af_packet": "net_af_packet0,iface=v0,qpairs=2"}
net = Net()


def ask(path, *options, address=OURS):
    where = f"[{address}]" if ":" in address else address
    done = subprocess.run([QUIC, "--timeout", str(round(patience(150))), "--header", f"authorization: Bearer {KEY}", *options, f"https://{where}:{UDP_PORT}{path}"],
                          capture_output=True, text=True, timeout=patience(200))
    return done.returncode, done.stdout + done.stderr


def get(path, *options, **where):
    code, said = ask(path, *options, **where)
    assert code == 0, (path, options, said[-800:])
    return said


def metric(name, labels="", **where):
    found = re.search(rf"^{re.escape(name + labels)} (\d+)", get("/metrics", "--show", **where), re.M)
    return int(found[1])


def until_ready(options=()):
    Doors.wait(lambda: ask("/ready", *options)[0] == 0, "the door has no engine")


def threads():
    """(name, status) of each thread of the door."""
    folder = f"/proc/{doors.bypass.pid}/task"
    for thread in os.listdir(folder):
        with open(f"{folder}/{thread}/status") as file:
            text = file.read()
        yield re.search(r"Name:\t(.*)", text)[1], text


def nobody_has_rights():
    sandboxed = not os.environ.get("TESSERA_SANITIZE")
    names = []
    for name, status in threads():
        names.append(name)
        assert "CapEff:\t0000000000000000" in status and "CapPrm:\t0000000000000000" in status and "NoNewPrivs:\t1" in status, status
        assert not sandboxed or "Seccomp:\t2" in status, status
        assert re.search(r"Uid:\t[1-9]", status), status
    return names


def moves_between_queues():
    """Until a client that changed its port has come to the other queue: every second one should."""
    for _ in range(40):
        done = run("gtlsclient", "--exit-on-all-streams-close", "--no-quic-dump", "--change-local-addr=20ms", "--delay-stream=60ms",
                   OURS, str(UDP_PORT), f"https://localhost:{UDP_PORT}/health")
        assert ":status: 200" in done.stdout + done.stderr, done.stdout[-600:]
        if metric("tessera:door_handed_over_total", '{result="taken"}'):
            return
    raise AssertionError("no datagram was handed over")


def test_queues_serve_as_one():
    if run("which", "gtlsclient", check=False).returncode:
        skip("gtlsclient is not installed (ngtcp2-client)")
    for kind in [kind for kind in QUEUES if kind in kinds()]:
        net.link(ours=kind == "socket")
        doors.start_bypass(QUEUES[kind], "--queues", "2")
        until_ready()
        assert {"queue1", "tessera-bypass"} <= set(nobody_has_rights())
        before = metric("tessera:door_connections_total")
        get("/health", "--connections", "40")
        get("/health", "--connections", "10", address=OURS6)
        assert metric("tessera:door_connections_total") == before + 51, "one of the queues is not counted"
        assert "good=40" in get("/v1/chat/completions", "--connections", "8", "--requests", "5", "--data", CHAT)
        moves_between_queues()
        assert metric("tessera:door_handed_over_total", '{result="lost"}') == 0
        reloads_and_drains()


def running():
    return sum(int(n) for n in re.findall(r"^tessera:num_requests_(?:running|waiting)\{.*\} (\d+)", get("/metrics", "--show"), re.M))


def reloads_and_drains():
    """Answers of all queues that are under way are whole before the door ends."""
    doors.make_certificate()
    doors.bypass.send_signal(signal.SIGHUP)
    Doors.wait(lambda: "have been read again" in doors.bypass_errors(), "keys and certificates were not read again")
    said = []
    asks = threading.Thread(target=lambda: said.extend(ask("/v1/chat/completions", "--connections", "6", "--data", LONG)))
    asks.start()
    Doors.wait(lambda: running() == 6 or not asks.is_alive(), "the streams did not begin")
    doors.stop_bypass()
    asks.join()
    assert said[0] == 0 and "good=6" in said[1], said


# ---- Links to a process beside ----

def link_of(folder):
    """What the door and the client say of the same link."""
    path = os.path.join(folder, "memif.sock")
    both = f"socket={path},socket-abstract=no"
    return path, f"net_memif0,role=server,{both}", ["--device", f"net_memif0,role=client,{both}", "--local", "10.77.0.2/24:40000"]


def link_folder(name):
    folder = os.path.join(doors.work, name)
    os.makedirs(folder, mode=0o750, exist_ok=True)
    doors.own(folder)
    return folder


def test_link_is_there_again_after_a_death():
    path, server, client = link_of(link_folder("link"))
    for how in ("kill", "terminate"):
        doors.start_bypass(server)
        folder, file = os.stat(os.path.dirname(path)), os.stat(path)
        assert file.st_mode & 0o777 == 0o660 and file.st_gid == folder.st_gid and file.st_uid == folder.st_uid, file
        for _ in range(2):  # the client goes, and another comes
            get("/health", *client)
        nobody_has_rights()
        doors.stop_bypass(how)
        assert os.path.exists(path) == (how == "kill")


# What is done several times a second: signals, whose CPUs are whose, the interface, certificates, keys, whether the engine is there.
BY_TIME = {"read", "sched_getaffinity", "newfstatat", "stat", "ioctl", "recvmsg"}
REQUESTS = 10


def calls_during(act):
    """How many calls the door makes, as strace counts them, but for those that come with time."""
    out = os.path.join(doors.work, "strace")
    trace = subprocess.Popen(["strace", "-c", "-f", "-o", out, "-p", str(doors.bypass.pid)], stderr=subprocess.PIPE, text=True)
    while "attached" not in trace.stderr.readline():
        assert trace.poll() is None, "strace cannot attach"
    act()
    trace.send_signal(signal.SIGINT)
    trace.wait(patience(30))
    trace.stderr.close()
    with open(out) as file:
        rows = [line.split() for line in file if re.match(r" *\d+\.\d+ ", line)]
    return {row[-1]: int(row[3]) for row in rows if row[-1] not in BY_TIME | {"total"}}


def test_link_needs_no_calls_and_no_memory():
    """Where all poll, what the door calls and allocates does not grow with packets and tokens."""
    if os.environ.get("TESSERA_SANITIZE") or not os.path.exists(COUNT_MALLOC):
        skip("sanitizers call and allocate by themselves")
    if run("which", "strace", check=False).returncode or len(os.sched_getaffinity(0)) < 2:
        skip("strace is not installed, or there is one CPU alone")
    path, server, client = link_of(link_folder("quiet"))
    cpu = str(sorted(os.sched_getaffinity(0))[1])
    with open(os.path.join(doors.work, "counts"), "w+b") as file:
        file.truncate(mmap.PAGESIZE)
        counts = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        usual, doors.prefix = doors.prefix, doors.prefix + ["env", f"LD_PRELOAD={COUNT_MALLOC}", f"TESSERA_TEST_COUNTS={file.name}"]
        try:
            doors.start_bypass(server, "--idle", "spin", "--cpus", cpu)
        finally:
            doors.prefix = usual
    until_ready(client)
    used = {}
    for tokens in (64, 8, 64):  # the first is the warm-up
        before = struct.unpack("Q", counts[:8])[0]
        chat = CHAT.replace("64", str(tokens))
        calls = calls_during(lambda: get("/v1/chat/completions", *client, "--requests", str(REQUESTS), "--data", chat))
        used[tokens] = sum(calls.values()), struct.unpack("Q", counts[:8])[0] - before, calls
    more = REQUESTS * (64 - 8)
    assert used[64][0] - used[8][0] < more / 10 and used[64][1] - used[8][1] < more / 10, used
    doors.stop_bypass()


if __name__ == "__main__":
    needs(BYPASS, DATAPLANE, "tests/quic/quic_client")
    with net:
        with Doors(engine=["--threads", "1", "--cpus", str(min(os.sched_getaffinity(0)))]) as doors:
            run_tests(globals(), sys.argv[1:])
