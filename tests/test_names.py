"""Names, their ids, the bigram model that counts, and the download of the well-known list."""

import functools
import gzip
import hashlib
import math
import os
import socket
import string
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.classroom.exercises import names as exercises
from course_lib.host.errors import CourseError
from course_lib.host.paths import data_dir
from course_lib.names import download as module
from course_lib.names.bigram import (
    CharTokenizer,
    bigram_counts,
    bigram_loss,
    bigram_probs,
    bigram_sample,
    bigrams,
    load_names,
    split_names,
)
from course_lib.names.counts import backoff_loss, backoff_probs, count_contexts, guesses
from course_lib.names.download import download_names
from course_lib.names.files import remarks
from course_lib.scripts import microgpt as program

FEW = ["emma", "ada", "otto", "maya"]


@pytest.fixture(scope="module")
def names() -> list[str]:
    return load_names()


# The bundled file


def test_bundled_names_keep_what_the_readme_promises(names):
    text = (data_dir() / "names.txt").read_bytes().decode("ascii")
    assert text.endswith("\n") and "\r" not in text and text.split("\n")[:-1] == names
    assert len(names) >= 4000 and len(set(names)) == len(names)
    assert all(2 <= len(name) <= 15 for name in names)
    assert set("".join(names)) == set(string.ascii_lowercase)


def test_readme_states_the_count_of_the_bundled_names(names):
    assert f"{len(names):,} distinct given names" in (data_dir() / "README.md").read_text(encoding="utf-8")


def test_every_part_of_the_bundled_file_is_a_fair_sample(names):
    def mean_length(part: list[str]) -> float:
        return sum(map(len, part)) / len(part)

    parts = [names[start : start + 1000] for start in range(0, len(names) - 999, 1000)]
    assert all(abs(mean_length(part) - mean_length(names)) < 0.35 for part in parts)
    assert all(len({name[0] for name in part}) > 20 for part in parts)


# Reading a file


def written(tmp_path, data: bytes):
    path = tmp_path / "list.txt"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data",
    [
        b"emma\nada\nzoe\n",
        b"emma\nada\nzoe",
        b"emma\r\nada\r\nzoe\r\n",
        b"\xef\xbb\xbfemma\nada\nzoe\n",
        b"\xef\xbb\xbfemma\r\nada\r\nzoe",
        b"\n  emma\t\n\n ada\n\n\nzoe  \n\n",
    ],
    ids=["plain", "no last line end", "CRLF", "byte order mark", "both", "blank lines and spaces"],
)
def test_load_names_reads_the_usual_kinds_of_text_file(tmp_path, data):
    path = written(tmp_path, data)
    assert load_names(path) == load_names(str(path)) == ["emma", "ada", "zoe"]


NAMES = {  # the first names of the model's readers, as lists of them come
    "Latin capitals": "Emma\nOLIVIA\nMcKenna\nemma",
    "German": "Björn\nJürgen\nÄnne\nKäthe\nStraßmann",
    "French": "Anne-Laure\nRenée\nJean-François\nD’Artagnan",
    "Irish": "O'Brien\nSiobhán\nD'Arcy",
    "Spanish": "María José\nÍñigo\nBegoña de la Cruz",
    "Polish": "Łukasz\nŻaneta\nŚwiętosława",
    "Turkish": "Işıl\nİbrahim\nÇağrı",
    "Vietnamese": "Nguyễn Thị Ánh\nTrần Đức",
    "Vietnamese, decomposed": "Nguye\u0302\u0303n\nTra\u0302\u0300n",
    "Icelandic": "Þórdís\nÆgir\nGuðrún",
    "Cyrillic": "Анна\nЮлия\nАнна-Мария\nМар'яна",
    "Greek": "Ελένη\nΑλέξανδρος\nΊρις",
    "Hebrew": "מרים\nאברהם\nצ׳רלי",
    "Arabic": "محمد\nفاطمة\nعبد الله",
    "Persian": "علی‌رضا\nپریسا",
    "Devanagari": "आदित्य\nप्रिया\nलक्ष्मी",
    "Thai": "สมชาย\nพิมพ์ใจ",
    "Hangul": "민준\n서연\n지우",
    "Kanji and kana": "さくら\n翔太\nアンナ\n結衣",
    "Han": "伟\n芳\n秀英\n𠮷田",
    "Armenian": "Անի\nՏիգրան",
    "Georgian": "ნინო\nგიორგი",
    "Amharic": "አበበ\nሰላም",
    "numbers and dots": "X Æ A-12\nJ. R. R.\nElizabeth II",
}


