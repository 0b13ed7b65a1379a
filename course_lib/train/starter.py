"""The small model that ships with the course, so that there is one to talk to before you have trained any.

Written by hand; chapters 11 to 17 use it. How it was made, and what it can do, is in data/starter.
"""

from pathlib import Path

from course_lib.data.tokenizer import Tokenizer
from course_lib.host.paths import data_dir
from course_lib.model.gpt import GPT
from course_lib.train.checkpoint import load_model

STARTER = "starter"  # the tag that means it, unless a run of yours has this name


def starter_folder(stage: str) -> Path | None:
    """The folder of its base model ("base") or its assistant ("sft"), as of a run; None for other stages."""
    folder = data_dir() / STARTER / stage / STARTER
    return folder if folder.is_dir() else None


def load_starter(stage: str = "sft") -> tuple[GPT, Tokenizer]:
    """Its assistant, or its base model by stage="base", in float32; and their tokenizer."""
    model, tokenizer, _ = load_model(data_dir() / STARTER / stage / STARTER)
    return model, tokenizer
