"""Flags that programs share: those of every training, and those that name a trained model.

A training's flags are one dataclass made of these. What may be different when it is resumed stands in `CallFlags` and
`Horizon`, or in a subclass of them; everything else is what the run was begun with.

Written by hand; chapters 10, 11, 14 and 17 use it.
"""

import sys
from collections.abc import Set
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from course_lib import backend
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.paths import home_dir, user_path
from course_lib.host.program import AtLeastOne, AtLeastZero, Fraction, MoreThanZero, NonNegative, Seed, check_bounds
from course_lib.host.words import plural
from course_lib.model.config2026 import GPT2026Config
from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import estimate_memory
from course_lib.train.checkpoint import checkpoint_folders, newest_meta, run_folder
from course_lib.train.groups2026 import Rates2026
from course_lib.train.recipe import Rates, Recipe
from course_lib.train.starter import STARTER, starter_folder

# Flags that no checkpoint keeps.
OF_ONE_CALL = frozenset({"resume", "changed_data", "overwrite", "dry_run", "processes"})
# For each stage of a model, the one before it, the program that leads from there, and what it begins with.
BEFORE = {"sft": ("base", "chat_sft", "pretrained"), "rl": ("sft", "chat_rl", "fine-tuned")}
FILLED = 0.85  # of the memory for arrays: the estimate may be off by a fifth, and other programs need some


@dataclass(frozen=True)
class CallFlags:
    """Flags of one call: when a run is resumed, others may be given."""

    device_batch_size: AtLeastOne | None = None
    """Rows at a time in each process; by default what the memory allows, up to 32."""
    recompute: bool = False
    """Compute activations twice, to need less memory."""
    max_rise: MoreThanZero = 1.5
    """Stop when the smoothed loss is this many nats above its lowest value."""
    eval_every: AtLeastOne | None = None
    """Steps between evaluations; by default a tenth of the run, in a short one up to a third."""
    eval_share: NonNegative = 0.05
    """How much of the training's work evaluation may cost."""
    sample_every: AtLeastOne | None = None
    """Steps between samples; by default a fifth of the run."""
    save_every: AtLeastOne | None = None
    """Steps between checkpoints; by default a tenth of the run."""
    keep: AtLeastOne = 3
    """How many checkpoints to keep."""
    tag: str | None = None
    """Name of the run."""
    resume: bool = False
    """Go on from the run's newest checkpoint, with its settings."""
    changed_data: Literal["before", "now"] | None = None
    """With --resume, when the data has changed: go on with that of before, or begin that of now."""
    overwrite: bool = False
    """Throw the run of this name away and begin again."""
    dry_run: bool = False
    """Say what the run comes to, measure a few steps, and end."""
    processes: AtLeastOne | None = None
    """Processes on this machine; by default one, on Linux's CPU up to four, one for each core."""


@dataclass(frozen=True)
class Horizon:
    """How long a run is; a resumed one may be given another end."""

    num_iterations: AtLeastOne | None = None
    """Steps of the whole run; with --minutes, a first guess."""
    minutes: MoreThanZero | None = None
    """Or: as many steps as fit into this many minutes, by the clock."""
    min_iterations: AtLeastOne = 1
    """With --minutes: never fewer steps than these."""


@dataclass(frozen=True)
class RateFlags:
    """Learning rates and how they change; left open, they are those of `usual_rates`."""

    matrix_lr: NonNegative | None = None
    """Learning rate of Muon, for the matrices of the blocks; by default 0.02."""
    embedding_lr: NonNegative | None = None
    """Learning rate of AdamW for wte, at n_embd 768; by default 0.2, for a model of 2026 0.3."""
    unembedding_lr: NonNegative | None = None
    """Learning rate of AdamW for lm_head, at n_embd 768; by default 0.004, for a model of 2026 0.008."""
    weight_decay: NonNegative | None = None
    """Weight decay of the matrices of a model of 2026, at the start."""
    grad_clip: NonNegative | None = None
    """Largest norm of the gradients; 0 to leave them, as for a model of 2026; by default 1."""
    warmup_ratio: Fraction | None = None
    """Fraction of the run over which learning rates rise; by default 0, for a model of 2026 its first 40 steps."""
    warmdown_ratio: Fraction | None = None
    """Fraction of the run over which learning rates decay; by default 0.2, for a model of 2026 0.65."""
    final_lr_frac: Fraction | None = None
    """Final rate as a fraction of the peak; by default 0, for a model of 2026 0.05."""


