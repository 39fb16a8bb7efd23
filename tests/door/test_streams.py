"""Very many streams at once through one dataplane: every one of them gets every token."""

import asyncio
import json
import os
import re
import unittest

from box import Box

STREAMS = int(os.environ.get("STREAMS", "1000"))
TOKENS = 16


async def stream(port, index):
    body = json.dumps({"messages": [{"role": "user", "content": f"show the last {index % 10} lines"}], "temperature": 0,
                       "max_tokens": TOKENS, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}})
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write((f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode())
    said = (await reader.read()).decode()
    writer.close()
    text = "".join(json.loads(piece) for piece in re.findall(r'"content":("(?:[^"\\]|\\.)*")', said))
    tokens = re.search(r'"completion_tokens":(\d+)', said)
    return index % 10, text, int(tokens[1]) if tokens else said[:200]


async def all_of_them(port):
    return await asyncio.gather(*[stream(port, index) for index in range(STREAMS)])


class Streams(unittest.TestCase):
    def test_no_token_is_lost(self):
        with Box(engine=["--queue", str(STREAMS)]) as box:
            answers = asyncio.run(all_of_them(int(box.url.rsplit(":", 1)[1])))
            self.assertEqual({TOKENS}, {tokens for _, _, tokens in answers})
            for question in range(10):
                self.assertEqual(1, len({text for asked, text, _ in answers if asked == question}))
            box.idle()
            box.stop()


if __name__ == "__main__":
    unittest.main(verbosity=2)
