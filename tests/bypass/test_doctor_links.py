"""tessera doctor --device against real links: its commands, carried out, mend what it found, and a port then works; the
rights that it names are what a port takes, no more and no less."""
import json
import os
import select
import socket
import subprocess

from net import BUILD, CLIENT, OURS, OURS6, PEER, PEER6, SERVER, UDP_PORT, Net, patience, run, skip

ECHO = os.path.join(BUILD, "tests/integration/port_echo")
DOCTOR = os.path.join(BUILD, "clients/cli/tessera")
LISTEN = ["--listen", f"{OURS}/24:{UDP_PORT}", "--listen", f"[{OURS6}/64]:{UDP_PORT}"]
XDP, PACKET = "net_af_xdp0,iface=v0", "net_af_packet0,iface=v0"


def server(*command):
    return ["ip", "netns", "exec", SERVER, *command]


def doctor(device, *options, prefix=()):
    done = run(*server(*prefix, DOCTOR, "doctor", "--json", "--no-huge", "--device", device, *options), check=False)
    said = json.loads(done.stdout)
    assert done.returncode == (1 if said["findings"] else 0), done
    return said["checks"]


def row(name, checks):
    return next(check for check in checks if check["name"] == name)


def mend(device, *options):
    """Carries out what doctor says until it finds nothing more. Returns the names of what it found."""
    found = set()
    for _ in range(4):
        bad = [check for check in doctor(device, *options) if check["level"] == "mend"]
        if not bad:
            return found
        for check in bad:
            found.add(check["name"])
            run(*server("sh", "-c", check["command"]))
    raise AssertionError(f"doctor's commands do not mend: {bad}")


class Echo:
    """port_echo in the server's namespace. says: its first line, "" where it did not start."""

    def __init__(self, device, prefix=()):
        self.process = subprocess.Popen(server(*prefix, ECHO, device, f"{OURS}/24,{UDP_PORT}", f"{OURS6}/64,{UDP_PORT}"),
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if not select.select([self.process.stdout], [], [], 120)[0]:
            self.process.kill()
            raise AssertionError(f"{device} is neither ready nor ended: {self.process.communicate()[1][-600:]}")
        self.said = self.process.stdout.readline()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.errors = self.process.communicate(timeout=patience(60))[1]


def echoes():
    for address in (OURS, OURS6):
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(patience(0.5))
            s.connect((address, UDP_PORT))
            for _ in range(40):
                s.send(b"whole" * 200)
                try:
                    assert s.recv(2000) == b"whole" * 200
                    break
                except (TimeoutError, ConnectionRefusedError):
                    continue
            else:
                raise AssertionError(f"no answer from {address}")


def make_neglected_link(net):
    """Down, too large for AF_XDP, two queues, packets handed over unfinished, without an address."""
    net.unlink()
    queues = ["numrxqueues", "2", "numtxqueues", "2"]
    run("ip", "-n", SERVER, "link", "add", "v0", "mtu", "9000", *queues, "type", "veth", "peer", "name", "v1", *queues)
    run(*server("ethtool", "-L", "v0", "rx", "2", "tx", "2"))
    run("ip", "-n", SERVER, "link", "set", "v1", "mtu", "3400", "up")


def give_other_end_away():
    run("ip", "-n", SERVER, "link", "set", "v1", "netns", CLIENT)
    run("ip", "-n", CLIENT, "link", "set", "v1", "up")
    run("ip", "-n", CLIENT, "addr", "add", PEER + "/24", "dev", "v1")
    run("ip", "-n", CLIENT, "addr", "add", PEER6 + "/64", "dev", "v1", "nodad")


def test_commands_mend(net):
    make_neglected_link(net)
    found = mend(XDP, *LISTEN)
    assert found == {"link", "mtu", "queues", "offloads", "address"}, found
    give_other_end_away()
    assert "another namespace" in row("offloads", doctor(XDP, *LISTEN))["text"]
    with Echo(XDP) as echo:
        assert echo.said.startswith("ready"), echo.process.stderr.read()
        echoes()
    # For a port that is alone the same addresses are too many.
    run("ip", "-n", SERVER, "link", "set", "v0", "mtu", "1500")
    found = mend(PACKET, *LISTEN)
    assert found == {"address"}, found
    with Echo(PACKET) as echo:
        assert echo.said.startswith("ready"), echo.process.stderr.read()
        echoes()


def only(*capabilities):
    """Runs what follows as nobody with these rights alone."""
    rights = ",".join(["-all"] + ["+" + c.lower() for c in capabilities])
    return ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set=" + rights,
            "--inh-caps=" + rights, "--ambient-caps=" + rights]


def named(device):
    """The rights that doctor says are missing where there are none; without CAP_."""
    text = row("capabilities", doctor(device, prefix=only()))["command"]
    return [word.removeprefix("--cap-add=") for word in text.split() if word.startswith("--cap-add=")]


def test_rights(net):
    for device in (XDP, PACKET):
        net.link(ours=device == XDP)
        rights = named(device)
        assert "NET_RAW" in rights and "NET_ADMIN" in rights, rights
        locks = ["IPC_LOCK"]  # in place of a limit, which root cannot raise everywhere
        assert row("capabilities", doctor(device, prefix=only(*rights, *locks)))["level"] == "fine"
        with Echo(device, only(*rights, *locks)) as echo:
            assert echo.said.startswith("ready"), f"{device} with {rights}: {echo.process.stderr.read()}"
            if device == XDP:
                net.address()
            echoes()
        for right in rights:
            fewer = [r for r in rights if r != right]
            with Echo(device, only(*fewer, *locks)) as echo:
                assert not echo.said, f"{device} starts without {right}, which doctor wants"
            run("ip", "-n", SERVER, "link", "set", "v0", "xdp", "off", check=False)
        with Echo(device, [*only(*rights), "sh", "-c", 'ulimit -l 64; exec "$0" "$@"']) as echo:
            assert not echo.said, f"{device} locks nothing"
        run("ip", "-n", SERVER, "link", "set", "v0", "xdp", "off", check=False)


if __name__ == "__main__":
    if not os.path.exists(ECHO):
        skip("port_echo is not built")
    with Net() as net:
        net.link()
        with Echo(XDP) as echo:
            ready = echo.said
        if not ready:
            skip(f"no AF_XDP here: {echo.errors.splitlines()[-1:]}")
        test_commands_mend(net)
        test_rights(net)
    print("doctor's commands mend an interface, and the rights that it names are those that ports take")
