"""The whole appliance in a virtual machine: Debian 12's kernel, the image of deploy/appliance, two cards, of which the second is
tessera-bypass's by vfio behind an emulated IOMMU, and is asked from outside through a tap.

QEMU emulates the processor (TCG), so a run takes minutes: it is done where build/STAGE/appliance holds an image, and
TSR_APPLIANCE=1 makes one first (Debian's packages are fetched). TSR_APPLIANCE_CTEST='-L ^unit$' also runs these of the
repository's tests in the guest. Neither root nor KVM is needed to boot: namespaces for tap and addresses are the user's own.
"""
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

SOURCE, BUILD = os.environ["TESSERA_SOURCE"], os.environ["TESSERA_BUILD"]
HERE = os.path.join(SOURCE, "deploy", "appliance")
IMAGE = os.path.join(BUILD, "appliance")
QUIC_CLIENT = os.path.join(BUILD, "tests/quic/quic_client")
OURS, PEER, UDP_PORT, HTTP_PORT = "10.77.0.1", "10.77.0.2", 4433, 8000
KEY = "sk-test-of-the-appliance"
CARD = "/sys/bus/pci/devices/0000:00:04.0"
# An emulated CPU is some hundred times slower: nothing is to be given up for being late.
PATIENCE = "systemd.default_timeout_start_sec=1800 systemd.default_device_timeout_sec=1800 systemd.service_watchdogs=0"
CONFIGURATION = {
    "engine.conf": f"""model = /var/lib/tessera/models/shell-5m
allow = uid:tessera-dataplane,tenants,requests=1024,request-ring=4M,event-ring=16M
allow = uid:tessera-bypass,tenants,requests=1024,request-ring=4M,event-ring=16M
cpus = 1
kv-bytes = 64M
""",
    "dataplane.conf": """listen = 0.0.0.0:8000
keys = /etc/tessera/keys
""",
    "bypass.conf": f"""device = 0000:00:04.0
listen = {OURS}/24:{UDP_PORT}
keys = /etc/tessera/keys
tls-certificate = /etc/tessera/certificate.pem
tls-key = /etc/tessera/key.pem
cpus = 2
""",
    "keys": f"test sha256:{hashlib.sha256(KEY.encode()).hexdigest()}\n",
}


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def build():
    with tempfile.TemporaryDirectory() as etc:
        for name, text in CONFIGURATION.items():
            with open(os.path.join(etc, name), "w") as file:
                file.write(text)
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650", "-subj", "/CN=tessera",
            "-addext", f"subjectAltName=DNS:localhost,IP:{OURS}", "-keyout", f"{etc}/key.pem", "-out", f"{etc}/certificate.pem")
        run(f"{HERE}/build.sh", "--tests", "--build", BUILD, "--model", f"{SOURCE}/tests/vectors/shell-5m", "--etc", etc, IMAGE)


class Guest:
    """Booted; sh() runs commands as its root, on a serial line of their own."""

    def __init__(self, work, image=IMAGE):
        self.console = os.path.join(work, "console")
        control = os.path.join(work, "control")
        with open(self.console, "wb") as console:
            self.process = subprocess.Popen([f"{HERE}/run.sh", "--tap", "tap0", "--http", str(HTTP_PORT), "--control", control, "--append", PATIENCE, image],
                                            stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT)
        self.number = 0
        self.line = socket.socket(socket.AF_UNIX)
        self.wait(lambda: self.line.connect_ex(control) == 0, "QEMU does not start", 60)
        self.wait(self.listens, "the guest gives no shell", 1800)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.line.close()
        self.process.terminate()
        self.process.wait()

    def wait(self, condition, what, seconds):
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                with open(self.console, errors="replace") as file:
                    raise RuntimeError(f"{what}; the console's end: {file.read()[-2000:]}")
            time.sleep(0.5)

    def listens(self):
        """What is sent before its shell is there, is lost."""
        self.line.settimeout(5)
        self.line.sendall(b"echo $((6 * 7))\n")
        try:
            return b"42" in self.line.recv(65536)
        except TimeoutError:
            return False

    def sh(self, command, seconds=900, check=True, show=False):
        """What it printed; show: here too, as it comes."""
        self.number += 1
        began, ended = f"<{self.number}", f"{self.number}>"
        self.line.settimeout(seconds)
        # what the line echoes has no marks
        self.line.sendall(f"stty -echo; echo '<'{self.number}; ( {command}\n) 2>&1 </dev/null; r=$?; echo; echo $r {self.number}'>'\n".encode())
        came = b""
        while not re.search(rf"^\d+ {ended}".encode(), came, re.M):
            some = self.line.recv(65536)
            if not some:
                raise RuntimeError(f"the guest is gone while it did: {command}")
            came += some
            if show:
                print(some.decode(errors="replace"), end="", flush=True)
        text = came.decode(errors="replace").replace("\r", "")
        text = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", text)
        body, code = re.search(rf"^{began}\n(.*?)\n(\d+) {ended}", text, re.S | re.M).groups()
        if check and code != "0":
            raise RuntimeError(f"in the guest, {command}: {body[-3000:]}")
        return body.rstrip("\n")


