"""chat_eval from the flags to the report: true numbers, kept when it is interrupted; one sentence for what is wrong."""

import io
import json
import math
import re
import signal
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import huggingface_hub.constants as hub_constants
import mlx.core as mx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub import Hub
from mlx.utils import tree_flatten

from course_lib.chat import evaluation
from course_lib.chat.calculator import use_calculator
from course_lib.chat.tasks import answers, get_task, lesson_tasks
from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.engine import Engine
from course_lib.host import download
from course_lib.host.words import in_one_line
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.scripts import chat_eval
from course_lib.train.checkpoint import Checkpoint, load_model, run_folder, save_checkpoint

TOKENIZER = Tokenizer.train(["####"] * 40 + ["0123456789"], 268)  # "####" is one token, a digit is one


def save_run(model: GPT, tag: str = "d4", steps: tuple[int, ...] = (5, 10), stage: str = "sft") -> Path:
    """The folder of a run as chat_sft leaves it."""
    folder = run_folder(tag, stage)
    TOKENIZER.save(folder / "tokenizer")
    meta = {"config": asdict(model.config), "tokenizer": TOKENIZER.fingerprint}
    for step in steps:
        save_checkpoint(folder, Checkpoint(step, dict(tree_flatten(model.parameters())), {}, meta))
    return folder


def random_model() -> GPT:
    model = GPT(GPTConfig(160, TOKENIZER.vocab_size, 1, 2, 2, 16))
    model.lm_head.weight = mx.random.normal(model.lm_head.weight.shape, key=mx.random.key(0))
    return model


def model_that_writes(*runs: list[int]) -> GPT:
    """After each token of a run it greedily writes the next one; after all others <|assistant_end|>."""
    V = TOKENIZER.vocab_size
    model = GPT(GPTConfig(512, V, 1, 1, 1, 272))
    model.transformer.wte.weight = mx.eye(V, 272)
    head = mx.zeros((V, 272))
    head[TOKENIZER.special("<|assistant_end|>")] = 0.5
    for run in runs:
        for before, after in pairwise(run):
            head[after, before] = 1.0
    model.lm_head.weight = head
    return model


@pytest.fixture
def folder(home) -> Path:
    return save_run(random_model())


def run(*flags: object) -> None:
    chat_eval.main([str(flag) for flag in flags])


def report(folder: Path, step: int = 10) -> dict:
    return json.loads((folder / f"chat_eval_{step:06d}.json").read_text())


def test_everything_is_counted_printed_and_written_beside_the_checkpoint(folder, capsys):
    run("--max-per-task", 4, "--max-tokens", 8, "--samples", 2)
    out, found = capsys.readouterr().out, report(folder)
    model, tokenizer, _ = load_model(folder)
    assert found["step"] == 10 and f"the report is {folder / 'chat_eval_000010.json'}" in out
    assert (folder / "chat_eval_000010.png").read_bytes().startswith(b"\x89PNG")
    assert list(found["tasks"]) == found["asked"] == lesson_tasks()
    engine = Engine(model, tokenizer, use_calculator)
    for name, entry in found["tasks"].items():
        task = get_task(name)
        expected = list(answers(engine, task, list(range(4)), max_tokens=8))
        assert entry["right"] == sum(answer.right for answer in expected) and entry["items"] == 4
        assert (
            entry["accuracy"] == entry["right"] / 4 and entry["baseline"] == task.baseline and entry["temperature"] == 0
        )
        assert entry["each"] == "".join("1" if answer.right else "0" for answer in expected)
        samples = found["samples"][name]
        assert [each["reply"] for each in samples] == [answer.reply for answer in expected[:2]]
        assert [each["question"] for each in samples] == [task[n][0]["content"] for n in (0, 1)]
        assert all(
            f"wrong: {in_one_line(each['question'])} … {in_one_line(each['reply'])}\n" in out for each in samples
        )
        assert f"│ {name} " in out
    floors = [task.baseline for task in map(get_task, lesson_tasks())]
    expected = sum(-floor / (1 - floor) for floor in floors) / len(floors)  # nothing right: worse than guessing
    assert found["chatcore"] == pytest.approx(expected)
    assert f"mean of the centred scores: {expected:+.4f} ± 0.0000" in out and "70.5%" in out


# Models whose score is known


GSM8K = [{"question": f"problem {n}", "answer": f"<<1+2=3>>3\n#### {3 if n < 6 else n}"} for n in range(8)]
MMLU = [{"question": f"{n}?", "subject": "x", "choices": list("wxyz"), "answer": 0 if n < 5 else 1} for n in range(10)]


def parquet(records):
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), buffer)
    return buffer.getvalue()


