"""Fine-tune a model of `base_train` on conversations: `chat_sft --help`. Source: nanochat."""

import sys
from functools import partial

from course_lib.chat.fine_tuning import Settings, start_fine_tuning
from course_lib.host.program import given_flags, run_program


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    argv = sys.argv[1:] if argv is None else argv
    run_program("chat_sft", Settings, partial(start_fine_tuning, given=given_flags(Settings, argv)), argv)


if __name__ == "__main__":
    main()
