"""Bits per byte, CORE tasks and samples of a checkpoint: `base_eval --help`."""

from dataclasses import dataclass
from functools import partial

from course_lib.evaluate.base_model import PARTS, BaseOptions, evaluate_base_model
from course_lib.host.errors import FlagError
from course_lib.host.program import run_program
from course_lib.host.progress import suggest
from course_lib.train.flags import ReportFlags
from course_lib.weights.flags import AnyModel


@dataclass(frozen=True)
class Settings(BaseOptions, ReportFlags, AnyModel):
    """Measure a base model, of `base_train` or of another program: bits per byte, CORE tasks, samples."""

    eval: str = ",".join(PARTS)
    """What to do, with commas between."""


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
    evaluate_base_model(folder, step, settings, parts, settings.out, settings.load)
    if settings.checkpoint is None and settings.from_ is None:
        suggest({f"chat_sft --tag {folder.name}": "make it an assistant"})


main = partial(run_program, "base_eval", Settings, work)

if __name__ == "__main__":
    main()
