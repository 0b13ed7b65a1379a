"""Text as people have it: every form is read whole, what is left out is said, and nothing large does harm."""

import csv
import gzip
import io
import json
import os
import random
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from course_lib.data.dataset import open_dataset
from course_lib.host.errors import CourseError
from course_lib.scripts import tok_train

TEXTS = [f'Text {number}, with "marks"; ü 🙂\n\tand\r\nlines.' for number in range(30)] + ["x, [y] {z}"]


def read(path: Path) -> list[str]:
    dataset = open_dataset(str(path))
    return sorted(text for split in ("train", "val") for text in dataset.documents(split))


def refused(path: Path) -> str:
    with pytest.raises(CourseError) as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500
    return str(caught.value)


def table(mark: str) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=mark)
    writer.writerows([["id", "text", "more"], *([number, text, ""] for number, text in enumerate(TEXTS))])
    return out.getvalue()


def objects(**options) -> list[str]:
    return [json.dumps({"id": 1, "text": text, "more": [{}]}, **options) for text in TEXTS]


FORMS = {
    "lines.jsonl": "\n".join(objects()),
    "lines.json": "\r\n".join(objects(ensure_ascii=False)) + "\n\n",
    "pretty.json": "\n".join(objects(indent=2)),
    "array.json": "\ufeff\n [" + ",\n ".join(objects(indent=1)) + "\n]\n",
    "array.jsonl": f"[{','.join(objects())}]",
    "strings.json": json.dumps(TEXTS),
    "comma.csv": table(","),
    "semicolon.csv": "\ufeff" + table(";"),
    "tab.TSV": table("\t"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["", "gz"])
@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_table_gives_the_same_texts(tmp_path, home, name, packed):
    data = FORMS[name].encode()
    path = tmp_path / (name + ".gz" if packed else name)
    path.write_bytes(gzip.compress(data) if packed else data)
    assert read(path) == sorted(TEXTS)


@pytest.mark.parametrize("ending", ["txt", "md", "rst", "MD", "txt.gz", "md.GZ"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_plain_text_keeps_every_character(tmp_path, home, ending, encoding):
    text = "".join(f"Paragraph {number} é 🙂.\r\n\n" for number in range(2000))
    path, data = tmp_path / f"a.{ending}", text.encode(encoding)
    path.write_bytes(gzip.compress(data) if ending.lower().endswith("gz") else data)
    found = read(path)
    assert sorted("".join(found)) == sorted(text) and len(found) > 3 and max(map(len, found)) <= 10_000


def test_an_array_larger_than_a_chunk_is_read_a_piece_at_a_time(tmp_path, home, monkeypatch):
    from course_lib.data import own_text

    values = [{"text": f"{number} \\ ] , é 🙂" * (number % 40)} for number in range(400)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(values, indent=2))
    expected = [value["text"] for value in values]
    for chunk in (1, 7, 100, 4096, 1 << 20):
        monkeypatch.setattr(own_text, "CHUNK", chunk)
        assert list(own_text.read_texts(path)) == expected
    path.write_text(json.dumps([{"text": "word " * 200}] * 20_000))
    monkeypatch.setattr(own_text, "CHUNK", 100_000)
    tracemalloc.start()
    assert sum(1 for _ in own_text.read_texts(path)) == 20_000
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


def test_rows_without_a_text_are_skipped_and_counted(tmp_path, home, capsys):
    rows = [*TEXTS, None, None]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in rows)
    array = pa.array(rows)
    pq.write_table(pa.table({"text": array}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": array.dictionary_encode()}), tmp_path / "dictionary.parquet")
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.json").write_text(json.dumps([{"text": text} for text in rows]))
    (tmp_path / "a.csv").write_text('text,id\n"a",1\nb,2\n')
    for name in ("a.parquet", "dictionary.parquet", "a.jsonl", "a.json"):
        assert read(tmp_path / name) == sorted(TEXTS)
        ending = name.partition(".")[2]
        assert capsys.readouterr().out == f"{name}: read 1 .{ending}; skipped 2 rows without a text\n"
    assert read(tmp_path / "a.csv") == ["a", "b"] and capsys.readouterr().out == "", "nothing was left out"


@pytest.fixture
def notes(tmp_path) -> Path:
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    for number in range(29):
        (folder / ("deep" if number % 2 else "") / f"{number}.md").write_text(f"Note {number}")
    (folder / "requirements.txt").write_text("numpy\n")
    return folder


def test_a_folder_says_what_was_read_and_what_left_out(notes, home, capsys):
    whole = read(notes)
    assert len(whole) == 30 and capsys.readouterr().out == "notes: read 29 .md, 1 .txt\n"
    others = {
        "a.png": b"\x89PNG",
        "deep/b.PNG": b"",
        "LICENSE": b"free",
        "package.json": b'{\n "name": "notes"\n}',
        "numbers.json": b"[1, 2]",
        "counts.csv": b"name,count\na,1\n",
        ".hidden.txt": b"not counted",
    }
    for name, data in others.items():
        (notes / name).write_bytes(data)
    (notes / "0.md").write_text("Note zero")  # else nothing would be made anew
    assert len(read(notes)) == 30
    said = capsys.readouterr().out
    assert said.startswith("notes: read 29 .md, 1 .txt; left out 6 files: ") and said.count("\n") == 1
    assert all(part in said for part in ("2 .png (a.png, …)", "1 without an ending (LICENSE)"))
    assert all(
        part in said for part in ("2 .json without a text (numbers.json, …)", "1 .csv without a text (counts.csv)")
    )
    (notes / "broken.json").write_text('[{"text": "a"},\n{"text": "b"},]')
    with pytest.raises(CourseError, match=r"broken\.json, line 2: Illegal trailing comma"):
        read(notes)


def test_links_out_of_the_folder_are_left_out_and_said(notes, home, tmp_path, capsys):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.txt").write_text("a secret")
    for name, target in (("l.txt", tmp_path / "secret/key.txt"), ("far", tmp_path / "secret"), ("up", notes.parent)):
        (notes / name).symlink_to(target)
    (notes / "relative.md").symlink_to("../secret/key.txt")
    (notes / "inside.txt").symlink_to("requirements.txt")
    (notes / "round").symlink_to(".")
    (notes / "gone.txt").symlink_to("missing")
    found = read(notes)
    said = capsys.readouterr().out
    assert "a secret" not in found and found.count("numpy\n") == 2, "a link inside is a file like others"
    assert "left out 5 files: 4 linked from elsewhere (l.txt, …), 1 not a file (gone.txt)" in said
    (tmp_path / "folder").symlink_to(notes)
    assert read(tmp_path / "folder") == found, "the folder itself may be a link"
    only = tmp_path / "only"
    only.mkdir()
    (only / "l.txt").symlink_to(tmp_path / "secret/key.txt")
    assert "1 linked from elsewhere (l.txt)" in refused(only)


@pytest.mark.parametrize("name", [b"\x1b[31mred\n.txt", b"\xff\x9b2J.txt", "\u202egpj.txt".encode()])
def test_names_of_files_cannot_write_to_the_terminal(tmp_path, home, capfd, name):
    folder = tmp_path / "notes"
    folder.mkdir()
    for file in (b"1" + name, b"2" + name, name + b".pdf"):
        (folder / os.fsdecode(file)).write_text(f"text {file!r} " * 3000)
    tok_train.main(["--dataset", str(folder), "--vocab-size", "300"])
    with pytest.raises(SystemExit):
        tok_train.main(["--dataset", str(folder / os.fsdecode(name + b".pdf"))])
    read(folder / os.fsdecode(b"1" + name))
    out, error = capfd.readouterr()
    assert "1 .pdf" in out and ".pdf" in error
    assert all(char.isprintable() or char == "\n" for char in out + error)


BAD = {
    "a.jsonl": [
        ('{"text": "a"}\n{"text": "b",}', "line 2", "property name"),
        ('{"text": "a"},\n{"text": "b"}', "line 1", "Extra data at character 14"),
        ('{"text": "a"}\n{"txt": "b"}', "line 2", 'found {"txt": "b"}'),
        ('[{"role": "user", "content": "a"}]\n' * 2, "line 1", 'found {"role": "user"'),
        ('{"text": "a"}\n[{"text": "b"}]', "line 2", "found ["),
    ],
    "a.json": [
        ('[{"text": "a"},\n{"text": "b"},\n]', "line 3", "Illegal trailing comma"),
        ('[{"text": "a"}\n{"text": "b"}]', "line 2", "Expecting ',' delimiter"),
        ('[{"text": "a"},\n\n{"text": "b"}', "line 3", "the array does not end"),
        ('[{"text": "a"},\n{"text": "b"}]]', "line 2", "more after the end"),
        ('[\n{"text": "a"},\n{"text": 3}]', "line 3", 'found {"text": 3}'),
        ('{"text": "a"}\n\n{"text": "b}', "line 3", "Unterminated string"),
        ("[" * 100_000, "line 1", "recursion"),
    ],
    "a.csv": [
        ("body,id\na,1\n", "the columns body, id"),
        ("text,text\na,1\n", "the columns text, text"),
        ("", "the columns (none)"),
        ('id,text\n1,a\n2,"b\nc\n', "line 3", "unexpected end"),
    ],
    "a.txt.gz": [("no gzip", "no whole gzip file")],
    "a.pdf": [("text", "by its ending", ".md")],
}


@pytest.mark.parametrize(
    ("name", "data", "said"), [(name, data, said) for name, cases in BAD.items() for data, *said in cases]
)
def test_what_is_wrong_is_said_with_its_line_and_reason(tmp_path, home, name, data, said):
    (tmp_path / name).write_text(data)
    message = refused(tmp_path / name)
    assert all(part in message for part in said), message


def test_damaged_gzip_files_are_named(tmp_path, home):
    whole = gzip.compress("\n".join(objects()).encode() * 50)
    for number, data in enumerate((whole[:-1], whole[:40], whole[:60] + b"\xff" * 9 + whole[69:], b"")):
        (tmp_path / f"{number}.jsonl.gz").write_bytes(data)
        assert ("gzip" if data else "too little") in refused(tmp_path / f"{number}.jsonl.gz")


def a_book(path: Path) -> None:
    path.write_bytes(gzip.compress(b"word " * 200_000))


def a_repeated_row(path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["x" * 10_000]))
    pq.write_table(pa.table({"text": column}), path, compression="zstd", store_schema=False)


def a_giant_row(path: Path) -> None:
    pq.write_table(pa.table({"text": ["x" * 1_000_000, "y"]}), path, compression="zstd", use_dictionary=False)


def a_giant_line(path: Path) -> None:
    path.write_text('{"text": "a"}\n{"text": "' + "x" * 1_000_000 + '"}\n')


def a_giant_field(path: Path) -> None:
    path.write_text('text\na\n"' + "x" * 1_000_000 + '"\n')


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.txt.gz", a_book),
        ("repeated.parquet", a_repeated_row),
        ("giant.parquet", a_giant_row),
        ("a.jsonl", a_giant_line),
        ("a.json", a_giant_line),
        ("a.csv", a_giant_field),
    ],
)
def test_what_would_fill_the_memory_is_refused_up_to_a_limit_that_can_be_raised(
    tmp_path, home, monkeypatch, name, make
):
    monkeypatch.setenv("COURSE_MAX_CHARS", "100000")
    make(tmp_path / name)
    said = refused(tmp_path / name)
    assert "COURSE_MAX_CHARS" in said and "100,000 characters" in said
    monkeypatch.setenv("COURSE_MAX_CHARS", "30000000")
    assert sum(map(len, read(tmp_path / name))) >= 999_000
    for wrong in ("-1", "many", "0", "9" * 30):
        monkeypatch.setenv("COURSE_MAX_CHARS", wrong)
        (tmp_path / "b.jsonl").write_text('{"text": "a"}\n')
        with pytest.raises(CourseError, match=f"COURSE_MAX_CHARS={wrong}; expected"):
            read(tmp_path / "b.jsonl")


def test_a_tokenizer_for_one_text_file_reads_all_of_it(tmp_path, home, capsys):
    """As long as the plays that everyone tries first: 1.1 million characters."""
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghijklmnoprstuvw", k=chance.randint(2, 8))) for _ in range(2000)]
    lines = (" ".join(chance.choices(words, k=8)) + ("\n\n" if chance.random() < 0.2 else "\n") for _ in range(25_000))
    text = "".join(lines)[:1_115_394]
    (tmp_path / "plays.txt").write_text(text)
    tok_train.main(["--dataset", str(tmp_path / "plays.txt")])
    out = capsys.readouterr().out
    train = sum(map(len, open_dataset(str(tmp_path / "plays.txt")).documents("train")))
    assert f"{train:,} characters" in out and train > 0.9 * len(text) and "vocabulary        1,024 tokens" in out
