"""The plan fits the time, stages are skipped when done, and the report card says what was found."""

import json
import math
import re
from dataclasses import replace

import pytest
from chat_models import teach
from test_base_train import write_text

from course_lib.chat.fine_tuning import make_recipe as fine_tuning_recipe
from course_lib.host.errors import CourseError
from course_lib.host.files import only_one
from course_lib.host.words import duration
from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import count_parameters, flops_per_token
from course_lib.pipeline import plan as module
from course_lib.pipeline import report_card as report
from course_lib.pipeline import stages
from course_lib.pipeline.card_page import card_markdown, draw_card, in_one_line
from course_lib.pipeline.plan import (
    BATCH,
    CHAT_EVALUATION,
    FINE_TUNING,
    LEAST_STEPS,
    PRETRAINING,
    REINFORCEMENT,
    SIZE,
    TRAINING,
    Plan,
    make_plan,
)
from course_lib.pipeline.report_card import change, score, together
from course_lib.pipeline.stages import Settings, Speedrun
from course_lib.scripts import speedrun
from course_lib.scripts.speedrun import in_words
from course_lib.train import run_folder
from course_lib.train.checkpoint import newest_meta
from course_lib.train.optim import lr_multiplier
from course_lib.train.pretraining import make_recipe as pretraining_recipe


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    """A machine on which depth 4 trains at 14,000 tokens a second, and others by their FLOPs."""
    work = flops_per_token(GPTConfig.from_depth(4, **SIZE))

    def speed(depth, processes):
        return 14_000 * work / flops_per_token(GPTConfig.from_depth(depth, **SIZE))

    monkeypatch.setattr(module, "tokens_per_second", speed)


# ---- the plan


def planned(minutes=None, depth=None, processes=None, min_iterations=None):
    return make_plan(minutes, depth, processes, min_iterations)


def test_five_minutes_make_a_model_of_four_layers():
    plan = planned()
    assert (plan.depth, plan.aspect_ratio, plan.head_dim, plan.minutes) == (4, 32, 64, 5.0)
    tokens = 14_000 * 300
    assert plan.pretraining == int(PRETRAINING * tokens / BATCH)
    assert plan.fine_tuning == int(FINE_TUNING * tokens / BATCH)


@pytest.mark.parametrize("bound", [1, 3, 10, 30, 100, 300])
def test_the_deepest_model_is_taken_that_sees_a_token_for_each_parameter(bound):
    plan = planned(bound)

    def ratio(depth):
        config = GPTConfig.from_depth(depth, **SIZE)
        speed = module.tokens_per_second(depth, 1)
        return TRAINING * 60 * bound * speed / count_parameters(config)

    assert ratio(plan.depth) >= 1 or plan.depth == module.LEAST_DEPTH
    assert ratio(plan.depth + 1) < 1 or plan.depth == 12


def test_the_least_time_still_makes_steps():
    plan = planned(0.05)
    assert plan.depth == module.LEAST_DEPTH and plan.pretraining >= 2 and plan.fine_tuning >= 2


def test_a_depth_without_minutes_is_the_real_one():
    assert planned(depth=12) == Plan(12, 64, 128)
    assert planned(depth=3, minutes=2).depth == 3


def test_a_machine_that_is_too_slow_for_the_minutes_says_how_many_it_needs(monkeypatch):
    assert planned(5).minutes_needed == pytest.approx(5, abs=0.1)
    monkeypatch.setattr(module, "tokens_per_second", lambda *_: 2000)
    plan = planned(5)
    least = LEAST_STEPS + plan.min_pretraining
    evaluation = 5 * (1 - TRAINING)
    assert plan.minutes_needed == pytest.approx(evaluation + least * BATCH / 2000 / 60, rel=0.03)
    words = in_words(plan)
    assert f"5 minutes are too few for it to answer: {plan.min_pretraining} steps of pretraining and 300 of" in words
    assert f"take about {plan.minutes_needed:.0f} minutes" in words
    assert planned(5, min_iterations=2).minutes_needed == pytest.approx(5, abs=0.1)
    assert "too few" not in in_words(planned(5, min_iterations=2))


