"""A client of HTTP/3 on aioquic, a QUIC that shares no code with the door's.

    async with connect(OURS, doors.certificate) as client:
        answer = await client.request("GET", "/v1/models")
"""
import asyncio
import contextlib
import json
import ssl

import aioquic.asyncio
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset

from net import KEY, UDP_PORT, patience, read_events

PATIENCE_S = patience(60)  # for anything at all: a test that would wait for ever fails instead


class Broken(Exception):
    """The connection or the stream ended before the answer did."""


class Answer:
    def __init__(self):
        self.headers, self.trailers, self.body = None, None, b""
        self.over, self.broken = False, None
        self.news = asyncio.Event()

    @property
    def status(self):
        return int(self.headers[":status"])

    def json(self):
        return json.loads(self.body)


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.answers = {}
        self.sizes = []  # of the datagrams that came
        self.ended = None

    def datagram_received(self, data, addr):
        self.sizes.append(len(data))
        super().datagram_received(data, addr)

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.ended = event
            for answer in self.answers.values():
                answer.broken = answer.broken or Broken(f"connection: {event.error_code:#x} {event.reason_phrase}")
                answer.news.set()
        elif isinstance(event, StreamReset) and event.stream_id in self.answers:
            answer = self.answers[event.stream_id]
            answer.broken = Broken(f"stream: {event.error_code:#x}")
            answer.news.set()
        for came in self.http.handle_event(event):
            self._http_event(came)

    def _http_event(self, event):
        answer = self.answers.get(getattr(event, "stream_id", None))
        if answer is None:
            return
        if isinstance(event, HeadersReceived):
            fields = {name.decode(): value.decode() for name, value in event.headers}
            if answer.headers is None:
                answer.headers = fields
            else:
                answer.trailers = fields
        elif isinstance(event, DataReceived):
            answer.body += event.data
        answer.over = answer.over or getattr(event, "stream_ended", False)
        answer.news.set()

    def begin(self, method, path, body=None, key=KEY):
        """Sends a request; its answer fills itself."""
        stream = self._quic.get_next_available_stream_id()
        answer = self.answers[stream] = Answer()
        fields = [(":method", method), (":scheme", "https"), (":authority", f"localhost:{UDP_PORT}"), (":path", path),
                  ("authorization", "Bearer " + key)]
        if body is not None:
            fields += [("content-type", "application/json"), ("content-length", str(len(body)))]
        self.http.send_headers(stream, [(name.encode(), value.encode()) for name, value in fields], end_stream=body is None)
        if body is not None:
            self.http.send_data(stream, body, end_stream=True)
        self.transmit()
        answer.stream = stream
        return answer

    async def end(self, answer):
        while not answer.over:
            if answer.broken:
                raise answer.broken
            answer.news.clear()
            await asyncio.wait_for(answer.news.wait(), PATIENCE_S)
        return answer

    async def request(self, method, path, body=None, key=KEY):
        return await self.end(self.begin(method, path, body, key))

    async def chat(self, ask, **options):
        """read_events() of a chat that streams."""
        body = {"messages": [{"role": "user", "content": ask}], "temperature": 0, "stream": True,
                "stream_options": {"include_usage": True}, **options}
        answer = await self.request("POST", "/v1/chat/completions", json.dumps(body).encode())
        assert answer.status == 200 and answer.headers["content-type"].startswith("text/event-stream"), (answer.headers, answer.body)
        return read_events(answer.body)


@contextlib.asynccontextmanager
async def connect(address, certificate, port=UDP_PORT, **options):
    """options: QuicConfiguration's. The certificate is checked against the address."""
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name="localhost", verify_mode=ssl.CERT_REQUIRED, **options)
    configuration.load_verify_locations(cafile=certificate)
    async with aioquic.asyncio.connect(address, port, configuration=configuration, create_protocol=Client) as client:
        yield client


async def until_ready(address, certificate):
    """Until the door has its engine."""
    async with connect(address, certificate) as client:
        while (await client.request("GET", "/ready")).status != 200:
            await asyncio.sleep(0.02)
