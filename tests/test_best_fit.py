"""Rows packed by best fit: the picks of a linear search, every id accounted for, and a stop that changes nothing."""

import gc
import itertools
import json
import random
import threading
import weakref
from collections import Counter

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_dataloader import TOKENIZER, made
from waiting import wait_for

from course_lib.data import best_fit_loader
from course_lib.data.best_fit import best_fit_batches
from course_lib.data.best_fit_loader import BestFitLoader, runs
from course_lib.data.dataloader import DOCUMENTS_AT_ONCE, TokenLoader
from course_lib.host.errors import CourseError

any_lists = st.lists(st.lists(st.integers(1, 12), max_size=6), max_size=12)
sizes = st.tuples(st.integers(1, 3), st.integers(1, 14), st.integers(1, 9))  # batch, sequence, buffer


def documents(lists):
    """Lists of lengths as lists of documents: 0 for <|bos|>, then numbers that no other document has."""
    numbers = itertools.count(1)
    return [[[0, *itertools.islice(numbers, length - 1)] for length in lengths] for lengths in lists]


def naive(lists, T, buffer_size):
    """Row after row by a linear search, written from the rules; with each row the ids thrown away in it."""
    lists, waiting = list(lists), []
    while True:
        row, lost = [], []
        while len(row) < T + 1:
            while len(waiting) < buffer_size and lists:
                waiting.extend(lists.pop(0))
            if not waiting:
                return
            room, best = T + 1 - len(row), None
            for n, ids in enumerate(waiting):
                if len(ids) <= room and (best is None or len(ids) > len(waiting[best])):
                    best = n
            if best is None:
                shortest = min(map(len, waiting))
                best = next(n for n, ids in enumerate(waiting) if len(ids) == shortest)
            ids = waiting.pop(best)
            row, lost = row + ids[:room], lost + ids[room:]
        yield row, lost


def rows_of(batches):
    """The rows of T + 1 ids that these batches were made from."""
    rows = []
    for inputs, targets in batches:
        inputs, targets = np.array(inputs), np.array(targets)
        assert inputs.shape == targets.shape and inputs.dtype == targets.dtype == np.int32
        assert (inputs[:, 1:] == targets[:, :-1]).all()
        rows += np.concatenate([inputs, targets[:, -1:]], axis=1).tolist()
    return rows


# ---- the picks


