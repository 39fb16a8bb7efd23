"""Links of many MTUs, a smaller one in between, IPv6 alone, a VLAN: QUIC's datagrams grow to what the path carries."""
import asyncio
import sys

from h3 import connect, until_ready
from net import BYPASS, CLIENT, DATAPLANE, DEVICES, OURS, OURS6, SERVER, UDP_PORT, Doors, Net, kinds, needs, run, run_tests, skip

net = Net()
HEADS = {OURS: 28, OURS6: 48}  # of IP and UDP
VLAN = 7


async def grown(address, least, most, tried=lambda: True):
    """Fetches the page until datagrams of `least` bytes have come and larger ones were tried; none may be larger than `most`."""
    async with connect(address, doors.certificate) as client:
        for _ in range(100):
            page = await client.request("GET", "/")
            assert page.status == 200 and page.body.rstrip().endswith(b"</html>")
            if max(client.sizes) >= least and tried():
                break
        assert least <= max(client.sizes) <= most and tried(), (address, least, max(client.sizes), most)


async def served(addresses, mtu):
    await until_ready(next(iter(addresses)), doors.certificate)
    for address in addresses:
        await grown(address, mtu - HEADS[address], mtu - HEADS[address])


def refused(kind, mtu, sentence):
    """The door ends at once, and says what to change."""
    net.link(mtu=9000, ours=kind != "af_packet")
    run("ip", "-n", SERVER, "link", "set", "v0", "mtu", str(mtu))
    try:
        doors.start_bypass(DEVICES[kind])
    except RuntimeError as error:
        assert sentence in str(error), error
    else:
        raise AssertionError(f"{kind} began with an MTU of {mtu}")


def test_mtu():
    for device, mtu in ((DEVICES["af_xdp"], 1280), (DEVICES["af_xdp"], 3400), (DEVICES["af_packet"] + ",framesz=16384,blocksz=16384", 9000)):
        net.link(mtu=mtu, ours="af_xdp" in device)
        doors.start_bypass(device)
        asyncio.run(served(HEADS, mtu))
        doors.stop_bypass()
    refused("af_xdp", 3500, "3,400")
    refused("af_packet", 9000, "framesz=16384")
    refused("af_xdp", 1279, "QUIC needs 1280")


async def between(mtu):
    """What is tried above it is lost, and the page comes all the same; 1,452 is the largest usual payload below."""
    await until_ready(OURS, doors.certificate)
    net.bridge.set(size_max=mtu)
    for address in HEADS:
        before = net.bridge.set(too_big=False)["too_big"]
        await grown(address, 1452, mtu - HEADS[address], lambda: net.bridge.counts()["too_big"] > before)
        net.bridge.set(too_big=True)
        await grown(address, 1452, mtu - HEADS[address])


def test_smaller_link_between():
    """Not by the socket, which tries nothing above 1,500."""
    for device in (DEVICES["af_xdp"], DEVICES["af_packet"] + ",framesz=4096"):
        net.link(mtu=3000, ours="af_xdp" in device, bridged=True)
        doors.start_bypass(device)
        asyncio.run(between(2000))
        doors.stop_bypass()


def test_ipv6_alone():
    for kind in kinds():
        net.link(ours=kind != "af_packet")
        run("ip", "-n", SERVER, "-4", "addr", "flush", "dev", "v0")
        doors.start_bypass(DEVICES[kind], listen=[f"[{OURS6}{'/64' if DEVICES[kind] else ''}]:{UDP_PORT}"])
        asyncio.run(served((OURS6,), 1500))
        doors.stop_bypass()


def test_vlan():
    """The bridge takes the tag off and puts it on. Beside the kernel it would be the kernel's VLAN device that answers for the address."""
    for kind in kinds()[1:]:
        with doors.serving(net, kind, "--vlan", str(VLAN), bridged=True):
            net.bridge.set(vlan=VLAN)
            if kind == "af_xdp":
                for address in HEADS:
                    run("ip", "-n", CLIENT, "neigh", "replace", address, "lladdr", net.mac(SERVER, "v0"), "dev", "v1")
            asyncio.run(served(HEADS, 1500))


def main():
    global doors
    needs(DATAPLANE, BYPASS)
    if "af_xdp" not in kinds():
        skip("built without DPDK")
    with net, Doors() as doors:
        run_tests(globals(), sys.argv[1:])
        doors.stop()


main()
