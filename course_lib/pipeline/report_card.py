"""How sure a score is, and what a stage of a speedrun changed, question by question.

Exported from notebooks/18_speedrun.ipynb; edit it there.
"""

from course_lib.evaluate.records import interval, paired_difference

# ---- 4. Read the card


STAGES = {  # the trainings that a card compares, as it names them
    "base": "pretrained",
    "control": "fine-tuned only",
    "sft": "pretrained, fine-tuned",
    "rl": "and reinforced",
}


def score(result: dict) -> str:
    """ "94 % (88–97)": the share that is right and its interval; few questions are counted."""
    if not result:
        return "—"
    count = result["items"]
    right = round(result["accuracy"] * count)
    low, high = interval(right, count)
    share = f"{right} of {count}" if count < 30 else f"{100 * right / count:.3g} %"
    return f"{share} ({100 * low:.0f}–{100 * high:.0f})"


# ---- 5. What did a stage bring?


CHANGES = {"pretraining": ("control", "sft"), "reinforcement": ("sft", "rl")}  # by what, from, to

SURE = 3.0  # standard errors: of a dozen comparisons, luck often takes one beyond two


def change(before: str, after: str) -> str:
    """ "+12 −3": how many questions were gained and lost; bold where luck is a poor explanation."""
    pairs = list(zip(before, after, strict=True))
    difference, error = paired_difference(before, after)
    counts = f"+{pairs.count(('0', '1'))} −{pairs.count(('1', '0'))}"
    return f"**{counts}**" if abs(difference) >= SURE * error else counts


def together(tasks: dict[str, dict]) -> str:
    """The answers to all tasks of a training, as if they were one."""
    return "".join(result["each"] for result in tasks.values())
