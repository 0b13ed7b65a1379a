"""All chapters: the picture at the head of each, with the present one marked, and the tables in the README."""

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
WIDTH, BOX, STEP, ROW, TOP = 870, (97, 40), 104, 88, 28


def draw_map(present: str) -> str:
    """SVG of the course; the chapter `present` ("03") is marked by colour, a thick frame and "you are here"."""
    number, shapes = 0, []
    for row, (part, titles) in enumerate(PARTS.items()):
        y = TOP + row * ROW
        shapes.append(f'<text x="20" y="{y - 8}" font-size="13" font-weight="600">Part {escape(part)}</text>')
        for column, title in enumerate(titles):
            here, x = f"{number:02d}" == present, 20 + column * STEP
            past = f"{number:02d}" < present
            fill = "#0072B2" if here else "#cfe4f3" if past else "#ffffff"
            ink, frame = ("#ffffff", 3) if here else ("#1a1a1a", 1)
            if column:
                shapes.append(f'<path d="M{x - STEP + BOX[0]} {y + 20}h{STEP - BOX[0]}" stroke="#555555"/>')
            shapes.append(
                f'<rect x="{x}" y="{y}" width="{BOX[0]}" height="{BOX[1]}" rx="6" fill="{fill}" '
                f'stroke="#1a1a1a" stroke-width="{frame}"/>'
                f'<text x="{x + BOX[0] // 2}" y="{y + 16}" fill="{ink}" text-anchor="middle">{number:02d}</text>'
                f'<text x="{x + BOX[0] // 2}" y="{y + 31}" fill="{ink}" text-anchor="middle">{escape(title)}</text>'
            )
            if here:
                shapes.append(f'<text x="{x + BOX[0] // 2}" y="{y + 56}" text-anchor="middle">▲ you are here</text>')
            number += 1
    height = TOP + len(PARTS) * ROW - 24
    shapes.append(
        f'<rect x="{WIDTH - 170}" y="{height - 32}" width="26" height="14" rx="3" fill="#cfe4f3" stroke="#1a1a1a"/>'
        f'<text x="{WIDTH - 136}" y="{height - 21}">chapters behind you</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" font-family="system-ui, sans-serif" font-size="12" fill="#1a1a1a">\n'
        f"<title>Map of the course, chapter {present} marked</title>\n"
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#fafafa"/>\n' + "\n".join(shapes) + "\n</svg>\n"
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


def chapter_tables(root: Path) -> str:
    """The chapters in Markdown, a table for each part, from the headers of the texts."""
    chapters = {pair.number: pair for pair in all_pairs(root) if not pair.is_solution}
    titles = [(part, title) for part, titles in PARTS.items() for title in titles]
    lines, before = [], None
    for number, pair in chapters.items():
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