@pytest.mark.parametrize("list_of", NAMES)
def test_names_of_any_script_are_learned_and_written(tmp_path, capsys, list_of):
    names = NAMES[list_of].split("\n")
    path = written(tmp_path, b"\xef\xbb\xbf" * (len(names) % 2) + "\r\n".join(names).encode())
    assert load_names(path) == names
    assert load_names(path, lower=True) == [name.lower() for name in names]
    program.main(["--names", str(path), "--steps", "2", "--samples", "4", "--temperature", "2"])
    lines, chars = capsys.readouterr().out.splitlines(), set("".join(names))
    assert lines[:2] == [f"num docs: {len(names)}", f"vocab size: {len(chars) + 1}"] and len(lines) == 3 + 2 + 4
    assert all(set(line.partition(": ")[2]) <= chars for line in lines[5:])


def test_lower_case_is_a_wish(tmp_path, capsys):
    path = written(tmp_path, "Anna\nÄNNE\nanna\n".encode())
    sizes = []
    for flags in ([], ["--lower"]):
        program.main(["--names", str(path), "--steps", "1", "--samples", "0", *flags])
        sizes.append(capsys.readouterr().out.splitlines()[1])
    assert sizes == [f"vocab size: {len(set('AnnaÄNNEanna')) + 1}", f"vocab size: {len(set('annaänne')) + 1}"]


@pytest.mark.parametrize(
    "head",
    ["Name", "# girls, 2020", "First Name", '"name"', "name,sex", "#\n# Names:\n\nVORNAME", "Имя", "名前", "이름"],
)
def test_lines_above_the_names_are_left_out_and_said(tmp_path, capsys, head):
    path = written(tmp_path, f"\ufeff{head}\nRenamed\nNamesh\nnombre-dieu\n".encode())
    assert load_names(path) == ["Renamed", "Namesh", "nombre-dieu"]
    out = capsys.readouterr().out
    assert out.startswith(f"{path.name}: left out above the names: ") and out.count("\n") == 1
    assert all(line in out for line in head.split("\n"))


def test_a_list_packed_or_in_utf16_is_read(tmp_path):
    for data, name in ((gzip.compress("Noémie\rada".encode()), "a.txt.gz"), ("Noémie\nada".encode("utf-16"), "a.txt")):
        (tmp_path / name).write_bytes(data)
        assert load_names(tmp_path / name) == ["Noémie", "ada"]


def test_a_list_is_read_from_a_pipe():
    reading, writing = os.pipe()
    os.write(writing, b"emma\nada\n")
    os.close(writing)
    assert load_names(f"/dev/fd/{reading}") == ["emma", "ada"]
    os.close(reading)


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"em\x00ma\n", ["line 1", r"'\x00'"]), (b"Emma\n\nA\x1b[31mda", ["line 3", r"'\x1b'"])],
)
def test_load_names_says_line_and_character_of_what_it_refuses(tmp_path, data, said):
    path = written(tmp_path, data)
    with pytest.raises(CourseError) as caught:
        load_names(path)
    assert all(part in str(caught.value) for part in [str(path), "one name a line", *said])


@pytest.mark.parametrize(
    "data", [b"", b"\n\n  \n", b"\xef\xbb\xbf", b"# names\n"], ids=["no bytes", "blank lines", "only a mark", "head"]
)
def test_load_names_refuses_an_empty_file(tmp_path, data):
    path = written(tmp_path, data)
    with pytest.raises(CourseError, match="has no names") as caught:
        load_names(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("data", [b"emma\nzo\xeb\n", b"\xff\xfe\xd8"], ids=["Latin-1", "half a UTF-16"])
def test_load_names_refuses_what_is_not_utf8(tmp_path, data):
    path = written(tmp_path, data)
    with pytest.raises(CourseError, match="UTF-8") as caught:
        load_names(path)
    assert str(path) in str(caught.value)


def test_a_list_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_MAX_CHARS", "1000")
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"anna\n" * 1000))
    with pytest.raises(CourseError, match="over 1,000 characters; .* COURSE_MAX_CHARS"):
        load_names(tmp_path / "a.gz")