@given(any_lists, sizes)
def test_the_picks_are_those_of_a_linear_search(lists, sizes):
    (B, T, buffer), lists = sizes, documents(lists)
    expected = list(naive(lists, T, buffer))
    batches = best_fit_batches(iter(lists), B, T, buffer)
    for start in range(0, len(expected) // B * B, B):
        assert rows_of([next(batches)]) == [row for row, _ in expected[start : start + B]]
        done = expected[: start + B]
        assert batches.state["used"] == (T + 1) * len(done)
        assert batches.state["thrown_away"] == sum(len(lost) for _, lost in done)
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(batches)


def test_a_large_buffer_and_real_lengths_are_searched_the_same():
    draw = random.Random(0)
    lists = documents([[int(draw.lognormvariate(4, 1.5)) + 1 for _ in range(128)] for _ in range(30)])
    batches = itertools.islice(best_fit_batches(lists, 1, 256), 150)
    assert rows_of(batches) == [row for row, _ in itertools.islice(naive(lists, 256, 1000), 150)]


def test_an_example_by_hand():
    a, b, c, d, e = ([n] * n for n in (3, 9, 5, 2, 5))
    e[0] = 50  # to tell it from c, which is as long and came first
    rows = rows_of(best_fit_batches([[a, b, c, d, e]], 1, 7, buffer_size=5))
    assert rows == [[*c, *a], [*e, *d, 9]]  # the last place goes to b, and 8 of its ids are thrown away


def test_whole_lists_are_read_before_each_pick_and_none_more():
    read = []

    def refills():
        for number in itertools.count():
            read.append(number)
            yield [[0, 1], [0, 2]]

    batches = best_fit_batches(refills(), 1, 3, buffer_size=3)
    next(batches)  # picks with 4 and with 3 waiting
    assert read == [0, 1] and batches.state["waiting"] == [2, 3]
    next(batches)
    assert read == [0, 1, 2] and batches.state["documents"] == 6


@given(any_lists, sizes)
def test_every_row_begins_with_bos_and_no_id_comes_twice(lists, sizes):
    (B, T, buffer), lists = sizes, documents(lists)
    rows = rows_of(best_fit_batches(lists, B, T, buffer))
    assert all(row[0] == 0 for row in rows)
    assert max(Counter(i for row in rows for i in row if i).values(), default=1) == 1
    for row in rows:  # after each id comes its document's next one, or a new document
        assert all(following in (0, i + 1) or i == 0 for i, following in itertools.pairwise(row))


def test_arrays_serve_as_documents_too():
    lists = documents([[3, 5, 9, 2]] * 9)
    arrays = [[np.array(ids, np.int32) for ids in group] for group in lists]
    assert rows_of(best_fit_batches(arrays, 2, 6, 4)) == rows_of(best_fit_batches(lists, 2, 6, 4))


# ---- to stop and go on


@given(any_lists, sizes, st.integers(0, 9), st.integers(1, 3))
def test_a_state_goes_on_with_the_very_next_row(lists, sizes, taken, other):
    (B, T, buffer), lists = sizes, documents(lists)
    batches = best_fit_batches(lists, B, T, buffer)
    done = rows_of(itertools.islice(batches, taken))
    if len(done) < taken * B:
        return  # a state after the end has nothing to go on to
    state = json.loads(json.dumps(batches.state))
    again = best_fit_batches(lists, B, T, buffer, state)
    assert again.state == state
    assert rows_of(again) == rows_of(batches)
    expected = [row for row, _ in naive(lists, T, buffer)][len(done) :]
    assert rows_of(best_fit_batches(lists, other, T, buffer, state)) == expected[: len(expected) // other * other]


def test_a_state_of_other_documents_is_refused():
    lists = documents([[3, 5, 9, 2]] * 9)
    batches = best_fit_batches(lists, 2, 6, 4)
    rows_of(itertools.islice(batches, 3))
    for other in (lists[:2], [group[:3] for group in lists], []):
        with pytest.raises(CourseError, match="the state is of other documents; give the same from"):
            best_fit_batches(other, 2, 6, 4, batches.state)


@pytest.mark.parametrize("wrong", [(0, 4, 9), (1, 0, 9), (1, 4, 0)])
def test_sizes_below_one_are_told(wrong):
    with pytest.raises(CourseError, match="batch_size=.*, sequence_len=.*, buffer_size=.*: expected 1 or more"):
        best_fit_batches([], *wrong)


# ---- the loader


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    gc.collect()
    wait_for(lambda: not any(thread.name.startswith("TokenLoader") for thread in threading.enumerate()))


def shards_of_words(seed=0, shards=3, documents=70):
    draw = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz "
    return [
        [
            None if draw.random() < 0.1 else "".join(draw.choices(letters, k=draw.choice((3, 9, 30, 90))))
            for _ in range(n)
        ]
        for n in draw.choices((1, documents), k=shards)
    ]


def endless_lists(shards):
    """What the loader must read: lists of 128 documents, epoch after epoch."""
    ids = [[TOKENIZER.bos, *TOKENIZER.encode(text)] for texts in shards for text in texts if text is not None]
    stream = itertools.cycle(ids)
    return iter(lambda: list(itertools.islice(stream, DOCUMENTS_AT_ONCE)), [])


@pytest.mark.parametrize(("B", "T", "buffer"), [(1, 16, 300), (4, 64, 50), (3, 33, 1000)])
def test_the_loader_packs_the_documents_of_the_dataset(tmp_path, B, T, buffer):
    shards = [*shards_of_words(), ["the last one"]]
    expected = rows_of(itertools.islice(best_fit_batches(endless_lists(shards), B, T, buffer), 40))
    with BestFitLoader(made(tmp_path, *shards), TOKENIZER, "train", B, T, buffer_size=buffer) as loader:
        batches = list(itertools.islice(loader, 40))
    assert all(array.dtype == mx.int32 for pair in batches for array in pair)
    assert rows_of(batches) == expected


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(0, 99), st.integers(1, 3), st.integers(1, 40), st.sampled_from([1, 30, 200, 400]), st.data())
def test_the_loader_goes_on_exactly(tmp_path_factory, seed, B, T, buffer, data):
    shards = [*shards_of_words(seed), ["one", "more", "for each " * 30]]
    dataset = made(tmp_path_factory.mktemp("shards"), *shards)
    taken = data.draw(st.integers(0, 60))
    with BestFitLoader(dataset, TOKENIZER, "train", B, T, buffer_size=buffer) as loader:
        for _ in range(taken):
            next(loader)
        state = json.loads(json.dumps(loader.state))
        assert state == loader.state
        expected = rows_of(itertools.islice(loader, 12))
        after = loader.state
    with BestFitLoader(dataset, TOKENIZER, "train", B, T, state=state, buffer_size=buffer) as loader:
        assert loader.state == state
        assert rows_of(itertools.islice(loader, 12)) == expected
        assert loader.state == after
    with BestFitLoader(dataset, TOKENIZER, "train", 2 * B, T, state=state, buffer_size=buffer) as loader:
        assert rows_of(itertools.islice(loader, 6)) == expected


def test_only_the_shards_of_what_waits_are_read_again(tmp_path, monkeypatch):
    short, long = ["ab"] * 128, ["abcdefg " * 400] + ["ab"] * 127
    dataset = made(tmp_path, short, long, short, short)
    with BestFitLoader(dataset, TOKENIZER, "train", 1, 300, buffer_size=2) as loader:
        while loader.state["shard"] != "shard_00003.parquet":
            next(loader)
        state = loader.state
    assert {shard for _, shard, _ in state["waiting"]} >= {"shard_00001.parquet"}
    opened, path = [], dataset.path
    monkeypatch.setattr(dataset, "path", lambda split, number, *rest: opened.append(number) or path(split, number))
    with BestFitLoader(dataset, TOKENIZER, "train", 1, 300, state=state, buffer_size=2) as loader:
        next(loader)
    assert set(opened) <= {int(shard[6:11]) for _, shard, _ in state["waiting"]} | {3, 0}
    assert 1 in opened and 2 not in set(opened) - {int(shard[6:11]) for _, shard, _ in state["waiting"]}


def test_the_state_is_small_and_names_what_waits_in_order(tmp_path):
    dataset = made(tmp_path, ["a", None, "bcd" * 9], ["ef"] * 4)
    with BestFitLoader(dataset, TOKENIZER, "train", 1, 8, buffer_size=5) as loader:
        origin = {"dataset": "made", "split": "train", "tokenizer": TOKENIZER.fingerprint, "rank": 0, "world_size": 1}
        begin = {"epoch": 0, "shard": "shard_00000.parquet", "row": 0, "used": 0, "thrown_away": 0, "waiting": []}
        assert loader.state == {**origin, **begin, "rows": "best-fit"}
        before = loader.state
        next(loader)
        assert before["waiting"] == [] and loader.state["used"] == 9
        for (epoch, shard, rows), following in itertools.pairwise(loader.state["waiting"]):
            assert rows == sorted(rows) and (epoch, shard) < (following[0], following[1])


def test_runs_join_what_follows_one_another_in_a_shard():
    at = [(0, "a", 3), (0, "a", 5), (0, "b", 1), (1, "a", 3)]
    positions = [dict(zip(("epoch", "shard", "row"), each, strict=True)) for each in at]
    assert runs(positions) == [[0, "a", [3, 5]], [0, "b", [1]], [1, "a", [3]]]


def test_documents_of_the_stream_cannot_be_gone_on_with_packed_nor_the_other_way(tmp_path):
    dataset = made(tmp_path, ["some text"] * 9)
    for one, other in ((TokenLoader, BestFitLoader), (BestFitLoader, TokenLoader)):
        with one(dataset, TOKENIZER, "train", 1, 4) as loader:
            next(loader)
        with pytest.raises(CourseError, match="the state of the data has rows='.*', but now it is"):
            other(dataset, TOKENIZER, "train", 1, 4, state=loader.state)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset": "bundled"}, "dataset='bundled', but now it is 'made'"),
        ({"tokenizer": "0123"}, "tokenizer='0123'"),
        ({"row": -1}, "row=-1"),
        ({"used": "9"}, "used='9'"),
        ({"thrown_away": None}, "thrown_away=None"),
        ({"shard": "shard_00007.parquet"}, "shard_00007.parquet, which is not here"),
        ({"waiting": None}, "waits? as None|wait as None"),
        ({"waiting": [[0, "shard_00009.parquet", [1]]]}, "wait as .*shard_00009"),
        ({"waiting": [[0, "shard_00000.parquet", []]]}, "expected .epoch, shard"),
        ({"waiting": [[0, "shard_00000.parquet", ["1"]]]}, "expected .epoch, shard"),
        ({"waiting": [7]}, "expected .epoch, shard"),
    ],
)
def test_a_state_of_something_else_is_refused(tmp_path, change, said):
    dataset = made(tmp_path, ["some text"] * 9)
    with BestFitLoader(dataset, TOKENIZER, "train", 1, 4) as loader:
        next(loader)
        state = loader.state
    with pytest.raises(CourseError, match=said) as caught:
        BestFitLoader(dataset, TOKENIZER, "train", 1, 4, state={**state, **change})
    assert "\n" not in str(caught.value)


