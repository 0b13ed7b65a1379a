"""The engine: the same text however it is made, requests that come and go, bad input."""

import asyncio
import math
import threading
import time

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.engine import Engine
from course_lib.generate.kv_cache import KVCache
from course_lib.generate.rows import Batch, Request, Row, prefill
from course_lib.host.errors import CourseError
from course_lib.model import products
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.serve.batch_engine import BatchEngine, QueueFull
from course_lib.train.trainer import Trainer

pytestmark = pytest.mark.usefixtures("float32")  # the promises are exact, bfloat16 is not

WAIT = 30  # seconds: far more than anything here takes


@pytest.fixture(params=[False, True], ids=["in turns", "ahead"], autouse=True)
def look_ahead(request, monkeypatch):
    """Every promise holds however steps overlap."""
    monkeypatch.setattr(Batch, "look_ahead", request.param)
    return request.param


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["some words, and 1+2=3 of them"], 280, allow_smaller=True)


def make_model(tokenizer, n_kv_head=2, sequence_len=64, seed=1, scale=0.3):
    model = GPT(GPTConfig(sequence_len, tokenizer.vocab_size, n_layer=2, n_head=4, n_kv_head=n_kv_head, n_embd=32))
    keys = iter(mx.random.split(mx.random.key(seed), 100))
    model.apply_to_modules(lambda _, module: module.apply(lambda a: scale * mx.random.normal(a.shape, key=next(keys))))
    return model


@pytest.fixture(scope="module")
def model(tokenizer):
    return make_model(tokenizer)


@pytest.fixture
def engine(model, tokenizer):
    return Engine(model, tokenizer)


@pytest.fixture(scope="module")
def prompts(tokenizer):
    texts = ("some words", "1", "of them, and some, and some more of them", "words")
    return [tokenizer.encode(text, bos=True) for text in texts]


@pytest.fixture
def columns_win(monkeypatch):
    """Even a small weight is faster column after column."""
    monkeypatch.setattr(products, "ORDERED", 0)
    monkeypatch.setattr(products, "columns_are_faster", lambda shape: True)


def uncached_greedy(model, prompt, count, stops):
    ids = list(prompt)
    while len(ids) < len(prompt) + count:
        token = mx.argmax(model(mx.array([ids]))[0, -1]).item()
        if token in stops:
            break
        ids.append(token)
    return ids[len(prompt) :]


def column(steps, n=0):
    return [tokens[n] for tokens, _ in steps]


