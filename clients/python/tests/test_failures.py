"""What is refused, what dies, and what must not be shared."""

import gc
import os
import signal
import threading

import pytest
from test_answers import LONG, wait_until_quiet

import tessera


def test_nobody_there(tmp_path, monkeypatch):
    with pytest.raises(tessera.EngineGone, match="nobody.sock"):
        tessera.connect(tmp_path / "nobody.sock")
    monkeypatch.setenv("TESSERA_SOCKET", str(tmp_path / "env.sock"))
    with pytest.raises(ConnectionError, match="env.sock"):
        tessera.connect()
    for nonsense in ({"credit": 0}, {"credit": 2**31}, {"wait_mode": "hope"}):
        with pytest.raises(tessera.Invalid):
            tessera.connect(**nonsense)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": "warm"},
        {"top_p": 0},
        {"tokens_max": -1},
        {"tokens_max": 2**32},
        {"seed": 2**64},
        {"priority": 256},
        {"top_logprobs": 21},
        {"stops": [""]},
        {"stops": ["a\0b"]},
        {"stops": ["x" * 257]},
        {"stops": ["x"] * 17},
        {"stops": [3]},
        {"biases": {-1: 1.0}},
        {"biases": {1: 1000.0}},
        {"biases": dict.fromkeys(range(1025), 1.0)},
        {"no_such_option": 1},
    ],
)
def test_options_out_of_range(engine, options):
    with pytest.raises(tessera.Invalid):
        engine.generate("Once", **options).read()
    assert engine.generate("Once", tokens_max=1, ignore_end=True).read() is not None


def test_prompts_that_make_no_sense(engine):
    for prompt in ("", [], [-1], [2**32], ["a"], b"bytes", [engine.info.vocabulary]):
        with pytest.raises(tessera.Invalid):
            engine.generate(prompt).read()
    with pytest.raises(tessera.Invalid):
        engine.chat([{"role": "user", "content": object()}])
    with pytest.raises(tessera.Invalid, match="no messages"):
        engine.chat([])
    with pytest.raises(tessera.TooLarge):
        engine.generate("x" * (engine.info.payload_bytes_max + 1))


def test_too_many_at_once(engine):
    answers = []
    with pytest.raises(tessera.Busy, match="live"):
        while True:
            answers.append(engine.generate("Once", **LONG))
    assert len(answers) == engine.info.requests_max


def test_an_engine_that_dies(mortal):
    engine = tessera.connect(mortal.socket)
    first, second = (engine.generate("Once", **LONG) for _ in range(2))
    next(first), next(second)
    mortal.kill()
    with pytest.raises(tessera.EngineGone):
        first.read()
    with pytest.raises(tessera.EngineGone):
        second.read()
    for call in (engine.status, lambda: engine.generate("Once"), lambda: engine.tokenize("Once")):
        with pytest.raises(tessera.EngineGone):
            call()
    engine.close()
    mortal.start()
    with tessera.connect(mortal.socket) as again:
        assert again.generate("Once", tokens_max=2, ignore_end=True).read()


def test_a_closed_engine(daemon):
    with tessera.connect(daemon.socket) as engine:
        answer = engine.generate("Once", **LONG)
        next(answer)
        assert "1 requests" in repr(engine)
    with pytest.raises(tessera.TesseraError, match="closed"):
        answer.read()
    with pytest.raises(tessera.TesseraError, match="closed"):
        engine.generate("Once")
    engine.close()


def test_descriptors_come_back(daemon):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    gc.collect()
    before = descriptors()
    for i in range(30):
        engine = tessera.connect(daemon.socket)
        next(engine.generate("Once", **LONG))
        if i % 2:
            engine.close()
        else:
            del engine
    assert descriptors() == before


def test_two_threads_at_a_time(engine):
    answer = engine.generate("Once", **LONG)
    next(answer)
    sink, told = [], threading.Event()

    def read():
        for token in answer:
            sink.append(token)
            told.set()

    thread = threading.Thread(target=read)
    thread.start()
    told.wait()
    with pytest.raises(tessera.InUse):
        while thread.is_alive():
            engine.generate("Twice", tokens_max=1)
    thread.join()
    assert engine.generate("Once", tokens_max=2).read() is not None  # handed back


def test_after_fork(engine):
    answer = engine.generate("Once", **LONG)
    next(answer)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            answer.read()
        except tessera.TesseraError as error:
            code = 0 if "fork" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sum(t.token is not None for t in answer) == 399


def test_a_child_does_not_keep_the_channel(daemon, engine):
    other = tessera.connect(daemon.socket)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    before = engine.status().channels
    other.close()
    while engine.status().channels == before:  # CTest limits the time
        pass
    os.close(writer)
    os.waitpid(child, 0)


def test_interrupt(engine):
    """Ctrl-C ends the loop, and no other answer loses a token."""
    other = engine.generate("Twice", **LONG)
    for delay in (0.001, 0.01, 0.02, 0.03):
        timer = threading.Timer(delay, signal.raise_signal, [signal.SIGINT])
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            while True:
                engine.generate("Once", **LONG).read()
        timer.join()
    assert [t.index for t in other if t.token is not None] == list(range(400))
    wait_until_quiet(engine)
