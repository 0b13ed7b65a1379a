"""The report card of a model: sizes, times, losses, scores before and after, samples.

It is Markdown, and a picture beside it; both are made of one dict, which can be kept as JSON.

Exported from notebooks/18_speedrun.ipynb; edit it there.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_lib.host.words import duration

STAGES = {  # the trainings that a card compares, as it names and draws them
    "base": ("pretrained", "s", "#D55E00"),
    "control": ("fine-tuned only", "D", "#009E73"),
    "sft": ("pretrained and fine-tuned", "o", "#0072B2"),
}


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def in_one_line(text: str) -> str:
    """Text that can stand in a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def score(result: dict) -> str:
    """ "94.0 % ± 1.2"; "0 of 10", where so few items say little; or "—" for no result."""
    if not result:
        return "—"
    if result["items"] < 30:
        return f"{round(result['accuracy'] * result['items'])} of {result['items']}"
    return f"{100 * result['accuracy']:.1f} % ± {100 * result['standard_error']:.1f}"


def card_markdown(card: dict) -> str:
    """The report card as Markdown.

    card: machine (lines), model (dict of what to say), stages [{"name", "seconds", "what"}],
    losses, bits_per_byte, core, tasks {a key of STAGES: {task: result}}, tokens_per_second, samples
    [[question, reply]]; a result has accuracy, standard_error, baseline and items.
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
            ["task", "items", "guessing", "right"],
            [[name, *_numbers(result), score(result)] for name, result in card["core"].items()],
        ),
        "## As an assistant",
        _chat_table(card["tasks"]),
        f"Replies come at {card['tokens_per_second']:.0f} tokens a second, always the likeliest "
        "token. ± is the standard error.",
        "## Some replies",
        table(["question", "reply"], [list(map(in_one_line, pair)) for pair in card["samples"]]),
        "## Machine",
        "```\n" + card["machine"] + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _numbers(result: dict) -> list[str]:
    return [f"{result['items']}", f"{100 * result['baseline']:.0f} %"]


def _chat_table(tasks: dict[str, dict]) -> str:
    stages = [stage for stage in STAGES if stage in tasks]
    names = list(dict.fromkeys(name for stage in stages for name in tasks[stage]))
    rows = []
    for name in names:
        results = [tasks[stage].get(name, {}) for stage in stages]
        rows.append([name, *_numbers(next(filter(None, reversed(results)))), *map(score, results)])
    return table(["task", "questions", "guessing", *(STAGES[stage][0] for stage in stages)], rows)


def draw_tasks(ax: Axes, tasks: dict[str, dict]) -> None:
    """Accuracy on each task and after each training, with two standard errors to each side."""
    names = list(dict.fromkeys(name for results in tasks.values() for name in results))
    for number, (stage, (label, marker, color)) in enumerate(STAGES.items()):
        style = {"fmt": marker, "color": color, "capsize": 2, "markersize": 5}
        for place, name in enumerate(names if stage in tasks else ()):
            if result := tasks[stage].get(name):
                where = result["accuracy"], place + 0.22 * (number - 1)
                doubt, text = 2 * result["standard_error"], label if place == 0 else None
                ax.errorbar(*where, xerr=doubt, label=text, **style)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlim=(-0.03, 1.03), ylim=(len(names) - 0.5, -0.5), xlabel="share right", title="tasks")
    ax.grid(axis="x", alpha=0.3)
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.2), ncols=3)


def draw_times(ax: Axes, stages: list[dict]) -> None:
    """How long each stage took."""
    seconds = [each["seconds"] for each in stages]
    bars = ax.barh([each["name"] for each in stages], seconds, color="#0072B2")
    ax.bar_label(bars, map(duration, seconds), padding=4)
    ax.invert_yaxis()
    ax.set(xlabel="seconds", title="time")
    ax.margins(x=0.2)


def draw_card(card: dict) -> Figure:
    """The report card as a picture: losses, scores, times."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2)
    for ax, title in zip(axes[0], ("pretraining", "fine-tuning"), strict=True):
        points = card["losses"][title]
        ax.plot([step for step, _ in points], [loss for _, loss in points], color="#0072B2")
        ax.set(title=title, xlabel="step", ylabel="loss, nats a token")
    draw_tasks(axes[1, 0], card["tasks"])
    draw_times(axes[1, 1], card["stages"])
    return figure
