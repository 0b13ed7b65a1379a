"""Datasets: made once, the same bytes each time, whole or not there, and streamed with few shards on disk."""

import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import wait_for

from course_lib.data import dataset as module
from course_lib.data import identity, python_docs, text_file
from course_lib.data.dataset import (
    Dataset,
    is_held_out,
    open_dataset,
    split_documents,
    write_shards,
)
from course_lib.data.documents import read_parquet
from course_lib.data.remote import REMOTES, ShardCache
from course_lib.data.sizes import corpus_tokens
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.download import Stopped
from course_lib.host.errors import CourseError
from course_lib.host.files import sha256_of

TEXTS = [f"Document {number} of the corpus.\n" * (1 + number % 60) for number in range(3000)]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def everything(folder: Path) -> list[str]:
    """What lies in a folder, locks left out."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.name.endswith(".lock"))


def both(dataset: Dataset) -> list[str]:
    return [text for split in ("train", "val") for text in dataset.documents(split)]


# The split


def test_about_one_in_twenty_is_held_out_always_the_same_ones():
    texts = [f"{seed} {random.Random(seed).random()}" for seed in range(20_000)]
    assert 0.045 < sum(map(is_held_out, texts)) / len(texts) < 0.055
    assert [number for number in range(60) if is_held_out(f"{number}")] == [6, 37, 40], "fixed for all time"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(["", " \n", "a", "b"])))
def test_the_split_keeps_every_document_that_is_not_blank(texts):
    found, real = list(split_documents(texts)), [text for text in texts if text.strip()]
    assert [text for _, text in found] == real
    if len(real) > 1:
        assert {held_out for held_out, _ in found} == {False, True}
    assert all(held_out == is_held_out(text) for held_out, text in found[:-1])


def test_no_more_than_a_fixed_amount_is_held_out(monkeypatch):
    monkeypatch.setattr(module, "HELD_OUT_CHARS", 100)
    found = list(split_documents(f"document {number}" for number in range(2000)))
    held_out = [text for is_val, text in found if is_val]
    assert 100 <= sum(map(len, held_out)) < 120
    assert held_out == [text for _, text in found if is_held_out(text)][: len(held_out)]


# Shards


def test_shards_hold_every_document_in_order_the_last_one_for_validation(tmp_path):
    write_shards(TEXTS, tmp_path / "corpus", shard_chars=500_000)
    shards = sorted(tmp_path.glob("corpus/*"))
    assert [path.name for path in shards] == [f"shard_{number:05d}.parquet" for number in range(len(shards))]
    parts = [[text for _, text in read_parquet(path)] for path in shards]
    assert sum(parts[:-1], []) == [text for text in TEXTS if not is_held_out(text)]
    assert parts[-1] == [text for text in TEXTS if is_held_out(text)]
    sizes = [sum(map(len, part)) for part in parts[:-1]]
    assert len(sizes) > 3 and all(500_000 <= size < 502_000 for size in sizes[:-1])
    assert pq.ParquetFile(shards[0]).metadata.row_group(0).num_rows <= 1024


def test_the_same_documents_give_the_same_bytes_and_nothing_else_is_left(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f".{name}.part").mkdir()
        (tmp_path / f".{name}.part" / "shard_00099.parquet").write_bytes(b"of a run that was killed")
        write_shards(TEXTS, tmp_path / name, shard_chars=300_000)
    assert digests(tmp_path / "one") == digests(tmp_path / "two") and len(digests(tmp_path / "one")) > 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.parametrize("texts", [[], ["alone"], ["", "alone", " \n"], [" ", "\n\t\u3000"]], ids=repr)
def test_fewer_than_two_documents_make_no_corpus(tmp_path, texts):
    with pytest.raises(CourseError, match="the text is too little: expected at least two documents"):
        write_shards(texts, tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("texts", [["a", "b"], ["6", "37"], ["a", "a"], ["\0", "\ufeff"]], ids=repr)
def test_two_documents_are_one_to_train_on_and_one_for_validation(tmp_path, texts):
    write_shards(texts, tmp_path / "corpus")
    found = [[text for _, text in read_parquet(path)] for path in sorted(tmp_path.glob("corpus/*"))]
    assert list(map(len, found)) == [1, 1] and sorted(sum(found, [])) == sorted(texts)


@pytest.mark.parametrize("error", [CourseError("bad text"), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_an_error_in_the_middle_leaves_nothing(tmp_path, error):
    def failing():
        yield from TEXTS
        raise error

    with pytest.raises(type(error)):
        write_shards(failing(), tmp_path / "corpus", shard_chars=100_000)
    assert list(tmp_path.iterdir()) == []


# The bundled corpus

BUILD = """
import json, os, sys, time
from course_lib.data import dataset
from course_lib.data import python_docs
texts = json.loads(sys.stdin.read())
def documents():
    with open(os.environ["COURSE_HOME"] + "/collected", "a") as log:
        log.write("once\\n")
    return texts
