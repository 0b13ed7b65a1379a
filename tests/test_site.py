"""`course site`: pages whose links lead somewhere, and a search that works without a server."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from test_browser import chromium, wait_for

from course_lib.authoring import site
from course_lib.authoring.tree import select

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[1]


class Page(HTMLParser):
    """What a page holds: targets of links and pictures, anchors, and which tags."""

    def __init__(self, path: Path):
        super().__init__()
        self.targets, self.anchors, self.tags = [], set(), set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.add(tag)
        self.targets += [given[key] for key in ("href", "src") if given.get(key)]
        self.anchors |= {given.get("id")}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site of two chapters, of their solutions and of all documents, in a copy of what it is made of."""
    root = tmp_path_factory.mktemp("course")
    for path in CHECKOUT.glob("[!.]*"):
        if path.name != "site":
            (root / path.name).symlink_to(path)
    pairs = select(["07", "08", "solutions/07", "solutions/08"], root)
    assert re.search(r"wrote \d+ pages, .* MB of them for the search", site.build(pairs, root))
    return root / "site"


@pytest.fixture(scope="module")
def pages(built):
    return {path: Page(path) for path in built.rglob("*.html")}


def test_every_relative_link_leads_to_a_file_and_an_anchor_of_the_site(built, pages):
    assert {"index.html", "notebooks/07_attention.html", "notebooks/solutions/07_attention_solutions.html"} <= {
        path.relative_to(built).as_posix() for path in pages
    }
    followed = 0
    for path, page in pages.items():
        for target in page.targets:
            if re.match("[a-z]+:", target):
                continue
            to, _, anchor = target.partition("#")
            file = (path.parent / unquote(to)).resolve() if to else path
            assert file.is_file(), f"{path.name} leads to {target}"
            followed += 1
            if anchor and file in pages:
                assert {anchor, unquote(anchor)} & pages[file].anchors, f"{path.name} leads to {target}"
    assert followed > 100


def test_anchors_of_documents_are_those_that_github_makes(built, pages):
    assert {"an-nvidia-gpu", "colab", "when-something-is-wrong"} <= pages[built / "docs" / "machines.html"].anchors
    assert "part-i--a-gpt-in-a-weekend" in pages[built / "index.html"].anchors


def test_chapters_lead_to_the_one_before_and_the_next(built, pages):
    before, after = (pages[built / "notebooks" / f"{name}.html"].targets for name in ("07_attention", "08_gpt"))
    assert "08_gpt.html" in before and "../index.html" in before and "07_attention.html" in after
    assert "notebooks/07_attention.html" in pages[built / "index.html"].targets


def test_links_to_notebooks_lead_to_pages_and_to_github_when_there_is_no_page(built, pages):
    targets = pages[built / "index.html"].targets
    assert "notebooks/08_gpt.html" in targets
    assert "https://github.com/OWNER/microgpt-to-nanochat/blob/main/notebooks/09_muon.ipynb" in targets
    assert "https://github.com/OWNER/microgpt-to-nanochat/tree/main/notebooks/solutions" in targets


def test_formulas_need_no_script_and_outputs_are_there(built, pages):
    page = (built / "notebooks" / "07_attention.html").read_text("utf-8")
    assert "math" in pages[built / "notebooks" / "07_attention.html"].tags and "data:image/png" in page
    prose = re.sub(r"<pre.*?</pre>|<code.*?</code>|<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"\$[^$\n]{1,60}\$", prose), "a formula was left as it is written"


def test_the_search_index_finds_a_section_by_its_words(built, pages):
    text = (built / "search.js").read_text("utf-8")
    index = json.loads(text.removeprefix("const INDEX = ").rstrip().removesuffix(";"))
    found = [url for url, title, heading, _ in index if title.startswith("07") and "QK norm" in heading]
    assert found
    for url, *_ in index:
        file, _, anchor = url.partition("#")
        assert anchor in pages[built / file].anchors, url


def test_a_reader_searches_in_a_page_opened_as_a_file_in_light_and_in_dark(built):
    from playwright.sync_api import sync_playwright

    papers = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(playwright), args=["--no-sandbox", "--disable-gpu"]
        )
        for scheme in ("light", "dark"):
            page = browser.new_page(color_scheme=scheme, viewport={"width": 500, "height": 800})
            page.goto((built / "notebooks" / "08_gpt.html").as_uri())
            papers.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert page.evaluate("document.documentElement.scrollWidth") <= 500, "a narrow window scrolls sideways"
        page.fill("#query", "qk NORM")
        first = page.locator("#found a").first
        first.wait_for(timeout=60_000)
        assert "QK norm" in first.inner_text()
        first.click()
        wait_for(lambda: "07_attention.html#" in page.url, seconds=60)
        browser.close()
    assert papers[0] == "rgb(255, 255, 255)" and papers[1] != papers[0]
