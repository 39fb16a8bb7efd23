"""net_af_xdp with our steering: one address for the kernel's services, the HTTP/1.1 door and the HTTP/3 door, at once."""
import asyncio
import json
import sys
import threading
import urllib.request

from h3 import connect, until_ready
from net import BYPASS, CONTROL, DATAPLANE, KEY, OURS, UDP_PORT, Doors, KernelServices, Net, kinds, needs, patience, run_tests, skip

net = Net()
TCP_PORT = 5000


def first_door():
    """HTTP/1.1 on the same address and number of port."""
    question = urllib.request.Request(f"http://{OURS}:{UDP_PORT}/v1/models", headers={"authorization": "Bearer " + KEY})
    with urllib.request.urlopen(question, timeout=patience(20)) as answer:
        return json.loads(answer.read())


async def second_door(until):
    """Chats until told to stop; returns how many."""
    n = 0
    async with connect(OURS, doors.certificate) as client:
        models = (await client.request("GET", "/v1/models")).json()
        while n == 0 or not until.is_set():
            _, usage = await client.chat("list files", max_tokens=40, ignore_eos=True)
            assert usage["completion_tokens"] == 40
            n += 1
    return models, n


def test_beside():
    """Everything while text is streamed through the second door: the kernel answers what is not ours, and nothing else does."""
    with doors.serving(net, "af_xdp"), KernelServices(TCP_PORT) as kernel:
        asyncio.run(until_ready(OURS, doors.certificate))
        over = threading.Event()
        result = []
        streaming = threading.Thread(target=lambda: result.append(asyncio.run(second_door(over))))
        streaming.start()
        for _ in range(10):
            kernel.check()
            models = first_door()
        over.set()
        streaming.join()
        assert result[0][0]["data"][0]["id"] == models["data"][0]["id"] and result[0][1] > 0, result
    kernel_alone()


def test_killed():
    """What a door that died leaves behind lets everything pass to the kernel, and does not stop the next one."""
    with doors.serving(net, "af_xdp"):
        doors.bypass.kill()
        doors.bypass.wait()
        kernel_alone()
        doors.start_bypass("net_af_xdp0,iface=v0")
        asyncio.run(until_ready(OURS, doors.certificate))


def kernel_alone():
    """Our UDP port too is the kernel's again."""
    with KernelServices(TCP_PORT, UDP_PORT) as kernel:
        kernel.check()


def main():
    global doors
    needs(DATAPLANE, BYPASS)
    if "af_xdp" not in kinds():
        skip("built without DPDK")
    with net:
        net.link()
        with Doors(listen=(CONTROL + ":0", f"{OURS}:{UDP_PORT}")) as doors:
            run_tests(globals(), sys.argv[1:])
            doors.stop()


main()
