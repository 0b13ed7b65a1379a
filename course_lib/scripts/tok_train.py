"""Train a tokenizer on the documents of a dataset: `tok_train --help`."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from course_lib.data.dataset import open_dataset
from course_lib.data.tokenizer import default_folder
from course_lib.data.tokenizer_training import DOC_CAP, MAX_CHARS, SMALLEST_VOCAB, train_tokenizer
from course_lib.host.program import AtLeastOne, Bounds, run_program
from course_lib.host.progress import suggest


@dataclass(frozen=True)
class Settings:
    """Train a tokenizer on the training documents of a dataset."""

    vocab_size: Annotated[int, Bounds(SMALLEST_VOCAB)] | None = None
    """Tokens, the nine special ones included; by default what fits the text, up to 65,536."""
    max_chars: AtLeastOne = MAX_CHARS
    """Stop reading after so many characters."""
    doc_cap: AtLeastOne = DOC_CAP
    """Characters to read of each document, so that no long one counts for too much."""
    dataset: str = "bundled"
    """bundled, fineweb-edu, climbmix (after `get_data`), or a file or folder of your own text."""
    streaming: bool = False
    """Fetch the shards of a remote corpus while reading, instead of before."""
    folder: Path | None = None
    """Where to put the tokenizer; by default where the other programs look for it."""


def work(settings: Settings) -> None:
    """Train, save, print a summary."""
    dataset = open_dataset(settings.dataset, settings.streaming)
    folder = settings.folder or default_folder()
    train_tokenizer(dataset, folder, settings.vocab_size, settings.max_chars, settings.doc_cap)
    more = f" --tokenizer {folder}" if settings.folder else ""
    suggest({f"base_train --dataset {settings.dataset}{more}": "train a model with it"})


main = partial(run_program, "tok_train", Settings, work)

if __name__ == "__main__":
    main()
