"""Pretrain a GPT on the documents of a dataset: `base_train --help`.

Source: nanochat.

"""

import sys
from functools import partial
from itertools import islice
from pathlib import Path

from course_lib import backend
from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import Dataset, open_dataset
from course_lib.data.sizes import corpus_tokens
from course_lib.data.tokenizer import Tokenizer, default_folder, fitting_vocab_size
from course_lib.host.files import only_one
from course_lib.host.program import run_program
from course_lib.scripts import tok_train
from course_lib.train import local_ring
from course_lib.train.checkpoint import run_folder
from course_lib.train.plan import (
    Settings,
    check_flags,
    describe,
    make_config,
    resolve,
    validation_batches,
)
from course_lib.train.run import Run, check_same, fewer_until, processes_before, processes_here, start


def tokenizer_folder(settings: Settings, dataset: Dataset) -> Path:
    """The flag's; else the default one, or one beside it for text that fits many more tokens.

    Eight times as many: so one of the bundled corpus is not taken for a corpus of the hub.
    """
    default = default_folder()
    if settings.tokenizer is not None or not (default / "tokenizer.json").exists():
        return settings.tokenizer or default
    fitting = 65_536 if dataset.streamed else fitting_vocab_size(dataset.num_bytes("train"))
    if 8 * Tokenizer.load(default).vocab_size > fitting:
        return default
    return default.with_name(f"tokenizer-{dataset.name.replace('/', '-')}")


def open_data(settings: Settings, folder: Path) -> tuple[Dataset, Tokenizer]:
    """Dataset and tokenizer of a run; where there is no tokenizer, one is trained that fits."""
    dataset = open_dataset(settings.dataset, settings.streaming, settings.max_cached_shards)
    if settings.resume and (folder / "tokenizer").exists():
        return dataset, Tokenizer.load(folder / "tokenizer")
    path = tokenizer_folder(settings, dataset)
    with only_one(path):
        if settings.tokenizer is None and not (path / "tokenizer.json").exists():
            print("there is no tokenizer for this text yet: training one", flush=True)
            tok_train.work(tok_train.Settings(dataset=settings.dataset, streaming=settings.streaming, folder=path))
    return dataset, Tokenizer.load(path)


def size_of(dataset: Dataset) -> str:
    """What two machines can compare, whose own texts have different names."""
    if dataset.streamed:
        return dataset.name
    return f"{dataset.num_rows('train')} documents of {dataset.num_bytes('train')} bytes"


class Pretraining(Run):
    """A run on the documents of a dataset."""

    def prepare(self, settings: Settings) -> None:
        """Open the text and the tokenizer, and work out what the run comes to."""
        self.dataset, self.tokenizer = open_data(settings, self.folder)
        fingerprint = self.tokenizer.fingerprint
        check_same(self.group, tokenizer=fingerprint, text=size_of(self.dataset))
        sizes = corpus_tokens(self.dataset, self.tokenizer)
        V, here = self.tokenizer.vocab_size, processes_here(self.group)
        self.settings = resolve(settings, V, sizes[0], self.group.size(), here)
        self.config = make_config(self.settings, V)
        self.val_batches = validation_batches(self.settings, sizes[1])
        self.about = describe(self.settings, V, *sizes, here)
        documents = islice(self.dataset.documents("val"), 3)
        self.prompts = [" ".join(text.split()[:6]) for text in documents]

    def open_loader(self, split: str, state: dict | None = None) -> TokenLoader:
        """Batches of a split, from a place or from the beginning."""
        if state and not self.is_first:
            state = {**state, "dataset": self.dataset.name}  # the same text, by check_same
        return TokenLoader(
            self.dataset,
            self.tokenizer,
            split,
            batch_size=self.settings.device_batch_size,
            sequence_len=self.settings.sequence_len,
            state=state,
            num_threads=1 if backend.device_kind() == "cpu" else None,
        )

    def in_words(self, place: dict) -> str:
        """Where in the text a loader's state is."""
        return "token {token} of row {row} of {shard}, epoch {epoch}".format(**place)


def choose_processes(settings: Settings, folder: Path) -> int:
    """How many processes to start: what --processes, the rows of a step and the memory allow.

    Makes the dataset and the tokenizer where they are missing. Raises CourseError for settings
    that cannot be.
    """
    if before := processes_before(settings, folder):
        return settings.processes or before
    if (settings.processes or local_ring.fitting_processes(backend.device_kind())) == 1:
        return 1
    dataset, tokenizer = open_data(settings, folder)
    tokens = corpus_tokens(dataset, tokenizer)[0]
    return fewer_until(lambda n: resolve(settings, tokenizer.vocab_size, tokens, n, n), settings)


def work(settings: Settings, argv: list[str]) -> None:
    """Train in as many processes as it takes; argv: the flags once more, for those."""
    check_flags(settings)
    folder = run_folder(f"d{settings.depth}" if settings.tag is None else settings.tag)
    processes = 1 if local_ring.in_a_ring() else choose_processes(settings, folder)
    start("base_train", Pretraining, settings, folder, argv, processes)


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    argv = sys.argv[1:] if argv is None else argv
    run_program("base_train", Settings, partial(work, argv=argv), argv)


if __name__ == "__main__":
    main()
