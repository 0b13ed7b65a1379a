"""What notebooks use: growing classes, budgets, exercise checks, live curves, the loss log, claims, experiments."""

import re

import matplotlib.pyplot as plt
import mlx.core as mx
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from course_lib.classroom import (
    LiveCurve,
    add_to,
    budget,
    cells,
    check,
    check_solution,
    claim,
    command_line,
    experiments,
    live_curve,
    loss_log,
    stored,
)
from course_lib.classroom.live_curve import running_mean
from course_lib.host.errors import CourseError


def test_a_class_grows():
    class Thing:
        pass

    @add_to(Thing)
    def double(self, x):
        return 2 * x

    @add_to(Thing)
    @property
    def half(self):
        return 0.5

    @add_to(Thing)
    @classmethod
    def made(cls):
        return cls()

    assert Thing().double(2) == 4 and Thing().half == 0.5 and isinstance(Thing.made(), Thing)
    assert double.__qualname__.endswith("Thing.double")


@pytest.mark.parametrize("value, steps", [("1", 5), ("0", 500), ("", 500), (None, 500)])
def test_budget_is_short_only_when_asked(monkeypatch, value, steps):
    monkeypatch.delenv("COURSE_QUICK", raising=False)
    if value is not None:
        monkeypatch.setenv("COURSE_QUICK", value)
    assert budget(500, quick=5) == steps


def test_flags_come_from_the_shell_outside_a_notebook(monkeypatch):
    monkeypatch.setattr("sys.argv", ["script.py", "--steps", "3"])
    assert command_line(["--quiet"]) == ["--steps", "3"]
    monkeypatch.setattr(cells, "in_notebook", lambda: True)
    assert command_line(["--quiet"]) == ["--quiet"]


def doubles(answer):
    assert answer(2) == 4, "twice 2 is 4"


def unwritten(x):
    raise NotImplementedError


def wrong(x):
    return x


def broken(x):
    return x / 0


def wordless(x):
    raise AssertionError  # pytest gives words to an assert that has none


def right(x):
    return 2 * x


def doubles_twice(answer):
    assert answer(answer(2)) == 8
    return "Now three times."


class Broken:
    def __call__(self, x):
        return [][x]


def test_a_verdict_names_the_line_of_ones_own_code_and_what_to_look_at_next(capsys):
    for answer in (broken, Broken(), right):
        check(doubles_twice, answer)
    check(lambda made: made()(2), Broken)
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"✗ broken: it raised ZeroDivisionError: division by zero \(line \d+: return x / 0\)", lines[0])
    assert lines[1].endswith("IndexError: list index out of range"), "an object of a class tells no source"
    assert lines[2] == "✓ right: correct. Now three times."
    assert lines[3].endswith("(line " + str(Broken.__call__.__code__.co_firstlineno + 1) + ": return [][x])")


FAILED = "✗ double: the cell that defines it failed when you ran it last; mend it and run it again"
CELLS = {
    "from course_lib.classroom import check\ndef test(f):\n    assert f(2) == 4, 'twice 2 is 4'": "",
    "def double(x):\n    y = x\n    return y / 0": "",
    "check(test, double)": "✗ double: it raised ZeroDivisionError: division by zero (line 3: return y / 0)",
    "def double(x):\n    return 3 * x)": "SyntaxError",
    "check(test, double) # after": FAILED,
    "def double(x):\n    return 3 * x": "",
    "check(test, double) # mended": "✗ double: twice 2 is 4",
    "1 / 0\ndef double(x):\n    return 2 * x": "ZeroDivisionError",
    "check(test, double) # not reached": FAILED,
    "def double(x):\n    return 2 * x\n\ncheck(test, double)": "✓ double: correct",
}


