"""The map at the head of each chapter, with the present one marked: SVG, and PNG for notebooks."""

import hashlib
from dataclasses import dataclass
from html import escape
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from course_lib.authoring.course_map import PARTS, chapters
from course_lib.authoring.tree import Pair
from course_lib.host.files import write_atomically

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
LIGHT = {"page": "#fafafa", "past": "#cfe4f3", "here": "#0072b2", "next": "#ffffff"}  # of the PNG
SHARPER = 1.5  # pixels of the PNG for one of the SVG


@dataclass(frozen=True)
class Box:
    """A rounded rectangle. kind: page, past, here or next."""

    x: int
    y: int
    width: int
    height: int
    kind: str


@dataclass(frozen=True)
class Words:
    """A line of text on its baseline; kind: heading (bold, from x), note (from x), label (around x), inside (a box)."""

    x: int
    y: int
    text: str
    kind: str


@dataclass(frozen=True)
class Line:
    """A horizontal one, from (x, y)."""

    x: int
    y: int
    length: int


def shapes(present: Pair) -> list[Box | Words | Line]:
    """The map of the chapters that exist; this one is marked by colour, a thick frame and "you are here"."""
    exist, first, rows = {chapter.number for chapter in chapters(present.root)}, 0, []
    for part, titles in PARTS.items():
        numbered = [(f"{number:02d}", title) for number, title in enumerate(titles, first)]
        rows.append((part, [(number, title) for number, title in numbered if number in exist]))
        first += len(titles)
    rows = [(part, boxes) for part, boxes in rows if boxes]
    height = TOP + len(rows) * ROW - 24
    drawn: list[Box | Words | Line] = [Box(0, 0, WIDTH, height, "page")]
    for row, (part, boxes) in enumerate(rows):
        y = TOP + row * ROW
        drawn.append(Words(20, y - 8, f"Part {part}", "heading"))
        for column, (number, title) in enumerate(boxes):
            x, middle = 20 + column * STEP, 20 + column * STEP + BOX[0] // 2
            kind = "here" if number == present.number else "past" if number < present.number else "next"
            if column:
                drawn.append(Line(x - STEP + BOX[0], y + 20, STEP - BOX[0]))
            inside = "inside" if kind == "here" else "label"
            drawn += [Box(x, y, *BOX, kind), Words(middle, y + 16, number, inside)]
            drawn.append(Words(middle, y + 31, title, inside))
            if kind == "here":
                drawn.append(Words(middle, y + 56, "▲ you are here", "label"))
    drawn.append(Box(WIDTH - 170, height - 32, 26, 14, "past"))
    return [*drawn, Words(WIDTH - 136, height - 21, "chapters behind you", "note")]


def draw_map(present: Pair) -> str:
    """The map as SVG, in the reader's colours, light or dark."""
    lines = []
    for shape in shapes(present):
        match shape:
            case Box(x, y, width, height, kind):
                lines.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" class="{kind}"/>')
            case Words(x, y, text, kind):
                how = ' font-size="13" font-weight="600"' if kind == "heading" else ""
                how += ' text-anchor="middle"' if kind in ("label", "inside") else ""
                lines.append(f'<text x="{x}" y="{y}" class="{kind}"{how}>{escape(text)}</text>')
            case Line(x, y, length):
                lines.append(f'<path d="M{x} {y}h{length}"/>')
    height = shapes(present)[0].height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" font-family="system-ui, sans-serif" font-size="12">\n'
        f"<title>Map of the course, chapter {present.number} marked</title>\n{STYLE}\n"
        + "\n".join(lines)
        + "\n</svg>\n"
    )


def paint_map(present: Pair) -> Image.Image:
    """The map as pixels, in light colours: notebooks show it, since GitHub shows no SVG in a notebook."""
    page = shapes(present)[0]
    picture = Image.new("RGB", (round(page.width * SHARPER), round(page.height * SHARPER)), "#ffffff")
    pen = ImageDraw.Draw(picture)
    fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")
    plain = ImageFont.truetype(fonts / "DejaVuSans.ttf", 11 * SHARPER)
    bold = ImageFont.truetype(fonts / "DejaVuSans-Bold.ttf", 12 * SHARPER)
    for shape in shapes(present):
        match shape:
            case Box(x, y, width, height, kind):
                corners = [SHARPER * n for n in (x, y, x + width - 1, y + height - 1)]
                thick = {"page": 0, "here": 4}.get(kind, 1)
                pen.rounded_rectangle(corners, 6 * SHARPER, LIGHT[kind], "#1a1a1a", thick)
            case Words(x, y, text, kind):
                ink, anchor = (
                    "#ffffff" if kind == "inside" else "#1a1a1a",
                    "ms" if kind in ("label", "inside") else "ls",
                )
                font = bold if kind == "heading" else plain
                pen.text((x * SHARPER, y * SHARPER), text, ink, font, anchor)
            case Line(x, y, length):
                pen.line([SHARPER * n for n in (x, y, x + length, y)], "#555555")
    return picture.quantize(32, dither=Image.Dither.NONE)


def map_path(pair: Pair) -> Path:
    """Where the picture of a chapter lies; the PNG stands beside it."""
    return pair.notebook.parent / "images" / f"map_{pair.number}.svg"


def map_is_current(pair: Pair) -> bool:
    """Whether both pictures are those of today; the PNG keeps the SVG that it was painted for."""
    path, drawn = map_path(pair), draw_map(pair)
    png = path.with_suffix(".png")
    if not path.exists() or not png.exists() or path.read_text("utf-8") != drawn:
        return False
    with Image.open(png) as picture:
        return picture.info.get("svg") == fingerprint(drawn)


def fingerprint(drawn: str) -> str:
    """What a PNG keeps of its SVG, since its own bytes depend on the version of Pillow."""
    return hashlib.sha256(drawn.encode()).hexdigest()[:16]


def write_map(pair: Pair) -> None:
    """Write the pictures of a chapter; solutions have none."""
    if pair.is_solution or map_is_current(pair):
        return
    path, drawn, kept = map_path(pair), draw_map(pair), PngInfo()
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as file:
        file.write(drawn)
    kept.add_text("svg", fingerprint(drawn))
    with write_atomically(path.with_suffix(".png")) as file:
        paint_map(pair).save(file.buffer, "PNG", optimize=True, pnginfo=kept)
