"""Bits per byte, CORE tasks and samples of a checkpoint: `base_eval --help`."""

from dataclasses import dataclass
from pathlib import Path

from course_lib.evaluate.base_model import PARTS, evaluate_base_model
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.program import check_least, run_program
from course_lib.train.which import place_of


@dataclass(frozen=True)
class Settings:
    """Measure a model that `base_train` made: bits per byte, CORE tasks, samples."""

    tag: str | None = None
    """Name of the run; by default d4."""
    checkpoint: Path | None = None
    """Or the run's folder, or one of its step_… folders."""
    step: int | None = None
    """Which checkpoint of the run; by default the newest."""
    eval: str = ",".join(PARTS)
    """What to do, with commas between."""
    max_per_task: int | None = None
    """Items of each task; by default all."""
    bundle: bool = False
    """Ask the 22 tasks of CORE (162 MB, fetched once) and not the small ones of this course."""
    device_batch_size: int = 16
    """Rows at a time."""
    split_tokens: int = 100_000
    """Tokens of the training and of the validation text for bits per byte."""
    dataset: str | None = None
    """Text for bits per byte; by default the one that the model was trained on."""


def parts_of(settings: Settings) -> list[str]:
    """What to do, in order. Raises FlagError for what is not known."""
    asked = [part.strip() for part in settings.eval.split(",") if part.strip()]
    for part in asked:
        if part not in PARTS:
            raise FlagError(f"--eval has {part!r}, expected some of {','.join(PARTS)}")
    if not asked:
        raise FlagError(f"--eval is empty, expected some of {','.join(PARTS)}")
    return [part for part in PARTS if part in asked]


def work(settings: Settings) -> None:
    """Do what --eval says; what was finished is written in any case."""
    check_least(settings, max_per_task=1, device_batch_size=1, split_tokens=1, step=0)
    parts = parts_of(settings)
    folder, step = place_of(settings)
    if not folder.is_dir():
        raise CourseError(
            f"there is no run in {folder}; train one with `base_train`, or give another --tag or --checkpoint"
        )
    evaluate_base_model(
        folder,
        step,
        parts,
        max_per_task=settings.max_per_task,
        bundle=settings.bundle,
        batch_size=settings.device_batch_size,
        split_tokens=settings.split_tokens,
        dataset=settings.dataset,
    )


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    run_program("base_eval", Settings, work, argv)


if __name__ == "__main__":
    main()
