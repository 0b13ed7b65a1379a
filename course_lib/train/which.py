"""Which run, and which of its checkpoints, the flags --tag, --checkpoint and --step of a program mean.

Written by hand; chapters 11, 14 and 16 use it.
"""

from pathlib import Path
from typing import Protocol

from course_lib.host.errors import FlagError
from course_lib.train.checkpoint import run_folder


class Place(Protocol):
    """The flags of a program that takes a trained model."""

    tag: str | None
    checkpoint: Path | None
    step: int | None


def place_of(flags: Place, stage: str = "base") -> tuple[Path, int | None]:
    """The run's folder, and the step that is asked for, if any; stage: of the runs that --tag names.

    Raises FlagError for flags that contradict each other.
    """
    if flags.tag is not None and flags.checkpoint is not None:
        raise FlagError("--tag and --checkpoint each name a run; give one of them")
    if flags.checkpoint is None:
        return run_folder(flags.tag or "d4", stage), flags.step
    folder = flags.checkpoint.expanduser().resolve()
    number = folder.name.removeprefix("step_")
    if folder.name != number and number.isdigit():
        if flags.step not in (None, int(number)):
            raise FlagError(f"--step is {flags.step}, but --checkpoint names {folder.name}; give one of them")
        return folder.parent, int(number)
    return folder, flags.step