def test_load_names_refuses_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "missing.txt", tmp_path, tmp_path / "missing" / "list.txt"):
        with pytest.raises(CourseError) as caught:
            load_names(path)
        assert str(path) in str(caught.value) and "one name a line" in str(caught.value)


# The tokenizer


def test_tokenizer_numbers_characters_in_order_and_bos_last(names):
    tokenizer = CharTokenizer(names)
    assert tokenizer.chars == list(string.ascii_lowercase)
    assert tokenizer.bos == 26 and tokenizer.vocab_size == 27
    assert tokenizer.encode("emma") == [26, 4, 12, 12, 0, 26]
    assert tokenizer.encode("") == [26, 26]
    assert tokenizer.decode([26, 4, 12, 12, 0, 26]) == tokenizer.decode([4, 12, 12, 0]) == "emma"
    assert CharTokenizer(["bca", "ab"]).chars == ["a", "b", "c"]


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_decode_undoes_encode(docs):
    tokenizer = CharTokenizer(docs)
    for doc in docs:
        ids = tokenizer.encode(doc)
        assert len(ids) == len(doc) + 2 and ids[0] == ids[-1] == tokenizer.bos
        assert all(0 <= i < tokenizer.bos for i in ids[1:-1])
        assert tokenizer.decode(ids) == doc


@given(st.data())
def test_encode_undoes_decode(data):
    tokenizer = CharTokenizer(FEW)
    inner = data.draw(st.lists(st.integers(0, tokenizer.bos - 1)))
    ids = [tokenizer.bos, *inner, tokenizer.bos]
    assert tokenizer.encode(tokenizer.decode(ids)) == ids


def test_tokenizer_refuses_what_it_cannot_do():
    tokenizer = CharTokenizer(["ab"])
    with pytest.raises(CourseError, match="'c' in 'abc'.*'ab'"):
        tokenizer.encode("abc")
    for i in (3, -1, 27):
        with pytest.raises(CourseError, match=f"{i} is not an id .* 0 to 2"):
            tokenizer.decode([0, i])
    for docs in ([], ["", ""]):
        with pytest.raises(CourseError, match="names"):
            CharTokenizer(docs)


# Counting


def test_bigrams_are_the_pairs_of_neighbours_ends_included():
    tokenizer = CharTokenizer(FEW)
    a, d, bos = tokenizer.id_of["a"], tokenizer.id_of["d"], tokenizer.bos
    assert bigrams(["ada"], tokenizer) == [(bos, a), (a, d), (d, a), (a, bos)]
    assert bigrams(["ada", "a"], tokenizer, max_len=2) == [(bos, a), (a, d), (bos, a), (a, bos)]


def test_counts_agree_with_a_counter_of_text(names):
    tokenizer = CharTokenizer(names)
    counts = bigram_counts(names, tokenizer)
    truth = Counter(pair for name in names for pair in pairwise(f"•{name}•"))
    labels = [*tokenizer.chars, "•"]
    found = {
        (x, y): n for x, row in zip(labels, counts.tolist(), strict=True) for y, n in zip(labels, row, strict=True)
    }
    assert found == {pair: truth[pair] for pair in found}
    assert counts.sum().item() == sum(len(name) + 1 for name in names)


@pytest.mark.parametrize("smoothing", [0.5, 1.0, 10])
def test_probabilities_are_smoothed_shares(smoothing):
    tokenizer = CharTokenizer(FEW)
    counts = np.array(bigram_counts(FEW, tokenizer), dtype=np.float64)
    probs = bigram_probs(FEW, tokenizer, smoothing)
    assert probs.shape == (tokenizer.vocab_size, tokenizer.vocab_size)
    expected = (counts + smoothing) / (counts.sum(1, keepdims=True) + smoothing * tokenizer.vocab_size)
    np.testing.assert_allclose(np.array(probs), expected, rtol=1e-5)


def test_no_smoothing_needs_every_id_to_occur():
    tokenizer = CharTokenizer([*FEW, "q"])
    with pytest.raises(CourseError, match="'q'.*smoothing > 0"):
        bigram_probs(FEW, tokenizer, smoothing=0)
    assert mx.allclose(bigram_probs(FEW, CharTokenizer(FEW), smoothing=0).sum(axis=1), mx.array(1.0))


