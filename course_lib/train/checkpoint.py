"""Checkpoints: folders that appear whole, say when they are damaged, and hold all that a run needs.

A run's folder has step_000200, step_000400, …, each with the weights and what goes on with them as
safetensors, numbers and names as JSON, and the checksums of the three.

Written by hand; chapter 10 uses it.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError
from course_lib.host.files import held, make_folder_atomically, remove_unless_held, sha256_of
from course_lib.host.paths import home_dir
from course_lib.model.gpt import GPT
from course_lib.model.kinds import make_model
from course_lib.train.checks import check_meta, config_of, nothing_in, tokenizer_of
from course_lib.train.metrics import read_metrics

WEIGHTS, STATE, META, SUMS = "model.safetensors", "state.safetensors", "meta.json", "sha256.json"


@dataclass(frozen=True)
class Checkpoint:
    """weights: the model's parameters by name; state: other arrays; meta: what JSON can say."""

    step: int
    weights: dict[str, mx.array]
    state: dict[str, mx.array]
    meta: dict


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 3) -> Path:
    """Write folder/step_<step>, all of it or nothing; then it and the `keep` - 1 before it stay.

    Later ones go: a run that goes on from an earlier step has found them damaged.
    Raises CourseError when it cannot be written, as on a full disk.
    """
    target = folder / f"step_{checkpoint.step:06d}"
    same = folder / f"step_0{checkpoint.step:06d}"  # one of this step, until the new one is there
    for left in folder.glob(".step_*.part"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        with make_folder_atomically(target, aside=same) as part:
            for name, arrays in ((WEIGHTS, checkpoint.weights), (STATE, checkpoint.state)):
                save_arrays(part / name, arrays)
            meta = {"step": checkpoint.step, **checkpoint.meta}
            (part / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")
            sums = {name: sha256_of(part / name) for name in (WEIGHTS, STATE, META)}
            (part / SUMS).write_text(json.dumps(sums, indent=1), encoding="utf-8")
    except (OSError, RuntimeError) as error:
        then = "begin again: nothing was saved yet"
        if older := checkpoint_folders(folder):
            then = f"go on with --resume from {older[0].name}"
        raise CourseError(f"cannot write {target} ({error}); free some space and {then}") from error
    folders = checkpoint_folders(folder)
    first = folders.index(target)
    for path in folders[:first] + folders[first + keep :]:
        remove_unless_held(path)
    return target


def save_arrays(path: Path, arrays: dict[str, mx.array], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file. Raises OSError, also where MLX is silent: on a full disk."""
    mx.save_safetensors(str(path), arrays, metadata)
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if path.stat().st_size != 8 + header + sum(array.nbytes for array in arrays.values()):
        raise OSError("the disk is full")  # MLX does not say so


def checkpoint_folders(folder: Path) -> list[Path]:
    """The checkpoints of a run, the newest first."""
    names = [path for path in folder.glob("step_*") if path.name.removeprefix("step_").isdecimal()]
    return sorted(names, key=lambda path: int(path.name.removeprefix("step_")), reverse=True)


def run_folder(tag: str, stage: str = "base") -> Path:
    """Where the checkpoints of a run are kept: checkpoints/<stage>/<tag> of the course's home."""
    if not re.fullmatch(r"\w[\w.-]*", tag):
        raise CourseError(f"the tag {tag!r} cannot name a run; use letters, digits, and then . _ and -")
    return home_dir() / "checkpoints" / stage / tag


@contextmanager
def _or_damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except CourseError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CourseError(f"{path} is damaged or no checkpoint ({error}); use another checkpoint") from error


def read_meta(path: Path) -> dict:
    """What a checkpoint says of itself, without its arrays. Raises CourseError when it cannot."""
    with _or_damaged(path):
        meta = json.loads((path / META).read_text(encoding="utf-8"))
        check_meta(meta, path)
        for entry in read_metrics(path.parent / "metrics.jsonl"):  # measured after it was saved
            if "bits_per_byte" in entry and entry["step"] <= meta["step"]:
                meta["bits_per_byte"] = entry["bits_per_byte"]
        return meta


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint. Raises CourseError when a file is missing or is not what was written."""
    with _or_damaged(path), held(path):
        sums = json.loads((path / SUMS).read_text(encoding="utf-8"))
        for name in (WEIGHTS, STATE, META):
            if sha256_of(path / name) != sums[name]:
                raise CourseError(f"{path} is damaged: {name} is not what was written; use another checkpoint")
        weights, state = mx.load(str(path / WEIGHTS)), mx.load(str(path / STATE))
        mx.eval(weights, state)  # else they are read when needed, and the files may be gone by then
        meta = read_meta(path)
        return Checkpoint(meta["step"], weights, state, meta)


def newest_meta(folder: Path) -> dict | None:
    """What the newest checkpoint of a run whose meta can be read says; None when there is none."""
    for path in checkpoint_folders(folder):
        with suppress(CourseError):
            return read_meta(path)
    return None


def newest_checkpoint(folder: Path) -> Checkpoint:
    """The newest checkpoint of a run that is whole; a line on stderr names each that is damaged.

    Raises CourseError when there is none.
    """
    for path in checkpoint_folders(folder):
        try:
            return load_checkpoint(path)
        except CourseError as error:
            print(f"{error}: going back to the one before", file=sys.stderr)
    raise CourseError(nothing_in(folder))


def load_weights(model: GPT, weights: dict[str, mx.array]) -> None:
    """Give the model these parameters. Raises CourseError for names or shapes not its own."""
    own = dict(tree_flatten(model.parameters()))
    for name in sorted(own.keys() | weights.keys()):
        have, want = (tree[name].shape if name in tree else "nothing" for tree in (weights, own))
        if have != want:
            raise CourseError(
                f"the checkpoint has {have} for {name}, the model {want}; make it with the checkpoint's config"
            )
    model.load_weights(list(weights.items()))


def load_model(folder: Path, step: int | None = None) -> tuple[GPT, Tokenizer, dict]:
    """Model, tokenizer and meta of a run: of its newest whole checkpoint, or of a step of yours; in float32.

    Raises CourseError when there is none.
    """
    checkpoint = newest_checkpoint(folder) if step is None else load_checkpoint(folder / f"step_{step:06d}")
    config = config_of(checkpoint.meta, checkpoint.weights)
    tokenizer, model = tokenizer_of(folder, checkpoint.meta["tokenizer"]), make_model(config)
    load_weights(model, {name: array.astype(mx.float32) for name, array in checkpoint.weights.items()})
    return model, tokenizer, checkpoint.meta
