"""The KV cache: what it gives back, what it costs, and rows that come and go."""

import mlx.core as mx
import numpy as np
import pytest

from course_lib.generate.kv_cache import KVCache, PrefixStore, cache_bytes
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT, GPTConfig

pytestmark = pytest.mark.usefixtures("float32")  # the promises are exact, bfloat16 is not

V = 40


def small_model(n_kv_head=2, sequence_len=64, seed=1):
    model = GPT(GPTConfig(sequence_len, V, n_layer=2, n_head=4, n_kv_head=n_kv_head, n_embd=32))
    keys = iter(mx.random.split(mx.random.key(seed), 100))
    model.apply_to_modules(lambda _, module: module.apply(lambda a: 0.3 * mx.random.normal(a.shape, key=next(keys))))
    return model


def random_ids(*shape, seed=0):
    return mx.random.randint(0, V, shape, key=mx.random.key(seed))


@pytest.mark.parametrize("n_kv_head", [4, 2, 1])
@pytest.mark.parametrize("parts", [[12], [1] * 12, [5, 1, 6], [7, 5]])
def test_logits_are_those_of_the_whole_text(n_kv_head, parts):
    model, ids = small_model(n_kv_head), random_ids(2, 12)
    cache = KVCache(model.config, rows=2)
    pieces = mx.split(ids, np.cumsum(parts)[:-1].tolist(), axis=1)
    out = mx.concatenate([model(piece, cache.layers) for piece in pieces], axis=1)
    assert mx.allclose(out, model(ids), atol=1e-4)
    assert cache.lengths == [12, 12]


@pytest.mark.parametrize("n_kv_head", [4, 2, 1])
@pytest.mark.parametrize("T", [1, 3])
def test_rows_of_different_lengths_go_on_each_at_its_own_place(n_kv_head, T):
    model, lengths = small_model(n_kv_head), [3, 9, 1, 6]
    cache = KVCache(model.config, rows=0)
    texts = [random_ids(1, length + 2 * T, seed=length) for length in lengths]
    for text, length in zip(texts, lengths, strict=True):
        one = KVCache(model.config)
        model(text[:, :length], one.layers)
        cache.append(one)
    for step in range(2):
        new = [text[:, n + step * T : n + (step + 1) * T] for text, n in zip(texts, lengths, strict=True)]
        together = model(mx.concatenate(new), cache.layers)
        for row, (text, n) in enumerate(zip(texts, lengths, strict=True)):
            alone = model(text[:, : n + (step + 1) * T])[:, -T:]
            assert mx.allclose(together[row], alone[0], atol=1e-4)
    assert cache.lengths == [n + 2 * T for n in lengths]


def test_removing_a_row_moves_the_last_one_to_its_place_and_leaves_the_others():
    model = small_model()
    cache, texts = KVCache(model.config, rows=0), {n: random_ids(1, n + 1, seed=n) for n in (4, 7, 2, 5)}
    order = list(texts)
    for n in order:
        one = KVCache(model.config)
        model(texts[n][:, :n], one.layers)
        cache.append(one)
    for row in (1, 0, 1):  # the middle, the first, the last
        cache.remove(row)
        order[row] = order[-1]
        order.pop()
        assert cache.lengths == order
        probe = KVCache(model.config, rows=0)
        for n in range(len(order)):
            probe.append(cache, n)
        together = model(mx.concatenate([texts[n][:, n:] for n in order]), probe.layers)
        for row, n in enumerate(order):
            assert mx.allclose(together[row], model(texts[n])[0, -1:], atol=1e-4)


def test_a_row_that_held_nan_does_not_reach_the_next_one_in_its_place():
    model = small_model()
    cache, bad, long, short = (KVCache(model.config, rows=0), *(KVCache(model.config) for _ in range(3)))
    model(random_ids(1, 9), bad.layers)
    model(random_ids(1, 9), long.layers)
    model(random_ids(1, 2), short.layers)
    for layer in bad.layers:
        layer.keys, layer.values = layer.keys * mx.nan, layer.values * mx.nan
    cache.append(long)
    cache.append(bad)
    cache.remove(1)
    cache.append(short)
    assert mx.isfinite(model(mx.array([[1], [1]]), cache.layers)).all()


def test_bytes_are_as_computed_at_every_length():
    config = small_model(sequence_len=700).config
    cache = KVCache(config, rows=0)
    for length in (1, 256, 257, 512, 600, 700):
        cache.lengths = [0, 0, 0]
        cache.reserve(3, length)
        assert cache.nbytes == cache_bytes(config, 3, length)
    # by hand: 2 for keys and values, 2 blocks, 3 rows, 2 heads, 700 positions, 8 numbers of 4 bytes
    assert cache.nbytes == 2 * 2 * 3 * 2 * 700 * 8 * 4


