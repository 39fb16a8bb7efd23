"""Links, namespaces and a box for tests of the second door.

with Net() as net: this process is the client, in a namespace of its own. net.link() makes the link to the server's
namespace afresh, v0 there and v1 here; with bridged=True net.bridge (bridge.py) lies between. Doors is a box whose
doors run in the server's namespace. Addresses are OURS and OURS6 (the server's), PEER and PEER6; the first door is
also asked at CONTROL, a second link that is always there.
"""
import contextlib
import ctypes
import hashlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "door"))
from box import BUILD, Box, patience, skip  # noqa: E402
from bridge import total  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
SERVER, CLIENT, BRIDGE = (f"tsr-{role}{os.getpid()}" for role in "scb")
OURS, OURS6, PEER, PEER6 = "10.77.0.1", "fd77::1", "10.77.0.2", "fd77::2"
CONTROL, CONTROL_PEER = "10.78.0.1", "10.78.0.2"
UDP_PORT = 4433
DATAPLANE, BYPASS = "dataplane/uring/tessera-dataplane", "dataplane/bypass/tessera-bypass"
KEY = "sk-test-of-the-second-door"
DEVICES = {"socket": None, "af_xdp": "net_af_xdp0,iface=v0", "af_packet": "net_af_packet0,iface=v0"}
libc = ctypes.CDLL(None, use_errno=True)


def run(*command, check=True):
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done


def enter(path):
    fd = os.open(path, os.O_RDONLY)
    if libc.setns(fd, 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), f"setns {path}")
    os.close(fd)


def wants_tools(*names):
    for name in names:
        if not shutil.which(name):
            skip(f"{name} is not installed")