python_docs.documents = documents
write = dataset._write_shard
def slow(*args):
    print("a shard", flush=True)
    time.sleep(float(sys.argv[1]))
    write(*args)
dataset._write_shard = slow
print("ready", flush=True)
print(dataset.bundled_folder())
"""


def build(home: Path, delay: float = 0) -> subprocess.Popen:
    """A process that makes the bundled corpus of TEXTS: it says "a shard" before each, and pauses."""
    home.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(delay)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "COURSE_HOME": str(home)},
        text=True,
    )
    process.stdin.write(json.dumps(TEXTS))
    process.stdin.close()
    assert process.stdout.readline() == "ready\n"
    return process


def finished(process: subprocess.Popen) -> Path:
    *_, folder = process.stdout.read().splitlines()
    process.stdout.close()
    assert process.wait(100) == 0
    return Path(folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, str]:
    return digests(finished(build(tmp_path_factory.mktemp("home"))))


@pytest.mark.slow
def test_a_build_that_is_killed_again_and_again_ends_with_the_same_bytes(tmp_path, undisturbed):
    assert len(undisturbed) > 3
    for shards in range(len(undisturbed) + 1):
        process = build(tmp_path / "home", delay=0.03)
        for _ in range(shards):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.stdout.close()
        process.wait()
        whole = list((tmp_path / "home").glob("datasets/bundled*/[!.]*"))
        assert all(digests(path) == undisturbed for path in whole), "there means complete"
    assert digests(finished(build(tmp_path / "home"))) == undisturbed
    assert len(everything(tmp_path / "home" / "datasets")) == 2 + len(undisturbed)


@pytest.mark.slow
def test_processes_that_want_it_at_once_make_it_once(tmp_path, undisturbed):
    processes = [build(tmp_path / "home", delay=0.05) for _ in range(3)]
    folders = {finished(process) for process in processes}
    assert len(folders) == 1 and digests(folders.pop()) == undisturbed
    assert (tmp_path / "home" / "collected").read_text() == "once\n"


def test_threads_that_want_it_at_once_make_it_once(home, monkeypatch):
    calls, found = [], []
    monkeypatch.setattr(python_docs, "documents", lambda: calls.append(time.sleep(0.1)) or TEXTS)
    threads = [threading.Thread(target=lambda: found.append(open_dataset().folder)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1 and len(calls) == 1


@pytest.mark.slow
def test_the_bundled_corpus_is_the_documentation_split_once(home, tmp_path, monkeypatch):
    dataset = open_dataset()
    texts = python_docs.documents()
    train, val = list(dataset.documents("train")), list(dataset.documents("val"))
    assert sorted(train + val) == sorted(texts) and not set(train) & set(val)
    assert 0.02 < len(val) / len(texts) < 0.09 and val == [text for text in train + val if is_held_out(text)]
    assert train[:20] != sorted(train[:20]) and len(dataset.shards("train")) > 1
    assert dataset.shards("val") == [sorted(path.name for path in dataset.folder.iterdir())[-1]]
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "other"))
    monkeypatch.setattr(python_docs, "documents", lambda: texts)
    other = open_dataset("bundled")
    assert digests(other.folder) == digests(dataset.folder) and other.name == dataset.name
    monkeypatch.setattr(python_docs, "documents", lambda: pytest.fail("it was made already"))
    assert both(open_dataset()) == train + val


# Your own text


@pytest.fixture
def own(tmp_path) -> Path:
    """A folder of text of all three kinds."""
    folder = tmp_path / "my text é"
    (folder / "deep er").mkdir(parents=True)
    (folder / "a b.txt").write_text("Plain text é.\n\n" * 10, "utf-8")
    lines = [json.dumps({"text": f"line {number} 🙂"}) for number in range(100)]
    (folder / "deep er" / "ü.jsonl").write_text("\n".join(lines), "utf-8")
    pq.write_table(pa.table({"text": ["row 1", None, "row 2", " "]}), folder / "z.parquet")
    return folder


def test_own_text_of_all_kinds_is_one_dataset(own, home):
    dataset = open_dataset(str(own))
    expected = ["Plain text é.\n\n" * 10, *(f"line {number} 🙂" for number in range(100)), "row 1", "row 2"]
    assert sorted(both(dataset)) == sorted(expected)
    assert list(dataset.documents("train")) == [text for text in expected if not is_held_out(text)]
    assert list(dataset.documents("val")) == [text for text in expected if is_held_out(text)]
    assert dataset.name == str(dataset.folder.relative_to(home / "datasets")) and "my text é" in dataset.name
    assert sorted(both(open_dataset(str(own / "deep er" / "ü.jsonl")))) == sorted(expected[1:101])


def test_own_text_is_made_once_and_anew_when_a_file_changes(own, home, monkeypatch):
    first = open_dataset(str(own))
    monkeypatch.setattr(module, "write_shards", lambda *_: pytest.fail("nothing changed"))
    assert open_dataset(str(own)).folder == open_dataset(f"{own}/deep er/..").folder == first.folder
    monkeypatch.chdir(own.parent)
    assert open_dataset(own.name).folder == open_dataset(f"./{own.name}/").folder == first.folder
    monkeypatch.undo()
    monkeypatch.setenv("COURSE_HOME", str(home))
    changes = [
        lambda: (own / "a b.txt").write_text("Plain text ee.\n\n" * 10),  # as long as before
        lambda: (own / "new.txt").write_text("An added file."),
        lambda: (own / "new.txt").rename(own / "0.txt"),  # read in another order
        lambda: (own / "0.txt").unlink(),
    ]
    folder = first.folder
    for change in changes:
        del first  # nobody reads the old shards any more
        (folder.parent / ".DS_Store").write_text("of a file manager")
        (folder.parent / ".killed.part").mkdir()
        change()
        first = open_dataset(str(own))
        assert first.folder != folder and not folder.exists(), "the old shards are gone"
        assert [path.name for path in first.folder.parent.glob("[!.]*")] == [first.folder.name]
        assert not (folder.parent / ".killed.part").exists()
        folder = first.folder
    assert any("Plain text ee." in text for text in both(first))


def test_shards_that_a_program_reads_stay_when_the_text_changes(own, home, tmp_path):
    reads = "from course_lib.data.dataset import open_dataset as o; import sys; d = o(sys.argv[1]); print(d.folder)"
    command = [sys.executable, "-c", f"{reads}; sys.stdout.flush(); sys.stdin.read()", str(own)]
    open_dataset(str(own))  # says what it has read
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    old = Path(process.stdout.readline().strip())
    (own / "new.txt").write_text("An added file.")
    first = open_dataset(str(own))
    assert old.exists() and first.folder != old
    process.communicate()
    assert process.returncode == 0 and open_dataset(str(own)).folder == first.folder and not old.exists()


def test_text_is_known_by_its_content_wherever_it_lies(own, home, tmp_path, monkeypatch):
    first = open_dataset(str(own))
    os.utime(own / "a b.txt", (1, 1))
    assert open_dataset(str(own)).folder == first.folder
    shutil.copytree(own, tmp_path / "copy")
    (tmp_path / "copy" / "a b.txt").rename(tmp_path / "copy" / "a c.txt")
    (tmp_path / "copy" / "notes.bin").write_text("no text")
    copy = open_dataset(str(tmp_path / "copy"))
    assert copy.fingerprint == first.fingerprint and copy.folder != first.folder
    (tmp_path / "copy" / "a c.txt").rename(tmp_path / "copy" / "a c.jsonl")  # the same bytes, read otherwise
    (tmp_path / "copy" / "a c.jsonl").with_name("zz.txt").write_text("more")
    with pytest.raises(CourseError, match="line 1"):
        open_dataset(str(tmp_path / "copy"))


@pytest.mark.parametrize("name", ["fineweb-edu", "../elsewhere", "own-a-01234567/../../elsewhere", "{home}/elsewhere"])
def test_only_shards_that_were_made_here_are_offered_as_those_of_before(home, name):
    for folder in ("elsewhere", "datasets/fineweb-edu", "datasets/own-a-01234567/89abcdef"):
        (home / folder).mkdir(parents=True)
        (home / folder / "shard_00000.parquet").touch()
    assert identity.shards_of_before(name.format(home=home)) is None
    assert identity.shards_of_before("own-a-01234567/89abcdef")


def test_a_large_file_is_read_once_for_its_hash_and_again_when_it_may_have_changed(home, tmp_path, monkeypatch):
    path, read = tmp_path / "large.txt", []
    path.write_text("A line of text.\n\n" * 9_000)
    monkeypatch.setattr(identity, "sha256_of", lambda file: read.append(file) or sha256_of(file))
    first = identity.fingerprint_of([path])
    assert identity.fingerprint_of([path]) == first and len(read) == 2, "too young to trust its time"
    os.utime(path, (1, 1))
    for _ in range(3):
        assert identity.fingerprint_of([path]) == first and len(read) == 3
    stat = path.stat()
    path.write_text("A line of test.\n\n" * 9_000)  # as long, and as old
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert identity.fingerprint_of([path]) != first
    for damage in ("{", "[1]", "null", "", '{"a": 5}', json.dumps({str(path): [1]}), json.dumps({str(path): []})):
        (home / "datasets" / "hashes.json").write_text(damage)
        assert identity.fingerprint_of([path]).startswith("153000-")


def test_threads_that_want_own_text_at_once_make_it_once(own, home, monkeypatch):
    calls, found, write = [], [], module.write_shards

    def slow(*args, **options):
        calls.append(time.sleep(0.1))
        write(*args, **options)

    monkeypatch.setattr(module, "write_shards", slow)
    threads = [threading.Thread(target=lambda: found.append(open_dataset(str(own)).folder)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and len(set(found)) == 1 and len(calls) == 1


def test_paths_of_every_kind_are_found(own, home, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "blob").write_text("linked text\n\n" * 3000)
    (tmp_path / "link.txt").symlink_to("blob")  # as the hub's cache has it
    (tmp_path / "folder").symlink_to(own)
    long = tmp_path / ("ü" * 100 + "n" * 40 + ".txt")
    long.write_text("long name\n\n" * 3000)
    assert "linked text" in both(open_dataset(str(tmp_path / "link.txt")))[0]
    assert sorted(both(open_dataset("~/folder"))) == sorted(both(open_dataset(str(own))))
    assert "long name" in both(open_dataset(str(long)))[0]


def test_two_folders_of_the_same_name_do_not_share_shards(tmp_path, home):
    for name in ("one", "two"):
        (tmp_path / name / "text").mkdir(parents=True)
        for number in range(2):
            (tmp_path / name / "text" / f"{number}.txt").write_text(f"{name} {number}")
    found = [sorted(both(open_dataset(str(tmp_path / name / "text")))) for name in ("one", "two", "one")]
    assert found == [["one 0", "one 1"], ["two 0", "two 1"], ["one 0", "one 1"]]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.txt", b"", "is too little"),
        ("a.txt", b" \n\n\t", "is too little"),
        ("a.txt", b"one document", "is too little"),
        ("a.txt", b"\xff\xfe\xd8", "not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\nno json', "line 2"),
        ("a.parquet", b"PAR1", "no complete parquet file"),
        ("a.doc", b"text", "has no text"),
    ],
)
def test_text_that_cannot_be_used_is_named_and_leaves_nothing(own, home, name, data, said):
    (own.parent / "bad").mkdir()
    path = own.parent / "bad" / name
    path.write_bytes(data)
    for _ in range(2):
        with pytest.raises(CourseError, match=said) as caught:
            open_dataset(str(path))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        assert not [found for found in everything(home) if "parquet" in found or "part" in found]
    for other in range(2):
        (path.parent / f"fine{other}.txt").write_text(f"fine {other}")
    if "too little" not in said and "has no" not in said:
        with pytest.raises(CourseError, match=said) as caught:
            open_dataset(str(path.parent))
        assert str(path) in str(caught.value)
        path.unlink()
    assert {"fine 0", "fine 1"} <= set(both(open_dataset(str(path.parent))))


def test_a_file_that_may_not_be_read_is_named(own, home, monkeypatch):
    def refused(path, *args):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(text_file, "open", refused, raising=False)  # a chmod would not stop root
    with pytest.raises(CourseError, match=r"cannot read .*a b\.txt .*Permission denied"):
        open_dataset(str(own))
    assert not [found for found in everything(home) if "parquet" in found]


@pytest.mark.parametrize("name", ["", "bundle", "/no/such/folder", "shakespeare", "fineweb"])
def test_a_dataset_that_there_is_not(home, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CourseError) as caught:
        open_dataset(name)
    assert "bundled, fineweb-edu, climbmix" in str(caught.value) or "has no text" in str(caught.value)


@pytest.mark.slow
def test_ten_thousand_small_files_are_one_shard(tmp_path, home):
    (tmp_path / "many").mkdir()
    for number in range(10_000):
        (tmp_path / "many" / f"{number:05d}.txt").write_text(f"text {number}")
    started = time.process_time()
    dataset = open_dataset(str(tmp_path / "many"))
    assert time.process_time() - started < 10 and len(dataset.shards("train")) == 1
    assert dataset.num_rows("train") + dataset.num_rows("val") == 10_000


# A disk that fills up


@pytest.fixture
def small_disk(tmp_path, monkeypatch) -> Path:
    """COURSE_HOME on a disk of 600 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if not shutil.which("mount") or sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs Linux and root")
    monkeypatch.setenv("COURSE_HOME", str(folder / "home"))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_nothing_and_room_mends_it(small_disk, own, monkeypatch):
    noise = [random.Random(number).randbytes(6_000).hex() for number in range(100)]
    monkeypatch.setattr(python_docs, "documents", lambda: noise)
    (own / "noise.txt").write_text("\n\n".join(noise))
    for name in ("bundled", str(own)):
        with pytest.raises(CourseError, match="cannot write .*No space left.*free some space"):
            open_dataset(name)
        assert not [path for path in everything(small_disk) if "shard" in path or "part" in path]
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert sorted(both(open_dataset("bundled"))) == sorted(noise)
    assert len(both(open_dataset(str(own)))) > 100


