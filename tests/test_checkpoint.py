"""A checkpoint appears whole or not at all, says when it is damaged, and gives back what went in."""

import errno
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
from itertools import product

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError
from course_lib.host.files import held
from course_lib.model.gpt import GPT, GPTConfig, init_weights
from course_lib.train import checkpoint as module
from course_lib.train.checkpoint import (
    Checkpoint,
    checkpoint_folders,
    load_checkpoint,
    load_model,
    load_weights,
    newest_checkpoint,
    run_folder,
    save_checkpoint,
)

FILES = ("meta.json", "model.safetensors", "sha256.json", "state.safetensors")


def made(step, seed=0, **meta):
    random = np.random.default_rng(seed)
    weights = {f"w{n}": mx.array(random.normal(size=(4, 5)).astype(np.float32)) for n in range(3)}
    state = {"random": mx.array([1, 2**32 - 1], mx.uint32), "step": mx.array(step, mx.uint64)}
    return Checkpoint(step, weights, state, {"note": "ü", "lowest": 1.5, **meta})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_goes_in_comes_out_bitwise_with_its_types(tmp_path):
    written = made(7)
    path = save_checkpoint(tmp_path / "run", written)
    assert path == tmp_path / "run" / "step_000007" and tuple(names(path)) == FILES
    read = load_checkpoint(path)
    assert read.step == 7 and read.meta == {"step": 7, **written.meta}
    for before, after in ((written.weights, read.weights), (written.state, read.state)):
        assert before.keys() == after.keys()
        for name in before:
            assert before[name].dtype == after[name].dtype
            assert (before[name] == after[name]).all().item()


def test_it_is_read_at_once_and_not_when_the_files_may_be_gone(tmp_path):
    read = load_checkpoint(save_checkpoint(tmp_path, made(7)))
    for path in (tmp_path / "step_000007").iterdir():
        path.write_bytes(bytes(path.stat().st_size))
    assert (read.weights["w0"] == made(7).weights["w0"]).all().item()


def test_the_newest_few_are_kept_by_number_and_nothing_else_is_touched(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("x")
    (tmp_path / "step_best").mkdir()
    for step in (8, 9, 10, 999_999, 1_000_000):
        save_checkpoint(tmp_path, made(step), keep=2)
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["step_1000000", "step_999999"]
    assert {"metrics.jsonl", "step_best"} < set(names(tmp_path))
    assert newest_checkpoint(tmp_path).step == 1_000_000
    save_checkpoint(tmp_path, made(1_000_001), keep=1)
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["step_1000001"]
    assert checkpoint_folders(tmp_path / "nowhere") == []


def test_the_one_just_written_stays_though_a_damaged_one_has_a_later_step(tmp_path):
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, made(step))
    damage_flip(tmp_path / "step_000030" / "model.safetensors")
    assert newest_checkpoint(tmp_path).step == 20
    save_checkpoint(tmp_path, made(25), keep=1)
    assert newest_checkpoint(tmp_path).step == 25
    save_checkpoint(tmp_path, made(26), keep=2)
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["step_000026", "step_000025"]


def test_the_same_step_again_replaces_what_was_there(tmp_path):
    save_checkpoint(tmp_path, made(7))
    (tmp_path / "step_000007" / "meta.json").write_text("{")
    save_checkpoint(tmp_path, made(7, seed=1))
    assert (newest_checkpoint(tmp_path).weights["w0"] == made(7, seed=1).weights["w0"]).all().item()
    assert names(tmp_path) == ["step_000007"]


def test_parts_of_killed_processes_are_removed_and_never_read(tmp_path):
    save_checkpoint(tmp_path, made(7))
    for step in (8, 9):
        shutil.copytree(tmp_path / "step_000007", tmp_path / f".step_{step:06d}.part")
    assert newest_checkpoint(tmp_path).step == 7
    save_checkpoint(tmp_path, made(9))
    assert names(tmp_path) == ["step_000007", "step_000009"]


# ---- damage


def damage_flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    path.write_bytes(data)


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def damage_empty(path):
    path.write_bytes(b"")


def damage_missing(path):
    path.unlink()


