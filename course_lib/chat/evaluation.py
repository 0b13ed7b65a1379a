"""Ask a chat model of a run the questions of tasks, and count how many replies are right.

Source: nanochat, whose ChatCORE the mean of the centred scores is.

Written by hand; chapter 14 uses it.
"""

from dataclasses import dataclass
from pathlib import Path

from course_lib import backend
from course_lib.chat.calculator import use_calculator
from course_lib.chat.tasks import Answer, ChatTask, answers, get_task
from course_lib.evaluate.core import TaskResult
from course_lib.evaluate.reports import Evaluation, open_evaluation, report_folder
from course_lib.generate.engine import Engine
from course_lib.host.program import AtLeastOne, AtLeastZero, NonNegative
from course_lib.train.checkpoint import load_model


@dataclass(frozen=True)
class ChatOptions:
    """How to ask a chat model."""

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


def evaluate_chat_model(
    folder: Path, step: int | None, options: ChatOptions, names: list[str], out: Path | None = None
) -> None:
    """Evaluate a checkpoint of the run in `folder`, by default the newest, on the tasks called `names`.

    The report is chat_eval_<step>.json in `out`, by default the run's folder. Raises CourseError when the run or a task
    cannot be used.
    """
    out = report_folder(folder, out)
    model, tokenizer, meta = load_model(folder, step)
    model.set_dtype(backend.compute_dtype())
    tasks = [get_task(name) for name in names]  # first of all fetch what is missing
    engine = Engine(model, tokenizer, use_calculator, keep_prefixes=0)
    path = out / f"chat_eval_{meta['step']:06d}.json"
    with open_evaluation("chat_eval", folder.name, model, tokenizer, meta["step"], path) as run:
        found, earlier = run.found, run.earlier()
        for name in ("tasks", "samples"):  # of other tasks; a report may be damaged
            found[name] = earlier[name] if isinstance(earlier.get(name), dict) else {}
        found |= {"asked": names, "chatcore": None}

        def ask(task: ChatTask, label: str) -> tuple[TaskResult, dict]:
            run.part = task.name
            seen = ask_task(run, engine, task, label, options)
            right, too_long = sum(answer.right for answer in seen), sum(not answer.fits for answer in seen)
            left_out = f"; {too_long:,} too long for the model" if too_long else ""
            run.status.say(f"{label}, {right:,} of {len(seen):,} right{left_out}")
            found["samples"][task.name] = show_samples(run, task, seen[: options.samples])
            more = {"too_long": too_long, "temperature": options.temperature}
            more["each"] = "".join("01"[answer.right] for answer in seen)  # for `paired_difference`
            return TaskResult(task, right, len(seen)), more

        found["chatcore"], found["chatcore_error"] = run.ask_tasks(tasks, ask, found["tasks"], lambda task: task.kind)
        run.save()


def ask_task(run: Evaluation, engine: Engine, task: ChatTask, label: str, options: ChatOptions) -> list[Answer]:
    """The answers to the first questions of a task; says how far it is."""
    count = len(task) if options.max_per_task is None else min(options.max_per_task, len(task))
    seen, writing = [], {}
    if task.kind == "generative":
        writing = {name: getattr(options, name) for name in ("max_tokens", "temperature", "top_k", "seed")}
    for answer in answers(engine, task, list(range(count)), options.device_batch_size, **writing):
        seen.append(answer)
        run.status.hint(f"{label}, {len(seen):,} of {count:,} questions")
        run.pause()
    return seen


def show_samples(run: Evaluation, task: ChatTask, some: list[Answer]) -> list[dict]:
    """Print questions with their replies; the same for the report."""
    shown = []
    for answer in some:
        question = task[answer.number][-2]["content"]
        shown.append({"question": question, "reply": answer.reply, "right": answer.right})
        run.status.sample(question, answer.reply, label="right" if answer.right else "wrong")
    return shown