@pytest.mark.slow
def test_a_file_that_cannot_grow_leaves_nothing(tmp_path):
    code = f"""
import pathlib, random, resource, signal
from course_lib.data.dataset import write_shards
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
write_shards([random.Random(n).randbytes(5000).hex() for n in range(50)], pathlib.Path({str(tmp_path)!r}, "corpus"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "CourseError: cannot write" in done.stderr and list(tmp_path.iterdir()) == []


# Datasets and remote corpora


def test_a_dataset_needs_two_shards_and_has_two_splits(tmp_path):
    for shards in ([], ["shard_00000.parquet"]):
        with pytest.raises(CourseError, match=f"has {len(shards)} shards, expected two or more"):
            Dataset("few", tmp_path, shards)
    dataset = Dataset("some", tmp_path, ["a", "b", "c"])
    assert dataset.shards("train") == ["a", "b"] and dataset.shards("val") == ["c"]
    assert dataset.path("val", 0) == tmp_path / "c" and dataset.path("train", 1) == tmp_path / "b"
    for call in (dataset.shards, dataset.num_rows, lambda split: next(dataset.documents(split))):
        with pytest.raises(CourseError, match="no split 'test'; expected train or val"):
            call("test")


def test_num_rows_counts_what_is_there(tmp_path):
    parts = {"a": ["x", None], "b": [], "c": ["y"] * 5000}
    for name, texts in parts.items():
        pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), tmp_path / name)
    dataset = Dataset("some", tmp_path, list(parts))
    assert dataset.num_rows("train") == 2 and dataset.num_rows("val") == 5000
    assert list(dataset.documents("train")) == ["x"]


def test_remote_corpora_name_their_shards():
    assert REMOTES["fineweb-edu"].shard(0) == "shard_00000.parquet"
    assert REMOTES["fineweb-edu"].shard(-1) == REMOTES["fineweb-edu"].shard(1822) == "shard_01822.parquet"
    assert REMOTES["climbmix"].shard(-1) == "shard_06542.parquet"
    for number in (1823, -1824):
        with pytest.raises(CourseError, match=f"no shard {number}; they go from 0 to 1822"):
            REMOTES["fineweb-edu"].shard(number)


def test_a_remote_corpus_needs_its_validation_shard_on_disk(home):
    folder = home / "datasets" / "climbmix"
    folder.mkdir(parents=True)
    for names in ([], ["shard_00000.parquet", "shard_00001.parquet"], ["shard_06542.parquet"]):
        for name in names:
            (folder / name).touch()
        if len(list(folder.iterdir())) < 3:
            with pytest.raises(CourseError, match="get_data --dataset climbmix --shards 8"):
                open_dataset("climbmix")
    (folder / ".shard_00003.parquet.0123.part").touch()
    dataset = open_dataset("climbmix")
    assert dataset.shards("train") == ["shard_00000.parquet", "shard_00001.parquet"]
    assert dataset.shards("val") == ["shard_06542.parquet"] and dataset.name == "climbmix"


def test_a_streamed_corpus_has_all_shards_and_fetches_none_yet(home):
    dataset = open_dataset("fineweb-edu", streaming=True, max_cached_shards=3)
    assert len(dataset.shards("train")) == 1822 and dataset.shards("val") == ["shard_01822.parquet"]
    assert not (home / "datasets").exists()
    for few in (2, 1, 0, -1):
        with pytest.raises(CourseError, match=f"max_cached_shards={few}, expected 3 or more"):
            open_dataset("fineweb-edu", streaming=True, max_cached_shards=few)


# Streaming, from a remote that is a folder on this machine


class SlowRemote:
    """Copies shards after a pause; notes what was fetched and how many shards lay in the folder after each."""

    repo = "somebody/slow"

    def __init__(self, source: Path, num_shards: int, pause: float = 0.02):
        self.source, self.num_shards, self.pause = source, num_shards, pause
        self.fetched, self.most, self.failures = [], 0, {}
        for number in range(num_shards):
            texts = [f"shard {number} document {row}" for row in range(20)]
            pq.write_table(pa.table({"text": texts}), source / self.shard(number), row_group_size=7)

    def shard(self, number: int) -> str:
        return f"shard_{number % self.num_shards:05d}.parquet"

    def fetch(self, name: str, folder: Path, stopped=lambda: False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / name).exists():
            return
        end = time.monotonic() + self.pause
        while time.monotonic() < end:
            if stopped():
                raise Stopped
            time.sleep(0.002)
        if self.failures.get(name, 0) > 0:
            self.failures[name] -= 1
            raise CourseError(f"could not fetch {name}; run it again later")
        shutil.copy(self.source / name, folder / f".{name}.part")
        os.replace(folder / f".{name}.part", folder / name)
        self.fetched.append(name)
        self.most = max(self.most, len(list(folder.glob("*.parquet"))))

    def dataset(self, folder: Path, max_cached: int = 3) -> Dataset:
        every = [self.shard(number) for number in range(self.num_shards)]
        return Dataset("slow", folder, every, ShardCache(self, folder / "streamed", max_cached))


@pytest.fixture
def remote(tmp_path) -> SlowRemote:
    (tmp_path / "source").mkdir()
    return SlowRemote(tmp_path / "source", 8)


def texts_of(*shards: int) -> list[str]:
    return [f"shard {number} document {row}" for number in shards for row in range(20)]


@pytest.mark.parametrize("max_cached", [3, 4, 6])
def test_streaming_gives_every_document_in_order_and_keeps_few_shards(remote, tmp_path, max_cached):
    dataset = remote.dataset(tmp_path / "home", max_cached)
    for _ in range(2):
        assert list(dataset.documents("train")) == texts_of(*range(7))
        assert list(dataset.documents("val")) == texts_of(7)
    assert remote.most == max_cached
    assert remote.fetched.count(remote.shard(7)) == 1, "validation stays"
    assert len(remote.fetched) <= 2 * 8 + 1


def test_the_next_shard_arrives_while_one_is_read(remote, tmp_path):
    dataset, streamed = remote.dataset(tmp_path / "home"), tmp_path / "home" / "streamed"
    reading = dataset.documents("train")
    next(reading)
    wait_for((streamed / remote.shard(1)).exists)
    wait_for(lambda: all(future.done() for future in dataset._cache._fetching.values()))
    assert remote.fetched == [remote.shard(0), remote.shard(1)], "and no further one"
    assert list(reading) == texts_of(*range(7))[1:]
    wait_for(lambda: remote.fetched[-2:] == [remote.shard(6), remote.shard(0)])  # for the next epoch


def test_shards_that_get_data_has_fetched_are_used_and_left_alone(remote, tmp_path):
    (tmp_path / "home").mkdir()
    shutil.copy(remote.source / remote.shard(2), tmp_path / "home")
    assert list(remote.dataset(tmp_path / "home").documents("train")) == texts_of(*range(7))
    assert (tmp_path / "home" / remote.shard(2)).exists() and remote.shard(2) not in remote.fetched


def test_a_prefetch_that_failed_is_tried_again_when_it_is_needed(remote, tmp_path):
    remote.failures, remote.pause = {remote.shard(1): 1, remote.shard(4): 1}, 0
    dataset, found = remote.dataset(tmp_path / "home"), []
    for text in dataset.documents("train"):
        found.append(text)
        if text.endswith("document 9"):
            wait_for(lambda: all(future.done() for future in dataset._cache._fetching.values()))
    assert found == texts_of(*range(7)) and set(remote.failures.values()) == {0}


def test_a_shard_that_cannot_be_had_is_an_error_and_can_be_asked_for_again(remote, tmp_path):
    remote.failures = {remote.shard(0): 2}
    dataset = remote.dataset(tmp_path / "home")
    for _ in range(2):
        with pytest.raises(CourseError, match="could not fetch shard_00000"):
            dataset.path("train", 0)
    assert dataset.path("train", 0).exists()


def test_a_shard_that_another_program_has_brought_meanwhile_is_taken(remote, tmp_path):
    remote.failures = {remote.shard(0): 1}
    dataset = remote.dataset(tmp_path / "home")
    with pytest.raises(CourseError):
        dataset.path("train", 0)
    shutil.copy(remote.source / remote.shard(0), tmp_path / "home" / "streamed")
    assert dataset.path("train", 0).exists()


def test_waiting_for_a_shard_can_be_stopped(remote, tmp_path):
    arrives, asked = threading.Event(), []
    remote.fetch = lambda name, folder, stopped: arrives.wait(100)
    with pytest.raises(Stopped):
        remote.dataset(tmp_path / "home").path("train", 0, lambda: asked.append(1) or len(asked) == 3)
    arrives.set()


def test_a_jump_to_other_shards_keeps_no_more_than_asked(remote, tmp_path):
    dataset, chance = remote.dataset(tmp_path / "home"), random.Random(0)
    for _ in range(25):
        if chance.random() < 0.2:
            assert dataset.path("val", 0).exists()
        else:
            assert dataset.path("train", chance.randrange(7)).exists()
    wait_for(lambda: all(future.done() for future in dataset._cache._fetching.values()))
    assert remote.most <= 3


def test_shards_of_an_earlier_run_with_more_room_are_cleared(remote, tmp_path):
    shutil.copytree(remote.source, tmp_path / "home" / "streamed")
    dataset = remote.dataset(tmp_path / "home")
    dataset.path("train", 3)
    assert {path.name for path in (tmp_path / "home" / "streamed").glob("*.parquet")} == {
        remote.shard(number) for number in (3, 4, 7)
    }
    assert remote.fetched == []


def test_a_shard_that_another_program_reads_is_left_to_it(remote, tmp_path):
    one, other = (remote.dataset(tmp_path / "home") for _ in range(2))
    reading = one.path("train", 3)
    assert list(other.documents("train")) == texts_of(*range(7)) and reading.exists()


def test_the_shard_fetched_longest_ago_goes_first(remote, tmp_path):
    dataset, streamed = remote.dataset(tmp_path / "home", max_cached=5), tmp_path / "home" / "streamed"
    for age, number in enumerate((5, 2, 6)):
        streamed.mkdir(parents=True, exist_ok=True)
        shutil.copy(remote.source / remote.shard(number), streamed)
        os.utime(streamed / remote.shard(number), (1000 - age, 1000 - age))
    dataset.path("train", 0)
    assert (streamed / remote.shard(5)).exists() and not (streamed / remote.shard(6)).exists()


@pytest.mark.slow
def test_a_program_ends_without_waiting_for_a_shard_that_nobody_reads(tmp_path):
    code = f"""
