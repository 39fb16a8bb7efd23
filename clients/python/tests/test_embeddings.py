"""Embeddings as arrays."""

import asyncio

import numpy
import pytest

import tessera

TEXTS = ["list all files", "remove a folder", "a" * 1000]


def test_embed(engine):
    array = engine.embed(TEXTS)
    assert array.shape == (3, engine.info.embedding_width) and array.dtype == numpy.float32
    assert numpy.allclose(numpy.linalg.norm(array, axis=1), 1, atol=1e-5)
    assert not array.flags.owndata
    for i, text in enumerate(TEXTS):
        assert (engine.embed(text) == array[i]).all()
        assert (engine.embed([engine.tokenize(text)])[0] == array[i]).all()
    assert engine.embed([]).shape == (0, engine.info.embedding_width)


def test_embed_outlives_its_engine(daemon):
    with tessera.connect(daemon.socket) as engine:
        array = engine.embed(TEXTS)
        before = array.copy()
    del engine
    assert (array == before).all()


def test_more_than_the_engine_takes_at_once(engine):
    count = 3 * engine.info.requests_max
    array = engine.embed([f"number {i}" for i in range(count)])
    assert (array[count - 1] == engine.embed(f"number {count - 1}")).all()


def test_embed_under_asyncio(engine):
    async def main():
        return await asyncio.gather(
            engine.aembed(TEXTS),
            engine.generate("Once", tokens_max=4, ignore_end=True).aread(),
            engine.aembed(TEXTS[0]),
        )

    many, text, one = asyncio.run(main())
    assert (many == engine.embed(TEXTS)).all() and (one == many[0]).all() and text


def test_what_cannot_be_embedded(engine):
    for prompts in ([""], ["fine", ""], [[-1]], ["x " * 5000]):
        with pytest.raises(tessera.Invalid):
            engine.embed(prompts)
    assert engine.embed(TEXTS).shape[0] == 3