# ---- stages


def test_a_stage_that_went_on_counts_the_time_before_it_was_broken_off(home):
    run = Speedrun(Settings())

    def goes_on():
        run.earlier = 100.0  # as `train` finds it in a checkpoint
        return "the rest"

    run.stage("one", goes_on)
    run.stage("two", lambda: "anew")
    assert 100 <= run.read("one")["seconds"] < 110 and run.read("two")["seconds"] < 10


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
    monkeypatch.setattr(module, "tokens_per_second", lambda *_: 100)  # a busy day
    assert Speedrun(Settings(minutes=5)).plan == first.plan
    with pytest.raises(CourseError, match="begun with other flags"):
        Speedrun(Settings(minutes=6))
    assert Speedrun(Settings(minutes=5, device_batch_size=2)).plan == first.plan, "fewer rows make no other run"
    Speedrun(Settings(minutes=6, tag="another"))
    assert Speedrun(Settings(minutes=6, overwrite=True)).plan != first.plan
    Speedrun(Settings(minutes=6))  # goes on with what --overwrite has begun


def test_the_same_text_in_another_spelling_is_the_same_run(home, tmp_path, monkeypatch):
    text = write_text(tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    Speedrun(Settings(dataset="own/text.jsonl", data="practice, own/text.jsonl"))
    monkeypatch.chdir("/")
    assert Speedrun(Settings(dataset=str(text), data=f"practice,{text}", changed_data="now")).plan


def test_overwrite_leaves_what_another_run_is_writing(home):
    run = Speedrun(Settings())
    run.tuned.mkdir(parents=True)
    with only_one(run.tuned), pytest.raises(CourseError, match="another run is writing"):
        Speedrun(Settings(overwrite=True))
    assert run.tuned.exists() and run.folder.exists()


def test_overwrite_throws_away_the_models_of_this_run_alone(home):
    folders = Speedrun(Settings()).run_folders()
    other = home / "checkpoints" / "base" / "d4"
    for folder in (*folders, other):
        (folder / "step_000001").mkdir(parents=True)
    Speedrun(Settings(overwrite=True))
    assert not any(folder.exists() for folder in folders) and other.exists()


def test_a_training_that_is_stopped_ends_the_run_with_its_code(home, monkeypatch, capsys):
    run = Speedrun(Settings())
    monkeypatch.setattr(stages.pretraining, "start_pretraining", lambda *_: 130)
    with pytest.raises(SystemExit) as end:
        run.pretraining()
    assert end.value.code == 130 and "go on with the same command" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["cpu", "metal", "cuda"])
def test_both_trainings_get_the_same_steps_on_every_kind_of_machine(home, monkeypatch, kind):
    """The same tokens a step for both, whatever the programs take by default on a GPU."""
    monkeypatch.setattr(stages.backend, "device_kind", lambda: kind)
    monkeypatch.setattr(stages, "what_was_trained", lambda folder: "")
    asked = []
    monkeypatch.setattr(stages.pretraining, "start_pretraining", lambda settings, given: asked.append(settings))
    monkeypatch.setattr(stages.fine_tuning, "start_fine_tuning", lambda settings, given: asked.append(settings))
    run = Speedrun(Settings(minutes=5))
    for name in ("tokenizer", "pretraining", "evaluation"):
        run.write(name, {"seconds": 20})
    run.pretraining()
    run.fine_tuning()
    before, after = asked
    assert before.total_batch_size == after.total_batch_size == BATCH
    assert before.minutes == pytest.approx(PRETRAINING * 5)
    assert after.minutes == pytest.approx(5 - 1 - (CHAT_EVALUATION + REINFORCEMENT) * 5)
    assert (before.min_iterations, after.min_iterations) == (run.plan.min_pretraining, LEAST_STEPS)


