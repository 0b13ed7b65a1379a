"""tok_train from the flags to the files: the merges are those of the texts it says, and its numbers are true."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from course_lib.data import tokenizer_files
from course_lib.data.dataset import Dataset, open_dataset
from course_lib.data.tokenizer import Tokenizer, fitting_vocab_size
from course_lib.data.tokenizer_training import capped_texts
from course_lib.host.errors import CourseError
from course_lib.scripts import tok_train

VOCABULARY = [
    "".join(random.Random(n).choices("abcdefghijklmnopqrstuvwxyz", k=random.Random(n).randint(2, 9)))
    for n in range(3000)
]


def prose(seed: int, words: int) -> str:
    chance = random.Random(seed)
    return " ".join(VOCABULARY[int(3000 * chance.random() ** 3)] for _ in range(words))


@pytest.fixture
def corpus(tmp_path, home) -> Path:
    """A file of 300 documents, some of them long."""
    path = tmp_path / "my text.jsonl"
    documents = [prose(seed, 20 if seed % 10 else 700) for seed in range(300)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return path


def run(capsys, *flags: object) -> str:
    tok_train.main(list(map(str, flags)))
    return capsys.readouterr().out


def number(summary: str, pattern: str) -> int:
    return int(re.search(pattern, summary)[1].replace(",", ""))


def test_the_merges_are_those_of_the_capped_texts_and_the_summary_is_true(corpus, home, capsys):
    flags = ["--vocab-size", 700, "--max-chars", 40_000, "--doc-cap", 500, "--dataset", corpus]
    summary = run(capsys, *flags)
    dataset, capped = open_dataset(str(corpus)), []
    for text in dataset.documents("train"):
        capped.append(text[:500])
        if sum(map(len, capped)) >= 40_000:
            break
    assert len(capped) < 280, "max_chars ends it"
    expected = Tokenizer.train(capped, 700)
    trained = Tokenizer.load()
    assert trained.mergeable_ranks == expected.mergeable_ranks and trained.vocab_size == 700
    assert number(summary, r"([\d,]+) documents") == len(capped)
    assert number(summary, r"([\d,]+) characters") == sum(map(len, capped))
    assert number(summary, r"([\d,]+) tokens: 256 bytes") == 700
    assert number(summary, r"256 bytes, ([\d,]+) merges, 9 special") == 700 - 265
    held_out = list(dataset.documents("val"))
    ratio = sum(len(text.encode()) for text in held_out) / sum(len(trained.encode(text)) for text in held_out)
    assert f"bytes per token   {ratio:.2f} on validation text" in summary
    assert f"saved in          {home / 'tokenizer'}" in summary and dataset.name in summary
    assert "fewer than" not in summary


def test_flags_with_underscores_and_another_folder(corpus, home, tmp_path, capsys):
    folder = tmp_path / "other" / "folder"
    run(capsys, "--vocab_size", 300, "--max_chars", 9000, "--doc_cap", 100, "--dataset", corpus, "--folder", folder)
    assert Tokenizer.load(folder).vocab_size == 300 and not (home / "tokenizer").exists()


def test_by_default_the_vocabulary_fits_the_text(corpus, capsys):
    for flags in ([], ["--max-chars", 30_000], ["--doc-cap", 5]):
        options = {"max_chars": 2_000_000_000, "doc_cap": 10_000}
        if flags:
            options[flags[0].strip("-").replace("-", "_")] = flags[1]
        used = sum(map(len, capped_texts(open_dataset(str(corpus)), **options)))
        run(capsys, "--dataset", corpus, *flags)
        assert Tokenizer.load().vocab_size == fitting_vocab_size(used)


def test_a_vocabulary_that_the_text_does_not_yield_is_said_and_the_smaller_one_saved(tmp_path, home, capsys):
    (tmp_path / "a.jsonl").write_text('{"text": "abab abab"}\n{"text": "abab"}\n{"text": "ab ab"}\n')
    summary = run(capsys, "--vocab-size", 5000, "--dataset", tmp_path)
    found = Tokenizer.load().vocab_size
    assert 265 < found < 275 and f"the text has pairs for {found} tokens only, fewer than 5,000" in summary


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--vocab-size", 264], "--vocab-size is 264, expected 265 or more"),
        (["--vocab-size", 0], "--vocab-size is 0"),
        (["--max-chars", 0], "--max-chars is 0, expected 1 or more"),
        (["--doc-cap", -1], "--doc-cap is -1"),
    ],
)
def test_flags_out_of_range_end_with_code_2_and_leave_the_old_tokenizer(corpus, home, capsys, flags, said):
    run(capsys, "--vocab-size", 280, "--dataset", corpus)
    before = {path.name: path.read_bytes() for path in (home / "tokenizer").iterdir()}
    with pytest.raises(SystemExit) as caught:
        run(capsys, *flags, "--dataset", corpus)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"tok_train: {said}") and error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in (home / "tokenizer").iterdir()} == before


@pytest.mark.parametrize("flags", [["--vocab-size", "many"], ["--nonsense", "1"], ["bundled"]], ids=str)
def test_flags_that_there_are_not_end_with_code_2(home, capsys, flags):
    with pytest.raises(SystemExit) as caught:
        run(capsys, *flags)
    assert caught.value.code == 2 and not (home / "tokenizer").exists()


def test_least_vocabulary_is_bytes_and_special_tokens(corpus, capsys):
    summary = run(capsys, "--vocab-size", 265, "--dataset", corpus)
    assert Tokenizer.load().vocab_size == 265 and "0 merges" in summary and "bytes per token   1.00" in summary


@pytest.mark.parametrize("name", ["missing", "empty.txt", "bad.txt"])
def test_a_dataset_that_cannot_be_used_ends_with_code_1_and_one_sentence(tmp_path, home, capsys, name):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    with pytest.raises(SystemExit) as caught:
        run(capsys, "--dataset", tmp_path / name)
    error = capsys.readouterr().err
    assert caught.value.code == 1 and error.count("\n") == 1 and error.startswith("tok_train: ") and name[:4] in error


def test_a_damaged_shard_ends_with_code_1_and_its_name(corpus, capsys):
    shard = open_dataset(str(corpus)).folder / "shard_00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(SystemExit) as caught:
        run(capsys, "--dataset", corpus)
    assert caught.value.code == 1 and str(shard) in capsys.readouterr().err


def test_a_validation_shard_without_documents_is_no_error(home, capsys):
    folder = home / "datasets" / "climbmix"
    folder.mkdir(parents=True)
    for name, documents in (("shard_00000", [prose(1, 200)] * 3), ("shard_06542", [])):
        pq.write_table(pa.table({"text": pa.array(documents, pa.string())}), folder / f"{name}.parquet")
    assert "unknown on validation text" in run(capsys, "--dataset", "climbmix", "--vocab-size", 300)


@pytest.mark.parametrize("error", [KeyboardInterrupt, CourseError("bad")])
def test_interrupted_the_old_tokenizer_stays(corpus, home, capsys, monkeypatch, error):
    run(capsys, "--vocab-size", 280, "--dataset", corpus)
    before = {path.name: path.read_bytes() for path in (home / "tokenizer").iterdir()}

    def fail(*args, **options):
        raise error

    for owner, name in ((Tokenizer, "train"), (tokenizer_files, "_rank_lines")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            with pytest.raises(SystemExit) as caught:
                run(capsys, "--vocab-size", 290, "--dataset", corpus)
        assert caught.value.code == (130 if error is KeyboardInterrupt else 1)
        assert {path.name: path.read_bytes() for path in (home / "tokenizer").iterdir()} == before


class InATerminal:
    """tok_train with a terminal as its stderr, where it draws bars."""

    def __init__(self, *flags):
        self.terminal, theirs = pytest.importorskip("pty").openpty()
        command = [sys.executable, "-m", "course_lib.scripts.tok_train", *map(str, flags)]
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True)
        os.close(theirs)

    def read(self, until=None):
        """What it draws up to the pattern `until`, or to its end, without the codes that steer the terminal."""
        raw = b""
        while until is None or not re.search(until, self.plain(raw)):
            try:
                more = os.read(self.terminal, 65536)
            except OSError:  # Linux says so when the program has ended
                more = b""
            if not more:
                break
            raw += more
        return self.plain(raw)

    @staticmethod
    def plain(raw):
        return re.sub(r"\x1b\[[0-9;?]*\w", "", raw.decode(errors="replace"))

    def end(self):
        """(exit code, stdout)."""
        os.close(self.terminal)
        out = self.process.communicate(timeout=100)[0]
        return self.process.returncode, out


@pytest.mark.slow
def test_ctrl_c_in_the_middle_of_reading_ends_it(home):
    folder = home / "datasets" / "climbmix"
    folder.mkdir(parents=True)
    for name in ("shard_00000", "shard_06542"):
        pq.write_table(pa.table({"text": [prose(1, 300)] * 60_000}), folder / f"{name}.parquet")
    program = InATerminal("--vocab-size=1000", "--dataset=climbmix")
    assert re.search(r"reading[^%]*?[1-9]\d?%", program.read(until=r"reading[^%]*?[1-9]\d?%"))
    program.process.send_signal(signal.SIGINT)
    rest = program.read()
    assert "merging 100%" not in rest and "tok_train: interrupted" in rest and "Traceback" not in rest
    assert program.end() == (130, "reading climbmix for a tokenizer …\n") and not (home / "tokenizer").exists()


# The texts


def test_texts_stop_at_the_cap_and_at_the_sum(tmp_path):
    for name, documents in (("a", ["12345", "123456789", ""]), ("b", ["12345"] * 4), ("c", ["v"])):
        pq.write_table(pa.table({"text": documents}), tmp_path / name)
    dataset = Dataset("few", tmp_path, ["a", "b", "c"])
    assert list(capped_texts(dataset, 5, 10**9)) == ["12345", "12345", "", *["12345"] * 4]
    assert list(capped_texts(dataset, 5, 9)) == ["12345", "12345"]
    assert list(capped_texts(dataset, 5, 10)) == ["12345", "12345", "", "12345"]
    assert list(capped_texts(dataset, 5, 11)) == ["12345", "12345", "", "12345"]
    assert list(capped_texts(dataset, 7, 11)) == ["12345", "1234567"]
    assert list(capped_texts(dataset, 5, 1)) == ["12345"]


@pytest.mark.slow
def test_in_a_terminal_bars_are_drawn_and_end_full(corpus):
    program = InATerminal("--vocab-size", 400, "--dataset", corpus)
    drawn = re.findall(r"(reading|merging)[^%]*?(\d+)%", program.read())
    code, summary = program.end()
    assert code == 0 and "%" not in summary
    assert dict(drawn) == {"reading": "100", "merging": "100"}