import sys, threading
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_dataset import SlowRemote
source = Path({str(tmp_path)!r}, "source")
source.mkdir()
remote = SlowRemote(source, 4)
dataset = remote.dataset(source.parent / "home")
fetch, begun = remote.fetch, threading.Event()
def slow_from_the_second_on(name, folder, stopped):
    if name != remote.shard(0):
        remote.pause = 1000
        begun.set()
    fetch(name, folder, stopped)
remote.fetch = slow_from_the_second_on
dataset.path("train", 0)
begun.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")


# How many tokens


def test_the_tokens_of_a_text_are_estimated_from_its_beginning_and_a_stream_has_no_end(tmp_path):
    tokenizer = Tokenizer.train(TEXTS, 400, allow_smaller=True)
    write_shards(TEXTS, tmp_path / "own")
    dataset = Dataset("own", tmp_path / "own", sorted(path.name for path in (tmp_path / "own").iterdir()))
    for split, estimate in zip(("train", "val"), corpus_tokens(dataset, tokenizer), strict=True):
        assert estimate == pytest.approx(sum(map(len, tokenizer.encode_batch(list(dataset.documents(split))))), rel=0.1)
    dataset.streamed = True
    assert corpus_tokens(dataset, tokenizer) == (math.inf, math.inf)


def test_a_validation_shard_without_text_is_said(tmp_path):
    for name, texts in (("shard_00000.parquet", ["a b"]), ("shard_00001.parquet", [])):
        pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), tmp_path / name)
    dataset = Dataset("own", tmp_path, ["shard_00000.parquet", "shard_00001.parquet"])
    with pytest.raises(CourseError, match="the validation shard in .* has no text; fetch or make"):
        corpus_tokens(dataset, Tokenizer.train(["a b"], 265))
