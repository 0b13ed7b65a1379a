"""All chapters: the parts that they form, the tables in the README, and the ways from each to the others."""

import os
import re
from pathlib import Path

from course_lib.authoring.address import NAME, repository
from course_lib.authoring.rules import header
from course_lib.authoring.tree import Pair, all_pairs, read_text
from course_lib.host.errors import CourseError
from course_lib.host.files import write_atomically

# A place without a chapter has no name yet.
PARTS: dict[str, list[str]] = {
    "I · A GPT in a weekend": ["start here", "names", "autograd", "microgpt", "batches"],
    "II · The modern GPT": ["tokenizer", "data", "attention", "gpt", "muon", "training", "evaluation", "engine"],
    "III · From model to assistant": ["conversations", "tools", "reinforcement", "serving", "chat", "speedrun"],
    "IV · Growing up": ["memory", "processes", "nanochat 2026", "weights"],
}
MARKS = "<!-- chapters: `course sync` writes them from the notebooks' headers -->", "<!-- end of the chapters -->"
HOURS = "<!-- hours -->", "<!-- end of the hours -->"


def ways_out(pair: Pair) -> str:
    """The line below the map of a chapter, since a picture leads nowhere: to every chapter, and to Colab."""
    ways = [
        f"**{chapter.number}**" if chapter == pair else f"[{chapter.number}]({chapter.notebook.name})"
        for chapter in chapters(pair.root)
    ]
    address = repository(pair.root)
    colab = f"https://colab.research.google.com/github/{address.split('/')[-2]}/{NAME}/blob/main"
    how = f"{address}/blob/main/docs/machines.md#colab"
    return f"{' · '.join(ways)} · [open this one in Colab]({colab}/{pair.show(pair.notebook)}) ([how]({how}))"


def below_map(pair: Pair) -> str:
    """The text of a chapter as it must be: with that line below its map, if it has one."""
    text = pair.text.read_text("utf-8-sig")
    picture = rf"(# !\[[^\]\n]*\]\(images/map_{pair.number}\.png\)\n)(?:#\n# (?:\*\*|\[)\d\d.*\n)?"
    return re.sub(picture, lambda had: f"{had[1]}#\n# {ways_out(pair)}\n", text)


def write_below_map(pair: Pair) -> None:
    """Write that line; the text keeps its age, since `sync` asks which side was edited last."""
    read_text(pair)  # says it when the text is missing or damaged
    if pair.is_solution or pair.text.read_text("utf-8-sig") == below_map(pair):
        return
    text, edited = below_map(pair), pair.text.stat().st_mtime_ns
    with write_atomically(pair.text) as file:
        file.write(text)
    os.utime(pair.text, ns=(edited, edited))


def chapters(root: Path) -> list[Pair]:
    """The chapters in order, without solutions."""
    return [pair for pair in all_pairs(root) if not pair.is_solution]


def hours(root: Path) -> str:
    """What all chapters take together, from their headers, to the nearest hour."""
    heads = [header(pair) for pair in chapters(root)]
    reading, exercises = sum(head.reading for head in heads) / 60, sum(head.exercises for head in heads) / 60
    return f"{len(heads)} chapters: about {reading:.0f} hours to read, {exercises:.0f} for the exercises"


def chapter_tables(root: Path) -> str:
    """The chapters in Markdown, a table for each part, from the headers of the texts."""
    titles = [(part, title) for part, titles in PARTS.items() for title in titles]
    lines, before = [], None
    for pair in chapters(root):
        number = pair.number
        if int(number) >= len(titles):
            raise CourseError(f"{pair.show(pair.text)}: stands in no part; name it in PARTS of {__name__}")
        (part, title), head = titles[int(number)], header(pair)
        if part != before:
            lines += [f"\n### Part {part}\n", "| | chapter | goal | read + exercises | run |", "|---|---|---|---|---|"]
        link, minutes = f"[{title}]({pair.show(pair.notebook)})", f"{head.reading} + {head.exercises} min"
        lines.append(f"| {number} | {link} | {head.goal} | {minutes} | {head.run} |")
        before = part
    return "\n".join([*lines, ""])


def readme(root: Path) -> str:
    """What README.md must hold: the tables of chapters and the hours between their marks, the rest as it is."""
    text = (root / "README.md").read_text("utf-8")
    for (start, end), between in ((MARKS, f"\n{chapter_tables(root)}\n"), (HOURS, hours(root))):
        if not 0 <= text.find(start) < text.find(end):
            raise CourseError(f"README.md must hold '{start}' and '{end}', with what `course sync` writes between them")
        text = text.partition(start)[0] + start + between + end + text.partition(end)[2]
    return text


def write_readme(root: Path) -> str | None:
    """Write the tables of chapters into README.md; the line to print, None when nothing changed."""
    path, text = root / "README.md", readme(root)
    if path.read_text("utf-8") == text:
        return None
    with write_atomically(path) as file:
        file.write(text)
    return "wrote the chapters into README.md"