def test_memory_does_not_grow_over_ten_thousand_steps():
    config = GPTConfig(sequence_len=10_240, vocab_size=V, n_layer=1, n_head=2, n_kv_head=2, n_embd=16)
    cache, new = KVCache(config, rows=2), mx.ones((2, 2, 1, 8))
    cache.reserve(2, 10_240)
    bytes_at = []
    for step in range(10_000):
        mx.eval(cache.layers[0].update_and_fetch(new, new)[0][:, :, -1])
        if step in (100, 9_999):
            bytes_at.append(mx.get_active_memory())
    assert cache.lengths == [10_000, 10_000]
    assert cache.nbytes == cache_bytes(config, 2, 10_240)
    assert bytes_at[1] - bytes_at[0] < 10_000
    assert mx.array_equal(cache.layers[0].keys[:, :, :10_000], mx.ones((2, 2, 10_000, 8)))


@pytest.mark.parametrize("lengths", [[100, 100], [100, 7]])
def test_a_step_writes_in_place(lengths):
    config = GPTConfig(sequence_len=8192, vocab_size=V, n_layer=1, n_head=2, n_kv_head=2, n_embd=128)
    cache, new = KVCache(config, rows=2), mx.ones((2, 2, 1, 64))
    cache.reserve(2, 8192)
    cache.lengths = lengths
    mx.eval(new, cache.layers[0].keys, cache.layers[0].values)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    cache.layers[0].update_and_fetch(new, new)
    mx.eval(cache.layers[0].keys, cache.layers[0].values)
    assert mx.get_peak_memory() - before < cache.nbytes / 20


def test_copies_are_independent_of_each_other():
    model = small_model()
    one, cache = KVCache(model.config), KVCache(model.config, rows=0)
    model(random_ids(1, 6), one.layers)
    cache.append(one, times=3)
    again = one.copy(length=4)
    model(random_ids(3, 2, seed=5), cache.layers)
    assert (cache.lengths, one.lengths, again.lengths) == ([8] * 3, [6], [4])
    text = mx.concatenate([random_ids(1, 6), mx.array([[3]])], axis=1)
    assert mx.allclose(model(mx.array([[3]]), one.layers)[0, -1], model(text)[0, -1], atol=1e-4)
    text = mx.concatenate([random_ids(1, 6)[:, :4], mx.array([[3]])], axis=1)
    assert mx.allclose(model(mx.array([[3]]), again.layers)[0, -1], model(text)[0, -1], atol=1e-4)


def test_more_than_sequence_len_and_a_wrong_number_of_rows_are_refused():
    model = small_model(sequence_len=10)
    cache = KVCache(model.config)
    model(random_ids(1, 10), cache.layers)
    with pytest.raises(CourseError, match="11 positions, but the model has sequence_len=10"):
        model(random_ids(1, 1), cache.layers)
    with pytest.raises(CourseError, match="keys of 2 rows for a cache of 1"):
        model(random_ids(2, 1), KVCache(model.config).layers)


class TestPrefixStore:
    def cache_of(self, ids):
        cache = KVCache(small_model().config)
        cache.reserve(1, len(ids))
        cache.lengths = [len(ids)]
        return cache

    def test_the_longest_common_beginning_is_found_and_leaves_one_id_to_read(self):
        store, text = PrefixStore(3), list(range(30))
        store.keep(text[:20], self.cache_of(text[:20]))
        store.keep([*text[:18], 99, 99, 99], self.cache_of(range(21)))
        assert store.find(text).lengths == [20]
        assert store.find(text[:20]).lengths == [19]
        assert store.find([*text[:18], 99, 7]).lengths == [19]

    def test_too_little_in_common_is_nothing(self):
        store = PrefixStore(3)
        store.keep(list(range(30)), self.cache_of(range(30)))
        assert store.find([*range(15), 99, 99]) is None
        assert store.find([*range(16), 99, 99]).lengths == [16]
        assert PrefixStore(3).find([1, 2]) is None

    def test_a_longer_text_takes_the_place_of_its_beginning(self):
        store, text = PrefixStore(2), list(range(40))
        other = [n + 100 for n in text]
        store.keep(other, self.cache_of(other))
        store.keep(text[:20], self.cache_of(text[:20]))
        store.keep(text, self.cache_of(text))
        assert store.find([*text, 0]).lengths == [40]
        assert store.find([*other, 0]).lengths == [40]

    def test_what_was_used_longest_ago_is_forgotten(self):
        store, texts = PrefixStore(2), [[n] * 20 for n in range(3)]
        store.keep(texts[0], self.cache_of(texts[0]))
        store.keep(texts[1], self.cache_of(texts[1]))
        assert store.find([0] * 30)
        store.keep(texts[2], self.cache_of(texts[2]))
        assert store.find([1] * 30) is None
        assert store.find([0] * 30) and store.find([2] * 30)
        store.clear()
        assert store.find([0] * 30) is None

    def test_size_zero_keeps_nothing(self):
        store = PrefixStore(0)
        store.keep([1] * 20, self.cache_of([1] * 20))
        assert store.find([1] * 20) is None
