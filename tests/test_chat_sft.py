"""A run of chat_sft ends the same however it is interrupted, and what a user can do wrong is one sentence."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chat_models import taught
from devices import EXACT
from mlx.utils import tree_flatten
from test_base_train import assert_same_run, contents, metrics, stop_after
from waiting import wait_for

from course_lib import backend
from course_lib.chat import fine_tuning
from course_lib.chat.conversation_loader import ConversationLoader
from course_lib.chat.fine_tuning import Settings, make_recipe, names_in
from course_lib.chat.lessons import practice
from course_lib.chat.sources import is_held_out, mixed, open_conversations
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.files import sha256_of
from course_lib.host.paths import data_dir
from course_lib.model.gpt import GPT, init_weights
from course_lib.scripts import base_train, chat_sft
from course_lib.train import local_ring, run_folder
from course_lib.train.checkpoint import checkpoint_folders, load_model, newest_checkpoint
from course_lib.train.trainer import Trainer

pytestmark = pytest.mark.slow

TINY = "--sequence-len=64 --total-batch-size=256 --device-batch-size=2".split()


def talk(number):
    return [{"role": "user", "content": f"say {number}"}, {"role": "assistant", "content": "so it is, I say"}]


def write(path, talks):
    path.write_text("\n".join(json.dumps({"messages": messages}) for messages in talks))
    return path


def base_of(home, tag="d1"):
    return home / "checkpoints" / "base" / tag


def folder_of(home, tag="d1"):
    return home / "checkpoints" / "sft" / tag


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of a run of base_train: two steps of one layer, on the words of the lessons."""
    home = tmp_path_factory.mktemp("base")
    texts = [str(practice(number)) for number in range(600)]
    Tokenizer.train(texts, 420).save(home / "tokenizer")
    (home / "text.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_HOME", str(home))
        patch.setattr(backend, "matmul_gflops", lambda *_: 100.0)
        patch.setattr(run_folder, "save_curves", lambda *_: None)
        flags = "--depth=1 --sequence-len=160 --total-batch-size=320 --num-iterations=3 --save-every=1 --processes=1"
        base_train.main([f"--dataset={home / 'text.jsonl'}", *flags.split()])
    return base_of(home)


@pytest.fixture
def train(base, home, monkeypatch, capfd):
    """train("--flag", …) runs chat_sft in this process: (exit code, stdout, stderr). Tags: d1, whole, parts.

    quick: without samples and the trial of speed, which take half of the time.
    """
    for tag in ("d1", "whole", "parts"):
        shutil.copytree(base, base_of(home, tag))
    monkeypatch.setattr(backend, "matmul_gflops", lambda *_: 100.0)  # saves 0.2 s
    monkeypatch.setattr(run_folder, "save_curves", lambda *_: None)  # and this 0.3 s
    monkeypatch.delenv("MLX_RANK", raising=False)

    def program(*flags, tiny=TINY, quick=True):
        capfd.readouterr()
        code = 0
        with pytest.MonkeyPatch.context() as patch:
            if quick:
                patch.setattr(fine_tuning.Talks, "preview", lambda *_: [])
                patch.setattr(run_folder, "trial", lambda *_: 0.1)
            try:
                chat_sft.main(["--processes=1", "--tag=d1", *tiny, *flags])
            except SystemExit as end:
                code = end.code
        return code, *capfd.readouterr()

    return program


def entries(home, name, tag="d1"):
    return [entry[name] for entry in metrics(folder_of(home, tag)) if name in entry]


