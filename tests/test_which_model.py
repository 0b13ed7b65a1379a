"""The programs that take a trained model find one, and say what there is where they do not."""

import os

import pytest

from course_lib.host.errors import CourseError
from course_lib.host.paths import data_dir
from course_lib.scripts import base_eval, chat_cli
from course_lib.train.checkpoint import Checkpoint, run_folder, save_checkpoint
from course_lib.train.flags import WhichModel


@pytest.fixture
def save(home):
    """save(tag, stage, at) leaves a run with a checkpoint of that time."""

    def run(tag, stage="base", at=0, **settings):
        folder = save_checkpoint(run_folder(tag, stage), Checkpoint(1, {}, {}, {"settings": settings}))
        os.utime(folder, (at, at))
        return folder.parent

    return run


def refused(which, stage="base"):
    with pytest.raises(CourseError) as caught:
        which.place(stage)
    return str(caught.value)


def test_without_a_tag_the_newest_model_of_the_stage_is_taken_and_said_where_it_is_a_choice(save, capsys):
    only = save("d4", at=1)
    assert WhichModel().place() == (only, None) and capsys.readouterr().err == ""
    newest = save("d2", at=2)
    tuned = save("speedrun", "sft", at=3)
    (run_folder("begun") / "step_x").mkdir(parents=True)  # no checkpoint yet
    assert WhichModel(step=1).place() == (newest, 1)
    assert capsys.readouterr().err == "taking the newest base model, d2; --tag takes another\n"
    assert WhichModel().place("sft") == (tuned, None) and capsys.readouterr().err == ""
    assert WhichModel(tag="d4").place() == (only, None)


def test_a_control_from_new_weights_is_not_what_one_wants_to_talk_to(save):
    tuned = save("speedrun", "sft", at=1, from_scratch=False)
    save("speedrun-control", "sft", at=2, from_scratch=True)
    assert WhichModel().place("sft") == (tuned, None)


def test_before_any_training_the_starter_is_taken_and_its_name_means_it(save, capsys):
    base, tuned = (data_dir() / "starter" / stage / "starter" for stage in ("base", "sft"))
    assert WhichModel().place() == (base, None)
    assert "comes with the course" in capsys.readouterr().err
    assert WhichModel().place("sft") == (tuned, None)
    own = save("d4", "sft")
    assert WhichModel().place("sft") == (own, None)
    assert WhichModel(tag="starter").place("sft") == (tuned, None)
    assert WhichModel(tag="starter").place() == (base, None)
    mine = save("starter", "sft")
    assert WhichModel(tag="starter").place("sft") == (mine, None)


def test_a_model_that_there_is_not_is_refused_with_what_there_is(save):
    ways = (
        "the quickest way to one, named speedrun, is `uv run speedrun --minutes 5`; the long way is `uv run base_train`"
    )
    chat = f"{ways}, then `uv run chat_sft`"
    assert refused(chat_cli.Settings(stage="rl"), "rl").startswith("there is no rl model yet; ")
    assert refused(chat_cli.Settings(tag="d4"), "sft") == f"there is no run in {run_folder('d4', 'sft')}; {chat}"
    save("d2", at=1)
    save("d6", at=2)
    tune = "`uv run chat_sft --tag d6` makes one of the pretrained model that is here"
    there = f"--stage and --tag can name base: d6, d2; {tune}"
    folder = run_folder("d4", "sft")
    assert refused(chat_cli.Settings(tag="d4"), "sft") == f"there is no run in {folder}; {there}"
    folder = run_folder("d2", "sft")
    other = "but there is a model of that name in another stage: --stage base --tag d2"
    assert refused(chat_cli.Settings(tag="d2"), "sft") == f"there is no run in {folder}; {other}"
    reward = "`uv run base_train`, then `uv run chat_sft`, then `uv run chat_rl`"
    assert refused(chat_cli.Settings(), "rl").endswith(f"the long way is {reward}")
    save("chat", "sft")
    one = "`uv run chat_rl --tag chat` makes one of the fine-tuned model that is here"
    assert refused(chat_cli.Settings(), "rl").endswith(f"; {one}")
    found = refused(base_eval.Settings(tag="chat"))
    there = f"--tag can name base: d6, d2; {ways}"
    assert found == f"there is no run in {run_folder('chat')}; {there}"
