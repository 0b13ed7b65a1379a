"""Batches are the one flat stream, cut: to the last id, over every boundary, from every saved place, for each rank."""

import gc
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import wait_for

from course_lib.data import dataloader, python_docs
from course_lib.data.dataloader import AHEAD, TokenLoader, read_from
from course_lib.data.dataset import Dataset, open_dataset
from course_lib.data.remote import ShardCache
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError

WORDS = "the quick brown fox jumps over the lazy dog and the cat sat on the mat "
TOKENIZER = Tokenizer.train([WORDS * 3], 320, allow_smaller=True)
any_document = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["", " ", "\n\n\t", "\0", "x", "<|bos|>", "é🙂\u200d", "word " * 300, "a\0b" * 99]
)
any_shards = st.lists(st.lists(st.none() | any_document, max_size=6), min_size=1, max_size=4).filter(
    lambda shards: any(text is not None for shard in shards for text in shard)
)


def made(folder: Path, *shards: list, name: str = "made") -> Dataset:
    """A dataset of these training shards and a small validation shard, in `folder`."""
    names = [f"shard_{number:05d}.parquet" for number in range(len(shards) + 1)]
    for file, texts in zip(names, [*shards, ["held out"]], strict=True):
        pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), folder / file, row_group_size=3)
    return Dataset(name, folder, names)


def stream(shards: list[list], rank: int = 0, world_size: int = 1) -> Iterator[int]:
    """What the batches must be, end to end: BOS and the ids of each document, epoch after epoch."""
    mine = []
    for number, texts in enumerate(shards):
        mine += [text for row, text in enumerate(texts) if (row + number) % world_size == rank and text is not None]
    ids = [i for text in mine for i in (TOKENIZER.bos, *TOKENIZER.encode(text))]
    return itertools.cycle(ids)


def part(ids: Iterator[int], start: int, count: int) -> list[int]:
    return list(itertools.islice(ids, start, start + count))


def assert_batches_are(loader: TokenLoader, expected: list[int], batch_size: int, sequence_len: int) -> None:
    """The next batches are `expected`, which has one id more than they hold."""
    size = batch_size * sequence_len
    for start in range(0, len(expected) - size, size):
        inputs, targets = next(loader)
        assert inputs.shape == targets.shape == (batch_size, sequence_len)
        assert inputs.dtype == targets.dtype == mx.int32
        assert inputs.flatten().tolist() == expected[start : start + size]
        assert targets.flatten().tolist() == expected[start + 1 : start + size + 1]


def our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("TokenLoader")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    gc.collect()
    wait_for(lambda: not our_threads())


