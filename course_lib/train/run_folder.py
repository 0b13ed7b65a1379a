"""A run's folder, and what a terminal shows of the run: everything around the training loop.

Written by hand; chapter 10 uses it.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import mlx.core as mx
from filelock import AcquireReturnProxy, Timeout
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.data.identity import in_words, shards_of_before
from course_lib.host.errors import CourseError
from course_lib.host.files import only_one
from course_lib.host.progress import StatusLine
from course_lib.host.stop import StopRequest
from course_lib.host.words import duration, plural
from course_lib.model.gpt import GPT
from course_lib.model.kinds import make_model
from course_lib.model.sizes import estimate_memory, flops_per_token
from course_lib.train.checkpoint import Checkpoint, checkpoint_folders, load_weights, newest_checkpoint, save_checkpoint
from course_lib.train.checks import check_has
from course_lib.train.distributed import Group, all_max, all_sum, broadcast, broadcast_json
from course_lib.train.fast_trainer import FastTrainer
from course_lib.train.flags import CallFlags, Flags, resumed, stored, usual_rates
from course_lib.train.loss_watch import LossWatch
from course_lib.train.metrics import PANELS, MetricsLog, read_metrics, save_curves
from course_lib.train.recipe import Recipe
from course_lib.train.source import Batches, Source
from course_lib.train.trainer import Diverged, StepResult, Trainer
from course_lib.train.validation import validate

# What MLX says when memory is short: its allocators, Metal, CUDA.
NO_MEMORY = ("Unable to allocate", "Attempting to allocate", "Insufficient Memory", "OutOfMemory", "out of memory")


def only_writer(folder: Path) -> AcquireReturnProxy:
    """The lock of a run's folder, for a `with` block. Raises CourseError when another process writes there."""
    try:
        return only_one(folder).acquire(timeout=0)
    except Timeout as error:
        raise CourseError(f"another run is writing in {folder}; wait for its end, or choose another --tag") from error


@contextmanager
def open_run(
    folder: Path, flags: CallFlags, group: Group, kind: "type[RunFolder] | None" = None
) -> Iterator["RunFolder"]:
    """The folder of a run, locked while the block runs; with --resume, its newest whole checkpoint is read.

    kind: a RunFolder, or one whose steps are measured in another way. Raises CourseError when another process writes
    there, or when it holds a run that the flags do not ask for.
    """
    with ExitStack() as stack:
        if group.rank() == 0 and not flags.dry_run:
            stack.enter_context(only_writer(folder))
            here = checkpoint_folders(folder)
            if here and not (flags.resume or flags.overwrite):
                raise CourseError(
                    f"{folder} holds a run already, up to {here[0].name}; go on with it by --resume, "
                    "throw it away by --overwrite, or choose another --tag"
                )
        run = (kind or RunFolder)(folder, flags, group, stack)
        with run.enough_memory():
            yield run


