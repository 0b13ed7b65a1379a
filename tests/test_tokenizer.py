"""The tokenizer learns the merges that the definition of BPE gives, loses no text, survives bad input and crashes."""

import base64
import json
import os
import pickle
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from pydoc_data.topics import topics

import mlx.core as mx
import naive_bpe
import pytest
import regex
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st

from course_lib.classroom.exercises import tokenizer as exercises
from course_lib.data import tokenizer as module
from course_lib.data import tokenizer_input
from course_lib.data.tokenizer import (
    SPECIAL_TOKENS,
    StreamDecoder,
    Tokenizer,
    default_folder,
    fitting_vocab_size,
    safe_parts,
)
from course_lib.host.errors import CourseError
from course_lib.names.bigram import load_names
from course_lib.scripts import tok_eval

# Of nanochat (October 2025), written out here once more
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)
SPECIALS = [
    "<|bos|>",
    *("<|user_start|>", "<|user_end|>", "<|assistant_start|>", "<|assistant_end|>"),
    *("<|python_start|>", "<|python_end|>", "<|output_start|>", "<|output_end|>"),
]


def unicode_texts() -> list[str]:
    """Random texts from a few scripts, with many pairs that are equally common."""
    generator = random.Random(11)
    alphabet = "abцд한글αβé🙂🇰 \n\t\u00a0'12٣_."
    return ["".join(generator.choices(alphabet, k=generator.randint(1, 60))) for _ in range(200)]


DOCS = [f"{name}\n\n{text.strip()}\n" for name, text in sorted(topics.items())[:40]]  # real prose, had at once
TOKENIZER = Tokenizer.train(DOCS[:10], 700 + 9)
any_ids = st.lists(st.integers(0, TOKENIZER.vocab_size - 1), max_size=30)
mixed_text = st.text() | st.text(alphabet="ab 'st\n12.é한🙂", max_size=60)


@pytest.fixture(scope="module")
def naive() -> dict[bytes, int]:
    """The ranks of TOKENIZER's texts, by the naive reference: seconds, so not while the tests are collected."""
    return naive_bpe.train(DOCS[:10], 700, PATTERN)


@pytest.fixture(scope="module")
def independent(naive) -> tiktoken.Encoding:
    return tiktoken.Encoding("independent", pat_str=PATTERN, mergeable_ranks=naive, special_tokens={})


# Training


@pytest.mark.slow
@pytest.mark.parametrize(
    "texts, vocab_size",
    [(DOCS[:10], 700), (load_names()[:1500], 600), (unicode_texts(), 640), ([" ".join(load_names()[:500])], 500)],
    ids=["documentation", "names", "random unicode", "names in one text"],
)
def test_the_merges_are_those_of_the_naive_reference(texts, vocab_size):
    expected = naive_bpe.train(texts, vocab_size, PATTERN)
    assert Tokenizer.train(texts, vocab_size + 9).mergeable_ranks == expected


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet="abc é'1\n", max_size=20), max_size=5), st.integers(0, 40))
@example(["abab", "baba"], 3)
def test_the_merges_of_tiny_texts_full_of_ties_are_those_of_the_naive_reference(texts, num_merges):
    expected = naive_bpe.train(texts, 256 + num_merges, PATTERN)
    assert Tokenizer.train(texts, 265 + num_merges, allow_smaller=True).mergeable_ranks == expected


def test_the_order_of_the_texts_does_not_matter():
    texts = unicode_texts()
    assert Tokenizer.train(texts, 600).fingerprint == Tokenizer.train(texts[::-1], 600).fingerprint


def test_texts_may_come_from_a_generator():
    assert Tokenizer.train((text for text in DOCS[:10]), 709).fingerprint == TOKENIZER.fingerprint


def test_pattern_and_special_tokens_are_nanochats():
    assert TOKENIZER.pattern == PATTERN == module.PATTERN
    assert list(SPECIAL_TOKENS) == SPECIALS
    assert [TOKENIZER.special(name) for name in SPECIALS] == list(range(700, 709))
    assert TOKENIZER.bos == 700 and TOKENIZER.vocab_size == 709


