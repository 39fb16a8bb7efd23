"""ngtcp2's own client, over real links. It sends no keys: what it sees without one has to do (the rest: test_aioquic)."""
import os
import subprocess
import sys
import tempfile

from net import BYPASS, DATAPLANE, OURS, OURS6, UDP_PORT, Doors, Net, kinds, needs, patience, run_tests, wants_tools

net = Net()


def gtlsclient(address, *paths, options=()):
    """(what it said, the last body)"""
    with tempfile.TemporaryDirectory() as got:
        done = subprocess.run(["gtlsclient", "--exit-on-all-streams-close", "--no-quic-dump", "--no-http-dump", f"--download={got}", *options,
                               address, str(UDP_PORT), *(f"https://localhost:{UDP_PORT}{path}" for path in paths)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=patience(60))
        if done.returncode:
            raise RuntimeError(f"gtlsclient {address} {paths} {options}: {done.stdout[-600:]}")
        files = [os.path.join(got, name) for name in os.listdir(got)]
        return done.stdout, b"".join(open(name, "rb").read() for name in files)


def answers(said, status):
    return said.count(f":status: {status}")


def answers_keys_and_the_page():
    for address in (OURS, OURS6):
        said, body = gtlsclient(address, "/")
        assert answers(said, 200) == 1 and body.rstrip().endswith(b"</html>"), said[-600:]
        said, body = gtlsclient(address, "/v1/models")
        assert answers(said, 401) == 1 and b"missing_api_key" in body, (said[-600:], body)
    said, nothing = gtlsclient(OURS, "/", options=["--http-method=HEAD"])
    assert answers(said, 200) == 1 and nothing == b"" and f"content-length: {len(gtlsclient(OURS, '/')[1])}" in said, said[-600:]
    said, _ = gtlsclient(OURS, "/health", options=["-n100"])
    assert answers(said, 200) == 100, answers(said, 200)


def moves_keys_and_versions():
    for options in (["--change-local-addr=20ms"], ["--change-local-addr=20ms", "--nat-rebinding"], ["--key-update=20ms"], ["--version=v2"]):
        said, _ = gtlsclient(OURS, "/health", options=["--delay-stream=60ms", *options])
        assert answers(said, 200) == 1, (options, said[-600:])


def page_through_a_bad_bridge():
    whole = gtlsclient(OURS, "/")[1]
    net.bridge.set(loss=0.05, reorder=0.1, duplicate=0.05, corrupt=0.02, delay_ms=1)
    for _ in range(3):
        said, page = gtlsclient(OURS, "/")
        assert page == whole, (len(page), len(whole), said[-1500:])
    counts = net.bridge.set(loss=0, reorder=0, duplicate=0, corrupt=0, delay_ms=0)
    assert min(counts[name] for name in ("lost", "reordered", "duplicated")) > 0, counts


def test_devices():
    for kind in kinds():
        with doors.serving(net, kind, bridged=True):
            answers_keys_and_the_page()
            moves_keys_and_versions()
            page_through_a_bad_bridge()


def main():
    global doors
    needs(DATAPLANE, BYPASS)
    wants_tools("gtlsclient")
    with net, Doors() as doors:
        run_tests(globals(), sys.argv[1:])
        doors.stop()


main()