# The stream


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(any_shards, st.integers(1, 4), st.integers(1, 40))
def test_batches_end_to_end_are_the_stream(tmp_path_factory, shards, batch_size, sequence_len):
    dataset, size = made(tmp_path_factory.getbasetemp(), *shards), batch_size * sequence_len
    one_epoch = sum(1 + len(TOKENIZER.encode(text)) for shard in shards for text in shard if text is not None)
    count = min(max(4, 2 * one_epoch // size), 100)  # two epochs, where they are short
    expected = part(stream(shards), 0, count * size + 1)
    with TokenLoader(dataset, TOKENIZER, "train", batch_size, sequence_len) as loader:
        if one_epoch <= sequence_len:
            with pytest.raises(CourseError, match=f"the text has {one_epoch} tokens"):
                next(loader)
        else:
            assert_batches_are(loader, expected, batch_size, sequence_len)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(any_shards, st.integers(1, 3), st.integers(1, 12), st.data())
def test_any_state_goes_on_with_the_very_next_batch(tmp_path_factory, shards, batch_size, sequence_len, data):
    dataset, size = made(tmp_path_factory.getbasetemp(), *shards), batch_size * sequence_len
    one_epoch = sum(1 + len(TOKENIZER.encode(text)) for shard in shards for text in shard if text is not None)
    if one_epoch <= 16:
        return
    taken = data.draw(st.integers(0, 3 * one_epoch // size + 2))
    with TokenLoader(dataset, TOKENIZER, "train", batch_size, sequence_len) as loader:
        for _ in range(taken):
            next(loader)
        state = json.loads(json.dumps(loader.state))
        assert state == loader.state and state["epoch"] == taken * size // one_epoch
    other, length = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 16))
    for batch, row in ((batch_size, sequence_len), (other, length)):
        expected = part(stream(shards), taken * size, 12 * batch * row + 1)
        with TokenLoader(dataset, TOKENIZER, "train", batch, row, state=state) as loader:
            assert loader.state == state
            assert_batches_are(loader, expected, batch, row)


@pytest.mark.slow
def test_every_single_token_is_a_place_to_go_on_from(tmp_path):
    shards = [["ab", "", None], [], ["c", "the mat"], [None]]
    dataset = made(tmp_path, *shards)
    one_epoch, states = 1 + 2 + 1 + 2 + len(TOKENIZER.encode("the mat")) + 1, []
    with TokenLoader(dataset, TOKENIZER, "train", 1, 1) as loader:
        for _ in range(2 * one_epoch + 1):
            states.append(loader.state)
            next(loader)
    assert [state["epoch"] for state in states] == [0] * one_epoch + [1] * one_epoch + [2]
    assert len({json.dumps(state) for state in states}) == len(states)
    for start, state in enumerate(states):
        with TokenLoader(dataset, TOKENIZER, "train", 2, 3, state=state) as loader:
            assert_batches_are(loader, part(stream(shards), start, 6 * 5 + 1), 2, 3)


def test_a_state_is_small_and_says_where_and_of_what(tmp_path):
    dataset = made(tmp_path, ["ab"], ["cd" * 50])
    with TokenLoader(dataset, TOKENIZER, "train", 1, 3) as loader:
        origin = {"dataset": "made", "split": "train", "tokenizer": TOKENIZER.fingerprint, "rank": 0, "world_size": 1}
        assert loader.state == {**origin, "epoch": 0, "shard": "shard_00000.parquet", "row": 0, "token": 0}
        next(loader)
        assert loader.state == {**origin, "epoch": 0, "shard": "shard_00001.parquet", "row": 0, "token": 0}
        before = loader.state
        next(loader)
        assert before["token"] == 0 and loader.state["token"] == 3, "a state that was taken does not change"


def test_documents_longer_than_many_batches_and_longer_than_a_group(tmp_path, monkeypatch):
    monkeypatch.setattr(dataloader, "CHARS_AT_ONCE", 5_000)
    monkeypatch.setattr(dataloader, "DOCUMENTS_AT_ONCE", 4)
    shards = [["x" * 20_000, *map(str, range(11))], ["y" * 6_000, "z"]]
    with TokenLoader(made(tmp_path, *shards), TOKENIZER, "train", 2, 97) as loader:
        assert_batches_are(loader, part(stream(shards), 0, 194 * 300 + 1), 2, 97)


@pytest.mark.slow
def test_a_document_of_ten_megabytes(tmp_path):
    text = WORDS * 140_000
    dataset, ids = made(tmp_path, ["a", text, "b"]), TOKENIZER.encode(text)
    expected = np.array([TOKENIZER.bos, *TOKENIZER.encode("a"), TOKENIZER.bos, *ids, TOKENIZER.bos], dtype=np.int32)
    started = time.process_time()
    with TokenLoader(dataset, TOKENIZER, "train", 8, 1024) as loader:
        for start in range(0, len(expected) - 8193, 8192):
            inputs, targets = next(loader)
            np.testing.assert_array_equal(np.array(inputs).ravel(), expected[start : start + 8192])
            np.testing.assert_array_equal(np.array(targets).ravel(), expected[start + 1 : start + 8193])
            if start > 1_000_000:
                break
    assert time.process_time() - started < 15


def test_the_val_split_and_any_number_of_threads_give_the_same(tmp_path):
    dataset = made(tmp_path, ["train"] * 300)
    for threads in (1, 2, 7, None):
        with TokenLoader(dataset, TOKENIZER, "val", 2, 2, num_threads=threads) as loader:
            assert_batches_are(loader, part(stream([["held out"]]), 0, 4 * 9 + 1), 2, 2)


def test_batches_of_the_bundled_corpus_decode_to_its_documents(home, monkeypatch):
    monkeypatch.setattr(python_docs, "documents", lambda: [f"module{n}\n\nDoes things." for n in range(200)])
    dataset = open_dataset()
    first = next(dataset.documents("train"))
    with TokenLoader(dataset, TOKENIZER, "train", 4, 64) as loader:
        ids = [i for inputs, _ in itertools.islice(loader, 2) for i in inputs.flatten().tolist()]
    assert ids[0] == TOKENIZER.bos
    text = TOKENIZER.decode(ids[1:])
    assert text.startswith(first[:300]) or text.split("<|bos|>")[0] == first


# Ranks


def documents_of_an_epoch(dataset: Dataset, rank: int, world_size: int, **options) -> list[str]:
    ids = []
    with TokenLoader(dataset, TOKENIZER, "train", 1, 1, rank, world_size, **options) as loader:
        while loader.state["epoch"] == 0:
            ids.append(next(loader)[0].item())
    texts, special = [], TOKENIZER.bos
    for i in ids:
        if i == special:
            texts.append([])
        else:
            texts[-1].append(i)
    return [TOKENIZER.decode(row) for row in texts]


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(any_shards, st.integers(1, 4))
def test_ranks_share_the_documents_of_an_epoch(tmp_path_factory, shards, world_size):
    dataset = made(tmp_path_factory.getbasetemp(), *shards, ["extra"] * 8)  # so that no rank is left without
    shards = [[None if text is None else text[:40] for text in texts] for texts in shards]
    dataset = made(tmp_path_factory.getbasetemp(), *shards, ["extra"] * 8)
    found = [documents_of_an_epoch(dataset, rank, world_size) for rank in range(world_size)]
    every = [text for texts in [*shards, ["extra"] * 8] for text in texts if text is not None]
    assert Counter(itertools.chain(*found)) == Counter(every)
    for texts in found:
        rest = iter(every)
        assert all(text in rest for text in texts), "in the order of the dataset"


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_resume_each_with_its_own_next_batch(tmp_path, world_size):
    shards = [[f"shard {number} row {row}" for row in range(5)] for number in range(3)]
    dataset = made(tmp_path, *shards)
    for rank in range(world_size):
        with TokenLoader(dataset, TOKENIZER, "train", 1, 7, rank, world_size) as loader:
            for taken in range(0, 84, 7):
                state = json.loads(json.dumps(loader.state))
                with TokenLoader(dataset, TOKENIZER, "train", 2, 5, rank, world_size, state) as other:
                    assert_batches_are(other, part(stream(shards, rank, world_size), taken, 41), 2, 5)
                next(loader)


def test_shards_of_a_single_row_do_not_all_go_to_the_first_rank(tmp_path):
    dataset = made(tmp_path, *([f"document {number}"] for number in range(9)))
    shares = [documents_of_an_epoch(dataset, rank, 3) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 3, 3]


def test_a_rank_without_a_document_is_told(tmp_path):
    dataset = made(tmp_path, ["one document", "another"])
    with TokenLoader(dataset, TOKENIZER, "train", 1, 2, rank=2, world_size=3) as loader:
        with pytest.raises(CourseError, match="train split of made has no document for rank 2 of 3.*fewer ranks"):
            next(loader)
    state = {**loader.state, "row": 1, "epoch": 4}
    with TokenLoader(dataset, TOKENIZER, "train", 1, 2, rank=2, world_size=3, state=state) as loader:
        with pytest.raises(CourseError, match="no document for rank 2 of 3"):
            next(loader)


def test_positions_name_the_rows_of_the_documents(tmp_path):
    dataset = made(tmp_path, ["a", None, "b"], [], ["c"])
    start = {"epoch": 3, "shard": "shard_00000.parquet", "row": 1}
    found = list(itertools.islice(read_from(dataset, "train", start), 4))
    assert [(p["epoch"], p["shard"][10], p["row"], text) for p, text in found] == [
        (3, "0", 2, "b"),
        (3, "2", 0, "c"),
        (4, "0", 0, "a"),
        (4, "0", 2, "b"),
    ]


# Too little text, and damage


@pytest.mark.parametrize("texts", [[], [None], [[], [], [None, None]]], ids=repr)
def test_a_split_without_documents_is_told(tmp_path, texts):
    shards = texts if texts and isinstance(texts[0], list) else [texts]
    with TokenLoader(made(tmp_path, *shards), TOKENIZER, "train", 1, 4) as loader:
        for _ in range(3):
            with pytest.raises(CourseError, match="no document for rank 0 of 1; give more text"):
                next(loader)


def test_rows_longer_than_the_text_are_refused_at_once_and_after_a_resume(tmp_path):
    dataset = made(tmp_path, ["ab", "cd"])  # 6 tokens
    for batch_size in (1, 3):
        with TokenLoader(dataset, TOKENIZER, "train", batch_size, 5) as loader:
            assert_batches_are(loader, part(stream([["ab", "cd"]]), 0, 5 * batch_size * 4 + 1), batch_size, 5)
        state = loader.state
        for resumed in (None, state):
            with TokenLoader(dataset, TOKENIZER, "train", batch_size, 6, state=resumed) as loader:
                with pytest.raises(CourseError, match="has 6 tokens, fewer than a row of sequence_len=6"):
                    for _ in range(3):
                        next(loader)
    with TokenLoader(dataset, TOKENIZER, "train", 1, 3, 1, 2) as loader:
        with pytest.raises(CourseError, match="has 3 tokens"):
            next(loader)
    with TokenLoader(dataset, TOKENIZER, "train", 1, 2, 1, 2) as loader:
        assert_batches_are(loader, part(stream([["ab", "cd"]], 1, 2), 0, 21), 1, 2)


def test_one_document_repeats(tmp_path):
    with TokenLoader(made(tmp_path, ["abc"]), TOKENIZER, "train", 3, 2) as loader:
        assert_batches_are(loader, part(stream([["abc"]]), 0, 6 * 20 + 1), 3, 2)


def test_damage_and_a_lost_shard_reach_the_caller_each_time(tmp_path):
    dataset, path = made(tmp_path, ["fine"] * 300, []), tmp_path / "shard_00001.parquet"
    pq.write_table(pa.table({"text": [f"row {row} of a shard" for row in range(3000)]}), path)
    data = bytearray(path.read_bytes())
    data[200 : len(data) // 2] = b"\xff" * (len(data) // 2 - 200)
    path.write_bytes(data)
    with TokenLoader(dataset, TOKENIZER, "train", 1, 8) as loader:
        with pytest.raises(CourseError, match=f"{path} is damaged"):
            for _ in loader:
                state = loader.state
        for _ in range(3):
            with pytest.raises(CourseError, match=f"{path} is damaged"):
                next(loader)
        assert loader.state == state
    path.unlink()
    with TokenLoader(dataset, TOKENIZER, "train", 1, 8) as loader:
        for _ in range(3):
            with pytest.raises(FileNotFoundError, match="shard_00001.parquet"):
                for _ in loader:
                    pass


# What is asked for


@pytest.mark.parametrize(
    "wrong",
    [{"batch_size": 0}, {"sequence_len": 0}, {"batch_size": -1}, {"world_size": 0}, {"rank": 1}, {"rank": -1}],
    ids=str,
)
def test_sizes_and_ranks_out_of_range_are_told(tmp_path, wrong):
    asked = {"batch_size": 2, "sequence_len": 3, "rank": 0, "world_size": 1, **wrong}
    with pytest.raises(CourseError) as caught:
        TokenLoader(made(tmp_path, ["text"]), TOKENIZER, "train", **asked)
    assert all(f"{key}={value}" in str(caught.value) for key, value in asked.items())
    with pytest.raises(CourseError, match="no split 'test'"):
        TokenLoader(made(tmp_path, ["text"]), TOKENIZER, "test", 1, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset": "bundled"}, "dataset='bundled', but now it is 'made'"),
        ({"split": "val"}, "split='val'"),
        ({"tokenizer": "0123"}, "tokenizer='0123'"),
        ({"rank": 1}, "rank=1"),
        ({"world_size": 2}, "world_size=2"),
        ({"shard": "shard_00007.parquet"}, "shard_00007.parquet, which is not here"),
        ({"shard": None}, "shard None"),
        ({"row": -1}, "row=-1"),
        ({"row": "1"}, "row='1'"),
        ({"row": None}, "row=None"),
        ({"token": 1.5}, "token=1.5"),
        ({"token": -3}, "token=-3"),
        ({"epoch": "first"}, "epoch='first'"),
        ({"epoch": True}, "epoch=True"),
    ],
)
def test_a_state_of_something_else_is_refused(tmp_path, change, said):
    dataset = made(tmp_path, ["some text"])
    with TokenLoader(dataset, TOKENIZER, "train", 1, 2) as loader:
        state = loader.state
    for wrong in ({**state, **change}, {key: value for key, value in state.items() if key not in change}):
        with pytest.raises(CourseError, match="the state of the data") as caught:
            TokenLoader(dataset, TOKENIZER, "train", 1, 2, state=wrong)
        assert "\n" not in str(caught.value)
        if wrong.keys() == state.keys():
            assert said in str(caught.value)


@pytest.mark.parametrize("state", [{}, [], "state", 5], ids=repr)
def test_a_state_that_is_none_is_refused(tmp_path, state):
    with pytest.raises(CourseError, match="the state of the data"):
        TokenLoader(made(tmp_path, ["text"]), TOKENIZER, "train", 1, 2, state=state)


def test_a_token_beyond_its_document_is_refused(tmp_path):
    dataset = made(tmp_path, ["ab", "cd"])
    with TokenLoader(dataset, TOKENIZER, "train", 1, 1) as loader:
        state = loader.state
    for token, ok in ((2, True), (4, False), (10**9, False)):
        with TokenLoader(dataset, TOKENIZER, "train", 1, 1, state={**state, "token": token}) as loader:
            if ok:
                assert_batches_are(loader, part(stream([["ab", "cd"]]), token, 5), 1, 1)
            else:
                with pytest.raises(CourseError, match=f"token {token} of a document that has 3"):
                    next(loader)


def test_another_tokenizer_or_other_text_cannot_go_on(tmp_path, home):
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"text {number}")
    dataset = open_dataset(str(tmp_path / "0.txt").replace("0.txt", ""))
    with TokenLoader(dataset, TOKENIZER, "train", 1, 2) as loader:
        next(loader)
    with pytest.raises(CourseError, match="tokenizer="):
        TokenLoader(dataset, Tokenizer.train(["other text"], 266), "train", 1, 2, state=loader.state)
    (tmp_path / "1.txt").write_text("text was changed")
    with pytest.raises(CourseError, match="dataset="):
        TokenLoader(open_dataset(str(tmp_path)), TOKENIZER, "train", 1, 2, state=loader.state)


# The thread


def test_closing_ends_the_thread_and_keeps_the_state(tmp_path):
    dataset = made(tmp_path, ["some text"] * 5000)
    loader = TokenLoader(dataset, TOKENIZER, "train", 2, 16)
    assert len(our_threads()) == 1 and iter(loader) is loader
    next(loader)
    state = loader.state
    loader.close()
    loader.close()
    assert not our_threads() and loader.state == state
    for _ in range(2):
        with pytest.raises(CourseError, match=r"closed; .*state=loader.state"):
            next(loader)
    with pytest.raises(KeyError), TokenLoader(dataset, TOKENIZER, "train", 2, 16) as loader:
        raise KeyError
    assert not our_threads()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="lists open files in /proc")