def damage_folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = (damage_flip, damage_cut, damage_empty, damage_missing, damage_folder)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_newest_one_is_named_and_skipped(tmp_path, capsys, name, damage):
    save_checkpoint(tmp_path, made(7))
    damage(save_checkpoint(tmp_path, made(8)) / name)
    with pytest.raises(CourseError, match="step_000008 is damaged"):
        load_checkpoint(tmp_path / "step_000008")
    assert newest_checkpoint(tmp_path).step == 7
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and "step_000008" in complaint and "going back to the one before" in complaint


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"meta.json": 3}', "[" * 100_000, "\xff", "{"])
def test_sums_that_are_none_are_damage(tmp_path, text):
    path = save_checkpoint(tmp_path, made(7))
    (path / "sha256.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CourseError, match="damaged"):
        load_checkpoint(path)


def test_an_empty_folder_a_file_and_none_at_all(tmp_path, capsys):
    (tmp_path / "step_000009").mkdir()
    (tmp_path / "step_000008").write_text("")
    with pytest.raises(CourseError, match="holds no checkpoint that is whole") as caught:
        newest_checkpoint(tmp_path)
    assert "\n" not in str(caught.value) and "--tag" in str(caught.value)
    assert capsys.readouterr().err.count("\n") == 2
    with pytest.raises(CourseError, match="holds no checkpoint"):
        newest_checkpoint(tmp_path / "nowhere")
    save_checkpoint(tmp_path, made(7))
    assert newest_checkpoint(tmp_path).step == 7


# ---- a disk that fills up


@pytest.mark.skipif(sys.platform != "linux", reason="a limit on the size of files stands in for a full disk")
@pytest.mark.parametrize("limit", [0, 50, 400, 600, 1000])
def test_a_full_disk_is_one_sentence_and_leaves_older_ones_and_no_parts(tmp_path, limit):
    save_checkpoint(tmp_path, made(7))
    big = made(8, filler="x" * 2000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        with pytest.raises(CourseError, match="free some space and go on with --resume") as caught:
            save_checkpoint(tmp_path, big, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(caught.value) and names(tmp_path) == ["step_000007"]
    assert newest_checkpoint(tmp_path).step == 7


@pytest.mark.parametrize("missing", [1, 100])
def test_arrays_cut_short_by_a_few_bytes_are_noticed_before_older_ones_go(tmp_path, monkeypatch, missing):
    save_checkpoint(tmp_path, made(7))
    save = mx.save_safetensors

    def cut(path, *rest):
        save(path, *rest)
        with open(path, "rb+") as file:
            file.truncate(file.seek(0, 2) - missing)

    monkeypatch.setattr(module.mx, "save_safetensors", cut)
    with pytest.raises(CourseError, match="the disk is full"):
        save_checkpoint(tmp_path, made(8), keep=1)
    assert names(tmp_path) == ["step_000007"]


@pytest.mark.parametrize("keep", [1, 3])
@pytest.mark.parametrize(
    "step, call, number", [*product([7, 8], ["fsync"], [1, 4]), (7, "replace", 1), (7, "replace", 2), (8, "replace", 1)]
)
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_save_that_fails_leaves_what_was_there(tmp_path, monkeypatch, keep, step, call, number, error):
    for earlier in (6, 7):
        save_checkpoint(tmp_path, made(earlier), keep)
    before, done, count = names(tmp_path), getattr(os, call), 0

    def fails(*args):
        nonlocal count
        count += 1
        if count == number:
            raise error
        return done(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises((CourseError, KeyboardInterrupt)) as caught:
            save_checkpoint(tmp_path, made(step, seed=1), keep)
    assert isinstance(error, KeyboardInterrupt) or "go on with --resume from step_000007" in str(caught.value)
    found = newest_checkpoint(tmp_path)
    assert found.step == 7 and (found.weights["w0"] == made(7).weights["w0"]).all().item()
    assert names(tmp_path) == before
    save_checkpoint(tmp_path, made(9), keep=1)
    assert names(tmp_path) == ["step_000009"]


@pytest.mark.parametrize("keep", [1, 3])
@pytest.mark.parametrize("step", [7, 8])
def test_a_save_that_is_killed_at_any_moment_leaves_a_whole_one(tmp_path, monkeypatch, keep, step):
    for earlier in (6, 7):
        save_checkpoint(tmp_path / "run", made(earlier), keep)
    moments = []

    def watched(module, name):
        done = getattr(module, name)

        def call(*args, **options):
            for _ in range(2):
                moments.append(shutil.copytree(tmp_path / "run", tmp_path / f"moment {len(moments)}"))
                if len(moments) % 2:
                    done(*args, **options)

        monkeypatch.setattr(module, name, call)

    watched(os, "fsync")
    watched(os, "replace")
    watched(shutil, "rmtree")
    save_checkpoint(tmp_path / "run", made(step, seed=1), keep)
    monkeypatch.undo()
    assert len(moments) > 10
    for moment in moments:
        assert newest_checkpoint(moment).step in (7, step)
        save_checkpoint(moment, made(9), keep=1)
        assert names(moment) == ["step_000009"]


def test_the_first_save_that_fails_promises_no_older_one(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(CourseError, match="free some space and begin again: nothing was saved yet"):
        save_checkpoint(tmp_path, made(7))
    assert names(tmp_path) == []


def test_a_checkpoint_that_is_being_read_stays_until_the_next_save(tmp_path):
    path = save_checkpoint(tmp_path, made(7))
    with held(path):
        save_checkpoint(tmp_path, made(8), keep=1)
        assert load_checkpoint(path).step == 7
    save_checkpoint(tmp_path, made(9), keep=1)
    assert names(tmp_path) == ["step_000009"]


# ---- names and models


@pytest.mark.parametrize("tag", ["", ".", "..", "a/b", "/tmp", "-x", ".hidden", "a b", "a\n", "a\0", "~"])
def test_tags_that_could_lead_elsewhere_are_refused(home, tag):
    with pytest.raises(CourseError, match="cannot name a run"):
        run_folder(tag)


@pytest.mark.parametrize("tag", ["d4", "d4-long_2.5", "über"])
def test_the_folder_of_a_run(home, tag):
    assert run_folder(tag) == home / "checkpoints" / "base" / tag
    assert run_folder(tag, "sft") == home / "checkpoints" / "sft" / tag


def tokenizer(text="the cat and the dog and the cat and the hat "):
    return Tokenizer.train([text * 20], 270, allow_smaller=True)


@pytest.fixture
def run(tmp_path):
    """A run's folder with two checkpoints of a model, its tokenizer, and the model of the newer one."""
    words, config = tokenizer(), {}
    model = GPT(GPTConfig(8, words.vocab_size, 1, 1, 1, 32))
    words.save(tmp_path / "tokenizer")
    for step in (1, 2):
        init_weights(model, step)
        weights = dict(tree_flatten(model.parameters()))
        weights["lm_head.weight"] = mx.random.normal(weights["lm_head.weight"].shape, key=mx.random.key(step))
        load_weights(model, weights)
        config = vars(model.config)
        meta = {"config": config, "tokenizer": words.fingerprint}
        save_checkpoint(tmp_path, Checkpoint(step, weights, {"x": mx.zeros(1)}, meta))
    return tmp_path, model, words


def test_a_loaded_model_gives_the_same_logits(run):
    folder, model, words = run
    ids = mx.array([words.encode("the cat")])
    loaded, tokens, meta = load_model(folder)
    assert (loaded(ids) == model(ids)).all().item() and loaded.config == model.config
    assert tokens.fingerprint == words.fingerprint and meta["step"] == 2
    older, _, meta = load_model(folder, step=1)
    assert meta["step"] == 1 and not (older(ids) == model(ids)).all().item()
    with pytest.raises(CourseError, match="step_000003"):
        load_model(folder, step=3)


def test_another_tokenizer_is_refused(run, home):
    folder = run[0]
    tokenizer("some other words entirely ").save(folder / "tokenizer")
    with pytest.raises(CourseError, match="not the tokenizer that this model was trained with"):
        load_model(folder)
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(CourseError, match="there is no tokenizer in .*; copy that folder too"):
        load_model(folder)


@pytest.mark.parametrize("damage", ["a bit", "gone", "another"])
def test_a_damaged_tokenizer_is_replaced_by_the_same_one_from_elsewhere(run, home, capsys, damage):
    """Here from a run that was fine-tuned from this one."""
    folder, model, words = run
    there = shutil.copytree(folder, home / "checkpoints" / "base" / "x")
    if damage == "a bit":
        ranks = next((there / "tokenizer").glob("*.tiktoken"))
        ranks.write_bytes(bytes([ranks.read_bytes()[0] ^ 1]) + ranks.read_bytes()[1:])
    else:
        shutil.rmtree(there / "tokenizer")
    if damage == "another":
        tokenizer("some other words entirely ").save(there / "tokenizer")
    with pytest.raises(CourseError, match="; copy "):
        load_model(there)
    shutil.copytree(folder / "tokenizer", home / "checkpoints" / "sft" / "x" / "tokenizer")
    assert load_model(there)[1].fingerprint == words.fingerprint
    assert "taking the same one from" in capsys.readouterr().err


def save_meta(folder, **changes):
    """The newest checkpoint with another meta.json, and its right checksum."""
    meta = json.loads((folder / "step_000002" / "meta.json").read_text())
    text = json.dumps(changes.pop("whole", meta | changes))
    (folder / "step_000002" / "meta.json").write_text(text)
    sums = json.loads((folder / "step_000002" / "sha256.json").read_text())
    sums["meta.json"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "step_000002" / "sha256.json").write_text(json.dumps(sums))


@pytest.mark.parametrize(
    "whole",
    [
        [],
        None,
        7,
        "x",
        {},
        {"step": "2"},
        {"step": True},
        {"step": 2},
        {"step": 2, "config": []},
        {"step": 2, "config": {}},
    ],
    ids=str,
)
def test_a_strangers_meta_is_refused_in_one_sentence(run, whole):
    save_meta(run[0], whole=whole)
    with pytest.raises(CourseError, match="; (use another checkpoint|choose another --tag)") as caught:
        load_model(run[0], step=2)
    assert "\n" not in str(caught.value)


NUMBERS = ("sequence_len", "vocab_size", "n_layer", "n_head", "n_kv_head", "n_embd", "rope_base", "norm_eps", "softcap")


@pytest.mark.parametrize("name", NUMBERS)
def test_a_strangers_config_is_refused_before_anything_is_built(run, name):
    """10**9 layers would take all memory."""
    folder, model, _ = run
    wrong = ["8", None, True, -1, 0, 10**30, float("nan"), float("inf"), [1]]
    for value in wrong if name in ("rope_base", "norm_eps", "softcap") else [*wrong, 1.5, 10**9]:
        save_meta(folder, config=vars(model.config) | {name: value})
        with pytest.raises(CourseError, match="config|n_head") as caught:
            load_model(folder, step=2)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"n_window": 3}, {"softcap": ...}])
def test_a_config_with_more_or_fewer_numbers_is_another_programs(run, change):
    config = {name: value for name, value in (vars(run[1].config) | change).items() if value is not ...}
    save_meta(run[0], config=config)
    with pytest.raises(CourseError, match="it is of another program or version"):
        load_model(run[0], step=2)


@pytest.mark.parametrize(
    ("file", "whose"), [("config.json", "Hugging Face"), ("model_000100.pt", "nanochat"), ("a/x.gguf", "llama.cpp")]
)
def test_a_folder_with_anothers_model_says_whose(tmp_path, file, whose):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    with pytest.raises(CourseError, match=f"a model in {whose}"):
        newest_checkpoint(tmp_path)


def test_weights_of_another_model_are_refused_by_name(run):
    model = run[1]
    good = dict(tree_flatten(model.parameters()))
    before = {name: np.array(array) for name, array in good.items()}
    wide = {name: mx.zeros((3, 3)) if name == "lm_head.weight" else array for name, array in good.items()}
    few = {name: array for name, array in good.items() if name != "lm_head.weight"}
    many = {**good, "lm_head.bias": mx.zeros(3)}
    for weights, words in ((wide, r"\(3, 3\) for lm_head.weight"), (few, "nothing for lm"), (many, "lm_head.bias")):
        with pytest.raises(CourseError, match=words):
            load_weights(model, weights)
    assert all((np.array(array) == before[name]).all() for name, array in tree_flatten(model.parameters()))


def test_the_checksums_are_of_the_files_as_sha256sum_would_say(tmp_path):
    path = save_checkpoint(tmp_path, made(7))
    sums = json.loads((path / "sha256.json").read_text())
    assert sums == {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in FILES if name in sums}
    assert sorted(sums) == sorted(set(FILES) - {"sha256.json"})
