"""Documents from text, JSON lines and parquet files: every character, in order, or one sentence on what is wrong."""

import json
import os
import random
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.data import documents
from course_lib.data.documents import LONGEST, open_parquet, read_parquet
from course_lib.data.own_text import read_texts, text_files
from course_lib.host.errors import CourseError
from course_lib.host.files import write_atomically

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)
few_letters = st.text("ab \n\r\x00é🙂", max_size=200)


def written(folder: Path, data: bytes, name: str = "file.txt") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def shard(folder: Path, texts: list, name: str = "file.parquet", **options) -> Path:
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), folder / name, **options)
    return folder / name


def one_sentence(error: CourseError, *said: object) -> bool:
    text = str(error)
    return "\n" not in text and len(text) < 400 and all(str(part) in text for part in said)


def open_files(folder: Path) -> list[str]:
    """Files in `folder` that this process has open."""
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return [target for target in (os.readlink(link) for link in links if link.is_symlink()) if str(folder) in target]


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="lists open files in /proc")


# Text files


def cut_naively(text: str, longest: int) -> list[str]:
    """Where a document ends: after the last blank line that fits, else line, else space, else where it must."""
    found = []
    while len(text) > longest:
        for mark in ("\n\n", "\n", " ", ""):
            ends = [end for end in range(longest, 0, -1) if text[:end].endswith(mark) and end > len(mark)]
            if ends:
                break
        found.append(text[: ends[0]])
        text = text[ends[0] :]
    return [*found, text]


@settings(max_examples=300, deadline=None)
@given(few_letters, st.integers(3, 20))
def test_the_documents_of_a_text_file_joined_are_its_text(tmp_path_factory, text, longest):
    path = written(tmp_path_factory.getbasetemp(), text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "LONGEST", longest)
        found = list(read_texts(path))
    assert "".join(found) == text and found == cut_naively(text, longest)


def test_a_short_text_file_is_one_document_to_the_last_character(tmp_path):
    for size in (0, 1, LONGEST - 1, LONGEST):
        assert list(read_texts(written(tmp_path, b"x" * size))) == ["x" * size]
    assert [len(text) for text in read_texts(written(tmp_path, b"x" * (LONGEST + 1)))] == [LONGEST, 1]


def test_a_long_text_is_cut_after_a_blank_line(tmp_path):
    paragraphs = [f"{number} " + "word " * 700 + "\n\n" for number in range(40)]
    found = list(read_texts(written(tmp_path, "".join(paragraphs).encode())))
    assert "".join(found) == "".join(paragraphs) and len(found) > 5
    assert all(text.endswith("\n\n") and LONGEST // 2 < len(text) <= LONGEST for text in found[:-2])


@pytest.mark.parametrize("text", ["x" * 10_000_000, "é" * 5_000_000, "🙂\n" * 1_000_000], ids=["x", "é", "lines"])
def test_ten_megabytes_are_read_a_piece_at_a_time(tmp_path, text):
    found = list(read_texts(written(tmp_path, text.encode())))
    assert "".join(found) == text and max(map(len, found)) == LONGEST


def test_byte_order_mark_line_ends_and_nul(tmp_path):
    assert list(read_texts(written(tmp_path, b"\xef\xbb\xbfa\r\nb\rc\x00\n"))) == ["a\r\nb\rc\x00\n"]
    assert list(read_texts(written(tmp_path, b" \n\t "))) == [" \n\t "]


@pytest.mark.parametrize("data", [b"h\xff\xfei\x00", b"caf\xe9", b"ok " * 30_000 + b"\xc3", b"\xed\xa0\x80"], ids=repr)
def test_a_file_that_is_not_utf8_is_named(tmp_path, data):
    path = written(tmp_path, data)
    with pytest.raises(CourseError) as caught:
        list(read_texts(path))
    assert one_sentence(caught.value, path, "not UTF-8")


# JSON lines


@settings(max_examples=100, deadline=None)
@given(st.lists(any_text, max_size=8), st.booleans())
def test_each_line_of_a_jsonl_file_is_a_document(tmp_path_factory, texts, ascii_only):
    lines = "".join(json.dumps({"id": 1, "text": text}, ensure_ascii=ascii_only) + "\n" for text in texts)
    assert list(read_texts(written(tmp_path_factory.getbasetemp(), lines.encode(), "file.jsonl"))) == texts


def test_blank_lines_crlf_and_a_missing_last_line_end_do_not_matter(tmp_path):
    path = written(tmp_path, b'\n{"text": "a"}\r\n  \n\xef\xbb\xbf{"text": ""}\n{"text": "b"}', "file.jsonl")
    assert list(read_texts(path)) == ["a", "", "b"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (rb'"\ud800"', "\ufffd"),
        (rb'"a\udc00b\ud800"', "a\ufffdb\ufffd"),
        (rb'"\ud83d\ude42"', "🙂"),
        (b'"\xed\xa0\x80."', "\ufffd."),
        (rb'"\u0000"', "\0"),
    ],
)
def test_half_a_surrogate_pair_becomes_the_replacement_character(tmp_path, line, text):
    path = written(tmp_path, b'{"text": ' + line + b"}\n", "file.jsonl")
    assert list(read_texts(path)) == [text] and text.encode()


