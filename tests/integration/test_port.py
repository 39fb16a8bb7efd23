"""Ports on links that this test makes: two network namespaces with veth between them, the kernel as client.

port_echo sends datagrams back through each kind of port. Exit 77: no rights, or built without DPDK.
"""
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bypass"))
from bridge import PACKET_AUXDATA, SOL_PACKET  # noqa: E402
from net import (BUILD, CLIENT, OURS, OURS6, PEER, PEER6, SERVER, UDP_PORT, KernelServices, Net, ask, dial, enter, needs, patience,  # noqa: E402
                 ping, run, run_tests, skip, total)

ECHO = os.path.join(BUILD, "tests/integration/port_echo")
SIZES = [0, 1, 2, 17, 18, 19, 63, 64, 255, 600, 1199, 1200, 1201, 1399, 1451, 1452]
work = tempfile.TemporaryDirectory()
net = Net()


class Echo:
    """One port_echo in the server's namespace."""

    def __init__(self, device, *options, listen=None, expect_failure=False):
        listen = listen or [f"{OURS}/24,{UDP_PORT}", f"{OURS6}/64,{UDP_PORT}"]
        self.log = open(os.path.join(work.name, "log"), "w+")
        self.process = subprocess.Popen(["ip", "netns", "exec", SERVER, ECHO, device, *options, *listen],
                                        stdout=subprocess.PIPE, stderr=self.log, text=True, env=dict(os.environ, DROPPED=os.path.join(work.name, "dropped")))
        ready = select.select([self.process.stdout], [], [], patience(60))[0] and self.process.stdout.readline()
        if not expect_failure and not (ready or "").startswith("ready"):
            self.stop(signal.SIGKILL)
            raise RuntimeError(f"{device} did not start: {self.said()[-600:]}")

    def said(self):
        self.log.flush()
        self.log.seek(0)
        return self.log.read()

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(patience(30))
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()
        self.log.close()


def counts(s):
    return dict((k, int(v)) for k, v in (pair.split("=") for pair in ask(s, b"counts").decode().split()))


def echoes(addresses=(OURS, OURS6), sizes=SIZES):
    for address in addresses:
        with dial(address) as s:
            for size in sizes:
                message = os.urandom(size)
                ask(s, message, message)


def ecn(address):
    level, option = (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if ":" in address else (socket.IPPROTO_IP, socket.IP_TOS)
    with dial(address) as s:
        s.setsockopt(level, socket.IPV6_RECVTCLASS if ":" in address else 13, 1)  # 13: IP_RECVTOS
        for bits in range(4):
            s.setsockopt(level, option, bits)
            ask(s, b"first")
            s.send(b"ecn")
            came = b""
            while came != b"ecn":
                came, control, _, _ = s.recvmsg(100, 100)
            assert [data[0] & 3 for at, kind, data in control if (at, kind) == (level, option)] == [bits], (address, bits)


def link_local():
    """A peer that asks from an address that only its link knows."""
    run("ip", "-n", CLIENT, "addr", "replace", "fe80::77/64", "dev", "v1", "nodad")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.settimeout(patience(0.5))
        s.bind(("fe80::77", 0, 0, socket.if_nametoindex("v1")))
        s.connect((OURS6, UDP_PORT))
        ask(s, b"from a link", b"from a link")


def raw_datagram(payload, checksum=0):
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 0, 0, 64, 17, 0, socket.inet_aton(PEER), socket.inet_aton(OURS))
    ip = ip[:10] + struct.pack("!H", total(ip)) + ip[12:]
    return ip + struct.pack("!HHHH", 9, UDP_PORT, 8 + len(payload), checksum) + payload


def dropped_are_kept():
    """Datagrams whose checksum is wrong, from below the client's kernel."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw, dial(OURS) as s:
        before = counts(s)
        raw.bind(("v1", 0))
        ethernet = net.macs()
        for _ in range(300):
            raw.send(ethernet + b"\x08\x00" + raw_datagram(b"wrong", 1))
        after = counts(s)
        assert after["checksum"] - before.get("checksum", 0) == 300, after
        ask(s, b"dropped")
    with open(os.path.join(work.name, "dropped"), "rb") as f:
        pcap = f.read()
    assert pcap[:4] == struct.pack("<I", 0xa1b23c4d)
    at, n = 24, 0
    while at < len(pcap):
        seconds, _, kept, size = struct.unpack_from("<IIII", pcap, at)
        assert kept == min(size, 192) and abs(seconds - time.time()) < 3600, (kept, size, seconds)
        at, n = at + 16 + kept, n + 1
    assert n == 256 and b"wrong" in pcap, n


def vlan_echoes(vlan):
    """Tagged frames by hand, as this kernel need not have VLANs: an answer has the tag too; another tag has none."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as raw:
        raw.bind(("v1", 3))
        raw.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)  # where the kernel puts the tag
        raw.settimeout(patience(0.5))
        for tag, wanted in ((vlan, True), (vlan + 1, False)):
            payload, seen = os.urandom(40), False
            for _ in range(20 if wanted else 3):
                raw.send(net.macs() + struct.pack("!HHH", 0x8100, tag, 0x0800) + raw_datagram(payload))
                end = time.monotonic() + 0.3
                while not seen and time.monotonic() < end:
                    try:
                        frame, control, _, _ = raw.recvmsg(2048, 256)
                    except TimeoutError:
                        break
                    if frame.endswith(payload) and frame[:6] == net.macs()[6:]:
                        tags = [struct.unpack_from("=H", data, 16)[0] for _, _, data in control]
                        assert tags == [vlan], (tags, frame)
                        seen = True
            assert seen == wanted, (tag, seen)


