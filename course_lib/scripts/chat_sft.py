"""Fine-tune a model of `base_train` on conversations: `chat_sft --help`. Source: nanochat."""

import sys
from collections.abc import Set
from functools import partial

from course_lib.chat.fine_tuning import Settings, folder_of, start_fine_tuning
from course_lib.host.program import given_flags, run_program
from course_lib.host.progress import suggest


def work(settings: Settings, given: Set[str]) -> int:
    """Train, and say what to do with the model; the exit code."""
    code = start_fine_tuning(settings, given)
    if not (code or settings.dry_run):
        tag = folder_of(settings).name
        suggest({f"chat_eval --tag {tag}": "measure it", f"chat_cli --tag {tag}": "talk to it"})
    return code


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    argv = sys.argv[1:] if argv is None else argv
    run_program("chat_sft", Settings, partial(work, given=given_flags(Settings, argv)), argv)


if __name__ == "__main__":
    main()