# The loss


def test_loss_agrees_with_cross_entropy_and_with_the_closed_form(names):
    tokenizer = CharTokenizer(names)
    probs = bigram_probs(names, tokenizer, smoothing=0)
    loss = bigram_loss(probs, names, tokenizer)
    pairs = mx.array(bigrams(names, tokenizer))
    each = nn.losses.cross_entropy(mx.log(probs)[pairs[:, 0]], pairs[:, 1])
    assert loss == pytest.approx(np.array(each).mean(dtype=np.float64), abs=1e-5)
    counts = np.array(bigram_counts(names, tokenizer), dtype=np.float64)
    shares = counts / counts.sum(1, keepdims=True)
    seen = counts > 0
    assert loss == pytest.approx(-(counts[seen] * np.log(shares[seen])).sum() / counts.sum(), abs=1e-5)


def test_loss_of_the_uniform_table_is_the_logarithm_of_the_vocabulary(names):
    tokenizer = CharTokenizer(names)
    uniform = mx.full((27, 27), 1 / 27)
    for max_len in (None, 1, 8):
        assert bigram_loss(uniform, names[:100], tokenizer, max_len) == pytest.approx(math.log(27), abs=1e-5)


def test_loss_counts_the_end_and_the_first_guesses_only_when_asked():
    tokenizer = CharTokenizer(["ab"])
    probs = mx.array([[0.25, 0.5, 0.25], [0.25, 0.25, 0.5], [0.125, 0.75, 0.125]])
    nats = [-math.log(p) for p in (0.125, 0.5, 0.5)]  # •a, ab, b•
    assert bigram_loss(probs, ["ab"], tokenizer) == pytest.approx(sum(nats) / 3)
    for max_len in (1, 2, 3, 8):
        kept = nats[:max_len]
        assert bigram_loss(probs, ["ab"], tokenizer, max_len) == pytest.approx(sum(kept) / len(kept))


def test_loss_weighs_guesses_alike_not_names():
    tokenizer = CharTokenizer(FEW)
    probs = bigram_probs(FEW, tokenizer)
    sizes = [len(name) + 1 for name in FEW]
    each = [bigram_loss(probs, [name], tokenizer) for name in FEW]
    expected = sum(size * loss for size, loss in zip(sizes, each, strict=True)) / sum(sizes)
    assert bigram_loss(probs, FEW, tokenizer) == pytest.approx(expected)


def test_a_pair_that_never_occurred_costs_infinity_without_smoothing_only():
    tokenizer = CharTokenizer(FEW)
    assert bigram_loss(bigram_probs(FEW, tokenizer, 0), ["ot", "dd"], tokenizer) == math.inf
    assert bigram_loss(bigram_probs(FEW, tokenizer), ["ot", "dd"], tokenizer) < 10


def test_the_number_to_beat_is_well_below_knowing_nothing(names):
    train, held_out = split_names(names)
    tokenizer = CharTokenizer(names)
    probs = bigram_probs(train, tokenizer)
    assert 2.3 < bigram_loss(probs, held_out, tokenizer, max_len=8) < 2.75
    assert abs(bigram_loss(probs, held_out, tokenizer) - bigram_loss(probs, train, tokenizer)) < 0.05


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda tokenizer: bigrams([], tokenizer), "no names"),
        (lambda tokenizer: bigram_counts([], tokenizer), "no names"),
        (lambda tokenizer: bigram_probs([], tokenizer), "no names"),
        (lambda tokenizer: bigram_loss(mx.ones((3, 3)), [], tokenizer), "no names"),
        (lambda tokenizer: bigram_loss(mx.ones((3, 3)), ["ab"], tokenizer, max_len=0), "max_len=0"),
        (lambda tokenizer: bigram_probs(["ab"], tokenizer, smoothing=-1), "smoothing=-1"),
        (lambda tokenizer: bigram_probs(["ab"], tokenizer, smoothing=math.nan), "smoothing=nan"),
        (lambda tokenizer: bigram_probs(["abc"], tokenizer), "'c' in 'abc'"),
    ],
)
def test_bigram_functions_refuse_bad_input(call, said):
    with pytest.raises(CourseError, match=said):
        call(CharTokenizer(["ab"]))


# Sampling


