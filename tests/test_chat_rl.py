"""A run of chat_rl ends the same however it is interrupted, learns what is rewarded, and says what it cannot do."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import huggingface_hub.constants as hub_constants
import mlx.core as mx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub import Hub
from mlx.utils import tree_flatten
from test_base_train import assert_same_run, metrics, stop_after
from waiting import wait_for

from course_lib.chat import reinforcing
from course_lib.chat.conversation import render_conversation
from course_lib.chat.packing import collate
from course_lib.chat.reinforcing import Settings, make_recipe, names_of_tasks
from course_lib.chat.tasks import ChatTask, same_text
from course_lib.data.tokenizer import Tokenizer
from course_lib.generate import engine
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.paths import data_dir
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.scripts import chat_cli, chat_eval, chat_rl
from course_lib.train import run_folder as run_folders
from course_lib.train.checkpoint import Checkpoint, checkpoint_folders, load_model, newest_checkpoint, save_checkpoint
from course_lib.train.metrics import REWARD_PANELS, save_curves
from course_lib.train.trainer import Trainer

pytestmark = pytest.mark.slow

TINY = "--questions=3 --samples=4 --max-tokens=12 --device-batch-size=6".split()
RATES = "--init-lr-frac=0.2"


def conversation(number):
    """A question to which the model says yes or no, and yes is right."""
    question = f"is {number % 7} a number?"
    return [{"role": "user", "content": question}, {"role": "assistant", "content": "yes it is"}]


TASK = ChatTask("counting", "generative", 0.0, 200, conversation, same_text)


def program(argv):
    """chat_rl with that task in place of the lessons."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reinforcing, "get_task", lambda name, split: TASK)
        chat_rl.main(argv)


