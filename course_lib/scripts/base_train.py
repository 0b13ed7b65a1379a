"""Pretrain a GPT on the documents of a dataset: `base_train --help`.

Source: nanochat, whose loop this is: steps 0 … N, of which the last only evaluates and saves.

Exported from notebooks/10_training.ipynb; edit it there.
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
from dataclasses import asdict, fields, replace
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
from course_lib.plan import (
    Settings,
    check_flags,
    describe,
    make_config,
    resolve,
    validation_batches,
)
from course_lib.scripts import tok_train
from course_lib.tokenizer import Tokenizer, default_folder, fitting_vocab_size
from course_lib.training import Diverged, LossWatch, Trainer, continue_text, validate


def tokenizer_folder(settings: Settings, dataset: Dataset) -> Path:
    """The flag's; else the default one, or one beside it for text that fits eight times as many tokens.

    So a tokenizer that was made for the bundled corpus is not taken for a corpus of the hub.
    """
    default = default_folder()
    if settings.tokenizer is not None or not (default / "tokenizer.json").exists():
        return settings.tokenizer or default
    fitting = 65_536 if dataset.streamed else fitting_vocab_size(dataset.num_bytes("train"))
    if 8 * Tokenizer.load(default).vocab_size > fitting:
        return default
    return default.with_name(f"tokenizer-{dataset.name.replace('/', '-')}")


def open_data(settings: Settings, folder: Path) -> tuple[Dataset, Tokenizer]:
    """Dataset and tokenizer of a run; where there is no tokenizer, one is trained that fits."""
    dataset = open_dataset(settings.dataset, settings.streaming, settings.max_cached_shards)
    if settings.resume and (folder / "tokenizer").exists():
        return dataset, Tokenizer.load(folder / "tokenizer")
    path = tokenizer_folder(settings, dataset)
    with only_one(path):
        if settings.tokenizer is None and not (path / "tokenizer.json").exists():
            print("there is no tokenizer for this text yet: training one", flush=True)
            tok_train.work(tok_train.Settings(dataset=settings.dataset, streaming=settings.streaming, folder=path))
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


FREE = (  # may change when a run goes on
    *("recompute", "streaming", "max_cached_shards", "max_rise", "tokenizer", "tag"),
    *("eval_every", "eval_share", "sample_every", "save_every", "keep", "device_batch_size"),
)

HORIZON = ("num_iterations", "target_flops", "tokens_per_param")  # may change, too

OF_THE_MOMENT = ("resume", "overwrite", "dry_run", "processes")  # are not kept


def settings_to_resume(asked: Settings, stored: dict) -> Settings:
    """The settings that a run was begun with, with those that are asked for now and may change.

    Raises CourseError for a flag that asks for another run.
    """
    values = {field.name: stored.get(field.name, field.default) for field in fields(Settings)}
    for field in fields(Settings):
        new, old, flag = (
            getattr(asked, field.name),
            values[field.name],
            field.name.replace("_", "-"),
        )
        given = new != field.default
        if given and field.name not in FREE + HORIZON + OF_THE_MOMENT and new != old:
            raise CourseError(
                f"this run was begun with --{flag}={old}, but --{flag}={new} asks for "
                "another; leave the flag out, or choose another --tag"
            )
        if given or field.name in OF_THE_MOMENT:
            values[field.name] = new
    longer = any(getattr(asked, name) is not None for name in HORIZON)
    steps = {
        "num_iterations": values["num_iterations"],
        "target_flops": None,
        "tokens_per_param": None,
    }
    values |= {name: getattr(asked, name) for name in HORIZON} if longer else steps
    values["tokenizer"] = values["tokenizer"] and Path(values["tokenizer"])
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
    here = checkpoint_folders(folder)
    if here and not (settings.resume or settings.overwrite):
        raise CourseError(
            f"{folder} holds a run already, up to {here[0].name}; go on with it by --resume, "
            "throw it away by --overwrite, or choose another --tag"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return lock


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
    """Seconds of a step, and what follows: tokens per second, share of the machine, time left."""

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
        """Tokens per second, and model FLOPs utilization: the share of matrix products' speed."""
        speed = self.tokens / self.seconds
        return f"{speed:,.0f} tokens/s, MFU {self.flops * speed / self.peak:.0%}"

    def left(self, steps: int) -> str:
        """How long so many steps will take, validation included, such as "1:02:09"."""
        minutes, seconds = divmod(round(steps * self.seconds * (1 + self.eval_share)), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d}"


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
            asked = settings.device_batch_size
            settings = settings_to_resume(settings, meta["settings"])
            if meta["processes"] != group.size():  # with other rows for each, another may fit
                settings = replace(settings, device_batch_size=asked)
        dataset, self.tokenizer = open_data(settings, folder)
        check_same(group, tokenizer=self.tokenizer.fingerprint, text=size_of(dataset))
        sizes = corpus_tokens(dataset, self.tokenizer)
        here = processes_here(group)
        self.settings = resolve(settings, self.tokenizer.vocab_size, sizes[0], group.size(), here)
        if meta and self.settings.num_iterations < meta["step"]:
            raise CourseError(
                f"this run has done {meta['step']} steps already, and --num-iterations="
                f"{self.settings.num_iterations} is fewer; give as many or more"
            )
        self.config = make_config(self.settings, self.tokenizer.vocab_size)
        self.val_batches = validation_batches(self.settings, sizes[1])
        self.status = stack.enter_context(StatusLine(self.settings.num_iterations, quiet=not self.is_first))
        self.status.say(describe(self.settings, self.tokenizer.vocab_size, *sizes, here))

        self._make_model(checkpoint, meta["step"] if meta else 0)
        left = self.speed.left(self.settings.num_iterations - self.trainer.iteration)
        products = f"{self.speed.peak / 1e9:,.0f} GFLOP/s of matrix products"
        self.status.say(f"speed        {self.speed} of {products}; about {left} to go")

        self.watch = LossWatch(self.settings.max_rise, **(meta["watch"] if meta else {}))
        self.seconds = meta["seconds"] if meta else 0.0
        self.bits_per_byte = meta["bits_per_byte"] if meta else None
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
            if self.settings.overwrite:  # not before all is known to be well
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
            self.tokenizer.save(folder / "tokenizer")
            self.log = MetricsLog(folder / "metrics.jsonl", self.trainer.iteration)
            stack.callback(self.log.close)
        self.prompts = [" ".join(text.split()[:6]) for text in islice(dataset.documents("val"), 3)]

    def _make_model(self, checkpoint: Checkpoint | None, step: int) -> None:
        """Model and trainer, the same in every process: new, or of the first one's checkpoint."""
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
                f"step {step}: {error}; its text begins at token {place['token']} of row "
                f"{place['row']} of {place['shard']}, epoch {place['epoch']}; the last checkpoint is "
                "from before: go on from it with --resume and look at that text, or begin again "
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
            meta |= {"bits_per_byte": self.bits_per_byte}
            checkpoint = Checkpoint(self.trainer.iteration, weights, self.trainer.state(), meta)
            save_checkpoint(self.folder, checkpoint, self.settings.keep)
        most(0, self.group)  # the others wait: a launcher may end all of them when one ends

    def finish(self) -> None:
        """The curves, and a last line."""
        if self.is_first:
            save_curves(self.folder / "curves.png", read_metrics(self.folder / "metrics.jsonl"))
            minutes, seconds = divmod(round(self.seconds), 60)
            self.status.say(f"done in {minutes}:{seconds:02d} of training; model and curves are in {self.folder}")


