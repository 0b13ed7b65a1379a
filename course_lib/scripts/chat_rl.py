"""Reward right replies of a model of `chat_sft`: `chat_rl --help`. Source: nanochat."""

from course_lib.chat.reinforcing import Settings, folder_of, start_reinforcement
from course_lib.train.launch import run_training

THEN = {"chat_eval --stage rl": "measure it", "chat_cli --stage rl": "talk to it"}


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    run_training("chat_rl", Settings, start_reinforcement, folder_of, THEN, argv)


if __name__ == "__main__":
    main()
