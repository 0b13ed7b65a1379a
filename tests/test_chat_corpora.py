"""Corpora for chat: fetched once, when asked for; damaged, missing and unreachable ones in one sentence."""

import io

import huggingface_hub.constants as hub_constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub import Hub

from course_lib.chat.corpora import CHAT_CORPORA, Rows, rows
from course_lib.host import download
from course_lib.host.errors import CourseError

GSM8K = [{"question": f"What is {n} + 1?", "answer": f"<<{n}+1={n + 1}>>{n + 1}\n#### {n + 1}"} for n in range(50)]
ARC = [{"id": "x", "question": "?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"}] * 3
TALK = [{"messages": [{"role": "user", "content": f"hi {n}"}, {"role": "assistant", "content": "yes"}]} for n in (1, 2)]
TRAIN, TEST = "main/train-00000-of-00001.parquet", "main/test-00000-of-00001.parquet"


def parquet(records):
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), buffer, compression="none", use_dictionary=False)
    return buffer.getvalue()


FILES = {
    TRAIN: parquet(GSM8K),
    TEST: parquet(GSM8K[:7]),
    "ARC-Easy/validation-00000-of-00001.parquet": parquet(ARC),
    "data/train-00000-of-00004.parquet": parquet(TALK),
    "data/train-00001-of-00004.parquet": parquet(TALK[:1]),
    "all/test-00000-of-00001.parquet": parquet(GSM8K),  # not MMLU's columns
}


@pytest.fixture
def hub(monkeypatch, home):
    with Hub(FILES) as hub:
        monkeypatch.setattr(hub_constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(download, "WAITS", (0.01,) * 5)
        yield hub


def kept(home, corpus="gsm8k"):
    return sorted(path.name for path in (home / "datasets" / corpus).glob("*") if not path.name.startswith("."))


def test_a_split_arrives_when_it_is_asked_for_and_is_fetched_once(hub, home, capsys):
    found = rows("gsm8k", "test")
    assert isinstance(found, Rows) and len(found) == 7
    assert list(found) == GSM8K[:7] and found[3] == GSM8K[3] and found[-1] == GSM8K[6]
    with pytest.raises(IndexError):
        found[7]
    assert "fetching main/test-00000-of-00001.parquet of openai/gsm8k, once" in capsys.readouterr().out
    rows("gsm8k", "test")
    assert hub.asked == [(TEST, 0)] and capsys.readouterr().out == ""
    assert kept(home) == ["main-test-00000-of-00001.parquet"]
    assert list(rows("gsm8k", "train")) == GSM8K


def test_nested_columns_and_several_files(hub):
    assert rows("arc-easy", "validation")[2] == {k: v for k, v in ARC[2].items() if k != "id"}
    assert list(rows("smoltalk", "train", max_files=2)) == TALK + TALK[:1]
    assert list(rows("smoltalk", "train", max_files=1)) == TALK
    assert len(hub.asked) == 3, "each file once"


@pytest.mark.parametrize("fault", [503, ("drop", 1000), ("short", 2000), "corrupt"])
def test_a_fault_that_passes_costs_another_attempt(hub, fault):
    hub.faults[TRAIN] = [fault]
    assert list(rows("gsm8k", "train")) == GSM8K


def test_a_file_that_stays_damaged_is_not_kept(hub, home):
    hub.faults[TRAIN] = ["corrupt"] * 20
    with pytest.raises(CourseError, match="its checksum is not the one that was announced") as caught:
        rows("gsm8k", "train")
    assert "\n" not in str(caught.value) and kept(home) == []


@pytest.mark.parametrize("where", ["footer", "body", "empty"])
def test_a_file_that_was_damaged_on_disk_is_fetched_again(hub, home, where, capsys):
    rows("gsm8k", "train")
    path = home / "datasets" / "gsm8k" / "main-train-00000-of-00001.parquet"
    body = path.read_bytes()
    path.write_bytes({"footer": body[:-9], "body": body[:4] + b"\xff" * 200 + body[204:], "empty": b""}[where])
    assert list(rows("gsm8k", "train")) == GSM8K
    assert "fetching it again" in capsys.readouterr().out and path.read_bytes() == body


def test_what_the_hub_does_not_have_and_what_is_something_else(hub):
    with pytest.raises(CourseError, match="could not fetch ARC-Challenge/test.*404"):
        rows("arc-challenge", "test")
    with pytest.raises(CourseError, match="has no column subject, choices, expected question, subject, choices"):
        rows("mmlu", "test")


def test_offline_says_so_and_what_is_there_can_be_read(hub, monkeypatch):
    rows("gsm8k", "test")
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    assert len(rows("gsm8k", "test")) == 7
    with pytest.raises(CourseError, match="could not fetch main/train"):
        rows("gsm8k", "train")


def test_no_connection_ends_with_one_sentence(hub, monkeypatch):
    hub.__exit__()
    monkeypatch.setattr(hub, "__exit__", lambda *error: None, raising=False)
    with pytest.raises(CourseError, match="could not fetch main/test.*no connection") as caught:
        rows("gsm8k", "test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("alpaca", "train"), "no corpus is called 'alpaca', expected one of smoltalk, gsm8k, mmlu"),
        (("gsm8k", "validation"), "gsm8k has no split 'validation', expected one of train, test"),
        (("gsm8k", "train", 0), "max_files=0, expected 1 or more"),
    ],
)
def test_what_there_is_not(home, arguments, said):
    with pytest.raises(CourseError, match=said):
        rows(*arguments)


def test_every_corpus_has_a_side_to_learn_from_and_another_to_be_tested_on():
    for name, corpus in CHAT_CORPORA.items():
        assert {"train", "test"} <= corpus.files.keys(), name
        files = [file for split in corpus.files.values() for file in split]
        assert len(files) == len(set(files)), f"{name}: no file in two splits"
