"""Pretrain a GPT on the documents of a dataset: `base_train --help`. Source: nanochat."""

import sys
from functools import partial

from course_lib.host.program import given_flags, run_program
from course_lib.train.pretraining import Settings, start_pretraining


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    argv = sys.argv[1:] if argv is None else argv
    run_program("base_train", Settings, partial(start_pretraining, given=given_flags(Settings, argv)), argv)


if __name__ == "__main__":
    main()