def folder_of(home, tag="d1", stage="rl"):
    return home / "checkpoints" / stage / tag


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The folder of a run as chat_sft leaves it: it says "yes it is" and "no it is not" about as often."""
    folder = tmp_path_factory.mktemp("tuned") / "d1"
    tokenizer = Tokenizer.train(["is 0123456789 a number? yes it is no it is not"] * 9, 275, allow_smaller=True)
    end, rng = tokenizer.special("<|assistant_end|>"), random.Random(0)
    model = GPT(GPTConfig(64, tokenizer.vocab_size, n_layer=1, n_head=2, n_kv_head=2, n_embd=32))
    trainer = Trainer(model, 40)
    for _ in range(40):
        talks = [conversation(rng.randrange(7)) for _ in range(16)]
        said = [[m[0], {**m[1], "content": rng.choice([m[1]["content"], "no it is not"])}] for m in talks]
        inputs, targets = collate([render_conversation(tokenizer, each) for each in said], 40, end)
        trainer.step([(mx.array(inputs), mx.array(targets))])
    tokenizer.save(folder / "tokenizer")
    meta = {"config": asdict(model.config), "tokenizer": tokenizer.fingerprint, "settings": {"tag": "d1"}}
    weights = dict(tree_flatten(model.parameters()))
    for step in (20, 40):
        save_checkpoint(folder, Checkpoint(step, weights, {}, meta))
    return folder


@pytest.fixture
def train(tuned, home, monkeypatch, capfd):
    """train("--flag", …) runs chat_rl in this process on the small task: (exit code, stdout, stderr)."""
    for tag in ("d1", "whole", "parts"):
        shutil.copytree(tuned, folder_of(home, tag, "sft"))
    monkeypatch.setattr(run_folders, "save_curves", lambda *_: None)  # saves 0.3 s
    monkeypatch.delenv("MLX_RANK", raising=False)

    def run(*flags, tiny=(*TINY, "--tasks=counting", RATES), main=program):
        capfd.readouterr()
        code = 0
        try:
            main([*([] if any("--tag" in flag for flag in flags) else ["--tag=d1"]), *tiny, *flags])
        except SystemExit as end:
            code = end.code
        return code, *capfd.readouterr()

    return run


def entries(home, name, tag="d1"):
    return [entry[name] for entry in metrics(folder_of(home, tag)) if name in entry]


# ---- stop and go on


def test_interrupted_and_resumed_equals_uninterrupted(train, home, monkeypatch):
    flags = ("--num-iterations=8", "--eval-every=3", "--sample-every=5", "--save-every=3")
    assert train(*flags, "--tag=whole", "--keep=9")[0] == 0
    saved = [path.name for path in checkpoint_folders(folder_of(home, "whole"))]
    assert saved == ["step_000008", "step_000006", "step_000003"]
    for count, (stop, number) in enumerate([(0, signal.SIGINT), (3, signal.SIGTERM), (4, signal.SIGINT)]):
        undo = stop_after(monkeypatch, stop, (number,))
        code, out, err = train(*flags, "--tag=parts", *["--resume"] * (count > 0))
        undo()
        assert (code, err) == (128 + number, "")
        assert f"stopped after {stop + 1} steps and saved them; go on with --resume --tag=parts" in out
        assert checkpoint_folders(folder_of(home, "parts"))[0].name == f"step_{stop + 1:06d}"
    code, out, err = train("--resume", "--tag=parts", tiny=())
    assert (code, err) == (0, "") and "done in" in out
    assert_same_run(folder_of(home, "whole"), folder_of(home, "parts"), 8)
    steps = {"reward": range(8), "pass_1": [0, 3, 6, 8], "samples": [5, 8]}
    for name, expected in steps.items():
        assert [entry["step"] for entry in metrics(folder_of(home, "parts")) if name in entry] == list(expected), name
    rewards = entries(home, "reward", "whole")
    assert 0 < rewards[0] < 1 and len(set(rewards)) > 2, "it sampled, and rewards differed"


@pytest.mark.usefixtures("float32")  # programs: in bfloat16 a CPU takes minutes
def test_killed_in_the_middle_it_goes_on_from_the_last_save(train, home):
    flags = ("--num-iterations=30", "--save-every=3", "--eval-every=20", "--sample-every=90", RATES)
    flags += (*TINY, "--tasks=counting")
    assert train(*flags, "--tag=whole", tiny=())[0] == 0
    file = folder_of(home, "parts") / "metrics.jsonl"
    code = "import sys, test_chat_rl; test_chat_rl.program(sys.argv[1:])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLX_")}
    environment |= {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", code, *flags, "--tag=parts"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        wait_for(lambda: process.poll() is not None or file.exists() and file.read_bytes().count(b"\n") >= 6)
        process.kill()
        _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL and err == ""
    assert 3 <= newest_checkpoint(folder_of(home, "parts")).step < 30
    code, out, err = train(*flags, "--tag=parts", "--resume", tiny=())
    assert (code, err) == (0, "")
    assert_same_run(folder_of(home, "whole"), folder_of(home, "parts"), 30)


def test_a_run_that_is_done_can_be_made_longer_and_not_shorter(train, home):
    train("--num-iterations=2")
    assert train("--resume", "--num-iterations=3", tiny=())[0] == 0
    assert len(entries(home, "reward")) == 3
    code, out, err = train("--resume", "--num-iterations=1", tiny=())
    assert code == 1 and "has done 3 steps already" in err and err.count("\n") == 1


def test_a_run_by_the_clock_ends_after_its_least_steps(train, home):
    assert train("--minutes=0.0001", "--min-iterations=3")[0] == 0
    assert len(entries(home, "reward")) == 3 and entries(home, "lr_multiplier")[-1] < 1


def test_another_task_group_or_seed_is_refused_when_going_on(train, home, tmp_path, monkeypatch):
    train("--num-iterations=2")
    for flag in ("--tasks=spelling", "--samples=5", "--questions=4", "--seed=7", "--temperature=0.5"):
        code, out, err = train("--resume", flag, tiny=())
        assert code == 1 and err.count("\n") == 1 and f"but {flag.split('=')[0]}=" in err and "begun with" in err
    shutil.copytree(data_dir(), tmp_path / "data")
    with (tmp_path / "data" / "lessons" / "words.txt").open("a") as file:
        file.write("zzz\n")
    monkeypatch.setattr(reinforcing, "data_dir", lambda: tmp_path / "data")
    code, out, err = train("--resume", "--num-iterations=3", tiny=())
    assert code == 1 and err.count("counting of") == 2 and err.count("\n") == 1


# ---- what it learns


def test_what_is_rewarded_becomes_the_habit(train, home):
    rates = (*TINY, "--tasks=counting", "--init-lr-frac=0.4")
    code, out, err = train("--num-iterations=24", "--eval-every=24", "--eval-share=0.5", tiny=rates)
    assert (code, err) == (0, "")
    first, last = entries(home, "pass_1")
    assert 0.2 < first < 0.8 and last > 0.9, "half of the replies were right, nearly all are now"
    rewards, live = entries(home, "reward"), entries(home, "live")
    assert sum(rewards[-4:]) / 4 > sum(rewards[:4]) / 4 and live[-1] <= live[0]
    assert all("yes it is" in said for _, said in entries(home, "samples")[-1])
    assert re.search(r"step 24: [\d.]+% of the replies to 36 held-out questions are right; to", out)
    assert "reward 1.00" in out and " s a step" in out and "tokens/s" not in out


def test_it_begins_with_the_weights_that_are_asked_for_and_says_so(train, home, tuned):
    assert train("--num-iterations=1", "--init-lr-frac=0", "--step=20", "--save-as=mine")[0] == 0
    model, tokenizer, meta = load_model(folder_of(home, "mine"))
    expected, of_base, _ = load_model(tuned, 20)
    a, b = dict(tree_flatten(model.parameters())), dict(tree_flatten(expected.parameters()))
    assert a.keys() == b.keys() and all(mx.array_equal(a[name], b[name]) for name in a)
    assert tokenizer.fingerprint == of_base.fingerprint and meta["base"]["step"] == 20


def test_micro_batches_of_any_size_are_the_same_replies(train, home):
    for tag, rows in (("whole", 12), ("parts", 3)):
        assert train("--num-iterations=2", f"--device-batch-size={rows}", f"--tag={tag}", "--init-lr-frac=0")[0] == 0
    for name in ("reward", "live", "reply_tokens"):
        assert entries(home, name, "whole") == entries(home, name, "parts")


def test_a_question_that_the_model_cannot_read_is_passed_over(train, home, monkeypatch):
    def sometimes_long(number):
        messages = conversation(number)
        return [{**messages[0], "content": "number " * 60}, messages[1]] if number % 2 else messages

    monkeypatch.setattr(sys.modules[__name__], "TASK", replace(TASK, conversation=sometimes_long))
    assert train("--num-iterations=2")[0] == 0
    assert newest_checkpoint(folder_of(home)).meta["data"]["next"] == 11, "6 questions, and the 5 between them"
    monkeypatch.setattr(sys.modules[__name__], "TASK", replace(TASK, conversation=lambda n: sometimes_long(1)))
    code, out, err = train("--num-iterations=2", "--overwrite")
    assert code == 1 and err.count("\n") == 1 and "no question of counting is as short" in err


def test_the_newest_model_is_taken_without_a_tag_and_other_programs_load_what_came_of_it(train, home, capfd):
    for tag in ("whole", "parts"):
        shutil.rmtree(folder_of(home, tag, "sft"))
    assert train("--num-iterations=1", main=lambda argv: program(argv[1:]))[0] == 0
    with pytest.raises(SystemExit):
        chat_cli.main(["-p", "is 3 a number?", "--stage=rl", "--max-tokens=9"])
    assert capfd.readouterr().out.strip()
    chat_eval.main(["--stage=rl", "--tag=d1", "--tasks=counting", "--max-per-task=2", "--max-tokens=9"])
    assert "2" in capfd.readouterr().out and (folder_of(home) / "chat_eval_000001.json").exists()


def test_real_lessons_are_asked_in_turn(train, home, monkeypatch):
    asked, generate = [], engine.Engine.generate_batch

    def watched(own, prompts, *args, **settings):
        asked.extend(own.tokenizer.decode(prompt) for prompt in prompts)
        return generate(own, prompts, *args, **settings)

    monkeypatch.setattr(engine.Engine, "generate_batch", watched)
    flags = ("--tasks=counting,mental", "--num-iterations=1", "--sample-every=9", "--questions=4", "--samples=2")
    path = folder_of(home, "d1", "sft")
    tokenizer, model = Tokenizer.load(path / "tokenizer"), GPT(GPTConfig(160, 275, 1, 2, 2, 16))
    meta = {"config": asdict(model.config), "tokenizer": tokenizer.fingerprint}
    save_checkpoint(path, Checkpoint(60, dict(tree_flatten(model.parameters())), {}, meta))
    code, out, err = train(*flags, "--eval-share=0", tiny=("--max-tokens=3",), main=chat_rl.main)
    assert (code, err) == (0, "")
    trained = [each for each in asked if asked.count(each) == 2]
    assert len(trained) >= 8 and trained[0] == trained[1] != trained[2]
    assert re.search(r"\d", trained[2]) and not re.search(r"\d", trained[0])


def test_curves_are_drawn(tmp_path):
    log = [{"step": n, "reward": 0.1 * n, "live": 1 - 0.1 * n, "reply_tokens": 9.0, "loss": 0.0} for n in range(5)]
    save_curves(tmp_path / "a.png", [*log, {"step": 0, "pass_1": 0.5}, {"step": 5, "pass_1": 0.75}], REWARD_PANELS)
    assert (tmp_path / "a.png").stat().st_size > 5000


# ---- what cannot be asked for


@pytest.mark.parametrize(
    ("tasks", "why"),
    [
        ("identity", "whose answers are prose that no rule can check"),
        ("calculator,unknown", "--tasks has 'unknown', whose answers are prose"),
        ("blind-calculator", "blind questions are for tests alone"),
        ("smoltalk", "which is no task"),
        ("lessons", "which is no task"),
        ("", "--tasks is empty"),
        (" , ", "--tasks is empty"),
    ],
)
def test_a_task_whose_answers_no_rule_can_check_is_refused(train, home, tasks, why):
    code, out, err = train(f"--tasks={tasks}", main=chat_rl.main)
    assert code == 2 and err.count("\n") == 1 and why in err
    assert "expected some of calculator, mental, counting, spelling, gsm8k, mmlu, arc-easy, arc-challenge" in err
    assert not checkpoint_folders(folder_of(home))


def test_tasks_are_named_in_any_order_and_once():
    assert names_of_tasks("spelling, calculator,spelling") == ["spelling", "calculator"]


def test_several_processes_are_refused(train, home):
    code, out, err = train("--processes=2")
    assert code == 2 and "leave the flag out" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--samples=1", "--samples is 1, expected 2 or more"),
        ("--temperature=0", "--temperature is 0.0, expected a number above 0"),
        ("--top-k=9999", "--top-k is 9999, expected at most"),
        ("--device-batch-size=5", "--device-batch-size is 5, expected a divisor of 12"),
        ("--questions=0", "--questions is 0"),
    ],
)
def test_numbers_that_make_no_run_are_refused(train, home, flag, said):
    code, out, err = train(flag)
    assert code == 2 and said in err and err.count("\n") == 1


def test_without_a_model_of_ones_own_the_starter_is_taken(home, capsys):
    chat_rl.main(["--tasks=counting", "--dry-run"])
    captured = capsys.readouterr()
    assert captured.out.startswith("model        starter, step") and "taking the starter model" in captured.err


def test_a_model_that_there_is_not_is_one_sentence(home, capsys):
    with pytest.raises(SystemExit) as end:
        chat_rl.main(["--tasks=counting", "--tag=mine"])
    err = capsys.readouterr().err
    assert end.value.code == 1 and "there is no run in" in err and err.count("\n") == 1


def test_a_dry_run_leaves_nothing(train, home):
    code, out, err = train("--dry-run")
    assert (code, err) == (0, "") and "counting: 60 steps of 3 questions, 4 replies to each" in out
    assert not folder_of(home).exists()


def test_what_is_not_given_follows_from_the_model():
    config = GPTConfig(128, 300, 2, 2, 2, 32)
    found = make_recipe(Settings(), config)
    assert (found.num_iterations, found.sequence_len, found.total_batch_size) == (60, 128, 64 * 128)
    assert found.rates.matrix_lr == pytest.approx(0.001) and found.rates.warmdown_ratio == 1.0
    cadence = found.cadence
    assert (cadence.eval_every, cadence.eval_batches, cadence.sample_every, cadence.save_every) == (15, 30, 30, 6)
    found = make_recipe(Settings(num_iterations=8, eval_every=4, eval_share=0.5, questions=2), config)
    assert (found.cadence.eval_batches, found.cadence.save_every) == (4, 1)
    with pytest.raises(FlagError):
        make_recipe(Settings(resume=True, overwrite=True), config)


# ---- a downloaded task


def parquet(rows):
    table, sink = pa.Table.from_pylist(rows), pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def test_gsm8k_is_fetched_once_and_its_marked_number_is_what_counts(train, home, monkeypatch, tuned):
    rows = [{"question": f"what is {n}?", "answer": f"it is <<{n}+0={n}>>{n}\n#### {n}"} for n in range(6)]
    names = {f"main/{split}-00000-of-00001.parquet": parquet(rows) for split in ("train", "test")}
    model, tokenizer, _ = load_model(tuned)
    with Hub(names) as hub:
        monkeypatch.setattr(hub_constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        flags = ("--tasks=gsm8k", "--num-iterations=2", "--eval-every=1")
        assert train(*flags, tiny=TINY, main=chat_rl.main)[0] == 0
        asked = sorted(name for name, _ in hub.asked)
        assert asked == sorted(names)
    found = newest_checkpoint(folder_of(home)).meta
    assert found["data_fingerprint"] == "gsm8k" and found["data"]["next"] == 6
    source = reinforcing.Attempts(["gsm8k"], tokenizer, make_recipe(Settings(), model.config), Settings())
    task, messages = source.task_and_messages("train", 7)  # after the last comes the first
    assert messages == source.task_and_messages("train", 1)[1]
    number = messages[0]["content"].split()[-1].rstrip("?")
    assert task.evaluate(messages, f"so #### {number}") and not task.evaluate(messages, f"so {number}")


def test_a_data_set_that_cannot_be_had_is_one_sentence(train, home, monkeypatch):
    with Hub({}) as hub:
        monkeypatch.setattr(hub_constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        code, out, err = train("--tasks=gsm8k", main=chat_rl.main)
    assert code == 1 and err.count("\n") == 1 and json.dumps(err)
    assert not checkpoint_folders(folder_of(home)) and CourseError