@pytest.mark.parametrize("minutes", [1, 5, 30])
@pytest.mark.parametrize("kind", ["cpu", "metal", "cuda"])
def test_the_tokens_of_both_trainings_are_those_of_the_plan_on_every_kind_of_machine(home, monkeypatch, kind, minutes):
    """What the settings of the stages resolve to: steps times tokens a step."""
    monkeypatch.setattr(stages.backend, "device_kind", lambda: kind)
    monkeypatch.setattr(stages.backend, "memory_for_arrays", lambda: 10**11)
    monkeypatch.setattr(stages, "what_was_trained", lambda folder: "")
    recipes, config = [], GPTConfig.from_depth(4, **SIZE)
    monkeypatch.setattr(
        stages.pretraining,
        "start_pretraining",
        lambda settings, given: recipes.append(pretraining_recipe(settings, SIZE["vocab_size"], 3e6)),
    )
    monkeypatch.setattr(
        stages.fine_tuning,
        "start_fine_tuning",
        lambda settings, given: recipes.append(fine_tuning_recipe(settings, config, math.inf)),
    )
    run = Speedrun(Settings(minutes=minutes, min_iterations=1))
    for name in ("tokenizer", "pretraining", "evaluation"):
        run.write(name, {"seconds": 60 * minutes / 20})
    run.pretraining()
    run.fine_tuning()
    tokens = [recipe.num_iterations * recipe.total_batch_size for recipe in recipes]
    assert tokens == [run.plan.pretraining * BATCH, run.plan.fine_tuning * BATCH]
    speed = 14_000 * flops_per_token(config) / flops_per_token(GPTConfig.from_depth(run.plan.depth, **SIZE))
    assert sum(tokens) == pytest.approx(TRAINING * 60 * minutes * speed, rel=0.05)
    left = 1 - 3 / 20 - CHAT_EVALUATION - REINFORCEMENT
    assert [recipe.minutes for recipe in recipes] == pytest.approx([PRETRAINING * minutes, left * minutes])


def names_of(**settings):
    return list(Speedrun(Settings(**settings, tag="-".join(settings) or "usual")).stages())


def test_reinforcement_comes_after_fine_tuning_on_practice_and_can_be_left_out(home):
    usual = ["tokenizer", "pretraining", "evaluation", "fine-tuning", "chat evaluation"]
    rewarded = ["reinforcement", "evaluation after it"]
    assert names_of() == [*usual, *rewarded, "samples"]
    assert names_of(control=True) == [*usual, *rewarded, "control: fine-tuning", "control: evaluation", "samples"]
    assert names_of(reinforcement=False) == names_of(data="gsm8k") == [*usual, "samples"]
    assert Speedrun(Settings(tag="a")).assistant.parent.name == "rl"
    assert Speedrun(Settings(tag="b", reinforcement=False)).assistant.parent.name == "sft"


def test_reinforcement_gets_its_share_of_the_minutes_or_else_fine_tuning_does(home, monkeypatch):
    monkeypatch.setattr(stages, "what_was_trained", lambda folder: "")
    asked = []
    for module_, start in ((stages.fine_tuning, "start_fine_tuning"), (stages.reinforcing, "start_reinforcement")):
        monkeypatch.setattr(module_, start, lambda settings, given: asked.append((settings, given)))
    for reinforcement in (True, False):
        run = Speedrun(Settings(minutes=10, processes=2, reinforcement=reinforcement, tag=f"{reinforcement}"))
        for name in ("tokenizer", "pretraining", "evaluation"):
            run.write(name, {"seconds": 40})
        run.fine_tuning()
    run.reinforcement()
    (with_it, _), (without, _), (rewarded, given) = asked
    assert without.minutes - with_it.minutes == pytest.approx(10 * REINFORCEMENT)
    assert rewarded.minutes == pytest.approx(10 * REINFORCEMENT) and rewarded.tag == "False"
    assert "processes" not in given, "chat_rl trains in one"


def test_a_run_from_before_reinforcement_goes_on_without_it(home):
    run = Speedrun(Settings(reinforcement=False))
    begun = run.read("plan")
    del begun["settings"]["reinforcement"]
    run.write("plan", begun)
    assert Speedrun(Settings(reinforcement=False)).plan == run.plan
    with pytest.raises(CourseError, match="begun with other flags"):
        Speedrun(Settings())