def threads(guest, program):
    """A list of {name: value} of /proc/PID/task/*/status."""
    text = guest.sh(f"for t in /proc/$(pidof {program})/task/*; do cat $t/status; echo; done")
    return [dict(line.split(":\t", 1) for line in one.splitlines() if ":\t" in line) for one in text.split("\n\n") if one.strip()]


def http1(path, body=None, patient=600):
    request = urllib.request.Request(f"http://127.0.0.1:{HTTP_PORT}{path}", headers={"authorization": "Bearer " + KEY, "content-type": "application/json"},
                                     data=body and json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=patient) as answer:
        return answer.read().decode()


def http3(path, body=None, check=True):
    """The body; with check=False what quic_client printed, whatever the status is."""
    command = [QUIC_CLIENT, "--timeout", "600", "--show", "--header", "authorization: Bearer " + KEY]
    command += ["--data", json.dumps(body)] if body else []
    done = subprocess.run([*command, f"https://{OURS}:{UDP_PORT}{path}"], capture_output=True, text=True)
    if check and (done.returncode or ":status: 200" not in done.stdout):
        raise RuntimeError(f"quic_client {path}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout.split("\n\n", 1)[1].rsplit("\nconnections ", 1)[0] if check else done.stdout


def test_boots(guest):
    state = guest.sh("systemctl is-system-running --wait", 1800, check=False)
    assert state == "running", guest.sh("systemctl --failed --no-pager; journalctl -b -p warning -o cat --no-pager | tail -n 40")
    kernel = guest.sh("uname -r")
    assert kernel.startswith("6.1."), kernel
    units = guest.sh("systemctl is-active tessera-engine tessera-dataplane tessera-bypass tessera-vfio")
    assert units.split() == ["active"] * 4, units
    print("kernel", kernel, "-", guest.sh("systemd-analyze | head -n 1"))


def test_huge_pages(guest):
    pages = dict(re.findall(r"^(HugePages_\w+): +(\d+)", guest.sh("cat /proc/meminfo"), re.M))
    assert int(pages["HugePages_Total"]) == 448, pages
    held = {program: int(re.search(r"\d+", threads(guest, program)[0]["HugetlbPages"])[0]) // 2048 for program in ("tessera-engine", "tessera-bypass")}
    assert held["tessera-engine"] >= 11 + 64 // 2 and held["tessera-bypass"] >= 8, held  # weights and KV cache; packet buffers
    print("pages of 2 MiB:", held)


def test_cpus_of_their_own(guest):
    assert guest.sh("cat /sys/devices/system/cpu/isolated /sys/devices/system/cpu/nohz_full").split() == ["1-2", "1-2"]
    slices = guest.sh("cd /sys/fs/cgroup && cat system.slice/cpuset.cpus.effective init.scope/cpuset.cpus.effective")
    assert slices.split() == ["0", "0"], slices
    where = {program: [thread["Cpus_allowed_list"].strip() for thread in threads(guest, program)] for program in ("tessera-engine", "tessera-bypass")}
    assert where["tessera-engine"].count("1") == 1 and set(where["tessera-engine"]) == {"0", "1"}, where
    assert where["tessera-bypass"].count("2") == 1 and set(where["tessera-bypass"]) == {"0", "2"}, where
    others = guest.sh("for t in /proc/[0-9]*/task/*; do [ -z \"$(tr -d '\\0' <$t/cmdline)\" ] || grep -H Cpus_allowed_list $t/status; done | grep -v ':\\s0$'", check=False)
    pids = set(re.findall(r"/proc/(\d+)/", others))
    assert pids == set(guest.sh("pidof tessera-engine tessera-bypass").split()), others


def test_card_is_vfios(guest):
    assert guest.sh(f"basename $(readlink {CARD}/driver)") == "vfio-pci"
    assert guest.sh(f"ls {CARD}/iommu_group/devices") == "0000:00:04.0"
    assert guest.sh(f"cat {CARD}/iommu_group/type") in ("DMA", "DMA-FQ", "unmanaged", "identity")
    assert guest.sh("ls /sys/class/net").split() == ["enp0s3", "lo"]
    node = guest.sh(f"stat -c '%U %G %a' /dev/vfio/$(basename $(readlink {CARD}/iommu_group))")
    assert node == "root tessera-bypass 660", node


def test_no_rights_left(guest):
    for program in ("tessera-engine", "tessera-dataplane", "tessera-bypass"):
        for thread in threads(guest, program):
            rights = {name: thread[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
            assert set(rights.values()) == {"0" * 16}, (program, thread["Name"], rights)
            assert thread["NoNewPrivs"] == "1" and thread["Seccomp"] == "2", (program, thread)
            assert thread["Uid"].split()[0] != "0", (program, thread)


def test_doctor_finds_nothing_to_mend(guest):
    said = guest.sh("tessera doctor --no-measure", check=False)
    for row in ("isolation", "huge-pages", "kernel"):
        assert re.search(rf"^fine  {row} ", said, re.M), said
    port = guest.sh(f"tessera doctor --device 0000:00:04.0 --listen {OURS}/24:{UDP_PORT}", check=False)
    for row in ("driver", "iommu"):
        assert re.search(rf"^fine  {row} ", port, re.M), port
    assert "MEND" not in said + port, said + port


def test_both_doors_answer_the_same(guest):
    with open(f"{SOURCE}/tests/vectors/shell-5m/reference.json") as file:
        case = next(case for case in json.load(file)["cases"] if len(case.get("greedy", [])) > 4)
    body = {"messages": [{"role": "user", "content": case["question"]}], "temperature": 0, "max_tokens": len(case["greedy"])}
    guest.wait(lambda: '"connected":true' in http3("/v1/models"), "the door does not reach the engine", 300)
    answers = [json.loads(ask("/v1/chat/completions", body)) for ask in (http1, http3)]
    said = [answer["choices"][0]["message"]["content"] for answer in answers]
    assert said[0] and said[0] == said[1], said
    events = http3("/v1/chat/completions", body | {"stream": True})
    parts = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: {")]
    assert "".join(part["choices"][0]["delta"].get("content") or "" for part in parts if part["choices"]) == said[0], events
    kernels = json.loads(guest.sh("tessera status --json"))
    assert "avx2" in json.dumps(kernels), kernels
    print("both doors:", said[0])


def test_door_sleeps(guest):
    """Until its card interrupts, so that it wakes neither for naps nor for anything but a few timers; and it answers then."""
    def wakes():
        return sum(int(thread["voluntary_ctxt_switches"]) for thread in threads(guest, "tessera-bypass") if thread["Cpus_allowed_list"].strip() == "2")
    http3("/health")
    before = wakes()
    guest.sh("sleep 10")
    woken = wakes() - before
    http3("/health")
    print("times that the door woke in ten seconds without a packet:", woken)
    assert woken < 1000, woken  # naps of a millisecond are 10,000


def test_figures_of_the_card(guest):
    metrics = http3("/metrics")
    packets = re.search(r"^tessera:door_packets_received_total (\d+)", metrics, re.M)
    assert packets and int(packets[1]) > 10, metrics[-2000:]
    assert run("ip", "neigh", "show", OURS).split()[3:5] == ["lladdr", "52:54:00:00:00:04"]


def test_engine_comes_back(guest):
    before = guest.sh("pidof tessera-engine")
    guest.sh("systemctl kill -s KILL tessera-engine")
    said = http3("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}, check=False)
    assert ":status: 503" in said or ":status: 200" in said, said
    guest.wait(lambda: ":status: 200" in http3("/ready", check=False), "the engine did not come back", 600)
    assert guest.sh("pidof tessera-engine") not in ("", before)


def test_door_and_card_come_back(guest):
    guest.sh("systemctl restart tessera-bypass")
    guest.wait(lambda: ":status: 200" in http3("/ready", check=False), "the door did not come back", 600)
    guest.sh("systemctl stop tessera-bypass tessera-vfio")
    assert guest.sh(f"basename $(readlink {CARD}/driver)") == "virtio-pci"
    guest.sh("systemctl start tessera-bypass")
    guest.wait(lambda: ":status: 200" in http3("/ready", check=False), "the door did not come back with its card", 600)
    assert guest.sh(f"basename $(readlink {CARD}/driver)") == "vfio-pci"


def without_isolation(folder):
    """The image with all of its CPUs for everybody."""
    for name in ("root.ext4", "vmlinuz", "initrd.img"):
        os.symlink(os.path.join(IMAGE, name), os.path.join(folder, name))
    with open(os.path.join(IMAGE, "cmdline")) as theirs, open(os.path.join(folder, "cmdline"), "w") as ours:
        ours.write(theirs.read().split(" isolcpus=")[0])
    return folder


def of_the_repository(guest, which):
    guest.sh("systemctl is-system-running --wait", 1800, check=False)
    guest.sh("systemctl stop tessera-bypass tessera-dataplane tessera-engine")
    guest.sh(f"mkdir -p {SOURCE} && mount --bind /usr/src/tessera {SOURCE}")
    guest.sh(f"find {BUILD}/tests -name CTestTestfile.cmake -exec sed -i 's/TIMEOUT \"[0-9]*\"/TIMEOUT \"7200\"/' {{}} +")
    said = guest.sh(f"systemd-run --quiet --pipe --wait --slice=tests.slice -p WorkingDirectory={SOURCE} --setenv=TESSERA_TEST_SLOW=20 "
                    f"ctest --test-dir {BUILD} {which} -j 3 --output-on-failure", 4 * 3600, check=False, show=True)
    assert re.search(r"^100% tests passed", said, re.M), "in the guest tests failed"


def in_a_namespace_of_our_own():
    if "TSR_APPLIANCE_INSIDE" not in os.environ:
        os.environ["TSR_APPLIANCE_INSIDE"] = "1"
        mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
        os.execvp("unshare", ["unshare", "--net", *mapped, sys.executable, *sys.argv])
    run("ip", "link", "set", "lo", "up")
    run("ip", "tuntap", "add", "dev", "tap0", "mode", "tap")
    run("ip", "addr", "add", f"{PEER}/24", "dev", "tap0")
    run("ip", "link", "set", "tap0", "up")


def main():
    for program in ("qemu-system-x86_64", "ip", "unshare"):
        if not shutil.which(program):
            skip(f"{program} is not installed")
    if not os.path.exists(QUIC_CLIENT):
        skip("quic_client was not built: ngtcp2 or nghttp3 is missing")
    if "TSR_APPLIANCE_INSIDE" not in os.environ:
        if os.environ.get("TSR_APPLIANCE") == "1":
            build()
        if not os.path.exists(os.path.join(IMAGE, "root.ext4")):
            skip(f"there is no image in {IMAGE}: TSR_APPLIANCE=1 makes one (minutes, from Debian's packages)")
    in_a_namespace_of_our_own()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as work, Guest(work) as guest:
        for name, test in list(globals().items()):
            if name.startswith("test_") and (len(sys.argv) < 2 or name in sys.argv[1:]):
                began = time.monotonic()
                test(guest)
                print(f"{name} ok ({time.monotonic() - began:.1f} s)", flush=True)
    if os.environ.get("TSR_APPLIANCE_CTEST"):
        with tempfile.TemporaryDirectory() as work, Guest(work, without_isolation(work)) as guest:
            of_the_repository(guest, os.environ["TSR_APPLIANCE_CTEST"])


main()