@pytest.mark.parametrize("vocab_size", [264, 0, -5])
def test_too_small_a_vocabulary_is_refused(vocab_size):
    with pytest.raises(CourseError, match=rf"vocab_size={vocab_size}, expected at least 265"):
        Tokenizer.train(DOCS, vocab_size)


def test_the_smallest_vocabulary_is_the_bytes():
    smallest = Tokenizer.train(DOCS[:3], 265)
    assert smallest.vocab_size == 265 and smallest.encode("é") == [0xC3, 0xA9]
    assert smallest.mergeable_ranks == {bytes([byte]): byte for byte in range(256)}


def test_a_vocabulary_above_what_the_texts_yield_is_refused_or_allowed():
    with pytest.raises(CourseError, match="vocab_size=300, but these texts have pairs for 267 only"):
        Tokenizer.train(["abc"], 300)
    assert Tokenizer.train(["abc"], 300, allow_smaller=True).vocab_size == 267
    assert Tokenizer.train(["abc"], 267).vocab_size == 267


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_no_text_yields_bytes_only(texts):
    assert Tokenizer.train(texts, 300, allow_smaller=True).vocab_size == 265
    with pytest.raises(CourseError, match="have pairs for 265 only"):
        Tokenizer.train(texts, 300)


def test_what_is_no_text_is_named():
    with pytest.raises(CourseError, match="text 1 is of type NoneType, expected str"):
        Tokenizer.train(["a", None], 300)
    with pytest.raises(CourseError, match="text 0 is of type bytes, expected str"):
        Tokenizer.train([b"a"], 300)
    with pytest.raises(CourseError, match=r"texts is one string.*\[text\]"):
        Tokenizer.train("one text", 300)


@pytest.mark.parametrize("damage", ["gap", "byte", "empty"])
def test_ranks_that_make_no_tokenizer_are_refused(damage):
    ranks = dict(TOKENIZER.mergeable_ranks)
    if damage == "gap":
        ranks[b"something new"] = 9999
    elif damage == "byte":
        ranks[b"something new"] = ranks.pop(b"\x00")
    else:
        ranks = {}
    with pytest.raises(CourseError, match="ranks make no tokenizer"):
        Tokenizer(ranks)


def test_the_fitting_vocabulary_leaves_600_characters_a_token():
    for num_chars in (0, 1000, 614_399, 614_400, 2_900_000, 39_321_599, 39_321_600, 10**12):
        size = fitting_vocab_size(num_chars)
        assert 512 <= size <= 65_536 and size.bit_count() == 1
        assert size == 512 or size * 600 <= num_chars
        assert size == 65_536 or 2 * size * 600 > num_chars


# Encoding and decoding


@settings(max_examples=400, deadline=None)
@given(mixed_text)
@example("It's 2026:\n    return x (or YOU'LL\r\npay 1234 won!)\n\n  한국어 ")
def test_ids_equal_an_independent_tiktoken_and_the_naive_reference(naive, independent, text):
    ids = TOKENIZER.encode(text)
    assert ids == independent.encode_ordinary(text)
    assert ids == naive_bpe.encode(text, naive, PATTERN)
    assert TOKENIZER.decode(ids) == text


def test_ids_of_real_text_equal_an_independent_tiktoken(independent):
    for text in DOCS[10:]:
        ids = TOKENIZER.encode(text)
        assert ids == independent.encode_ordinary(text) and TOKENIZER.decode(ids) == text


def test_no_token_reaches_across_pieces():
    for token in TOKENIZER.mergeable_ranks:
        text = token.decode(errors="ignore")
        if len(token) > 1 and text.encode() == token:
            assert len(regex.findall(PATTERN, text)) == 1, token
            assert len(text) - len(text.lstrip("0123456789")) <= 2


@pytest.mark.parametrize("num_threads", [1, 2, 7, None])
def test_a_batch_gives_the_ids_of_each_text_in_order(num_threads):
    texts = [*DOCS, "", "한"]
    assert TOKENIZER.encode_batch(texts, num_threads=num_threads) == [TOKENIZER.encode(text) for text in texts]
    with_bos = TOKENIZER.encode_batch(texts, bos=True, num_threads=num_threads)
    assert with_bos == [[700, *TOKENIZER.encode(text)] for text in texts]