def test_guesses_know_all_that_comes_before():
    tokenizer = CharTokenizer(["ab"])
    assert list(guesses(["ab", "b"], tokenizer)) == [((2,), 0), ((2, 0), 1), ((2, 0, 1), 2), ((2,), 1), ((2, 1), 2)]
    assert list(guesses(["ab", "b"], tokenizer, max_len=1)) == [((2,), 0), ((2,), 1)]


def test_back_off_by_hand_and_for_contexts_never_seen():
    tokenizer = CharTokenizer(FEW)
    table = count_contexts(FEW, tokenizer, back=2)
    V, m, a, t = tokenizer.vocab_size, *(tokenizer.id_of[letter] for letter in "mat")
    guesses_in_all = sum(len(name) + 1 for name in FEW)
    a_after_nothing = ("".join(FEW).count("a") + 3 / V) / (guesses_in_all + 3)
    a_after_m = (2 + 3 * a_after_nothing) / (3 + 3)  # emma, maya: after m come m, a, a
    a_after_mm = (1 + 3 * a_after_m) / (1 + 3)
    for back, right in ((0, a_after_nothing), (1, a_after_m), (2, a_after_mm)):
        assert backoff_probs(table, (m, m), back, strength=3)[a] == pytest.approx(right)
    unseen = backoff_probs(table, (m, t, m), back=2, strength=3)
    assert unseen.sum() == pytest.approx(1) and np.allclose(unseen, backoff_probs(table, (m,), 1, strength=3))
    mean = -np.log([backoff_probs(table, before, 2)[y] for before, y in guesses(["otto"], tokenizer)]).mean()
    assert backoff_loss(table, ["otto"], tokenizer, back=2) == pytest.approx(mean)


def test_samples_follow_the_table():
    tokenizer = CharTokenizer(["ab"])
    probs = mx.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.8, 0.2, 0.0]])  # one letter: a four times in five
    drawn = Counter(bigram_sample(probs, tokenizer, key) for key in mx.random.split(mx.random.key(0), 400))
    assert set(drawn) == {"a", "b"} and 0.72 < drawn["a"] / 400 < 0.88


def test_a_key_fixes_the_sample_and_max_len_ends_it():
    tokenizer = CharTokenizer(FEW)
    probs = bigram_probs(FEW, tokenizer)
    one, other = (bigram_sample(probs, tokenizer, mx.random.key(5)) for _ in range(2))
    assert one == other
    mx.random.seed(3)
    assert len({bigram_sample(probs, tokenizer) for _ in range(20)}) > 5
    loop = mx.array([[1.0, 0.0], [1.0, 0.0]])  # a, a, a, …
    assert bigram_sample(loop, CharTokenizer(["a"]), mx.random.key(0), max_len=4) == "aaaa"


# Splitting


def test_split_shuffles_once_and_cuts(names):
    train, held_out = split_names(names)
    assert (train, held_out) == split_names(names)
    assert sorted(train + held_out) == sorted(names) and len(held_out) == round(len(names) / 10)
    assert train[:50] != names[:50]
    assert split_names(names, seed=1)[1] != held_out
    assert [len(part) for part in split_names(names[:100], held_out=0.25)] == [75, 25]


@given(st.integers(2, 50), st.floats(0, 1, exclude_min=True, exclude_max=True), st.integers(0, 9))
def test_split_leaves_no_part_empty_and_loses_no_name(count, share, seed):
    docs = [f"n{i}" for i in range(count)]
    train, held_out = split_names(docs, share, seed)
    assert train and held_out and sorted(train + held_out) == sorted(docs)
    assert docs == [f"n{i}" for i in range(count)], "the caller's list stays as it was"


@pytest.mark.parametrize(("docs", "share"), [(["a"], 0.5), ([], 0.5), (FEW, 0), (FEW, 1), (FEW, -0.1), (FEW, math.nan)])
def test_split_refuses_what_cannot_be_cut(docs, share):
    with pytest.raises(CourseError, match="cannot hold out"):
        split_names(docs, share)


# The download, from a server on this machine

LIST = "".join(f"name{'abcdefghij'[i % 10]}{'xyz' * (i % 7)}\n" for i in range(5000)).encode()


