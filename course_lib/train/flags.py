"""What the training programs are asked: flags that they share, and how a resumed run reads them.

A program's flags are one dataclass made of these. What may be different when a run is resumed stands in `CallFlags` and
`Horizon`, or in a subclass of them; everything else is what the run was begun with.

Written by hand; chapter 10 uses it.
"""

from collections.abc import Callable, Set
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

from course_lib import backend
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.program import AtLeastOne, MoreThanZero, NonNegative, Seed, check_bounds
from course_lib.host.words import plural
from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import estimate_memory
from course_lib.train import local_ring
from course_lib.train.checkpoint import newest_meta
from course_lib.train.recipe import Cadence, Rates, Recipe

FILLED = 0.85  # of the memory: the estimate may be off by a fifth, and other programs need some


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
    """Steps between evaluations; by default a tenth of the run."""
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
class BatchFlags:
    """The size of a step, and the seed: what no resumed run may change."""

    sequence_len: AtLeastOne | None = None
    """Tokens in a row; by default what suits the model, the data and the machine."""
    total_batch_size: AtLeastOne | None = None
    """Tokens in a step, over all processes; by default what suits the data and the machine."""
    seed: Seed = 42
    """Random seed for the initial weights."""


Flags = TypeVar("Flags", bound=CallFlags)


def check_flags(flags: CallFlags) -> None:
    """Raise FlagError for flags that are out of range or contradict each other."""
    check_bounds(flags)
    if flags.resume and flags.overwrite:
        raise FlagError("--resume goes on with a run and --overwrite throws it away; give one of them")
    horizons = ("minutes", "num_iterations", "target_flops", "tokens_per_param")
    asked = [name for name in horizons if getattr(flags, name, None) is not None]
    if asked[:2] == ["minutes", "num_iterations"]:  # then the second is a first guess
        del asked[1]
    if len(asked) > 1:
        first, second = (f"--{name.replace('_', '-')}" for name in asked[:2])
        raise FlagError(f"{first} and {second} each say how long; give one of them")


def stored(flags: CallFlags, recipe: Recipe) -> dict:
    """The flags as a checkpoint keeps them, those that were left open filled in from the recipe."""
    known = {**asdict(recipe), **asdict(recipe.cadence)}
    values = {name: known.get(name) if value is None else value for name, value in asdict(flags).items()}
    for name in ("resume", "overwrite", "dry_run", "processes"):
        del values[name]
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def resumed(asked: Flags, given: Set[str], begun: dict) -> Flags:
    """The flags that a run was begun with, changed by those that are given now and may change.

    given: names of the flags that were given; begun: what `stored` kept. Raises CourseError for a flag that asks for
    another run.
    """
    kind = type(asked)
    values = {field.name: begun.get(field.name, field.default) for field in fields(kind)}
    call, horizon = (_fields_of(kind, part) for part in (CallFlags, Horizon))
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
    always = {"resume", "overwrite", "dry_run", "processes"}
    values |= {name: getattr(asked, name) for name in (given & call) | always}
    return kind(**{name: Path(value) if name == "tokenizer" and value else value for name, value in values.items()})


def _fields_of(kind: type, part: type) -> frozenset[str]:
    """Names of the fields of `kind` that `part`, or a subclass of it among its bases, declares."""
    bases = [base for base in kind.__mro__[1:] if issubclass(base, part)]
    return frozenset(name for base in bases for name in base.__annotations__)


def eval_batches(eval_share: float, eval_every: int, total_batch_size: int, batch: int, val_tokens: float) -> int:
    """Batches of `batch` tokens for one evaluation, 1 or more.

    As many as keep all evaluation within eval_share of the training's work, a token of evaluation being a third of one
    of training, and no more than the text has.
    """
    tokens = 3 * eval_share * eval_every * total_batch_size
    return max(1, int(min(tokens, val_tokens) // batch))


def fill_recipe(
    flags: CallFlags,
    model: GPTConfig,
    num_iterations: int,
    total_batch_size: int,
    sequence_len: int,
    rows: int,
    rates: Rates,
    cadence: tuple[int, int, int],
    val_tokens: float,
) -> Recipe:
    """A recipe of what was found out, and of what the flags say.

    cadence: steps between evaluations, samples and saves where the flags leave them open; val_tokens: of the validation
    text, about.
    """
    asked = flags.eval_every, flags.sample_every, flags.save_every
    eval_every, sample_every, save_every = (flag or usual for flag, usual in zip(asked, cadence, strict=True))
    batches = eval_batches(flags.eval_share, eval_every, total_batch_size, rows * sequence_len, val_tokens)
    return Recipe(
        model,
        num_iterations,
        total_batch_size,
        sequence_len,
        rows,
        rates,
        Cadence(eval_every, batches, sample_every, save_every),
        **{name: getattr(flags, name) for name in ("seed", "recompute", "max_rise", "minutes", "min_iterations")},
    )


def fitting_batch_size(
    flags, config: GPTConfig, sequence_len: int, total_batch_size: int, processes: int, here: int
) -> int:
    """Rows at a time: the flag's, or the most that memory allows. CourseError when none fits.

    processes: that share a step; here: how many of them share this machine's memory.
    """
    together = sequence_len * processes  # tokens of one row in every process
    if total_batch_size % together:
        among = f" in each of {processes} processes" if processes > 1 else ""
        raise FlagError(
            f"--total-batch-size is {total_batch_size} tokens, expected a multiple of {together}: a row of "
            f"{sequence_len}{among}"
        )
    rows = total_batch_size // together
    possible = [size for size in range(min(rows, 32), 0, -1) if rows % size == 0]
    asked, have = flags.device_batch_size, FILLED * backend.memory_bytes()
    if asked is not None and rows % asked:
        raise FlagError(
            f"--device-batch-size is {asked}, expected a divisor of {rows}, the rows of each process in a step: "
            f"{possible[0]} is one"
        )

    def need(size: int) -> float:
        return here * estimate_memory(config, size, sequence_len, flags.recompute)["total"]

    fitting = [size for size in possible if need(size) <= have]
    if asked is None and fitting:
        return fitting[0]
    if asked is not None and need(asked) <= have:
        return asked
    better = "no --device-batch-size fits; take --recompute, fewer --processes, or a smaller --depth or --sequence-len"
    if fitting:
        better = f"--device-batch-size={fitting[0]} would fit"
    raise CourseError(
        f"a step with --device-batch-size={asked or 1} needs {need(asked or 1) / 1e9:.1f} GB in "
        f"{plural(here, 'process', 'processes')}, but of this machine's memory it may take {have / 1e9:.1f} GB; "
        f"{better}"
    )


def choose_process_count(flags, folder: Path, fits: Callable[[int], object]) -> int:
    """How many processes to start: the flag's, else what the run had, else one for each core, halved until it fits.

    fits: raises CourseError for a number of processes that cannot be; so does this for the flag's.
    """
    if flags.resume and (meta := newest_meta(folder)):
        return flags.processes or meta["processes"]
    processes = flags.processes or local_ring.fitting_processes(backend.device_kind())
    while processes > 1:
        try:
            fits(processes)
            return processes
        except CourseError:
            if flags.processes:
                raise
            processes //= 2
    return 1
