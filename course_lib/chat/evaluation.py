"""Ask a chat model of a run the questions of tasks, and count how many replies are right.

Source: nanochat, whose ChatCORE the mean of the centred scores is.

Written by hand; chapter 14 uses it.
"""

from pathlib import Path

from course_lib import backend
from course_lib.chat.calculator import use_calculator
from course_lib.chat.tasks import Answer, ChatTask, answers, get_task
from course_lib.evaluate.core import TaskResult
from course_lib.evaluate.reports import Evaluation, open_evaluation, report_entry
from course_lib.generate.engine import Engine
from course_lib.train.checkpoint import load_model


def evaluate_chat_model(
    folder: Path,
    names: list[str],
    step: int | None = None,
    max_per_task: int | None = None,
    batch_size: int = 16,
    samples: int = 0,
    temperature: float = 0.0,
    top_k: int | None = None,
    max_tokens: int = 256,
    seed: int = 42,
) -> None:
    """Evaluate a checkpoint of the run in `folder` on the tasks called `names`; the report is chat_eval_<step>.json.

    step: by default the newest; max_per_task: questions of each task, by default all; samples: so many questions of
    each with their replies go into the report. temperature, top_k, max_tokens, seed: of the replies that are written;
    a choice is always the likeliest letter.
    Raises CourseError when the run or a task cannot be used.
    """
    model, tokenizer, meta = load_model(folder, step)
    model.set_dtype(backend.compute_dtype())
    tasks = [get_task(name) for name in names]  # first of all fetch what is missing
    engine = Engine(model, tokenizer, use_calculator, keep_prefixes=0)
    writing = {"temperature": temperature, "top_k": top_k, "max_tokens": max_tokens, "seed": seed}
    path = folder / f"chat_eval_{meta['step']:06d}.json"
    with open_evaluation("chat_eval", model, tokenizer, meta["step"], path) as run:
        run.found |= {name: _dict(run.earlier().get(name)) for name in ("tasks", "samples")}
        run.found |= {"asked": names, "chatcore": None}
        try:
            for number, task in enumerate(tasks, start=1):
                run.part, label = task.name, f"task {number} of {len(tasks)}: {task.name}"
                count = len(task) if max_per_task is None else min(max_per_task, len(task))
                seen = ask(run, engine, task, count, batch_size, label, writing)
                result = TaskResult(task, sum(answer.right for answer in seen), count)
                run.results.append(result)
                too_long = sum(not answer.fits for answer in seen)
                run.found["tasks"][task.name] = report_entry(result, too_long=too_long, temperature=temperature)
                run.found["samples"][task.name] = show_samples(run, task, seen[:samples])
                run.save()
        finally:
            run.show(lambda task: task.kind)
        run.found["chatcore"], run.found["chatcore_error"] = run.mean()
        run.save()


def _dict(value: object) -> dict:
    """The value if it is a dict, else an empty one: a report may be damaged."""
    return value if isinstance(value, dict) else {}


def ask(
    run: Evaluation, engine: Engine, task: ChatTask, count: int, batch_size: int, label: str, writing: dict
) -> list[Answer]:
    """The answers to the first `count` questions of a task; says how far it is."""
    seen, settings = [], writing if task.kind == "generative" else {}
    for answer in answers(engine, task, list(range(count)), batch_size, **settings):
        seen.append(answer)
        run.status.hint(f"{label}, {len(seen):,} of {count:,} questions")
        run.pause()
    right, too_long = sum(answer.right for answer in seen), sum(not answer.fits for answer in seen)
    more = f"; {too_long:,} too long for the model" if too_long else ""
    run.status.say(f"{label}, {right:,} of {count:,} right{more}")
    return seen


def show_samples(run: Evaluation, task: ChatTask, some: list[Answer]) -> list[dict]:
    """Print questions with their replies; the same for the report."""
    shown = []
    for answer in some:
        question = task[answer.number][-2]["content"]
        shown.append({"question": question, "reply": answer.reply, "right": answer.right})
        run.status.say(f"  {'right' if answer.right else 'wrong'}: {question!r} … {answer.reply!r}")
    return shown