class Bridge:
    """bridge.py as a process. Rules and counts are those of its RULES and counts."""

    def __init__(self, seed):
        self.process = subprocess.Popen(["ip", "netns", "exec", BRIDGE, sys.executable, os.path.join(HERE, "bridge.py"), str(seed), "b0", "b1"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.set()  # it forwards now

    def set(self, **rules):
        """Changes these rules, the others stay. Returns the counts so far."""
        self.process.stdin.write(json.dumps(rules) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def counts(self):
        return self.set()

    def close(self):
        self.process.stdin.close()
        self.process.wait(patience(10))
        self.process.stdout.close()


class Net:
    def __init__(self):
        self.bridge = None

    def __enter__(self):
        if os.geteuid() != 0:
            skip("needs root, to make network namespaces")
        wants_tools("ip", "ethtool", "sysctl")
        if run("ip", "netns", "add", SERVER, check=False).returncode:
            skip("network namespaces cannot be made here")
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left behind
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _make(self):
        for namespace in (CLIENT, BRIDGE):
            run("ip", "netns", "add", namespace)
        for namespace in (SERVER, CLIENT):
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "netns", "exec", BRIDGE, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        self._pair(SERVER, "c0", CLIENT, "c1", 1500)
        run("ip", "-n", SERVER, "addr", "add", CONTROL + "/24", "dev", "c0")
        run("ip", "-n", CLIENT, "addr", "add", CONTROL_PEER + "/24", "dev", "c1")
        enter(f"/run/netns/{CLIENT}")

    def __exit__(self, *_):
        libc.setns(self.home, 0x40000000)
        os.close(self.home)
        if self.bridge:
            self.bridge.close()
        for namespace in (SERVER, CLIENT, BRIDGE):
            run("ip", "netns", "del", namespace, check=False)

    @staticmethod
    def _pair(namespace, link, to_namespace, to_link, mtu, queues=1):
        numbers = ["mtu", str(mtu), "numrxqueues", str(queues), "numtxqueues", str(queues)]
        run("ip", "-n", namespace, "link", "add", link, *numbers, "type", "veth", "peer", "name", to_link, *numbers, "netns", to_namespace)
        for where, name in ((namespace, link), (to_namespace, to_link)):
            run("ip", "-n", where, "link", "set", name, "up")
            # what a wire does: whole packets with their checksums and tags
            run("ip", "netns", "exec", where, "ethtool", "-K", name, "tx", "off", "gso", "off", "tso", "off", "gro", "off", "txvlan", "off", "rxvlan", "off")

    def unlink(self):
        if self.bridge:
            self.bridge.close()
            self.bridge = None
        run("ip", "-n", SERVER, "link", "del", "v0", check=False)
        run("ip", "-n", CLIENT, "link", "del", "v1", check=False)

    def link(self, mtu=1500, ours=True, bridged=False, seed=1, queues=1):
        """Fresh; ours: the kernel of the server's side has the addresses as well."""
        self.unlink()
        if bridged:
            self._pair(SERVER, "v0", BRIDGE, "b0", mtu, queues)
            self._pair(CLIENT, "v1", BRIDGE, "b1", mtu, queues)
            self.bridge = Bridge(seed)
        else:
            self._pair(SERVER, "v0", CLIENT, "v1", mtu, queues)
        self.ours = ours
        self.address()

    def address(self):
        """Again after a link was down, as IPv6's are then gone."""
        for namespace, link, addresses in ((CLIENT, "v1", (PEER, PEER6)), (SERVER, "v0", (OURS, OURS6) if self.ours else ())):
            for address, bits in zip(addresses, ("/24", "/64")):
                run("ip", "-n", namespace, "addr", "replace", address + bits, "dev", link, *(["nodad"] if ":" in address else []))

    @staticmethod
    def mac(namespace, link):
        return run("ip", "-n", namespace, "-o", "link", "show", link).stdout.split("link/ether ")[1].split()[0]

    def macs(self):
        """Of an Ethernet header from the client to the server."""
        return bytes.fromhex((self.mac(SERVER, "v0") + self.mac(CLIENT, "v1")).replace(":", ""))


class Doors(Box):
    """An engine and tessera-dataplane; start_bypass() adds tessera-bypass, again and again with other devices.

    The programs' certificate is self.certificate, made for OURS, OURS6 and localhost; all ask with KEY."""

    def __init__(self, listen=(CONTROL + ":0",), **options):
        wants_tools("openssl")
        line = f"test sha256:{hashlib.sha256(KEY.encode()).hexdigest()}\n"
        super().__init__(listen=listen, keys=line, headers={"authorization": "Bearer " + KEY},
                         prefix=["ip", "netns", "exec", SERVER], **options)
        self.bypass = None
        self.certificate, self.certificate_key = os.path.join(self.work, "cert.pem"), os.path.join(self.work, "key.pem")
        self.make_certificate()

    def make_certificate(self):
        """Also in place of the one that is there."""
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=tessera",
            "-addext", f"subjectAltName=DNS:localhost,IP:{OURS},IP:{OURS6}", "-keyout", self.certificate_key, "-out", self.certificate)
        self.own(self.certificate_key)

    def start_bypass(self, device=None, *options, listen=None, no_huge=True):
        """device: as --device, None is the kernel's socket. Returns what it printed."""
        prefixes = ("/24", "/64") if device else ("", "")
        listen = listen or (f"{OURS}{prefixes[0]}:{UDP_PORT}", f"[{OURS6}{prefixes[1]}]:{UDP_PORT}")
        arguments = ["--config", "/dev/null", "--keys", self.keys, "--tls-certificate", self.certificate, "--tls-key", self.certificate_key]
        arguments += [word for index in range(len(self.models)) for word in ("--engine", self.socket(index))]
        arguments += [word for address in listen for word in ("--listen", address)]
        arguments += ["--device", device, *(["--no-huge"] if no_huge else [])] if device else []
        self.bypass = self._start(BYPASS, arguments + list(options), r"^ready", self.prefix)
        return self.bypass.said

    @contextlib.contextmanager
    def serving(self, net, kind, *options, **link):
        """tessera-bypass on a fresh link, by a port of this kind of DEVICES."""
        net.link(ours=kind != "af_packet", **link)
        self.start_bypass(DEVICES[kind], *options)
        yield
        self.stop_bypass()

    def bypass_errors(self):
        """All that any tessera-bypass of this box said on stderr."""
        with open(os.path.join(self.work, "tessera-bypass.err")) as file:
            return file.read()

    def stop_bypass(self, how="terminate"):
        getattr(self.bypass, how)()
        code = self.bypass.wait(patience(60))
        self.bypass.stdout.close()
        self.bypass = None
        if how == "terminate" and code != 0:
            raise RuntimeError(f"tessera-bypass ended with {code}: {self.bypass_errors()[-2000:]}")

    def __exit__(self, *_):
        if self.bypass and self.bypass.poll() is None:
            self.bypass.kill()
            self.bypass.wait()
        super().__exit__()


def needs(*programs):
    """Skips where one of the build's programs is missing."""
    for program in programs:
        if not os.path.exists(os.path.join(BUILD, program)):
            skip(f"{os.path.basename(program)} was not built: its libraries are missing")


def kinds():
    """Of DEVICES those that this build has."""
    said = run(os.path.join(BUILD, BYPASS), "--config", "/dev/null", "--tls-certificate", "x", "--tls-key", "x", "--keys", "x", "--no-huge",
               "--device", "net_none0", "--listen", f"{OURS}:1", check=False).stderr
    return ["socket"] if "without DPDK" in said else list(DEVICES)


def run_tests(names, chosen):
    """Functions called test_...: those chosen, else all."""
    for name in chosen or [name for name in names if name.startswith("test_")]:
        began = time.monotonic()
        names[name]()
        print(f"{name} ok ({time.monotonic() - began:.1f} s)", flush=True)


# ---- Answers ----

def read_events(body):
    """(text, usage) of a chat's stream; wants each event whole, one reason to finish, and [DONE] last."""
    *events, done, nothing = body.decode().split("\n\n")
    assert (done, nothing) == ("data: [DONE]", ""), body[-200:]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert len([choice for choice in choices if choice["finish_reason"]]) == 1, choices
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    return text, [chunk["usage"] for chunk in chunks if chunk.get("usage")][-1]


# ---- The kernel's services ----

def dial(address, port=UDP_PORT):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(patience(0.5))
    s.connect((address, port))
    return s


def ask(s, message, answer=None):
    """Again where nothing comes in time: the machine is shared. So a late answer to an earlier question may come first."""
    for _ in range(40):
        try:
            s.send(message)
            while True:
                came = s.recv(65536)
                if answer in (None, came):
                    return came
        except (TimeoutError, ConnectionRefusedError):
            time.sleep(0.05)
    raise AssertionError(f"no answer to {len(message)} bytes")


def ping(address):
    v6 = ":" in address
    with socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW,
                       socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP) as s:
        s.settimeout(patience(0.5))
        for number in range(20):
            rest = struct.pack("!HH", 77, number) + os.urandom(56)
            head = struct.pack("!BBH", 128 if v6 else 8, 0, 0)
            if not v6:
                head = struct.pack("!BBH", 8, 0, total(head + rest))
            s.sendto(head + rest, (address, 0))
            end = time.monotonic() + patience(0.5)
            while time.monotonic() < end:
                try:
                    came = s.recv(2048)
                except TimeoutError:
                    break
                if came[0 if v6 else 20] == (129 if v6 else 0) and came.endswith(rest):
                    return
    raise AssertionError(f"no echo from {address}")


class KernelServices:
    """On OURS, of the server's kernel: a TCP port and a UDP port send back what comes."""

    PROGRAM = f"""
import select, socket, sys
t = socket.create_server(("{OURS}", int(sys.argv[1])))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(("{OURS}", int(sys.argv[2])))
print("up", flush=True)
while True:
    ready = select.select([t, u], [], [])[0]
    if u in ready:
        u.sendto(*u.recvfrom(2000))
    if t in ready:
        c, _ = t.accept()
        c.sendall(c.recv(2000))
"""

    def __init__(self, tcp_port=UDP_PORT, udp_port=5000):
        self.ports = tcp_port, udp_port

    def __enter__(self):
        self.process = subprocess.Popen(["ip", "netns", "exec", SERVER, sys.executable, "-c", self.PROGRAM, *map(str, self.ports)],
                                        stdout=subprocess.PIPE, text=True)
        assert select.select([self.process.stdout], [], [], patience(60))[0] and self.process.stdout.readline() == "up\n"
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def check(self):
        ping(OURS)
        ping(OURS6)
        with socket.create_connection((OURS, self.ports[0]), patience(10)) as c, dial(OURS, self.ports[1]) as u:
            c.sendall(b"tcp")
            assert c.recv(100) == b"tcp"
            ask(u, b"other port", b"other port")