@pytest.mark.slow
def test_in_a_notebook_a_verdict_has_a_colour_and_is_never_on_a_definition_that_was_replaced():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(notebook, kernel_name="python3", allow_errors=True, timeout=120).execute()
    for cell, expected in zip(notebook.cells, CELLS.values(), strict=True):
        shown = "".join(output.get("text") or output.ename for output in cell.outputs)
        assert re.sub(r"\x1b\[[\d;]*m", "", shown).strip() == expected
        assert expected[:1] not in ("✗", "✓") or shown.startswith("\x1b[1;3"), "bold and in colour"


@pytest.mark.parametrize(
    "answer, line",
    [
        (unwritten, "○ unwritten: not written yet"),
        (wrong, "✗ wrong: twice 2 is 4"),
        (broken, "✗ broken: it raised ZeroDivisionError: division by zero"),
        (wordless, "✗ wordless: an assertion of the check failed"),
        (right, "✓ right: correct"),
    ],
)
def test_checks_print_what_to_know_and_only_solutions_must_pass(capsys, answer, line):
    check(doubles, answer)
    assert capsys.readouterr().out.startswith(line)
    if answer is right:
        check_solution(doubles, answer)
    else:
        with pytest.raises(AssertionError):
            check_solution(doubles, answer)


@pytest.mark.parametrize("holds", [True, np.float32(3) > 2, mx.array(3.0) > 2])
def test_a_claim_that_holds_is_printed(monkeypatch, capsys, holds):
    monkeypatch.setenv("COURSE_QUICK", "0")
    claim("3 is more than 2", holds)
    assert capsys.readouterr().out == "✓ 3 is more than 2\n"


@pytest.mark.parametrize("holds", [False, np.float32(3) < 2, mx.array(3.0) < 2, float("nan") > 0])
def test_a_false_claim_ends_a_full_run_and_no_quick_one(monkeypatch, capsys, holds):
    claim("2 is more than 3", holds)
    monkeypatch.setenv("COURSE_QUICK", "0")
    with pytest.raises(AssertionError, match="2 is more than 3"):
        claim("2 is more than 3", holds)
    claim("3 is more than 2", not holds)
    out = "· 2 is more than 3 (quick run: not judged)\n✓ 3 is more than 2\n"
    assert capsys.readouterr().out == out