@dataclass(frozen=True)
class BatchFlags:
    """The size of a step, and the seed: what no resumed run may change."""

    sequence_len: AtLeastOne | None = None
    """Tokens in a row; by default what suits the model, the data and the machine."""
    total_batch_size: AtLeastOne | None = None
    """Tokens in a step, over all processes; by default what suits the data and the machine."""
    seed: Seed = 42
    """Random seed for the initial weights."""


@dataclass(frozen=True)
class ReportFlags:
    """Flags of the programs that write a report on a model."""

    out: Path | None = None
    """Folder for the report; by default that of the run."""


@dataclass(frozen=True)
class WhichModel:
    """Flags of the programs that take a trained model."""

    tag: str | None = None
    """Name of the run; by default the newest, and starter, the model of the course, where there is none."""
    checkpoint: Path | None = None
    """Or the run's folder, or one of its step_… folders."""
    step: AtLeastZero | None = None
    """Which checkpoint of the run; by default the newest."""

    def place(self, stage: str = "base") -> tuple[Path, int | None]:
        """The run's folder, and the step that is asked for, if any; stage: of the runs that --tag names.

        Raises FlagError for flags that contradict each other, and CourseError when there is no such folder: it lists
        what there is.
        """
        if self.tag is not None and self.checkpoint is not None:
            raise FlagError("--tag and --checkpoint each name a run; give one of them")
        folder, step = self.checkpoint and user_path(self.checkpoint).resolve(), self.step
        if folder is None:
            folder = run_folder(self.tag, stage) if self.tag is not None else self._newest(stage)
            if self.tag == STARTER and not checkpoint_folders(folder):
                folder = starter_folder(stage) or folder
        elif folder.name.startswith("step_") and (number := folder.name.removeprefix("step_")).isdigit():
            if step not in (None, int(number)):
                raise FlagError(f"--step is {step}, but --checkpoint names {folder.name}; give one of them")
            folder, step = folder.parent, int(number)
        if not folder.is_dir():
            raise CourseError(f"there is no run in {folder}; {self._what_there_is(stage, folder.name)}")
        return folder, step

    def _newest(self, stage: str) -> Path:
        """The run of a stage that was trained last; a line on stderr says which, where there are others."""
        runs = trained_runs().get(stage)
        if not runs:
            if folder := starter_folder(stage):
                print(
                    "taking the starter model, which comes with the course; `uv run speedrun` makes one of your own",
                    file=sys.stderr,
                )
                return folder
            raise CourseError(f"there is no {stage} model yet; {self._what_there_is(stage)}")
        if len(runs) > 1:
            print(f"taking the newest {stage} model, {runs[0].name}; --tag takes another", file=sys.stderr)
        return runs[0]

    def _what_there_is(self, stage: str, tag: str = "") -> str:
        """The models that could be had instead, and how; tag: what was asked for, if anything."""
        flags = "--stage and --tag" if hasattr(self, "stage") else "--tag"
        runs = {name: [folder.name for folder in folders] for name, folders in trained_runs().items()}
        if flags == "--tag":
            runs = {stage: runs[stage]} if stage in runs else {}
        if other := next((name for name, tags in runs.items() if tag in tags), None):
            return f"but there is a model of that name in another stage: --stage {other} --tag {tag}"
        there = "; ".join(f"{name}: {', '.join(tags)}" for name, tags in runs.items())
        there = f"{flags} can name {there}; " if there else ""
        programs = {"base": ["base_train"], "rl": ["base_train", "chat_sft", "chat_rl"]}
        longer = ", then ".join(f"`uv run {name}`" for name in programs.get(stage, ["base_train", "chat_sft"]))
        before, program, what = BEFORE.get(stage, ("", "", ""))
        if known := trained_runs().get(before):
            return f"{there}`uv run {program} --tag {known[0].name}` makes one of the {what} model that is here"
        quickest = "the quickest way to one, named speedrun, is `uv run speedrun --minutes 5`"
        return f"{there}{quickest}; the long way is {longer}"


