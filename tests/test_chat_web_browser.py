"""The page of the chat, in a real browser."""

import json
import re
import shlex
import shutil
import subprocess

import httpx
import pytest
from chat_models import ANSWERS, ATTACK, taught, writes_letters
from test_browser import chromium
from waiting import wait_for

from course_lib.chat.calculator import use_calculator
from course_lib.serve.api import ChatSettings
from course_lib.serve.app import create_app
from course_lib.serve.transport import serve

pytestmark = pytest.mark.slow

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
WAIT = 60_000  # milliseconds: far more than anything here takes


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(playwright), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address():
    app = create_app(*taught(), ChatSettings(name="taught", temperature=0, tool=use_calculator))
    with serve(app) as address:
        yield address


@pytest.fixture(scope="module")
def babbling():
    """The address of a server whose replies take seconds."""
    tokenizer = taught()[1]
    app = create_app(writes_letters(tokenizer, 4096, 4), tokenizer, ChatSettings(max_tokens=4096))
    with serve(app) as address:
        yield address


class Page:
    """The page, what it has asked for, and what went wrong in it."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT)
        self.asked, self.errors = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        self.page.goto(address)

    def button(self, name):
        return self.page.get_by_role("button", name=name, exact=True)

    def send(self, text):
        self.page.get_by_label("Your message", exact=True).fill(text)
        self.page.keyboard.press("Enter")

    def ask(self, text):
        """Send it, and wait for the end of the reply."""
        self.send(text)
        self.done()
        return self.reply

    def done(self):
        self.page.locator("#log[aria-busy=false] .assistant").last.wait_for()
        self.button("Send").wait_for()

    @property
    def reply(self):
        return self.page.locator(".assistant .body").last.inner_text()

    def messages(self):
        return self.page.locator(".message .body").all_inner_texts()


@pytest.fixture
def open_page(browser, address):
    pages = []

    def opened(**options):
        pages.append(Page(browser, address, **options))
        return pages[-1]

    yield opened
    for page in pages:
        page.context.close()


def test_a_reply_streams(browser, babbling):
    page, seen = Page(browser, babbling), set()
    page.send("Hi")
    page.page.locator(".assistant .body").wait_for()
    wait_for(lambda: seen.add(len(page.reply)) or len(seen) > 3)
    assert page.page.locator("#stop").is_visible(), "it grew before its end"
    page.button("Stop").click()
    page.done()
    page.context.close()


def test_nothing_leaves_the_machine(open_page, address):
    page = open_page()
    assert page.ask("Count") == ANSWERS["Count"]
    assert page.ask("x")  # a second turn, of which the model knows nothing
    assert page.asked and all(url.startswith(address) for url in page.asked), page.asked
    assert page.errors == []


def test_stop_ends_the_reply_and_frees_its_row(browser, babbling):
    page = Page(browser, babbling)
    for by_key in (False, True):
        before = httpx.get(f"{babbling}/stats").json()["tokens"]
        page.send("Hi")
        page.page.locator(".assistant .body", has_text=re.compile(r"\w")).last.wait_for()
        page.page.keyboard.press("Escape") if by_key else page.button("Stop").click()
        page.done()
        assert page.page.locator(".note").all_inner_texts()[-1] == "Stopped."
        wait_for(lambda: not httpx.get(f"{babbling}/stats").json()["running"])
        assert httpx.get(f"{babbling}/stats").json()["tokens"] - before < 4000, "it was written to its end"
    assert page.errors == []
    page.context.close()


def test_regenerate_edit_copy_and_clear(open_page):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    assert page.ask("Hi") == ANSWERS["Hi"]
    page.button("Regenerate").click()
    page.done()
    assert page.messages() == ["Hi", ANSWERS["Hi"]]
    page.button("Copy").last.click()
    assert page.page.evaluate("navigator.clipboard.readText()") == ANSWERS["Hi"]
    page.button("Edit").click()
    area = page.page.get_by_label("Edit your message")
    assert area.input_value() == "Hi"
    page.page.keyboard.press("Escape")
    assert page.messages() == ["Hi", ANSWERS["Hi"]]
    page.button("Edit").click()
    area.fill("Smile")
    page.button("Send again").click()
    page.done()
    assert page.messages() == ["Smile", ANSWERS["Smile"]]
    page.button("New chat").click()
    assert page.messages() == []
    assert page.errors == []


def test_what_a_model_writes_stays_text(open_page):
    page = open_page()
    assert page.ask("Attack") == ATTACK
    assert page.page.title() == "Chat"
    assert page.page.locator("#log img, #log script").count() == 0
    page.button("New chat").click()
    page.ask("Lists")
    body = page.page.locator(".assistant .body")
    assert body.get_by_role("heading", name="Fruit").count() == 1
    assert body.locator("li strong").inner_text() == "apple"
    assert body.locator("li code").inner_text() == "pear"
    assert body.locator("pre").inner_text() == "print(1)"
    assert [link.get_attribute("href") for link in body.get_by_role("link").all()] == ["https://example.org/"]
    assert "[bad](javascript:alert(1))" in body.inner_text()
    assert page.errors == []


NAME = "(document.activeElement.labels?.[0] ?? document.activeElement).textContent.trim()"
HOSTILE = [
    "<script>window.owned = 1</script>",
    '<img src=x onerror="window.owned = 1">',
    "[a](javascript:window.owned=1)",
    "[a](JaVaScRiPt:window.owned=1)",
    "[a](java\nscript:window.owned=1)",
    "[a](data:text/html,<script>alert(1)</script>)",
    "[a](vbscript:x) [b](file:///etc/passwd)",
    "![a](https://evil.example/x.png)",
    "`<svg onload=window.owned=1>`",
    "```html\n<iframe src=javascript:window.owned=1>\n```",
    "| <b>a</b> | b |\n|---|---|\n| <img src=x onerror=window.owned=1> | c |",
    "# <style>*{display:none}</style>",
    '[a](https://x.example/"onmouseover="window.owned=1)',
    "**" * 2000,
    "> " * 500 + "x",
    "[" * 3000,
    "- " * 500 + "x",
    "`" * 3001,
    "*a " * 1000,
]


def test_no_markdown_makes_anything_but_harmless_elements(open_page):
    page = open_page()
    page.page.evaluate("""async () => { window.markdown = (await import("./markdown.js")).markdown; }""")
    for text in HOSTILE:
        found = page.page.evaluate(
            """(text) => {
              const body = document.createElement("div");
              const start = performance.now();
              body.append(...window.markdown(text));
              document.querySelector("#log").append(body);
              const all = [...body.querySelectorAll("*")];
              return {
                names: all.map((node) => node.localName),
                attributes: all.flatMap((node) => [...node.attributes].map((attribute) => attribute.name)),
                links: all.filter((node) => node.href).map((node) => node.protocol),
                milliseconds: performance.now() - start,
              };
            }""",
            text,
        )
        allowed = "p h2 h3 h4 ul ol li pre code strong em del a br hr blockquote div table thead tbody tr th td"
        assert set(found["names"]) <= set(allowed.split()), (text[:60], found)
        assert set(found["attributes"]) <= {"href", "target", "rel", "class", "tabindex", "start"}, (text[:60], found)
        assert set(found["links"]) <= {"http:", "https:", "mailto:"}, (text[:60], found)
        assert found["milliseconds"] < 2000, (text[:60], found["milliseconds"])
    assert page.page.evaluate("window.owned") is None
    assert page.errors == []


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a **b** *c* `d` _e_ ~~f~~", "<p>a <strong>b</strong> <em>c</em> <code>d</code> <em>e</em> <del>f</del></p>"),
        ("2*3*4 and snake_case_name", "<p>2*3*4 and snake_case_name</p>"),
        ("a\nb\n\nc", "<p>a<br>b</p><p>c</p>"),
        ("- a\n- b\n  - c", "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>"),
        ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
        ("```py\n<a>\n\n**b**", '<pre tabindex="0"><code>&lt;a&gt;\n\n**b**</code></pre>'),
        ("> a\n> b", "<blockquote><p>a<br>b</p></blockquote>"),
        ("`**a**`", "<p><code>**a**</code></p>"),
        ("# a\nb\n---", "<h2>a</h2><p>b</p><hr>"),
        ("a < b & c", "<p>a &lt; b &amp; c</p>"),
    ],
)
def test_markdown_is_shown_as_it_is_meant(open_page, text, html):
    page = open_page()
    page.page.evaluate("""async () => { window.markdown = (await import("./markdown.js")).markdown; }""")
    made = page.page.evaluate(
        """(text) => {
          const body = document.createElement("div");
          body.append(...markdown(text));
          return body.innerHTML;
        }""",
        text,
    )
    assert made == html


def test_a_tool_call_is_a_block_and_goes_back_as_it_was(open_page):
    page = open_page()
    page.ask("6*7?")
    tool = page.page.locator(".assistant .tool")
    assert tool.locator("code").all_inner_texts() == ["6*7", "= 42"]
    with page.page.expect_request("**/chat/completions") as request:
        page.send("Hi")
    sent = request.value.post_data_json["messages"]
    assert sent[1]["content"][1:3] == [{"type": "python", "text": "6*7"}, {"type": "python_output", "text": "42"}]
    page.done()


def test_settings_are_checked_and_sent(open_page):
    page = open_page()
    page.button("Settings").click()
    for label, value in {
        "System message": "Be kind.",
        "Temperature": "0.5",
        "Top-k": "5",
        "Top-p": "0.9",
        "Tokens of a reply": "7",
        "Seed": "3",
    }.items():
        page.page.get_by_label(label).fill(value)
    page.page.get_by_label("Temperature").fill("7")
    page.button("Done").click()
    assert "Temperature" in page.page.get_by_role("alert").inner_text()
    page.page.get_by_label("Temperature").fill("0.5")
    page.button("Done").click()
    with page.page.expect_request("**/chat/completions") as request:
        page.send("Hi")
    sent = request.value.post_data_json
    assert sent.pop("messages")[0] == {"role": "system", "content": "Be kind."}
    assert sent.pop("stream") is True and sent.pop("stream_options") == {"include_usage": True}
    assert sent == {"temperature": 0.5, "top_k": 5, "top_p": 0.9, "max_tokens": 7, "seed": 3}
    page.done()
    assert "Cut off" in page.page.locator(".note").inner_text()


def test_in_a_low_window_the_end_of_the_last_reply_is_seen(open_page):
    page = open_page(viewport={"width": 600, "height": 420})
    for _ in range(3):
        page.ask("Lists")
        last = page.button("Copy").last.bounding_box()
        frame = page.page.locator("#scroll").bounding_box()
        assert frame["y"] <= last["y"] and last["y"] + last["height"] <= frame["y"] + frame["height"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_page_without_scrolling_sideways(open_page, scheme):
    page = open_page(viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True)
    page.ask("Lists")
    page.ask("x" * 300)
    page.button("Settings").click()
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.page.evaluate("document.querySelector('#scroll').scrollWidth") <= 390
    dark = page.page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")


def test_every_control_has_a_name_and_is_reached_by_tab(open_page):
    page = open_page()
    page.ask("Hi")
    page.page.get_by_label("Your message", exact=True).focus()
    names = []
    for _ in range(12):
        page.page.keyboard.press("Tab")
        names.append(page.page.evaluate(NAME))
    assert {"New chat", "Settings", "Copy", "Edit", "Regenerate", "Send"} <= set(names), names
    unnamed = page.page.evaluate(
        "[...document.querySelectorAll('button, input, textarea')].filter((node) =>"
        " !node.textContent.trim() && !node.labels?.length && !node.ariaLabel).length"
    )
    assert unnamed == 0


def test_contrast_is_enough_in_both_schemes(open_page):
    for scheme in ("light", "dark"):
        page = open_page(color_scheme=scheme)
        page.ask("6*7?")
        low = page.page.evaluate(
            """() => {
              const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
              const light = (color) => {
                const linear = (n) => n <= 0.03928 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4;
                const [r, g, b] = numbers(color).map((n) => linear(n / 255));
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
              };
              const behind = (node) => {
                for (; node; node = node.parentElement) {
                  const color = getComputedStyle(node).backgroundColor;
                  if ((numbers(color)[3] ?? 1) > 0) return color;
                }
              };
              return [...document.querySelectorAll("body *")]
                .filter((node) => node.offsetParent && !node.disabled)
                .filter((node) => [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
                .map((node) => {
                  const pair = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => b - a);
                  return [node.textContent.trim().slice(0, 20), (pair[0] + 0.05) / (pair[1] + 0.05)];
                })
                .filter(([, ratio]) => ratio < 4.5);
            }"""
        )
        assert low == [], (scheme, low)


def test_the_page_asks_for_a_key_and_keeps_it_out_of_the_address(browser):
    app = create_app(*taught(), ChatSettings(name="taught", temperature=0, api_key="sesame"))
    with serve(app) as address:
        page = Page(browser, address)
        page.send("Hi")
        page.page.get_by_label("This server wants a key").fill("sesame")
        page.page.keyboard.press("Enter")
        page.done()
        assert page.messages() == ["Hi", ANSWERS["Hi"]]
        assert not any("sesame" in url for url in page.asked)
        page.context.close()


def test_a_server_that_is_gone_is_told_in_a_sentence_and_the_page_goes_on(browser):
    app = create_app(*taught(), ChatSettings(temperature=0))
    with serve(app) as address:
        page = Page(browser, address)
        page.ask("Hi")
    page.ask("Smile")
    assert "cannot be reached" in page.page.get_by_role("alert").last.inner_text()
    assert page.button("Regenerate").is_visible()
    page.context.close()


PUMPS = """async () => {
  const { markdown } = await import("/markdown.js");
  const spent = (text) => { const start = performance.now(); markdown(text); return performance.now() - start; };
  const starts = ["", "# a", "- ", "1. ", "```", "~~~", "| a |\\n|", "> ", "a ", "**a", "- - -", "[a](b", "*a* "];
  const units = [..."`*_~[]()!#-+>|:. \\t1a\\n", "a ", "* ", "*a", "*a ", "**a ", "_a ", "~~a ", "`a ", "``a` ", "[a",
    "[a](", "[a](b", "(a)", "| ", "-|", "- ", "-:", " #", "|\\n", "|a|-\\n", "- a\\n", " - a\\n", "> ", "*a*", "`a`"];
  const ends = ["", "x", "`", "*", "](b)", "\\u2028x", "\\n|-|-"];
  const cases = starts.flatMap((a) => units.flatMap((b) => ends.map((c) => [a, b, c])));
  const made = ([a, b, c], length) => a + b.repeat(length / b.length) + c;
  const slow = cases.map((each) => [spent(made(each, 500)), each]).sort((x, y) => y[0] - x[0]).slice(0, 60);
  for (const length of [2000, 8000, 32000]) {
    for (const [, each] of slow) {
      const ms = spent(made(each, length));
      if (ms > 2000) return [each, length, ms];
    }
  }
  return null;
}"""


def test_no_text_takes_the_page_longer_than_its_length(open_page):
    """32,000 characters of every kind that a pattern of markdown.js looks for; quadratic time would be many seconds."""
    page = open_page()
    assert page.page.evaluate(PUMPS) is None


def test_markdown_is_read_as_ever(open_page):
    page = open_page()
    html = """async (text) => {
      const { markdown } = await import("/markdown.js");
      const box = document.createElement("div");
      box.append(...markdown(text));
      return box.innerHTML;
    }"""
    link = '<a href="https://a.example/" target="_blank" rel="noopener noreferrer">{}</a>'
    for text, inside in {
        "a **b** *c* _d_ ~~e~~ `f`": "a <strong>b</strong> <em>c</em> <em>d</em> <del>e</del> <code>f</code>",
        "**a *b* c** d": "<strong>a <em>b</em> c</strong> d",
        "2*3*4 a_b_c * d * **": "2*3*4 a_b_c * d * **",
        "*a **b** c": "*a <strong>b</strong> c",
        "`` a`b `` ``c`": "<code>a`b</code> ``c`",
        "[*a*](https://a.example/) ![a](https://a.example/) [b](javascript:x) [c] [d](": link.format("<em>a</em>")
        + " ![a](https://a.example/) [b](javascript:x) [c] [d](",
        "[](https://a.example/)": link.format("https://a.example/"),
    }.items():
        assert page.page.evaluate(html, text) == f"<p>{inside}</p>", text
    for text, whole in {
        "# a #": "<h2>a</h2>",
        "## C# ##": "<h3>C#</h3>",
        "-\n- a\n- b": "<p>-</p><ul><li>a</li><li>b</li></ul>",
        "- a\n  - b\n- c": "<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>",
        "3. a\n4. b": '<ol start="3"><li>a</li><li>b</li></ol>',
        "~~~js\na\n~~~": '<pre tabindex="0"><code>a</code></pre>',
        "- - -": "<hr>",
        "|a|b|\n|-|:-:|\n|1|": '<div class="table" tabindex="0"><table><thead><tr><th>a</th><th>b</th></tr></thead>'
        "<tbody><tr><td>1</td></tr></tbody></table></div>",
    }.items():
        assert page.page.evaluate(html, text) == whole, text


# ---- several models, the tool call as it streams, speed, curl

SCRIPTED = """() => {
  const encoder = new TextEncoder();
  window.fetch = async () => new Response(new ReadableStream({ start: (stream) => (window.stream = stream) }));
  window.push = (delta, finish_reason = null) => {
    const chunk = JSON.stringify({ choices: [{ index: 0, delta, finish_reason }] });
    window.stream.enqueue(encoder.encode(`data: ${chunk}\\n\\n`));
  };
}"""


def test_a_tool_call_grows_while_it_is_written(open_page):
    page = open_page()
    page.page.evaluate(SCRIPTED)
    page.send("6*7?")
    page.page.wait_for_function("window.stream")
    tool = page.page.locator(".assistant .tool")
    for delta, codes, is_open in [
        ({"python": "6*"}, ["6*"], True),
        ({"python": "7"}, ["6*7"], True),
        ({"python_output": "4"}, ["6*7", "= 4"], False),
        ({"python_output": "2"}, ["6*7", "= 42"], False),
        ({"content": "42"}, ["6*7", "= 42"], False),
    ]:
        page.page.evaluate("(delta) => push(delta)", delta)
        wait_for(lambda codes=codes: tool.locator("code").all_inner_texts() == codes)
        assert ("open" in tool.get_attribute("class")) == is_open, delta
    page.page.evaluate("push({}, 'stop')")
    page.page.evaluate("stream.close()")
    page.done()
    assert page.reply.endswith("42") and page.errors == []


def test_a_call_without_a_result_says_so_when_it_is_over(open_page):
    page = open_page()
    page.page.evaluate(SCRIPTED)
    page.send("6*7?")
    page.page.wait_for_function("window.stream")
    page.page.evaluate("push({ python: 'import os' }); push({ content: 'I cannot.' }, 'stop'); stream.close()")
    page.done()
    assert page.page.locator(".tool").inner_text().split("\n") == ["calculator", "import os", "no result"]


def test_a_connection_that_ends_before_the_reply_does_is_an_error(open_page):
    page = open_page()
    page.page.evaluate(SCRIPTED)
    page.send("Hi")
    page.page.wait_for_function("window.stream")
    page.page.evaluate("push({ content: 'Hel' }); stream.close()")
    page.done()
    assert "connection ended" in page.page.get_by_role("alert").last.inner_text()


def test_the_speed_of_a_reply_is_told(open_page):
    page = open_page()
    page.ask("Count")
    words = page.page.locator(".speed").inner_text()
    tokens, seconds, rate = map(float, re.fullmatch(r"(\d+) tokens in ([\d.]+) s, ([\d.]+) tokens/s", words).groups())
    assert tokens > 80 and rate == pytest.approx(tokens / seconds, rel=0.1)


@pytest.fixture(scope="module")
def two_models():
    """The address of a server with a second model, and how often that was loaded."""
    loaded = []
    others = {"also-taught": lambda: loaded.append(1) or taught()}
    settings = ChatSettings(name="taught", temperature=0, tool=use_calculator)
    with serve(create_app(*taught(), settings, others)) as address:
        yield address, loaded


def test_one_model_is_named_and_several_can_be_picked(open_page, browser, two_models):
    page = open_page()
    page.ask("Hi")
    assert page.page.locator("#model").inner_text() == "taught" and not page.page.locator("#models").is_visible()
    assert page.page.locator(".assistant .who").inner_text() == "Model"
    page.context.close()
    address, loaded = two_models
    page = Page(browser, address)
    picker = page.page.get_by_label("Choose the model")
    picker.wait_for()
    assert picker.locator("option").all_inner_texts() == ["taught", "also-taught"]
    assert page.ask("Hi") == ANSWERS["Hi"] and not loaded
    picker.select_option("also-taught")
    with page.page.expect_request("**/chat/completions") as request:
        page.send("6*7?")
    assert request.value.post_data_json["model"] == "also-taught"
    page.done()
    assert loaded == [1] and page.page.locator(".assistant .who").all_inner_texts() == ["taught", "also-taught"]
    assert page.errors == []
    page.context.close()


def test_the_picker_is_reached_by_keyboard_and_fits_a_phone(browser, two_models):
    page = Page(browser, two_models[0], viewport={"width": 360, "height": 740}, has_touch=True)
    page.page.get_by_label("Choose the model").wait_for()
    page.page.get_by_label("Your message", exact=True).focus()
    for _ in range(8):
        page.page.keyboard.press("Tab")
        if page.page.evaluate("document.activeElement.id") == "models":
            break
    page.page.keyboard.press("ArrowDown")
    assert page.page.locator("#models").input_value() == "also-taught"
    page.ask("6*7?")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.button("New chat").bounding_box()["x"] >= page.page.locator("#models").bounding_box()["x"]
    page.context.close()


def test_a_model_that_is_gone_is_told_and_the_list_is_asked_for_again(browser, two_models):
    page = Page(browser, two_models[0])
    page.page.get_by_label("Choose the model").wait_for()
    page.page.evaluate("""() => {
      const option = document.createElement("option");
      option.textContent = "gone";
      document.querySelector("#models").append(option);
      document.querySelector("#models").value = "gone";
    }""")
    page.ask("Hi")
    assert "no model 'gone'" in page.page.get_by_role("alert").last.inner_text()
    wait_for(lambda: page.page.locator("#models").input_value() == "taught")
    page.context.close()


def test_the_last_request_is_copied_as_a_command_that_works(browser, two_models):
    page = Page(browser, two_models[0], permissions=["clipboard-read", "clipboard-write"])
    page.page.get_by_label("Choose the model").wait_for()
    text = 'It\'s `$HOME` and \\ "this"\n; echo $(id)'
    page.ask(text)
    page.button("Copy as curl").click()
    command = page.page.evaluate("navigator.clipboard.readText()")
    words = shlex.split(command.replace("\\\n", ""))
    sent = json.loads(words[-1])
    assert words[:3] == ["curl", "-N", f"{two_models[0]}/v1/chat/completions"]
    assert sent["messages"] == [{"role": "user", "content": [{"type": "text", "text": text.strip()}]}]
    assert sent["model"] == "taught"
    if shutil.which("curl"):
        done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60, check=True)
        assert done.stdout.decode().rstrip().endswith("data: [DONE]")
    page.context.close()


def test_the_command_holds_no_key(browser):
    app = create_app(*taught(), ChatSettings(name="taught", temperature=0, api_key="sesame"))
    with serve(app) as address:
        page = Page(browser, address, permissions=["clipboard-read", "clipboard-write"])
        page.send("Hi")
        page.page.get_by_label("This server wants a key").fill("sesame")
        page.page.keyboard.press("Enter")
        page.done()
        page.button("Copy as curl").click()
        command = page.page.evaluate("navigator.clipboard.readText()")
        assert "sesame" not in command and "Bearer $COURSE_API_KEY" in command
        page.context.close()
