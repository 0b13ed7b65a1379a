"""A training run: watched, stopped, resumed, shared between processes; of any loader of batches.

Source: nanochat, whose loop this is: steps 0 … N, of which the last only evaluates and saves.

Exported from notebooks/10_training.ipynb; edit it there.
"""

import json
import shutil
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, fields, replace
from itertools import islice
from pathlib import Path

import mlx.core as mx
from filelock import FileLock, Timeout
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.host.errors import CourseError
from course_lib.host.files import only_one
from course_lib.host.progress import StatusLine
from course_lib.host.stop import StopWish, stop_when_asked
from course_lib.model.gpt import GPT, GPTConfig, init_weights
from course_lib.model.sizes import flops_per_token
from course_lib.train import local_ring
from course_lib.train.checkpoint import (
    META,
    Checkpoint,
    checkpoint_folders,
    load_weights,
    newest_checkpoint,
    save_checkpoint,
)
from course_lib.train.distributed import Group, from_first, most, say_from_first, total
from course_lib.train.metrics import MetricsLog, read_metrics, save_curves
from course_lib.train.trainer import Diverged, LossWatch, Trainer, continue_text, validate


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


FREE = (  # may change when a run goes on
    *("recompute", "streaming", "max_cached_shards", "max_rise", "tokenizer", "tag"),
    *("eval_every", "eval_share", "sample_every", "save_every", "keep", "device_batch_size"),
)

HORIZON = ("num_iterations", "target_flops", "tokens_per_param")  # may change, too

OF_THE_MOMENT = ("resume", "overwrite", "dry_run", "processes")  # are not kept


def settings_to_resume(asked, stored: dict):
    """The settings that a run was begun with, with those that are asked for now and may change.

    asked: a dataclass of settings; stored: what `settings_to_store` made of those of the beginning.
    Raises CourseError for a flag that asks for another run.
    """
    values = {field.name: stored.get(field.name, field.default) for field in fields(asked)}
    for field in fields(asked):
        name, flag = field.name, field.name.replace("_", "-")
        new, old = getattr(asked, name), values[name]
        given = new != field.default
        if given and name not in FREE + HORIZON + OF_THE_MOMENT and new != old:
            raise CourseError(
                f"this run was begun with --{flag}={old}, but --{flag}={new} asks for "
                "another; leave the flag out, or choose another --tag"
            )
        if given or name in OF_THE_MOMENT:
            values[name] = new
    horizon = [name for name in HORIZON if name in values]
    if any(getattr(asked, name) is not None for name in horizon):
        values |= {name: getattr(asked, name) for name in horizon}
    else:  # the steps that it was begun with, whatever they followed from
        values |= dict.fromkeys(horizon[1:])
    if values.get("tokenizer") is not None:
        values["tokenizer"] = Path(values["tokenizer"])
    return type(asked)(**values)


def settings_to_store(settings) -> dict:
    """The settings as JSON can hold them, without those of the moment."""
    kept = {name: value for name, value in asdict(settings).items() if name not in OF_THE_MOMENT}
    return {name: str(value) if isinstance(value, Path) else value for name, value in kept.items()}


