# %% [markdown]
# # 10 · Training

# %%
from course_lib.classroom import add_to

# %%
#| export checkpoint
"""Checkpoints: folders that appear whole, say when they are damaged, and hold all that a run needs.

A run's folder has step_000200, step_000400, …, each with the weights and what goes on with them as
safetensors, numbers and names as JSON, and the checksums of the three.
"""

import hashlib
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

from course_lib.gpt import GPT, GPTConfig
from course_lib.host.errors import CourseError
from course_lib.host.files import make_folder_atomically
from course_lib.host.paths import home_dir
from course_lib.tokenizer import Tokenizer

# %%
#| export checkpoint
WEIGHTS, STATE, META, SUMS = "model.safetensors", "state.safetensors", "meta.json", "sha256.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    weights: the model's parameters by name; state: other arrays by name; meta: whatever JSON can say.
    """

    step: int
    weights: dict[str, mx.array]
    state: dict[str, mx.array]
    meta: dict


def run_folder(tag: str, stage: str = "base") -> Path:
    """Where the checkpoints of a run are kept: checkpoints/<stage>/<tag> of the course's home."""
    if not re.fullmatch(r"\w[\w.-]*", tag):
        raise CourseError(
            f"the tag {tag!r} cannot name a run; use letters, digits, and then . _ and -"
        )
    return home_dir() / "checkpoints" / stage / tag


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 3) -> Path:
    """Write folder/step_<step>, all of it or nothing; then only the newest `keep` stay.

    Raises CourseError when it cannot be written, as on a full disk.
    """
    target = folder / f"step_{checkpoint.step:06d}"
    for left in folder.glob(".step_*.part"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        with make_folder_atomically(target) as part:
            for name, arrays in ((WEIGHTS, checkpoint.weights), (STATE, checkpoint.state)):
                _save_arrays(part / name, arrays)
            meta = {"step": checkpoint.step, **checkpoint.meta}
            (part / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")
            sums = {name: _sha256(part / name) for name in (WEIGHTS, STATE, META)}
            (part / SUMS).write_text(json.dumps(sums, indent=1), encoding="utf-8")
            shutil.rmtree(
                target, ignore_errors=True
            )  # of the same step: a damaged one, most likely
    except (OSError, RuntimeError) as error:
        raise CourseError(
            f"cannot write {target} ({error}); free some space and go on with --resume: older checkpoints are whole"
        ) from error
    for old in checkpoint_folders(folder)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def _save_arrays(path: Path, arrays: dict[str, mx.array]) -> None:
    mx.save_safetensors(str(path), arrays)
    if path.stat().st_size < sum(array.nbytes for array in arrays.values()):
        raise OSError("the disk is full")  # MLX does not say so


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# %%
#| export checkpoint
def checkpoint_folders(folder: Path) -> list[Path]:
    """The checkpoints of a run, the newest first."""
    names = [path for path in folder.glob("step_*") if path.name.removeprefix("step_").isdigit()]
    return sorted(names, key=lambda path: int(path.name.removeprefix("step_")), reverse=True)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint. Raises CourseError when a file is missing or is not what was written."""
    try:
        sums = json.loads((path / SUMS).read_text(encoding="utf-8"))
        for name in (WEIGHTS, STATE, META):
            if _sha256(path / name) != sums[name]:
                raise CourseError(
                    f"{path} is damaged: {name} is not what was written; use another checkpoint"
                )
        meta = json.loads((path / META).read_text(encoding="utf-8"))
        weights, state = mx.load(str(path / WEIGHTS)), mx.load(str(path / STATE))
        mx.eval(
            weights, state
        )  # else they are read when they are needed, and the files may be gone by then
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, CourseError):
            raise
        raise CourseError(
            f"{path} is damaged or no checkpoint ({error}); use another checkpoint"
        ) from error
    return Checkpoint(meta["step"], weights, state, meta)


def newest_checkpoint(folder: Path) -> Checkpoint:
    """The newest checkpoint of a run that is whole; a line on stderr names each that is damaged.

    Raises CourseError when there is none.
    """
    for path in checkpoint_folders(folder):
        try:
            return load_checkpoint(path)
        except CourseError as error:
            print(f"{error}: going back to the one before", file=sys.stderr)
    raise CourseError(
        f"{folder} holds no checkpoint that is whole; train one with `base_train`, or choose another --tag"
    )


# %%
#| export checkpoint
def load_weights(model: GPT, weights: dict[str, mx.array]) -> None:
    """Give the model these parameters. Raises CourseError for names or shapes that are not its own."""
    own = dict(tree_flatten(model.parameters()))
    for name in sorted(own.keys() | weights.keys()):
        have, want = (tree[name].shape if name in tree else "nothing" for tree in (weights, own))
        if have != want:
            raise CourseError(
                f"the checkpoint has {have} for {name}, the model {want}; make it with the checkpoint's config"
            )
    model.load_weights(list(weights.items()))


def load_model(folder: Path, step: int | None = None) -> tuple[GPT, Tokenizer, dict]:
    """Model, tokenizer and meta of a run: of its newest whole checkpoint, or of a step of yours.

    Raises CourseError when there is none.
    """
    checkpoint = (
        newest_checkpoint(folder) if step is None else load_checkpoint(folder / f"step_{step:06d}")
    )
    tokenizer = Tokenizer.load(folder / "tokenizer")
    if tokenizer.fingerprint != checkpoint.meta["tokenizer"]:
        raise CourseError(
            f"{folder / 'tokenizer'} is not the tokenizer that this model was trained with; copy that one there"
        )
    model = GPT(GPTConfig(**checkpoint.meta["config"]))
    load_weights(model, checkpoint.weights)
    return model, tokenizer, checkpoint.meta


# %%
#| export distributed
"""Several processes that train one model: each has it whole, and they share the work of a step."""

import json
import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from course_lib.muon import Muon, newton_schulz

Group = mx.distributed.Group


# %%
#| export distributed
def from_first(arrays: dict[str, mx.array], group: Group) -> dict[str, mx.array]:
    """The arrays of process 0, in all processes, which must bring the same names, shapes and types."""
    if group.size() == 1:
        return arrays
    received = {}
    for name in sorted(arrays):  # in one order everywhere: else messages meet the wrong ones
        mine = arrays[name] if group.rank() == 0 else mx.zeros_like(arrays[name])
        received[name] = mx.distributed.all_sum(mine, group=group)
        mx.eval(received[name])
    return received


def say_from_first(value: object, group: Group) -> object:
    """What process 0 says, anything that JSON can hold, in all processes."""
    text = np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)
    size = from_first({"size": mx.array(len(text))}, group)["size"].item()
    text = text if group.rank() == 0 else np.zeros(size, np.uint8)
    received = from_first({"text": mx.array(text)}, group)["text"]
    return json.loads(bytes(np.array(received)))


def most(number: float, group: Group) -> float:
    """The largest of the numbers that the processes bring."""
    return mx.distributed.all_max(mx.array(number, mx.float32), group=group).item()


def total(numbers: list[float], group: Group) -> list[float]:
    """The sums over all processes of the numbers that each brings."""
    return mx.distributed.all_sum(mx.array(numbers, mx.float32), group=group).tolist()


# %%
#| export distributed
def share_out(costs: list[float], size: int) -> list[int]:
    """Who does what: for each task one of `size` workers, so that all have about as much to do."""
    load, owners = [0.0] * size, [0] * len(costs)
    for task in sorted(range(len(costs)), key=lambda task: -costs[task]):
        owners[task] = load.index(min(load))
        load[owners[task]] += costs[task]
    return owners


class SharedMuon(Muon):
    """Muon in several processes: each makes some of the matrices orthogonal, and all get all."""

    def __init__(self, learning_rate: float, group: Group):
        super().__init__(learning_rate)
        self.group = group

    def apply_gradients(self, gradients: dict, parameters: dict) -> dict:
        """The parameters after one step, the same in every process."""
        self.state["step"] = self.step + 1
        ahead = tree_map(self.look_ahead, gradients, self.state)
        names, matrices = zip(*tree_flatten(ahead), strict=True)
        owners = share_out([m.size * min(m.shape[-2:]) for m in matrices], self.group.size())
        parts = [
            newton_schulz(matrix, self.ns_steps)
            if owner == self.group.rank()
            else mx.zeros_like(matrix)
            for matrix, owner in zip(matrices, owners, strict=True)
        ]
        steps = sum_together(parts, self.group)
        return tree_map(self.move, tree_unflatten(list(zip(names, steps, strict=True))), parameters)


def sum_together(arrays: list[mx.array], group: Group) -> list[mx.array]:
    """The sum of each array over all processes, in one message."""
    sizes = np.cumsum([array.size for array in arrays])[:-1].tolist()
    flat = mx.distributed.all_sum(
        mx.concatenate([array.reshape(-1) for array in arrays]), group=group
    )
    return [
        part.reshape(array.shape) for part, array in zip(mx.split(flat, sizes), arrays, strict=True)
    ]


# %%
#| export training
"""The training step: gradients of several micro-batches, one clipped step of Muon and AdamW.

Source: nanochat.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from course_lib import backend
from course_lib.distributed import Group, SharedMuon, total
from course_lib.gpt import GPT
from course_lib.host.errors import CourseError
from course_lib.muon import Muon
from course_lib.optim import lr_multiplier, make_optimizer, muon_momentum
from course_lib.tokenizer import Tokenizer


# %%
#| export training
@dataclass(frozen=True)
class StepResult:
    """What a training step measured.

    iteration: the step's number, from 0; losses: nats, of each micro-batch of this process; loss:
    the mean over all processes; grad_norm: before clipping; lr_multiplier: of all learning rates.
    """

    iteration: int
    losses: list[float]
    loss: float
    grad_norm: float
    lr_multiplier: float


class Diverged(CourseError):
    """A loss or gradient that is no number, or a loss that has risen far: going on makes no sense."""


class Trainer:
    """Steps of Muon and AdamW on a GPT, with clipping and the schedule of learning rates.

    num_iterations: steps of the whole run, which the schedule spans. grad_clip: the largest norm of
    all gradients together; 0 to leave them. compiled: use mx.compile; by default on a GPU, since on
    a CPU it gains nothing here. group: the processes that share each step, which must all begin with the same weights.
    The other arguments are those of `make_optimizer` and `lr_multiplier`.
    """

    def __init__(
        self,
        model: GPT,
        num_iterations: int,
        *,
        grad_clip: float = 1.0,
        matrix_lr: float = 0.02,
        embedding_lr: float = 0.2,
        unembedding_lr: float = 0.004,
        warmup_ratio: float = 0.0,
        warmdown_ratio: float = 0.2,
        final_lr_frac: float = 0.0,
        compiled: bool | None = None,
        group: Group | None = None,
    ):
        if num_iterations < 1 or not grad_clip >= 0:
            raise CourseError(
                f"num_iterations={num_iterations}, grad_clip={grad_clip}: expected 1 or more, and 0 or more"
            )
        self.model, self.num_iterations, self.grad_clip = model, num_iterations, grad_clip
        self.iteration = 0
        self.group = group if group is not None and group.size() > 1 else None
        muon = Muon if self.group is None else partial(SharedMuon, group=self.group)
        self.optimizer = make_optimizer(model, matrix_lr, embedding_lr, unembedding_lr, muon)
        self._rates = [each.learning_rate for each in self.optimizer.optimizers]
        self._multiplier = partial(
            lr_multiplier,
            num_iterations=num_iterations,
            warmup_ratio=warmup_ratio,
            warmdown_ratio=warmdown_ratio,
            final_lr_frac=final_lr_frac,
        )
        self._compiled = backend.device_kind() != "cpu" if compiled is None else compiled
        self._make_functions()

    def _make_functions(self) -> None:
        """The two heavy parts of a step, which mx.compile may make faster."""
        model, optimizer = self.model, self.optimizer
        loss_and_gradients = nn.value_and_grad(model, model.loss)

        def add_gradients(
            so_far: dict | None, inputs: mx.array, targets: mx.array
        ) -> tuple[mx.array, dict]:
            loss, gradients = loss_and_gradients(inputs, targets)
            return loss, gradients if so_far is None else tree_map(mx.add, so_far, gradients)

        def update(gradients: dict, scale: mx.array) -> None:
            optimizer.update(model, tree_map(lambda gradient: gradient * scale, gradients))

        if self._compiled:
            weights = [model.state]
            state = [model.state, *(each.state for each in optimizer.optimizers)]
            first = mx.compile(partial(add_gradients, None), inputs=weights, outputs=weights)
            more = mx.compile(add_gradients, inputs=weights, outputs=weights)
            self._add_gradients = lambda so_far, *batch: (
                first(*batch) if so_far is None else more(so_far, *batch)
            )
            self._update = update if self.group else mx.compile(update, inputs=state, outputs=state)
        else:
            self._add_gradients, self._update = add_gradients, update

    def step(self, micro_batches: Iterable[tuple[mx.array, mx.array]]) -> StepResult:
        """One step of the optimizers on the mean loss of the micro-batches (inputs, targets), each (B, T).

        In several processes each gives as many micro-batches as the others. Raises CourseError for
        no micro-batch or a step beyond num_iterations, and Diverged, with the weights as they
        were, when the loss or the gradients are not finite.
        """
        if self.iteration >= self.num_iterations:
            raise CourseError(
                f"all {self.num_iterations} steps are done; make a Trainer with more num_iterations"
            )
        losses, gradients = [], None
        for inputs, targets in micro_batches:
            loss, gradients = self._add_gradients(gradients, inputs, targets)
            mx.eval(loss, gradients)  # else the graphs of all micro-batches would be in memory
            losses.append(loss.item())
        if not losses:
            raise CourseError(
                "a step got no micro-batch; give it one or more pairs (inputs, targets)"
            )
        loss = sum(losses) / len(losses)
        if self.group:
            gradients = nn.average_gradients(gradients, self.group)
            loss = total([loss], self.group)[0] / self.group.size()
        squares = mx.stack([mx.square(g.reshape(-1)).sum() for _, g in tree_flatten(gradients)])
        grad_norm = math.sqrt(math.fsum(squares.tolist())) / len(losses)  # the same in any order
        if not math.isfinite(loss + grad_norm):
            raise Diverged(f"the loss is {loss}, the norm of its gradients {grad_norm}")

        multiplier = self._multiplier(self.iteration)
        for each, rate in zip(self.optimizer.optimizers, self._rates, strict=True):
            each.learning_rate = rate * multiplier
        self.optimizer.optimizers[0].state["momentum"] = mx.array(muon_momentum(self.iteration))
        clip = min(1, self.grad_clip / (grad_norm + 1e-6)) if self.grad_clip else 1
        self._update(gradients, mx.array(clip / len(losses)))
        del gradients
        mx.eval(self.model.parameters(), self.optimizer.state)
        result = StepResult(self.iteration, losses, loss, grad_norm, multiplier)
        self.iteration += 1
        return result

    def state(self) -> dict[str, mx.array]:
        """What the next steps need beside the weights, by name: of the optimizers, and of mx.random."""
        state = {"optimizer": self.optimizer.state, "random": mx.array(mx.random.state[0])}
        return dict(tree_flatten(state))

    def load_state(self, iteration: int, state: dict[str, mx.array]) -> None:
        """Go on after `iteration` steps. Raises CourseError when the state is of another model."""
        shapes = [
            {name: array.shape for name, array in arrays.items()}
            for arrays in (self.state(), state)
        ]
        if shapes[0] != shapes[1]:
            raise CourseError(
                "the saved state does not fit this model; go on with the depth of the run"
            )
        tree = tree_unflatten([(name, state[name]) for name in shapes[0]])
        self.optimizer.state = tree["optimizer"]
        mx.random.state[0][:] = tree["random"]
        self.iteration = iteration
        self._make_functions()


# %%
#| export training
class LossWatch:
    """The smoothed loss of a run, and an alarm when it rises.

    The smoothed loss is an average in which each loss counts 0.9 times as much as the next, as in
    nanochat. max_rise: nats above its lowest value that it may reach.
    """

    def __init__(
        self, max_rise: float = 1.5, average: float = 0.0, steps: int = 0, lowest: float = math.inf
    ):
        self.max_rise, self.average, self.steps, self.lowest = max_rise, average, steps, lowest

    def add(self, loss: float) -> float:
        """Note the loss of a step, and return the smoothed one. Raises Diverged when that is too high."""
        self.average, self.steps = 0.9 * self.average + 0.1 * loss, self.steps + 1
        smoothed = self.average / (1 - 0.9**self.steps)
        self.lowest = min(self.lowest, smoothed)
        if smoothed > self.lowest + self.max_rise:
            raise Diverged(f"the smoothed loss has risen from {self.lowest:.3f} to {smoothed:.3f}")
        return smoothed

    def state(self) -> dict[str, float]:
        """What LossWatch(max_rise, **state) goes on from; JSON can hold it."""
        return {"average": self.average, "steps": self.steps, "lowest": self.lowest}


# %%
#| export training
def nats_and_bytes(
    model: GPT, inputs: mx.array, targets: mx.array, token_bytes: mx.array
) -> mx.array:
    """The loss in nats, and the bytes, of the targets (B, T) that stand for text: (2,).

    token_bytes: (vocab_size,), 0 for special tokens. They and targets of -1 count for neither.
    """
    losses = model.loss(inputs, targets, reduction="none")  # (B, T)
    sizes = mx.where(targets >= 0, token_bytes[mx.maximum(targets, 0)], 0)
    return mx.stack([(losses * (sizes > 0)).sum(), sizes.sum().astype(mx.float32)])


def validate(
    model: GPT,
    batches: Iterable[tuple[mx.array, mx.array]],
    token_bytes: mx.array,
    group: Group | None = None,
) -> float:
    """Bits per byte of the batches (of all processes together): nats / (ln 2 · bytes)."""
    nats = size = 0.0
    for inputs, targets in batches:
        more = nats_and_bytes(model, inputs, targets, token_bytes).tolist()
        nats, size = nats + more[0], size + more[1]
    if group is not None and group.size() > 1:
        nats, size = total([nats, size], group)
    return nats / (math.log(2) * size) if size else math.nan


# %%
#| export training
def continue_text(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str,
    max_tokens: int = 24,
    temperature: float = 0.8,
    seed: int = 0,
) -> str:
    """What the model writes after `prompt`, up to <|bos|>.

    For a look during training: the whole text goes through the model for every token.
    """
    ids = tokenizer.encode(prompt, bos=True)
    start, key = len(ids), mx.random.key(seed)
    for _ in range(max_tokens):
        logits = model(mx.array([ids[-model.config.sequence_len :]]))[0, -1]  # (V,)
        key, now = mx.random.split(key)
        following = mx.random.categorical(logits / temperature, key=now).item()
        if following == tokenizer.bos:
            break
        ids.append(following)
    return tokenizer.decode(ids[start:])


# %%
#| export plan
"""A run of pretraining on one page: its settings, and what they come to before the first step."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from course_lib import backend
from course_lib.gpt import GPTConfig, count_parameters, estimate_memory, flops_per_token
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.program import check_least


# %%
#| export plan
@dataclass(frozen=True)
class Settings:
    """Pretrain a GPT, by default one that fits the bundled corpus; stop it, and go on with --resume."""

    depth: int = 4
    """Layers of the model; everything else about it follows."""
    n_kv_head: int | None = None
    """Heads of keys and values; by default as many as query heads."""
    sequence_len: int | None = None
    """Tokens in a row; by default 2048, or 256 on a CPU or a small corpus."""
    dataset: str = "bundled"
    """bundled, fineweb-edu, climbmix (after `get_data`, or with --streaming), or text of your own."""
    streaming: bool = False
    """Fetch the shards of a remote corpus while training, and keep few."""
    max_cached_shards: int = 8
    """How many shards --streaming keeps on disk."""
    tokenizer: Path | None = None
    """Folder of the tokenizer; by default the one of `tok_train`, or one that is trained first."""
    total_batch_size: int | None = None
    """Tokens in a step; by default 524,288, or 4,096 on a CPU or a small corpus."""
    device_batch_size: int | None = None
    """Rows at a time in each process; by default what the memory allows, up to 32."""
    num_iterations: int | None = None
    """Steps of the whole run."""
    target_flops: float | None = None
    """Or: as many steps as this many floating-point operations pay for."""
    tokens_per_param: float | None = None
    """Or: tokens for each parameter; by default 20, but a small corpus at most four times."""
    matrix_lr: float = 0.02
    """Learning rate of Muon, for the matrices of the blocks."""
    embedding_lr: float = 0.2
    """Learning rate of AdamW for wte, at n_embd 768."""
    unembedding_lr: float = 0.004
    """Learning rate of AdamW for lm_head, at n_embd 768."""
    warmup_ratio: float = 0.0
    """Share of the steps in which the learning rates climb."""
    warmdown_ratio: float = 0.2
    """Share of the steps in which they fall."""
    final_lr_frac: float = 0.0
    """What they fall to, as a share."""
    grad_clip: float = 1.0
    """Largest norm of the gradients; 0 to leave them."""
    max_rise: float = 1.5
    """Stop when the smoothed loss is so many nats above its lowest."""
    seed: int = 42
    """Of the first weights."""
    recompute: bool = False
    """Compute activations twice, to need less memory."""
    eval_every: int | None = None
    """Steps between two validations; by default a tenth of the run, at most 250."""
    eval_share: float = 0.05
    """How much of the training's work validation may cost."""
    sample_every: int | None = None
    """Steps between two looks at what the model writes; by default a fifth of the run, at most 2,000."""
    save_every: int | None = None
    """Steps between two checkpoints; by default a tenth of the run, at most 250."""
    keep: int = 3
    """How many checkpoints to keep."""
    tag: str | None = None
    """Name of the run; by default d and the depth."""
    resume: bool = False
    """Go on from the run's newest checkpoint, with its settings."""
    overwrite: bool = False
    """Throw the run of this name away and begin again."""
    dry_run: bool = False
    """Say what the run comes to, measure a few steps, and end."""
    processes: int | None = None
    """Processes on this machine; by default one, on Linux's CPU up to four, one for each core."""


# %%
#| export plan
EPOCHS = 4  # more passes over the same text teach little (Muennighoff et al., 2023)

SMALL = 50_000_000  # tokens of a corpus

FILLED = 0.85  # of the memory: the estimate may be off, and other programs need some


def make_config(settings: Settings, vocab_size: int) -> GPTConfig:
    """The model of the settings, whose sequence_len must be known."""
    return GPTConfig.from_depth(
        settings.depth, vocab_size, settings.sequence_len, settings.n_kv_head
    )


def resolve(
    settings: Settings, vocab_size: int, corpus_tokens: float, processes: int = 1, here: int = 1
) -> Settings:
    """The settings with a number for every None that says how long, how large and how often.

    corpus_tokens: of the training text, about. processes: that share a step; here: how many of
    them share this machine's memory. Raises FlagError for numbers that do not fit together, and
    CourseError for what does not fit the memory.
    """
    _check(settings)
    small = corpus_tokens < SMALL or backend.device_kind() == "cpu"
    settings = replace(settings, sequence_len=settings.sequence_len or (256 if small else 2048))
    settings = replace(
        settings, total_batch_size=settings.total_batch_size or (4096 if small else 524_288)
    )
    config = make_config(settings, vocab_size)
    settings = replace(
        settings, device_batch_size=_device_batch_size(settings, config, processes, here)
    )
    steps = settings.num_iterations or _num_iterations(settings, config, corpus_tokens)
    often = min(250, max(1, steps // 10))
    batch = settings.device_batch_size * settings.sequence_len
    affordable = math.ceil(
        batch / (3 * max(settings.eval_share, 0.001) * settings.total_batch_size)
    )
    return replace(
        settings,
        num_iterations=steps,
        eval_every=settings.eval_every or max(often, affordable),
        save_every=settings.save_every or often,
        sample_every=settings.sample_every or min(2000, max(1, steps // 5)),
    )


def _check(settings: Settings) -> None:
    ones = "depth n_kv_head sequence_len total_batch_size device_batch_size num_iterations eval_every sample_every"
    ones += " save_every keep processes max_cached_shards"
    zeros = "matrix_lr embedding_lr unembedding_lr warmup_ratio warmdown_ratio final_lr_frac grad_clip eval_share seed"
    check_least(settings, **dict.fromkeys(ones.split(), 1), **dict.fromkeys(zeros.split(), 0))
    for flag in ("max_rise", "target_flops", "tokens_per_param"):
        value = getattr(settings, flag)
        if value is not None and not value > 0:
            raise FlagError(f"--{flag.replace('_', '-')} is {value}, expected more than 0")
    for flag in ("warmup_ratio", "warmdown_ratio", "final_lr_frac"):
        if getattr(settings, flag) > 1:
            raise FlagError(
                f"--{flag.replace('_', '-')} is {getattr(settings, flag)}, expected at most 1"
            )
    horizons = [settings.num_iterations, settings.target_flops, settings.tokens_per_param]
    if sum(horizon is not None for horizon in horizons) > 1:
        raise FlagError(
            "--num-iterations, --target-flops and --tokens-per-param each say how long; give one of them"
        )


def _num_iterations(settings: Settings, config: GPTConfig, corpus_tokens: float) -> int:
    if settings.target_flops is not None:
        tokens = settings.target_flops / flops_per_token(config)
    elif settings.tokens_per_param is not None:
        tokens = settings.tokens_per_param * count_parameters(config)
    else:
        tokens = min(20 * count_parameters(config), EPOCHS * corpus_tokens)
    return max(1, int(tokens / settings.total_batch_size))


def _device_batch_size(settings: Settings, config: GPTConfig, processes: int, here: int) -> int:
    """Rows at a time: the flag's, or the most that the memory allows. CourseError when none fits."""
    together = settings.sequence_len * processes  # tokens of one row in every process
    if settings.total_batch_size % together:
        raise FlagError(
            f"--total-batch-size is {settings.total_batch_size} tokens, expected a multiple of {together}: a row of "
            f"{settings.sequence_len}" + f" in each of {processes} processes" * (processes > 1)
        )
    rows = settings.total_batch_size // together
    possible = [size for size in range(min(rows, 32), 0, -1) if rows % size == 0]
    have = FILLED * backend.memory_bytes()

    def fits(size: int) -> bool:
        return here * estimate_memory(config, size, recompute=settings.recompute)["total"] <= have

    fitting = [size for size in possible if fits(size)]
    asked = settings.device_batch_size
    if asked is not None and rows % asked:
        raise FlagError(
            f"--device-batch-size is {asked}, expected a divisor of {rows}, the rows of each process in a step: "
            f"{possible[0]} is one"
        )
    if asked is not None and fits(asked) or asked is None and fitting:
        return asked or fitting[0]
    need = here * estimate_memory(config, asked or 1, recompute=settings.recompute)["total"]
    better = (
        f"--device-batch-size={fitting[0]} would fit"
        if fitting
        else (
            "no --device-batch-size fits; take --recompute, fewer --processes, or a smaller --depth or --sequence-len"
        )
    )
    raise CourseError(
        f"a step with --device-batch-size={asked or 1} needs {need / 1e9:.1f} GB in {here} "
        f"process{'es' * (here > 1)}, but of this machine's memory it may take {have / 1e9:.1f} GB; {better}"
    )


# %%
#| export plan
def validation_batches(settings: Settings, val_tokens: float) -> int:
    """Batches of device_batch_size rows for one validation, 1 or more.

    As many as keep all validation within eval_share of the training's work, a token of validation
    being a third of one of training, and no more than the text has.
    """
    tokens = 3 * settings.eval_share * settings.eval_every * settings.total_batch_size
    batch = settings.device_batch_size * settings.sequence_len
    return max(1, int(min(tokens, val_tokens) // batch))


def describe(
    settings: Settings, vocab_size: int, corpus_tokens: float, val_tokens: float, here: int = 1
) -> str:
    """What a run comes to, in lines."""
    config = make_config(settings, vocab_size)
    parameters, flops = count_parameters(config), flops_per_token(config)
    tokens = settings.num_iterations * settings.total_batch_size
    memory = estimate_memory(config, settings.device_batch_size, recompute=settings.recompute)[
        "total"
    ]
    count = validation_batches(settings, val_tokens)
    evaluated = count * settings.device_batch_size * settings.sequence_len
    share = evaluated / 3 / (settings.eval_every * settings.total_batch_size)
    epochs = "" if math.isinf(corpus_tokens) else f", {tokens / corpus_tokens:.1f} times the corpus"
    many = "" if here == 1 else f" in each of {here} processes"
    return "\n".join(
        [
            f"model        d{config.n_layer}: {config.n_layer} layers, n_embd {config.n_embd}, "
            f"{config.n_head} head{'s' * (config.n_head > 1)}, vocabulary {config.vocab_size:,}",
            f"parameters   {parameters:,}",
            f"tokens       {tokens:,} in {settings.num_iterations:,} steps of {settings.total_batch_size:,} "
            f"({tokens / parameters:.1f} a parameter{epochs})",
            f"operations   {flops / 1e6:,.0f} million FLOPs a token, {flops * tokens:.3g} in all",
            f"memory       {memory / 1e9:.1f} GB needed{many}, {backend.memory_bytes() / 1e9:.1f} GB here",
            f"validation   {evaluated:,} tokens every {settings.eval_every:,} steps, {share:.1%} of the work",
        ]
    )


# %%
#| export scripts.base_train
"""Pretrain a GPT on the documents of a dataset: `base_train --help`.

Source: nanochat, whose loop this is: steps 0 … N, of which the last only evaluates and saves.
"""

import json
import math
import shutil
import socket
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, fields
from functools import partial
from itertools import islice
from pathlib import Path

import mlx.core as mx
from filelock import FileLock, Timeout
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.checkpoint import (
    META,
    Checkpoint,
    checkpoint_folders,
    load_weights,
    newest_checkpoint,
    run_folder,
    save_checkpoint,
)
from course_lib.dataloader import TokenLoader
from course_lib.dataset import Dataset, open_dataset
from course_lib.distributed import Group, from_first, most, say_from_first, total
from course_lib.gpt import GPT, GPTConfig, flops_per_token, init_weights
from course_lib.host import local_ring
from course_lib.host.errors import CourseError
from course_lib.host.files import only_one
from course_lib.host.metrics import MetricsLog, read_metrics, save_curves
from course_lib.host.program import run_program
from course_lib.host.progress import StatusLine
from course_lib.host.stop import StopWish, stop_when_asked
from course_lib.plan import Settings, describe, make_config, resolve, validation_batches
from course_lib.scripts import tok_train
from course_lib.tokenizer import Tokenizer, default_folder
from course_lib.training import Diverged, LossWatch, Trainer, continue_text, validate


# %%
#| export scripts.base_train
def open_data(settings: Settings, folder: Path) -> tuple[Dataset, Tokenizer]:
    """Dataset and tokenizer of a run; where there is no tokenizer, one that fits the text is trained."""
    dataset = open_dataset(settings.dataset, settings.streaming, settings.max_cached_shards)
    if settings.resume and (folder / "tokenizer").exists():
        return dataset, Tokenizer.load(folder / "tokenizer")
    path = settings.tokenizer or default_folder()
    with only_one(path):
        if settings.tokenizer is None and not (path / "tokenizer.json").exists():
            print("there is no tokenizer yet: training one on this text", flush=True)
            tok_train.work(
                tok_train.Settings(dataset=settings.dataset, streaming=settings.streaming)
            )
    return dataset, Tokenizer.load(path)


def corpus_tokens(dataset: Dataset, tokenizer: Tokenizer) -> tuple[float, float]:
    """Tokens of the training and of the validation text, about; infinite for a streamed one."""
    if dataset.streamed:
        return math.inf, math.inf
    texts = list(islice(dataset.documents("val"), 200))
    tokens = sum(map(len, tokenizer.encode_batch(texts)))
    bytes_per_token = sum(len(text.encode()) for text in texts) / tokens
    return dataset.num_bytes("train") / bytes_per_token, dataset.num_bytes("val") / bytes_per_token


def size_of(dataset: Dataset) -> str:
    """What two machines can compare, whose own texts have different names."""
    if dataset.streamed:
        return dataset.name
    return f"{dataset.num_rows('train')} documents of {dataset.num_bytes('train')} bytes"


def check_same(group: Group, **facts: str) -> None:
    """Raise CourseError when this process has other facts than the first one."""
    for name, theirs in say_from_first(facts, group).items():
        if facts[name] != theirs:
            raise CourseError(
                f"the {name} here is {facts[name]}, in the first process {theirs}; give all machines the same"
            )


def processes_here(group: Group) -> int:
    """How many processes of the group share this machine."""
    name = mx.array([zlib.crc32(socket.gethostname().encode())], mx.uint32)
    return int((mx.distributed.all_gather(name, group=group) == name).sum().item())


# %%
#| export scripts.base_train
FREE = (  # may change when a run goes on
    *(
        "num_iterations",
        "recompute",
        "streaming",
        "max_cached_shards",
        "max_rise",
        "tokenizer",
        "tag",
    ),
    *("eval_every", "eval_share", "sample_every", "save_every", "keep"),
)

OF_THE_MOMENT = ("resume", "overwrite", "dry_run", "processes", "device_batch_size")  # are not kept


def settings_to_resume(asked: Settings, stored: dict) -> Settings:
    """The settings that a run was begun with, with those of FREE that are asked for now.

    Raises CourseError for a flag that asks for another run.
    """
    values = {}
    for field in fields(Settings):
        new, old, flag = (
            getattr(asked, field.name),
            stored.get(field.name, field.default),
            field.name.replace("_", "-"),
        )
        given = new != field.default
        if given and field.name not in FREE + OF_THE_MOMENT and new != old:
            raise CourseError(
                f"this run was begun with --{flag}={old}, but --{flag}={new} asks for another; leave the flag out, or "
                "choose another --tag"
            )
        values[field.name] = new if given or field.name in OF_THE_MOMENT else old
    return Settings(**values)


def settings_to_store(settings: Settings) -> dict:
    """The settings as JSON can hold them, without those of the moment."""
    values = asdict(settings) | {"tokenizer": settings.tokenizer and str(settings.tokenizer)}
    return {name: value for name, value in values.items() if name not in OF_THE_MOMENT}


def own_folder(folder: Path, settings: Settings) -> FileLock:
    """Make the run's folder this process's own; the lock. CourseError when it holds another run."""
    lock = only_one(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CourseError(
            f"another base_train is writing in {folder}; wait for its end, or choose another --tag"
        ) from error
    if settings.overwrite:
        shutil.rmtree(folder, ignore_errors=True)
    here = checkpoint_folders(folder)
    if here and not settings.resume:
        raise CourseError(
            f"{folder} holds a run already, up to {here[0].name}; go on with it by --resume, throw it away by "
            "--overwrite, or choose another --tag"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return lock


# %%
#| export scripts.base_train
def share_of(loader: TokenLoader, count: int, group: Group) -> Iterator[tuple[mx.array, mx.array]]:
    """The `count` batches of this process among the next ones, of which each process gets as many.

    Every process reads all of them, so that the text of a step, and the place in the data that is
    saved, do not depend on how many processes there are.
    """
    first = group.rank() * count
    for number in range(count * group.size()):
        batch = next(loader)
        if first <= number < first + count:
            yield batch


def trial(model: GPT, batch: tuple[mx.array, mx.array], count: int, group: Group) -> float:
    """Seconds of a step of `count` micro-batches, told from steps of one and of two.

    It spoils the weights: make them anew.
    """
    trainer, seconds = Trainer(model, 10, group=group), {}
    for size in (1, 1) if count == 1 else (1, 2, 1, 2):  # the first ones load and compile
        started = time.perf_counter()
        trainer.step([batch] * size)
        seconds[size] = time.perf_counter() - started
    return seconds[1] + (count - 1) * (seconds.get(2, 0) - seconds[1])


class Speed:
    """Seconds of a step, and what follows: tokens per second, share of the machine's speed, time left."""

    def __init__(self, settings: Settings, config: GPTConfig, seconds: float, group: Group):
        self.seconds, self.tokens, self.eval_share = (
            seconds,
            settings.total_batch_size,
            settings.eval_share,
        )
        self.flops = flops_per_token(config)
        n = 1024 if backend.device_kind() == "cpu" else 4096
        self.peak = 1e9 * total([backend.matmul_gflops(n, backend.compute_dtype())], group)[0]

    def add(self, seconds: float) -> None:
        """Note the time of a step."""
        self.seconds = 0.9 * self.seconds + 0.1 * seconds

    def __str__(self) -> str:
        """Tokens per second and model FLOPs utilization: the share of the speed of matrix products."""
        tokens_per_second = self.tokens / self.seconds
        return f"{tokens_per_second:,.0f} tokens/s, MFU {self.flops * tokens_per_second / self.peak:.0%}"

    def left(self, steps: int) -> str:
        """How long so many steps will take, validation included, such as "1:02:09"."""
        minutes, seconds = divmod(round(steps * self.seconds * (1 + self.eval_share)), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d}"


# %%
#| export scripts.base_train
class Run:
    """A run of pretraining as one of its processes sees it.

    Made from settings and a folder, or from the checkpoint there; `loop` does the work. Raises
    CourseError for whatever does not fit.
    """

    def __init__(self, settings: Settings, folder: Path, group: Group, stack: ExitStack):
        self.folder, self.group, self.is_first = folder, group, group.rank() == 0
        writes = self.is_first and not settings.dry_run
        if writes:
            stack.callback(own_folder(folder, settings).release)
        checkpoint = newest_checkpoint(folder) if self.is_first and settings.resume else None
        meta = say_from_first(checkpoint and checkpoint.meta, group)
        if meta:
            settings = settings_to_resume(settings, meta["settings"])
        dataset, self.tokenizer = open_data(settings, folder)
        check_same(group, tokenizer=self.tokenizer.fingerprint, text=size_of(dataset))
        sizes = corpus_tokens(dataset, self.tokenizer)
        here = processes_here(group)
        self.settings = resolve(settings, self.tokenizer.vocab_size, sizes[0], group.size(), here)
        self.config = make_config(self.settings, self.tokenizer.vocab_size)
        self.val_batches = validation_batches(self.settings, sizes[1])
        self.status = stack.enter_context(
            StatusLine(self.settings.num_iterations, quiet=not self.is_first)
        )
        self.status.say(describe(self.settings, self.tokenizer.vocab_size, *sizes, here))

        self._make_model(checkpoint, meta["step"] if meta else 0)
        left = self.speed.left(self.settings.num_iterations - self.trainer.iteration)
        products = f"{self.speed.peak / 1e9:,.0f} GFLOP/s of matrix products"
        self.status.say(f"speed        {self.speed} of {products}; about {left} to go")

        self.watch = LossWatch(self.settings.max_rise, **(meta["watch"] if meta else {}))
        self.seconds, self.bits_per_byte = meta["seconds"] if meta else 0.0, None
        self.open_loader = partial(
            TokenLoader,
            dataset,
            self.tokenizer,
            batch_size=self.settings.device_batch_size,
            sequence_len=self.settings.sequence_len,
            num_threads=1 if backend.device_kind() == "cpu" else None,
        )
        place = {**meta["data"]} if meta else None
        if place and not self.is_first:
            place["dataset"] = dataset.name  # the same text, by check_same
        self.loader = stack.enter_context(self.open_loader("train", state=place))
        self.log = None
        if writes:
            self.tokenizer.save(folder / "tokenizer")
            self.log = MetricsLog(folder / "metrics.jsonl", self.trainer.iteration)
        self.prompts = [" ".join(text.split()[:6]) for text in islice(dataset.documents("val"), 3)]

    def _make_model(self, checkpoint: Checkpoint | None, step: int) -> None:
        """Model and trainer, the same in every process: new, or those of the first one's checkpoint."""
        names = ("grad_clip", "matrix_lr", "embedding_lr", "unembedding_lr")
        names += ("warmup_ratio", "warmdown_ratio", "final_lr_frac")
        flags = {name: getattr(self.settings, name) for name in names}
        self.model = GPT(self.config, self.settings.recompute)
        shape = (2, self.settings.device_batch_size, self.settings.sequence_len)
        noise = mx.random.randint(0, self.config.vocab_size, shape)
        rows = self.settings.total_batch_size // self.settings.sequence_len
        self.micro_batches = rows // self.settings.device_batch_size // self.group.size()
        seconds = trial(self.model, (noise[0], noise[1]), self.micro_batches, self.group)
        self.speed = Speed(self.settings, self.config, seconds, self.group)

        backend.seed_everything(self.settings.seed)
        init_weights(self.model, self.settings.seed)
        self.trainer = Trainer(self.model, self.settings.num_iterations, **flags, group=self.group)
        if checkpoint:
            load_weights(self.model, checkpoint.weights)
            self.trainer.load_state(step, checkpoint.state)
        weights = dict(tree_flatten(self.model.parameters()))
        load_weights(self.model, from_first(weights, self.group))
        self.trainer.load_state(step, from_first(self.trainer.state(), self.group))


# %%
#| export scripts.base_train
@add_to(Run)
def loop(self, stop: StopWish) -> int:
    """All steps that are left: 0, or the exit code of the wish to stop, which is granted after a step.

    Raises Diverged when the loss does, before anything is saved of it.
    """
    settings, began = self.settings, self.trainer.iteration
    for step in range(began, settings.num_iterations + 1):
        is_last = step == settings.num_iterations
        if is_last or step % settings.eval_every == 0:
            self.evaluate(step)
        if is_last or step and step % settings.sample_every == 0:
            self.sample(step)
        if is_last or step > began and step % settings.save_every == 0:
            self.save()
        if is_last:
            break
        self.train_step(step)
        if code := int(most(stop.code, self.group)):
            self.save()
            self.status.say(
                f"stopped after {step + 1:,} steps and saved them; go on with --resume --tag={self.folder.name}"
            )
            return code
    self.finish()
    return 0


@add_to(Run)
def train_step(self, step: int) -> None:
    """One step: trained, watched, written down and shown."""
    started, place = time.perf_counter(), self.loader.state
    try:
        result = self.trainer.step(self.micro_batches_of(step))
        smoothed = self.watch.add(result.loss)
    except Diverged as error:
        raise Diverged(
            f"step {step}: {error}; its text begins at token {place['token']} of row {place['row']} of "
            f"{place['shard']}, epoch {place['epoch']}; the last checkpoint is from before: go on from it with "
            "--resume and look at that text, or begin again with lower learning rates (--matrix-lr, --embedding-lr)"
        ) from error
    seconds = time.perf_counter() - started
    self.speed.add(seconds)
    self.seconds += seconds
    if self.log:
        self.log.add(
            step,
            loss=result.loss,
            smoothed=smoothed,
            grad_norm=result.grad_norm,
            lr_multiplier=result.lr_multiplier,
            tokens_per_second=self.settings.total_batch_size / seconds,
            seconds=self.seconds,
            memory=mx.get_peak_memory(),
        )
    left = self.speed.left(self.settings.num_iterations - step - 1)
    memory = f"{mx.get_peak_memory() / 1e9:.1f} GB"
    self.status.show(
        step + 1, f"step {step + 1:,}  loss {smoothed:.3f}  {self.speed}  {memory}  {left} left"
    )


@add_to(Run)
def micro_batches_of(self, step: int) -> Iterator[tuple[mx.array, mx.array]]:
    """This process's micro-batches of the next step; a terminal shows how far a long one is."""
    for number, batch in enumerate(share_of(self.loader, self.micro_batches, self.group)):
        if self.micro_batches > 8:
            self.status.hint(
                f"step {step + 1:,}: {number} of {self.micro_batches} micro-batches  {self.speed}"
            )
        yield batch


# %%
#| export scripts.base_train
@add_to(Run)
def evaluate(self, step: int) -> None:
    """Bits per byte of the first validation batches, always the same."""
    with self.open_loader("val") as loader:
        batches = islice(loader, self.group.rank(), self.val_batches, self.group.size())
        value = validate(self.model, batches, self.tokenizer.token_bytes, self.group)
    if self.log:
        self.log.add(step, bits_per_byte=value)
    self.bits_per_byte = value
    self.status.say(f"step {step:,}: {value:.4f} bits per byte of validation text")


@add_to(Run)
def sample(self, step: int) -> None:
    """Let the model go on with the first words of three validation documents."""
    if self.is_first:
        samples = []
        for prompt in self.prompts:
            text = continue_text(self.model, self.tokenizer, prompt, seed=step + len(samples))
            samples.append([prompt, text])
            self.status.say(f"  {prompt!r} … {text!r}")
        self.log.add(step, samples=samples)


@add_to(Run)
def save(self) -> None:
    """Write a checkpoint; the first process does. Raises Diverged rather than save what is no number."""
    weights = dict(tree_flatten(self.model.parameters()))
    if not all(mx.isfinite(weight).all().item() for weight in weights.values()):
        raise Diverged(
            f"after step {self.trainer.iteration - 1} some weights are no numbers; nothing was saved of it"
        )
    if self.is_first:
        meta = {"config": asdict(self.config), "tokenizer": self.tokenizer.fingerprint}
        meta |= {"settings": settings_to_store(self.settings), "processes": self.group.size()}
        meta |= {"data": self.loader.state, "watch": self.watch.state(), "seconds": self.seconds}
        meta |= {"bits_per_byte": self.bits_per_byte}
        checkpoint = Checkpoint(self.trainer.iteration, weights, self.trainer.state(), meta)
        save_checkpoint(self.folder, checkpoint, self.settings.keep)


@add_to(Run)
def finish(self) -> None:
    """The curves, and a last line."""
    if self.is_first:
        save_curves(self.folder / "curves.png", read_metrics(self.folder / "metrics.jsonl"))
        minutes, seconds = divmod(round(self.seconds), 60)
        self.status.say(
            f"done in {minutes}:{seconds:02d} of training; model and curves are in {self.folder}"
        )


# %%
#| export scripts.base_train
def choose_processes(settings: Settings, folder: Path) -> int:
    """How many processes to start: the flag's, or so many that the rows of a step and the memory suffice.

    Makes the dataset and the tokenizer where they are missing. Raises CourseError for settings that cannot be.
    """
    for path in checkpoint_folders(folder) if settings.resume else ():
        with suppress(OSError, ValueError, KeyError, TypeError):  # a damaged one
            before = json.loads((path / META).read_text(encoding="utf-8"))["processes"]
            return settings.processes or before
    processes = settings.processes or local_ring.fitting_processes(backend.device_kind())
    if processes == 1:
        return 1
    dataset, tokenizer = open_data(settings, folder)
    tokens = corpus_tokens(dataset, tokenizer)[0]
    while True:
        try:
            resolve(settings, tokenizer.vocab_size, tokens, processes, processes)
            return processes
        except CourseError:
            if settings.processes or processes == 1:
                raise
            processes //= 2


def work(settings: Settings, argv: list[str]) -> None:
    """Train in as many processes as it takes; argv: the flags once more, for those."""
    folder = run_folder(settings.tag or f"d{settings.depth}")
    if not local_ring.in_a_ring():
        processes = choose_processes(settings, folder)
        if processes > 1:
            code = local_ring.launch("course_lib.scripts.base_train", argv, processes)
            sys.exit(code) if code else None
            return
    with ExitStack() as stack:
        stop = stack.enter_context(stop_when_asked())
        local_ring.end_with_the_launcher(stop)
        try:
            run = Run(settings, folder, mx.distributed.init(), stack)
            code = 0 if settings.dry_run else run.loop(stop)
        except RuntimeError as error:
            if "[ring]" not in str(error):
                raise
            print(
                "base_train: another process of this run is gone; what was saved is whole: go on with --resume",
                file=sys.stderr,
            )
            code = local_ring.LOST
    if code:
        sys.exit(code)


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    argv = sys.argv[1:] if argv is None else argv
    run_program("base_train", Settings, partial(work, argv=argv), argv)
