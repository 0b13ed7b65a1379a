"""Bits per byte, CORE tasks and samples of a checkpoint: `base_eval --help`."""

from dataclasses import dataclass
from pathlib import Path

from course_lib.data.tokenizer import Tokenizer
from course_lib.evaluate.base_model import PARTS, BaseOptions, evaluate_base_model
from course_lib.generate.engine import Engine
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.program import check_least, run_program
from course_lib.model.gpt import GPT
from course_lib.train.checkpoint import place_of


@dataclass(frozen=True)
class Settings(BaseOptions):
    """Measure a model that `base_train` made: bits per byte, CORE tasks, samples."""

    tag: str | None = None
    """Name of the run; by default d4."""
    checkpoint: Path | None = None
    """Or the run's folder, or one of its step_… folders."""
    step: int | None = None
    """Which checkpoint of the run; by default the newest."""
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


def write(model: GPT, tokenizer: Tokenizer, prompt: str, seed: int) -> str:
    """What the model writes after a prompt: at most 32 tokens, sampled at a temperature of 0.8."""
    ids = tokenizer.encode(prompt, bos=True)[-model.config.sequence_len :]
    engine = Engine(model, tokenizer, keep_prefixes=0)
    (written,) = engine.generate_batch([ids], max_tokens=32, temperature=0.8, seed=seed)
    return tokenizer.decode(written.ids)


def work(settings: Settings) -> None:
    """Do what --eval says; what was finished is written in any case."""
    check_least(settings, max_per_task=1, device_batch_size=1, split_tokens=1, step=0)
    parts = parts_of(settings)
    folder, step = place_of(settings)
    if not folder.is_dir():
        raise CourseError(
            f"there is no run in {folder}; train one with `base_train`, or give another --tag or --checkpoint"
        )
    evaluate_base_model(folder, step, settings, write, parts)


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    run_program("base_eval", Settings, work, argv)


if __name__ == "__main__":
    main()