class RunFolder:
    """What a run leaves and shows; made by `open_run`. Of several processes the first one writes.

    meta: what the checkpoint to go on from says, in every process; {} for a new run.
    panels: the curves that are drawn in the end.
    """

    panels = PANELS

    def __init__(self, folder: Path, flags: CallFlags, group: Group, stack: ExitStack):
        self.folder, self.flags, self.group, self._stack = folder, flags, group, stack
        self.is_first = group.rank() == 0
        self._checkpoint = newest_checkpoint(folder) if self.is_first and flags.resume else None
        self.meta: dict = broadcast_json(self._checkpoint.meta if self._checkpoint else {}, group)
        self._log: MetricsLog | None = None
        self._when = ""  # what the model is doing
        self._evaluated = -1  # after which step it was, last

    @contextmanager
    def enough_memory(self) -> Iterator[None]:
        """A RuntimeError of the block for lack of memory becomes a CourseError that says what needs less.

        Around the whole run, since a GPU may report what went wrong in a step only at a later call of MLX.
        """
        try:
            yield
        except RuntimeError as error:
            if not self._when or not any(words in str(error) for words in NO_MEMORY):
                raise
            rows = self.recipe.device_batch_size
            fewer = next((size for size in range(rows // 2, 0, -1) if rows % size == 0), None)
            less = (
                f"--device-batch-size={fewer}" if fewer else "--recompute, a shorter --sequence-len or a smaller model"
            )
            raise CourseError(
                f"{self._when}: memory is not enough for --device-batch-size={rows} ({str(error).splitlines()[0]}); "
                f"take {less}; what was saved stays, and --resume goes on with it"
            ) from error

    def follow(self, asked: Flags, given: Set[str]) -> Flags:
        """The flags that the run follows: those asked for, or of a resumed run those that it was begun with."""
        if not self.meta:
            return asked
        check_has(self.meta, "settings", "processes", "config", "tokenizer", "data")
        flags = resumed(asked, given, self.meta["settings"])
        if self.meta["processes"] != self.group.size() and "device_batch_size" not in given:
            flags = replace(flags, device_batch_size=None)  # with other rows for each, another may fit
        return flags

    def begin(
        self,
        flags: CallFlags,
        recipe: Recipe,
        source: Source,
        about: str,
        first_weights: Callable[[GPT], None],
        **notes: object,
    ) -> GPT:
        """The model with its first weights, after a few steps of trial that tell its speed.

        flags: those that the run follows, see `resumed`; about: lines to print; notes: what checkpoints say besides. Of
        a resumed run the notes stay. Raises CourseError when it was another run, and when the disk has too little room.
        """
        self.flags, self.recipe, self._tokenizer, self._data = flags, recipe, source.tokenizer, source.fingerprint
        self._notes = {name: self.meta.get(name, note) for name, note in notes.items()}
        if self.meta and self.meta["tokenizer"] != source.tokenizer.fingerprint:
            raise CourseError(
                f"the run in {self.folder} was begun with another tokenizer than the one that is "
                "here now; give it back, or begin again by --overwrite"
            )
        if self.data_begun not in (None, self._data) and flags.changed_data != "now":
            before = shards_of_before(self.data_begun) is not None
            raise CourseError(
                f"the run in {self.folder} was begun with other data, {in_words(self.data_begun)}, than is here now, "
                f"{in_words(self._data)}; give back what was there, or "
                f"{'go on with it as it was, by --changed-data=before, or ' * before}"
                "go on with that of now from its beginning, by --changed-data=now"
            )
        done = self.meta.get("step", 0)
        if recipe.num_iterations < done and not recipe.minutes:
            raise CourseError(
                f"this run has done {done} steps already, and --num-iterations={recipe.num_iterations} "
                "is fewer; give as many or more"
            )
        if self.is_first:
            self._check_room(done)
        self._status = self._stack.enter_context(StatusLine(recipe.num_iterations, quiet=not self.is_first))
        self._status.say(about)
        model = make_model(recipe.model, recipe.recompute)
        self.try_speed(model, done)
        backend.seed_everything(recipe.seed)
        first_weights(model)
        return model

    def try_speed(self, model: GPT, done: int) -> None:
        """A few steps of trial, and a line on how fast they were. They spoil the weights."""
        recipe = self.recipe
        self._status.hint("a few steps of trial, to see how fast they are")
        shape, self._when = (recipe.device_batch_size, recipe.sequence_len), "trial of the speed"
        seconds = trial(model, shape, recipe.micro_batches(self.group.size()), self.group)
        self._speed = Speed(recipe, seconds, self.flags.eval_share, self.group)
        products = f"{self._speed.peak / 1e9:,.0f} GFLOP/s of matrix products"
        left = self._time_left(done, self.meta.get("seconds", 0.0))
        self._status.say(f"speed        {self._speed} of {products}; about {left} to go")

    @property
    def data_begun(self) -> str | None:
        """The fingerprint of the data that a resumed run was begun with, where its checkpoint says it."""
        return self.meta.get("data_fingerprint") or self.meta.get("data", {}).get("dataset")

    def _check_room(self, done: int) -> None:
        """Raise CourseError when the disk has no room for the checkpoints that are still to come.

        One more than are kept: an old one goes when the new one is whole.
        """
        recipe, here = self.recipe, [] if self.flags.overwrite else checkpoint_folders(self.folder)
        sizes = estimate_memory(recipe.model, recipe.device_batch_size)
        size, coming = sizes["weights"] + sizes["optimizer"], recipe.num_iterations - done
        count = min(max(self.flags.keep + 1 - len(here), 1), math.ceil(coming / recipe.cadence.save_every))
        there = next(folder for folder in self.folder.parents if folder.exists())
        free = shutil.disk_usage(there).free
        if self.flags.overwrite:
            free += sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        if count * size > free:
            raise CourseError(
                f"this run needs room for {plural(count, 'checkpoint')} of {size / 1e6:,.0f} MB, and {there} has "
                f"{free / 1e6:,.0f} MB free; free some space, set COURSE_HOME, or take --keep=1 or a smaller model"
            )

    def resume(self, trainer: Trainer) -> dict | None:
        """Give the trainer what the checkpoint holds, the same in every process; the place in the data, if any."""
        if self._checkpoint:
            load_weights(trainer.model, self._checkpoint.weights)
            trainer.load_state(self._checkpoint.step, self._checkpoint.state)
            self._checkpoint = None  # its arrays are the model's now
        load_weights(trainer.model, broadcast(dict(tree_flatten(trainer.model.parameters())), self.group))
        trainer.load_state(self.meta.get("step", 0), broadcast(trainer.state(), self.group))
        self._watch = LossWatch(self.recipe.max_rise, **self.meta.get("watch", {}))
        self._bits_per_byte = self.meta.get("bits_per_byte")
        self._began = time.monotonic() - self.meta.get("seconds", 0.0)
        return self.meta.get("data") if self.data_begun in (None, self._data) else None

    def open(self, step: int) -> None:
        """Write from `step` on; the first moment at which a run that is thrown away loses anything."""
        if self.is_first:
            if self.flags.overwrite:
                shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._tokenizer.save(self.folder / "tokenizer")
            self._log = MetricsLog(self.folder / "metrics.jsonl", step)
            self._stack.callback(self._log.close)

    @property
    def seconds(self) -> float:
        """Since the run began, time between its parts left out."""
        return time.monotonic() - self._began

    def num_iterations(self, step: int) -> int:
        """Steps of the whole run, as known after `step` of them.

        Of a run with minutes: by the clock of the first process, as many as make `step` the share of the run that its
        time is. So the learning rates fall by the clock, too.
        """
        if self.recipe.minutes is None or step == 0:
            return self.recipe.num_iterations
        by_clock = step * 60 * self.recipe.minutes / self.seconds if self.is_first else 0
        return max(self.recipe.min_iterations, step, round(all_max(by_clock, self.group)))

    def micro_batches(self, step: int, batches: Batches) -> Iterator[tuple[mx.array, mx.array]]:
        """This process's micro-batches of step `step`, of which each process gets as many.

        Every process reads all of them, so that the text of a step, and the place in the data that is saved, do not
        depend on how many processes there are.
        """
        return self.show(step, share_of(batches, self.recipe, self.group))

    def show(self, step: int, batches: Iterable) -> Iterator:
        """The same batches; a terminal shows how far a long step is."""
        self._step, self._started = step, time.perf_counter()
        count = self.recipe.micro_batches(self.group.size())
        for number, batch in enumerate(batches):
            if count > 8:
                self._status.hint(f"step {step + 1:,}: {number} of {count} micro-batches  {self._speed}")
            yield batch

    def watch(self, result: StepResult) -> None:
        """Write a step down and show it. Raises Diverged when the smoothed loss has risen too far."""
        self._smoothed, memory = self._watch.add(result.loss), f"{mx.get_peak_memory() / 1e9:.1f} GB"
        seconds = time.perf_counter() - self._started
        self._speed.add(seconds)
        if self._log:
            measured = self.measures(result, seconds)
            self._log.add(self._step, **measured, seconds=self.seconds, memory=mx.get_peak_memory())
        done = self._step + 1
        left = self._time_left(done, self.seconds)
        self._status.show(done, f"step {done:,}  {self.in_short()}  {self._speed}  {memory}  {left} left")

    def measures(self, result: StepResult, seconds: float) -> dict[str, float]:
        """What is written down of a step."""
        measured = {name: getattr(result, name) for name in ("loss", "grad_norm", "lr_multiplier")}
        return measured | {
            "smoothed": self._smoothed,
            "tokens_per_second": self.recipe.total_batch_size / seconds,
        }

    def in_short(self) -> str:
        """What the status says of the last step."""
        return f"loss {self._smoothed:.3f}"

    def _time_left(self, done: int, seconds: float) -> str:
        """Of a run after `done` steps in so many seconds: by the clock, or until its least steps are done."""
        if self.recipe.minutes is None:
            return duration(self._speed.left(self.recipe.num_iterations - done))
        least = self._speed.left(self.recipe.min_iterations - done)
        return duration(max(0, 60 * self.recipe.minutes - seconds, least))

    @contextmanager
    def explaining(self, step: int, place: str) -> Iterator[None]:
        """A Diverged of the block says at which step, on which text, and what to do."""
        self._when = f"step {step}"
        try:
            yield
        except Diverged as error:
            raise Diverged(
                f"step {step}: {error}; its text begins at {place}; the last checkpoint "
                "is from before: go on from it with --resume and look at that text, or begin again "
                "with lower learning rates (--matrix-lr, --embedding-lr)"
            ) from error

    def evaluate(self, step: int, model: GPT, source: Source) -> None:
        """Log bits per byte of the first validation batches; each process takes its share of them."""
        with source.batches("val") as batches:
            mine = islice(batches, self.group.rank(), self.recipe.cadence.eval_batches, self.group.size())
            self.log(step, bits_per_byte=validate(model, mine, source.tokenizer.token_bytes, self.group))

    def sample(self, step: int, model: GPT, source: Source) -> None:
        """Log what the model makes of a few prompts now; the first process looks."""
        if self.is_first:
            self.log(step, samples=source.preview(model))

    def log(self, step: int, **values: Any) -> None:
        """Write down bits_per_byte or samples, (prompt, text) each, and print them."""
        if self._log:
            self._log.add(step, **values)
        if "bits_per_byte" in values:
            self._bits_per_byte = values["bits_per_byte"]
            self._status.say(f"step {step:,}: {self._bits_per_byte:.4f} bits per byte of validation text")
            self._evaluated = step
        if "samples" in values and step != self._evaluated:
            self._status.say(f"step {step:,}: samples")
        for prompt, text in values.get("samples", ()):
            self._status.sample(prompt, text, cut=True)

    def save(self, trainer: Trainer, place: dict) -> None:
        """Write a checkpoint; the first process does. Raises Diverged rather than save no numbers."""
        weights = dict(tree_flatten(trainer.model.parameters()))
        if not all(mx.isfinite(weight).all().item() for weight in weights.values()):
            raise Diverged(f"after step {trainer.iteration - 1} some weights are no numbers; nothing was saved of it")
        if self.is_first:
            meta = {
                "config": asdict(self.recipe.model),
                "tokenizer": self._tokenizer.fingerprint,
                "recipe": asdict(self.recipe),
                "settings": stored(self.flags, self.recipe),
                "processes": self.group.size(),
                "data": place,
                "data_fingerprint": self._data,
                "watch": self._watch.state(),
                "seconds": self.seconds,
                "bits_per_byte": self._bits_per_byte,
                **self._notes,
            }
            save_checkpoint(self.folder, Checkpoint(trainer.iteration, weights, trainer.state(), meta), self.flags.keep)
        all_max(0, self.group)  # the others wait: a launcher may end all of them when one ends

    def stop_code(self, stop: StopRequest) -> int:
        """The exit code that somebody has asked any of the processes for, or 0."""
        return int(all_max(stop.code, self.group))

    def stopped(self, code: int) -> int:
        """The last line of a run that is to stop; its exit code."""
        done = f"stopped after {self._step + 1:,} steps and saved them"
        self._status.say(f"{done}; go on with --resume --tag={self.folder.name}")
        return code

    def finish(self) -> int:
        """The curves, and a last line; exit code 0."""
        if self.is_first:
            save_curves(self.folder / "curves.png", read_metrics(self.folder / "metrics.jsonl"), self.panels)
            self._status.say(f"done in {duration(self.seconds)} of training; model and curves are in {self.folder}")
        return 0


def share_of(batches: Batches, recipe: Recipe, group: Group) -> Iterator[tuple[mx.array, mx.array]]:
    """The micro-batches of the next step that are this process's; all are read."""
    mine = recipe.micro_batches(group.size())
    for number in range(mine * group.size()):
        batch = next(batches)
        if number // mine == group.rank():
            yield batch


# ---- how fast it trains


def trial(model: GPT, shape: tuple[int, int], count: int, group: Group) -> float:
    """Seconds of a step of `count` micro-batches of noise (B, T), told from steps of one and of two.

    It spoils the weights: make them anew.
    """
    trainer, seconds = FastTrainer(model, 10, usual_rates(model.config), group=group), {}
    batch = tuple(mx.random.randint(0, model.config.vocab_size, (2, *shape)))
    for size in (1, 1) if count == 1 else (1, 2, 1, 2):  # the first ones load and compile
        started = time.perf_counter()
        trainer.step([batch] * size)
        seconds[size] = time.perf_counter() - started
    return seconds[1] + (count - 1) * (seconds.get(2, 0) - seconds[1])


def machine_flops(group: Group) -> float:
    """Operations per second of matrix products, of all processes of the group together."""
    n = 1024 if backend.device_kind() == "cpu" else 4096
    return 1e9 * all_sum([backend.matmul_gflops(n, backend.compute_dtype())], group)[0]


class Speed:
    """Seconds of a step, and what follows: tokens per second, share of the machine, time left."""

    def __init__(self, recipe: Recipe, seconds: float, eval_share: float, group: Group):
        self.seconds, self.tokens, self.eval_share = seconds, recipe.total_batch_size, eval_share
        self.flops, self.peak = flops_per_token(recipe.model), machine_flops(group)

    def add(self, seconds: float) -> None:
        """Note the time of a step."""
        self.seconds = 0.9 * self.seconds + 0.1 * seconds

    def __str__(self) -> str:
        """Tokens per second, and model FLOPs utilization: the share of the speed of matrix products."""
        speed = self.tokens / self.seconds
        return f"{speed:,.0f} tokens/s, MFU {self.flops * speed / self.peak:.0%}"

    def left(self, steps: int) -> float:
        """Seconds that this many steps will take, evaluation included."""
        return steps * self.seconds * (1 + self.eval_share)
