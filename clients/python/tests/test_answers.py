"""Answers, read as they come."""

import itertools

import pytest

import tessera

LONG = {"tokens_max": 400, "ignore_end": True}
CHAT = [{"role": "user", "content": "list all files"}]


def wait_until_quiet(engine: tessera.Engine) -> None:
    """Until no request is left: one that was not cancelled would be parked for longer than CTest waits."""
    while (s := engine.status()).requests_running + s.requests_waiting + s.requests_parked:
        pass


def test_generate_gives_tokens_and_figures(engine):
    answer = engine.generate("Once upon a time", tokens_max=12, ignore_end=True)
    tokens = list(answer)
    assert [t.index for t in tokens if t.token is not None] == list(range(12))
    assert answer.accepted.prompt_tokens == answer.end.prompt_tokens > 0
    assert answer.end.reason == "length" and answer.end.completion_tokens == 12
    assert tokens[0].logprob is None and not tokens[0].top
    assert tokens[0].time_ns <= tokens[-1].time_ns
    assert list(answer) == []


def test_generate_is_repeatable(engine):
    def ask(**options):
        return engine.generate("Once", tokens_max=12, ignore_end=True, **options).read()

    assert ask() == ask()
    assert ask(temperature=1.0, seed=2**64 - 1) == ask(temperature=1.0, seed=2**64 - 1)


def test_generate_from_token_ids(engine):
    ids = engine.tokenize("Once upon a time")
    by_ids = engine.generate(ids, tokens_max=8).read()
    assert by_ids == engine.generate("Once upon a time", tokens_max=8).read()


def test_chat(engine):
    answer = engine.chat(CHAT, tokens_max=16)
    assert answer.read()
    tokens = engine.tokenize_chat(CHAT)
    assert answer.accepted.prompt_tokens == len(tokens)
    assert len(engine.tokenize_chat(CHAT, no_turn=True)) < len(tokens)


def test_chat_with_what_only_json_says(engine):
    tools = [{"type": "function", "function": {"name": "ls", "parameters": {}}}]
    assert engine.chat(CHAT, tools=tools, template={"mood": "kühl"}, tokens_max=4).read()
    ümlaut = [{"role": "user", "content": "größer als 10 € \U0001f600"}]
    assert len(engine.tokenize_chat(ümlaut)) > len(
        engine.tokenize_chat([{**CHAT[0], "content": ""}])
    )


def test_logprobs(engine):
    answer = engine.generate("Once", tokens_max=4, ignore_end=True, top_logprobs=3)
    for token in answer:
        assert token.logprob <= 0 and len(token.top) == 3
        assert token.top[0].token == token.token and token.top[0].logprob == token.logprob


def test_stops_and_biases(engine):
    free = engine.generate("Once", tokens_max=12, ignore_end=True, top_logprobs=1)
    tokens = list(free)
    text = "".join(t.text for t in tokens)
    stop = next(w for w in text.split() if w)
    answer = engine.generate("Once", tokens_max=12, ignore_end=True, stops=["\x01never", stop])
    assert answer.read() == text[: text.index(stop)]
    assert answer.end.reason == "stop" and answer.end.stop_index == 1
    first = tokens[0].token
    banned = engine.generate("Once", tokens_max=1, ignore_end=True, biases={first: -100})
    assert next(banned).token != first


def test_several_answers_at_once(engine):
    alone = [
        engine.generate(f"Number {i}", tokens_max=20, ignore_end=True).read() for i in range(4)
    ]
    answers = [engine.generate(f"Number {i}", tokens_max=20, ignore_end=True) for i in range(4)]
    texts = [""] * 4
    for round in itertools.zip_longest(*answers):
        for i, token in enumerate(round):
            texts[i] += token.text if token else ""
    assert texts == alone


def test_a_slow_reader_holds_back_itself_only(daemon):
    with tessera.connect(daemon.socket, credit=4) as engine:
        slow = engine.generate("Once", tokens_max=100, ignore_end=True)
        next(slow)
        fast = engine.generate("Twice", tokens_max=100, ignore_end=True)
        assert sum(t.token is not None for t in fast) == 100
        assert len(slow._tokens) <= 4
        assert slow.end is None
        assert sum(t.token is not None for t in slow) == 99


def test_leaving_the_loop_cancels(engine):
    for _ in engine.generate("Once", **LONG):
        break
    wait_until_quiet(engine)


def test_close_cancels(engine):
    answer = engine.generate("Once", **LONG)
    next(answer)
    answer.close()
    assert list(answer) == [] and answer.end is None
    with engine.generate("Once", **LONG) as answer:
        next(answer)
    answer = engine.generate("Once", **LONG)
    del answer
    wait_until_quiet(engine)


def test_cancelled_answers_give_their_places_back(engine):
    for _ in range(2 * engine.info.requests_max):
        answer = engine.generate("Once", **LONG)
        next(answer)
        answer.close()


def test_a_deadline_ends_an_answer(engine):
    answer = engine.generate("Once", deadline_ms=1, **LONG)
    answer.read()
    assert answer.end is None or answer.end.reason in ("deadline", "length")


def test_a_prompt_longer_than_the_ring(engine):
    ids = [100 + i % 1000 for i in range(1_000_000)]
    with pytest.raises(tessera.Invalid):  # travels in parts, and exceeds the context
        engine.generate(ids).read()
    assert len(engine.tokenize("word " * 20_000)) >= 20_000


def test_tokenize(engine):
    ids = engine.tokenize("Hello there, wörld")
    assert ids and all(0 <= i < engine.info.vocabulary for i in ids)
    marked = engine.tokenize("<|im_end|>", special=True)
    assert len(marked) == 1 < len(engine.tokenize("<|im_end|>"))


def test_status_and_info(engine):
    answer = engine.generate("Once", **LONG)
    next(answer)
    status = engine.status()
    assert status.model == engine.info.model and status.engine == engine.info.engine
    assert status.requests_running + status.requests_parked >= 1 and status.channels >= 1
    assert status.nodes and status.threads
    assert sum(status.requests_ended.values()) == status.requests_done
    assert status.requests[0].state in ("prefilling", "decoding", "parking")
    assert sum(t.token is not None for t in answer) == 399  # status() kept its events
    assert engine.info.has_chat and engine.info.context_tokens == 2048


def test_detokenize_and_render(engine):
    text = "Hello there, wörld"
    assert engine.detokenize(engine.tokenize(text)) == text
    rendered = engine.render(CHAT)
    assert "list all files" in rendered and rendered.endswith("<|im_start|>assistant\n")
    assert engine.tokenize(rendered, special=True, no_bos=True) == engine.tokenize_chat(CHAT)
    assert engine.detokenize(engine.tokenize_chat(CHAT), show_special=True) == rendered
    assert not engine.render(CHAT, no_turn=True).endswith("assistant\n")


def test_continue_an_answer(engine):
    whole = [t.token for t in engine.chat(CHAT, tokens_max=12, ignore_end=True)]
    start = engine.detokenize(whole[:4])
    rest = engine.chat(CHAT, tokens_max=8, ignore_end=True, template={"continue_with": start})
    assert rest.read() == engine.detokenize(whole[4:12])