def test_a_closed_loader_holds_no_file(tmp_path):
    loader = TokenLoader(made(tmp_path, ["some text"] * 5000), TOKENIZER, "train", 1, 4)
    next(loader)
    loader.close()
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    assert not [link for link in links if link.is_symlink() and str(tmp_path) in os.readlink(link)]


def test_a_loader_that_is_forgotten_ends_its_thread(tmp_path):
    loader = TokenLoader(made(tmp_path, ["some text"] * 100), TOKENIZER, "train", 2, 16)
    next(loader)
    alive = weakref.ref(loader)
    del loader
    gc.collect()
    assert alive() is None
    wait_for(lambda: not our_threads())


def test_batches_wait_ready_but_not_too_many(tmp_path, monkeypatch):
    made_batches = []
    cut = dataloader.cut_batches
    monkeypatch.setattr(
        dataloader, "cut_batches", lambda *args, **kw: (made_batches.append(1) or batch for batch in cut(*args, **kw))
    )
    with TokenLoader(made(tmp_path, ["some text"] * 1000), TOKENIZER, "train", 1, 4) as loader:
        for taken in range(20):
            wait_for(lambda: all(batch.done() for batch in loader._ahead))
            assert len(made_batches) == AHEAD + taken
            next(loader)


def test_two_loaders_at_a_time_do_not_disturb_each_other(tmp_path):
    shards = [[f"document {number} {row}" for row in range(50)] for number in range(2)]
    dataset, truth = made(tmp_path, *shards), part(stream(shards), 0, 12 * 150 + 1)
    other = part(stream([["held out"]]), 0, 12 * 150 + 1)
    with (
        TokenLoader(dataset, TOKENIZER, "train", 3, 4) as train,
        TokenLoader(dataset, TOKENIZER, "val", 4, 3) as val,
        TokenLoader(dataset, TOKENIZER, "train", 2, 6) as again,
    ):
        for start in range(0, 12 * 150, 12):
            assert_batches_are(train, truth[start : start + 13], 3, 4)
            assert_batches_are(val, other[start : start + 13], 4, 3)
            assert_batches_are(again, truth[start : start + 13], 2, 6)


