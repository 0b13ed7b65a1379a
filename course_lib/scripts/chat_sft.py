"""Fine-tune a model of `base_train` on conversations: `chat_sft --help`. Source: nanochat."""

from course_lib.chat.fine_tuning import Settings, folder_of, start_fine_tuning
from course_lib.train.launch import run_training

THEN = {"chat_eval": "measure it", "chat_rl": "reward right replies", "chat_cli": "talk to it"}


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    run_training("chat_sft", Settings, start_fine_tuning, folder_of, THEN, argv)


if __name__ == "__main__":
    main()
