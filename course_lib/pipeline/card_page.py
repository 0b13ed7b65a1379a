"""The report card as a page and as a picture.

Written by hand; chapter 18 uses it.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_lib.evaluate.records import interval
from course_lib.host.words import duration
from course_lib.pipeline.report_card import CHANGES, STAGES, SURE, change, score, together

MARKS = {"base": ("s", "#D55E00"), "control": ("D", "#009E73"), "sft": ("o", "#0072B2"), "rl": ("^", "#CC79A7")}


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def in_one_line(text: str) -> str:
    """Text that can stand in a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def clustered_score(result: dict) -> str:
    """ "58.8 % ± 5.5": of a task of CORE, whose items may belong together, with its own standard error."""
    return f"{100 * result['accuracy']:.1f} % ± {100 * result['standard_error']:.1f}"


def card_markdown(card: dict) -> str:
    """The report card as Markdown.

    card: machine (lines), model (dict of what to say), stages [{"name", "seconds", "what"}], losses, rewards,
    bits_per_byte, core {task: result}, tasks {a key of STAGES: {task: result}}, tokens_per_second, samples [[question,
    reply]]; a result has accuracy, standard_error, baseline and items, and for a chat task each: "1" or "0" for each
    question.
    """
    stages = [[each["name"], duration(each["seconds"]), each["what"]] for each in card["stages"]]
    total = sum(each["seconds"] for each in card["stages"])
    parts = [
        "# Report card",
        table(["", ""], [[name, str(value)] for name, value in card["model"].items()]),
        "## Time",
        table(["stage", "time", "what"], [*stages, ["all", duration(total), ""]]),
        "## Before fine-tuning",
        table(["text", "bits per byte"], [[n, f"{v:.3f}"] for n, v in card["bits_per_byte"].items()]),
        table(
            ["task", "items", "guessing", "right ± standard error"],
            [[name, *_numbers(result), clustered_score(result)] for name, result in card["core"].items()],
        ),
        "## As an assistant",
        stages_markdown(card["tasks"]),
        "Guessing: the commonest answer each time. Right, and in brackets the 95 % interval. "
        f"Replies come at {card['tokens_per_second']:.0f} tokens a second, always the likeliest token.",
        *_changes(card["tasks"]),
        "## Some replies",
        table(["question", "reply"], [list(map(in_one_line, pair)) for pair in card["samples"]]),
        "## Machine",
        "```\n" + card["machine"] + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def stages_markdown(tasks: dict[str, dict]) -> str:
    """One row a task, one column a training; before them, what always giving the commonest answer would get."""

    def cells(name: str) -> list[str]:
        results = [tasks[stage].get(name, {}) for stage in stages]
        most = max(filter(None, results), key=lambda result: result["items"])
        return [name, *_numbers(most), *map(score, results)]

    stages = [stage for stage in STAGES if stage in tasks]
    head = ["task", "questions", "guessing", *(STAGES[stage] for stage in stages)]
    return table(head, list(map(cells, _names(tasks))))


def changes_markdown(tasks: dict[str, dict]) -> str:
    """One row a task, one column for each stage that can be judged: gained and lost questions, and all together."""
    pairs = _judged(tasks)
    stages = {stage for pair in pairs.values() for stage in pair}
    lines = {stage: {name: result["each"] for name, result in tasks[stage].items()} for stage in stages}
    rows = [[name, *(change(lines[a][name], lines[b][name]) for a, b in pairs.values())] for name in _names(tasks)]
    rows.append(["all together", *(change(together(tasks[a]), together(tasks[b])) for a, b in pairs.values())])
    return table(["task", *pairs], rows)


def _changes(tasks: dict[str, dict]) -> list[str]:
    """The part of the page on what the stages changed; nothing where no two of them can be compared."""
    if not _judged(tasks):
        return []
    words = [f"{what} ({STAGES[before]} → {STAGES[after]})" for what, (before, after) in _judged(tasks).items()]
    return [
        "## What a stage changed",
        changes_markdown(tasks),
        f"Questions gained and lost by {', by '.join(words)}. Bold: a difference of {SURE:g} standard errors or more.",
    ]


def _judged(tasks: dict[str, dict]) -> dict[str, tuple[str, str]]:
    def kept(stage: str) -> bool:
        """Whether each question of the stage is there: cards of before had only counts."""
        return stage in tasks and all("each" in result for result in tasks[stage].values())

    return {what: pair for what, pair in CHANGES.items() if all(map(kept, pair))}


def _names(tasks: dict[str, dict]) -> list[str]:
    return list(dict.fromkeys(name for results in tasks.values() for name in results))


def _numbers(result: dict) -> list[str]:
    return [f"{result['items']}", f"{100 * result['baseline']:.3g} %"]


# ---- as a picture


def draw_tasks(ax: Axes, tasks: dict[str, dict]) -> None:
    """The share right on each task after each training, with its interval."""
    names, stages = _names(tasks), [stage for stage in STAGES if stage in tasks]
    for number, stage in enumerate(stages):
        marker, color = MARKS[stage]
        asked = [(place, result) for place, name in enumerate(names) if (result := tasks[stage].get(name))]
        shares = [result["accuracy"] for _, result in asked]
        ends = [interval(round(result["accuracy"] * result["items"]), result["items"]) for _, result in asked]
        sides = [[share - low for share, (low, _) in zip(shares, ends, strict=True)]]
        sides.append([high - share for share, (_, high) in zip(shares, ends, strict=True)])
        ax.errorbar(
            shares,
            [place + 0.2 * (number - (len(stages) - 1) / 2) for place, _ in asked],
            xerr=sides,
            fmt=marker,
            color=color,
            capsize=2,
            markersize=4.5,
            label=STAGES[stage],
        )
    ax.set_yticks(range(len(names)), names)
    for place in range(1, len(names)):
        ax.axhline(place - 0.5, color="#dddddd", linewidth=0.6)
    ax.set(xlim=(-0.03, 1.03), ylim=(len(names) - 0.5, -0.5), xlabel="share right, and its 95 % interval")
    ax.set_title("tasks", fontsize=11)
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.45, -0.1), ncols=2)