class Blocked(Dataset):
    """A dataset whose second shard can be had only when `gate` is set, or when somebody stops waiting."""

    def path(self, split, number, stopped=lambda: False):
        while number == 1 and not self.gate.is_set() and not stopped():
            self.waiting.set()
            time.sleep(0.01)
        return super().path(split, number, stopped)


def blocked(folder: Path, *shards: list) -> Blocked:
    dataset = made(folder, *shards)
    dataset.__class__, dataset.gate, dataset.waiting = Blocked, threading.Event(), threading.Event()
    return dataset


def ctrl_c_when_all_wait(loader: TokenLoader, dataset: Blocked) -> None:
    """Ctrl-C once the loader's thread waits for the second shard, and the main thread for a batch."""
    main = threading.main_thread().ident

    def waits() -> bool:
        frame = sys._current_frames()[main]
        caller = frame.f_back  # None when the function has returned meanwhile
        names = frame.f_code.co_name, caller and caller.f_code.co_name
        return names == ("wait", "result") and not loader._ahead[0].done()

    dataset.waiting.wait(100)
    wait_for(waits)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def no_garbage_collection():
    """Python drops a KeyboardInterrupt that comes while it tells somebody, as hypothesis, of a collection."""
    gc.disable()
    yield
    gc.enable()


