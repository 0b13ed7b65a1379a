"""What the documents promise: tables that render, links, names and flags that exist, the machines that MLX runs on."""

import importlib
import re
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt

from course_lib.authoring import cli, rooms, rules
from course_lib.authoring.tree import all_pairs, read_text

CHECKOUT = Path(__file__).resolve().parents[1]
GUIDES = sorted(f"docs/{path.name}" for path in (CHECKOUT / "docs").glob("*.md"))
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "data/README.md", "dev/LOG.md", *GUIDES]
TEXTS = {name: (CHECKOUT / name).read_text("utf-8") for name in DOCUMENTS}
PROGRAMS = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]


def parsed(text):
    return MarkdownIt("gfm-like", {"linkify": False}).parse(text)  # as GitHub reads it


def tables(text):
    """The rendered tables of a text: lists of rows, rows of cells in Markdown."""
    found = []
    for token, following in zip(parsed(text), parsed(text)[1:], strict=False):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("th_open", "td_open"):
            found[-1][-1].append(following.content)
    return found


def commands(program):
    """What the documents' blocks and spans of code give to a program, without comments."""
    tokens = [token for text in TEXTS.values() for token in parsed(text)]
    code = [line for token in tokens if token.type == "fence" for line in token.content.splitlines()]
    code += [part.content for token in tokens for part in token.children or [] if part.type == "code_inline"]
    lines = [command.split("#")[0].strip() for line in code for command in line.split("&&")]
    found = [re.search(rf"(?:^|uv run |-m course_lib\.scripts\.){program}($| .*)", line) for line in lines]
    return [match[1].strip() for match in found if match]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_row_of_a_table_is_left_outside_it(name):
    tokens = parsed(TEXTS[name])
    prose = [
        following.content
        for token, following in zip(tokens, tokens[1:], strict=False)
        if token.type in ("paragraph_open", "heading_open")
    ]
    assert [text for text in prose if re.search(r"^\||\|$", text, re.MULTILINE)] == []
    for table in tables(TEXTS[name]):
        assert len({len(row) for row in table}) == 1


def test_each_chapter_has_a_row_with_the_minutes_of_its_header():
    rows = [row for table in tables(TEXTS["README.md"]) if "goal" in table[0] for row in table[1:]]
    chapters = [pair for pair in all_pairs(CHECKOUT) if not pair.is_solution]
    assert [row[0] for row in rows] == [pair.number for pair in chapters]
    for row, pair in zip(rows, chapters, strict=True):
        head = rules.header(pair)
        assert f"({pair.show(pair.notebook)})" in row[1] and row[3] == f"{head.reading} + {head.exercises} min"
    parts = re.findall(r"^### Part ([IV]+) ", TEXTS["README.md"], re.MULTILINE)
    assert parts == ["I", "II", "III", "IV"], "each part has a heading and a table of its own"


def test_the_readme_says_what_the_largest_chapter_needs_and_how_long_all_of_them_are():
    chapters = [pair for pair in all_pairs(CHECKOUT) if not pair.is_solution]
    texts = [rules.prose(read_text(pair).cells) for pair in chapters]
    sizes = [re.search(r"^\| Memory \| under ([\d.]+) (MB|GB) \|", text, re.MULTILINE).groups() for text in texts]
    most = max(float(number) / (1 if unit == "GB" else 1000) for number, unit in sizes)
    rows = {row[0]: row[1] for table in tables(TEXTS["README.md"]) for row in table}
    assert rows["Memory"] == f"under {most:g} GB"
    heads = [rules.header(pair) for pair in chapters]
    reading, exercises = sum(head.reading for head in heads), sum(head.exercises for head in heads)
    said = re.search(r"(\d+) chapters: about (\d+) hours to read, (\d+) for the exercises", rows["Time"])
    assert int(said[1]) == len(chapters)
    assert abs(int(said[2]) * 60 - reading) <= 30 and abs(int(said[3]) * 60 - exercises) <= 30


def test_the_readme_is_read_in_a_few_minutes():
    text, tables_of_chapters = TEXTS["README.md"], re.compile(r"<!-- chapters.*<!-- end of the chapters -->", re.DOTALL)
    assert len(tables_of_chapters.sub("", text).split()) < 1000


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_inside_lead_to_files(name):
    for token in parsed(TEXTS[name]):
        for part in token.children or []:
            target = unquote(str(part.attrGet("href") or part.attrGet("src") or ""))
            if target and not re.match("[a-z]+:", target):
                assert ((CHECKOUT / name).parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_and_names_that_a_document_mentions_exist(name):
    for path in re.findall(r"\b(?:course_lib|notebooks|tests|data|dev|docs)/[\w/.]*\w", TEXTS[name]):
        if not re.search(r"NN|name\.|data/experiments", path):
            assert (CHECKOUT / path).exists(), path
    for dotted in re.findall(r"\bcourse_lib(?:\.\w+)+", TEXTS[name]):
        *module, last = dotted.split(".")
        try:
            importlib.import_module(dotted)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(".".join(module)), last), dotted


def test_the_guide_lists_every_program():
    (table,) = [table for table in tables(TEXTS["docs/programs.md"]) if table[0][0] == "program"]
    assert {re.search(r"uv run (\w+)", row[0])[1] for row in table[1:]} == set(PROGRAMS) - {"course"}


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_flags_in_the_documents_exist(program, capsys):
    given = commands(program)
    assert given
    if program == "course":
        for rest in filter(None, given):
            cli.parser().parse_args(rest.split())
        return
    module, main = PROGRAMS[program].split(":")
    with pytest.raises(SystemExit):
        getattr(importlib.import_module(module), main)(["--help"])
    known = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", capsys.readouterr().out))
    assert {flag for rest in given for flag in re.findall(r"(?<!\S)--?[a-z][\w-]*", rest)} <= known


def test_the_rooms_of_the_contributors_are_those_that_the_check_knows():
    (table,) = [table for table in tables(TEXTS["CONTRIBUTING.md"]) if table[0][0] == "room"]
    listed = [re.sub(r"`|/|\.py", "", row[0]) for row in table[1:]]
    assert listed == [*rooms.ROOMS, *rooms.WORKSHOPS]
    for row in table[1:]:
        assert (row[1] == "by hand") == (re.sub(r"`|/|\.py", "", row[0]) in rooms.BY_HAND)


@pytest.mark.parametrize("what", ["cells", "lines of code", "words"])
def test_the_limits_of_the_contributors_are_those_that_the_check_knows(what):
    assert f"{rules.LIMITS[what]:,} {what}" in TEXTS["CONTRIBUTING.md"]


@pytest.mark.skipif(sys.platform != "linux", reason="only wheels for Linux name a glibc")
def test_the_guide_names_the_glibc_that_mlx_needs():
    for name in ("mlx", "mlx-cpu"):
        tag = re.search(r"Tag: \S*manylinux_(\d+)_(\d+)_", distribution(name).read_text("WHEEL"))
        assert f"glibc {tag[1]}.{tag[2]} or newer" in TEXTS["docs/machines.md"]
