"""Pretrain a GPT on the documents of a dataset: `base_train --help`. Source: nanochat."""

from course_lib.train.launch import run_training
from course_lib.train.pretraining import Settings, folder_of, start_pretraining

THEN = {"base_eval": "measure it", "chat_sft": "make it an assistant"}


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    run_training("base_train", Settings, start_pretraining, folder_of, THEN, argv)


if __name__ == "__main__":
    main()