def test_an_empty_batch_is_empty_and_a_wrong_one_is_refused():
    assert TOKENIZER.encode_batch([]) == TOKENIZER.encode_arrays([]) == []
    with pytest.raises(CourseError, match="texts is one string"):
        TOKENIZER.encode_batch("one text")
    for number in (0, -1):
        with pytest.raises(CourseError, match=f"num_threads={number}, expected 1 or more"):
            TOKENIZER.encode_batch(["a"], num_threads=number)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(st.text() | st.sampled_from([*SPECIAL_TOKENS, "\ud800half", " " * 250_000]), max_size=5), st.booleans())
def test_arrays_hold_the_same_ids(texts, bos):
    arrays = TOKENIZER.encode_arrays(texts, bos=bos, num_threads=2)
    assert [ids.tolist() for ids in arrays] == TOKENIZER.encode_batch(texts, bos=bos)
    assert all(ids.dtype == "int32" for ids in arrays)


@pytest.mark.parametrize("name", SPECIALS)
def test_text_that_looks_like_a_special_token_stays_text(name):
    trained_on_it = Tokenizer.train([f"a {name} b {name}" * 50], 300, allow_smaller=True)
    for tokenizer in (TOKENIZER, trained_on_it):
        for text in (name, f"Hi{name}{name}!", f"{name[:-1]}{name}"):
            ids = tokenizer.encode(text)
            assert max(ids) < tokenizer.bos and tokenizer.decode(ids) == text
            assert max(tokenizer.encode_batch([text])[0]) < tokenizer.bos


def test_a_special_id_decodes_to_its_name():
    ids = [TOKENIZER.bos, *TOKENIZER.encode("Hi"), TOKENIZER.special("<|user_end|>")]
    assert TOKENIZER.decode(ids) == "<|bos|>Hi<|user_end|>"
    with pytest.raises(CourseError, match=r"'<\|eos\|>' is not a special token; they are <\|bos\|>, "):
        TOKENIZER.special("<|eos|>")


def test_token_bytes_are_the_real_bytes_and_0_for_special_tokens():
    assert TOKENIZER.token_bytes.shape == (709,) and TOKENIZER.token_bytes.dtype == mx.int32
    lengths = TOKENIZER.token_bytes.tolist()
    assert lengths[700:] == [0] * 9
    assert lengths[:256] == [1] * 256  # a lone continuation byte counts 1, not the 3 of U+FFFD
    assert lengths[:700] == [len(TOKENIZER.token(n)) for n in range(700)]
    for text in [*DOCS, "한글 🙂"]:
        assert sum(lengths[n] for n in TOKENIZER.encode(text, bos=True)) == len(text.encode())


@pytest.mark.parametrize("token_id", [-1, 709, 2**31, 2**63])
def test_an_id_out_of_range_is_named_with_the_range(token_id):
    for call in (lambda: TOKENIZER.token(token_id), lambda: TOKENIZER.decode([65, token_id])):
        with pytest.raises(CourseError, match=f"{token_id} is not an id of this tokenizer; .* from 0 to 708"):
            call()


@pytest.mark.parametrize("text", ["", " ", "   ", "\n", "\n\n\n", "\t \r\n\u3000", "\0", "a\0b\0\0"])
def test_empty_text_blank_text_and_nul_bytes_come_back(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text
    assert TOKENIZER.encode(text, bos=True) == [700, *TOKENIZER.encode(text)]
    assert Tokenizer.train([text], 266, allow_smaller=True).vocab_size in (265, 266)


@pytest.mark.slow
def test_a_document_of_10_mb_comes_back(independent):
    text = ("".join(DOCS) * 100)[:10_000_000]
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text and ids == independent.encode_ordinary(text)


@pytest.mark.slow
@pytest.mark.parametrize("size, unit", [(10, " "), (2, "\n"), (2, "x"), (2, "\0"), (2, "7")])
def test_megabytes_of_one_character_come_back(size, unit):
    text = "begin" + unit * (size * 1_000_000) + "end"
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_10_mb_of_spaces_can_be_learned_from():
    assert Tokenizer.train([" " * 10_000_000 + "a"], 270).encode("  ") == [256]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([" ", "\n", "a", " " * 7, "\u00a0\u2003"]), max_size=40))
