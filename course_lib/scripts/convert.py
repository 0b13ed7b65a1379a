"""A model in the form of another program: `convert --help`."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import mlx.core as mx

from course_lib.host.errors import CourseError, FlagError
from course_lib.host.paths import data_dir, home_dir
from course_lib.host.program import run_program
from course_lib.host.progress import say
from course_lib.train.checkpoint import load_checkpoint, newest_checkpoint
from course_lib.train.checks import config_of, tokenizer_of
from course_lib.weights.bits import BITS, quantised_weights, with_tables
from course_lib.weights.flags import AnyModel
from course_lib.weights.gpt2 import GPT2Config
from course_lib.weights.load import local, read_pretrained
from course_lib.weights.out import Export, Form, check_form, check_replaceable, write_folder


@dataclass(frozen=True)
class Settings(AnyModel):
    """Write a model as a folder for another program, which needs nothing of this course."""

    stage: str = "sft"
    """Which of its models: sft (fine-tuned for chat), base, rl; with --from, whether it is a base model."""
    to: Form = "mlx-lm"
    """The program that is to read it; gguf, which llama.cpp would read, is refused: it does not know such a model."""
    out: Path | None = None
    """The folder to write; it must be new."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """How to store the weights: by default float32, as the course computes; with --from as they are there. Of weights
    in fewer bits, their scales."""
    bits: Literal["8", "6", "4", "3", "mxfp4", "nvfp4"] | None = None
    """For mlx-lm: quantise the matrices of the blocks."""
    tables: bool = False
    """With --bits: quantise the two tables of tokens, too; in a small model they are most of it."""
    overwrite: bool = False
    """Replace the folder, if `convert` wrote it."""


def work(settings: Settings) -> None:
    """Read the model, and write the folder."""
    out = settings.out
    if out is None:
        raise FlagError("--out is missing; name the folder to write, such as --out my-model")
    if settings.bits and settings.to != "mlx-lm":
        raise FlagError(f"--bits {settings.bits} is for --to mlx-lm only; leave it out")
    if settings.tables and not settings.bits:
        raise FlagError("--tables says what --bits is for; give both, or neither")
    check_replaceable(out, settings.overwrite)
    export = read(settings)
    check_form(settings.to, export.config)
    weights, quantization = dict(export.weights), export.quantization
    dtype = settings.dtype or (None if settings.from_ else "float32")
    if dtype:
        weights = {
            name: array.astype(getattr(mx, dtype)) if mx.issubdtype(array.dtype, mx.floating) else array
            for name, array in weights.items()
        }
    if settings.bits:
        bits = with_tables(BITS[settings.bits]) if settings.tables else BITS[settings.bits]
        weights, quantization = quantised_weights(weights, bits)
    for note in write_folder(export.having(weights, quantization), settings.to, out, settings.overwrite):
        say(note)
    size = sum(path.stat().st_size for path in out.iterdir())
    say(f"{out} holds {export.name}, step {export.meta['step']:,}, for {settings.to}: {size:,} bytes")


def read(settings: Settings) -> Export:
    """The model that the flags name, with its weights as they are kept."""
    folder, step = settings.place(settings.stage)
    is_chat = settings.stage != "base"
    if settings.from_:
        found = read_pretrained(local(settings.from_, settings.revision))
        config = found.config
        if isinstance(config, GPT2Config):
            raise CourseError(
                f"{settings.from_} is GPT-2, and convert writes models of nanochat's design; give its folder to "
                "transformers or mlx-lm as it is"
            )
        if settings.bits or settings.to != "mlx-lm":
            found = found.whole()
        for note in found.notes:
            say(note)
        weights, name, how = found.weights, folder.name, found.quantization
        return Export(weights, config, found.tokenizer, found.meta, name, is_chat, quantization=how)
    checkpoint = newest_checkpoint(folder) if step is None else load_checkpoint(folder / f"step_{step:06d}")
    config = config_of(checkpoint.meta, checkpoint.weights)
    tokenizer, report = tokenizer_of(folder, checkpoint.meta["tokenizer"]), report_of(folder)
    return Export(checkpoint.weights, config, tokenizer, checkpoint.meta, folder.name, is_chat, report)


def report_of(folder: Path) -> str | None:
    """The report card of the speedrun that made this run, or of the starter; without its picture."""
    starter = data_dir() / "starter"
    file = starter / "card.md" if starter in folder.parents else home_dir() / "speedruns" / folder.name / "report.md"
    if not file.is_file():
        return None
    lines = file.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("![")).strip() + "\n"


main = partial(run_program, "convert", Settings, work)

if __name__ == "__main__":
    main()
