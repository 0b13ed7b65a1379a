"""The course as web pages that need no server: chapters, solutions and documents, with a search."""

import html
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from string import Template
from urllib.parse import unquote

from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

from course_lib.authoring.address import repository
from course_lib.authoring.tree import Pair, read_notebook
from course_lib.host.files import write_atomically

DOCUMENTS = ("README.md", "docs/*.md", "CONTRIBUTING.md", "data/README.md", "dev/LOG.md")
HEADING = re.compile(r'<h([1-4]) id="([^"]*)">(.*?)(?:<a class="anchor-link".*?</a>)?</h\1>', re.DOTALL)
LINK = re.compile(r'\b(href|src)="([^":#?]+)(#[^"]*)?"')  # a relative one
PICTURES = (".svg", ".png")
TEMPLATE = Path(__file__).with_name("site.html")


class _Renderer(IPythonRenderer):
    """Markdown as GitHub has it, and formulas as MathML, for which a browser needs no script."""

    def block_math(self, body: str) -> str:
        return convert(body, display="block")

    def inline_math(self, body: str) -> str:
        return convert(body)


class _DocumentRenderer(_Renderer):
    """With GitHub's anchors, which the links in documents name; those in notebooks are JupyterLab's."""

    def heading(self, text: str, level: int, **attrs) -> str:
        words = re.sub(r"<[^>]+>|[^\w\s-]", "", html.unescape(text)).strip().lower()
        return f'<h{level} id="{words.replace(" ", "-")}">{text}</h{level}>\n'


def build(pairs: list[Pair], root: Path) -> str:
    """Write the pages of `pairs` and of all documents into site/, which is made anew; the line to print."""
    folder = root / "site"
    shutil.rmtree(folder, ignore_errors=True)
    documents = [path for pattern in DOCUMENTS for path in sorted(root.glob(pattern))]
    chapters = [pair.notebook for pair in pairs if not pair.is_solution]
    pages = {path: _address(path.relative_to(root)) for path in [*documents, *(pair.notebook for pair in pairs)]}
    template, index = Template(TEMPLATE.read_text("utf-8")), []
    by_notebook = {pair.notebook: pair for pair in pairs}
    for path, address in pages.items():
        body, prose = _notebook(by_notebook[path]) if path in by_notebook else _document(path)
        sections = list(_sections(prose))
        title = sections[0][2] if sections else path.stem
        index += [[f"{address}#{anchor}", title, heading, text] for _, anchor, heading, text in sections]
        listed = [f'<a href="#{anchor}">{html.escape(name)}</a>' for level, anchor, name, _ in sections if level == "2"]
        body = LINK.sub(lambda link, path=path: _relinked(link, path, pages, root), body)
        steps = [
            f'<a href="{_relative(path, pages[to], root)}">{word}</a>' for to, word in _steps(path, chapters, root)
        ]
        page = template.substitute(
            title=html.escape(title),
            up=_relative(path, ".", root),
            steps="".join(steps),
            contents="".join(listed),
            body=body,
        )
        _write(folder / address, page)
    _write(folder / "search.js", f"const INDEX = {json.dumps(index, ensure_ascii=False)};\n")
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
    _write(folder / "code.css", f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    search = (folder / "search.js").stat().st_size
    sizes = f"{size / 1e6:.1f} MB, {search / 1e6:.2f} MB of them for the search"
    return f"wrote {len(pages)} pages, {sizes}; open site/index.html"


def _address(path: Path) -> str:
    return "index.html" if path == Path("README.md") else path.with_suffix(".html").as_posix()


def _steps(path: Path, chapters: list[Path], root: Path) -> Iterator[tuple[Path, str]]:
    """The pages before and after one, each with the words of its link; the README stands before the first chapter."""
    row = [root / "README.md", *chapters]
    if path in row:
        at = row.index(path)
        if at:
            yield row[at - 1], f"← {row[at - 1].stem.replace('_', ' ') if at > 1 else 'contents'}"
        if at + 1 < len(row):
            yield row[at + 1], f"{row[at + 1].stem.replace('_', ' ')} →"


def _relative(path: Path, address: str, root: Path) -> str:
    """The way from the page of `path` to an address of the site."""
    return Path(os.path.relpath(address, path.relative_to(root).parent)).as_posix()


def _notebook(pair: Pair) -> tuple[str, str]:
    """The page of a notebook, and its prose alone, both HTML."""
    prose = []

    def markdown(source: str) -> str:
        prose.append(MarkdownWithMath(renderer=_Renderer(escape=False)).render(source))
        return prose[-1]

    exporter = HTMLExporter(template_name="basic")
    exporter.register_filter("markdown2html", markdown)
    body, _ = exporter.from_notebook_node(read_notebook(pair))
    return body, "\n".join(prose)


def _document(path: Path) -> tuple[str, str]:
    page = MarkdownWithMath(renderer=_DocumentRenderer(escape=False)).render(path.read_text("utf-8"))
    return page, page


def _sections(prose: str) -> Iterator[tuple[str, str, str, str]]:
    """(level, anchor, heading, text) of each section, as plain text."""
    _, *parts = HEADING.split(prose)
    for level, anchor, heading, text in zip(*(parts[n::4] for n in range(4)), strict=True):
        plain = (html.unescape(re.sub(r"<[^>]+>", " ", part)) for part in (heading, text))
        yield level, anchor, *(" ".join(part.split()) for part in plain)


def _relinked(link: re.Match, path: Path, pages: dict[Path, str], root: Path) -> str:
    """A link inside the course: to a page of the site, to a picture that comes along, or to the file on GitHub."""
    kind, target, anchor = link.groups("")
    file = Path(os.path.normpath(path.parent / unquote(target)))
    if file in pages:
        return f'{kind}="{_relative(path, pages[file], root)}{anchor}"'
    if not file.is_relative_to(root) or not file.exists():
        return link[0]
    if file.suffix in PICTURES:
        file = file.with_suffix(".svg") if file.with_suffix(".svg").exists() else file  # it follows light and dark
        copy = root / "site" / file.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
        return f'{kind}="{Path(target).with_suffix(file.suffix).as_posix()}"'
    inside = file.relative_to(root)
    return f'{kind}="{repository(root)}/{"tree" if file.is_dir() else "blob"}/main/{inside.as_posix()}{anchor}"'


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as file:
        file.write(text)