def test_cutting_long_spaces_loses_nothing(parts):
    text = "".join(parts)
    long_space, tokenizer_input.LONG_SPACE = tokenizer_input.LONG_SPACE, 5
    try:
        cut = list(safe_parts(text))
        assert "".join(cut) == text and TOKENIZER.decode(TOKENIZER.encode(text)) == text
        assert all(len(run) < 10 for part in cut for run in regex.findall(r"\s+", part))
    finally:
        tokenizer_input.LONG_SPACE = long_space


def test_half_a_surrogate_pair_becomes_the_replacement_character():
    for text, expected in (("\ud83d", "\ufffd"), ("a\ude42b 한", "a\ufffdb 한"), ("\ud83d\ude42", "🙂")):
        assert TOKENIZER.decode(TOKENIZER.encode(text)) == expected
        assert Tokenizer.train([text], 300, allow_smaller=True).vocab_size >= 265


# Bytes that are no character


@settings(max_examples=300, deadline=None)
@given(any_ids)
@example([0xF0, 0x9F, 65])
@example([0xED, 0xA0, 0x80, 0xFF])
def test_the_stream_of_any_ids_equals_their_decoding(ids):
    stream = StreamDecoder(TOKENIZER)
    shown = "".join(stream.push(token_id) for token_id in ids) + stream.finish()
    assert shown == TOKENIZER.decode(ids) == b"".join(map(TOKENIZER.token, ids)).decode(errors="replace")


@settings(max_examples=200, deadline=None)
@given(mixed_text)
def test_the_stream_never_shows_a_part_of_a_character(text):
    stream, shown = StreamDecoder(TOKENIZER), ""
    for token_id in TOKENIZER.encode(text):
        shown += stream.push(token_id)
        assert text.startswith(shown)
    assert shown == text and stream.finish() == ""


def test_a_stream_that_ends_inside_a_character_says_so_at_the_end():
    stream = StreamDecoder(TOKENIZER)
    first, *rest = "한".encode()
    assert stream.push(first) == "" and stream.push(rest[0]) == "" and stream.finish() == "\ufffd"
    assert stream.push(65) == "A"  # and can go on
    with pytest.raises(CourseError, match="709 is not an id"):
        stream.push(709)


# Saving and loading


def other_tokenizer() -> Tokenizer:
    return Tokenizer.train(["something else entirely"], 275)


def test_what_is_saved_is_loaded(tmp_path, naive):
    TOKENIZER.save(tmp_path / "new" / "folder")
    loaded = Tokenizer.load(str(tmp_path / "new" / "folder"))
    assert loaded.mergeable_ranks == naive and loaded.pattern == PATTERN
    assert loaded.fingerprint == TOKENIZER.fingerprint != other_tokenizer().fingerprint
    assert loaded.encode(DOCS[20]) == TOKENIZER.encode(DOCS[20])


def test_the_default_folder_is_in_the_home_of_the_course(home):
    assert default_folder() == home / "tokenizer"
    TOKENIZER.save(default_folder())
    assert Tokenizer.load().fingerprint == TOKENIZER.fingerprint


def test_the_files_are_text_that_tiktoken_reads(tmp_path, naive):
    from tiktoken.load import load_tiktoken_bpe

    TOKENIZER.save(tmp_path)
    about, ranks = tmp_path / "tokenizer.json", next(tmp_path.glob("ranks-*.tiktoken"))
    assert sorted(tmp_path.iterdir()) == sorted([about, ranks])
    assert load_tiktoken_bpe(str(ranks)) == naive
    assert json.loads(about.read_text())["vocab_size"] == 709
    for file in (about, ranks):
        file.read_text("ascii")
        with pytest.raises(pickle.UnpicklingError):
            pickle.loads(file.read_bytes())


def test_saving_replaces_the_older_tokenizer_and_its_ranks(tmp_path):
    other_tokenizer().save(tmp_path)
    TOKENIZER.save(tmp_path)
    TOKENIZER.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert Tokenizer.load(tmp_path).fingerprint == TOKENIZER.fingerprint


