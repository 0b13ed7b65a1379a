"""The model that ships with the course: small, whole, and as good as its report card says."""

import json

import mlx.core as mx
import pytest

from course_lib.chat.calculator import use_calculator
from course_lib.chat.conversation import render_for_completion
from course_lib.chat.tasks import answers, get_task, reply_text
from course_lib.generate.engine import Engine
from course_lib.host.paths import data_dir
from course_lib.scripts import base_eval, chat_cli, chat_eval
from course_lib.train.checkpoint import load_model, run_folder
from course_lib.train.starter import load_starter, starter_folder

FOLDER = data_dir() / "starter"


@pytest.fixture(scope="module")
def engine():
    return Engine(*load_starter(), use_calculator)


def say(engine, *contents):
    turns = [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]
    prompt = render_for_completion(engine.tokenizer, turns)
    (reply,) = engine.generate_batch([prompt], max_tokens=64, temperature=0)
    return reply_text(engine.tokenizer, reply.ids)


def test_it_is_small_and_holds_no_path_of_the_machine_that_made_it():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 6e6
    for path in files:
        if path.suffix in (".json", ".md"):
            assert "/tmp" not in path.read_text("utf-8") and "/home" not in path.read_text("utf-8"), path


def test_it_is_kept_in_sixteen_bits_and_loaded_in_float32():
    for stage in ("base", "sft"):
        kept = mx.load(str(next(FOLDER.glob(f"{stage}/starter/step_*/model.safetensors"))))
        assert {array.dtype for array in kept.values()} == {mx.float16}
        model, tokenizer, _ = load_model(starter_folder(stage))
        assert model.transformer.wte.weight.dtype == mx.float32 and tokenizer.vocab_size == 2048
    assert starter_folder("rl") is None


def test_it_says_who_it_is_and_does_a_sum(engine):
    assert "Wren" in say(engine, "What is your name?")
    assert say(engine, "What is 347 + 2815?") == "3162"
    assert "3162" in say(engine, "Who are you?", "I am Wren.", "What is 347 + 2815?")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["identity", "calculator", "spelling", "counting", "unknown", "blind-identity"])
def test_it_is_as_good_as_its_card_says(engine, name):
    task = get_task(name)
    said = json.loads((FOLDER / "card.json").read_text("utf-8"))["tasks"]["sft"][name]
    asked = list(range(min(60, len(task))))
    right = sum(answer.right for answer in answers(engine, task, asked, 30, max_tokens=64, temperature=0))
    doubt = 3 * (said["accuracy"] * (1 - said["accuracy"]) / len(asked)) ** 0.5 + 0.03
    assert abs(right / len(asked) - said["accuracy"]) < doubt


@pytest.mark.slow
def test_the_programs_take_it_and_write_their_reports_into_the_home(home, capfd):
    with pytest.raises(SystemExit) as ended:
        chat_cli.main(["-p", "What is 12 + 30?", "--temperature", "0"])
    assert ended.value.code == 0
    assert "42" in capfd.readouterr().out
    chat_eval.main(["--tasks", "calculator", "--max-per-task", "4"])
    assert list(run_folder("starter", "sft").glob("chat_eval_*.json"))
    base_eval.main(["--eval", "core", "--max-per-task", "2"])
    assert list(run_folder("starter").glob("eval_*.json"))
    assert not list(FOLDER.rglob("*eval_*"))
