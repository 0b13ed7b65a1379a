"""Steps that begin the next one before their own tokens are read: the same texts and caches, and no step too many."""

from dataclasses import replace

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib import backend
from course_lib.data.tokenizer import Tokenizer
from course_lib.generate import rows as module
from course_lib.generate.engine import Engine
from course_lib.generate.kv_cache import KVCache
from course_lib.generate.rows import Batch, Request, Row, prefill
from course_lib.model.gpt import GPT, GPTConfig

TOKENIZER = Tokenizer.train(["some words, and 1+2=3 of them"], 280, allow_smaller=True)


@pytest.fixture(autouse=True, scope="module")
def float32():
    """Compute in float32 on a GPU too: the promises are exact, bfloat16 is not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "compute_dtype", lambda: mx.float32)
        yield


@pytest.fixture(scope="module")
def model():
    """Random weights; it calls its tool again and again, and sometimes ends."""
    model = GPT(GPTConfig(40, TOKENIZER.vocab_size, n_layer=2, n_head=4, n_kv_head=2, n_embd=32))
    keys = iter(mx.random.split(mx.random.key(1), 100))
    model.apply_to_modules(lambda _, module: module.apply(lambda a: 0.3 * mx.random.normal(a.shape, key=next(keys))))
    for name, factor in {"<|python_start|>": 4, "<|python_end|>": 4, "<|assistant_end|>": 2}.items():
        model.lm_head.weight[TOKENIZER.special(name)] *= factor
    mx.eval(model.parameters())
    return model


def tool(expression):
    """Sometimes nothing, sometimes a failure, else a few tokens."""
    if len(expression) % 4 == 2:
        raise ZeroDivisionError
    return None if len(expression) % 4 == 1 else "some"[: 1 + len(expression) % 4]


def settle(engine, batch):
    """Let the rows that have ended leave, and look at what they leave behind."""
    for row in list(batch.rows):
        if row.finish_reason:
            leave(engine, batch, row)


def leave(engine, batch, row):
    if not row.error:
        engine.keep(row, batch)
        ids, kept = engine.prefixes._texts[-1]
        assert kept.lengths == [len(ids)] and len(ids) >= len(row.prompt_ids + row.ids) - 1
        fresh = KVCache(engine.model.config)
        list(prefill(engine.model, ids, fresh))
        for mine, theirs in zip(kept.layers, fresh.layers, strict=True):
            for one, other in ((mine.keys, theirs.keys), (mine.values, theirs.values)):
                assert mx.allclose(one[:, :, : len(ids)], other[:, :, : len(ids)], atol=1e-4)
    batch.leave(row)


def written(row):
    return row.ids, row.masks, row.finish_reason, type(row.error)


def random_request(random):
    prompt = random.choices(range(TOKENIZER.vocab_size), k=random.choice([1, 2, 9, 20, 38]))
    watch = random.choice([None, Watch()])
    temperature, top_k = random.choice([0, 0.7, 1.5]), random.choice([None, 20])
    return Request(prompt, random.choice([1, 9, 30]), temperature, top_k, watch=watch)


class Watch(list):
    """The tokens and the logits before them that a request was told of."""

    def __call__(self, token, logits):
        self.append((token, logits))

    def check(self, model, row):
        """They are the row's tokens, and the logits of a forward pass over all of it."""
        assert [token for token, _ in self] == row.ids
        if row.ids:
            logits = model(mx.array([row.prompt_ids + row.ids[:-1]]))[0, len(row.prompt_ids) - 1 :]
            assert mx.allclose(mx.stack([each for _, each in self]), logits, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(random=st.randoms(use_true_random=True))
def test_rows_that_join_and_leave_at_any_time_get_what_they_get_alone_and_leave_the_right_cache(model, random):
    engine = Engine(model, TOKENIZER, tool)
    batch, rows = Batch(model), []
    batch.look_ahead = True
    while len(rows) < 6 or batch.rows:
        action = random.choice(["join", "step", "step", "step", "step", "step", "cancel"])
        if action == "join" and len(rows) < 6:
            rows.append(Row(engine, random_request(random), len(rows)))
            engine._start(batch, rows[-1:])
        elif batch.rows and action == "step":
            batch.step()
        elif batch.rows and action == "cancel" and random.random() < 0.2:
            leave(engine, batch, random.choice(batch.rows))
        settle(engine, batch)
    for n, row in enumerate(rows):
        if row.request.watch is not None:
            row.request.watch.check(model, row)
        alone, plain = Row(engine, replace(row.request, watch=None), n), Batch(model)
        plain.look_ahead = False
        engine._start(plain, [alone])
        while not alone.finish_reason and (row.finish_reason or len(alone.ids) < len(row.ids)):
            plain.step()
        assert written(alone) == written(row)


@pytest.fixture
def events(monkeypatch):
    """What happens, in order: "feed" and "take"."""
    events, feed, take = [], module.next_logits, Row.take

    def fed(*args):
        events.append("feed")
        return feed(*args)

    def taken(row, token):
        events.append("take")
        take(row, token)

    monkeypatch.setattr(module, "next_logits", fed)
    monkeypatch.setattr(Row, "take", taken)
    return events


def endless(model):
    engine = Engine(model, TOKENIZER)
    engine.stops = set()
    return engine


@pytest.mark.parametrize("kind, ahead", [("cpu", False), ("metal", True), ("cuda", True)])
def test_a_gpu_gets_the_next_step_before_the_tokens_of_this_one_are_read_and_a_cpu_after(
    model, events, monkeypatch, kind, ahead
):
    monkeypatch.setattr(backend, "device_kind", lambda: kind)
    list(endless(model).generate([1, 2], max_tokens=4))
    steps = ["feed", "feed", "take", "feed", "take", "take"] if ahead else ["feed", "take"] * 3
    assert events == ["feed", "take", *steps]


def test_what_is_begun_ahead_is_used_when_others_leave_and_join(model, events, monkeypatch):
    monkeypatch.setattr(Batch, "look_ahead", True)
    engine, batch = endless(model), Batch(model)
    first, second, third = (Row(engine, Request([1, 2, 3], 30, seed=n)) for n in range(3))
    engine._start(batch, [first])
    engine._start(batch, [second])
    batch.step()
    batch.leave(first)
    engine._start(batch, [third])
    events.clear()
    batch.step()
    assert events == ["feed", "take"]  # of the second; the third's first token is fed
    assert [len(row.ids) for row in (first, second, third)] == [2, 3, 1]
    batch.step()
    assert [len(row.ids) for row in (first, second, third)] == [2, 4, 2]


def test_a_step_ahead_waits_for_its_own_tokens_only(model, monkeypatch):
    monkeypatch.setattr(Batch, "look_ahead", True)
    engine, batch, waits = endless(model), Batch(model), []
    engine._start(batch, [Row(engine, Request([1, 2], 30))])
    engine._start(batch, [Row(engine, Request([1, 2, 3], 30))])
    batch.step()
    monkeypatch.setattr(mx, "eval", lambda *arrays: waits.append(arrays))
    batch.step()
    assert waits == []


@pytest.mark.parametrize("prompt_len, max_tokens", [(3, 5), (37, 50), (40, 50), (3, 1)])
def test_nothing_is_begun_behind_the_last_token(model, events, monkeypatch, prompt_len, max_tokens):
    monkeypatch.setattr(Batch, "look_ahead", True)
    columns = list(endless(model).generate([1] * prompt_len, max_tokens=max_tokens))
    assert events.count("feed") == events.count("take") == len(columns)


@pytest.mark.parametrize("lengths", [[100, 100], [100, 7]])
def test_a_step_ahead_writes_its_keys_and_values_in_place(lengths):
    config = GPTConfig(sequence_len=8192, vocab_size=TOKENIZER.vocab_size, n_layer=2, n_head=2, n_kv_head=2, n_embd=128)
    engine = endless(GPT(config))
    batch = Batch(engine.model)
    batch.look_ahead = True
    for length in lengths:
        engine._start(batch, [Row(engine, Request([1] * length, 50))])
    batch.cache.reserve(2, 8192)
    batch.step()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    for _ in range(4):
        batch.step()
    assert mx.get_peak_memory() - before < batch.cache.nbytes / 20