@pytest.mark.parametrize("failing", range(4))
def test_a_save_that_breaks_off_leaves_the_old_or_the_new_tokenizer(tmp_path, monkeypatch, failing):
    old = other_tokenizer()
    old.save(tmp_path)
    steps = []

    def breaks(original):
        def step(*arguments, **options):
            steps.append(arguments)
            if len(steps) > failing:  # as after a kill: nothing happens any more
                raise KeyboardInterrupt
            return original(*arguments, **options)

        return step

    monkeypatch.setattr(os, "replace", breaks(os.replace))
    monkeypatch.setattr(Path, "unlink", breaks(Path.unlink))
    try:
        TOKENIZER.save(tmp_path)
    except KeyboardInterrupt:
        pass
    monkeypatch.undo()
    expected = TOKENIZER if failing >= 2 else old  # two files are replaced, the second one decides
    assert Tokenizer.load(tmp_path).fingerprint == expected.fingerprint
    TOKENIZER.save(tmp_path)  # the next save mends everything
    assert len(list(tmp_path.glob("ranks-*"))) == 1


def test_a_missing_tokenizer_names_the_file_and_the_program(tmp_path):
    with pytest.raises(CourseError, match=r"no tokenizer: .*nowhere.tokenizer\.json is missing; .*`tok_train`"):
        Tokenizer.load(tmp_path / "nowhere")
    TOKENIZER.save(tmp_path)
    next(tmp_path.glob("ranks-*")).unlink()
    with pytest.raises(CourseError, match=r"no tokenizer: .*ranks-[0-9a-f]{12}\.tiktoken is missing; .*`tok_train`"):
        Tokenizer.load(tmp_path)
    with pytest.raises(CourseError, match=r"no tokenizer: .*tokenizer\.json \(Not a directory\)"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def edit(folder: Path, **changes) -> None:
    about = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(about | changes))


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_is_refused(tmp_path, version):
    TOKENIZER.save(tmp_path)
    edit(tmp_path, format=version)
    with pytest.raises(
        CourseError, match=rf"tokenizer\.json has format {version}, this version .* reads 1; .*tok_train"
    ):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"pattern": r"\s+|\S+"},
        {"pattern": "("},
        {"pattern": None},
        {"special_tokens": SPECIALS[:8]},
        {"special_tokens": SPECIALS[::-1]},
        {"vocab_size": 710},
        {"ranks": 5},
        {"ranks": "tokenizer.json"},
        {"extra": "from another program"},
    ],
    ids=repr,
)
def test_an_edited_json_is_refused(tmp_path, changes):
    TOKENIZER.save(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(CourseError, match=r"tokenizer\.json or its ranks (are damaged|were changed).*`tok_train`"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"text"', "{}", "\ufffd", "[" * 500_000 + "]" * 500_000], ids=range(8)
)
def test_a_damaged_json_is_refused(tmp_path, text):
    TOKENIZER.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(CourseError, match=r"tokenizer\.json or its ranks are damaged: .*; train one with `tok_train`"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "cut at a line", "other byte", "swapped", "words", "not base64", "binary"])
def test_a_damaged_rank_file_is_refused(tmp_path, damage):
    TOKENIZER.save(tmp_path)
    file = next(tmp_path.glob("ranks-*"))
    lines = file.read_text().splitlines(keepends=True)
    if damage == "cut":
        file.write_text("".join(lines)[:-5])
    elif damage == "cut at a line":
        file.write_text("".join(lines[:-1]))
    elif damage == "other byte":
        file.write_text("".join([*lines[:-1], f"{base64.b64encode(b'elsewhere').decode()} 699\n"]))
    elif damage == "swapped":
        first, second = (line.split()[0] for line in lines[-2:])
        file.write_text("".join([*lines[:-2], f"{second} 698\n{first} 699\n"]))
    elif damage == "words":
        file.write_text("".join([*lines, "one two three\n"]))
    elif damage == "not base64":
        file.write_text("".join([*lines[:-1], "a 699\n"]))
    else:
        file.write_bytes(os.urandom(1000))
    with pytest.raises(CourseError, match=r"tokenizer\.json or its ranks (are damaged|were changed).*`tok_train`"):
        Tokenizer.load(tmp_path)


# The program tok_eval


