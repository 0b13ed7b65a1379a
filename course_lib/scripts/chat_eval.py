"""How often a chat model's replies are right, task by task: `chat_eval --help`."""

from dataclasses import dataclass
from typing import Literal

from course_lib.chat.evaluation import evaluate_chat_model
from course_lib.chat.tasks import DOWNLOADED_TASKS, lesson_tasks
from course_lib.host.errors import FlagError
from course_lib.host.program import AtLeastOne, AtLeastZero, NonNegative, run_program
from course_lib.train.flags import WhichModel


@dataclass(frozen=True)
class Settings(WhichModel):
    """Ask a chat model the test questions of tasks, and count how many replies are right."""

    stage: Literal["base", "sft", "rl"] = "sft"
    """Which training of that name: chat_sft writes sft, chat_rl writes rl."""
    tasks: str = "lessons"
    """Which tasks, with commas between: their names, or lessons, downloads, all."""
    max_per_task: AtLeastOne | None = None
    """Questions of each task; by default all."""
    temperature: NonNegative = 0.0
    """0 writes the likeliest token each time."""
    top_k: AtLeastOne | None = None
    """Sample from so many tokens only."""
    max_tokens: AtLeastOne = 256
    """Tokens of a reply, at most."""
    device_batch_size: AtLeastOne = 16
    """Questions at a time."""
    samples: AtLeastZero = 0
    """Show so many questions of each task with their replies."""
    seed: AtLeastZero = 42
    """Of what is sampled, where the temperature is above 0."""


def tasks_of(settings: Settings) -> list[str]:
    """The names of the tasks, in order. Raises FlagError for what is not known."""
    groups = {"lessons": lesson_tasks(), "downloads": [*DOWNLOADED_TASKS]}
    groups["all"] = groups["lessons"] + groups["downloads"]
    names = []
    for asked in filter(None, map(str.strip, settings.tasks.split(","))):
        if asked not in groups["all"] and asked not in groups:
            expected = ",".join((*groups["all"], *groups))
            raise FlagError(f"--tasks has {asked!r}, expected some of {expected}")
        names += groups.get(asked, [asked])
    if not names:
        raise FlagError("--tasks is empty, expected names of tasks, or lessons, downloads, all")
    return list(dict.fromkeys(names))


def work(settings: Settings) -> None:
    """Ask the tasks; what was finished is written in any case."""
    names = tasks_of(settings)
    folder, step = settings.place(settings.stage)
    evaluate_chat_model(
        folder,
        names,
        step,
        max_per_task=settings.max_per_task,
        batch_size=settings.device_batch_size,
        samples=settings.samples,
        temperature=settings.temperature,
        top_k=settings.top_k,
        max_tokens=settings.max_tokens,
        seed=settings.seed,
    )


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    run_program("chat_eval", Settings, work, argv)


if __name__ == "__main__":
    main()
