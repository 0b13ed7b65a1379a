"""A run of base_train ends the same however it is interrupted, and what a user can do wrong is one sentence."""

import json
import math
import os
import random
import re
import shutil
import signal
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest
from devices import EXACT, assert_same_numbers
from filelock import FileLock

from course_lib import backend
from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import open_dataset
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.files import sha256_of
from course_lib.scripts import base_train
from course_lib.train import local_ring, pretraining, run_folder
from course_lib.train.checkpoint import checkpoint_folders, load_checkpoint, load_model, newest_checkpoint
from course_lib.train.fast_trainer import FastTrainer
from course_lib.train.flags import CallFlags, Horizon, resumed, stored
from course_lib.train.metrics import save_curves
from course_lib.train.pretraining import PretrainingCall, PretrainingHorizon, Settings, make_recipe
from course_lib.train.run_folder import RunFolder, Speed
from course_lib.train.trainer import Diverged, Trainer

WORDS = "the cat dog sees a red blue ball runs under over tree house and then it sleeps by river with old friend"
TINY = "--depth=1 --sequence-len=32 --total-batch-size=128 --device-batch-size=2".split()
TIMES = ("tokens_per_second", "seconds", "memory")


def write_text(folder, documents=60, seed=0):
    """A small text of our own; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    texts = [". ".join(" ".join(draw.choices(WORDS.split(), k=12)) for _ in range(20)) for _ in range(documents)]
    path = folder / "text.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return path


@pytest.fixture
def text(tmp_path, home):
    return write_text(tmp_path / "own")


@pytest.fixture
def train(text, monkeypatch, capfd):
    """train("--flag", …) runs base_train in this process on the small text: (exit code, stdout, stderr)."""
    monkeypatch.setattr(backend, "matmul_gflops", lambda *_: 100.0)  # saves 0.2 s
    monkeypatch.setattr(run_folder, "save_curves", lambda *_: None)  # and this 0.3 s
    monkeypatch.delenv("MLX_RANK", raising=False)

    def program(*flags, tiny=TINY):
        capfd.readouterr()
        code = 0
        try:
            base_train.main([f"--dataset={text}", "--processes=1", *tiny, *flags])
        except SystemExit as end:
            code = end.code
        return code, *capfd.readouterr()

    return program


def train_with(train, *flags):
    """train without the flags of the model and of the text."""
    with pytest.MonkeyPatch.context() as patch:
        main = base_train.main
        patch.setattr(base_train, "main", lambda argv: main(["--processes=1", *argv[2:]]))
        return train(*flags, tiny=())


def other_tokenizer(folder):
    Tokenizer.train([WORDS * 9], 265, allow_smaller=True).save(folder)
    return folder


def folder_of(home, tag="d1"):
    return home / "checkpoints" / "base" / tag


def contents(path):
    """All that a checkpoint holds, but times: arrays as bytes."""
    checkpoint = load_checkpoint(path)
    arrays = {**checkpoint.weights, **{f"state.{name}": array for name, array in checkpoint.state.items()}}
    meta = {**checkpoint.meta, "seconds": 0}
    for name in ("tag", "save_every", "keep", "dataset", "data"):
        meta["settings"] = {**meta["settings"], name: None}
    return {name: (str(a.dtype), np.array(a).tobytes()) for name, a in arrays.items()}, meta


def metrics(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in TIMES} for line in lines]


def assert_same_run(one, other, step):
    a, b = (contents(folder / f"step_{step:06d}") for folder in (one, other))
    assert_same_numbers(a[1], b[1])
    assert a[0].keys() == b[0].keys()
    assert not EXACT or [name for name in a[0] if a[0][name] != b[0][name]] == []
    assert_same_numbers(metrics(one), metrics(other))


def assert_close_run(one, other, step):
    a, b = (load_checkpoint(folder / f"step_{step:06d}") for folder in (one, other))
    assert a.meta["data"] == b.meta["data"]
    for name in a.weights:
        # Adam's first steps are signs, which rounding decides for the rare ids: not all numbers are as close
        far = mx.abs(a.weights[name] - b.weights[name])
        assert np.quantile(np.array(far), 0.99) < (1e-4 if EXACT else 1e-2), name


def stop_after(monkeypatch, step, signals=(signal.SIGINT,)):
    """Send signals to this process in the middle of a step."""
    show = run_folder.RunFolder.show

    def patched(out, number, batches):
        if number == step:
            for each in signals:
                os.kill(os.getpid(), each)
        return show(out, number, batches)

    monkeypatch.setattr(run_folder.RunFolder, "show", patched)
    return lambda: monkeypatch.setattr(run_folder.RunFolder, "show", show)


# ---- stop and go on


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, stops", [(signal.SIGINT, (0, 6)), (signal.SIGTERM, (3, 4, 11))], ids=["Ctrl-C", "SIGTERM"]
)
def test_interrupted_and_resumed_equals_uninterrupted(train, home, monkeypatch, number, stops):
    flags = ("--num-iterations=12", "--eval-every=4", "--sample-every=5", "--save-every=4")
    assert train(*flags, "--tag=whole", "--keep=9")[0] == 0
    saved = [path.name for path in checkpoint_folders(folder_of(home, "whole"))]
    assert saved == ["step_000012", "step_000008", "step_000004"]
    for count, stop in enumerate(stops):
        undo = stop_after(monkeypatch, stop, (number,))
        code, out, err = train(*flags, "--tag=parts", *["--resume"] * (count > 0))
        undo()
        assert code == 128 + number and err == ""
        assert f"stopped after {stop + 1} steps and saved them; go on with --resume --tag=parts" in out
        assert checkpoint_folders(folder_of(home, "parts"))[0].name == f"step_{stop + 1:06d}"
    monkeypatch.setattr(run_folder, "save_curves", save_curves)
    code, out, err = train("--resume", "--tag=parts", tiny=())
    assert code == 0 and err == "" and "done in" in out
    assert_same_run(folder_of(home, "whole"), folder_of(home, "parts"), 12)
    assert (folder_of(home, "parts") / "curves.png").stat().st_size > 1000
    steps = [entry["step"] for entry in metrics(folder_of(home, "parts")) if "loss" in entry]
    assert steps == list(range(12))
    assert [entry["step"] for entry in metrics(folder_of(home, "parts")) if "bits_per_byte" in entry] == [0, 4, 8, 12]
    assert [entry["step"] for entry in metrics(folder_of(home, "parts")) if "samples" in entry] == [5, 10, 12]


@pytest.mark.slow
def test_a_run_of_packed_rows_goes_on_exactly_and_with_no_others(train, home, monkeypatch):
    flags = ("--num-iterations=8", "--rows=best-fit", "--eval-every=4", "--sample-every=99")
    code, out, err = train(*flags, "--tag=whole")
    assert (code, err) == (0, "") and "rows         each begins with a document" in out
    undo = stop_after(monkeypatch, 4)
    assert train(*flags, "--tag=parts")[0] == 130
    undo()
    place = newest_checkpoint(folder_of(home, "parts")).meta["data"]
    assert place["rows"] == "best-fit" and place["waiting"] and place["used"] == 5 * 4 * 33 < place["thrown_away"]
    code, _, err = train("--resume", "--tag=parts", "--rows=stream", tiny=())
    assert (
        code == 1 and "begun with --rows=best-fit, but --rows=stream asks for another" in err and err.count("\n") == 1
    )
    assert train("--resume", "--tag=parts", tiny=())[::2] == (0, "")
    assert_same_run(folder_of(home, "whole"), folder_of(home, "parts"), 8)
    train("--num-iterations=2", "--tag=stream")
    code, _, err = train("--resume", "--tag=stream", "--rows=best-fit", tiny=())
    assert code == 1 and "begun with --rows=stream, but --rows=best-fit asks for another" in err


@pytest.mark.slow
def test_the_text_goes_on_where_it_was(train, home, monkeypatch):
    seen = []
    step = Trainer.step

    def watched(trainer, micro_batches):
        pairs = list(micro_batches)
        if trainer.num_iterations == 8:  # not the trial's
            seen.append([(i.tolist(), t.tolist()) for i, t in pairs])
        return step(trainer, pairs)

    monkeypatch.setattr(Trainer, "step", watched)
    train("--num-iterations=8", "--tag=whole")
    whole, seen[:] = list(seen), []
    undo = stop_after(monkeypatch, 4)
    train("--num-iterations=8", "--tag=parts")
    undo()
    train("--num-iterations=8", "--tag=parts", "--resume")
    assert len(whole) == 8 and seen == whole
    assert len({json.dumps(pair) for pairs in whole for pair in pairs}) == 16  # no batch comes twice


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 4])
def test_resumed_with_other_rows_at_a_time_equals_up_to_rounding(train, home, monkeypatch, rows):
    flags = ("--num-iterations=8",)
    train(*flags, "--tag=whole")
    undo = stop_after(monkeypatch, 3)
    train(*flags, "--tag=parts")
    undo()
    code, out, err = train("--resume", "--tag=parts", f"--device-batch-size={rows}", tiny=())
    assert (code, err) == (0, "")
    assert_close_run(folder_of(home, "whole"), folder_of(home, "parts"), 8)


@pytest.mark.slow
def test_a_run_that_is_done_can_be_resumed_made_longer_and_not_shorter(train, home):
    train("--num-iterations=4")
    before = contents(folder_of(home) / "step_000004")
    code, out, err = train("--resume")
    assert (code, err) == (0, "") and "done in" in out
    assert contents(folder_of(home) / "step_000004") == before
    assert train("--resume", "--num-iterations=6")[0] == 0
    assert [entry["step"] for entry in metrics(folder_of(home)) if "loss" in entry] == list(range(6))
    code, out, err = train("--resume", "--num-iterations=3")
    assert code == 1 and "has done 6 steps already" in err and err.count("\n") == 1
    assert checkpoint_folders(folder_of(home))[0].name == "step_000006"


@pytest.mark.slow
@pytest.mark.parametrize("horizon", ["--target-flops=5e8", "--tokens-per-param=0.01"])
def test_a_run_of_any_horizon_goes_on_to_its_own_end(train, home, monkeypatch, horizon):
    undo = stop_after(monkeypatch, 2)
    assert train(horizon)[0] == 130
    undo()
    steps = newest_checkpoint(folder_of(home)).meta["settings"]["num_iterations"]
    assert steps > 4
    code, out, err = train("--resume", tiny=())  # d4 would be another run: this is d1's folder
    assert code == 1
    code, out, err = train("--resume", "--tag=d1", tiny=())
    assert (code, err) == (0, "") and newest_checkpoint(folder_of(home)).step == steps
    code, out, err = train("--resume", horizon)
    assert (code, err) == (0, "") and newest_checkpoint(folder_of(home)).step == steps


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors", None])
def test_a_damaged_newest_checkpoint_is_named_and_the_run_still_ends_the_same(train, home, monkeypatch, name):
    flags = ("--num-iterations=6", "--save-every=2", "--sample-every=6")
    train(*flags, "--tag=whole")
    undo = stop_after(monkeypatch, 4)
    train(*flags, "--tag=parts")
    undo()
    newest = folder_of(home, "parts") / "step_000005"
    if name is None:
        shutil.rmtree(newest)
        newest.mkdir()
    else:
        data = bytearray((newest / name).read_bytes())
        data[len(data) // 2] ^= 64
        (newest / name).write_bytes(data)
    code, out, err = train("--resume", "--tag=parts")
    assert code == 0 and "step_000005" in err and "going back to the one before" in err and err.count("\n") == 1
    assert_same_run(folder_of(home, "whole"), folder_of(home, "parts"), 6)


def test_nothing_whole_left_is_one_sentence(train, home):
    train("--num-iterations=2", "--keep=1")
    (folder_of(home) / "step_000002" / "meta.json").unlink()
    code, out, err = train("--resume")
    assert code == 1 and err.splitlines()[-1].startswith("base_train: ") and "no checkpoint that is whole" in err
    assert "Traceback" not in err
    code, out, err = train("--resume", "--tag=never")
    assert code == 1 and err.count("\n") == 1 and "no checkpoint that is whole" in err


@pytest.mark.slow
def test_the_last_measured_bits_per_byte_stay_in_the_checkpoints_after_a_stop(train, home, monkeypatch):
    for stop in (2, 4):
        undo = stop_after(monkeypatch, stop)
        train("--num-iterations=12", "--eval-every=100", *["--resume"] * (stop > 2))
        undo()
        meta = newest_checkpoint(folder_of(home)).meta
        assert meta["bits_per_byte"] == metrics(folder_of(home))[0]["bits_per_byte"]
    train("--num-iterations=12", "--eval-every=100", "--resume")
    assert [entry["step"] for entry in metrics(folder_of(home)) if "bits_per_byte" in entry] == [0, 12]  # and the last


def test_a_look_at_the_model_that_fails_loses_no_step(train, home, monkeypatch):
    def broken(*_):
        raise RuntimeError("the look failed")

    monkeypatch.setattr(pretraining.Documents, "preview", broken)
    with pytest.raises(RuntimeError, match="the look failed"):
        train("--num-iterations=4", "--sample-every=4", "--save-every=4", "--eval-every=4")
    newest = newest_checkpoint(folder_of(home))
    assert newest.step == 4 and newest.meta["bits_per_byte"] == metrics(folder_of(home))[-1]["bits_per_byte"]


# ---- when it makes no sense to go on


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("step_*/*")}


@pytest.mark.slow
def test_no_number_stops_it_before_anything_is_saved_and_names_step_and_place(train, home, monkeypatch):
    train("--num-iterations=9", "--save-every=1", "--tag=whole")
    step, saved = Trainer.step, {}

    def broken(trainer, micro_batches):
        pairs = list(micro_batches)
        if trainer.num_iterations == 9 and trainer.iteration == 5:
            saved.update(snapshot(folder_of(home, "bad")))
            weight = trainer.model.lm_head.weight
            trainer.model.lm_head.weight = weight * math.nan
        return step(trainer, pairs)

    monkeypatch.setattr(Trainer, "step", broken)
    code, out, err = train("--num-iterations=9", "--save-every=1", "--tag=bad")
    monkeypatch.setattr(Trainer, "step", step)
    assert code == 1 and err.count("\n") == 1 and err.startswith("base_train: step 5: the loss is nan")
    place = newest_checkpoint(folder_of(home, "bad")).meta["data"]
    assert f"token {place['token']} of row {place['row']} of {place['shard']}, epoch {place['epoch']}" in err
    assert "--resume" in err and "--matrix-lr" in err
    assert len(saved) == 12 and snapshot(folder_of(home, "bad")) == saved
    assert train("--num-iterations=9", "--save-every=1", "--tag=bad", "--resume")[0] == 0
    assert_same_run(folder_of(home, "whole"), folder_of(home, "bad"), 9)


@pytest.mark.parametrize("flag", ["--unembedding-lr=1e30", "--matrix-lr=3e38"])
def test_a_wild_learning_rate_is_stopped_and_its_weights_are_never_saved(train, home, flag):
    code, out, err = train("--num-iterations=30", flag, "--save-every=1", "--sample-every=99")
    assert code == 1 and err.count("\n") == 1 and re.search(r"base_train: (after )?step \d+", err), (code, err)
    for path in checkpoint_folders(folder_of(home)):
        assert all(mx.isfinite(array).all().item() for array in load_checkpoint(path).weights.values())


def test_weights_that_are_no_numbers_are_not_saved_though_the_loss_was_one(train, home, monkeypatch):
    step = Trainer.step

    def broken(trainer, micro_batches):
        result = step(trainer, micro_batches)
        if trainer.num_iterations == 4 and trainer.iteration == 4:
            trainer.model.lm_head.weight = trainer.model.lm_head.weight + math.inf
        return result

    monkeypatch.setattr(Trainer, "step", broken)
    code, out, err = train("--num-iterations=4", "--save-every=1", "--sample-every=99")
    assert code == 1 and "after step 3 some weights are no numbers" in err
    assert checkpoint_folders(folder_of(home))[0].name == "step_000003"


@pytest.mark.slow
def test_a_loss_that_rises_too_far_stops_it(train, home, monkeypatch):
    step = Trainer.step

    def worse(trainer, micro_batches):
        result = step(trainer, micro_batches)
        return replace(result, loss=result.loss + (20 if result.iteration >= 6 else 0))

    monkeypatch.setattr(Trainer, "step", worse)
    code, out, err = train("--num-iterations=12", "--save-every=6")
    assert code == 1 and re.search(r"step 6: the smoothed loss has risen from \d", err)
    assert checkpoint_folders(folder_of(home))[0].name == "step_000006"
    assert train("--num-iterations=12", "--resume", "--max-rise=100")[0] == 0


# ---- what it measures


@pytest.mark.slow
def test_validation_costs_the_share_that_is_documented(train, home, monkeypatch):
    evaluated, trained = [], []
    validate, step = run_folder.validate, Trainer.step

    def counted(model, batches, token_bytes, group):
        batches = list(batches)
        evaluated.append(sum(inputs.size for inputs, _ in batches))
        return validate(model, batches, token_bytes, group)

    def counted_step(trainer, micro_batches):
        pairs = list(micro_batches)
        trained.append(sum(inputs.size for inputs, _ in pairs))
        return step(trainer, pairs)

    monkeypatch.setattr(run_folder, "validate", counted)
    monkeypatch.setattr(Trainer, "step", counted_step)
    code, out, _ = train("--num-iterations=60", "--sample-every=99")
    words = re.search(r"validation +([\d,]+) tokens every (\d+) steps, ([\d.]+)% of the work", out)
    tokens, every, share = int(words[1].replace(",", "")), int(words[2]), float(words[3]) / 100
    assert evaluated == [tokens] * (60 // every + 1)
    in_run = trained[-60:]
    assert in_run == [128] * 60
    between = every * 128 * 3  # the work of training between two of them
    assert tokens / between <= 0.05 and tokens / between == pytest.approx(share, abs=1e-3)


def test_bits_per_byte_fall_and_the_loss_begins_at_a_guess(train, home):
    code, out, err = train("--num-iterations=40", "--matrix-lr=0.02")
    entries = metrics(folder_of(home))
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    vocab_size = load_checkpoint(folder_of(home) / "step_000040").meta["config"]["vocab_size"]
    assert losses[0] == pytest.approx(math.log(vocab_size), rel=1e-3) and losses[-1] < 0.65 * losses[0]
    bits = [entry["bits_per_byte"] for entry in entries if "bits_per_byte" in entry]
    assert bits[-1] < 0.7 * bits[0]
    assert newest_checkpoint(folder_of(home)).meta["bits_per_byte"] == bits[-1]
    first = next(entry for entry in entries if "loss" in entry)
    assert set(first) | set(TIMES) == {"step", "loss", "smoothed", "grad_norm", "lr_multiplier", *TIMES}
    assert "\nstep 8: samples\n  " in out and "\nstep 40: samples\n" not in out, "at 40 it was evaluated as well"
    assert re.search(r"step 40  loss [\d.]+  [\d,]+ tokens/s, MFU \d+%  [\d.]+ GB  0:00 left", out)


def test_the_saved_model_is_the_trainers_and_its_tokenizer_comes_with_it(train, home, monkeypatch):
    models = []
    begin = run_folder.RunFolder.begin
    monkeypatch.setattr(run_folder.RunFolder, "begin", lambda *args: models.append(begin(*args)) or models[-1])
    train("--num-iterations=5", "--n-kv-head=1")
    model, tokenizer, meta = load_model(folder_of(home))
    ids = mx.array([tokenizer.encode("the cat sees a red dog", bos=True)])
    assert (model(ids) == models[0](ids)).all().item()
    assert meta["step"] == 5 and tokenizer.fingerprint == Tokenizer.load(home / "tokenizer").fingerprint


@pytest.mark.slow
def test_the_place_in_the_data_is_that_of_a_loader_that_read_as_much(train, home, text):
    train("--num-iterations=5")
    dataset, tokenizer = open_dataset(str(text)), Tokenizer.load(home / "tokenizer")
    with TokenLoader(dataset, tokenizer, "train", 2, 32) as loader:
        for _ in range(5 * 2):
            next(loader)
        assert newest_checkpoint(folder_of(home)).meta["data"] == loader.state


@pytest.mark.slow
def test_the_trial_leaves_no_trace(train, home, monkeypatch):
    train("--num-iterations=4", "--tag=with")
    monkeypatch.setattr(run_folder, "trial", lambda *_: 0.1)
    train("--num-iterations=4", "--tag=without")
    assert_same_run(folder_of(home, "with"), folder_of(home, "without"), 4)


def test_a_dry_run_says_what_a_run_comes_to_and_leaves_no_run(train, home):
    code, out, err = train("--dry-run", "--num-iterations=7")
    assert (code, err) == (0, "")
    for word in ("parameters", "operations", "memory", "validation", "to go", "896 in 7 steps of 128"):
        assert word in out
    assert not folder_of(home).exists()
    train("--num-iterations=2")
    before = snapshot(folder_of(home))
    assert train("--dry-run", "--num-iterations=7", "--overwrite")[0] == 0
    assert snapshot(folder_of(home)) == before


def test_the_time_that_is_left():
    speed = Speed.__new__(Speed)
    speed.seconds, speed.eval_share, speed.tokens, speed.flops, speed.peak = 2.0, 0.05, 100, 1e6, 1e9
    assert [speed.left(n) for n in (0, 1, 100)] == pytest.approx([0, 2.1, 210])
    assert str(speed) == "50 tokens/s, MFU 5%"
    speed.add(12.0)
    assert speed.seconds == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("minutes", "done", "seconds", "left"),
    [(None, 100, 0, "7:00"), (5, 0, 0, "5:00"), (5, 50, 200, "1:40"), (1, 10, 90, "1:07"), (1, 99, 90, "0:00")],
)
def test_the_time_left_is_that_of_the_clock_or_of_the_least_steps(minutes, done, seconds, left):
    run = RunFolder.__new__(RunFolder)
    run._speed = Speed.__new__(Speed)
    run._speed.seconds, run._speed.eval_share = 2.0, 0.05
    run.recipe = SimpleNamespace(minutes=minutes, num_iterations=300, min_iterations=42)
    assert run._time_left(done, seconds) == left


# ---- what a user can do wrong


def test_a_bad_flag_is_one_sentence_and_comes_before_any_work(train, home):
    for flag in ("--depth=0", "--keep=0", "--matrix-lr=nan", "--target-flops=inf", "--warmup-ratio=2", "--seed=-1"):
        code, out, err = train(*[flag] if "flops" in flag else ["--num-iterations=2", flag])
        assert code == 2 and err.count("\n") == 1 and err.startswith(f"base_train: {flag.split('=')[0]} is")
        assert not (home / "tokenizer").exists()
    code, out, err = train("--num-iterations=2", "--target-flops=1e9")
    assert code == 2 and "give one of them" in err
    for flags in (["--total-batch-size=100"], ["--device-batch-size=3"]):
        code, out, err = train("--num-iterations=2", *flags)
        assert code == 2 and err.count("\n") == 1
    for flags in (["--depth=x"], ["--no-such-flag"]):
        assert train(*flags)[0] == 2


@pytest.mark.slow
def test_what_does_not_fit_is_refused_with_a_size_that_does(train, home, monkeypatch):
    monkeypatch.setattr(backend, "memory_for_arrays", lambda: 6_000_000)
    code, out, err = train("--num-iterations=2", "--total-batch-size=4096", "--device-batch-size=128")
    assert code == 1 and err.count("\n") == 1
    named = re.search(r"(--device-batch-size=\d+) would fit", err)[1]
    assert train("--num-iterations=2", "--total-batch-size=4096", named)[0] == 0


@pytest.mark.parametrize("tag", ["..", "a/b", "", ".x"])
def test_a_tag_that_cannot_name_a_run_is_refused(train, home, tag):
    code, out, err = train("--num-iterations=2", f"--tag={tag}")
    assert code == 1 and err.count("\n") == 1 and "cannot name a run" in err
    assert not (home / "checkpoints").exists()


def test_a_run_is_not_overwritten_unless_asked_and_then_not_for_a_mistake(train, home, monkeypatch):
    train("--num-iterations=3")
    before = snapshot(folder_of(home))
    code, out, err = train("--num-iterations=3")
    assert code == 1 and err.count("\n") == 1
    assert all(word in err for word in ("step_000003", "--resume", "--overwrite", "--tag"))
    for mistake in (["--total-batch-size=100"], ["--n-kv-head=3"], ["--resume"], ["--seed=4294967296"]):
        assert train("--num-iterations=3", "--overwrite", *mistake)[0] in (1, 2)
        assert snapshot(folder_of(home)) == before, mistake
    monkeypatch.setattr(backend, "memory_for_arrays", lambda: 1000)
    assert train("--num-iterations=3", "--overwrite")[0] == 1 and snapshot(folder_of(home)) == before
    monkeypatch.undo()


@pytest.mark.slow
def test_overwriting_leaves_nothing_of_the_old_run(train, home):
    train("--num-iterations=4")
    tokenizer, stray = folder_of(home) / "tokenizer", folder_of(home) / "notes.txt"
    stray.write_text("of the old run")
    assert train("--num-iterations=2", "--overwrite", f"--tokenizer={tokenizer}")[0] == 0  # of the old run itself
    assert [path.name for path in checkpoint_folders(folder_of(home))] == ["step_000002", "step_000001"]
    assert max(entry["step"] for entry in metrics(folder_of(home))) == 2 and not stray.exists()


@pytest.mark.slow
def test_two_runs_in_one_folder_are_refused_and_in_two_are_not(train, home):
    folder_of(home).parent.mkdir(parents=True)
    with FileLock(folder_of(home).with_name(".d1.lock")):
        code, out, err = train("--num-iterations=2", "--overwrite")
        assert code == 1 and "another run is writing" in err and err.count("\n") == 1
        assert train("--num-iterations=2", "--tag=other")[0] == 0
        assert train("--num-iterations=2", "--dry-run")[0] == 0
    assert train("--num-iterations=2")[0] == 0


def test_a_home_that_cannot_be_written_is_one_sentence(train, home, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "file" / "home"))
    code, out, err = train("--num-iterations=2")
    assert code == 1 and err.count("\n") == 1 and "set COURSE_HOME" in err


NO_MEMORY = [
    "[metal::malloc] Attempting to allocate 9663676416 bytes which is greater than the maximum allowed buffer size.",
    "[METAL] Command buffer execution failed: Insufficient Memory (8:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
    "[malloc] Unable to allocate 68719476736 bytes.",
    "cudaMallocAsync(&buf->data, size, stream) failed: out of memory",
]


def run_out_of_memory(monkeypatch, words, at):
    """The gradients of step `at` of a run raise RuntimeError(words); a step of trial has other numbers of steps."""
    sums = FastTrainer.sum_gradients

    def short_of_memory(trainer, micro_batches):
        if trainer.iteration == at:
            raise RuntimeError(words)
        return sums(trainer, micro_batches)

    monkeypatch.setattr(FastTrainer, "sum_gradients", short_of_memory)
    return lambda: monkeypatch.setattr(FastTrainer, "sum_gradients", sums)


@pytest.mark.slow
@pytest.mark.parametrize("words", NO_MEMORY, ids=lambda words: words.split()[0])
def test_too_little_memory_is_one_sentence_and_the_run_goes_on_with_the_rows_that_it_names(
    train, home, monkeypatch, words
):
    undo = run_out_of_memory(monkeypatch, words, at=5)
    code, out, err = train("--num-iterations=7", "--save-every=2")
    assert (
        code == 1
        and err.count("\n") == 1
        and words in err
        and "step 5: memory is not enough for --device-batch-size=2" in err
    )
    assert [path.name for path in checkpoint_folders(folder_of(home))] == ["step_000004", "step_000002"]
    undo()
    named = re.search(r"take (--device-batch-size=\d+); .* (--resume) goes on", err).groups()
    assert train(*named, "--tag=d1", tiny=())[0] == 0
    assert newest_checkpoint(folder_of(home)).step == 7


def test_too_little_memory_for_one_row_in_the_trial_names_what_else_needs_less(train, home, monkeypatch):
    run_out_of_memory(monkeypatch, NO_MEMORY[2], at=0)
    code, out, err = train("--num-iterations=4", "--device-batch-size=1")
    assert code == 1 and err.count("\n") == 1 and "trial of the speed: memory is not enough" in err
    assert "take --recompute, a shorter --sequence-len or a smaller model" in err
    assert checkpoint_folders(folder_of(home)) == []


def test_a_lack_of_memory_that_mlx_reports_only_after_the_step_is_told_as_well(train, home, monkeypatch):
    def short_of_memory(*_):
        raise RuntimeError(NO_MEMORY[1])

    monkeypatch.setattr(run_folder, "validate", short_of_memory)
    code, out, err = train("--num-iterations=4", "--eval-every=3", "--save-every=3")
    assert code == 1 and err.count("\n") == 1 and "trial of the speed: memory is not enough" in err
    monkeypatch.setattr(run_folder, "validate", lambda *_: 1.0)
    monkeypatch.setattr(run_folder.RunFolder, "save", short_of_memory)
    code, out, err = train("--num-iterations=4", "--eval-every=3", "--save-every=3")
    assert code == 1 and err.count("\n") == 1 and "step 2: memory is not enough" in err


def test_another_error_of_mlx_in_a_step_is_not_taken_for_a_lack_of_memory(train, home, monkeypatch):
    words = "[METAL] Command buffer execution failed: Caused GPU Timeout Error"
    for at in (0, 3):
        run_out_of_memory(monkeypatch, words, at)
        with pytest.raises(RuntimeError, match="Timeout"):
            train("--num-iterations=4", "--overwrite")


@pytest.mark.slow
def test_a_disk_that_fills_up_during_a_run_is_one_sentence_and_the_run_goes_on_later(train, home, monkeypatch):
    flags = ("--num-iterations=6", "--save-every=2")
    train(*flags, "--tag=whole")
    save = mx.save_safetensors

    def full(path, *rest):
        save(path, *rest)
        if "step_000004" in path:
            with open(path, "rb+") as file:
                file.truncate(1000)

    monkeypatch.setattr("course_lib.train.checkpoint.mx.save_safetensors", full)
    code, out, err = train(*flags, "--tag=full")
    assert code == 1 and err.count("\n") == 1 and "free some space and go on with --resume from step_000002" in err
    monkeypatch.setattr("course_lib.train.checkpoint.mx.save_safetensors", save)
    assert [path.name for path in checkpoint_folders(folder_of(home, "full"))] == ["step_000002"]
    assert train(*flags, "--tag=full", "--resume")[0] == 0
    assert_same_run(folder_of(home, "whole"), folder_of(home, "full"), 6)


def test_another_text_or_tokenizer_is_refused_when_going_on(train, home, text, tmp_path, monkeypatch):
    undo = stop_after(monkeypatch, 2)
    train("--num-iterations=6", f"--tokenizer={home / 'tokenizer'}" if (home / "tokenizer").exists() else "--keep=3")
    undo()
    before = snapshot(folder_of(home))
    write_text(text.parent, seed=5)  # the same file, another text
    code, out, err = train("--resume")
    assert code == 1 and err.count("\n") == 1 and "other data" in err and snapshot(folder_of(home)) == before
    assert re.search(r"other data, [\d,]+ bytes \(\w{12}\), than is here now, [\d,]+ bytes \(\w{12}\)", err)
    code, out, err = train("--resume", f"--tokenizer={other_tokenizer(tmp_path / 'words')}", "--changed-data=now")
    assert code == 1 and "begun with another tokenizer" in err and snapshot(folder_of(home)) == before


@pytest.mark.slow
def test_a_run_goes_on_wherever_its_text_lies_now(train, home, text, tmp_path, monkeypatch):
    flags = ("--num-iterations=5", "--save-every=9", "--eval-every=9", "--sample-every=9")
    train(*flags, "--tag=whole")
    monkeypatch.chdir(tmp_path)
    undo = stop_after(monkeypatch, 0)
    assert train(*flags, "--tag=parts", "--dataset=own/text.jsonl")[0] == 130
    undo()
    (tmp_path / "moved").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    moved = shutil.copy(text, tmp_path / "moved" / "other.jsonl")
    spellings = [str(tmp_path / "moved" / "other.jsonl"), "~/moved", "other.jsonl"]
    monkeypatch.chdir(tmp_path / "moved")
    for step, spelling in enumerate(spellings, start=1):
        os.utime(moved)
        undo = stop_after(monkeypatch, step)
        given = "--resume --tag=parts".split()
        assert train_with(train, *given, f"--dataset={spelling}")[0] == 130
        undo()
    text.unlink()
    monkeypatch.chdir(tmp_path)  # and without a word on the text: where it was last
    assert train_with(train, "--resume", "--tag=parts")[0] == 0
    assert_same_run(folder_of(home, "whole"), folder_of(home, "parts"), 5)
    shutil.rmtree(tmp_path / "moved")  # as it was is what it is, while its shards are here
    assert train_with(train, "--resume", "--tag=parts", "--num-iterations=6")[0] == 0


@pytest.mark.slow
def test_changed_text_goes_on_as_it_was_or_begins_as_it_is(train, home, text, monkeypatch):
    flags = ("--num-iterations=4", "--save-every=9", "--eval-every=9", "--sample-every=9")
    train(*flags, "--tag=whole")
    undo = stop_after(monkeypatch, 1)
    for tag in ("before", "now"):
        assert train(*flags, f"--tag={tag}")[0] == 130
    undo()
    text.write_text(text.read_text() + '\n{"text": "one more line"}')
    code, out, err = train("--resume", "--tag=before")
    assert code == 1 and "--changed-data=before" in err and "--changed-data=now" in err
    assert train("--resume", "--tag=before", "--changed-data=before")[0] == 0
    assert_same_run(folder_of(home, "whole"), folder_of(home, "before"), 4)
    assert train("--resume", "--tag=now", "--changed-data=now", "--num-iterations=3")[0] == 0
    assert train("--resume", "--tag=now", "--num-iterations=5")[0] == 0  # the new text is its text now
    shutil.rmtree(home / "datasets")
    write_text(text.parent, seed=9)
    code, out, err = train("--resume", "--tag=before", "--changed-data=before", "--num-iterations=5")
    assert code == 1 and "--changed-data=before" not in err and "--changed-data=now" in err


@pytest.mark.slow
def test_the_documentation_of_another_python_asks_and_that_of_before_is_still_there(train, home, text, monkeypatch):
    texts = [json.loads(line)["text"] for line in text.read_text().splitlines()]
    monkeypatch.setattr("course_lib.data.python_docs.documents", lambda: texts)
    undo = stop_after(monkeypatch, 1)
    assert train("--num-iterations=4", "--dataset=bundled")[0] == 130
    undo()
    monkeypatch.setattr("course_lib.data.dataset.platform.python_version", lambda: "3.99.1")
    assert train("--resume", "--dataset=bundled", "--num-iterations=3")[0] == 0  # the same text in another Python
    texts.append("A module of the new Python.")
    monkeypatch.setattr("course_lib.data.dataset.platform.python_version", lambda: "3.99.2")
    code, out, err = train("--resume", "--dataset=bundled", "--num-iterations=5")
    assert code == 1 and "--changed-data=before" in err and err.count("\n") == 1
    assert train("--resume", "--dataset=bundled", "--num-iterations=5", "--changed-data=before")[0] == 0


@pytest.mark.slow
def test_a_run_of_an_earlier_version_is_offered_its_shards(train, home, text, monkeypatch):
    undo = stop_after(monkeypatch, 1)
    assert train("--num-iterations=3")[0] == 130
    undo()
    shards = next((home / "datasets").glob("own-*/[0-9]*"))
    shutil.move(shards, home / "datasets" / "bundled-1-python-3.11.0")
    path = folder_of(home) / "step_000002"
    meta = json.loads((path / "meta.json").read_text())
    del meta["data_fingerprint"]
    meta["data"]["dataset"] = "bundled-1-python-3.11.0"
    (path / "meta.json").write_text(json.dumps(meta))
    sums = json.loads((path / "sha256.json").read_text())
    (path / "sha256.json").write_text(json.dumps({**sums, "meta.json": sha256_of(path / "meta.json")}))
    code, out, err = train("--resume")
    assert code == 1 and err.count("\n") == 1 and "--changed-data=before" in err
    assert train("--resume", "--changed-data=before")[0] == 0


@pytest.mark.slow
def test_a_text_that_grows_while_it_is_read_ends_no_run(train, home, text, monkeypatch):
    show = run_folder.RunFolder.show

    def patched(out, number, batches):
        if number == 1:
            text.write_text(text.read_text() + '\n{"text": "one more line"}')
            open_dataset(str(text))
        return show(out, number, batches)

    monkeypatch.setattr(run_folder.RunFolder, "show", patched)
    code, out, err = train("--num-iterations=40", "--total-batch-size=2048", "--eval-every=40", "--sample-every=40")
    assert (code, err) == (0, "")


def test_a_disk_without_room_for_the_checkpoints_is_one_sentence_before_the_run(train, home, monkeypatch):
    usage = shutil.disk_usage("/")
    for free, flags, code in ((1_000_000, (), 1), (1_000_000, ("--dry-run",), 1), (30_000_000, ("--keep=1",), 0)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage._replace(free=free))
        found, out, err = train("--num-iterations=2", "--eval-every=2", *flags)
        assert found == code and (code == 0 or err.count("\n") == 1 and "2 checkpoints of" in err), err
    size = sum(path.stat().st_size for path in checkpoint_folders(folder_of(home))[0].iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))
    code, out, err = train("--resume", "--num-iterations=9", "--keep=1")
    said = int(re.search(r"1 checkpoint of ([\d,]+) MB", err)[1].replace(",", ""))
    assert code == 1 and said == pytest.approx(size / 1e6, rel=0.05, abs=1)
    monkeypatch.setattr(run_folder, "save_checkpoint", lambda *_: pytest.fail("it is done"))
    assert train("--resume")[0] == 0


@pytest.mark.parametrize("flags", [("--depth", "4"), ("--depth=4",), ("--aspect-ratio", "64"), ("--head_dim=128",)])
def test_a_default_that_is_given_is_not_passed_over_silently(train, home, flags):
    if not checkpoint_folders(folder_of(home)):
        train("--num-iterations=1", "--aspect-ratio=32", "--head-dim=32")
    name, _, _ = flags[0].partition("=")
    code, out, err = train("--resume", "--tag=d1", *flags, tiny=())
    assert code == 1 and f"this run was begun with {name.replace('_', '-')}=" in err and err.count("\n") == 1


@pytest.mark.slow
def test_the_tokenizer_of_a_run_is_its_own_and_can_be_given_again(train, home, text, tmp_path, monkeypatch):
    train("--num-iterations=1", "--tag=other")  # makes the default tokenizer
    mine = other_tokenizer(tmp_path / "mine")
    undo = stop_after(monkeypatch, 1)
    assert train("--num-iterations=6", f"--tokenizer={mine}")[0] == 130
    undo()
    fingerprint = Tokenizer.load(mine).fingerprint
    assert newest_checkpoint(folder_of(home)).meta["tokenizer"] == fingerprint
    undo = stop_after(monkeypatch, 3)
    assert train("--resume", "--tag=d1", tiny=())[0] == 130
    undo()
    shutil.rmtree(folder_of(home) / "tokenizer")  # then the one that it was begun with
    code, out, err = train("--resume", "--tag=d1", tiny=())
    assert (code, err) == (0, "")
    assert load_model(folder_of(home))[1].fingerprint == fingerprint


# ---- settings when going on


def recipe_of(settings):
    return make_recipe(settings, 4096, 1e6)


def begun_with(**flags):
    """Settings with every number known, and what a checkpoint keeps of them."""
    begun = Settings(**{"depth": 6, "num_iterations": 100, **flags})
    kept = json.loads(json.dumps(stored(begun, recipe_of(begun))))
    return replace(begun, **{name: kept[name] for name, value in kept.items() if getattr(begun, name) is None}), kept


def test_settings_are_kept_and_some_may_change():
    begun, kept = begun_with(seed=7, save_every=10, tokenizer=Path("/x"), tag="a", processes=2)
    assert not kept.keys() & {"resume", "overwrite", "dry_run", "processes"}
    again = resumed(Settings(resume=True), set(), kept)
    assert replace(again, resume=False, processes=2) == begun
    changes = dict(num_iterations=200, save_every=5, keep=9, device_batch_size=4, processes=1)
    merged = resumed(Settings(resume=True, **changes), set(changes), kept)
    assert (merged.num_iterations, merged.save_every, merged.keep, merged.depth) == (200, 5, 9, 6)
    assert (merged.device_batch_size, merged.processes, merged.resume) == (4, 1, True)


MAY_CHANGE = {field.name for kind in (PretrainingCall, PretrainingHorizon) for field in fields(kind)}


@pytest.mark.parametrize("flag", [f.name for f in fields(Settings) if f.name not in MAY_CHANGE])
def test_a_flag_that_would_make_it_another_run_is_refused_by_name(flag):
    kept = begun_with()[1]
    new = "x" if flag == "dataset" else 3
    assert kept[flag] != new
    with pytest.raises(CourseError, match=f"begun with --{flag.replace('_', '-')}={kept[flag]}, but --"):
        resumed(Settings(resume=True, **{flag: new}), {flag}, kept)
    assert getattr(resumed(Settings(resume=True, **{flag: new}), {flag}, {**kept, flag: new}), flag) == new


def test_what_may_change_is_listed_and_exists():
    assert issubclass(PretrainingCall, CallFlags) and issubclass(PretrainingHorizon, Horizon)
    assert {"dataset", "tokenizer"} <= MAY_CHANGE  # both are known by their content
    assert not {"seed", "depth", "total_batch_size", "sequence_len", "matrix_lr"} & MAY_CHANGE


# ---- how many processes


@pytest.mark.slow
def test_as_many_processes_as_the_rows_allow_and_the_run_had(train, home, text, monkeypatch):
    launched = []

    def launch(module, argv, processes):
        launched.append((module, processes))
        return 0

    monkeypatch.setattr(local_ring, "launch", launch)
    for cores, rows, expected in ((4, 8, 4), (4, 2, 2), (4, 6, 2), (2, 8, 2), (4, 3, None), (1, 8, None)):
        monkeypatch.setattr(local_ring, "fitting_processes", lambda kind, cores=cores: cores)
        launched.clear()
        argv = [f"--dataset={text}", "--depth=1", "--sequence-len=32", f"--total-batch-size={32 * rows}"]
        base_train.main([*argv, "--num-iterations=2", "--overwrite"])
        assert launched == ([("course_lib.train.launch", expected)] if expected else [])
    with pytest.raises(SystemExit) as end:  # asked for, it is not changed
        base_train.main([*argv, "--num-iterations=2", "--processes=3", "--total-batch-size=128", "--overwrite"])
    assert end.value.code == 2
    launched.clear()
    base_train.main([f"--dataset={text}", "--depth=1", "--resume"])  # it had one process
    assert launched == [] and newest_checkpoint(folder_of(home)).meta["processes"] == 1
    meta = checkpoint_folders(folder_of(home))[0] / "meta.json"
    meta.write_text(meta.read_text().replace('"processes": 1', '"processes": 3'))
    base_train.main([f"--dataset={text}", "--depth=1", "--resume"])
    base_train.main([f"--dataset={text}", "--depth=1", "--resume", "--processes=4"])
    assert [processes for _, processes in launched] == [3, 4]


def test_the_exit_code_of_the_processes_is_the_programs(text, home, monkeypatch):
    monkeypatch.setattr(local_ring, "launch", lambda *_: 130)
    with pytest.raises(SystemExit) as end:
        base_train.main([f"--dataset={text}", *TINY, "--num-iterations=2", "--processes=2"])
    assert end.value.code == 130


def test_an_error_that_is_not_the_rings_is_not_hidden(train, monkeypatch):
    monkeypatch.setattr(pretraining, "train", lambda *_: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        train("--num-iterations=2")


def test_errors_of_this_module_are_what_users_can_mend():
    assert issubclass(Diverged, CourseError) and issubclass(FlagError, CourseError)