def program(*flags, home: Path, **environment):
    command = [sys.executable, "-m", "course_lib.scripts.tok_eval", *map(str, flags)]
    environment = {**os.environ, "COURSE_HOME": str(home), "TIKTOKEN_CACHE_DIR": "", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)


SAMPLES = ["code", "english", "korean", "maths", "russian"]


def table_rows(output: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in output.splitlines() if "│" in line]
    return {name: values for name, *values in rows}


@pytest.mark.slow
def test_tok_eval_measures_the_tokenizer_of_tok_train(home, checkout, independent):
    TOKENIZER.save(default_folder())
    done = program("--no-peers", home=home)
    assert done.returncode == 0 and done.stderr == ""
    rows = table_rows(done.stdout)
    assert list(rows) == SAMPLES and "709 ids" in done.stdout
    for name, row in rows.items():
        text = (checkout / "data" / "samples" / f"{name}.txt").read_text("utf-8")
        size, length = len(text.encode()), len(independent.encode_ordinary(text))
        assert row == [f"{size:,}", f"{length:,}", f"{size / length:.2f}"]
    assert "all 5 samples came back" in done.stdout


@pytest.mark.slow
def test_tok_eval_goes_on_without_a_network_and_says_why(tmp_path):
    TOKENIZER.save(tmp_path / "mine")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{free.getsockname()[1]}"  # nobody listens there
        done = program("--tokenizer", tmp_path / "mine", home=tmp_path, HTTPS_PROXY=proxy, https_proxy=proxy)
    assert done.returncode == 0 and done.stderr == ""
    assert list(table_rows(done.stdout)) == SAMPLES
    lines = done.stdout.splitlines()
    assert lines[0].startswith("asking for gpt2 and cl100k_base")
    for line, name in zip(lines[1:3], ("gpt2", "cl100k_base"), strict=True):
        assert line.startswith(f"{name} is left out, it cannot be had: ") and "refused" in line and len(line) < 120


@pytest.mark.slow
def test_tok_eval_without_a_tokenizer_says_what_to_do(home, tmp_path):
    for flags, folder in (((), home / "tokenizer"), (("--tokenizer", tmp_path / "none"), tmp_path / "none")):
        done = program(*flags, "--no-peers", home=home)
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr == (
            f"tok_eval: there is no tokenizer: {folder / 'tokenizer.json'} is missing; train one with `tok_train`\n"
        )


def test_tok_eval_shows_its_peers_when_they_can_be_had(tmp_path, monkeypatch, capsys, independent):
    TOKENIZER.save(tmp_path)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: independent)
    tok_eval.main(["--tokenizer", str(tmp_path)])
    output = capsys.readouterr().out
    assert "left out" not in output and "gpt2" in output and "cl100k_base" in output
    assert all(len(set(row[2:])) == 1 and len(row) == 5 for row in table_rows(output).values())


def test_tok_eval_does_not_wait_for_ever(tmp_path, monkeypatch, capsys):
    TOKENIZER.save(tmp_path)
    released = threading.Event()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tok_eval, "WAIT", 0.2)
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: released.wait(60))
    started, before = time.monotonic(), set(threading.enumerate())
    tok_eval.main(["--tokenizer", str(tmp_path)])
    assert time.monotonic() - started < 20
    released.set()
    for thread in set(threading.enumerate()) - before:  # it must not meet the next test's tiktoken
        thread.join(60)
    output = capsys.readouterr().out
    for name in ("gpt2", "cl100k_base"):
        assert f"{name} is left out, it cannot be had: no answer within 0.2 seconds" in output
    assert list(table_rows(output)) == SAMPLES


def test_tok_eval_keeps_what_it_downloads_in_the_home_of_the_course(home, monkeypatch):
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    folders = []
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: folders.append(os.environ["TIKTOKEN_CACHE_DIR"]))
    tok_eval.fetch_peers()
    assert folders == [str(home / "tiktoken")] * 2


def test_the_samples_are_text_of_several_kinds(checkout):
    files = sorted((checkout / "data" / "samples").iterdir())
    assert [file.name for file in files] == [f"{name}.txt" for name in SAMPLES]
    for file in files:
        text = file.read_bytes().decode("utf-8")
        assert 800 < len(text) < 3000 and text.endswith("\n") and "\r" not in text
    compile(files[0].read_text("utf-8"), "code.txt", "exec")


