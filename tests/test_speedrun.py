"""The plan fits the time, stages are skipped when done, and the report card says what was found."""

import json
import re
import sys

import pytest

from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import count_parameters, flops_per_token
from course_lib.pipeline import report_card as report
from course_lib.pipeline.report_card import card_markdown, draw_card, in_one_line, minutes, score
from course_lib.scripts import speedrun
from course_lib.scripts.speedrun import SHARES, SIZE, Plan, Settings, Speedrun, call, make_plan


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    """A machine on which depth 4 trains at 14,000 tokens a second, and others by their FLOPs."""
    work = flops_per_token(GPTConfig.from_depth(4, **SIZE))

    def speed(depth, processes):
        return 14_000 * work / flops_per_token(GPTConfig.from_depth(depth, **SIZE))

    monkeypatch.setattr(speedrun, "tokens_per_second", speed)


# ---- the plan


def test_five_minutes_make_a_model_of_four_layers():
    plan = make_plan(Settings())
    assert (plan.depth, plan.aspect_ratio, plan.head_dim) == (4, 32, 64)
    tokens = 14_000 * 300
    assert plan.pretraining == int(SHARES["pretraining"] * tokens / 4096)
    assert plan.fine_tuning == int(SHARES["fine-tuning"] * tokens / 4096)


@pytest.mark.parametrize("bound", [1, 3, 10, 30, 100, 300])
def test_the_deepest_model_is_taken_that_sees_a_token_for_each_parameter(bound):
    plan = make_plan(Settings(minutes=bound))

    def ratio(depth):
        config = GPTConfig.from_depth(depth, **SIZE)
        speed = speedrun.tokens_per_second(depth, 1)
        return sum(SHARES.values()) * 60 * bound * speed / count_parameters(config)

    assert ratio(plan.depth) >= 1 or plan.depth == speedrun.LEAST
    assert ratio(plan.depth + 1) < 1 or plan.depth == 12


def test_the_least_time_still_makes_steps():
    plan = make_plan(Settings(minutes=0.05))
    assert plan.depth == speedrun.LEAST and plan.pretraining >= 2 and plan.fine_tuning >= 2


def test_a_depth_without_minutes_is_the_real_one():
    assert make_plan(Settings(depth=12)) == Plan(12, 64, 128, None, None)
    assert make_plan(Settings(depth=3, minutes=2)).depth == 3


# ---- stages


def test_a_stage_that_is_done_is_skipped_and_one_that_failed_is_not(home, capsys):
    run, calls = Speedrun(Settings()), []

    def works():
        calls.append("works")
        return "two of them"

    def fails():
        raise RuntimeError("broken off")

    with pytest.raises(RuntimeError):
        run.stage("one", fails)
    assert run.read("one") is None
    run.stage("one", works)
    Speedrun(Settings()).stage("one", works)  # another day
    assert calls == ["works"] and "done before" in capsys.readouterr().out
    assert run.read("one")["what"] == "two of them" and run.read("one")["seconds"] >= 0


def test_the_plan_is_kept_and_other_flags_are_refused(home, monkeypatch):
    first = Speedrun(Settings(minutes=5))
    monkeypatch.setattr(speedrun, "tokens_per_second", lambda *_: 100)  # a busy day
    assert Speedrun(Settings(minutes=5)).plan == first.plan
    with pytest.raises(CourseError, match="begun with other flags"):
        Speedrun(Settings(minutes=6))
    Speedrun(Settings(minutes=6, tag="another"))
    assert Speedrun(Settings(minutes=6, overwrite=True)).plan != first.plan
    Speedrun(Settings(minutes=6))  # goes on with what --overwrite has begun


def test_overwrite_throws_away_the_models_of_this_run_alone(home):
    folders = Speedrun(Settings()).run_folders()
    other = home / "checkpoints" / "base" / "d4"
    for folder in (*folders, other):
        (folder / "step_000001").mkdir(parents=True)
    Speedrun(Settings(overwrite=True))
    assert not any(folder.exists() for folder in folders) and other.exists()


def test_the_end_of_a_program_ends_the_run_with_its_code(capsys):
    call(lambda argv: None, "--flag")
    call(lambda argv: sys.exit(0))
    with pytest.raises(SystemExit) as end:
        call(lambda argv: sys.exit(130))
    assert end.value.code == 130 and "go on with the same command" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--minutes=0"], ["--depth=0"], ["--max-per-task=0"], ["--processes=0"]])
def test_wrong_flags_end_with_a_sentence(home, flags, capsys):
    with pytest.raises(SystemExit) as end:
        speedrun.main(flags)
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1 and flags[0].split("=")[0] in error


# ---- the card


def result(accuracy, items=100):
    return {"accuracy": accuracy, "standard_error": 0.01, "baseline": 0.25, "items": items}


@pytest.fixture
def card():
    return {
        "machine": "device: cpu",
        "model": {"layers": 4, "parameters": "1,310,720"},
        "stages": [{"name": "pretraining", "seconds": 100.4, "what": "1,000 tokens"}],
        "losses": {"pretraining": [[0, 7.6], [10, 5.0]], "fine-tuning": [[0, 3.0]]},
        "bits_per_byte": {"validation text": 1.9712},
        "core": {"words": result(0.31)},
        "tasks": {"base": {"identity": result(0.0)}, "sft": {"identity": result(0.94), "calculator": result(0.99)}},
        "tokens_per_second": 123.4,
        "samples": [["a | b", "two\nlines <b>"]],
    }


def test_the_report_has_every_number_and_its_doubt(card):
    text = card_markdown(card)
    assert "| identity | 100 | 25 % | 0.0 % ± 1.0 | 94.0 % ± 1.0 |" in text
    assert "| calculator | 100 | 25 % | — | 99.0 % ± 1.0 |" in text
    assert "| words | 100 | 25 % | 31.0 % ± 1.0 |" in text
    assert "| pretraining | 1:40 | 1,000 tokens |" in text and "| validation text | 1.971 |" in text
    assert "123 tokens a second" in text and "device: cpu" in text


def test_what_a_model_writes_cannot_break_the_table(card):
    line = next(line for line in card_markdown(card).splitlines() if "a \\|" in line)
    assert line == "| a \\| b | two lines &lt;b> |"
    assert len(re.findall(r"(?<!\\)\|", line)) == 3
    assert in_one_line(" a\n\n b ") == "a b"


def test_a_control_has_a_column_of_its_own_between_the_others(card):
    card["tasks"]["control"] = {"identity": result(0.9)}
    assert "| identity | 100 | 25 % | 0.0 % ± 1.0 | 90.0 % ± 1.0 | 94.0 % ± 1.0 |" in card_markdown(card)
    assert list(report.STAGES) == ["base", "control", "sft"]


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0:00"), (59.6, "1:00"), (245, "4:05"), (7445, "2:04:05")])
def test_times_are_shown_as_on_a_clock(seconds, shown):
    assert minutes(seconds) == shown


def test_no_result_is_a_dash():
    assert score({}) == "—"


def test_the_picture_shows_every_curve_and_every_score(card):
    figure = draw_card(json.loads(json.dumps(card)))
    losses, _, tasks, times = figure.axes
    assert losses.lines[0].get_xydata().tolist() == [[0, 7.6], [10, 5.0]]
    assert [label.get_text() for label in tasks.get_yticklabels()] == ["identity", "calculator"]
    drawn = {round(x, 2) for container in tasks.containers for x in container.lines[0].get_xdata()}
    assert drawn == {0.0, 0.94, 0.99}
    assert [bar.get_width() for bar in times.patches] == [100.4]
