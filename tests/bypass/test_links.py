"""Links that go and come, or go for good, under a door that serves."""
import asyncio
import sys

from h3 import connect, until_ready
from net import BYPASS, CLIENT, DATAPLANE, DEVICES, OURS, SERVER, Doors, Net, kinds, needs, patience, run, run_tests

net = Net()
LONG = 200


def chat(client):
    return client.chat("list files", max_tokens=LONG, ignore_eos=True)


async def whole():
    await until_ready(OURS, doors.certificate)
    async with connect(OURS, doors.certificate) as client:
        return await chat(client)


async def interrupted(namespace, link):
    """While it streams, the link is away for a moment."""
    async with connect(OURS, doors.certificate) as client:
        streaming = asyncio.ensure_future(chat(client))
        while not any(len(answer.body) > 1000 for answer in client.answers.values()):
            await asyncio.sleep(0.001)
        run("ip", "-n", namespace, "link", "set", link, "down")
        await asyncio.sleep(0.3)
        assert not streaming.done()
        run("ip", "-n", namespace, "link", "set", link, "up")
        net.address()
        return await streaming


def test_down_and_up():
    for kind in kinds():
        with doors.serving(net, kind):
            wanted = asyncio.run(whole())
            for namespace, link in ((SERVER, "v0"), (CLIENT, "v1")):
                assert asyncio.run(interrupted(namespace, link)) == wanted, (kind, link)


def test_deleted():
    """The interface under a device is gone for good: the door says so and ends. A socket is not bound to one."""
    for kind in kinds()[1:]:
        net.link(ours=kind != "af_packet")
        doors.start_bypass(DEVICES[kind])
        net.unlink()
        assert doors.bypass.wait(patience(60)) == 1 and "is gone" in doors.bypass_errors(), doors.bypass_errors()[-600:]


def main():
    global doors
    needs(DATAPLANE, BYPASS)
    with net, Doors() as doors:
        run_tests(globals(), sys.argv[1:])
        doors.stop()


main()
