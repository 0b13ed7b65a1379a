"""Pretrain a GPT on the documents of a dataset: `base_train --help`. Source: nanochat."""

import sys
from collections.abc import Set
from functools import partial

from course_lib.host.program import given_flags, run_program
from course_lib.host.progress import suggest
from course_lib.train.pretraining import Settings, folder_of, start_pretraining


def work(settings: Settings, given: Set[str]) -> int:
    """Train, and say what to do with the model; the exit code."""
    code = start_pretraining(settings, given)
    if not (code or settings.dry_run):
        tag = folder_of(settings).name
        suggest({f"base_eval --tag {tag}": "measure it", f"chat_sft --tag {tag}": "make it an assistant"})
    return code


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    argv = sys.argv[1:] if argv is None else argv
    run_program("base_train", Settings, partial(work, given=given_flags(Settings, argv)), argv)


if __name__ == "__main__":
    main()
