"""The flags of programs that take a trained model of any kind: one of yours, or one of another program.

Written by hand; chapter 22 uses it.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from course_lib import backend
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.paths import home_dir, user_path
from course_lib.model.gpt import GPT
from course_lib.train.checkpoint import load_model
from course_lib.train.flags import WhichModel
from course_lib.weights.load import load_pretrained
from course_lib.weights.tokenizers import GPT2Tokenizer


@dataclass(frozen=True)
class AnyModel(WhichModel):
    """Flags of the programs that take a trained model, of this course or of another program."""

    from_: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Or a model of nanochat, transformers (GPT-2 too) or mlx-lm: a folder, a file model_….pt, or OWNER/NAME on the
    hub."""
    revision: str | None = None
    """With --from OWNER/NAME: a branch, tag or commit of it; by default the newest."""

    def place(self, stage: str = "base") -> tuple[Path, int | None]:
        """As of WhichModel; for a model of another program the folder where reports on it go."""
        if self.from_ is None:
            if self.revision is not None:
                raise FlagError("--revision belongs to --from OWNER/NAME; give both, or neither")
            return super().place(stage)
        if others := [name for name in ("tag", "checkpoint", "step") if getattr(self, name) is not None]:
            raise FlagError(f"--from and --{others[0]} each name a model; give one of them")
        path = user_path(self.from_)
        name = path.parent.name if path.suffix == ".pt" else path.name
        return home_dir() / "imported" / (re.sub(r"[^\w.-]", "-", name) or "model"), None

    def load(self, folder: Path, step: int | None) -> tuple[GPT, Tokenizer, dict[str, Any]]:
        """The model at the `place` that these flags name; one of another program in the compute type of the device.

        Raises CourseError where there is no such model.
        """
        if self.from_ is None:
            return load_model(folder, step)
        model, tokenizer, meta = load_pretrained(self.from_, self.revision)
        model.set_dtype(backend.compute_dtype())  # of what is packed the scales, if they are floats, and nothing else
        return model, tokenizer, meta

    def load_to_chat(self, folder: Path, step: int | None) -> tuple[GPT, Tokenizer, dict[str, Any]]:
        """The model at `place`, to talk to, in the compute type of the device.

        Raises CourseError as `load` does, and for one that has no tokens for turns.
        """
        model, tokenizer, meta = self.load(folder, step)
        if isinstance(tokenizer, GPT2Tokenizer):
            raise CourseError(
                f"{self.from_} is GPT-2, which has no tokens for turns and has learnt no conversations; take a model "
                "for chat, or measure this one with base_eval --from"
            )
        model.set_dtype(backend.compute_dtype())
        return model, tokenizer, meta