@pytest.mark.parametrize("holds", [0.2, None, "yes", mx.array(0.2)])
def test_a_claim_wants_a_comparison(holds):
    with pytest.raises(TypeError, match="expected True or False"):  # in a quick run too
        claim("attention helps", holds)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder of its own, in a full run."""
    monkeypatch.setattr(experiments, "data_dir", lambda: tmp_path)
    monkeypatch.setenv("COURSE_QUICK", "0")
    return tmp_path


def ladder():
    """An experiment as a chapter has it: steps and seeds come from the budget."""
    for seed in range(budget(3, quick=1)):
        steps, loss = budget(400, quick=2), mx.array(2.5) + seed
        yield {"seed": seed, "steps": steps, "model": "4, with heads", "loss": loss, "better": seed > 1}


def rows(seeds, steps):
    def row(seed):
        return {"seed": seed, "steps": steps, "model": "4, with heads", "loss": 2.5 + seed, "better": seed > 1}

    return [row(seed) for seed in range(seeds)]


def test_an_experiment_is_computed_once_and_then_read(data, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_EXPERIMENTS", "1")
    assert stored("ladder", ladder) == rows(3, 400)
    text = (data / "experiments" / "ladder.csv").read_text()
    about, columns = text.splitlines()[:2]
    assert re.match(r"# measured on \d{4}-\d\d-\d\d in \d+ s: \w+ \w+, \d+ cores, mlx \d", about)
    assert columns == "seed,steps,model,loss,better" and text.count("\n") == 5
    monkeypatch.setenv("COURSE_EXPERIMENTS", "0")
    capsys.readouterr()
    assert stored("ladder", lambda: pytest.fail("computed again")) == rows(3, 400)
    assert capsys.readouterr().out == f"ladder: {about.removeprefix('# ')}\n"


def test_a_quick_run_computes_a_small_version_and_keeps_nothing(data, monkeypatch):
    monkeypatch.setenv("COURSE_EXPERIMENTS", "1")
    monkeypatch.setenv("COURSE_QUICK", "1")
    assert stored("ladder", ladder) == rows(1, 2) and list(data.iterdir()) == []
    monkeypatch.setenv("COURSE_QUICK", "0")
    stored("ladder", ladder)
    before = (data / "experiments" / "ladder.csv").read_bytes()
    monkeypatch.setenv("COURSE_QUICK", "1")
    assert stored("ladder", ladder) == rows(1, 2)
    assert (data / "experiments" / "ladder.csv").read_bytes() == before


def test_a_quick_run_sees_that_the_cell_makes_other_columns_than_the_file_has(data, monkeypatch):
    monkeypatch.setenv("COURSE_EXPERIMENTS", "1")
    stored("ladder", ladder)
    monkeypatch.setenv("COURSE_QUICK", "1")
    with pytest.raises(CourseError, match="ladder.csv has other columns"):
        stored("ladder", lambda: [{"seed": 0, "steps": 1, "bits": 0.5}])


def test_a_missing_experiment_is_one_sentence(data):
    with pytest.raises(
        CourseError, match="data/experiments/ladder.csv is missing; `course run --experiments`"
    ) as caught:
        stored("ladder", ladder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "made", [[], [{"loss": 1.0}], [{"seed": 0, "loss": 1.0}], [*rows(1, 2), {"seed": 1, "steps": 2}]]
)
def test_an_experiment_says_seeds_and_steps(data, monkeypatch, made):
    monkeypatch.setenv("COURSE_EXPERIMENTS", "1")
    with pytest.raises(CourseError, match="seed and steps among them"):
        stored("ladder", lambda: made)
    assert not (data / "experiments" / "ladder.csv").exists()


def test_an_experiment_that_fails_leaves_the_file_as_it_was(data, monkeypatch):
    monkeypatch.setenv("COURSE_EXPERIMENTS", "1")
    stored("ladder", ladder)
    before = (data / "experiments" / "ladder.csv").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError):
        stored("ladder", ladder)
    assert [path.read_bytes() for path in (data / "experiments").iterdir()] == [before]


def test_running_mean():
    assert running_mean([1.0, 3.0, 5.0, 7.0], 2) == [1.0, 2.0, 4.0, 6.0]


def test_a_live_curve_draws_once_outside_a_notebook():
    curve = LiveCurve(references={"bigram": 2.5}, window=2)
    for step, value in enumerate([3.0, 2.0, 1.0]):
        curve.add(step, value)
    assert not plt.get_fignums()
    axes = curve.figure().axes[0]
    assert list(axes.lines[0].get_ydata()) == [3.0, 2.0, 1.0]
    assert list(axes.lines[1].get_ydata()) == [3.0, 2.5, 1.5]
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {"mean of the last 2", "bigram: 2.50"}
    plt.close("all")


def test_each_line_to_compare_a_live_curve_with_has_a_colour_of_its_own():
    curve = LiveCurve(references={"bigram": 2.5, "back-off": 2.4, "nothing": 3.3})
    curve.add(0, 3.0)
    assert len({line.get_color() for line in curve.figure().axes[0].lines}) == 4
    plt.close("all")


def test_a_live_curve_redraws_in_place_in_a_notebook(monkeypatch):
    shown = []

    class Handle:
        def update(self, figure):
            shown.append("update")

    def display(figure, display_id):
        shown.append("display")
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(live_curve, "in_notebook", lambda: True)
    monkeypatch.setenv("COURSE_QUICK", "0")
    curve = LiveCurve(seconds=0)
    for step in range(3):
        curve.add(step, 1.0)
    curve.show()
    assert shown == ["display", "update", "update", "update"] and not plt.get_fignums()


def test_a_live_curve_with_a_total_has_its_length_from_the_first_point_on():
    for total in (400, None):
        curve = LiveCurve(total=total)
        curve.add(0, 3.0)
        axes = curve.figure().axes[0]
        left, right = axes.get_xlim()
        assert (left <= 0 and 400 <= right <= 420) == (total == 400)
        assert axes.lines[0].get_marker() == "o" and axes.get_xlabel() == "step"
        curve.add(1, 2.0)
        assert curve.figure().axes[0].lines[0].get_marker() not in ("o", "None")
        plt.close("all")


@pytest.mark.parametrize("first", [0, 1])
def test_a_live_curve_says_the_time_left(monkeypatch, first):
    now = 100.0
    labels = []
    monkeypatch.setattr(live_curve, "in_notebook", lambda: True)
    monkeypatch.setattr(live_curve, "busy", lambda: None)
    monkeypatch.setenv("COURSE_QUICK", "0")
    monkeypatch.setattr(live_curve.time, "monotonic", lambda: now)
    monkeypatch.setattr(LiveCurve, "_draw", lambda self, left="": labels.append(left))
    curve = LiveCurve(total=5, seconds=0)
    for step in range(first, first + 5):
        now += 70 if step == first else 20  # the first one compiles
        curve.add(step, 1.0)
    curve.show()
    assert labels == ["", "about 1:00 left", "about 0:40 left", "about 0:20 left", "", ""]


def test_a_live_curve_says_once_that_the_machine_is_busy(monkeypatch, capsys):
    now, load = 0.0, 9.0
    monkeypatch.setattr(live_curve, "in_notebook", lambda: True)
    monkeypatch.setattr(LiveCurve, "_said_busy", False)
    monkeypatch.setattr(LiveCurve, "_draw", lambda self, left="": None)
    monkeypatch.setattr(live_curve.sys, "platform", "linux")
    monkeypatch.setattr(live_curve.time, "monotonic", lambda: now)
    monkeypatch.setattr(live_curve.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(live_curve.os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setenv("COURSE_QUICK", "0")
    said = []
    for setting, load in (  # noqa: B007, read by getloadavg
        ("OPENBLAS_NUM_THREADS", 9.0),
        ("COURSE_AUTHORING", 9.0),
        (None, 2.5),
        (None, 9.0),
        (None, 9.0),
    ):
        for name in ("OPENBLAS_NUM_THREADS", "COURSE_AUTHORING"):
            monkeypatch.delenv(name, raising=False)
        if setting:
            monkeypatch.setenv(setting, "1")
        curve = LiveCurve(seconds=0)
        for step in range(4):
            now += 4
            curve.add(step, 1.0)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] == said[2] == said[4] == ""
    assert said[3].count("\n") == 1 and "load 9.0 on 2" in said[3] and "OPENBLAS_NUM_THREADS=1" in said[3]


def record(path, notebook, model, loss):
    loss_log.record_loss(notebook, model, "an idea", corpus="names", steps=5, loss=loss, path=path)


def test_a_live_curve_redraws_only_now_and_then(monkeypatch):
    clock = iter(range(100))
    drawn = []
    monkeypatch.setattr(live_curve, "in_notebook", lambda: True)
    monkeypatch.setenv("COURSE_QUICK", "0")
    monkeypatch.setattr(live_curve.time, "monotonic", lambda: next(clock))  # each look at the clock takes a second
    monkeypatch.setattr(LiveCurve, "_draw", lambda self, left: drawn.append(len(self.values)))
    curve = LiveCurve(seconds=3)
    for step in range(10):
        curve.add(step, 1.0)
    assert drawn == [3, 6, 9]


def test_a_live_curve_stays_still_in_quick_runs(monkeypatch):
    monkeypatch.setattr(live_curve, "in_notebook", lambda: True)
    monkeypatch.setattr(LiveCurve, "_draw", lambda self: pytest.fail("drew in a quick run"))
    curve = LiveCurve(seconds=0)
    curve.add(0, 1.0)
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.get_fignums()))
    curve.show()
    assert len(shown[0]) == 1
    plt.close("all")


def test_the_loss_log_is_written_only_by_course_run(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    record(path, "01", "bigram", 2.5)
    assert not path.exists()
    monkeypatch.setenv("COURSE_AUTHORING", "1")
    record(path, "01", "bigram", 2.5)
    assert not path.exists(), "a quick run measures nothing worth keeping"
    monkeypatch.setenv("COURSE_QUICK", "0")
    record(path, "03", "microGPT", 2.4)
    record(path, "01", "bigram", 2.5)
    record(path, "03", "microGPT", 2.3)
    rows = [(row["notebook"], row["model"], row["steps"], row["loss"]) for row in loss_log.read_losses(path)]
    assert rows == [("01", "bigram", 5, 2.5), ("03", "microGPT", 5, 2.3)], "in course order, a row once"
    loss_log.record_loss("03", "microGPT", "x", corpus="other", steps=1, loss=1.23456, path=path)
    record(path, "04", "microGPT", 2.2)
    rows = [(row["notebook"], row["corpus"], row["loss"]) for row in loss_log.read_losses(path)]
    assert rows == [("01", "names", 2.5), ("03", "names", 2.3), ("03", "other", 1.2346), ("04", "names", 2.2)]


def test_the_loss_log_is_drawn_up_to_a_notebook_and_for_one_corpus(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    lines = ["01,a,x,names,0,3.0", "03,b,x,names,1,2.0", "03,c,x,other,1,9.0", "04,d,x,names,1,1.0"]
    path.write_text("\n".join(["notebook,model,idea,corpus,steps,loss", *lines, ""]))  # as it was before seeds
    monkeypatch.setattr(loss_log, "log_path", lambda: path)
    loss_log.draw_loss_log("names", until="03")
    assert [line.get_xdata()[0] for line in plt.gcf().axes[0].lines] == [3.0, 2.0]
    plt.close("all")


def test_a_row_keeps_the_mean_of_its_seeds_and_what_it_cost(tmp_path, monkeypatch, capsys):
    path = tmp_path / "log.csv"
    monkeypatch.setenv("COURSE_AUTHORING", "1")
    monkeypatch.setenv("COURSE_QUICK", "0")
    monkeypatch.setattr(loss_log, "log_path", lambda: path)
    record(path, "01", "bigram", 2.5)
    loss_log.record_loss("03", "GPT", "x", "names", 500, [2.5, 2.6, 2.7], parameters=4064, seconds=12.345, path=path)
    loss_log.print_loss_log("names")
    plain, row = loss_log.read_losses(path)
    assert row["parameters"] == 4064 and row["seconds"] == 12 and row["seeds"] == 3
    assert row["loss"] == 2.6 and row["spread"] == 0.2
    assert plain["parameters"] is plain["seconds"] is plain["spread"] is None and plain["seeds"] == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["03", "GPT", "4,064", "500", "12", "3", "2.6000", "±", "0.1000"]
    assert lines[1].split() == ["01", "bigram", "–", "5", "–", "1", "2.5000"]


def test_the_loss_log_of_the_course_can_be_drawn():
    rows = loss_log.read_losses()
    assert [row["model"] for row in rows][:2] == ["uniform", "bigram"]
    losses = {(row["notebook"], row["model"]): row["loss"] for row in rows}
    assert losses["04", "microGPT, batches"] < losses["01", "bigram"]
    loss_log.draw_loss_log("names")
    axes = plt.gcf().axes[0]
    of_names = [row["loss"] for row in rows if row["corpus"] == "names"]
    assert [line.get_xdata()[0] for line in axes.lines] == of_names
    label, box = axes.xaxis.label.get_window_extent(), axes.get_window_extent()
    assert box.x0 <= label.x0 and label.x1 <= box.x1
    assert axes.get_ylim() == (len(of_names) - 0.4, -0.6)  # the first on top, and no band without rows
    plt.close("all")
