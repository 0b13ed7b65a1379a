"""Which run, and which of its checkpoints, the flags --tag, --checkpoint and --step of a program mean.

Written by hand; chapters 11, 14 and 16 use it.
"""

from dataclasses import dataclass
from pathlib import Path

from course_lib.host.errors import CourseError, FlagError
from course_lib.host.program import AtLeastZero
from course_lib.train.checkpoint import run_folder


@dataclass(frozen=True)
class WhichModel:
    """Flags of the programs that take a trained model."""

    tag: str | None = None
    """Name of the run; by default d4."""
    checkpoint: Path | None = None
    """Or the run's folder, or one of its step_… folders."""
    step: AtLeastZero | None = None
    """Which checkpoint of the run; by default the newest."""

    def place(self, stage: str = "base") -> tuple[Path, int | None]:
        """The run's folder, and the step that is asked for, if any; stage: of the runs that --tag names.

        Raises FlagError for flags that contradict each other, and CourseError when there is no such folder.
        """
        folder, step = self._named(stage)
        if not folder.is_dir():
            program, flags = ("base_train", "--tag") if stage == "base" else ("chat_sft", "--tag, --stage")
            raise CourseError(
                f"there is no run in {folder}; train one with `{program}`, or give another {flags} or --checkpoint"
            )
        return folder, step

    def _named(self, stage: str) -> tuple[Path, int | None]:
        if self.tag is not None and self.checkpoint is not None:
            raise FlagError("--tag and --checkpoint each name a run; give one of them")
        if self.checkpoint is None:
            return run_folder(self.tag or "d4", stage), self.step
        folder = self.checkpoint.expanduser().resolve()
        number = folder.name.removeprefix("step_")
        if folder.name != number and number.isdigit():
            if self.step not in (None, int(number)):
                raise FlagError(f"--step is {self.step}, but --checkpoint names {folder.name}; give one of them")
            return folder.parent, int(number)
        return folder, self.step
