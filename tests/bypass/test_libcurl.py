"""libcurl's HTTP/3 (its GnuTLS build, as Debian's backports have it) against the second door, with an API key.

The library alone is used, since its development files would replace those of the OpenSSL build."""
import ctypes
import json
import os
import sys

from net import BYPASS, DATAPLANE, KEY, OURS, OURS6, UDP_PORT, Doors, Net, kinds, needs, patience, read_events, run_tests, skip

LIBRARY = os.environ.get("TESSERA_LIBCURL", "libcurl-gnutls.so.4")
# curl/curl.h
URL, HTTP_VERSION, CAINFO, HTTPHEADER, POSTFIELDS, WRITEFUNCTION, NOBODY, TIMEOUT = 10002, 84, 10065, 10023, 10015, 20011, 44, 13
ONLY_HTTP3, STATUS, VERSION_USED = 31, 0x200002, 0x20002E
net = Net()


def open_library():
    try:
        curl = ctypes.CDLL(LIBRARY)
    except OSError:
        skip(f"{LIBRARY} is not installed (libcurl3-gnutls)")
    curl.curl_version.restype = ctypes.c_char_p
    version = curl.curl_version().decode()
    if "nghttp3" not in version:
        skip(f"this {LIBRARY} is without HTTP/3: {version}")
    for name in ("curl_easy_init", "curl_slist_append"):
        getattr(curl, name).restype = ctypes.c_void_p
    curl.curl_easy_strerror.restype = ctypes.c_char_p
    print(f"  {version}")
    return curl


def ask(address, path, data=None, head=False):
    """(status, body)"""
    body = bytearray()
    write = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p)(
        lambda bytes_, size, n, _: body.extend(ctypes.string_at(bytes_, size * n)) or size * n)
    fields = curl.curl_slist_append(None, f"authorization: Bearer {KEY}".encode())
    fields = curl.curl_slist_append(ctypes.c_void_p(fields), b"content-type: application/json")
    host = f"[{address}]" if ":" in address else address
    easy = ctypes.c_void_p(curl.curl_easy_init())
    for option, value in ((URL, f"https://{host}:{UDP_PORT}{path}".encode()), (CAINFO, doors.certificate.encode()), (WRITEFUNCTION, write),
                          (HTTPHEADER, ctypes.c_void_p(fields)), (HTTP_VERSION, ctypes.c_long(ONLY_HTTP3)), (TIMEOUT, ctypes.c_long(round(patience(60)))),
                          (NOBODY, ctypes.c_long(head)), *([(POSTFIELDS, data)] if data else [])):
        assert curl.curl_easy_setopt(easy, option, value) == 0, option
    code = curl.curl_easy_perform(easy)
    assert code == 0, curl.curl_easy_strerror(code)
    status, used = ctypes.c_long(), ctypes.c_long()
    curl.curl_easy_getinfo(easy, STATUS, ctypes.byref(status))
    curl.curl_easy_getinfo(easy, VERSION_USED, ctypes.byref(used))
    assert used.value == 30, used  # CURL_HTTP_VERSION_3
    curl.curl_easy_cleanup(easy)
    return status.value, bytes(body)


def answers(address):
    status, models = ask(address, "/v1/models")
    assert status == 200 and json.loads(models)["object"] == "list"
    assert ask(address, "/v1/models", head=True) == (200, b"")
    assert ask(address, "/v1/nothing")[0] == 404
    chat = {"messages": [{"role": "user", "content": "list files"}], "temperature": 0, "max_tokens": 40, "ignore_eos": True}
    status, whole = ask(address, "/v1/chat/completions", json.dumps(chat).encode())
    assert status == 200, whole
    status, stream = ask(address, "/v1/chat/completions", json.dumps(chat | {"stream": True, "stream_options": {"include_usage": True}}).encode())
    text, usage = read_events(stream)
    assert status == 200 and usage["completion_tokens"] == 40 and text == json.loads(whole)["choices"][0]["message"]["content"]


def test_devices():
    for kind in kinds():
        with doors.serving(net, kind):
            while ask(OURS, "/ready")[0] != 200:
                pass
            for address in (OURS, OURS6):
                answers(address)


def main():
    global curl, doors
    needs(DATAPLANE, BYPASS)
    curl = open_library()
    with net, Doors() as doors:
        run_tests(globals(), sys.argv[1:])
        doors.stop()


main()