def trained_runs() -> dict[str, list[Path]]:
    """By stage, the folders of the runs that hold a checkpoint, the newest first; those from new weights come last."""

    def newest_first(folder: Path) -> tuple:
        settings = (newest_meta(folder) or {}).get("settings", {})
        return settings.get("from_scratch", False), -checkpoint_folders(folder)[0].stat().st_mtime

    found = {}
    for stage in sorted((home_dir() / "checkpoints").glob("*")):
        if folders := [folder for folder in stage.glob("*") if checkpoint_folders(folder)]:
            found[stage.name] = sorted(folders, key=newest_first)
    return found


Flags = TypeVar("Flags", bound=CallFlags)


def check_flags(flags: CallFlags) -> None:
    """Raise FlagError for flags that are out of range or contradict each other."""
    check_bounds(flags)
    if flags.resume and flags.overwrite:
        raise FlagError("--resume goes on with a run and --overwrite throws it away; give one of them")
    horizons = ("minutes", "num_iterations", "target_flops", "tokens_per_param")
    asked = [f"--{name.replace('_', '-')}" for name in horizons if getattr(flags, name, None) is not None]
    if len(asked) > 1 and asked != ["--minutes", "--num-iterations"]:  # of these the second is a first guess
        raise FlagError(f"{asked[0]} and {asked[-1]} each say how long; give one of them")


def stored(flags: CallFlags, recipe: Recipe) -> dict:
    """The flags as a checkpoint keeps them, those that were left open filled in from the recipe."""
    known = {**asdict(recipe), **asdict(recipe.cadence)}
    values = {name: known.get(name) if value is None else value for name, value in asdict(flags).items()}
    kept = values.keys() - OF_ONE_CALL
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items() if name in kept}


def resumed(asked: Flags, given: Set[str], begun: dict) -> Flags:
    """The flags that a run was begun with, changed by those that are given now and may change.

    given: names of the flags that were given; begun: what `stored` kept. Raises CourseError for a flag that asks for
    another run.
    """
    kind = type(asked)
    values: dict[str, Any] = {field.name: begun.get(field.name, field.default) for field in fields(kind)}
    call, horizon = (
        {name for base in kind.__mro__[1:] if issubclass(base, part) for name in base.__annotations__}
        for part in (CallFlags, Horizon)
    )
    for name in sorted(given - call - horizon):
        if getattr(asked, name) != values[name]:
            flag = name.replace("_", "-")
            raise CourseError(
                f"this run was begun with --{flag}={values[name]}, but --{flag}={getattr(asked, name)} asks for "
                "another; leave the flag out, or choose another --tag"
            )
    if given & horizon:
        values |= {name: getattr(asked, name) for name in horizon}
    elif values["minutes"] is None:  # the steps that it was begun with, whatever they followed from
        values |= dict.fromkeys(horizon - {"num_iterations", "minutes", "min_iterations"})
    values |= {name: getattr(asked, name) for name in (given & call) | OF_ONE_CALL}
    if values.get("tokenizer"):
        values["tokenizer"] = Path(values["tokenizer"])
    return kind(**values)


def usual_rates(config: GPTConfig) -> Rates:
    """Those with which nanochat trains such a model."""
    return Rates2026() if isinstance(config, GPT2026Config) else Rates()


