"""A learner's own copy of the notebooks: what `course start` writes and what `course progress` reads."""

import json
import platform

import nbformat
import pytest

from course_lib.authoring import check, cli, learner
from course_lib.authoring.tree import Pair, all_pairs, read_text
from course_lib.host.errors import CourseError


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def own(tmp_path, checkout):
    """A folder with a copy of the course."""
    learner.start(tmp_path / "own", checkout)
    return tmp_path / "own"


def test_a_copy_is_whole_and_its_links_lead_somewhere(own, checkout):
    for pair in all_pairs(checkout):
        copy, original = (json.loads((at / f"{pair.name}.ipynb").read_text()) for at in (own, checkout / "notebooks"))
        assert copy["metadata"]["language_info"].pop("version") == platform.python_version()
        original["metadata"]["language_info"].pop("version")
        assert copy == original
        for cell in read_text(pair).cells if pair.text.exists() else []:
            for target in check._targets(cell.source) if cell.cell_type == "markdown" else []:
                if not check.OUTSIDE.match(target):
                    assert ((own / f"{pair.name}.ipynb").parent / target.partition("#")[0]).is_file(), target
    assert not (own / "text").exists() and not (own / "ruff.toml").exists()


def test_what_is_there_stays_and_what_is_missing_comes_back(own, checkout):
    (own / "03_microgpt.ipynb").write_text("mine")
    (own / "04_batches.ipynb").unlink()
    before = files(own)
    line = learner.start(own, checkout)
    assert line.startswith(f"copied 1 file to {own}: open it with `uv run jupyter lab {own}`; ")
    after = files(own)
    assert set(after) - set(before) == {(own / "04_batches.ipynb").relative_to(own)}
    assert all(after[name] == content for name, content in before.items())


def save(own, name, **printed):
    """Give the checks of a chapter these outputs, by the exercise's name."""
    notebook = nbformat.read(own / f"{name}.ipynb", 4)
    for cell in notebook.cells:
        for exercise, output in printed.items():
            if f"check(exercises.{exercise}," in cell.source:
                cell.outputs = [output]
    nbformat.write(notebook, own / f"{name}.ipynb")


def said(text):
    return nbformat.v4.new_output("stream", text=f"{text}\n")


def test_progress_reads_what_was_saved(own):
    save(
        own,
        "00_start_here",
        standardise=said("\x1b[1;32m✓ standardise: correct\x1b[0m. What does it make of …?"),
        count_parameters=said("✗ count_parameters: you counted 3, it is 15"),
        softcap=said("✓ softcap: correct"),
    )
    save(own, "13_conversations", own_conversation=nbformat.v4.new_output("error", ename="SyntaxError", evalue="no"))
    lines = list(learner.progress(own))
    assert lines[0].split("  ") == [
        *lines[0].split("  ")[:-4],
        "✓ 0.1 standardise",
        "✗ 0.2 count the parameters",
        "✓ 0.3 a soft cap",
        "○ 0.4 your own training loop",
    ]
    assert "2 of 4" in lines[0] and any(line.endswith("✗ 13.3 each conversation by itself") for line in lines)
    assert lines[-1].startswith("2 of ") and len(lines) == 1 + len(list(own.glob("*.ipynb")))


def test_every_exercise_of_the_course_is_counted(own, checkout):
    chapters = [pair for pair in all_pairs(checkout) if not pair.is_solution]
    for pair, line in zip(chapters, learner.progress(own), strict=False):
        headings = sum(cell.source.count("### Exercise") for cell in read_text(pair).cells)
        assert line.count("○") >= headings > 0, line


def test_problems_are_one_sentence(tmp_path, own):
    with pytest.raises(CourseError, match="no notebooks of the course in .*; `uv run course start"):
        list(learner.progress(tmp_path / "nowhere"))
    with pytest.raises(CourseError, match="no notebooks under"):
        learner.start(tmp_path / "other", tmp_path)
    (own / "05_tokenizer.ipynb").write_text("<<<<<<< mine")
    with pytest.raises(CourseError, match="05_tokenizer.ipynb is no notebook"):
        list(learner.progress(own))


def test_the_command_copies_to_the_folder_mine_which_git_ignores(tmp_path, checkout, monkeypatch, capsys):
    course = tmp_path / "course"
    (course / "notebooks").mkdir(parents=True)
    (course / "notebooks" / "03_microgpt.ipynb").write_text(Pair(checkout, "03_microgpt").notebook.read_text())
    monkeypatch.setattr(cli, "CHECKOUT", course)
    monkeypatch.chdir(course)
    monkeypatch.setenv("HOME", str(tmp_path))
    for argv in (["start"], ["progress"], ["start", "~/else"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(argv)
        assert caught.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("copied 1 file to mine: open it") and "0 of 4 exercises solved in mine" in out
    assert (course / "mine" / "03_microgpt.ipynb").exists() and (tmp_path / "else" / "03_microgpt.ipynb").exists()
    for argv in (["start", ""], ["progress", "~no-such-user/x"]):
        with pytest.raises(SystemExit, match="^course: .*give one that does|home folder"):
            cli.main(argv)
    assert "/mine/" in (checkout / ".gitignore").read_text().splitlines()