# The exercises' checks


def leftmost_first(piece, ranks):
    parts = [bytes([byte]) for byte in piece]
    n = 0
    while n + 1 < len(parts):
        if parts[n] + parts[n + 1] in ranks:
            parts[n : n + 2] = [parts[n] + parts[n + 1]]
            n = 0
        else:
            n += 1
    return [ranks[part] for part in parts]


def lowest_once(piece, ranks):
    return [ranks[piece]] if piece in ranks else list(piece)


def encode_piece(piece, ranks):
    parts = [bytes([byte]) for byte in piece]
    while joined := [(ranks[a + b], n) for n, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]:
        n = min(joined)[1]
        parts[n : n + 2] = [parts[n] + parts[n + 1]]
    return [ranks[part] for part in parts]


def rightmost_of_equals(piece, ranks):
    parts = [bytes([byte]) for byte in piece]
    while joined := [(ranks[a + b], -n) for n, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]:
        n = -min(joined)[1]
        parts[n : n + 2] = [parts[n] + parts[n + 1]]
    return [ranks[part] for part in parts]


def longest_first(piece, ranks):
    ids = []
    while piece:
        size = max(n for n in range(1, len(piece) + 1) if piece[:n] in ranks)
        ids.append(ranks[piece[:size]])
        piece = piece[size:]
    return ids


def one_merge(piece, ranks):
    return encode_piece(piece[:2], ranks) + list(piece[2:])


def bytes_of_tokens(piece, ranks):
    named = {token_id: token for token, token_id in ranks.items()}
    return [named[token_id] for token_id in encode_piece(piece, ranks)]


def bad_cuts(tokenizer, text):
    whole, encode = tokenizer.encode(text), tokenizer.encode
    return [n for n in range(1, len(text)) if encode(text[:n]) + encode(text[n:]) != whole]


def compare_numbers_of_ids(tokenizer, text):
    def length(part):
        return len(tokenizer.encode(part))

    return [n for n in range(1, len(text)) if length(text[:n]) + length(text[n:]) != length(text)]


def inside_a_token(tokenizer, text):
    ends = [len(tokenizer.decode(tokenizer.encode(text)[:n])) for n in range(len(text))]
    return [n for n in range(1, len(text)) if n not in ends]


def after_spaces(tokenizer, text):
    return [n for n in range(1, len(text)) if text[n - 1] == " "]


def with_ends(tokenizer, text):
    return list(range(len(text) + 1))


def good_cuts(tokenizer, text):
    return [n for n in range(1, len(text)) if n not in bad_cuts(tokenizer, text)]


def merge_piece(ids, pair, new_id):
    merged, changes = with_zeros(ids, pair, new_id)
    return merged, {pair: change for pair, change in changes.items() if change}


def only_the_pair(ids, pair, new_id):
    return naive_bpe.merged(ids, pair, new_id), {pair: -1}


def with_zeros(ids, pair, new_id):
    merged = naive_bpe.merged(ids, pair, new_id)
    changes = Counter(pairwise(merged))
    changes.subtract(pairwise(ids))
    return merged, changes


def only_what_grew(ids, pair, new_id):
    merged = naive_bpe.merged(ids, pair, new_id)
    return merged, dict(Counter(pairwise(merged)) - Counter(pairwise(ids)))


def the_other_way_round(ids, pair, new_id):
    merged, changes = merge_piece(ids, pair, new_id)
    return merged, {pair: -change for pair, change in changes.items()}


def new_counts(ids, pair, new_id):
    merged = naive_bpe.merged(ids, pair, new_id)
    return merged, dict(Counter(pairwise(merged)))


def in_place(ids, pair, new_id):
    answer = merge_piece(ids, pair, new_id)
    ids[:] = answer[0]
    return answer


def once_for_each_merge(ids, pair, new_id):
    merged, changes = merge_piece(ids, pair, new_id)
    return merged, changes | {pair: -merged.count(new_id)} if pair in changes else changes


def test_a_right_answer_to_an_exercise_is_accepted_and_told_what_to_look_at_next():
    for text in ("안녕 🙂", "ü", "— and so on", "\ufffd"):
        assert "Its tokens: " in exercises.breaking_text(lambda tokenizer, text=text: text)
    exercises.encode_piece(encode_piece)
    exercises.bad_cuts(bad_cuts)
    exercises.merge_piece(merge_piece)


