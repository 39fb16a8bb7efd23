"""The official Python client, unchanged, against a box: chat, completions, embeddings, responses, tools, errors, cancelling."""

import asyncio
import base64
import contextlib
import json
import math
import os
import signal
import socket
import struct
import tempfile
import time
import unittest

import openai

from box import TINY, TOOLS_TEMPLATE, USUAL, Box

ASK = [{"role": "user", "content": "list all files in the current folder, with their sizes"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def setUpModule():
    global box, client, asynchronous, model
    box = Box(engine=["--sequences", "8"]).__enter__()
    client = openai.OpenAI(base_url=box.url + "/v1", api_key="none", max_retries=0)
    asynchronous = openai.AsyncOpenAI(base_url=box.url + "/v1", api_key="none", max_retries=0)
    model = client.models.list().data[0].id


def tearDownModule():
    box.idle()
    box.stop()
    box.__exit__()


def chat(**options):
    return client.chat.completions.create(model=model, messages=ASK, **({"temperature": 0, "max_tokens": 24} | options))


def gather(stream):
    """(text, finish reason, usage, number of chunks with text) of a chat's stream"""
    text, reason, usage, count = "", None, None, 0
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            count += bool(choice.delta.content)
            reason = choice.finish_reason or reason
    return text, reason, usage, count


class Models(unittest.TestCase):
    def test_list_and_retrieve(self):
        self.assertEqual([model], [m.id for m in client.models.list()])
        self.assertEqual("model", client.models.retrieve(model).object)

    def test_unknown_model_is_not_found(self):
        with self.assertRaises(openai.NotFoundError) as raised:
            client.models.retrieve("gpt-none")
        self.assertIn("gpt-none", str(raised.exception))
        with self.assertRaises(openai.NotFoundError):
            client.chat.completions.create(model="gpt-none", messages=ASK)


class Chat(unittest.TestCase):
    def test_answer_and_usage(self):
        answer = chat()
        choice = answer.choices[0]
        self.assertTrue(choice.message.content.strip())
        self.assertEqual("assistant", choice.message.role)
        self.assertIn(choice.finish_reason, ("stop", "length"))
        self.assertGreater(answer.usage.prompt_tokens, 5)
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)

    def test_stream_is_the_same_answer(self):
        text, reason, usage, _ = gather(chat(stream=True, stream_options={"include_usage": True}))
        whole = chat()
        self.assertEqual(whole.choices[0].message.content, text)
        self.assertEqual(whole.choices[0].finish_reason, reason)
        self.assertEqual(whole.usage.completion_tokens, usage.completion_tokens)

    def test_no_usage_unless_asked(self):
        self.assertIsNone(gather(chat(stream=True))[2])

    def test_tokens_leave_as_they_are_made(self):
        began, moments = time.monotonic(), []
        for chunk in chat(stream=True, max_tokens=300, extra_body={"ignore_eos": True}):
            if chunk.choices and chunk.choices[0].delta.content:
                moments.append(time.monotonic() - began)
        self.assertGreater(len(moments), 100)
        # Were answers held back, the first would come with the last.
        self.assertLess(moments[0], 0.5 * moments[-1])
        self.assertLess(moments[len(moments) // 2], 0.8 * moments[-1])

    def test_many_at_once_say_what_one_alone_says(self):
        async def one():
            text = ""
            stream = await asynchronous.chat.completions.create(
                model=model, messages=ASK, temperature=0, max_tokens=24, stream=True)
            async for chunk in stream:
                text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            return text

        async def all_of_them():
            return await asyncio.gather(*[one() for _ in range(16)])

        self.assertEqual({chat().choices[0].message.content}, set(asyncio.run(all_of_them())))

    def test_n_choices(self):
        answer = chat(n=3, temperature=1.5, seed=7)
        self.assertEqual([0, 1, 2], sorted(c.index for c in answer.choices))
        self.assertGreater(len({c.message.content for c in answer.choices}), 1)
        seen = set()
        for chunk in chat(n=2, stream=True):
            seen |= {c.index for c in chunk.choices}
        self.assertEqual({0, 1}, seen)

    def test_seed_repeats(self):
        first, second = (chat(temperature=1.2, seed=42).choices[0].message.content for _ in range(2))
        self.assertEqual(first, second)

    def test_length(self):
        answer = chat(max_tokens=openai.NOT_GIVEN, max_completion_tokens=3)
        self.assertEqual(("length", 3), (answer.choices[0].finish_reason, answer.usage.completion_tokens))

    def test_stop(self):
        whole = chat().choices[0].message.content
        at = len(whole) // 2
        mark = whole[at : at + 3]
        answer = chat(stop=["never to be seen", mark])
        self.assertEqual(whole[: whole.index(mark)], answer.choices[0].message.content)
        self.assertEqual("stop", answer.choices[0].finish_reason)

    def test_logprobs(self):
        content = chat(logprobs=True, top_logprobs=4).choices[0].logprobs.content
        for entry in content:
            self.assertEqual(4, len(entry.top_logprobs))
            self.assertLessEqual(entry.logprob, 0)
            # Greedy: the likeliest was taken.
            self.assertAlmostEqual(entry.logprob, entry.top_logprobs[0].logprob, places=4)
        spoken = b"".join(bytes(e.bytes or []) for e in content).decode(errors="replace")
        self.assertIn(chat().choices[0].message.content.strip(), spoken)

    def test_logit_bias(self):
        first = client.post("/../tokenize", body={"prompt": chat().choices[0].message.content, "add_special_tokens": False},
                            cast_to=object)["tokens"][0]
        self.assertNotEqual(chat().choices[0].message.content, chat(logit_bias={str(first): -100}).choices[0].message.content)

    def test_parts_of_text(self):
        parts = [{"role": "user", "content": [{"type": "text", "text": ASK[0]["content"]}]}]
        answer = client.chat.completions.create(model=model, messages=parts, temperature=0, max_tokens=24)
        self.assertEqual(chat().choices[0].message.content, answer.choices[0].message.content)


class Completions(unittest.TestCase):
    def ask(self, prompt, **options):
        return client.completions.create(model=model, prompt=prompt, **({"temperature": 0, "max_tokens": 8} | options))

    def test_text_tokens_and_lists(self):
        text = "<|im_start|>user\nshow free memory"
        one = self.ask(text).choices[0].text
        tokens = client.post("/../tokenize", body={"prompt": text}, cast_to=object)["tokens"]
        self.assertEqual(one, self.ask(tokens).choices[0].text)
        both = self.ask([text, text])
        self.assertEqual([one, one], [c.text for c in sorted(both.choices, key=lambda c: c.index)])
        self.assertEqual(one, "".join(c.choices[0].text for c in self.ask(text, stream=True) if c.choices))

    def test_echo(self):
        self.assertTrue(self.ask("show free memory", echo=True).choices[0].text.startswith("show free memory"))

    def test_logprobs(self):
        logprobs = self.ask("show free memory", logprobs=2, extra_body={"ignore_eos": True}).choices[0].logprobs
        self.assertEqual(8, len(logprobs.tokens))
        self.assertEqual(8, len(logprobs.token_logprobs))
        self.assertEqual(0, logprobs.text_offset[0])


class Embeddings(unittest.TestCase):
    def test_forms_agree(self):
        texts = ["list files", "show disk usage"]
        plain = client.embeddings.create(model=model, input=texts, encoding_format="float")
        coded = client.post("/embeddings", body={"model": model, "input": texts, "encoding_format": "base64"}, cast_to=object)
        self.assertEqual([0, 1], [e.index for e in plain.data])
        for ours, theirs in zip(plain.data, coded["data"]):
            raw = base64.b64decode(theirs["embedding"])
            for a, b in zip(ours.embedding, struct.unpack(f"<{len(raw) // 4}f", raw), strict=True):
                self.assertAlmostEqual(a, b, places=6)
            self.assertAlmostEqual(1, math.sqrt(sum(x * x for x in ours.embedding)), places=4)
        # One alone, in the form that the client chooses by itself.
        alone = client.embeddings.create(model=model, input=texts[1]).data[0].embedding
        for a, b in zip(alone, plain.data[1].embedding, strict=True):
            self.assertAlmostEqual(a, b, places=6)
        self.assertGreater(plain.usage.prompt_tokens, 2)


class Responses(unittest.TestCase):
    def test_text(self):
        answer = client.responses.create(model=model, input=ASK[0]["content"], temperature=0, max_output_tokens=24)
        self.assertEqual(chat().choices[0].message.content, answer.output_text)
        self.assertIn(answer.status, ("completed", "incomplete"))

    def test_stream_of_events(self):
        kinds, text = [], ""
        for event in client.responses.create(model=model, input=ASK, temperature=0, max_output_tokens=24, stream=True):
            kinds.append(event.type)
            if event.type == "response.output_text.delta":
                text += event.delta
        self.assertEqual("response.created", kinds[0])
        self.assertIn(kinds[-1], ("response.completed", "response.incomplete"))
        self.assertEqual(chat().choices[0].message.content, text)

    def test_state_is_refused(self):
        with self.assertRaises(openai.BadRequestError) as raised:
            client.responses.create(model=model, input="x", previous_response_id="resp_1")
        self.assertIn("previous_response_id", str(raised.exception))


class Refusals(unittest.TestCase):
    def refused(self, word, error=openai.BadRequestError, **options):
        with self.assertRaises(error) as raised:
            chat(**options)
        self.assertIn(word, str(raised.exception))
        return raised.exception

    def test_named_with_their_parameter(self):
        self.assertEqual("temperature", self.refused("temperature", extra_body={"temperature": "hot"}).param)
        self.refused("top_p", top_p=3)
        self.refused("messages", extra_body={"messages": "hello"})
        self.refused("n", n=1000)
        self.refused("response_format", response_format={"type": "json_object"})
        self.refused("modalities", extra_body={"modalities": ["audio"]})

    def test_unknown_fields_are_ignored(self):
        self.assertTrue(chat(extra_body={"no_such_field": {"deep": [1, 2]}}).choices)

    def test_prompt_beyond_the_context(self):
        long = [{"role": "user", "content": "word " * 5000}]
        with self.assertRaises(openai.BadRequestError) as raised:
            client.chat.completions.create(model=model, messages=long)
        self.assertEqual("context_length_exceeded", raised.exception.code)

    def test_tools_without_a_template_for_them(self):
        self.refused("tool", tools=[WEATHER], tool_choice="required")


class Cancelling(unittest.TestCase):
    def test_a_closed_stream_frees_its_sequence(self):
        stream = chat(stream=True, max_tokens=1500, extra_body={"ignore_eos": True})
        next(iter(stream))
        box.wait(lambda: box.metric("tessera:num_requests_running") == 1, "it does not run")
        stream.close()
        box.idle()


class Keys(unittest.TestCase):
    def test_a_key_is_wanted_and_limited(self):
        import hashlib
        secret = "tsr-" + "k" * 43
        line = f"someone sha256:{hashlib.sha256(secret.encode()).hexdigest()} requests=3/min\n"
        with Box(keys=line) as locked:
            ask = {"model": model, "messages": ASK, "max_tokens": 2}
            with self.assertRaises(openai.AuthenticationError):
                openai.OpenAI(base_url=locked.url + "/v1", api_key="tsr-wrong", max_retries=0).chat.completions.create(**ask)
            known = openai.OpenAI(base_url=locked.url + "/v1", api_key=secret, max_retries=0)
            with self.assertRaises(openai.RateLimitError) as raised:
                for _ in range(8):
                    self.assertTrue(known.chat.completions.create(**ask).choices)
            self.assertGreater(int(raised.exception.response.headers["retry-after"]), 0)


class Engines(unittest.TestCase):
    def test_engine_killed_and_started_again(self):
        with Box(models=(TINY, TINY)) as pair:
            talk = openai.OpenAI(base_url=pair.url + "/v1", api_key="none", max_retries=0)
            names = [m.id for m in talk.models.list()]
            self.assertEqual(2, len(set(names)))
            ask = {"messages": ASK, "max_tokens": 4}
            stream = talk.chat.completions.create(model=names[0], messages=ASK, max_tokens=1500, stream=True,
                                                  extra_body={"ignore_eos": True})
            next(iter(stream))
            pair.kill_engine(0)
            with self.assertRaises(openai.APIError):
                for _ in stream:
                    pass
            with self.assertRaises(openai.InternalServerError) as raised:
                talk.chat.completions.create(model=names[0], **ask)
            self.assertEqual(503, raised.exception.status_code)
            self.assertIn("retry-after", raised.exception.response.headers)
            self.assertTrue(talk.chat.completions.create(model=names[1], **ask).choices)
            pair.start_engine(0)
            patient = talk.with_options(max_retries=20)
            self.assertTrue(patient.chat.completions.create(model=names[0], **ask).choices)

    def test_stopped_engine_holds_up_nobody_else(self):
        with Box(models=(TINY, TINY)) as pair:
            talk = openai.OpenAI(base_url=pair.url + "/v1", api_key="none", max_retries=0, timeout=30)
            names = [m.id for m in talk.models.list()]
            ask = {"messages": ASK, "max_tokens": 4}
            body = json.dumps(ask | {"model": names[0], "n": 8})
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            port = int(pair.url.rsplit(":", 1)[1])
            pair.engines[0].send_signal(signal.SIGSTOP)
            with contextlib.ExitStack() as crowd:
                for _ in range(600):  # ask for more than the door can do at once
                    crowd.enter_context(socket.create_connection(("127.0.0.1", port))).sendall((head + body).encode())
                for path in ("/health", "/ready", "/metrics", "/v1/models"):
                    self.assertEqual(200, pair.get(path)[0])
                self.assertTrue(talk.chat.completions.create(model=names[1], **ask).choices)
            with self.assertRaises(openai.InternalServerError) as raised:
                talk.chat.completions.create(model=names[0], extra_headers={"X-Tessera-Deadline-Ms": "300"}, **ask)
            self.assertEqual(504, raised.exception.status_code)
            pair.engines[0].send_signal(signal.SIGCONT)
            pair.idle()
            self.assertTrue(talk.chat.completions.create(model=names[0], **ask).choices)


@unittest.skipUnless(os.path.exists(USUAL), "the default model is not there: deploy/fetch-model.sh")
class Tools(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        path = os.path.join(cls.folder.name, "tools.jinja")
        with open(path, "w") as file:
            file.write(TOOLS_TEMPLATE)
        cls.box = Box(models=[USUAL], engine=["--chat-template", path]).__enter__()
        cls.client = openai.OpenAI(base_url=cls.box.url + "/v1", api_key="none", max_retries=0)
        cls.model = cls.client.models.list().data[0].id

    @classmethod
    def tearDownClass(cls):
        cls.box.__exit__()
        cls.folder.cleanup()

    def ask(self, **options):
        messages = [{"role": "user", "content": "What is the weather in Paris?"}]
        return self.client.chat.completions.create(
            model=self.model, **({"messages": messages, "tools": [WEATHER], "temperature": 0, "max_tokens": 64} | options))

    def test_a_named_function(self):
        choice = self.ask(tool_choice={"type": "function", "function": {"name": "get_weather"}}).choices[0]
        call = choice.message.tool_calls[0]
        self.assertEqual("get_weather", call.function.name)
        self.assertTrue(call.function.arguments.startswith("{"))
        self.assertIn(choice.finish_reason, ("tool_calls", "stop"))

    def test_streamed_calls_are_the_same(self):
        choice = {"type": "function", "function": {"name": "get_weather"}}
        whole = self.ask(tool_choice=choice).choices[0].message.tool_calls[0].function.arguments
        pieces, ids, names, reasons = "", set(), [], []
        for chunk in self.ask(tool_choice=choice, stream=True):
            for call in chunk.choices[0].delta.tool_calls or []:
                pieces += call.function.arguments or ""
                ids |= {call.id} if call.id else set()
                names += [call.function.name] if call.function.name else []
            reasons += [chunk.choices[0].finish_reason] if chunk.choices[0].finish_reason else []
        self.assertEqual((whole, 1, ["get_weather"]), (pieces, len(ids), names))
        self.assertEqual(1, len(reasons))

    def test_the_way_back(self):
        messages = [
            {"role": "user", "content": "What is the weather in Paris?"},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Paris\"}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "Sunny, 21 degrees."},
        ]
        rendered = self.client.post("/../apply-template", body={"messages": messages, "tools": [WEATHER]}, cast_to=object)["prompt"]
        self.assertIn('{"name": "get_weather", "arguments": {"city": "Paris"}}', rendered)
        self.assertIn("<tool_response>\nSunny, 21 degrees.", rendered)
        self.assertIn("<tools>", rendered)
        self.assertTrue(self.ask(messages=messages).choices[0].message.content)

    def test_required_and_none(self):
        self.assertTrue(self.ask(tool_choice="required").choices[0].message.tool_calls)
        self.assertFalse(self.ask(tool_choice="none").choices[0].message.tool_calls)

    def test_responses_call_functions(self):
        answer = self.client.responses.create(
            model=self.model, input="What is the weather in Paris?", temperature=0, max_output_tokens=64,
            tools=[{"type": "function"} | WEATHER["function"]], tool_choice={"type": "function", "name": "get_weather"})
        self.assertEqual(["get_weather"], [item.name for item in answer.output if item.type == "function_call"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
