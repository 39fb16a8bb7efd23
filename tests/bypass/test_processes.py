"""A process of this machine asks over HTTP/3 on links without the kernel: memif, and virtio-user with vhost."""
import json
import os
import subprocess
import sys

from net import BUILD, BYPASS, DATAPLANE, KEY, OURS, OURS6, PEER, PEER6, UDP_PORT, Doors, Net, kinds, needs, run_tests, skip

net = Net()
CLIENT_PROGRAM = "tests/quic/quic_client"
CHAT = json.dumps({"messages": [{"role": "user", "content": "list files"}], "max_tokens": 40, "ignore_eos": True, "stream": True})


def client(device, path, *options, v6=False, mtu=1500):
    """What quic_client printed."""
    local, remote = (f"[{PEER6}/64]", f"[{OURS6}]") if v6 else (f"{PEER}/24", OURS)
    done = subprocess.run([os.path.join(BUILD, CLIENT_PROGRAM), "--device", device, "--local", local + ":9000", "--mtu", str(mtu), "--timeout", "100",
                           "--header", f"authorization: Bearer {KEY}", *options, f"https://{remote}:{UDP_PORT}{path}"],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (device, done.stdout[-600:], done.stderr[-600:])
    return done.stdout


def asks(device, mtu):
    """Several connections by both families, and text as a stream. Each is a process of its own, which the door must take back."""
    for v6 in (False, True):
        client(device, "/health", "--connections", "20", "--requests", "20", "--streams", "4", v6=v6, mtu=mtu)
    said = client(device, "/v1/chat/completions", "--header", "content-type: application/json", "--data", CHAT, "--show", mtu=mtu)
    assert "data: [DONE]" in said, said[-600:]


def try_link(ours, theirs, mtu=1500):
    doors.start_bypass(ours, "--mtu", str(mtu))
    asks(theirs, mtu)
    doors.stop_bypass()


def test_memif():
    link = f"socket={doors.work}/link.sock,socket-abstract=no"
    for mtu in (1500, 9000):
        try_link(f"net_memif0,role=server,{link}", f"net_memif0,role=client,{link}", mtu)


def test_vhost():
    try_link(f"net_vhost0,iface={doors.work}/link.sock", f"net_virtio_user0,path={doors.work}/link.sock")


def main():
    global doors
    needs(DATAPLANE, BYPASS, CLIENT_PROGRAM)
    if "af_xdp" not in kinds():
        skip("built without DPDK")
    with net, Doors() as doors:
        run_tests(globals(), sys.argv[1:])
        doors.stop()


main()