BAD_LINES = [b"text", b'["text"]', b"3", b"{}", b'{"text": ["a"]}', b'{"text": "a"', b"\xff"]
BAD_LINES += [b'{"text": "\xff"}', b"[" * 100_000, b"1" * 10_000, b'{"text": "a"} {"text": "b"}']


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: repr(line[:20]))
def test_a_line_that_is_something_else_is_named(tmp_path, line):
    path = written(tmp_path, b'{"text": "a"}\n\n' + line + b"\n", "file.jsonl")
    found = []
    with pytest.raises(CourseError) as caught:
        found.extend(read_texts(path))
    assert one_sentence(caught.value, path, "line 3", '{"text": "…"}')


# Parquet


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | any_text, max_size=40), st.integers(1, 12), st.integers(0, 45))
def test_rows_from_any_start_without_nulls(tmp_path_factory, texts, group, start):
    path = shard(tmp_path_factory.getbasetemp(), texts, row_group_size=group)
    expected = [(row, text) for row, text in enumerate(texts) if row >= start and text is not None]
    assert list(read_parquet(path, start)) == expected
    assert list(read_parquet(path)) == [(row, text) for row, text in enumerate(texts) if text is not None]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_every_kind_of_string_column_among_others_is_read(tmp_path, kind):
    table = pa.table({"id": [1, 2], "text": pa.array(["a", "b"], kind), "text2": ["x", "y"]})
    pq.write_table(table, tmp_path / "file.parquet")
    assert list(read_parquet(tmp_path / "file.parquet")) == [(0, "a"), (1, "b")]


def test_many_rows_in_one_group_and_in_many(tmp_path):
    texts = [f"document {row}" for row in range(5000)]
    for group in (1, 7, 1024, 5000):
        path = (
            shard(tmp_path, texts, row_group_size=group)
            if group > 1
            else shard(tmp_path, texts[:50], "few", row_group_size=1)
        )
        total = pq.read_metadata(path).num_rows
        for start in (0, 1, 49, 1023, 1024, 1025, 4999, 5000):
            assert list(read_parquet(path, start)) == list(enumerate(texts))[start:total]


def test_earlier_row_groups_are_not_read(tmp_path):
    path = shard(tmp_path, [f"{row} " * 50 for row in range(3000)], row_group_size=1000)
    column = pq.read_metadata(path).row_group(0).column(0)
    data = bytearray(path.read_bytes())
    first = column.dictionary_page_offset or column.data_page_offset
    data[first : first + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    assert [row for row, _ in read_parquet(path, 1500)] == list(range(1500, 3000))
    with pytest.raises(CourseError, match="damaged"):
        list(read_parquet(path, 999))


def test_one_giant_row_group_does_not_lie_in_memory_whole(tmp_path):
    path = shard(tmp_path, [f"{row} " * 200 for row in range(60_000)], row_group_size=1 << 30)
    before = pa.total_allocated_bytes()
    rows = read_parquet(path)
    next(rows)
    used, whole = pa.total_allocated_bytes() - before, pq.read_metadata(path).row_group(0).total_byte_size
    rows.close()
    assert used < 30e6 and whole > 10e6
    assert sum(1 for _ in read_parquet(path, 59_990)) == 10


def test_an_empty_shard_has_no_documents(tmp_path):
    assert list(read_parquet(shard(tmp_path, []))) == []
    assert list(read_parquet(shard(tmp_path, [None, None]))) == []


@pytest.mark.parametrize("share", [0, 0.3, 0.6, 0.999])
def test_a_truncated_parquet_file_is_named(tmp_path, share):
    path = shard(tmp_path, ["some text"] * 1000)
    data = path.read_bytes()
    for cut in {int(len(data) * share), len(data) - 1 if share > 0.99 else 3}:
        path.write_bytes(data[:cut])
        with pytest.raises(CourseError) as caught:
            open_parquet(path)
        assert one_sentence(caught.value, path, "no complete parquet file")


def test_damage_anywhere_is_a_course_error_or_is_not_seen(tmp_path):
    data = shard(tmp_path, [f"word {row} é" * 50 for row in range(3000)], row_group_size=500).read_bytes()
    path, seen = tmp_path / "damaged.parquet", 0
    for seed in range(150):
        chance, damaged = random.Random(seed), bytearray(data)
        start = chance.randrange(len(data))
        size = chance.choice([1, 16, 200])
        damaged[start : start + size] = chance.randbytes(len(data[start : start + size]))
        path.write_bytes(damaged)
        try:
            list(read_parquet(path))
        except CourseError as error:
            seen += one_sentence(error, path)
    assert seen > 75


def test_bytes_that_are_not_utf8_in_a_string_column_are_named(tmp_path):
    texts = pa.array([b"ok", b"\xff"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": texts}), tmp_path / "file.parquet")
    with pytest.raises(CourseError) as caught:
        list(read_parquet(tmp_path / "file.parquet"))
    assert one_sentence(caught.value, tmp_path / "file.parquet", "damaged")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({"content": ["a"], "id": [1]}), "content, id"),
        (pa.table({"Text": ["a"]}), "Text"),
        (pa.table([["a"], ["b"]], names=["text", "text"]), "text, text"),
        (pa.table({}), "(none)"),
        (pa.table({"text": [1, 2]}), "int64"),
        (pa.table({"text": [b"a"]}), "binary"),
        (pa.table({"text": [["a"]]}), "list"),
        (pa.table({"text": pa.array([1]).dictionary_encode()}), "int64"),
        (pa.table({"text": pa.nulls(3)}), "null"),
    ],
)
def test_a_shard_without_a_text_column_says_what_it_has(tmp_path, table, said):
    path = tmp_path / "file.parquet"
    pq.write_table(table, path)
    for read in (open_parquet, lambda path: next(read_parquet(path))):
        with pytest.raises(CourseError) as caught:
            read(path)
        assert one_sentence(caught.value, path, "`text`", said)