@pytest.mark.parametrize(
    "test, answer, message",
    [
        (exercises.breaking_text, lambda tokenizer: None, "is there a `return`"),
        (exercises.breaking_text, lambda tokenizer: "Hello, world!", "one byte each"),
        (exercises.breaking_text, lambda tokenizer: "", "one byte each"),
        (exercises.breaking_text, lambda tokenizer: "<|bos|>", "one byte each"),
        (exercises.breaking_text, lambda tokenizer: "café", "has learned them"),
        (exercises.breaking_text, lambda tokenizer: "\ud83d", "from `decode` either"),
        (exercises.breaking_text, lambda tokenizer: b"\xff", "a str, not bytes"),
        (exercises.breaking_text, lambda tokenizer: [255, 254], "a str, not list"),
        (exercises.encode_piece, lambda piece, ranks: None, "is there a `return`"),
        (exercises.encode_piece, bytes_of_tokens, "look up their ids"),
        (exercises.encode_piece, leftmost_first, "the smallest id goes first"),
        (exercises.encode_piece, longest_first, "the smallest id goes first"),
        (exercises.encode_piece, lowest_once, "the smallest id goes first"),
        (exercises.encode_piece, lambda piece, ranks: list(piece), "the smallest id goes first"),
        (exercises.encode_piece, one_merge, "the smallest id goes first"),
        (exercises.encode_piece, rightmost_of_equals, "of equal ids the leftmost goes first"),
        (exercises.bad_cuts, with_ends, "the ends of a text are no cuts"),
        (exercises.bad_cuts, lambda tokenizer, text: [], "4 is a bad cut"),
        (exercises.bad_cuts, lambda tokenizer, text: None, "is there a `return`"),
        (exercises.bad_cuts, lambda tokenizer, text: (n for n in (4,)), "return a list, not generator"),
        (exercises.bad_cuts, compare_numbers_of_ids, "the bad cuts are"),
        (exercises.bad_cuts, inside_a_token, "a cut between two tokens can be bad too"),
        (exercises.bad_cuts, after_spaces, "the bad cuts are"),
        (exercises.bad_cuts, good_cuts, "the cut at 3, before the space, changes nothing"),
        (exercises.merge_piece, lambda ids, pair, new_id: None, "is there a `return`"),
        (exercises.merge_piece, only_the_pair, "the neighbours change too"),
        (exercises.merge_piece, with_zeros, "leave out the pairs whose count does not change"),
        (exercises.merge_piece, naive_bpe.merged, "return two things"),
        (exercises.merge_piece, only_what_grew, "the merged pair is gone"),
        (exercises.merge_piece, the_other_way_round, "the merged pair is gone"),
        (exercises.merge_piece, new_counts, "the merged pair is gone"),
        (exercises.merge_piece, in_place, "leave the list that you are given as it is"),
        (exercises.merge_piece, once_for_each_merge, "merged changes"),
    ],
)
def test_a_wrong_answer_to_an_exercise_is_told_what_is_wrong(test, answer, message):
    with pytest.raises(AssertionError, match=message):
        test(answer)


@pytest.mark.parametrize(
    "pattern", ["a*", "(?!)", r"\w+", r"[a-z ]+|.", r"(?s:.)??", r"[^\U0001f469]", r"(\w*)*(?!)|[\s\S]{99}", "("]
)
def test_a_strangers_pattern_that_loses_text_is_refused_in_a_sentence(tmp_path, pattern, capfd):
    ranks = {bytes([byte]): byte for byte in range(256)}
    with pytest.raises(CourseError, match="take another tokenizer"):
        Tokenizer(ranks, pattern)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "pattern", [r"[\s\S]", r"\s+|\S+", r"'s|'t| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"]
)
def test_another_pattern_that_loses_nothing_is_taken(pattern):
    tokenizer = Tokenizer({bytes([byte]): byte for byte in range(256)}, pattern)
    assert tokenizer.decode(tokenizer.encode("It's 2,026.\n\n 日本")) == "It's 2,026.\n\n 日本"
