"""aioquic against the second door, on each kind of port: the API, and text through a bridge that spoils datagrams.

HEAD is not asked: it takes an answer's content-length for what must come even then. test_gtlsclient asks it."""
import asyncio
import json
import sys

from h3 import connect, until_ready
from net import BYPASS, DATAPLANE, OURS, OURS6, Doors, Net, kinds, needs, run_tests

net = Net()
TOKENS, STREAMS = 40, 8
ASKS = [f"list all files larger than {n} bytes" for n in range(STREAMS)]
IMPAIRMENTS = {
    "loss": {"loss": 0.05},
    "reordering": {"reorder": 0.3, "reorder_ms": 4},
    "duplication": {"duplicate": 0.3},
    "delay": {"delay_ms": 15},
    "corruption": {"corrupt": 0.05},
    "all": {"loss": 0.02, "reorder": 0.1, "duplicate": 0.1, "delay_ms": 2, "corrupt": 0.02},
}
CLEAN = {"loss": 0, "reorder": 0, "duplicate": 0, "delay_ms": 0, "corrupt": 0}


async def answers(client):
    models = await client.request("GET", "/v1/models")
    assert models.status == 200 and models.headers["server"] == "tessera", models.headers
    model = models.json()["data"][0]["id"]

    nothing = await client.request("GET", "/v1/nothing")
    assert nothing.status == 404 and "error" in nothing.json()
    wrong = await client.request("DELETE", "/v1/models")
    assert wrong.status == 405 and "GET" in wrong.headers["allow"], wrong.headers
    strange = await client.request("GET", "/v1/models", key="another")
    assert strange.status == 401, strange.headers

    ask = {"model": model, "messages": [{"role": "user", "content": ASKS[0]}], "temperature": 0, "max_tokens": TOKENS, "ignore_eos": True}
    whole = (await client.request("POST", "/v1/chat/completions", json.dumps(ask).encode())).json()
    text, usage = await client.chat(ASKS[0], max_tokens=TOKENS, ignore_eos=True)
    assert (text, usage["completion_tokens"]) == (whole["choices"][0]["message"]["content"], whole["usage"]["completion_tokens"])


async def bodies(client):
    """A MiB up: read whole, and only then refused for what they say; one too many for the door is cut short."""
    long = json.dumps({"model": "gpt-none", "prompt": "x" * (1 << 20)}).encode()
    answer = await client.request("POST", "/v1/completions", long)
    assert answer.status == 404 and "gpt-none" in answer.json()["error"]["message"], answer.body[:300]
    refused = await client.request("POST", "/v1/completions", b"x" * (9 << 20))
    assert refused.status == 413, refused.headers
    assert (await client.request("GET", "/health")).status == 200


async def texts(client):
    """Of all ASKS at once, on one connection."""
    return await asyncio.gather(*(client.chat(ask, max_tokens=TOKENS, ignore_eos=True) for ask in ASKS))


async def spoiled():
    async with connect(OURS, doors.certificate) as client:
        wanted = await texts(client)
    tokens = sum(usage["completion_tokens"] for _, usage in wanted)
    for name, rules in IMPAIRMENTS.items():
        before = net.bridge.set(**CLEAN | rules)
        async with connect(OURS6 if name == "loss" else OURS, doors.certificate) as client:
            got = await texts(client)
        counts = net.bridge.set(**CLEAN)
        assert got == wanted, (name, [pair for pair in zip(got, wanted) if pair[0] != pair[1]])
        what = {key: counts[key] - before[key] for key in counts if key not in ("largest", "frames") and counts[key] > before[key]}
        assert what or name == "delay", name
        print(f"  {name}: 0 of {tokens} tokens lost, {counts['frames'] - before['frames']} packets, {what}")


async def door():
    for address in (OURS, OURS6):
        await until_ready(address, doors.certificate)
        async with connect(address, doors.certificate) as client:
            await answers(client)
            await bodies(client)
    await spoiled()


def test_devices():
    for kind in kinds():
        print(kind)
        with doors.serving(net, kind, "--drain-seconds", "3600", bridged=True):  # but it waits for nobody
            asyncio.run(door())


def main():
    global doors
    needs(DATAPLANE, BYPASS)
    with net, Doors() as doors:
        run_tests(globals(), sys.argv[1:])
        doors.stop()


main()