def test_packet():
    net.link(ours=False)
    with Echo("net_af_packet0,iface=v0") as echo:
        echoes()
        with dial(OURS) as s, dial(OURS6) as s6:
            assert ask(s, b"capacity") == b"1472" and ask(s6, b"capacity") == b"1452"
        for address in (OURS, OURS6):
            ping(address)
            ecn(address)
        link_local()
        dropped_are_kept()


def test_packet_vlan():
    net.link(ours=False)
    with Echo("net_af_packet0,iface=v0", "-v", "7"):
        vlan_echoes(7)


def test_packet_jumbo():
    net.link(mtu=9000, ours=False)
    with Echo("net_af_packet0,iface=v0", expect_failure=True) as echo:
        echo.process.wait(patience(30))
        assert "framesz=16384" in echo.said(), echo.said()
    with Echo("net_af_packet0,iface=v0,framesz=16384,blocksz=16384"):
        echoes(sizes=[1, 1473, 4000, 8952])


def test_xdp():
    net.link()
    with KernelServices() as kernel:
        with Echo("net_af_xdp0,iface=v0") as echo:
            echoes()
            link_local()
            kernel.check()
            for address in (OURS, OURS6):
                ecn(address)
            with dial(OURS) as s:
                assert "answered=0" in ask(s, b"counts").decode()
            with Echo("net_af_xdp0,iface=v0", expect_failure=True) as second:
                second.process.wait(patience(30))
                assert "another process" in second.said(), second.said()
            echo.stop(signal.SIGKILL)  # leaves its program behind
        kernel.check()
        with Echo("net_af_xdp0,iface=v0"):
            echoes()
            kernel.check()
        assert "xdp" not in run("ip", "-n", SERVER, "link", "show", "v0").stdout


def test_queues():
    """A path comes to one of two queues, many paths to both."""
    net.link(ours=False)
    with Echo("net_af_packet0,iface=v0,qpairs=2", "-q", "2"):
        for _ in range(8):
            echoes(sizes=[5])


def test_xdp_queues_that_are_not_there():
    """The driver takes queues that receive and send together; veth counts them apart."""
    net.link(queues=2)
    with Echo("net_af_xdp0,iface=v0,queue_count=2", "-q", "2", expect_failure=True) as echo:
        echo.process.wait(patience(30))
        assert "leave out queue_count=2" in echo.said(), echo.said()


def test_xdp_link_goes_and_comes():
    net.link()
    with Echo("net_af_xdp0,iface=v0"):
        echoes(sizes=[5])
        run("ip", "-n", SERVER, "link", "set", "v0", "down")
        run("ip", "-n", SERVER, "link", "set", "v0", "up")
        net.address()
        echoes()


def test_xdp_mtu():
    for mtu in (1280, 3400):
        net.link(mtu=mtu)
        with Echo("net_af_xdp0,iface=v0"):
            echoes(sizes=[1, 1200, mtu - 48])
    net.link(mtu=9000)
    with Echo("net_af_xdp0,iface=v0", expect_failure=True) as echo:
        echo.process.wait(patience(30))
        assert "3,400" in echo.said(), echo.said()


def test_xdp_vlan():
    net.link()
    with Echo("net_af_xdp0,iface=v0", "-v", "7"):
        vlan_echoes(7)


def test_memif():
    path = os.path.join(work.name, "memif.sock")
    for mtu, vlan in (("1500", "0"), ("9000", "7")):
        link = f"socket={path},socket-abstract=no"
        with Echo(f"net_memif0,role=server,{link}", "-m", mtu, "-v", vlan):
            for ours, target in ((f"{PEER}/24,9", f"{OURS},{UDP_PORT}"), (f"{PEER6}/64,9", f"{OURS6},{UDP_PORT}")):
                done = subprocess.run(["ip", "netns", "exec", SERVER, ECHO, f"net_memif0,role=client,{link}", "-m", mtu, "-v", vlan, "-t", target, ours],
                                      capture_output=True, text=True, timeout=patience(100))
                assert "echoed" in done.stdout, (mtu, target, done.stderr[-600:])


def test_tap():
    net.unlink()
    enter(f"/run/netns/{SERVER}")
    try:
        with Echo("net_tap0,iface=tsr0"):
            run("ip", "-n", SERVER, "addr", "add", PEER + "/24", "dev", "tsr0")
            run("ip", "-n", SERVER, "addr", "add", PEER6 + "/64", "dev", "tsr0", "nodad")
            echoes()
            ping(OURS)
    finally:
        enter(f"/run/netns/{CLIENT}")


def test_socket():
    net.link()
    for options in ([], ["-b"]):
        with Echo("socket", *options):
            echoes()
            link_local()
            for address in (OURS, OURS6):
                ecn(address)
    with Echo("socket", "-q", "3", listen=[f"0.0.0.0,{UDP_PORT}", f"::,{UDP_PORT}"]):
        for _ in range(8):  # each from another port, so to any queue
            echoes(sizes=[5])


def main():
    needs("tests/integration/port_echo")
    with net:
        has_dpdk = "without DPDK" not in run(ECHO, "net_null0", "10.0.0.1,0", check=False).stderr
        run_tests(globals(), sys.argv[1:] if has_dpdk else ["test_socket"])
        if not has_dpdk:
            skip("built without DPDK: the socket alone was tested")


main()