def draw_times(ax: Axes, stages: list[dict]) -> None:
    """How long each stage took."""
    seconds = [each["seconds"] for each in stages]
    bars = ax.barh([each["name"] for each in stages], seconds, color="#0072B2")
    ax.bar_label(bars, map(duration, seconds), padding=4)
    ax.invert_yaxis()
    ax.set(xlabel="seconds")
    ax.set_title("time", fontsize=11)
    ax.margins(x=0.25)


def draw_card(card: dict) -> Figure:
    """The report card as a picture: scores on the left, on the right losses, rewards and times."""
    curves = [(f"{title}: loss, nats a token", points) for title, points in card["losses"].items()]
    if card.get("rewards"):
        curves.append(("reinforcement: reward, smoothed", smoothed(card["rewards"])))
    figure = Figure(figsize=(11, 8), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1))
    draw_tasks(left.subplots(), card["tasks"])
    axes = right.subplots(len(curves) + 1, 1, height_ratios=[1] * len(curves) + [1.6])
    for ax, (title, points) in zip(axes, curves, strict=False):
        ax.plot([step for step, _ in points], [value for _, value in points], color="#0072B2")
        ax.set_title(title, fontsize=11)
        ax.set(xlabel="step", ylim=(0, None))
    draw_times(axes[-1], card["stages"])
    return figure


def smoothed(points: list[list[float]], keep: float = 0.8) -> list[list[float]]:
    """A running mean of a curve that jumps from step to step, each point `keep` of the one before."""
    found, mean = [], None
    for step, value in points:
        mean = value if mean is None else keep * mean + (1 - keep) * value
        found.append([step, mean])
    return found