def test_ctrl_c_while_waiting_loses_no_batch(tmp_path, no_garbage_collection):
    shards = [["first"] * 150, ["second"] * 200]
    dataset, expected = blocked(tmp_path, *shards), part(stream(shards), 0, 6 * 300 + 1)
    with TokenLoader(dataset, TOKENIZER, "train", 2, 3) as loader:
        found = []
        for _ in range(3):
            thread = threading.Thread(target=ctrl_c_when_all_wait, args=(loader, dataset))
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                for inputs, _ in loader:
                    found += inputs.flatten().tolist()
            thread.join()
        assert 0 < len(found) < len(expected)
        dataset.gate.set()
        assert found == expected[: len(found)]
        assert_batches_are(loader, expected[len(found) :], 2, 3)


@pytest.mark.slow
def test_closing_does_not_wait_for_a_shard(tmp_path):
    for end in (lambda loader: loader.close(), lambda loader: None):
        loader = TokenLoader(blocked(tmp_path, ["first"], ["second"]), TOKENIZER, "train", 1, 3)
        end(loader)
        del loader
        gc.collect()
        wait_for(lambda: not our_threads())


NEVER_CLOSED = """
import sys, threading, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_dataloader import TOKENIZER, made
from course_lib.data.dataset import Dataset, ShardCache
from course_lib.data.dataloader import TokenLoader
from course_lib.host.download import Stopped

begun = threading.Event()

class Endless:
    repo = "somebody/endless"
    def shard(self, number):
        return f"shard_{{number % 4:05d}}.parquet"
    def fetch(self, name, folder, stopped):
        begun.set()
        while not stopped():
            time.sleep(0.01)
        raise Stopped

folder = Path({folder!r})
if {streamed}:
    remote = Endless()
    every = [remote.shard(number) for number in range(4)]
    dataset = Dataset("endless", folder, every, ShardCache(remote, folder / "streamed", 3))
else:
    dataset = made(folder, ["some text " * 100] * 2000)
loader = TokenLoader(dataset, TOKENIZER, "train", 8, 256)
if {streamed}:
    begun.wait()
else:
    next(loader)
{end}
"""


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("end", ["", "raise ValueError", "sys.exit(3)"])
def test_a_program_ends_promptly_when_its_loader_was_never_closed(tmp_path, streamed, end):
    code = NEVER_CLOSED.format(tests=str(Path(__file__).parent), folder=str(tmp_path), streamed=streamed, end=end)
    done = subprocess.run([sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, timeout=100)
    assert done.stderr.count("Error") == ("raise" in end) and "Warning" not in done.stderr, done.stderr


@pytest.mark.slow
def test_memory_stays_flat(tmp_path):
    dataset = made(tmp_path, *[["".join(random.Random(n).choices(WORDS, k=400)) for n in range(200)]] * 2)
    with TokenLoader(dataset, TOKENIZER, "train", 4, 64) as loader:
        for _ in range(600):
            next(loader)
        tracemalloc.start()
        sizes = []
        for step in range(2400):
            next(loader)
            if step % 50 == 0:
                sizes.append(tracemalloc.get_traced_memory()[0] + mx.get_active_memory())
        tracemalloc.stop()
    assert loader.state["epoch"] > 3
    assert max(sizes[-12:]) < 1.5 * max(sizes[4:16]) + 500_000


# Streamed shards


class FolderRemote:
    """Copies shards from a folder after a pause; counts the shards on disk after each."""

    repo = "somebody/folder"

    def __init__(self, source: Path, num_shards: int):
        self.source, self.num_shards, self.most, self.broken = source, num_shards, 0, set()

    def shard(self, number: int) -> str:
        return f"shard_{number % self.num_shards:05d}.parquet"

    def fetch(self, name: str, folder: Path, stopped) -> None:
        folder.mkdir(exist_ok=True)
        if (folder / name).exists():
            return
        if name in self.broken:
            raise CourseError(f"could not fetch {name}")
        time.sleep(0.01)
        (folder / f".{name}.part").write_bytes((self.source / name).read_bytes())
        (folder / f".{name}.part").replace(folder / name)
        self.most = max(self.most, len(list(folder.glob("*.parquet"))))


@pytest.fixture
def streamed(tmp_path) -> tuple[Dataset, list, FolderRemote]:
    """A streamed dataset of five training shards, their texts, and where they come from."""
    (tmp_path / "source").mkdir()
    shards = [[f"shard {number} row {row}" for row in range(30)] for number in range(5)]
    names = made(tmp_path / "source", *shards).shards("train") + ["shard_00005.parquet"]
    remote = FolderRemote(tmp_path / "source", 6)
    return Dataset("streamed", tmp_path, names, ShardCache(remote, tmp_path / "streamed", 3)), shards, remote


def test_a_streamed_corpus_gives_the_same_batches_and_resumes(streamed):
    dataset, shards, remote = streamed
    with TokenLoader(dataset, TOKENIZER, "train", 2, 9) as loader, TokenLoader(dataset, TOKENIZER, "val", 1, 2) as val:
        for taken in range(0, 18 * 150, 18):
            assert_batches_are(loader, part(stream(shards), taken, 19), 2, 9)
            if taken % 90 == 0:
                next(val)
        state = loader.state
        assert state["epoch"] >= 1
    with TokenLoader(dataset, TOKENIZER, "train", 2, 9, state=state) as loader:
        assert_batches_are(loader, part(stream(shards), 18 * 150, 18 * 40 + 1), 2, 9)
    assert remote.most <= 3


def test_the_thread_that_fetches_ends_with_its_dataset(tmp_path):
    remote = FolderRemote(tmp_path, 3)
    made(tmp_path, ["text"] * 200, ["more"])
    names = [remote.shard(number) for number in range(3)]
    dataset = Dataset("streamed", tmp_path / "none", names, ShardCache(remote, tmp_path / "streamed", 3))
    with TokenLoader(dataset, TOKENIZER, "train", 1, 4) as loader:
        next(loader)
    del dataset, loader
    gc.collect()
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("ShardCache")])


def test_a_shard_that_cannot_be_fetched_is_an_error_each_time_and_the_state_goes_on(streamed):
    dataset, shards, remote = streamed
    remote.broken = {"shard_00002.parquet"}
    with TokenLoader(dataset, TOKENIZER, "train", 1, 4) as loader:
        taken = 0
        for _ in range(3):
            with pytest.raises(CourseError, match="could not fetch shard_00002"):
                for _ in loader:
                    taken += 4
    remote.broken = set()
    with TokenLoader(dataset, TOKENIZER, "train", 1, 4, state=loader.state) as loader:
        assert_batches_are(loader, part(stream(shards), taken, 401), 1, 4)