def script_model(monkeypatch, next_token, vocab_size):
    """In place of the model: the logits of each row follow from its ids, so a test decides what is 'sampled'."""

    def logits(model, ids, cache):
        B, T = ids.shape
        zeros = mx.zeros((B, model.config.n_kv_head, T, model.config.n_embd // model.config.n_head))
        for layer in cache.layers:
            layer.update_and_fetch(zeros, zeros)
        rows = np.full((B, vocab_size), -10.0, np.float32)
        for row, last in enumerate(ids[:, -1].tolist()):
            token = next_token(last)
            rows[row, abs(token)] = 10 if token >= 0 else math.nan
        return mx.array(rows)

    monkeypatch.setattr("course_lib.generate.rows.next_logits", logits)


# ------------------------------------------------------------------------------------------------------------ Engine


@pytest.mark.parametrize("n_kv_head", [4, 2, 1])
def test_cached_and_uncached_greedy_agree_in_batches_of_mixed_lengths_and_in_chunks(tokenizer, prompts, n_kv_head):
    model = make_model(tokenizer, n_kv_head)
    engine = Engine(model, tokenizer)
    expected = [uncached_greedy(model, prompt, 20, engine.stops) for prompt in prompts]
    assert [g.ids for g in engine.generate_batch(prompts, 20, temperature=0)] == expected
    assert [g.ids for g in engine.generate_batch(prompts, 20, max_rows=2, temperature=0)] == expected
    for prompt, ids in zip(prompts, expected, strict=True):
        steps = list(engine.generate(prompt, max_tokens=20, temperature=0))
        assert [token for token in column(steps) if token not in engine.stops] == ids
    for chunk in (1, 3, 7):
        with BatchEngine(model, tokenizer, max_rows=3, chunk=chunk) as batch_engine:
            handles = [batch_engine.submit(Request(prompt, 20, temperature=0)) for prompt in prompts]
            assert [handle.result(WAIT).ids for handle in handles] == expected


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_prefill_gives_the_logits_of_the_whole_pass(model, prompts, chunk):
    cache = KVCache(model.config)
    results = list(prefill(model, prompts[2], cache, chunk))
    assert len(results) == math.ceil(len(prompts[2]) / chunk)
    assert results[:-1] == [None] * (len(results) - 1)
    assert mx.allclose(results[-1], model(mx.array([prompts[2]]))[:, -1], atol=1e-4)


def test_every_sample_draws_its_own_first_token_and_does_not_depend_on_how_many_there_are(engine, prompts):
    many = list(engine.generate(prompts[0], num_samples=16, max_tokens=6))
    assert len(set(many[0][0])) > 4
    for count in (1, 3):
        few = list(engine.generate(prompts[0], num_samples=count, max_tokens=6))
        for n in range(count):
            assert column(few, n) == column(many, n)[: len(few)]


def test_a_seed_repeats_a_text_and_another_seed_changes_it(engine, prompts):
    texts = [column(engine.generate(prompts[0], max_tokens=12, seed=seed)) for seed in (7, 7, 8)]
    assert texts[0] == texts[1] != texts[2]


def test_every_place_of_every_sample_has_a_random_number_of_its_own(engine):
    rows = [Row(engine, Request([1]), number) for number in range(20)]
    keys = []
    for place in range(20):
        for row in rows:
            keys.append(tuple(row.key(place)))
    assert len(set(keys)) == 400


def test_generate_batch_gives_each_prompt_what_generate_gives_the_sample_of_that_number(engine, prompts):
    settings = {"max_tokens": 12, "temperature": 1.2, "top_k": 30}
    batch = engine.generate_batch([prompts[0]] * 3, **settings)
    steps = list(engine.generate(prompts[0], num_samples=3, **settings))
    for n, generation in enumerate(batch):
        assert generation.ids == [token for token in column(steps, n)[: len(generation.ids)]]


def test_a_column_keeps_its_place_when_others_have_ended(engine, tokenizer, monkeypatch):
    # after a, b comes; after b, c; after c the end
    a, b, c = 5, 6, 7
    script_model(monkeypatch, {a: b, b: c, c: engine.end, engine.end: a}.get, tokenizer.vocab_size)
    steps = engine._columns([Row(engine, Request([a], tokens, temperature=0), tokens) for tokens in (1, 9, 2)])
    assert next(steps) == ([b, b, b], [1, 1, 1])
    assert next(steps) == ([engine.end, c, c], [0, 1, 1])
    assert next(steps) == ([engine.end, engine.end, engine.end], [0, 1, 0])
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == ["max_tokens", "stop", "max_tokens"]


@pytest.mark.parametrize("name", ["<|assistant_end|>", "<|bos|>"])
def test_a_row_stops_at_the_end_of_the_answer_or_of_the_document(engine, tokenizer, monkeypatch, name):
    stop = tokenizer.special(name)
    script_model(monkeypatch, lambda last: last + 1 if last < 9 else stop, tokenizer.vocab_size)
    assert column(engine.generate([7], temperature=0)) == [8, 9, stop]
    (generation,) = engine.generate_batch([[7]], temperature=0)
    assert (generation.ids, generation.masks, generation.finish_reason) == ([8, 9], [1, 1], "stop")


def test_at_the_end_of_sequence_len_a_row_ends_and_says_so(engine, model, monkeypatch, tokenizer):
    script_model(monkeypatch, lambda last: 3, tokenizer.vocab_size)
    for prompt_len in (60, 63, 64):
        (generation,) = engine.generate_batch([[3] * prompt_len], 100, temperature=0)
        assert generation.finish_reason == "sequence_len"
        assert prompt_len + len(generation.ids) == 65  # the last one is sampled from a full cache
    assert len(list(engine.generate([3] * 60, max_tokens=100, temperature=0))) == 5
    (generation,) = engine.generate_batch([[3] * 60], 5, temperature=0)
    assert generation.finish_reason == "max_tokens"


def test_max_tokens_zero_gives_nothing(engine, model, tokenizer, prompts):
    assert list(engine.generate(prompts[0], max_tokens=0)) == []
    assert engine.generate_batch(prompts, 0)[1].finish_reason == "max_tokens"
    with BatchEngine(model, tokenizer) as batch_engine:
        assert batch_engine.submit(Request(prompts[0], 0)).result(WAIT).ids == []


def test_no_prompts_give_no_texts(engine):
    assert engine.generate_batch([]) == []


# -------------------------------------------------------------------------------------------------------------- tool


@pytest.fixture
def tool_script(tokenizer, monkeypatch):
    """A model that writes an expression to the tool, and then, after its output, the end."""
    special = tokenizer.special
    start, end, out = special("<|python_start|>"), special("<|python_end|>"), special("<|output_end|>")
    one, plus, two = (ord(c) for c in "1+2")
    follows = {0: start, start: one, one: plus, plus: two, two: end, end: 65, 65: 66, out: 66, 66: special("<|bos|>")}
    script_model(monkeypatch, lambda last: follows.get(last, 66), tokenizer.vocab_size)
    return tokenizer.decode([one, plus, two]), [start, one, plus, two, end]


def test_the_result_of_a_tool_is_forced_into_the_row(model, tokenizer, tool_script):
    text, call = tool_script
    asked = []
    engine = Engine(model, tokenizer, tool=lambda expression: asked.append(expression) or "some 3")
    (generation,) = engine.generate_batch([[0]], temperature=0)
    result = [
        tokenizer.special("<|output_start|>"),
        *tokenizer.encode("some 3"),
        tokenizer.special("<|output_end|>"),
    ]
    assert asked == [text]
    assert generation.ids == [*call, *result, 66]
    assert generation.masks == [1] * 5 + [0] * len(result) + [1]


@pytest.mark.parametrize("tool", [None, lambda expression: None])
def test_without_a_result_nothing_is_forced(model, tokenizer, tool_script, tool):
    (generation,) = Engine(model, tokenizer, tool=tool).generate_batch([[0]], temperature=0)
    assert generation.ids == [*tool_script[1], 65, 66]
    assert set(generation.masks) == {1}


def test_a_special_token_in_a_result_is_plain_text(model, tokenizer, tool_script):
    engine = Engine(model, tokenizer, tool=lambda expression: "<|bos|>")
    (generation,) = engine.generate_batch([[0]], temperature=0)
    assert tokenizer.bos not in generation.ids


def test_forced_tokens_count_and_may_be_cut_by_max_tokens(model, tokenizer, tool_script):
    engine = Engine(model, tokenizer, tool=lambda expression: "some words")
    (generation,) = engine.generate_batch([[0]], 7, temperature=0)
    assert (len(generation.ids), generation.masks[5:], generation.finish_reason) == (7, [0, 0], "max_tokens")


def test_a_tool_that_raises_is_heard_of(model, tokenizer, tool_script):
    engine = Engine(model, tokenizer, tool=lambda expression: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.generate_batch([[0]], temperature=0)


# ----------------------------------------------------------------------------------------------------- prefix reuse


@pytest.fixture
def read_lengths(monkeypatch):
    """How many ids each call of the model got for a row."""
    import course_lib.generate.rows as module

    lengths, original = [], module.next_logits

    def counted(model, ids, cache):
        lengths.append(ids.shape[1])
        return original(model, ids, cache)

    monkeypatch.setattr(module, "next_logits", counted)
    return lengths


def test_the_next_turn_of_a_chat_reads_only_what_is_new(engine, prompts, read_lengths):
    reply = column(engine.generate(prompts[2], max_tokens=9, temperature=0))
    turn = [*prompts[2], *reply, 1, 2, 3, 4]
    fresh = Engine(engine.model, engine.tokenizer, keep_prefixes=0)
    expected = list(fresh.generate(turn, max_tokens=5, seed=3))
    read_lengths.clear()
    assert list(engine.generate(turn, max_tokens=5, seed=3)) == expected
    assert read_lengths[0] == 5  # four new ids and the last one of the reply, which was never fed
    read_lengths.clear()
    assert list(engine.generate(turn, max_tokens=5, seed=3)) == expected
    assert read_lengths[0] == 1


def test_a_reader_who_stops_early_still_leaves_the_cache(engine, prompts, read_lengths, look_ahead):
    steps = engine.generate(prompts[2], max_tokens=30, temperature=0)
    reply = [next(steps)[0][0] for _ in range(6)]
    steps.close()
    read_lengths.clear()
    next(engine.generate([*prompts[2], *reply, 1], max_tokens=1))
    assert read_lengths == [1 if look_ahead else 2]  # the reply's last one may have been read ahead


def test_other_weights_make_the_kept_caches_worthless(tokenizer, prompts):
    model = make_model(tokenizer)
    engine = Engine(model, tokenizer)
    before = list(engine.generate(prompts[2], max_tokens=9, temperature=0))
    model.update(make_model(tokenizer, seed=2).parameters())
    after = list(engine.generate(prompts[2], max_tokens=9, temperature=0))
    assert after == list(Engine(model, tokenizer).generate(prompts[2], max_tokens=9, temperature=0)) != before


def test_a_batch_engine_reuses_prefixes_too(model, tokenizer, prompts, read_lengths):
    with BatchEngine(model, tokenizer) as batch_engine:
        first = batch_engine.submit(Request(prompts[2], 9, temperature=0)).result(WAIT)
        read_lengths.clear()
        batch_engine.submit(Request([*prompts[2], *first.ids, 1, 2], 1)).result(WAIT)
    assert read_lengths == [3]


# ------------------------------------------------------------------------------------------------------ BatchEngine


def test_what_a_request_gets_does_not_depend_on_the_others(model, tokenizer, prompts):
    requests = [
        Request(prompts[n % 4], 8 + n, temperature=0.5 * (n % 3), top_k=(None, 5, 40)[n % 3], top_p=0.9, seed=n)
        for n in range(10)
    ]
    with BatchEngine(model, tokenizer, max_rows=1) as one_by_one:
        alone = [one_by_one.submit(request).result(WAIT) for request in requests]
    with BatchEngine(model, tokenizer, max_rows=4, chunk=2) as together:
        handles = [together.submit(request) for request in requests]
        assert [handle.result(WAIT) for handle in handles] == alone


def test_tokens_can_be_read_as_they_come_from_any_thread(model, tokenizer, prompts):
    with BatchEngine(model, tokenizer) as batch_engine:
        handle = batch_engine.submit(Request(prompts[0], 10, temperature=0))
        seen = [[], []]
        threads = [threading.Thread(target=lambda n=n: seen[n].extend(handle)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        generation = handle.result(WAIT)
    assert seen[0] == seen[1] == list(zip(generation.ids, generation.masks, strict=True))


def test_asyncio_hears_of_every_token_through_notify(model, tokenizer, prompts):
    async def read(batch_engine):
        loop, changed, ids = asyncio.get_running_loop(), asyncio.Event(), []
        handle = batch_engine.submit(Request(prompts[0], 10), lambda: loop.call_soon_threadsafe(changed.set))
        while not handle.finish_reason or len(ids) < len(handle.ids):
            await asyncio.wait_for(changed.wait(), WAIT)
            changed.clear()
            ids += handle.ids[len(ids) :]
        return ids, handle.result().ids

    with BatchEngine(model, tokenizer) as batch_engine:
        ids, expected = asyncio.run(read(batch_engine))
    assert ids == expected


class Gate:
    """Holds the model's steps until it is opened, so that a test knows what runs and what waits."""

    def __init__(self, monkeypatch):
        import course_lib.generate.rows as module

        self.open, original = threading.Semaphore(0), module.next_logits
        self.free = False

        def gated(model, ids, cache):
            if not self.free and threading.current_thread().name == "BatchEngine":
                assert self.open.acquire(timeout=WAIT)
            return original(model, ids, cache)

        monkeypatch.setattr(module, "next_logits", gated)

    def release(self):
        self.free = True
        self.open.release(1000)


def until(condition):
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)


def test_the_queue_is_bounded_and_served_in_order(model, tokenizer, prompts, monkeypatch):
    gate = Gate(monkeypatch)
    with BatchEngine(model, tokenizer, max_rows=1, max_waiting=3) as batch_engine:
        ended = []
        handles = []
        for n in range(4):
            handles.append(batch_engine.submit(Request(prompts[0], 3), lambda n=n: ended.append(n)))
        until(lambda: batch_engine.load == (1, 3))
        with pytest.raises(QueueFull, match="3 requests wait already"):
            batch_engine.submit(Request(prompts[0], 3))
        gate.release()
        for handle in handles:
            handle.result(WAIT)
        batch_engine.submit(Request(prompts[0], 3)).result(WAIT)
    assert ended == sorted(ended)


def test_cancelling_frees_the_row_for_the_next_request(model, tokenizer, prompts, monkeypatch, look_ahead):
    gate = Gate(monkeypatch)
    with BatchEngine(model, tokenizer, max_rows=1) as batch_engine:
        running, waiting, third = (batch_engine.submit(Request(prompts[0], 40, seed=n)) for n in range(3))
        waiting.cancel()
        assert waiting.result(WAIT).finish_reason == "cancelled"
        gate.open.release(3 + look_ahead)  # the prompt, two steps, and the one begun ahead
        until(lambda: len(running.ids) == 3)
        running.cancel()
        gate.open.release(1)  # the step that is under way
        assert running.result(WAIT).finish_reason == "cancelled"
        assert len(running.ids) <= 4
        gate.release()
        assert third.result(WAIT).finish_reason != "cancelled"
        until(lambda: batch_engine.load == (0, 0))
        running.cancel()  # too late: nothing happens


def test_a_request_that_ends_while_its_prompt_is_read_makes_room_for_the_next(model, tokenizer, prompts, monkeypatch):
    gate = Gate(monkeypatch)
    with BatchEngine(model, tokenizer, max_rows=1, chunk=4) as batch_engine:
        reading, after = batch_engine.submit(Request([1] * 40, 5)), batch_engine.submit(Request(prompts[0], 5))
        gate.open.release(2)  # two chunks of ten
        until(lambda: batch_engine.load == (1, 1))
        reading.cancel()
        gate.release()
        assert reading.result(WAIT).finish_reason == "cancelled"
        assert after.result(WAIT).finish_reason != "cancelled"


def test_a_request_that_stops_with_its_first_token_makes_room_for_the_next(model, tokenizer, monkeypatch):
    script_model(monkeypatch, lambda last: tokenizer.bos if last == 7 else last + 1, tokenizer.vocab_size)
    with BatchEngine(model, tokenizer, max_rows=1) as batch_engine:
        handles = [batch_engine.submit(Request([start], 3, temperature=0)) for start in (7, 20)]
        assert [handle.result(WAIT).ids for handle in handles] == [[], [21, 22, 23]]
        assert list(handles[0]) == []


def test_a_long_prompt_does_not_hold_up_the_others(model, tokenizer, prompts, read_lengths):
    with BatchEngine(model, tokenizer, chunk=4) as batch_engine:
        batch_engine._engine.stops = set()
        first = batch_engine.submit(Request(prompts[0], 40, temperature=0))
        until(lambda: first.ids)
        batch_engine.submit(Request([1] * 40, 1)).result(WAIT)
        first.result(WAIT)
    chunks = [n for n, length in enumerate(read_lengths) if length == 4][-10:]
    assert all(read_lengths[n + 1] == 1 for n in chunks[:-1])  # a step of the first between two chunks


def test_nan_ends_only_the_row_that_has_it(model, tokenizer, monkeypatch):
    script_model(monkeypatch, lambda last: last + 1 if last != 8 else -9, tokenizer.vocab_size)
    with BatchEngine(model, tokenizer) as batch_engine:
        handles = [batch_engine.submit(Request([start], 5, temperature=0)) for start in (20, 5, 40)]
        assert handles[0].result(WAIT).ids == [21, 22, 23, 24, 25]
        assert handles[2].result(WAIT).ids == [41, 42, 43, 44, 45]
        with pytest.raises(CourseError, match="not numbers"):
            handles[1].result(WAIT)
        assert (handles[1].ids, handles[1].finish_reason) == ([6, 7, 8], "error")
        with pytest.raises(CourseError, match="not numbers"):
            list(handles[1])
    with pytest.raises(CourseError, match="not numbers"):
        list(Engine(model, tokenizer).generate([8], num_samples=2))


def test_a_step_that_raises_ends_what_ran_and_the_next_request_is_served(model, tokenizer, prompts, monkeypatch):
    import course_lib.generate.rows as module

    original, calls = module.next_logits, []

    def fails_once(model, ids, cache):
        if threading.current_thread().name == "BatchEngine":
            calls.append(1)
            if len(calls) == 3:
                raise RuntimeError("out of memory")
        return original(model, ids, cache)

    monkeypatch.setattr(module, "next_logits", fails_once)
    with BatchEngine(model, tokenizer) as batch_engine:
        batch_engine._engine.stops = set()
        with pytest.raises(RuntimeError, match="out of memory"):
            batch_engine.submit(Request(prompts[0], 10)).result(WAIT)
        assert len(batch_engine.submit(Request(prompts[0], 10)).result(WAIT).ids) == 10
        until(lambda: batch_engine.load == (0, 0))


def test_a_listener_that_fails_is_taken_for_gone(model, tokenizer, prompts):
    with BatchEngine(model, tokenizer) as batch_engine:
        batch_engine._engine.stops = set()
        handle = batch_engine.submit(Request(prompts[0], 40), lambda: 1 / 0)
        assert handle.result(WAIT).finish_reason == "cancelled"
        assert batch_engine.submit(Request(prompts[0], 4)).result(WAIT).ids


def test_closing_cancels_what_has_not_ended_and_refuses_more(model, tokenizer, prompts, monkeypatch):
    gate = Gate(monkeypatch)
    batch_engine = BatchEngine(model, tokenizer, max_rows=1)
    handles = [batch_engine.submit(Request(prompts[0], 40)) for _ in range(3)]
    closing = threading.Thread(target=batch_engine.close)
    closing.start()
    until(lambda: batch_engine._closed)
    gate.release()
    closing.join(WAIT)
    assert {handle.result(WAIT).finish_reason for handle in handles} == {"cancelled"}
    with pytest.raises(CourseError, match="closed"):
        batch_engine.submit(Request(prompts[0]))
    batch_engine.close()  # a second time does nothing


def test_a_model_that_was_never_evaluated_can_be_served(tokenizer, prompts):
    with BatchEngine(make_model(tokenizer, seed=12), tokenizer) as batch_engine:
        assert batch_engine.submit(Request(prompts[0], 3)).result(WAIT)


def test_waiting_for_a_result_can_be_limited(model, tokenizer, prompts, monkeypatch):
    gate = Gate(monkeypatch)
    with BatchEngine(model, tokenizer) as batch_engine:
        handle = batch_engine.submit(Request(prompts[0], 3))
        with pytest.raises(TimeoutError):
            handle.result(timeout=0.01)
        gate.release()


# -------------------------------------------------------------------------------------------------------- bad input

BAD = [
    ({"prompt_ids": []}, "the prompt is empty"),
    ({"prompt_ids": [1, -1]}, "ids from -1 to 1"),
    ({"prompt_ids": [1, 100_000]}, "ids from 1 to 100000, but this model knows 0 to"),
    ({"prompt_ids": "text"}, "not a list of whole numbers"),
    ({"prompt_ids": [1.5]}, "not a list of whole numbers"),
    ({"prompt_ids": None}, "not a list of whole numbers"),
    ({"prompt_ids": [1] * 65}, "65 tokens, but the model has sequence_len=64"),
    ({"max_tokens": -1}, "max_tokens=-1"),
    ({"max_tokens": 1.5}, "max_tokens=1.5"),
    ({"temperature": -0.1}, "temperature=-0.1"),
    ({"temperature": math.nan}, "temperature=nan"),
    ({"temperature": math.inf}, "temperature=inf"),
    ({"top_k": 0}, "top_k=0, expected 1 to"),
    ({"top_k": 100_000}, "top_k=100000, expected 1 to"),
    ({"top_k": 2.5}, "top_k=2.5"),
    ({"top_p": 0}, "top_p=0"),
    ({"top_p": 1.1}, "top_p=1.1"),
    ({"min_p": -0.1}, "min_p=-0.1"),
    ({"min_p": 1.1}, "min_p=1.1"),
    ({"seed": -1}, "seed=-1"),
    ({"seed": 0.5}, "seed=0.5"),
]


@pytest.mark.parametrize("bad, message", BAD, ids=str)
def test_bad_input_is_refused_at_once_in_one_sentence(engine, bad, message):
    settings = {"prompt_ids": [1, 2]} | bad
    with pytest.raises(CourseError, match=message) as error:
        engine.generate(**settings)
    assert "\n" not in str(error.value)
    prompt = settings.pop("prompt_ids")
    with pytest.raises(CourseError, match=message):
        engine.generate_batch([[1, 2], prompt], **settings)


def test_a_batch_engine_refuses_bad_requests_and_goes_on(model, tokenizer):
    with BatchEngine(model, tokenizer) as batch_engine:
        for bad, message in BAD:
            with pytest.raises(CourseError, match=message):
                batch_engine.submit(Request(**({"prompt_ids": [1, 2]} | bad)))
        assert batch_engine.submit(Request([1, 2], 3)).result(WAIT)


def test_other_bad_arguments(engine, model, tokenizer):
    with pytest.raises(CourseError, match="num_samples=0"):
        engine.generate([1], num_samples=0)
    with pytest.raises(CourseError, match="max_rows=0"):
        engine.generate_batch([[1]], max_rows=0)
    with pytest.raises(CourseError, match="max_rows=0"):
        BatchEngine(model, tokenizer, max_rows=0)
    with pytest.raises(CourseError, match="chunk=0"):
        BatchEngine(model, tokenizer, chunk=0)
    with pytest.raises(CourseError, match="the tokenizer has"):
        Engine(GPT(GPTConfig(8, 100, 1, 1, 1, 4)), tokenizer)


def test_numpy_integers_are_integers(engine):
    steps = engine.generate(np.array([1, 2, 3]), max_tokens=np.int64(2), top_k=np.int32(3))
    assert all(isinstance(token, int) for token in column(steps))


@pytest.mark.skipif(backend.device_kind() != "cpu", reason="only a CPU wants another order in memory")
def test_weights_are_put_into_the_faster_order_once_and_keep_their_numbers(tokenizer, columns_win):
    model, prompt = make_model(tokenizer), tokenizer.encode("some", bos=True)
    before = {name: mx.array(weight) for name, weight in tree_flatten(model.parameters())}
    wanted = model(mx.array([prompt]))
    Engine(model, tokenizer).generate_batch([prompt], max_tokens=2)
    after = dict(tree_flatten(model.parameters()))
    for name, weight in after.items():
        assert (weight == before[name]).all()
        assert memoryview(weight).f_contiguous == ("wte" not in name), name
    assert mx.allclose(model(mx.array([prompt])), wanted, atol=1e-5)
    Engine(model, tokenizer).generate_batch([prompt], max_tokens=2)
    assert all(weight is after[name] for name, weight in tree_flatten(model.parameters()))  # a first engine's stay


@pytest.mark.skipif(backend.device_kind() != "cpu", reason="a GPU has one way for every number of rows")
def test_a_row_alone_and_among_others_writes_the_same_when_one_row_leaves_mlx(tokenizer, prompts, monkeypatch):
    monkeypatch.setattr(products, "LARGE", 0)
    model = make_model(tokenizer)
    engine = Engine(model, tokenizer)
    together = engine.generate_batch(prompts, max_tokens=12, temperature=0)
    for prompt, generation in zip(prompts, together, strict=True):
        (alone,) = engine.generate_batch([prompt], max_tokens=12, temperature=0)
        assert alone.ids == generation.ids == uncached_greedy(model, prompt, 12, engine.stops)


def test_a_model_that_was_laid_out_saves_and_trains_as_before(tokenizer, tmp_path, columns_win):
    models = [make_model(tokenizer), make_model(tokenizer)]
    Engine(models[1], tokenizer).generate_batch([[1]], max_tokens=1)
    batch = (mx.array([[1, 2, 3, 4]]), mx.array([[2, 3, 4, 5]]))
    for model in models:
        trainer = Trainer(model, num_iterations=4)
        for _ in range(3):
            trainer.step([batch])
        model.save_weights(str(tmp_path / "model.safetensors"))
        assert mx.array_equal(mx.load(str(tmp_path / "model.safetensors"))["lm_head.weight"], model.lm_head.weight)
    weights = [tree_flatten(model.parameters()) for model in models]
    for (name, one), (_, other) in zip(*weights, strict=True):
        assert mx.allclose(one, other, atol=1e-4), name