def snapshot(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ---- stop and go on


@pytest.mark.slow
def test_interrupted_and_resumed_equals_uninterrupted(train, home, monkeypatch):
    flags = ("--num-iterations=8", "--eval-every=3", "--sample-every=5", "--save-every=3")
    assert train(*flags, "--tag=whole", "--keep=9", quick=False)[0] == 0
    saved = [path.name for path in checkpoint_folders(folder_of(home, "whole"))]
    assert saved == ["step_000008", "step_000006", "step_000003"]
    for count, (stop, number) in enumerate([(0, signal.SIGINT), (3, signal.SIGTERM), (4, signal.SIGINT)]):
        undo = stop_after(monkeypatch, stop, (number,))
        code, out, err = train(*flags, "--tag=parts", *["--resume"] * (count > 0), quick=False)
        undo()
        assert (code, err) == (128 + number, "")
        assert f"stopped after {stop + 1} steps and saved them; go on with --resume --tag=parts" in out
        assert checkpoint_folders(folder_of(home, "parts"))[0].name == f"step_{stop + 1:06d}"
    code, out, err = train("--resume", "--tag=parts", tiny=(), quick=False)
    assert (code, err) == (0, "") and "done in" in out
    assert_same_run(folder_of(home, "whole"), folder_of(home, "parts"), 8)
    for name, steps in (("loss", range(8)), ("bits_per_byte", [0, 3, 6, 8]), ("samples", [5, 8])):
        assert [entry["step"] for entry in metrics(folder_of(home, "parts")) if name in entry] == list(steps), name


@pytest.mark.slow
def test_the_conversations_go_on_where_they_were(train, home, monkeypatch):
    seen, step = [], Trainer.step

    def watched(trainer, micro_batches):
        pairs = list(micro_batches)
        if trainer.num_iterations == 6:  # not the trial's
            seen.append([(i.tolist(), t.tolist()) for i, t in pairs])
        return step(trainer, pairs)

    monkeypatch.setattr(Trainer, "step", watched)
    train("--num-iterations=6", "--tag=whole")
    whole, seen[:] = list(seen), []
    undo = stop_after(monkeypatch, 2)
    train("--num-iterations=6", "--tag=parts")
    undo()
    train("--resume", "--tag=parts", tiny=())
    assert len(whole) == 6 and seen == whole
    tokenizer = Tokenizer.load(folder_of(home, "whole") / "tokenizer")
    loader = ConversationLoader(mixed([open_conversations("practice", "train")]), tokenizer, 2, 64)
    for pairs in whole:
        for inputs, targets in pairs:
            expected = next(loader)
            assert (inputs, targets) == (expected[0].tolist(), expected[1].tolist())
    assert newest_checkpoint(folder_of(home, "whole")).meta["data"] == loader.state


def spawn(*flags, **options):
    """chat_sft as a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLX_")}
    command = [sys.executable, "-m", "course_lib.scripts.chat_sft", *TINY, *flags]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen(command, env={**environment, "OPENBLAS_NUM_THREADS": "1"}, **options)


@pytest.mark.slow
@pytest.mark.usefixtures("float32")  # programs: in bfloat16 a CPU takes minutes
def test_killed_in_the_middle_it_goes_on_from_the_last_save(train, home):
    flags = ("--num-iterations=40", "--save-every=3", "--eval-every=30", "--sample-every=90")
    assert train(*flags, "--tag=whole")[0] == 0
    file = folder_of(home, "parts") / "metrics.jsonl"
    with spawn(*flags, "--processes=1", "--tag=parts") as process:
        wait_for(lambda: process.poll() is not None or file.exists() and file.read_bytes().count(b"\n") >= 6)
        process.kill()
        _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL and err == ""
    assert 3 <= newest_checkpoint(folder_of(home, "parts")).step < 40
    code, out, err = train(*flags, "--tag=parts", "--resume")
    assert (code, err) == (0, "")
    assert_same_run(folder_of(home, "whole"), folder_of(home, "parts"), 40)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="two processes on one machine")
@pytest.mark.usefixtures("float32")  # programs: in bfloat16 a CPU takes minutes
def test_two_processes_end_as_one_with_twice_the_accumulation(train, home):
    flags = ("--num-iterations=6", "--eval-every=3", "--sample-every=4", "--save-every=2")
    assert train(*flags, "--tag=whole")[0] == 0
    with spawn(*flags, "--processes=2", "--tag=parts") as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "") and "done in" in out
    a, b = (contents(folder_of(home, tag) / "step_000006") for tag in ("whole", "parts"))
    assert not EXACT or [name for name in a[0] if a[0][name] != b[0][name]] == []
    assert a[1]["data"] == b[1]["data"] and (a[1]["processes"], b[1]["processes"]) == (1, 2)
    for name in ("loss", "bits_per_byte"):
        one, two = entries(home, name, "whole"), entries(home, name, "parts")
        assert one == pytest.approx(two, rel=1e-6 if EXACT else 2e-2) and len(one) >= 3


@pytest.mark.slow
def test_a_run_that_is_done_can_be_made_longer_and_not_shorter(train, home):
    train("--num-iterations=3")
    assert train("--resume", "--num-iterations=4", tiny=())[0] == 0
    assert [entry["step"] for entry in metrics(folder_of(home)) if "loss" in entry] == [0, 1, 2, 3]
    code, out, err = train("--resume", "--num-iterations=2", tiny=())
    assert code == 1 and "has done 4 steps already" in err and err.count("\n") == 1


def test_another_data_base_or_seed_is_refused_when_going_on(train, home, tmp_path):
    train("--num-iterations=2")
    before = snapshot(folder_of(home))
    own = write(tmp_path / "own.jsonl", [talk(n) for n in range(30)])
    code, out, err = train("--resume", f"--data={own}", tiny=())
    assert (
        code == 1
        and err.count("\n") == 1
        and re.search(r"other data, practice of [\d,]+ bytes \(\w+\), than is here now, [\d,]+ bytes", err)
    )
    for flag in ("--seed=7", "--from-scratch", "--init-lr-frac=0.1", "--total-batch-size=512"):
        code, out, err = train("--resume", flag, tiny=())
        assert code == 1 and err.count("\n") == 1 and f"but {flag.split('=')[0]}=" in err and "begun with" in err
        assert snapshot(folder_of(home)) == before


def test_rows_that_were_added_are_refused_and_a_file_that_moved_is_the_same(train, home, tmp_path, monkeypatch):
    own = write(tmp_path / "own.jsonl", [talk(n) for n in range(30)])
    monkeypatch.chdir(tmp_path)
    flags = ("--num-iterations=4", "--eval-every=9", "--save-every=9")
    train(*flags, f"--data=practice,{own}", "--tag=whole")
    undo = stop_after(monkeypatch, 1)
    assert train(*flags, "--data=practice, own.jsonl", "--tag=parts")[0] == 130
    undo()
    own.rename(tmp_path / "moved.txt")
    code, out, err = train("--resume", "--tag=parts", tiny=())
    assert code == 1 and "no conversations" in err and str(own) in err
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/")
    assert train("--resume", "--data=practice,~/moved.txt", "--tag=parts", tiny=())[0] == 0
    assert_same_run(folder_of(home, "whole"), folder_of(home, "parts"), 4)
    before = snapshot(folder_of(home, "parts"))
    write(tmp_path / "moved.txt", [talk(n) for n in range(31)])
    again = ("--resume", "--tag=parts", "--num-iterations=5")
    code, out, err = train(*again, tiny=())
    assert code == 1 and err.count("\n") == 1 and "--changed-data=now" in err and "--changed-data=before" not in err
    assert snapshot(folder_of(home, "parts")) == before
    assert train(*again, "--changed-data=now", tiny=())[0] == 0


def test_lessons_that_were_changed_are_refused(train, home, tmp_path, monkeypatch):
    train("--num-iterations=2")
    shutil.copytree(data_dir(), tmp_path / "data")
    with (tmp_path / "data" / "lessons" / "words.txt").open("a") as file:
        file.write("zzz\n")
    monkeypatch.setattr(fine_tuning, "data_dir", lambda: tmp_path / "data")
    code, out, err = train("--resume", "--num-iterations=3", tiny=())
    assert code == 1 and err.count("practice of") == 2 and err.count("\n") == 1


def test_a_run_of_an_earlier_version_goes_on(train, home):
    train("--num-iterations=2")
    path = folder_of(home) / "step_000002"
    meta = json.loads((path / "meta.json").read_text())
    del meta["data_fingerprint"]
    (path / "meta.json").write_text(json.dumps(meta))
    sums = json.loads((path / "sha256.json").read_text())
    (path / "sha256.json").write_text(json.dumps({**sums, "meta.json": sha256_of(path / "meta.json")}))
    assert train("--resume", "--num-iterations=3", tiny=())[0] == 0


def test_a_base_with_another_tokenizer_is_refused_when_going_on(train, home, tmp_path, monkeypatch):
    undo = stop_after(monkeypatch, 1)
    assert train("--num-iterations=4")[0] == 130
    undo()
    before = newest_checkpoint(folder_of(home)).meta
    texts = [str(practice(number))[::-1] for number in range(600)]
    Tokenizer.train(texts, 420).save(tmp_path / "other")
    (tmp_path / "text.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    flags = "--depth=1 --sequence-len=160 --total-batch-size=320 --num-iterations=1 --processes=1 --overwrite"
    base_train.main([f"--dataset={tmp_path / 'text.jsonl'}", f"--tokenizer={tmp_path / 'other'}", *flags.split()])
    assert load_model(base_of(home))[1].fingerprint != before["tokenizer"]
    code, out, err = train("--resume", tiny=())
    assert code == 1 and err.count("\n") == 1 and "tokenizer" in err
    assert newest_checkpoint(folder_of(home)).meta == before


def test_a_longer_run_of_the_base_changes_nothing_for_one_that_goes_on(train, home, monkeypatch):
    flags = ("--num-iterations=4",)
    shutil.rmtree(base_of(home, "parts") / "step_000003")  # the newest is step 2
    undo = stop_after(monkeypatch, 1)
    assert train(*flags, "--tag=parts")[0] == 130
    undo()
    begun = newest_checkpoint(folder_of(home, "parts")).meta["base"]
    assert begun["step"] == 2
    shutil.copytree(base_of(home) / "step_000003", base_of(home, "parts") / "step_000003")
    assert train("--resume", "--tag=parts", tiny=())[0] == 0
    assert newest_checkpoint(folder_of(home, "parts")).meta["base"] == begun


# ---- what it begins with, and how fast it learns


def weights_of(model):
    return {name: np.array(weight) for name, weight in tree_flatten(model.parameters())}


@pytest.mark.parametrize("step", [None, 1])
def test_it_begins_with_the_weights_of_the_base(train, home, step):
    assert train("--num-iterations=2", "--init-lr-frac=0", *[f"--step={step}"] * (step is not None))[0] == 0
    model, tokenizer, meta = load_model(folder_of(home))
    expected, base_tokenizer, base_meta = load_model(base_of(home), step)
    a, b = weights_of(model), weights_of(expected)
    assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
    assert tokenizer.fingerprint == base_tokenizer.fingerprint and meta["config"] == base_meta["config"]
    assert meta["base"]["step"] == (step or 3) and meta["base"]["bits_per_byte"] == base_meta["bits_per_byte"]
    assert meta["base"]["settings"] == base_meta["settings"]


def test_from_scratch_it_begins_with_new_weights_of_the_same_shape(train, home):
    assert train("--num-iterations=1", "--init-lr-frac=0", "--from-scratch", "--seed=9")[0] == 0
    model = load_model(folder_of(home))[0]
    expected = GPT(model.config)
    backend.seed_everything(9)
    init_weights(expected, 9)
    a, b = weights_of(model), weights_of(expected)
    assert all(np.array_equal(a[name], b[name]) for name in a)
    loss = entries(home, "loss")[0]
    assert loss == pytest.approx(np.log(model.config.vocab_size), rel=1e-3), "it knows nothing"


def test_the_learning_rates_fall_along_a_line_to_zero(train, home, monkeypatch):
    rates, step = [], Trainer.step

    def watched(trainer, micro_batches):
        result = step(trainer, micro_batches)
        if trainer.num_iterations == 8:
            rates.append([each.learning_rate.item() for each in trainer.optimizer.optimizers])
        return result

    monkeypatch.setattr(Trainer, "step", watched)
    train("--num-iterations=8", "--init-lr-frac=0.25", "--matrix-lr=0.04", "--warmdown-ratio=1")
    multipliers = entries(home, "lr_multiplier")
    assert multipliers == pytest.approx([(8 - n) / 8 for n in range(8)])
    rates = np.array(rates)
    assert rates[0, 0] == pytest.approx(0.25 * 0.04, rel=1e-5)
    assert np.allclose(rates / rates[0], np.array(multipliers)[:, None], rtol=1e-5)
    names = {"matrix_lr": 0.02, "embedding_lr": 0.2, "unembedding_lr": 0.004}
    given = Trainer(load_model(base_of(home))[0], 8, **{name: 0.25 * value for name, value in names.items()})
    expected = [rate * (2 if n == 0 else 1) for n, rate in enumerate(given.peaks)]
    assert sorted(rates[0]) == pytest.approx(sorted(np.array(expected, float)), rel=1e-5)


def test_easy_conversations_are_learnt(train, home, tmp_path):
    own = write(tmp_path / "own.jsonl", [talk(n) for n in range(200)])
    code, out, err = train(f"--data={own}", "--num-iterations=25", "--eval-every=25", "--init-lr-frac=1", quick=False)
    assert (code, err) == (0, "")
    bits, losses = entries(home, "bits_per_byte"), entries(home, "loss")
    assert bits[1] < 0.3 * bits[0] and losses[-1] < 0.3 * losses[0]
    assert newest_checkpoint(folder_of(home)).meta["bits_per_byte"] == bits[-1]
    samples = entries(home, "samples")[-1]
    assert len(samples) == 3 and all("so it is, I say" in said for _, said in samples)
    assert "so it is, I say" in out


def test_it_is_asked_what_it_is_not_trained_on(train, home):
    train("--num-iterations=1", quick=False)
    asked = [question for question, _ in entries(home, "samples")[-1]]
    assert asked == [practice(number, split="test")[0]["content"] for number in range(3)]


@pytest.mark.slow
def test_a_question_that_is_longer_than_the_model_can_read_ends_no_run(train, home, tmp_path):
    long = [{"role": "user", "content": "what is " * 200}, {"role": "assistant", "content": "so"}]
    own = write(tmp_path / "own.jsonl", [[*each, *long] for each in map(talk, range(40))])
    code, out, err = train(f"--data={own}", "--num-iterations=2", quick=False)
    assert (code, err) == (0, "") and checkpoint_folders(folder_of(home))[0].name == "step_000002"
    alone = [[{**long[0], "content": long[0]["content"] + str(number)}, long[1]] for number in range(40)]
    own = write(
        tmp_path / "own.jsonl", [each for pair in zip(alone, map(talk, range(40)), strict=True) for each in pair]
    )
    code, out, err = train(f"--data={own}", "--num-iterations=2", "--overwrite", quick=False)
    assert (code, err) == (0, "") and checkpoint_folders(folder_of(home))[0].name == "step_000002"


@pytest.mark.parametrize("split", ["train", "val"])
def test_conversations_of_which_nothing_would_be_trained_are_refused_before_the_first_step(
    train, home, tmp_path, split
):
    def said(number, words):
        return [{"role": "user", "content": f"{number} " + "what is " * words}, {"role": "assistant", "content": "so"}]

    def is_validated(messages):
        return is_held_out(json.dumps(messages, sort_keys=True))

    long = [each for n in range(200) if is_validated(each := said(n, 200)) == (split == "val")]
    short = [each for n in range(200) if is_validated(each := said(n, 0)) == (split == "train")]
    own = write(tmp_path / "own.jsonl", long + short)
    for data in (f"{own}", f"practice,{own}"):
        code, out, err = train(f"--data={data}", "--num-iterations=1", "--sequence-len=32")
        assert code == 1 and err.count("\n") == 1 and "has an answer that begins within 32 tokens" in err
        assert str(own) in err and "--sequence-len" in err and "step 0" not in out
    assert not folder_of(home).exists()


def test_a_sample_gets_results_from_the_calculator():
    model, tokenizer = taught()
    asked = (lambda number: [{"role": "user", "content": "6*7?"}]), 1
    talks = fine_tuning.Talks({"train": [asked], "val": [asked]}, tokenizer, None, "")
    assert talks.preview(model)[0][1] == "Let me see: [6*7 = 42] It is 42."


def test_a_system_message_and_a_last_question_are_taken(train, home, tmp_path):
    talks = [
        [{"role": "system", "content": "be brief"}, *talk(n), {"role": "user", "content": "more"}] for n in range(30)
    ]
    code, out, err = train(f"--data={write(tmp_path / 'own.jsonl', talks)}", "--num-iterations=1", quick=False)
    assert (code, err) == (0, "")
    assert all(re.fullmatch(r"say \d+", question) for question, _ in entries(home, "samples")[-1])


def test_validation_is_of_other_conversations_and_always_of_the_same(train, home, tmp_path, monkeypatch):
    seen, validate = [], run_folder.validate

    def watched(model, batches, *others):
        batches = list(batches)
        seen.append([(i.tolist(), t.tolist()) for i, t in batches])
        return validate(model, batches, *others)

    monkeypatch.setattr(run_folder, "validate", watched)
    own = write(tmp_path / "own.jsonl", [talk(n) for n in range(300)])
    train(f"--data={own}", "--num-iterations=3", "--eval-every=1", "--eval-share=0.5")
    assert len(seen) == 4 and all(each == seen[0] for each in seen) and seen[0]
    tokenizer = load_model(folder_of(home))[1]
    text = " ".join(tokenizer.decode(row) for inputs, _ in seen[0] for row in inputs)
    numbers = set(map(int, re.findall(r"say (\d+)<", text)))
    conversations, size = open_conversations(str(own), "train")
    trained = {int(conversations(n)[0]["content"][4:]) for n in range(size)}
    assert numbers and not numbers & trained


def test_several_sources_are_mixed(train, home, tmp_path):
    one = write(tmp_path / "one.jsonl", [talk(n) for n in range(50)])
    two = write(tmp_path / "two.jsonl", [talk(n) for n in range(500, 600)])
    code, out, err = train(f"--data={one}, {two}", "--num-iterations=4")
    assert (code, err) == (0, "") and f"{one},{two}" in out
    assert train(f"--data={one},practice", "--num-iterations=1", "--overwrite")[0] == 0


def test_paths_with_commas_and_many_names_are_told_apart(tmp_path, monkeypatch):
    folder = tmp_path / "of Anna, Ben"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("a", "b", "a,b"):
        (folder / name).touch()
    many = [f"{number:0100d}" for number in range(5)]
    for data in ("practice, a ,b", "b,gsm8k,a", "a,b", "practice,a,b", ",".join(["a", *many]), "", "a,,b", ","):
        names = names_in(data)
        assert names_in(",".join(names)) == names, "as it is resumed"
        assert [Path(name).name for name in names] == {
            "practice, a ,b": ["practice", "a", "b"],
            "b,gsm8k,a": ["b", "gsm8k", "a"],
            "a,b": ["a,b"],
            "practice,a,b": ["practice", "a,b"],
            "": [""],
            "a,,b": ["a", "", "b"],
            ",": ["", ""],
        }.get(data, ["a", *many])


def test_without_a_number_of_steps_the_data_is_gone_through_once(train, home, tmp_path):
    own = write(tmp_path / "own.jsonl", [talk(n) for n in range(200)])
    code, out, err = train(f"--data={own}")
    assert (code, err) == (0, "")
    place = newest_checkpoint(folder_of(home)).meta["data"]["next"]
    assert place == pytest.approx(open_conversations(str(own), "train")[1], rel=0.15)


# ---- settings


def test_what_is_not_given_follows_from_the_model_and_the_data(home, base, monkeypatch):
    config = replace(load_model(base)[0].config, sequence_len=128)
    monkeypatch.setattr(backend, "memory_for_arrays", lambda: 10**11)
    wide = replace(config, sequence_len=256)
    monkeypatch.setattr(backend, "device_kind", lambda: "metal")
    assert make_recipe(Settings(), wide, float("inf")).total_batch_size == 32_768
    monkeypatch.setattr(backend, "device_kind", lambda: "cpu")

    def cadence(recipe):
        return recipe.cadence.eval_every, recipe.cadence.save_every, recipe.cadence.sample_every

    found = make_recipe(Settings(), wide, float("inf"))
    assert (found.sequence_len, found.num_iterations, found.total_batch_size) == (128, 400, 4096)
    assert (found.device_batch_size, *cadence(found)) == (32, 40, 40, 200)
    assert (found.rates.matrix_lr, found.rates.warmdown_ratio) == (0.02, 0.4)
    found = make_recipe(Settings(data="mine.jsonl"), wide, 4096 * 7.0)
    assert (found.sequence_len, found.num_iterations) == (256, 7)
    rates = found.rates
    assert (rates.matrix_lr, rates.embedding_lr, rates.unembedding_lr) == pytest.approx((0.002, 0.02, 0.0004))
    assert rates.warmdown_ratio == 1.0
    assert cadence(found) == (1, 1, 3)
    assert make_recipe(Settings(), config, 10.0).num_iterations == 1
    assert make_recipe(Settings(), replace(config, sequence_len=64), float("inf")).sequence_len == 64
    asked = Settings(sequence_len=32, total_batch_size=320, device_batch_size=5, num_iterations=9)
    asked = replace(asked, eval_every=4, save_every=5, sample_every=6, init_lr_frac=0.3, warmdown_ratio=0.6)
    found = make_recipe(asked, config, 10.0)
    assert (found.sequence_len, found.total_batch_size, found.device_batch_size) == (32, 320, 5)
    assert (found.num_iterations, *cadence(found)) == (9, 4, 5, 6)
    assert (found.rates.matrix_lr, found.rates.warmdown_ratio) == (pytest.approx(0.006), 0.6)
    for wrong in ({"sequence_len": 129}, {"total_batch_size": 100}, {"device_batch_size": 3}):
        with pytest.raises(FlagError):
            make_recipe(replace(Settings(), **wrong), config, 10.0)
    monkeypatch.setattr(backend, "memory_for_arrays", lambda: 1000)
    with pytest.raises(CourseError, match="needs"):
        make_recipe(Settings(), config, 10.0)


@pytest.mark.slow
@pytest.mark.parametrize("data, expected", [("practice", 128), ("{}", 160), ("practice,{}", 160)])
def test_rows_are_the_models_unless_practice_is_alone(train, home, tmp_path, data, expected):
    own = write(tmp_path / "own.jsonl", [talk(n) for n in range(60)])
    code, out, err = train(f"--data={data.format(own)}", "--num-iterations=1", tiny=["--total-batch-size=1280"])
    assert (code, err) == (0, "")
    assert newest_checkpoint(folder_of(home)).meta["settings"]["sequence_len"] == expected


# ---- what a user can do wrong


def test_bad_rows_end_it_with_their_numbers_and_no_traceback(train, home, tmp_path):
    own = tmp_path / "own.jsonl"
    own.write_text("\n".join([json.dumps({"messages": talk(1)}), "{}", json.dumps({"messages": talk(1)[:1]})]))
    code, out, err = train(f"--data={own}", "--num-iterations=1")
    assert code == 1 and "Traceback" not in out + err and not checkpoint_folders(folder_of(home))
    assert err.startswith(f"chat_sft: {own} has 2 rows of 3 that cannot be trained on: line 2: it has nothing")
    assert "; line 3: no message is from the assistant" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "flag, said",
    [
        ("--data=alpaca", "there are no conversations 'alpaca'"),
        ("--data=", "there are no conversations ''"),
        ("--data=practice,/", "/ is a folder"),
        ("--data=practice,", "there are no conversations ''"),
        ("--tag=none", "none"),
        ("--tag=../d1", "cannot name a run"),
        ("--step=77", "step_000077"),
        ("--resume", "checkpoint"),
    ],
)
def test_what_there_is_not_is_one_sentence(train, home, flag, said):
    code, out, err = train("--num-iterations=1", flag)
    assert code == 1 and err.startswith("chat_sft: ") and err.count("\n") == 1 and said in err
    assert not list((home / "checkpoints").glob("sft/*/step_*"))


def test_a_model_that_was_never_trained_is_one_sentence(home, monkeypatch, capfd):
    with pytest.raises(SystemExit) as end:
        chat_sft.main(["--processes=1", "--num-iterations=1"])
    _, err = capfd.readouterr()
    assert end.value.code == 1 and err.count("\n") == 1 and "d4" in err and "base_train" in err


def test_a_bad_flag_is_one_sentence(train, home):
    for flag in (
        *("--keep=0", "--matrix-lr=nan", "--init-lr-frac=-1", "--max-rise=0", "--max-rise=nan", "--seed=-1"),
        *("--seed=4294967296", "--num-iterations=0", "--step=-1", "--eval-share=-0.1", "--save-every=0"),
        *("--sequence-len=161", "--total-batch-size=100", "--device-batch-size=3", "--processes=0"),
    ):
        code, out, err = train(flag)
        assert code == 2 and err.count("\n") == 1 and err.startswith("chat_sft: "), flag
        assert flag.split("=")[0] in err, flag
    code, out, err = train("--resume", "--overwrite")
    assert code == 2 and "give one of them" in err
    for flags in (["--num-iterations=x"], ["--no-such-flag"], ["--depth=4"]):
        assert train(*flags)[0] == 2
    assert not folder_of(home).exists()


def test_a_run_is_not_overwritten_unless_asked_and_then_not_for_a_mistake(train, home):
    train("--num-iterations=2")
    before, base_before = snapshot(folder_of(home)), snapshot(base_of(home))
    code, out, err = train("--num-iterations=1")
    assert code == 1 and err.count("\n") == 1
    assert all(word in err for word in ("step_000002", "--resume", "--overwrite", "--tag"))
    for mistake in (["--total-batch-size=100"], ["--data=alpaca"], ["--step=77"], ["--resume"]):
        assert train("--num-iterations=1", "--overwrite", *mistake)[0] in (1, 2)
        assert snapshot(folder_of(home)) == before, mistake
    assert train("--num-iterations=1", "--overwrite")[0] == 0
    assert [path.name for path in checkpoint_folders(folder_of(home))] == ["step_000001"]
    assert snapshot(base_of(home)) == base_before, "the base is never touched"


def test_a_dry_run_leaves_no_file(train, home):
    before = snapshot(home)
    code, out, err = train("--dry-run", "--num-iterations=7")
    assert (code, err) == (0, "")
    for word in ("d1, step 3", "parameters", "practice", "1,792 tokens in 7 steps of 256", "to go"):
        assert word in out
    assert snapshot(home) == before and not folder_of(home).exists()


def test_as_many_processes_as_the_rows_allow_and_the_run_had(train, home, monkeypatch):
    launched = []

    def launch(module, argv, processes):
        launched.append((module, processes))
        return 0

    monkeypatch.setattr(local_ring, "launch", launch)
    for cores, rows, expected in ((4, 8, 4), (4, 2, 2), (4, 6, 2), (4, 3, None)):
        monkeypatch.setattr(local_ring, "fitting_processes", lambda kind, cores=cores: cores)
        launched.clear()
        flags = ["--tag=d1", "--sequence-len=64", f"--total-batch-size={64 * rows}", "--num-iterations=1"]
        chat_sft.main([*flags, "--overwrite"])
        assert launched == ([("course_lib.train.launch", expected)] if expected else [])
    launched.clear()
    chat_sft.main(["--tag=d1", "--resume"])  # it had one process
    assert launched == []
    with pytest.raises(SystemExit) as end:  # asked for, it is not changed
        chat_sft.main([*flags, "--processes=2", "--overwrite"])
    assert end.value.code == 2 and launched == []