@pytest.fixture
def hub(monkeypatch, home):
    name = "test-00000-of-00001.parquet"
    with Hub({f"main/{name}": parquet(GSM8K), f"all/{name}": parquet(MMLU)}) as hub:
        monkeypatch.setattr(hub_constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(download, "WAITS", (0.01,) * 5)
        yield hub


def test_a_model_with_the_calculator_scores_what_it_must(hub, capsys):
    """It calls 1+2, and says behind the output: #### 3. Six of eight problems have that result."""
    special, digit = TOKENIZER.special, {each: TOKENIZER.encode(each)[0] for each in "123+"}
    (mark,) = TOKENIZER.encode("####")
    call = [special("<|assistant_start|>"), special("<|python_start|>"), digit["1"], digit["+"], digit["2"]]
    folder = save_run(
        model_that_writes([*call, special("<|python_end|>")], [special("<|output_end|>"), mark, digit["3"]])
    )
    run("--tasks", "gsm8k", "--samples", 1)
    entry = report(folder)["tasks"]["gsm8k"]
    assert entry["right"] == entry["each"].count("1") == 6 and entry["items"] == 8 and entry["centred"] == 0.75
    task = get_task("gsm8k")
    asked = [task[n][0]["content"] for n in range(8)]
    known = [question for question, right in zip(asked, entry["each"], strict=True) if right == "1"]
    assert sorted(known) == [f"problem {n}" for n in range(6)], "in the order of the questions"
    assert entry["standard_error"] == pytest.approx(math.sqrt(0.75 * 0.25 / 8))
    assert report(folder)["samples"]["gsm8k"][0]["reply"] == "####3"
    assert "75.0% ± 15.3%" in capsys.readouterr().out


def test_choices_are_scored_against_guessing_and_the_mean_is_of_the_tasks_asked(hub, capsys):
    """A model that always says A: half of the choices are right, which is a third of the way from guessing to all."""
    letter = TOKENIZER.encode("A")[0]
    folder = save_run(model_that_writes([TOKENIZER.special("<|assistant_start|>"), letter]))
    run("--tasks", "mmlu,gsm8k")
    found = report(folder)
    assert found["tasks"]["mmlu"]["accuracy"] == 0.5 and found["tasks"]["mmlu"]["kind"] == "categorical"
    assert found["tasks"]["mmlu"]["centred"] == pytest.approx(1 / 3) and found["tasks"]["gsm8k"]["centred"] == 0
    assert found["chatcore"] == pytest.approx(1 / 6)
    assert found["chatcore_error"] == pytest.approx(math.sqrt(0.25 / 10) / 0.75 / 2)
    assert f"mean of the centred scores: {1 / 6:+.4f} ± " in capsys.readouterr().out
    assert sorted(name for name, _ in hub.asked) == [
        "all/test-00000-of-00001.parquet",
        "main/test-00000-of-00001.parquet",
    ]


def test_questions_that_are_too_long_are_counted_and_said(hub, capsys):
    folder = save_run(random_model())  # 160 positions; a multiple choice question has about as many tokens
    run("--tasks", "mmlu")
    entry = report(folder)["tasks"]["mmlu"]
    said = re.search(r"(\d+) too long for the model", capsys.readouterr().out)
    assert entry["too_long"] == int(said[1] if said else 0) and entry["items"] == 10


def test_a_data_set_that_cannot_be_had_ends_it_before_anything_is_asked(hub, capsys):
    folder = save_run(random_model())
    with pytest.raises(SystemExit) as caught:
        run("--tasks", "identity,arc-easy")
    assert caught.value.code == 1 and "could not fetch ARC-Easy" in capsys.readouterr().err
    assert not list(folder.glob("chat_eval_*"))


# Which model, which tasks


def test_a_checkpoint_is_named_by_tag_stage_folder_or_step(folder, tmp_path, capsys):
    few = ("--tasks", "unknown", "--max-per-task", 1, "--max-tokens", 2)
    run("--tag", "d4", "--step", 5, *few)
    assert report(folder, 5)["step"] == 5
    save_run(random_model(), "other", (3,), stage="rl")
    run("--tag", "other", "--stage", "rl", *few)
    assert "model other, step 3" in capsys.readouterr().out
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    run("--checkpoint", moved / "step_000005", *few)
    run("--checkpoint", moved, *few)
    assert report(moved, 10)["step"] == 10


def test_groups_of_tasks_and_each_task_once():
    def names(tasks):
        return chat_eval.tasks_of(chat_eval.Settings(tasks=tasks))

    assert names("lessons") == lesson_tasks() and names("all") == [*lesson_tasks(), *names("downloads")]
    assert names(" spelling, identity,spelling,") == ["spelling", "identity"]
    assert names("mmlu,downloads") == ["mmlu", "gsm8k", "arc-easy", "arc-challenge"]


def test_a_temperature_samples_and_the_seed_brings_it_back(folder):
    flags = ("--tasks", "identity", "--max-per-task", 3, "--samples", 3, "--max-tokens", 6, "--temperature", 1)
    found = []
    for seed in (1, 1, 2):
        run(*flags, "--top-k", 50, "--seed", seed)
        found.append(report(folder)["samples"])
    assert found[0] == found[1] != found[2] and report(folder)["tasks"]["identity"]["temperature"] == 1


def test_what_an_earlier_run_found_about_other_tasks_stays(folder):
    run("--tasks", "identity,spelling", "--max-per-task", 2, "--max-tokens", 2, "--samples", 1)
    before = report(folder)
    run("--tasks", "spelling,unknown", "--max-per-task", 3, "--max-tokens", 2)
    found = report(folder)
    assert found["tasks"]["identity"] == before["tasks"]["identity"] and found["asked"] == ["spelling", "unknown"]
    assert [found["tasks"][name]["items"] for name in ("identity", "spelling", "unknown")] == [2, 3, 3]
    assert found["samples"] == {**before["samples"], "spelling": [], "unknown": []}


@pytest.mark.parametrize("damaged", ["", "[1", '{"tasks": 3}', '{"tasks": [1]}', "{}"])
def test_a_damaged_report_is_written_anew(folder, damaged):
    (folder / "chat_eval_000010.json").write_text(damaged)
    run("--tasks", "unknown", "--max-per-task", 1, "--max-tokens", 2)
    assert list(report(folder)["tasks"]) == ["unknown"]


def test_ctrl_c_keeps_the_tasks_that_are_done(folder, monkeypatch, capsys):
    real, asked = evaluation.answers, []

    def interrupted(engine, task, *arguments, **settings):
        asked.append(task.name)
        if len(asked) == 3:
            signal.raise_signal(signal.SIGINT)
        yield from real(engine, task, *arguments, **settings)

    monkeypatch.setattr(evaluation, "answers", interrupted)
    with pytest.raises(SystemExit) as caught:
        run("--max-per-task", 2, "--max-tokens", 4)
    captured, found = capsys.readouterr(), report(folder)
    assert caught.value.code == 130 and list(found["tasks"]) == asked[:2] and found["chatcore"] is None
    report_path = folder / "chat_eval_000010.json"
    assert captured.err == f"chat_eval: stopped during {asked[2]}; what was finished is in {report_path}\n"
    assert all(f"│ {name} " in captured.out for name in asked[:2]) and "mean of" not in captured.out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_wish_to_stop_before_anything_is_done_says_so(folder, monkeypatch, capsys):
    real = evaluation.answers
    monkeypatch.setattr(evaluation, "answers", lambda *a, **k: signal.raise_signal(signal.SIGTERM) or real(*a, **k))
    with pytest.raises(SystemExit) as caught:
        run("--max-per-task", 1, "--max-tokens", 2)
    assert caught.value.code == 143
    assert capsys.readouterr().err == "chat_eval: stopped during identity; nothing was finished\n"
    assert not list(folder.glob("chat_eval_*"))


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--tasks", "identity,sums"], 2, "--tasks has 'sums', expected some of identity,calculator"),
        (["--tasks", " , "], 2, "--tasks is empty"),
        (["--max-per-task", 0], 2, "--max-per-task is 0, expected 1 or more"),
        (["--device-batch-size", 0], 2, "--device-batch-size is 0"),
        (["--samples", -1], 2, "--samples is -1"),
        (["--max-tokens", 0], 2, "--max-tokens is 0"),
        (["--temperature", -0.5], 2, "--temperature is -0.5"),
        (["--temperature", "nan"], 2, "--temperature is nan"),
        (["--top-k", 0], 2, "--top-k is 0"),
        (["--top-k", 99999], 1, "top_k=99999, expected 1 to 268"),
        (["--step", -1], 2, "--step is -1"),
        (["--tag", "d4", "--checkpoint", "x"], 2, "--tag and --checkpoint each name a run"),
        (["--tag", "nowhere"], 1, "--stage and --tag can name sft: d4; the quickest way to one, named speedrun, is"),
        (["--tag", "d4", "--stage", "rl"], 1, "another stage: --stage sft --tag d4\n"),
        (["--tag", "../d4"], 1, "the tag '../d4' cannot name a run"),
        (["--checkpoint", "nowhere"], 1, "there is no run in "),
        (["--step", 7], 1, "step_000007 is damaged or no checkpoint"),
    ],
)
def test_what_cannot_be_ends_with_one_sentence(folder, flags, code, said, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as caught:
        run(*flags)
    error = capsys.readouterr().err
    assert caught.value.code == code and said in error
    assert error.startswith("chat_eval: ") and error.count("\n") == 1 and not list(folder.glob("chat_eval_*.json"))


def test_a_stage_that_there_is_not_is_refused(folder, capsys):
    with pytest.raises(SystemExit) as caught:
        run("--stage", "mid")
    assert caught.value.code == 2 and "sft" in capsys.readouterr().err


def test_the_program_has_its_name_in_the_package(checkout):
    text = (checkout / "pyproject.toml").read_text()
    assert re.search(r'^chat_eval = "course_lib\.scripts\.chat_eval:main"$', text, re.M)