@pytest.fixture
def server(monkeypatch, home):
    """A web server on this machine that answers as `server.mode` says and counts requests; NAMES_URL points at it."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            web.requests += 1
            if web.mode == "404":
                return self.send_error(404)
            body = LIST[:-1] + b"!" if web.mode == "another file" else LIST
            self.send_response(200)
            if web.mode != "cut short, no length":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if web.mode.startswith("cut short") else body)

        def log_message(self, *args):
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    web.mode, web.requests = "good", 0
    thread = threading.Thread(target=functools.partial(web.serve_forever, poll_interval=0.01))
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(module, "NAMES_URL", f"http://127.0.0.1:{web.server_address[1]}/names.txt")
    monkeypatch.setattr(module, "NAMES_SHA256", hashlib.sha256(LIST).hexdigest())
    yield web
    web.shutdown()
    web.server_close()
    thread.join()


def left_in(home):
    return [path.name for path in home.iterdir() if path.suffix != ".lock"]


def test_download_fetches_once_and_then_needs_no_network(server, home, capfd):
    path = download_names()
    assert path.parent == home and path.read_bytes() == LIST
    assert server.requests == 1
    server.mode = "404"
    assert download_names() == path and server.requests == 1
    assert left_in(home) == [path.name], "nothing else lies in the home folder"
    assert capfd.readouterr() == ("", ""), "it is silent"


def test_download_mends_a_damaged_copy(server):
    path = download_names()
    path.write_bytes(b"damaged")
    assert download_names().read_bytes() == LIST and server.requests == 2


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("404", "404 Not Found"),
        ("cut short", "broke off"),
        ("cut short, no length", "checksum"),
        ("another file", "checksum"),
    ],
)
def test_a_failed_download_says_why_and_leaves_nothing(server, home, capfd, mode, said):
    server.mode = mode
    with pytest.raises(CourseError, match=said) as caught:
        download_names()
    assert module.NAMES_URL in str(caught.value) and "load_names()" in str(caught.value)
    assert [name.endswith(".part") for name in left_in(home)] == [True] * (mode == "cut short")
    assert capfd.readouterr() == ("", "")


def test_a_failed_download_keeps_the_older_copy(server, home):
    server.mode = "404"
    home.mkdir()
    old = home / "names_32033.txt"
    old.write_bytes(b"an older copy")
    with pytest.raises(CourseError):
        download_names()
    assert old.read_bytes() == b"an older copy" and left_in(home) == [old.name]


def test_no_connection_is_said_in_one_sentence(server, home, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        monkeypatch.setattr(module, "NAMES_URL", f"http://127.0.0.1:{unused.getsockname()[1]}/names.txt")
        with pytest.raises(CourseError, match="no connection to the server") as caught:
            download_names()
    assert "\n" not in str(caught.value) and left_in(home) == []


def test_a_home_that_cannot_be_made_is_said(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(CourseError, match="COURSE_HOME"):
        download_names()
    assert server.requests == 0


def test_a_read_only_home_is_said(server, home, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *args, **kwargs: False)
    with pytest.raises(CourseError, match="cannot write to the folder.*COURSE_HOME"):
        download_names()
    assert server.requests == 0 and list(home.iterdir()) == []


def test_a_disk_that_fails_is_said(server, home, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("course_lib.host.download.os.fsync", full)
    with pytest.raises(CourseError, match="the disk is full"):
        download_names()
    assert "names_32033.txt" not in left_in(home)


def test_importing_names_does_not_import_the_downloader():
    code = (
        "import sys, course_lib.names.bigram, course_lib.names.download; "
        "print([m for m in ('httpx', 'huggingface_hub', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_real_address_and_checksum_are_the_published_ones():
    assert module.NAMES_URL == "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt"
    assert module.NAMES_SHA256 == "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"


# The checks of the exercises: right answers pass, and the message for a wrong one teaches


def right_name_loss(name, probs, tokenizer):
    return bigram_loss(probs, [name], tokenizer)


def loss_of_part(part, name, probs, tokenizer):
    return float(np.mean([-math.log(probs[pair].item()) for pair in pairwise(tokenizer.encode(name)[part])]))


def right_best_smoothing(train_names, held_out, tokenizer, choices):
    return min(choices, key=lambda s: bigram_loss(bigram_probs(train_names, tokenizer, s), held_out, tokenizer))


def trigrams(docs, tokenizer, smoothing=1.0, starts=2, ends=1):
    counts = np.full((tokenizer.vocab_size,) * 3, smoothing)
    for doc in docs:
        ids = [tokenizer.bos] * (starts - 1) + tokenizer.encode(doc) + [tokenizer.bos] * (ends - 1)
        for triple in zip(ids, ids[1:], ids[2:], strict=False):
            counts[triple] += 1
    with np.errstate(invalid="ignore"):  # 0 / 0 with no smoothing
        return counts / counts.sum(axis=-1, keepdims=True)


def test_exercise_checks_accept_right_answers():
    exercises.name_loss(right_name_loss)
    exercises.best_smoothing(right_best_smoothing)
    exercises.trigram_probs(trigrams)
    exercises.trigram_probs(lambda *args: mx.array(trigrams(*args)))


@pytest.mark.parametrize(
    ("test", "answer", "said"),
    [
        (exercises.name_loss, lambda *args: None, "return"),
        (exercises.name_loss, lambda *args: -right_name_loss(*args), "sign"),
        (exercises.name_loss, lambda name, *rest: right_name_loss(name, *rest) * (len(name) + 1), "sum"),
        (
            exercises.name_loss,
            lambda name, *rest: right_name_loss(name, *rest) * (len(name) + 1) / len(name),
            "emma has 4 letters and makes 5 guesses",
        ),
        (
            exercises.name_loss,
            lambda name, *rest: right_name_loss(name, *rest) * (len(name) + 1) / (len(name) + 2),
            "one guess fewer",
        ),
        (exercises.name_loss, lambda *args: right_name_loss(*args) / math.log(2), "bits"),
        (exercises.name_loss, lambda *args: 1.0, "another table gives the same number"),
        (exercises.name_loss, lambda *args: right_name_loss(*args) + 1, "the loss of emma is"),
        (exercises.name_loss, lambda *args: math.exp(right_name_loss(*args)), "perplexity"),
        (exercises.name_loss, functools.partial(loss_of_part, slice(None, -1)), "the end of emma is left out"),
        (exercises.name_loss, functools.partial(loss_of_part, slice(1, None)), "the start of emma is left out"),
        (exercises.best_smoothing, lambda *args: 7, "one of the choices"),
        (exercises.best_smoothing, lambda train, held, *rest: right_best_smoothing(train, train, *rest), "has counted"),
        (
            exercises.best_smoothing,
            lambda train, held, *rest: right_best_smoothing(train + held, held, *rest),
            "count on train_names only",
        ),
        (exercises.best_smoothing, lambda train, held, *rest: right_best_smoothing(held, train, *rest), "swapped"),
        (exercises.best_smoothing, lambda train, held, tok, choices: choices[-1], "largest loss"),
        (exercises.best_smoothing, lambda train, held, tok, choices: choices[3], "does best"),
        (exercises.best_smoothing, lambda *args: 1.0, "one of the choices"),
        (exercises.trigram_probs, lambda *args: trigrams(*args)[0], "shape"),
        (exercises.trigram_probs, lambda *args: trigrams(*args) * 2, "add up to 1"),
        (exercises.trigram_probs, lambda docs, tok, s: trigrams(docs, tok), "smoothing=0.25"),
        (exercises.trigram_probs, lambda *args: trigrams(*args).transpose(2, 0, 1), "add up to 1"),
        (exercises.trigram_probs, functools.partial(trigrams, starts=1), "••o 2 times"),
        (exercises.trigram_probs, functools.partial(trigrams, ends=2), "after the end of a name"),
        (exercises.trigram_probs, lambda docs, tok, s: trigrams(docs, tok, 0), "is 0 / 0; add `smoothing`"),
    ],
)
def test_exercise_checks_teach(test, answer, said):
    with pytest.raises(AssertionError) as caught:
        test(answer)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["Anne-Marie", "O'Brien", "Jean Luc", "José", "देव", "이름", "J. R."],
            ["2 of 7 names have more than 7 characters"],
        ),
        (
            ["Mary,F,7065", "Anna,F,2604"],
            ["besides letters the names have , 0 2 4 5 6 7, as in", "2 of 2 names have more"],
        ),
        (["emma", "mia"], []),
    ],
)
def test_what_may_surprise_in_a_list_is_said(names, said):
    found = remarks(names, 8)
    assert len(found) == len(said) and all(each.startswith(words) for each, words in zip(found, said, strict=True))
