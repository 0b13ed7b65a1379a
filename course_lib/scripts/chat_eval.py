"""How often a chat model's replies are right, task by task: `chat_eval --help`."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from course_lib.chat.evaluation import ChatOptions, evaluate_chat_model
from course_lib.chat.tasks import DOWNLOADED_TASKS, lesson_tasks
from course_lib.host.errors import FlagError
from course_lib.host.program import run_program
from course_lib.host.progress import suggest
from course_lib.train.flags import ReportFlags, WhichModel


@dataclass(frozen=True)
class Settings(ChatOptions, ReportFlags, WhichModel):
    """Ask a chat model the test questions of tasks, and count how many replies are right."""

    stage: Literal["base", "sft", "rl"] = "sft"
    """Which training of that name: chat_sft writes sft, chat_rl writes rl."""
    tasks: str = "lessons"
    """Which tasks, with commas between: their names, or lessons, downloads, all."""


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
    evaluate_chat_model(folder, step, settings, names, settings.out)
    if settings.checkpoint is None:
        suggest({f"chat_cli --stage {settings.stage} --tag {folder.name}": "talk to it"})


main = partial(run_program, "chat_eval", Settings, work)

if __name__ == "__main__":
    main()
