"""All chapters: the map and the links at the head of each, the present one marked, and the tables in the README."""

import re
from html import escape
from pathlib import Path

from course_lib.authoring.rules import header
from course_lib.authoring.tree import Pair, all_pairs
from course_lib.host.errors import CourseError
from course_lib.host.files import write_atomically

PARTS = {
    "I · A GPT in an afternoon": ["start here", "names", "autograd", "microgpt", "batches"],
    "II · The modern GPT": ["tokenizer", "data", "attention", "gpt", "muon", "training", "evaluation", "engine"],
    "III · From model to assistant": ["conversations", "tools", "reinforcement", "chat", "speedrun"],
}
MARKS = "<!-- chapters: `course sync` writes them from the notebooks' headers -->", "<!-- end of the chapters -->"
LINKS = re.compile(r"^# Chapters: .*$", re.MULTILINE)
WIDTH, BOX, STEP, ROW, TOP = 870, (97, 40), 104, 88, 28


def chapters(root: Path) -> list[Pair]:
    """The chapters that exist, in order."""
    return [pair for pair in all_pairs(root) if not pair.is_solution]


def draw_map(present: Pair) -> str:
    """SVG of the chapters that exist; the one at hand is marked by colour, a thick frame and "you are here"."""
    exist, first, row, shapes = {pair.number for pair in chapters(present.root)}, 0, 0, []
    for part, names in PARTS.items():
        named = [(f"{number:02d}", title) for number, title in enumerate(names, first) if f"{number:02d}" in exist]
        first += len(names)
        if not named:
            continue
        y = TOP + row * ROW
        row += 1
        shapes.append(f'<text x="20" y="{y - 8}" font-size="13" font-weight="600">Part {escape(part)}</text>')
        for column, (number, title) in enumerate(named):
            here, past, x = number == present.number, number < present.number, 20 + column * STEP
            fill = "#0072B2" if here else "#cfe4f3" if past else "#ffffff"
            ink, frame = ("#ffffff", 3) if here else ("#1a1a1a", 1)
            if column:
                shapes.append(f'<path d="M{x - STEP + BOX[0]} {y + 20}h{STEP - BOX[0]}" stroke="#555555"/>')
            shapes.append(
                f'<rect x="{x}" y="{y}" width="{BOX[0]}" height="{BOX[1]}" rx="6" fill="{fill}" '
                f'stroke="#1a1a1a" stroke-width="{frame}"/>'
                f'<text x="{x + BOX[0] // 2}" y="{y + 16}" fill="{ink}" text-anchor="middle">{number}</text>'
                f'<text x="{x + BOX[0] // 2}" y="{y + 31}" fill="{ink}" text-anchor="middle">{escape(title)}</text>'
            )
            if here:
                shapes.append(f'<text x="{x + BOX[0] // 2}" y="{y + 56}" text-anchor="middle">▲ you are here</text>')
    height = TOP + row * ROW - 24
    shapes.append(
        f'<rect x="{WIDTH - 170}" y="{height - 32}" width="26" height="14" rx="3" fill="#cfe4f3" stroke="#1a1a1a"/>'
        f'<text x="{WIDTH - 136}" y="{height - 21}">chapters behind you</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" font-family="system-ui, sans-serif" font-size="12" fill="#1a1a1a">\n'
        f"<title>Map of the course, chapter {present.number} marked</title>\n"
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#fafafa"/>\n' + "\n".join(shapes) + "\n</svg>\n"
    )


def map_path(pair: Pair) -> Path:
    """Where the picture of a chapter lies."""
    return pair.notebook.parent / "images" / f"map_{pair.number}.svg"


def write_map(pair: Pair) -> None:
    """Write the picture of a chapter and, in its text, the links below it; solutions have neither."""
    if pair.is_solution:
        return
    path, picture, text = map_path(pair), draw_map(pair), linked(pair)
    if not path.exists() or path.read_text("utf-8") != picture:
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as file:
            file.write(picture)
    if text != pair.text.read_text("utf-8-sig"):
        with write_atomically(pair.text) as file:
            file.write(text)


def linked(pair: Pair) -> str:
    """The text of a chapter with its line "# Chapters: …", where it has one, up to date."""
    links = (
        f"**{other.number}**" if other == pair else f"[{other.number}]({other.notebook.name})"
        for other in chapters(pair.root)
    )
    line = f"# Chapters: {' · '.join(links)}"
    return LINKS.sub(lambda _: line, pair.text.read_text("utf-8-sig"), count=1)


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
    """What README.md must hold: the tables of chapters between its two marks, the rest as it is."""
    text, (start, end) = (root / "README.md").read_text("utf-8"), MARKS
    if not 0 <= text.find(start) < text.find(end):
        raise CourseError(f"README.md must hold the lines '{start}' and '{end}', with the chapters between them")
    return f"{text.partition(start)[0]}{start}\n{chapter_tables(root)}\n{end}{text.partition(end)[2]}"


def write_readme(root: Path) -> str | None:
    """Write the tables of chapters into README.md; the line to print, None when nothing changed."""
    path, text = root / "README.md", readme(root)
    if path.read_text("utf-8") == text:
        return None
    with write_atomically(path) as file:
        file.write(text)
    return "wrote the chapters into README.md"