@pytest.mark.slow
def test_a_kill_in_reinforcement_is_made_good_by_the_same_command(home, monkeypatch):
    """Killed after its first checkpoint; called again, the stage goes on from there and is done."""
    run, begun = Speedrun(Settings(minutes=0.1)), stages.reinforcing.start_reinforcement
    teach(run.tuned)
    few = {"minutes": None, "num_iterations": 4, "min_iterations": 1, "save_every": 2, "eval_every": 4}
    few |= {"questions": 1, "samples": 2, "max_tokens": 4}
    asked = []

    def start(settings, given):
        asked.append(settings.resume)
        return begun(replace(settings, **few), given | few.keys())

    def killed(self, *args):
        save(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(stages.reinforcing, "start_reinforcement", start)
    save = run_folder.RunFolder.save
    with monkeypatch.context() as patch:
        patch.setattr(run_folder.RunFolder, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            run.stage("reinforcement", run.reinforcement)
    assert run.read("reinforcement") is None and newest_meta(run.reinforced)["step"] == 2
    again = Speedrun(Settings(minutes=0.1))
    again.stage("reinforcement", again.reinforcement)
    assert asked == [False, True] and newest_meta(run.reinforced)["step"] == 4
    done = again.read("reinforcement")
    assert done["what"] == "4 steps of 1 questions, 2 replies to each"
    assert done["seconds"] > newest_meta(run.reinforced)["seconds"] > 0
    assert len(stages.points_of(run.reinforced, "reward")) == 4


@pytest.mark.slow
@pytest.mark.parametrize("least, steps", [(2, 20), (30, 30)])
def test_a_training_ends_by_the_clock_and_never_before_its_least_steps(home, monkeypatch, tmp_path, least, steps):
    """A clock on which each step takes 0.1 seconds, and a run of two of them; the rates fall by the clock as well."""
    taken = property(lambda out: 0.1 * (getattr(out, "_step", -1) + 1))
    monkeypatch.setattr(run_folder.RunFolder, "seconds", taken)
    values = {"depth": 1, "total_batch_size": 512, "sequence_len": 32, "processes": 1, "num_iterations": 10_000}
    values |= {
        "dataset": str(write_text(tmp_path / "own")),
        "minutes": 2 / 60,
        "min_iterations": least,
        "eval_every": 5000,
        "save_every": 5000,
        "sample_every": 5000,
    }
    assert stages.pretraining.start_pretraining(stages.pretraining.Settings(**values), frozenset(values)) == 0
    folder = home / "checkpoints" / "base" / "d1"
    assert newest_meta(folder)["step"] == steps
    log = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    multipliers = [entry["lr_multiplier"] for entry in log if "lr_multiplier" in entry]
    assert multipliers == pytest.approx([lr_multiplier(it, steps) for it in range(steps)])


@pytest.mark.parametrize("flags", [["--minutes=0"], ["--depth=0"], ["--max-per-task=0"], ["--processes=0"]])
def test_wrong_flags_end_with_a_sentence(home, flags, capsys):
    with pytest.raises(SystemExit) as end:
        speedrun.main(flags)
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1 and flags[0].split("=")[0] in error


# ---- the card


def result(right, items=100, each=None):
    entry = {"accuracy": right / items, "standard_error": 0.01, "baseline": 0.25, "items": items, "right": right}
    return entry | ({"each": each} if each else {})


@pytest.fixture
def card():
    return {
        "machine": "device: cpu",
        "model": {"layers": 4, "parameters": "1,310,720"},
        "stages": [{"name": "pretraining", "seconds": 100.4, "what": "1,000 tokens"}],
        "losses": {"pretraining": [[0, 7.6], [10, 5.0]], "fine-tuning": [[0, 3.0]]},
        "rewards": [[0, 0.0], [1, 1.0]],
        "bits_per_byte": {"validation text": 1.9712},
        "core": {"words": result(31)},
        "tasks": {"base": {"identity": result(0)}, "sft": {"identity": result(94), "calculator": result(99)}},
        "tokens_per_second": 123.4,
        "samples": [["a | b", "two\nlines <b>"]],
    }


def test_the_report_has_every_number_and_its_doubt(card):
    text = card_markdown(card)
    assert "| identity | 100 | 25 % | 0 % (0–4) | 94 % (87–97) |" in text
    assert "| calculator | 100 | 25 % | — | 99 % (94–100) |" in text
    assert "| words | 100 | 25 % | 31.0 % ± 1.0 |" in text
    assert "| pretraining | 1:40 | 1,000 tokens |" in text and "| validation text | 1.971 |" in text
    assert "123 tokens a second" in text and "device: cpu" in text
    assert "What a stage changed" not in text, "there is nothing to compare with, question by question"


def test_what_a_model_writes_cannot_break_the_table(card):
    line = next(line for line in card_markdown(card).splitlines() if "a \\|" in line)
    assert line == "| a \\| b | two lines &lt;b> |"
    assert len(re.findall(r"(?<!\\)\|", line)) == 3
    assert in_one_line(" a\n\n b ") == "a b"


def test_every_training_has_a_column_of_its_own_in_the_order_of_the_run(card):
    card["tasks"] |= {"rl": {"identity": result(95)}, "control": {"identity": result(90)}}
    assert "| identity | 100 | 25 % | 0 % (0–4) | 90 % (82–95) | 94 % (87–97) | 95 % (89–98) |" in card_markdown(card)
    assert list(report.STAGES) == ["base", "control", "sft", "rl"]


def test_what_a_stage_changed_is_told_question_by_question(card):
    each = {"control": "0" * 30 + "1" * 70, "sft": "1" * 29 + "0" + "0" * 3 + "1" * 67, "rl": "1" * 100}
    card["tasks"] |= {stage: {"identity": result(line.count("1"), 100, line)} for stage, line in each.items()}
    text = card_markdown(card)
    assert "| task | pretraining | reinforcement |" in text
    assert "| identity | **+29 −3** | +4 −0 |" in text and "| all together | **+29 −3** | +4 −0 |" in text
    del card["tasks"]["control"]
    assert "| task | reinforcement |" in card_markdown(card)


def test_a_change_is_bold_from_three_standard_errors_on():
    assert change("0" * 50, "0" * 50) == "+0 −0"
    assert change("0" * 7 + "1" * 43, "1" * 50) == "+7 −0"
    assert change("0" * 8 + "1" * 42, "1" * 50) == "**+8 −0**"
    assert change("1" * 50, "0" * 8 + "1" * 42) == "**+0 −8**"
    assert together({"a": {"each": "01"}, "b": {"each": "1"}}) == "011"
    with pytest.raises(ValueError, match="zip"):
        change("01", "0")


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0:00"), (59.6, "1:00"), (245, "4:05"), (7445, "2:04:05")])
def test_times_are_shown_as_on_a_clock(seconds, shown):
    assert duration(seconds) == shown


def test_no_result_is_a_dash_and_few_items_are_counted():
    assert score({}) == "—"
    shown = [score(result(right, items)) for right, items in ((0, 10), (3, 29), (3, 30), (1, 200))]
    assert shown == ["0 of 10 (0–29)", "3 of 29 (4–27)", "10 % (3–26)", "0.5 % (0–3)"]


def test_the_picture_shows_every_curve_and_every_score(card):
    figure = draw_card(json.loads(json.dumps(card)))
    tasks, losses, _, rewards, times = figure.axes
    assert losses.lines[0].get_xydata().tolist() == [[0, 7.6], [10, 5.0]]
    assert rewards.lines[0].get_xydata().tolist() == [[0, 0], [1, pytest.approx(0.2)]]
    assert [label.get_text() for label in tasks.get_yticklabels()] == ["identity", "calculator"]
    drawn = {round(x, 2) for container in tasks.containers for x in container.lines[0].get_xdata()}
    assert drawn == {0.0, 0.94, 0.99}
    assert [bar.get_width() for bar in times.patches] == [100.4]
    del card["rewards"]  # as of a run without reinforcement
    assert len(draw_card(card).axes) == 4
