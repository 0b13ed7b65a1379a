"""All chapters: the map at the head of each, with the present one marked, and the tables in the README."""

import os
import re
from html import escape
from pathlib import Path

from course_lib.authoring.address import NAME, repository
from course_lib.authoring.rules import header
from course_lib.authoring.tree import Pair, all_pairs, read_text
from course_lib.host.errors import CourseError
from course_lib.host.files import write_atomically

PARTS = {
    "I · A GPT in an afternoon": ["start here", "names", "autograd", "microgpt", "batches"],
    "II · The modern GPT": ["tokenizer", "data", "attention", "gpt", "muon", "training", "evaluation", "engine"],
    "III · From model to assistant": ["conversations", "tools", "reinforcement", "chat", "speedrun"],
}
MARKS = "<!-- chapters: `course sync` writes them from the notebooks' headers -->", "<!-- end of the chapters -->"
HOURS = "<!-- hours -->", "<!-- end of the hours -->"
WIDTH, BOX, STEP, ROW, TOP = 870, (97, 40), 104, 88, 28
STYLE = """<style>
text { fill: #1a1a1a } rect { fill: #ffffff; stroke: #1a1a1a } path { stroke: #555555 }
.page { fill: #fafafa; stroke: none } .past { fill: #cfe4f3 } .here { fill: #0072b2; stroke-width: 3 }
.inside { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6e6e6 } rect { fill: #1c1f23; stroke: #a0a0a0 } path { stroke: #a0a0a0 }
  .page { fill: #14171a; stroke: none } .past { fill: #1f4866 } .here { fill: #56b4e9; stroke: #ffffff }
  .inside { fill: #000000 }
}
</style>"""


def draw_map(present: str) -> str:
    """SVG of the course; the chapter `present` ("03") is marked by colour, a thick frame and "you are here".

    Its colours follow the reader's: light or dark.
    """
    number, shapes = 0, []
    for row, (part, titles) in enumerate(PARTS.items()):
        y = TOP + row * ROW
        shapes.append(f'<text x="20" y="{y - 8}" font-size="13" font-weight="600">Part {escape(part)}</text>')
        for column, title in enumerate(titles):
            here, x = f"{number:02d}" == present, 20 + column * STEP
            box = ' class="here"' if here else ' class="past"' if f"{number:02d}" < present else ""
            middle = f'x="{x + BOX[0] // 2}" text-anchor="middle"' + (' class="inside"' if here else "")
            if column:
                shapes.append(f'<path d="M{x - STEP + BOX[0]} {y + 20}h{STEP - BOX[0]}"/>')
            shapes.append(
                f'<rect x="{x}" y="{y}" width="{BOX[0]}" height="{BOX[1]}" rx="6"{box}/>'
                f'<text {middle} y="{y + 16}">{number:02d}</text><text {middle} y="{y + 31}">{escape(title)}</text>'
            )
            if here:
                shapes.append(f'<text x="{x + BOX[0] // 2}" text-anchor="middle" y="{y + 56}">▲ you are here</text>')
            number += 1
    height = TOP + len(PARTS) * ROW - 24
    shapes.append(
        f'<rect x="{WIDTH - 170}" y="{height - 32}" width="26" height="14" rx="3" class="past"/>'
        f'<text x="{WIDTH - 136}" y="{height - 21}">chapters behind you</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" font-family="system-ui, sans-serif" font-size="12">\n'
        f"<title>Map of the course, chapter {present} marked</title>\n{STYLE}\n"
        f'<rect width="{WIDTH}" height="{height}" rx="8" class="page"/>\n' + "\n".join(shapes) + "\n</svg>\n"
    )


def map_path(pair: Pair) -> Path:
    """Where the picture of a chapter lies."""
    return pair.notebook.parent / "images" / f"map_{pair.number}.svg"


def write_map(pair: Pair) -> None:
    """Write the picture of a chapter; solutions have none."""
    path, picture = map_path(pair), draw_map(pair.number)
    if pair.is_solution or (path.exists() and path.read_text("utf-8") == picture):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as file:
        file.write(picture)


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
    picture = rf"(# !\[[^\]\n]*\]\(images/{map_path(pair).name}\)\n)(?:#\n# (?:\*\*|\[)\d\d.*\n)?"
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