def own_folder(folder: Path, settings) -> FileLock:
    """Make the run's folder this process's own; the lock. CourseError when it holds another run."""
    lock = only_one(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CourseError(f"another run is writing in {folder}; wait for its end, or choose another --tag") from error
    here = checkpoint_folders(folder)
    if here and not (settings.resume or settings.overwrite):
        raise CourseError(
            f"{folder} holds a run already, up to {here[0].name}; go on with it by --resume, "
            "throw it away by --overwrite, or choose another --tag"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return lock


def share_of(loader: Iterator, count: int, group: Group) -> Iterator[tuple[mx.array, mx.array]]:
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
    """Seconds of a step, and what follows: tokens per second, share of the machine, time left."""

    def __init__(self, settings, config: GPTConfig, seconds: float, group: Group):
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
        """Tokens per second, and model FLOPs utilization: the share of matrix products' speed."""
        speed = self.tokens / self.seconds
        return f"{speed:,.0f} tokens/s, MFU {self.flops * speed / self.peak:.0%}"

    def left(self, steps: int) -> str:
        """How long so many steps will take, validation included, such as "1:02:09"."""
        minutes, seconds = divmod(round(steps * self.seconds * (1 + self.eval_share)), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d}"


class Run:
    """A run of training as one of its processes sees it; `loop` does the work.

    Made from settings and a folder, or from the checkpoint there. A program's run has `prepare`,
    which sets settings (all numbers known), tokenizer, config, val_batches, prompts, and about, the
    lines to print; and `open_loader(split, state=None)`, whose `state` is its place, for JSON.
    Raises CourseError for whatever does not fit.
    """

    def __init__(self, settings, folder: Path, group: Group, stack: ExitStack):
        self.folder, self.group, self.is_first = folder, group, group.rank() == 0
        self.notes: dict = {}  # what a checkpoint says besides
        writes = self.is_first and not settings.dry_run
        if writes:
            stack.callback(own_folder(folder, settings).release)
        checkpoint = newest_checkpoint(folder) if self.is_first and settings.resume else None
        meta = say_from_first(checkpoint and checkpoint.meta, group)
        if meta:
            asked = settings.device_batch_size
            settings = settings_to_resume(settings, meta["settings"])
            if meta["processes"] != group.size():  # with other rows for each, another may fit
                settings = replace(settings, device_batch_size=asked)
        self.prepare(settings)
        if meta:
            self.notes = {name: meta[name] for name in self.notes}
            if meta["tokenizer"] != self.tokenizer.fingerprint:
                raise CourseError(
                    f"the run in {folder} was begun with another tokenizer than the one that is "
                    "here now; give it back, or begin again by --overwrite"
                )
        if meta and self.settings.num_iterations < meta["step"]:
            raise CourseError(
                f"this run has done {meta['step']} steps already, and --num-iterations="
                f"{self.settings.num_iterations} is fewer; give as many or more"
            )
        self.status = stack.enter_context(StatusLine(self.settings.num_iterations, quiet=not self.is_first))
        self.status.say(self.about)

        self._make_model(checkpoint, meta["step"] if meta else 0)
        left = self.speed.left(self.settings.num_iterations - self.trainer.iteration)
        products = f"{self.speed.peak / 1e9:,.0f} GFLOP/s of matrix products"
        self.status.say(f"speed        {self.speed} of {products}; about {left} to go")

        self.watch = LossWatch(self.settings.max_rise, **(meta["watch"] if meta else {}))
        self.seconds = meta["seconds"] if meta else 0.0
        self.bits_per_byte = meta["bits_per_byte"] if meta else None
        self.loader = stack.enter_context(self.open_loader("train", meta["data"] if meta else None))
        self.log = None
        if writes:
            if self.settings.overwrite:  # not before all is known to be well
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
            self.tokenizer.save(folder / "tokenizer")
            self.log = MetricsLog(folder / "metrics.jsonl", self.trainer.iteration)
            stack.callback(self.log.close)

    def rates(self) -> dict[str, float]:
        """What the Trainer takes besides the model."""
        names = ("grad_clip", "matrix_lr", "embedding_lr", "unembedding_lr")
        names += ("warmup_ratio", "warmdown_ratio", "final_lr_frac")
        return {name: getattr(self.settings, name) for name in names}

    def first_weights(self) -> None:
        """Give the model the weights to begin with."""
        init_weights(self.model, self.settings.seed)

    def in_words(self, place: dict) -> str:
        """Where in the data a loader's state is."""
        return str(place)

    def _make_model(self, checkpoint: Checkpoint | None, step: int) -> None:
        """Model and trainer, the same in every process: new, or of the first one's checkpoint."""
        self.model = GPT(self.config, self.settings.recompute)
        shape = (2, self.settings.device_batch_size, self.settings.sequence_len)
        noise = mx.random.randint(0, self.config.vocab_size, shape)
        rows = self.settings.total_batch_size // self.settings.sequence_len
        self.micro_batches = rows // self.settings.device_batch_size // self.group.size()
        seconds = trial(self.model, (noise[0], noise[1]), self.micro_batches, self.group)
        self.speed = Speed(self.settings, self.config, seconds, self.group)

        backend.seed_everything(self.settings.seed)
        self.first_weights()
        steps = self.settings.num_iterations
        self.trainer = Trainer(self.model, steps, **self.rates(), group=self.group)
        if checkpoint:
            load_weights(self.model, checkpoint.weights)
            self.trainer.load_state(step, checkpoint.state)
        weights = dict(tree_flatten(self.model.parameters()))
        load_weights(self.model, from_first(weights, self.group))
        self.trainer.load_state(step, from_first(self.trainer.state(), self.group))

    def loop(self, stop: StopWish) -> int:
        """All steps that are left: 0, or the exit code of the wish to stop, granted after a step.

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

    def train_step(self, step: int) -> None:
        """One step: trained, watched, written down and shown."""
        started, place = time.perf_counter(), self.loader.state
        try:
            result = self.trainer.step(self.micro_batches_of(step))
            smoothed = self.watch.add(result.loss)
        except Diverged as error:
            raise Diverged(
                f"step {step}: {error}; its text begins at {self.in_words(place)}; the last checkpoint "
                "is from before: go on from it with --resume and look at that text, or begin again "
                "with lower learning rates (--matrix-lr, --embedding-lr)"
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
        self.status.show(step + 1, f"step {step + 1:,}  loss {smoothed:.3f}  {self.speed}  {memory}  {left} left")

    def micro_batches_of(self, step: int) -> Iterator[tuple[mx.array, mx.array]]:
        """This process's micro-batches of the next step; a terminal shows how far a long one is."""
        for number, batch in enumerate(share_of(self.loader, self.micro_batches, self.group)):
            if self.micro_batches > 8:
                self.status.hint(f"step {step + 1:,}: {number} of {self.micro_batches} micro-batches  {self.speed}")
            yield batch

    def evaluate(self, step: int) -> None:
        """Bits per byte of the first validation batches, always the same."""
        with self.open_loader("val") as loader:
            batches = islice(loader, self.group.rank(), self.val_batches, self.group.size())
            value = validate(self.model, batches, self.tokenizer.token_bytes, self.group)
        if self.log:
            self.log.add(step, bits_per_byte=value)
        self.bits_per_byte = value
        self.status.say(f"step {step:,}: {value:.4f} bits per byte of validation text")

    def sample(self, step: int) -> None:
        """Let the model go on with the first words of three validation documents."""
        if self.is_first:
            samples = []
            for prompt in self.prompts:
                text = continue_text(self.model, self.tokenizer, prompt, seed=step * len(self.prompts) + len(samples))
                samples.append([prompt, text])
                self.status.say(f"  {prompt!r} … {text!r}")
            self.log.add(step, samples=samples)

    def save(self) -> None:
        """Write a checkpoint; the first process does. Raises Diverged rather than save no numbers."""
        weights = dict(tree_flatten(self.model.parameters()))
        if not all(mx.isfinite(weight).all().item() for weight in weights.values()):
            raise Diverged(
                f"after step {self.trainer.iteration - 1} some weights are no numbers; nothing was saved of it"
            )
        if self.is_first:
            meta = {"config": asdict(self.config), "tokenizer": self.tokenizer.fingerprint}
            meta |= {"settings": settings_to_store(self.settings), "processes": self.group.size()}
            meta |= {"data": self.loader.state, "watch": self.watch.state(), "seconds": self.seconds}
            meta |= {"bits_per_byte": self.bits_per_byte, **self.notes}
            checkpoint = Checkpoint(self.trainer.iteration, weights, self.trainer.state(), meta)
            save_checkpoint(self.folder, checkpoint, self.settings.keep)
        most(0, self.group)  # the others wait: a launcher may end all of them when one ends

    def finish(self) -> None:
        """The curves, and a last line."""
        if self.is_first:
            save_curves(self.folder / "curves.png", read_metrics(self.folder / "metrics.jsonl"))
            minutes, seconds = divmod(round(self.seconds), 60)
            self.status.say(f"done in {minutes}:{seconds:02d} of training; model and curves are in {self.folder}")


def start(program: str, run_type: type[Run], settings, folder: Path, argv: list[str], processes: int) -> None:
    """Train in so many processes; ends the program with the exit code of what ended it early.

    program: its name, of a module of course_lib.scripts; argv: its flags, for the others.
    """
    if processes > 1:
        code = local_ring.launch(f"course_lib.scripts.{program}", argv, processes)
    else:
        code = train(program, run_type, settings, folder)
    if code:
        sys.exit(code)


def train(program: str, run_type: type[Run], settings, folder: Path) -> int:
    """Train in this process, alone or as one of several: 0, or the exit code of an early end."""
    with ExitStack() as stack:
        stop = stack.enter_context(stop_when_asked())
        local_ring.end_with_the_launcher(stop)
        try:
            run = run_type(settings, folder, mx.distributed.init(), stack)
            return 0 if settings.dry_run else run.loop(stop)
        except RuntimeError as error:
            if "[ring]" not in str(error):
                raise
            print(
                f"{program}: another process of this run is gone; what was saved is whole: go on with --resume",
                file=sys.stderr,
            )
            return local_ring.LOST


def processes_before(settings, folder: Path) -> int | None:
    """How many processes the run that --resume goes on with had; None for a new one."""
    for path in checkpoint_folders(folder) if settings.resume else ():
        with suppress(OSError, ValueError, KeyError, TypeError):  # a damaged one
            return json.loads((path / META).read_text(encoding="utf-8"))["processes"]
    return None


def fewer_until(fits: Callable[[int], object], settings) -> int:
    """How many processes to start: the flag's, or what this machine has cores for, or half of it …

    fits: raises CourseError for a number of processes that cannot be; so does this for the flag's.
    """
    processes = settings.processes or local_ring.fitting_processes(backend.device_kind())
    while True:
        try:
            fits(processes)
            return processes
        except CourseError:
            if settings.processes or processes == 1:
                raise
            processes //= 2