def test_a_document_that_waited_and_is_gone_is_told_each_time(tmp_path):
    dataset = made(tmp_path, ["some text"] * 9)
    with BestFitLoader(dataset, TOKENIZER, "train", 1, 4) as loader:
        next(loader)
        state = {**loader.state, "waiting": [[0, "shard_00000.parquet", [2, 99]]]}
    with BestFitLoader(dataset, TOKENIZER, "train", 1, 4, state=state) as loader:
        for _ in range(2):
            with pytest.raises(CourseError, match="the state is of other documents"):
                next(loader)


def test_too_little_text_damage_and_wrong_sizes_are_told_as_by_its_sibling(tmp_path):
    dataset = made(tmp_path, ["ab", "cd"])
    with BestFitLoader(dataset, TOKENIZER, "train", 1, 6) as loader:
        for _ in range(2):
            with pytest.raises(CourseError, match="has 6 tokens, fewer than a row of sequence_len=6"):
                next(loader)
    with pytest.raises(CourseError, match="batch_size=0"):
        BestFitLoader(dataset, TOKENIZER, "train", 0, 6)
    with pytest.raises(CourseError, match="this loader is closed; make a new one with BestFitLoader"):
        next(loader)
    (tmp_path / "shard_00000.parquet").unlink()
    with BestFitLoader(dataset, TOKENIZER, "train", 1, 4) as loader, pytest.raises(FileNotFoundError):
        next(loader)


def test_a_loader_that_is_dropped_takes_its_thread_along(tmp_path):
    loader = BestFitLoader(made(tmp_path, ["some text"] * 900), TOKENIZER, "train", 1, 4)
    next(loader)
    gone = weakref.ref(loader)
    del loader
    assert gone() is None or gc.collect() >= 0 and gone() is None


def test_the_default_buffer_is_that_of_the_original():
    assert BestFitLoader.__init__.__defaults__[-1] == best_fit_batches.__defaults__[0] == 1000
    assert best_fit_loader.DOCUMENTS_AT_ONCE == 128
