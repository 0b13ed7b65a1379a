"""The documentation of the running Python: the same texts each time, prose only, or one sentence when it is missing."""

import builtins
import hashlib
import os
import subprocess
import sys

import pytest

from course_lib.data import python_docs
from course_lib.host.errors import CourseError

pytestmark = pytest.mark.slow

DIGEST = """
import hashlib
from course_lib.data.python_docs import documents
print(hashlib.sha256("\\0".join(documents()).encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return python_docs.documents()


def test_another_process_finds_the_same_texts(texts, tmp_path):
    environment = {**os.environ, "PYTHONHASHSEED": "7", "COLUMNS": "40", "LANG": "C"}
    done = subprocess.run([sys.executable, "-c", DIGEST], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stderr == "" and done.stdout.strip() == hashlib.sha256("\0".join(texts).encode()).hexdigest()


def test_it_is_a_few_hundred_texts_of_real_prose(texts):
    assert len(texts) > 400 and sum(map(len, texts)) > 2_000_000
    assert len(set(texts)) == len(texts), "no text twice"
    for text in texts:
        heading, body = text.split("\n\n", 1)
        assert heading.strip() and body.strip() and text.endswith("\n") and text.encode()
    assert any(text.startswith("json\n\nJSON (JavaScript Object Notation)") for text in texts)
    assert any(text.startswith("math\n\n") and "Return the cosine of x" in text for text in texts)
    assert any(text.startswith('for\n\nThe "for" statement') for text in texts)


def test_tests_and_machine_files_are_left_out(texts):
    headings = [text.split("\n", 1)[0] for text in texts]
    for part in ("test", "tests", "idle_test", "site-packages", "turtledemo", "__pycache__"):
        assert not [heading for heading in headings if part in heading.split(".")]
    assert not [heading for heading in headings if heading.startswith(("_sysconfigdata", "_test", "_xx", "xx"))]
    assert "unittest" in headings and "test.support" not in headings


def test_no_docstring_of_a_number_is_repeated(texts):
    about_int = "If x is not a number or if base is given, then x must be a string"
    assert sum(text.count(about_int) for text in texts) <= 1


def test_what_a_notebook_puts_into_sys_and_builtins_is_not_collected(texts, monkeypatch):
    def hook(prompt=""):
        """Of a notebook."""

    for owner, name in ((sys, "displayhook"), (sys, "excepthook"), (builtins, "input"), (builtins, "get_ipython")):
        monkeypatch.setattr(owner, name, hook, raising=False)
    found = [text for text in python_docs._compiled_texts() if text]
    assert len(found) > 50 and found == texts[-len(found) :]


def test_no_address_of_an_object_is_in_a_text(texts):
    assert not [text[:40] for text in texts if " object at 0x7" in text]


def test_a_docstring_stands_under_its_signature(tmp_path):
    source = tmp_path / "module.py"
    source.write_text(
        '"""About the module."""\n'
        'class Shape:\n    """A shape."""\n    def area(self, *, scale=1.0) -> float:\n        """Its area."""\n'
        "    def silent(self): pass\n"
        'async def wait(seconds: int, /): "Wait."\n'
    )
    found = python_docs._module_text("geometry", source)
    assert found == (
        "geometry\n\nAbout the module.\n\nclass Shape\nA shape.\n\n"
        "Shape.area(self, *, scale=1.0)\nIts area.\n\nwait(seconds: int, /)\nWait.\n"
    )
    for broken in ("def (:", "x = 1", "\0"):
        source.write_text(broken)
        assert python_docs._module_text("geometry", source) == ""
    assert python_docs._module_text("geometry", tmp_path / "missing.py") == ""


def test_a_python_without_its_documentation_is_one_sentence(monkeypatch):
    monkeypatch.setattr(python_docs.topics, "topics", {})
    monkeypatch.setattr(python_docs, "_source_modules", lambda: iter([]))
    monkeypatch.setattr(python_docs, "_compiled_texts", lambda: ["math\n\n", ""])
    with pytest.raises(CourseError, match="no documentation .*`uv python install`") as caught:
        python_docs.documents()
    assert sys.executable in str(caught.value) and "\n" not in str(caught.value)
