"""A fine-tuned model, ready to talk to.

Written by hand; chapter 16 uses it.
"""

from pathlib import Path

import mlx.core as mx

from course_lib import backend
from course_lib.data.tokenizer import Tokenizer
from course_lib.model.gpt import GPT
from course_lib.train.checkpoint import load_model


def load_for_chat(folder: Path, step: int | None = None) -> tuple[GPT, Tokenizer, str, int]:
    """Model, in this machine's compute type, tokenizer, name and step of a run; by default its newest checkpoint."""
    model, tokenizer, meta = load_model(folder, step)
    model.set_dtype(backend.compute_dtype())
    mx.eval(model.parameters())
    return model, tokenizer, f"{folder.name} {folder.parent.name}", meta["step"]
