"""Bits per byte, CORE tasks and samples of a checkpoint: `base_eval --help`."""

from dataclasses import dataclass

from course_lib.evaluate.base_model import PARTS, evaluate_base_model
from course_lib.host.errors import FlagError
from course_lib.host.program import AtLeastOne, run_program
from course_lib.train.flags import WhichModel


@dataclass(frozen=True)
class Settings(WhichModel):
    """Measure a model that `base_train` made: bits per byte, CORE tasks, samples."""

    eval: str = ",".join(PARTS)
    """What to do, with commas between."""
    max_per_task: AtLeastOne | None = None
    """Items of each task; by default all."""
    bundle: bool = False
    """Ask the 22 tasks of CORE (162 MB, fetched once) and not the small ones of this course."""
    device_batch_size: AtLeastOne = 16
    """Rows at a time."""
    split_tokens: AtLeastOne = 100_000
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
    parts = parts_of(settings)
    folder, step = settings.place()
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