# What fine-tuning and reinforcement leave open: rates fall to 0, and do not rise at first; nothing decays.
TUNING = {"final_lr_frac": 0.0, "warmup_steps": 0, "weight_decay": 0.0}


def rates_of(flags: RateFlags, config: GPTConfig, share: float = 1.0, **usual: float) -> Rates:
    """The rates that the flags ask for. share: of all learning rates; usual: other numbers for what is left open."""
    rates = usual_rates(config)
    known = {field.name for field in fields(rates)}
    given = {field.name: getattr(flags, field.name) for field in fields(RateFlags)}
    given = {name: number for name, number in given.items() if number is not None}
    if given.keys() - known:
        raise FlagError("--weight-decay is for a model of 2026, and this is one of 2025; leave it out")
    rates = replace(rates, **{name: number for name, number in usual.items() if name in known} | given)
    return replace(rates, **{name: share * getattr(rates, name) for name in known if name.endswith("_lr")})


def fill_recipe(flags: CallFlags, usual: Recipe, val_tokens: float) -> Recipe:
    """The usual recipe, changed to what the flags say. val_tokens: of the validation text, about."""
    asked = {name: getattr(flags, name) for name in ("eval_every", "sample_every", "save_every")}
    cadence = replace(usual.cadence, **{name: every for name, every in asked.items() if every})
    batch = usual.device_batch_size * usual.sequence_len
    batches = eval_batches(flags.eval_share, cadence.eval_every, usual.total_batch_size, batch, val_tokens)
    rest = {name: getattr(flags, name) for name in ("seed", "recompute", "max_rise", "minutes", "min_iterations")}
    return replace(usual, cadence=replace(cadence, eval_batches=batches), **rest)


def eval_batches(eval_share: float, eval_every: int, total_batch_size: int, batch: int, val_tokens: float) -> int:
    """Batches of `batch` tokens for one evaluation, 1 or more.

    As many as keep all evaluation within eval_share of the training's work, a token of evaluation being a third of one
    of training, and no more than the text has.
    """
    tokens = 3 * eval_share * eval_every * total_batch_size
    return max(1, int(min(tokens, val_tokens) // batch))


def fitting_batch_size(flags, config: GPTConfig, length: int, total_batch_size: int, processes: int, here: int) -> int:
    """Rows of `length` at a time: the flag's, or the most that memory allows. CourseError when none fits.

    processes: that share a step; here: how many of them share this machine's memory.
    """
    together = length * processes  # tokens of one row in every process
    if total_batch_size % together:
        among = f" in each of {processes} processes" if processes > 1 else ""
        raise FlagError(
            f"--total-batch-size is {total_batch_size} tokens, expected a multiple of {together}: a row of "
            f"{length}{among}"
        )
    rows = total_batch_size // together
    possible = [size for size in range(min(rows, 32), 0, -1) if rows % size == 0]
    asked, have = flags.device_batch_size, FILLED * backend.memory_for_arrays()
    if asked is not None and rows % asked:
        raise FlagError(
            f"--device-batch-size is {asked}, expected a divisor of {rows}, the rows of each process in a step: "
            f"{possible[0]} is one"
        )

    def need(size: int) -> float:
        return here * estimate_memory(config, size, length, flags.recompute)["total"]

    fitting = next((size for size in possible if need(size) <= have), None)
    size = asked or fitting or 1
    if need(size) <= have:
        return size
    better = "no --device-batch-size fits; take --recompute, fewer --processes, or a smaller --depth or --sequence-len"
    if fitting:
        better = f"--device-batch-size={fitting} would fit"
    raise CourseError(
        f"a step with --device-batch-size={size} needs {need(size) / 1e9:.1f} GB in "
        f"{plural(here, 'process', 'processes')}, but of this machine's memory it may take {have / 1e9:.1f} GB; "
        f"{better}"
    )