def test_what_the_system_refuses_is_not_called_damaged(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="missing.parquet"):
        open_parquet(tmp_path / "missing.parquet")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(documents.pq, "ParquetFile", refuse)
    with pytest.raises(PermissionError):
        open_parquet(shard(tmp_path, ["a"]))


@needs_proc
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
def test_files_are_closed_when_read_to_the_end_left_early_or_refused(tmp_path, name):
    if name == "a.parquet":
        shard(tmp_path, ["a"] * 3000, name)
    else:
        written(tmp_path, b'{"text": "a"}\n' * 10_000, name)
    list(read_texts(tmp_path / name))
    assert open_files(tmp_path) == []
    reader = read_texts(tmp_path / name)
    next(reader)
    assert open_files(tmp_path) == [str(tmp_path / name)]
    reader.close()
    assert open_files(tmp_path) == []


# Which files


def test_text_files_are_found_in_order_and_hidden_ones_left_out(tmp_path):
    names = ["b.txt", "a/z.jsonl", "a/b c/ü 🙂.parquet", "A.txt"]
    others = ["c.doc", ".d.txt", ".hidden/e.txt", "a/.f.jsonl", "txt", "g.parquet.gz"]
    for name in names + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        written(tmp_path, b"x", name)
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "gone.txt").symlink_to(tmp_path / "missing")
    (tmp_path / "link.txt").symlink_to(tmp_path / "A.txt")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert text_files(tmp_path) == sorted(tmp_path / name for name in [*names, "link.txt"])
    assert text_files(tmp_path / "b.txt") == [tmp_path / "b.txt"]
    assert text_files(tmp_path / ".hidden") == [tmp_path / ".hidden/e.txt"], "asked for by its name"


def test_endings_in_capitals_are_known(tmp_path):
    written(tmp_path, b"loud", "README.TXT")
    assert text_files(tmp_path) == [tmp_path / "README.TXT"]


@pytest.mark.parametrize("name", ["empty", "c.doc", "others"])
def test_nothing_usable_is_one_sentence(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "others").mkdir()
    written(tmp_path, b"x", "c.doc")
    written(tmp_path, b"x", "others/notes.doc")
    with pytest.raises(CourseError) as caught:
        text_files(tmp_path / name)
    assert one_sentence(caught.value, tmp_path / name, ".txt, .md, .rst, .jsonl, .json, .csv")


# Files written whole or not at all


def test_a_file_is_replaced_only_when_all_went_well(tmp_path):
    path = written(tmp_path, b"old")
    with write_atomically(path) as part:
        part.write("new\x00")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new\x00" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_any_error_leaves_the_old_file_and_no_part(tmp_path, error):
    path = written(tmp_path, b"old")
    for target in (path, tmp_path / "new.txt"):
        with pytest.raises(error), write_atomically(target) as part:
            part.write("half")
            raise error
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_take_the_place_leaves_no_part(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError), write_atomically(tmp_path / "folder"):
        pass
    with pytest.raises(FileNotFoundError), write_atomically(tmp_path / "missing" / "file"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_two_writers_at_once_do_not_mix(tmp_path):
    path = tmp_path / "file"
    with write_atomically(path) as one, write_atomically(path) as other:
        one.write("1" * 1000)
        other.write("2" * 10)
    assert path.read_bytes() == b"1" * 1000 and list(tmp_path.iterdir()) == [path]


@needs_proc
def test_writers_leave_no_file_open(tmp_path):
    for _ in range(5):
        with write_atomically(tmp_path / "file"):
            assert open_files(tmp_path) != []
        with pytest.raises(ValueError), write_atomically(tmp_path / "file"):
            raise ValueError
    assert open_files(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read")
def test_a_file_without_permission_is_an_oserror(tmp_path):
    path = shard(tmp_path, ["a"])
    path.chmod(0)
    with pytest.raises(PermissionError):
        open_parquet(path)