def choose_processes(settings: Settings, folder: Path) -> int:
    """How many processes to start: the flag's, or what the rows of a step and the memory allow.

    Makes the dataset and the tokenizer where they are missing. Raises CourseError for settings
    that cannot be.
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
    check_flags(settings)
    folder = run_folder(f"d{settings.depth}" if settings.tag is None else settings.tag)
    processes = 1 if local_ring.in_a_ring() else choose_processes(settings, folder)
    if processes > 1:
        code = local_ring.launch("course_lib.scripts.base_train", argv, processes)
    else:
        code = train(settings, folder)
    if code:
        sys.exit(code)


def train(settings: Settings, folder: Path) -> int:
    """Train in this process, alone or as one of several: 0, or the exit code of what ended it early."""
    with ExitStack() as stack:
        stop = stack.enter_context(stop_when_asked())
        local_ring.end_with_the_launcher(stop)
        try:
            run = Run(settings, folder, mx.distributed.init(), stack)
            return 0 if settings.dry_run else run.loop(stop)
        except RuntimeError as error:
            if "[ring]" not in str(error):
                raise
            print(
                "base_train: another process of this run is gone; what was saved is whole: go on with --resume",
                file=sys.stderr,
            )
            return local_ring.LOST


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    argv = sys.argv[1:] if argv is None else argv
    run_program("base_train", Settings, partial(work, argv=argv), argv)


if __name__ == "__main__":
    main()
