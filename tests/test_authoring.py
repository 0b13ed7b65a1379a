"""The `course` command keeps text, notebooks and package in step, and says what is not."""

import ast
import base64
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from types import SimpleNamespace

import nbformat
import pytest
from PIL import Image

from course_lib.authoring import (
    check,
    cli,
    course_map,
    export,
    map_picture,
    prose_numbers,
    rooms,
    rules,
    run,
    sync,
    tree,
)
from course_lib.authoring.tree import Pair, all_pairs, select
from course_lib.classroom import claim
from course_lib.host.errors import CourseError

HEADER = """#
# **Goal.** See how
# it goes.
#
# | | |
# |---|---|
# | Time | 0 minutes to read, 0 for the exercises; a second to run |
"""

FIRST = f'''
# %% [markdown]
# # 00 · First
{HEADER}#
# **Next:** [01 · Second](01_second.ipynb)

# %%
#| export model.first
"""The first module."""

import math


# %%
#| export model.first
def area(r):
    """Area of a circle of radius r."""
    return math.pi * r**2


# %%
print(round(area(1), 2))
'''

SECOND = f'''
# %% [markdown]
# # 01 · Second
{HEADER}
# %%
#| export train.second
"""The second module."""

from course_lib.model.first import area


# %%
#| export train.second
class Disc:
    """A disc of radius r."""

    def __init__(self, r):
        self.r = r


# %%
from course_lib.classroom import add_to


# %%
#| export train.second
@add_to(Disc)
def size(self):
    """Area of the disc."""
    return area(self.r)


# %%
print(Disc(1).r)
'''


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A small course of two chapters, in step; too small to claim anything."""
    monkeypatch.setattr(rules, "NOT_YET_REWRITTEN", ["00", "01", "02"])
    root = tmp_path / "course"
    (root / "course_lib").mkdir(parents=True)
    (root / "course_lib" / "__init__.py").write_text('"""A small course."""\n')
    for room in ("model", "train"):
        (root / "course_lib" / room).mkdir()
        (root / "course_lib" / room / "__init__.py").write_text('"""A room."""\n')
    (root / "pyproject.toml").write_text(
        '[tool.ruff]\nline-length = 120\n[tool.ruff.lint.isort]\nknown-first-party = ["course_lib"]\n'
        '[project.urls]\nRepository = "https://github.com/someone/microgpt-to-nanochat"\n'
    )
    (root / "README.md").write_text("\n".join(["# A course", *course_map.MARKS, *course_map.HOURS, "After it.", ""]))
    write(root, "00_first", FIRST)
    write(root, "01_second", SECOND)
    in_step(root)
    return root


def write(root, name, text):
    path = root / "notebooks" / "text" / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.lstrip())


def in_step(root):
    """Sync, export, and give each notebook the outputs that a run would store, without starting kernels."""
    list(export.write(all_pairs(root), root, overwrite=True))
    for pair in all_pairs(root):
        sync.sync(pair, overwrite=True)
        notebook, number = nbformat.read(pair.notebook, 4), 0
        for cell in notebook.cells:
            if cell.cell_type == "code" and cell.source.strip():
                number += 1
                cell.execution_count = number
                if "print(" in cell.source:
                    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="3.14\n")]
        tree.write_notebook(pair, notebook)
    course_map.write_readme(root)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """A machine on which nothing else runs."""
    monkeypatch.setattr(run, "others_seconds", lambda: 0.0)


def problems(root):
    return check.problems(all_pairs(root), root)


def change_notebook(root, name, change):
    path = root / "notebooks" / f"{name}.ipynb"
    notebook = nbformat.read(path, 4)
    change(notebook)
    nbformat.write(notebook, path)


def exported(root, *cells, doc='"""A module."""'):
    """Source of a module made of these exported cells."""
    text = "".join(f"# %%\n#| export train.made\n{textwrap.dedent(cell).strip()}\n\n" for cell in (doc, *cells))
    write(root, "02_made", text)
    return export.build(export.collect(root), root)[root / "course_lib" / "train" / "made.py"]


# ---- export


def test_a_course_in_step_has_no_problems(course):
    assert problems(course) == []


def test_the_module_names_its_origin_and_keeps_notebook_order(course):
    source = (course / "course_lib" / "train" / "second.py").read_text()
    docstring = ast.get_docstring(ast.parse(source))
    assert docstring == "The second module.\n\nExported from notebooks/01_second.ipynb; edit it there."
    assert "#| export" not in source and "add_to" not in source
    assert source.index("def __init__") < source.index("    def size(self)")


def test_methods_move_into_the_class(course):
    text = exported(course, "class A:\n    x = 1", "@add_to(A)\n@property\ndef f(self):\n    return 1")
    assert "class A:\n    x = 1\n\n    @property\n    def f(self):\n        return 1\n" in text


def test_a_method_written_again_replaces_the_first(course):
    first = "class A:\n    @property\n    def f(self):\n        return 1\n\n    def g(self):\n        return 0"
    text = exported(course, first, "@add_to(A)\ndef f(self):\n    return 2")
    assert text.count("def f") == 1 and "return 1" not in text and "@property" not in text
    assert text.index("def f") < text.index("def g")


def test_a_function_written_again_replaces_the_first(course):
    text = exported(course, "def f():\n    return 1", "def g():\n    return 0", "def f():\n    return 2")
    assert text.count("def f") == 1 and "return 1" not in text


def test_imports_of_one_module_are_merged_and_sorted_in_groups(course):
    text = exported(
        course,
        "from math import sqrt\nfrom course_lib.model.first import area",
        "import numpy as np\nfrom math import pi\nimport json",
        "X = pi, sqrt, np, json, area",
    )
    assert (
        "import json\nfrom math import pi, sqrt\n\nimport numpy as np\n\nfrom course_lib.model.first import area\n"
        in text
    )


def test_comments_stay(course):
    text = exported(
        course,
        "import os  # noqa: F401",
        "# why it is 3\nX = 3  # it is\n# and after it",
        "def f():\n    return 1  # one\n\n\n# below f",
    )
    for comment in ("# noqa: F401", "# why it is 3", "# it is", "# and after it", "# one", "# below f"):
        assert comment in text, comment


def test_comments_above_beside_and_below_come_along(course):
    first = """
        # above the import
        import json  # beside it
        from os import (  # in brackets
            path,  # of one name
        )

        # above the class
        class A:  # beside the class
            # at its head
            x = json, path  # beside x
            # below it
        # at the end
    """
    added = """
        # above f
        @add_to(A)  # beside the decorator
        # between both
        def f(self):
            # at the head of f
            return 1  # beside f
            # below f
        # after all
    """
    text = exported(course, first, added, "TABLE = {\n    # in the table\n    1: 2,  # in a row\n}")
    wanted = re.findall("# .+", first + added) + ["# in the table", "# in a row"]
    assert len(wanted) == 19 and [comment for comment in wanted if comment not in text] == []
    assert (
        "    # above f\n    # beside the decorator\n    # between both\n    def f(self):\n        # at the head" in text
    )


def test_a_replaced_method_takes_its_comments_along(course):
    first = """
        class A:
            x = 1

            # old: above
            # old: above too
            def f(self):
                # old: inside
                return 1
                # old: below

            # of g
            def g(self):
                return 2
    """
    text = exported(course, first, "# new\n@add_to(A)\ndef f(self):\n    return 3")
    assert "old" not in text and "    # new\n    def f(self):\n        return 3\n\n    # of g\n" in text


def test_a_mark_below_the_first_line_is_refused(course):
    write(course, "02_made", '# %%\n# why\n#| export train.made\n"""Made."""\n')
    with pytest.raises(CourseError, match="02_made.py:2 .*write the mark as first line"):
        export.collect(course)


def test_type_checking_imports_are_allowed(course):
    cell = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from decimal import Decimal"
    text = exported(course, cell, 'def f(x: "Decimal"):\n    return x')
    assert text.index("if TYPE_CHECKING:") < text.index("def f")


def test_strings_over_several_lines_survive_the_move_into_a_class(course):
    text = exported(course, "class A:\n    x = 1", '@add_to(A)\ndef f(self):\n    return f"""a\n  b{self.x}\nc"""')
    names = {}
    exec(text, names)
    assert names["A"]().f() == "a\n  b1\nc"


def test_plain_strings_over_several_lines_survive_and_docstrings_move(course):
    cell = '@add_to(A)\ndef f(self):\n    """First.\n\n    Second.\n    """\n    return """a\n  b"""'
    text = exported(course, "class A:\n    x = 1", cell)
    names = {}
    exec(text, names)
    assert names["A"]().f() == "a\n  b"
    assert '        """First.\n\n        Second.\n        """\n' in text


def test_async_methods_move_and_replace_too(course):
    first, second = (f"@add_to(A)\nasync def f(self):\n    return {n}" for n in (1, 2))
    text = exported(course, "class A:\n    x = 1", first, second)
    assert text.count("    async def f(self):") == 1 and "return 2" in text and "return 1" not in text


def test_every_kind_of_assignment_to_names_is_exported(course):
    text = exported(course, "A, B = 1, 2", "C: int = 3", "D = E = 4", "def f():\n    return A", "D = E = 5")
    assert "A, B = 1, 2" in text and "C: int = 3" in text
    assert "D = E = 5" in text and "D = E = 4" not in text
    assert text.index("D = E = 5") < text.index("def f"), "what is written again stays in its place"


def test_solutions_export_nothing(course):
    write(course, "solutions/00_first_solutions", '# %%\n#| export model.first\n"""Other."""\n')
    assert set(export.collect(course)) == {"model.first", "train.second"}


def test_generated_modules_import(course):
    names = {}
    sys_path = [str(course), *sys.path]
    code = "import course_lib.train.second as s; print(round(s.Disc(1).size(), 3))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": sys_path[0]},
        cwd=course,
    )
    assert done.stdout == "3.142\n", done.stderr
    assert not names


@pytest.mark.parametrize(
    "cell, line, message",
    [
        ("x = 1\nprint(x)", 3, "may only import, define and assign"),
        ("d = {}\nd['a'] = 1", 3, "may only import, define and assign"),
        ("x: int", 2, "may only import, define and assign"),
        ("if True:\n    x = 1", 2, "may only import, define and assign"),
        ("for i in range(3):\n    pass", 2, "may only import, define and assign"),
        ("@add_to(Missing)\ndef f(self):\n    pass", 3, "no earlier cell exports a class Missing"),
        ("x = = 1", 2, "invalid syntax"),
        ("# only a comment", 1, "nothing to export here"),
        ("x = 1; y = 2", 2, "two statements on one line"),
    ],
)
def test_what_cannot_be_exported_is_named_by_file_cell_and_line(course, cell, line, message):
    with pytest.raises(CourseError, match=message) as caught:
        exported(course, cell)
    # The text: "# %%" and the mark, docstring, blank, "# %%", then the cell with its mark on line 1.
    assert f"notebooks/text/02_made.py:{5 + line} (cell 2, line {line})" in str(caught.value)


def test_a_module_has_one_notebook(course):
    write(course, "02_made", '# %%\n#| export model.first\n"""Again."""\n')
    with pytest.raises(CourseError, match="first belongs to 00_first; a module has one notebook"):
        export.collect(course)


def test_a_module_opens_with_a_docstring(course):
    with pytest.raises(CourseError, match="must open with a docstring"):
        exported(course, doc="import math")


def test_hand_written_parts_cannot_be_exported_to(course):
    write(course, "02_made", '# %%\n#| export host.paths\n"""Paths."""\n')
    with pytest.raises(CourseError, match="not written by hand"):
        export.collect(course)


# ---- sync and pull


def outputs(root, name):
    notebook = nbformat.read(root / "notebooks" / f"{name}.ipynb", 4)
    return [len(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]


def test_prose_may_change_without_losing_outputs(course):
    write(course, "00_first", FIRST.replace("# # 00 · First", "# # 00 · The first"))
    assert "wrote" in sync.sync(Pair(course, "00_first"))
    assert outputs(course, "00_first") == [0, 0, 1]
    assert problems(course) == []


def test_outputs_below_a_changed_cell_go(course):
    text = FIRST + "\n\n# %%\nprint('below')\n"
    write(course, "00_first", text)
    in_step(course)
    write(course, "00_first", text.replace("print(round(area(1), 2))", "print(area(2))"))
    assert "course run 00_first" in sync.sync(Pair(course, "00_first"), overwrite=True)
    assert outputs(course, "00_first") == [0, 0, 0, 0]
    assert any("was not run" in line for line in problems(course))


def test_pull_gives_back_the_text(course):
    pair = Pair(course, "01_second")
    before = pair.text.read_text()
    pair.text.unlink()
    assert sync.pull(pair) == "wrote notebooks/text/01_second.py"
    assert pair.text.read_text() == before


def test_tags_travel_both_ways(course):
    write(course, "00_first", FIRST.replace("# %%\nprint", '# %% tags=["exercise"]\nprint'))
    pair = Pair(course, "00_first")
    sync.sync(pair, overwrite=True)
    assert nbformat.read(pair.notebook, 4).cells[-1].metadata == {"tags": ["exercise"]}
    assert 'tags=["exercise"]' in tree.as_text(tree.read_notebook(pair))


def test_an_edit_in_the_notebook_is_not_overwritten(course):
    pair = Pair(course, "00_first")
    change_notebook(course, "00_first", lambda notebook: notebook.cells[0].update(source="# edited in JupyterLab"))
    os.utime(pair.text, (1, 1))
    with pytest.raises(CourseError, match="`course pull 00_first` keeps that change"):
        sync.sync(pair)
    sync.pull(pair)
    assert "edited in JupyterLab" in pair.text.read_text()


def test_a_hand_edited_module_is_not_overwritten(course):
    module = course / "course_lib" / "model" / "first.py"
    module.write_text(module.read_text().replace("math.pi", "3.14"))
    os.utime(course / "notebooks" / "text" / "00_first.py", (1, 1))
    assert any(line.startswith("course_lib/model/first.py:") and "differs" in line for line in problems(course))
    with pytest.raises(CourseError, match="course_lib/model/first.py is newer than"):
        list(export.write(all_pairs(course), course))
    assert "3.14" in module.read_text()
    assert list(export.write(all_pairs(course), course, overwrite=True)) == ["wrote course_lib/model/first.py"]


# ---- check


def test_a_module_may_not_import_from_a_later_notebook(course):
    write(course, "00_first", FIRST.replace("import math", "import math\n\nfrom course_lib.train.second import Disc"))
    in_step(course)
    found = problems(course)
    assert any("00_first.py:19" in line and "comes from the later notebook 01" in line for line in found), found


def test_a_cell_that_is_not_exported_may_not_either(course):
    write(course, "00_first", FIRST + "\n# %%\nfrom course_lib.train import second\n")
    in_step(course)
    assert any("comes from the later notebook 01" in line for line in problems(course))


def test_an_import_inside_a_function_counts(course):
    inside = "    from course_lib.train.second import Disc\n\n    return Disc and math.pi"
    text = FIRST.replace("    return math.pi", inside)
    write(course, "00_first", text)
    in_step(course)
    assert any("comes from the later notebook 01" in line for line in problems(course))


def test_exported_code_may_not_use_the_classroom(course):
    text = FIRST.replace("import math", "import math\n\nfrom course_lib.classroom import budget")
    write(course, "00_first", text)
    in_step(course)
    assert any("course_lib.classroom is for notebooks" in line for line in problems(course))


def test_relative_and_unknown_imports_are_named(course):
    write(course, "00_first", FIRST + "\n# %%\nfrom course_lib.nowhere import x\n\n# %%\nfrom .second import Disc\n")
    in_step(course)
    found = problems(course)
    assert any("there is no course_lib.nowhere" in line for line in found)
    assert any("relative import" in line for line in found)


def set_first_output(output):
    def change(notebook):
        notebook.cells[-1].outputs = [output]

    return change


def clear_outputs(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []


def swap_counts(notebook):
    notebook.cells[1].execution_count, notebook.cells[2].execution_count = 2, 1


def add_widget_state(notebook):
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}


@pytest.mark.parametrize(
    "change, message",
    [
        (clear_outputs, "its output is missing"),
        (swap_counts, "ran as number 2, expected 1"),
        (add_widget_state, "holds widget state"),
        (set_first_output(nbformat.v4.new_output("error", ename="ValueError", evalue="no")), "error ValueError: no"),
        (set_first_output(nbformat.v4.new_output("stream", name="stderr", text="careful")), "holds warnings"),
        (
            set_first_output(
                nbformat.v4.new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}})
            ),
            "draws a widget",
        ),
        (set_first_output(nbformat.v4.new_output("stream", text="x" * 310_000)), "the limit is 300 kB"),
        (lambda notebook: notebook.cells[2].metadata.update(collapsed=True), "only tags may stay"),
        (lambda notebook: notebook.cells[0].update(source="# other"), "differs from notebooks/text/00_first.py"),
    ],
)
def test_what_is_wrong_with_a_notebook_is_named(course, change, message):
    change_notebook(course, "00_first", change)
    found = problems(course)
    assert any(message in line and "00_first" in line for line in found), found


def test_an_output_may_not_name_a_folder_of_this_machine(course):
    output = nbformat.v4.new_output("stream", text=f"{course}/data/names.txt")
    change_notebook(course, "00_first", set_first_output(output))
    assert any("of this machine" in line for line in problems(course))


def test_links_between_chapters_must_lead_somewhere(course):
    write(course, "00_first", FIRST.replace("# # 00 · First", "# See [two](01_second.ipynb), [x](99_none.ipynb#a)."))
    in_step(course)
    found = problems(course)
    assert len(found) == 1 and "links to 99_none.ipynb" in found[0]


def test_a_link_that_jupyterlab_does_not_find_is_named(monkeypatch, course, capsys):
    monkeypatch.setattr(cli, "CHECKOUT", course)
    (course / "data").mkdir(exist_ok=True)
    (course / "data" / "README.md").write_text("# Data\n")
    write(course, "00_first", FIRST.replace("# # 00 · First", "# # 00 · First\n#\n# [data](../data/README.md)"))
    in_step(course)
    (found,) = problems(course)
    assert "links to ../data/README.md, which lies outside notebooks/" in found
    assert course_command("check", "--links") == 1
    assert capsys.readouterr().out.endswith(f"{found}\n")


def test_the_map_and_the_line_below_it_hold_the_chapters_that_exist(course):
    with_map = f"{HEADER}#\n# It begins.\n\n# %% [markdown]\n# ![The map](images/map_00.png)\n"
    write(course, "00_first", FIRST.replace(f"{HEADER}#\n", with_map, 1))
    in_step(course)
    assert problems(course) == []
    write(course, "03_later", FIRST.replace("model.first", "model.later"))
    sync.sync(Pair(course, "03_later"))
    found = problems(course)
    assert any("00_first.py: the line below its map is out of date" in line for line in found)
    assert any("map_00.svg: it or its PNG is out of date" in line for line in found)
    in_step(course)
    ways = Pair(course, "00_first").text.read_text().split("map_00.png)\n#\n# ")[1]
    assert ways.startswith("**00** · [01](01_second.ipynb) · [03](03_later.ipynb) · ")
    picture = (course / "notebooks" / "images" / "map_03.svg").read_text("utf-8")
    assert re.findall(r">(\d\d)</text>", picture) == ["00", "01", "03"], "02 does not exist"
    assert len(re.findall(r'x="\d+" .* class="past"', picture)) == 3, "two are behind you, and the key says so"


def test_exercises_need_a_solution(course):
    write(course, "00_first", FIRST.replace("# %%\nprint", '# %% tags=["exercise"]\nprint'))
    in_step(course)
    assert any(
        "write their solutions in notebooks/text/solutions/00_first_solutions.py" in line for line in problems(course)
    )
    write(course, "solutions/00_first_solutions", "# %%\nprint('solved')\n")
    in_step(course)
    assert any("'## Exercises' must begin with 'Run the cells above first'" in line for line in problems(course))
    section = """# ## Exercises
#
# Run the cells above first. See [solutions](solutions/00_first_solutions.ipynb).
#
# **Next"""
    text = Pair(course, "00_first").text.read_text()
    write(course, "00_first", text.replace("# **Next", section))
    in_step(course)
    assert problems(course) == []


def test_a_module_that_no_notebook_exports_is_named(course):
    (course / "course_lib" / "stray.py").write_text('"""Stray."""\n')
    assert any("course_lib/stray.py: no notebook exports it" in line for line in problems(course))


def test_a_missing_twin_is_named(course):
    (course / "notebooks" / "00_first.ipynb").unlink()
    assert any("notebooks/00_first.ipynb is missing; `course sync 00_first`" in line for line in problems(course))


# ---- run, and the command itself


@pytest.mark.slow
def test_run_stores_outputs_and_strips_what_differs_between_machines(course, monkeypatch):
    pair = Pair(course, "00_first")
    write(course, "00_first", '# %%\nimport os\nprint(os.environ["COURSE_QUICK"])\n\n# %%\n6 * 7\n')
    sync.sync(pair, overwrite=True)
    assert run.run(pair).startswith("ran notebooks/00_first.ipynb")
    notebook = tree.read_notebook(pair)
    assert notebook.cells[0].outputs[0].text == "0\n", "a stored run is a full one"
    assert notebook.cells[1].outputs[0].data == {"text/plain": "42"}
    assert set(notebook.metadata) == {"kernelspec", "language_info"} and notebook.cells[0].metadata == {}


@pytest.mark.slow
def test_a_failing_cell_is_named_and_the_notebook_left_alone(course):
    pair = Pair(course, "00_first")
    write(course, "00_first", "# %%\nx = 1\n\n# %%\ny = 2\nraise RuntimeError('broken')\n")
    sync.sync(pair, overwrite=True)
    before = pair.notebook.read_bytes()
    with pytest.raises(CourseError, match=r"00_first.py:6 \(cell 2, line 2\): RuntimeError: broken"):
        run.run(pair)
    assert pair.notebook.read_bytes() == before


@pytest.mark.parametrize(
    "content, message",
    [
        (b'{"cells": [', "line 1 is not JSON"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"[]", "is not a notebook"),
        (b'{"cells": 3, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "is not a notebook"),
        (b'{"cells": [{"cell_type": "odd"}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "is not a notebook"),
        (
            b'{"worksheets": [], "metadata": {}, "nbformat": 3, "nbformat_minor": 0}',
            "has notebook format 3, expected 4",
        ),
        (b"", "is not JSON"),
    ],
)
def test_a_damaged_notebook_is_one_sentence(course, content, message):
    pair = Pair(course, "00_first")
    pair.notebook.write_bytes(content)
    for command in (sync.sync, sync.pull, run.run):
        with pytest.raises(CourseError, match=message):
            command(pair)
    assert any(message in line for line in problems(course))
    assert pair.notebook.read_bytes() == content


def test_a_text_that_is_not_utf_8_is_one_sentence(course):
    (course / "notebooks" / "text" / "00_first.py").write_bytes(b"# %%\nx = '\xff'\n")
    assert any("00_first.py is not UTF-8 at byte 10" in line for line in problems(course))


def test_run_refuses_a_notebook_that_lags_behind_its_text(course):
    pair = Pair(course, "00_first")
    write(course, "00_first", FIRST.replace("area(1)", "area(2)"))
    before = pair.notebook.read_bytes()
    with pytest.raises(CourseError, match="first `course sync 00_first`"):
        run.run(pair)
    assert pair.notebook.read_bytes() == before and "area(2)" in pair.text.read_text()


def test_a_comment_that_looks_like_a_shell_command_stays_a_comment(course):
    cell = "# copy the weights\n# ls\n# %d\nx = 1"
    write(course, "00_first", f"{FIRST}\n# %%\n{cell}\n")
    in_step(course)
    pair = Pair(course, "00_first")
    assert tree.read_notebook(pair).cells[-1].source == cell
    assert cell in tree.as_text(tree.read_notebook(pair))


def test_an_empty_first_cell_is_no_crash(course):
    write(course, "00_first", "# %%\n\n" + FIRST)
    in_step(course)
    assert problems(course) == []


@pytest.mark.parametrize(
    "mark", ["#| export", "#|export first", "# | export first", "#| export __init__", "#| export class"]
)
def test_a_mark_that_cannot_be_meant_is_refused(course, mark):
    write(course, "02_made", f'# %%\n{mark}\n"""A module."""\n')
    with pytest.raises(CourseError, match="02_made.py"):
        export.collect(course)


def test_notebooks_are_chosen_by_number_name_or_file(course):
    for name in ("00", "00_first", "notebooks/00_first.ipynb", "notebooks/text/00_first.py"):
        assert [pair.name for pair in select([name], course)] == ["00_first"]
    assert [pair.name for pair in select(["0", "00"], course)] == ["00_first", "01_second"], "each once"
    assert [pair.name for pair in select([], course)] == ["00_first", "01_second"]
    with pytest.raises(CourseError, match="no notebook is called 'first'"):
        select(["first"], course)
    with pytest.raises(CourseError, match="no notebook is called '77'"):
        select(["77"], course)


def test_the_command_exits_with_one_sentence(monkeypatch, course, capsys):
    monkeypatch.setattr(cli, "CHECKOUT", course)
    for argv, code in ((["check", "77"], 1), (["polish"], 2), (["sync", "--fast"], 2), ([], 2)):
        with pytest.raises(SystemExit) as caught:
            cli.main(argv)
        status = caught.value.code
        assert status == code or (code == 1 and isinstance(status, str) and status.count("\n") == 0), argv
    assert "Traceback" not in capsys.readouterr().err


def course_command(*argv) -> int | str:
    """Exit code of `course ...`, or the sentence that it ends with."""
    with pytest.raises(SystemExit) as caught:
        cli.main(list(argv))
    return caught.value.code


@pytest.mark.slow
def test_the_command_goes_all_the_way(monkeypatch, course, capsys):
    monkeypatch.setattr(cli, "CHECKOUT", course)
    assert course_command("check") == 0
    for name, old in (("00_first", FIRST), ("01_second", SECOND)):
        write(course, name, old.replace("print(", "print('changed', "))
    os.utime(course / "notebooks" / "00_first.ipynb", (1, 1))
    assert course_command("check", "00") == 1
    assert "differs from notebooks/text/00_first.py" in capsys.readouterr().out
    assert course_command("sync", "00") == 0
    printed = capsys.readouterr().out
    assert "wrote notebooks/00_first.ipynb" in printed and "01_second" not in printed
    assert course_command("run", "00") == 0
    assert "changed 3.14" in tree.read_notebook(Pair(course, "00_first")).cells[-1].outputs[0].text
    assert course_command("check", "00") == 0
    (course / "course_lib" / "model" / "first.py").unlink()
    assert course_command("export", "00") == 0 and (course / "course_lib" / "model" / "first.py").exists()


def test_overwrite_is_passed_on(monkeypatch, course):
    monkeypatch.setattr(cli, "CHECKOUT", course)
    change_notebook(course, "00_first", lambda notebook: notebook.cells[0].update(source="# edited"))
    os.utime(course / "notebooks" / "text" / "00_first.py", (1, 1))
    assert "`course pull 00_first` keeps that change" in course_command("sync", "00")
    assert course_command("sync", "00", "--overwrite") == 0
    pair = Pair(course, "00_first")
    assert tree.inputs(tree.read_notebook(pair)) == tree.inputs(tree.read_text(pair))
    assert tree.read_notebook(pair).cells[0].source.startswith("# 00 · First\n")


@pytest.mark.parametrize(
    "error, words", [(OSError(28, "No space left on device"), "No space left"), (KeyboardInterrupt(), "interrupted")]
)
def test_a_full_disk_and_ctrl_c_are_one_sentence(monkeypatch, course, error, words):
    def fail(*_):
        raise error

    monkeypatch.setattr(cli, "CHECKOUT", course)
    monkeypatch.setattr(run, "run", fail)
    status = course_command("run", "00")
    assert status.startswith("course: ") and words in status


def test_without_the_development_tools_the_command_says_how_to_get_them():
    code = "import sys; sys.modules['jupytext'] = None; from course_lib.authoring.cli import main; main(['check'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "course: jupytext is not installed; `uv sync` installs the development tools\n"


@pytest.mark.slow
def test_a_cell_that_takes_too_long_ends_the_run(course):
    pair = Pair(course, "00_first")
    write(course, "00_first", "# %%\nimport time\ntime.sleep(60)\n")
    sync.sync(pair, overwrite=True)
    with pytest.raises(CourseError, match="left as it was"):
        run.run(pair, timeout=2)


def test_what_a_cell_prints_in_pieces_is_one_output_without_temporary_folders():
    stream = nbformat.v4.new_output
    pieces = [
        ("stdout", "a\n"),
        ("stdout", f"in {tempfile.gettempdir()}/tmpab_1/run\n"),
        ("stderr", "b"),
        ("stdout", "c"),
    ]
    cell = nbformat.v4.new_code_cell(outputs=[stream("stream", name=name, text=text) for name, text in pieces])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("x"), cell])
    run.tidy_streams(notebook)
    assert [output.text for output in notebook.cells[1].outputs] == ["a\nin …/run\n", "b", "c"]


def test_pictures_get_smaller_and_look_the_same():
    picture = Image.linear_gradient("L").convert("RGB")
    raw = io.BytesIO()
    picture.save(raw, "PNG", compress_level=0)
    data = {"image/png": base64.b64encode(raw.getvalue()).decode()}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", data=data)])]
    )
    run.shrink_pictures(notebook)
    small = base64.b64decode(notebook.cells[0].outputs[0].data["image/png"])
    after = Image.open(io.BytesIO(small)).convert("RGB")
    assert len(small) < len(raw.getvalue()) / 3
    assert max(abs(a - b) for a, b in zip(picture.tobytes(), after.tobytes(), strict=True)) <= 4


def test_a_map_that_is_up_to_date_is_left_alone(course):
    path = course / "notebooks" / "images" / "map_00.svg"
    os.utime(path, (1, 1))
    sync.sync(Pair(course, "00_first"))
    assert path.stat().st_mtime == 1 and "you are here" in path.read_text()


def test_the_map_of_a_notebook_marks_the_same_chapter_as_the_one_that_follows_dark_mode(course):
    images = course / "notebooks" / "images"
    with Image.open(images / "map_01.png") as picture:
        pixels, scale = picture.convert("RGB"), map_picture.SHARPER
    for shape in map_picture.shapes(Pair(course, "01_second")):
        if isinstance(shape, map_picture.Box) and shape.kind != "page":
            corner = pixels.getpixel((round((shape.x + 8) * scale), round((shape.y + 6) * scale)))
            assert "#{:02x}{:02x}{:02x}".format(*corner) == map_picture.LIGHT[shape.kind]
    drawn = (images / "map_01.svg").read_text()
    assert drawn.count('class="here"') == 1 and "prefers-color-scheme: dark" in drawn


@pytest.mark.parametrize("name", ["map_00.svg", "map_00.png"])
def test_a_map_that_is_out_of_date_is_drawn_again(course, name):
    path = course / "notebooks" / "images" / name
    path.write_bytes((course / "notebooks" / "images" / name.replace("00", "01")).read_bytes())
    assert [line for line in problems(course) if "map_00.svg: it or its PNG is out of date" in line]
    sync.sync(Pair(course, "00_first"))
    assert problems(course) == []


def test_help_tells_a_newcomer_what_to_do(capsys):
    for argv in (["--help"], ["sync", "--help"], ["check", "--help"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(argv)
        assert caught.value.code == 0
    assert "course sync 03 && course export 03 && course run 03" in capsys.readouterr().out


def test_nothing_is_half_written(tmp_path, monkeypatch):
    from course_lib.host.files import write_atomically

    path = tmp_path / "notebook.ipynb"
    path.write_text("whole")
    with pytest.raises(RuntimeError), write_atomically(path) as file:
        file.write("half")
        raise RuntimeError("pulled the plug")
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]


# ---- this course


@pytest.mark.slow
def test_this_course_is_in_step(checkout):
    assert check.problems(all_pairs(checkout), checkout) == []


# ---- rooms


def by_hand(course, name, source):
    path = course / "course_lib" / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'"""By hand.\n\nWritten by hand; chapter 00 uses it.\n"""\n\n{source}\n')


def test_a_hand_written_module_stands_beside_exported_ones_and_a_chapter_may_use_it(course):
    by_hand(course, "model/sizes", "from course_lib.model.first import area")
    write(course, "00_first", FIRST + "\n# %%\nfrom course_lib.model.sizes import area as same\n")
    in_step(course)
    assert problems(course) == []


@pytest.mark.parametrize(
    ("name", "source", "words"),
    [
        ("model/up", "from course_lib.train.second import Disc", "model comes before train in the course"),
        (
            "model/up",
            "def f():\n    from course_lib.train import second",
            "model/up.py:7: imports course_lib.train.second",
        ),
        ("train/up", "import course_lib.scripts.speedrun", "no module imports a program"),
        ("scripts/a", "from course_lib.scripts import b", "no module imports a program"),
        ("model/up", "from course_lib.classroom import add_to", "only notebooks import from classroom"),
        ("scripts/a", "from course_lib.authoring.tree import Pair", "only notebooks import from authoring"),
        ("cellar/a", "", "stands in no room"),
    ],
)
def test_an_import_against_the_order_of_the_rooms_is_named(course, name, source, words):
    by_hand(course, name, source)
    assert any(words in line for line in problems(course)), problems(course)


def test_a_room_says_what_it_is(course):
    (course / "course_lib" / "model" / "__init__.py").write_text("")
    assert any("model/__init__.py: has no docstring" in line for line in problems(course))


def test_the_section_headings_become_banners(course):
    text = FIRST.replace(
        "# %%\n#| export model.first\ndef area",
        "# %% [markdown]\n# ## 1. Discs\n\n# %%\n#| export model.first\ndef area",
    )
    text += "\n# %% [markdown]\n# ## 2. Balls\n\n# %%\n#| export model.first\nDIMENSIONS = 3\n"
    write(course, "00_first", text)
    in_step(course)
    source = (course / "course_lib" / "model" / "first.py").read_text()
    assert "# ---- 1. Discs\n\n\ndef area" in source and "# ---- 2. Balls\n\n\nDIMENSIONS" in source


# ---- what a chapter promises


def rewritten(tmp_path, monkeypatch, *cells, header="0 minutes to read", listed=()):
    """The problems of chapter 00 with these cells added, when it counts as rewritten."""
    monkeypatch.setattr(rules, "NOT_YET_REWRITTEN", list(listed))
    write(tmp_path, "00_first", "\n\n".join([FIRST.replace("0 minutes to read", header), *cells]))
    return list(rules.chapter_problems(Pair(tmp_path, "00_first")))


CLAIM = "# %%\nclaim('a disc is round', True)"


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["# %%\nx = 1"] * 106, "111 cells, the limit is 110"),
        (["# %%\n" + "x = 1\n" * 40] * 15, "lines of code, the limit is 600"),
        (["# %% [markdown]\n# " + "word " * 3500], "words, the limit is 3,500"),
        (["# %%\n" + "x = 1\n\n" * 20 + "y = 2"], "41 lines of its longest code cell, the limit is 40"),
        (["# %%\n" + "x = 1\n" * 9] * 5, "9 lines of its median code cell, the limit is 8"),
        ([], "its header says 100 minutes to read, words and lines of code come to 0"),
    ],
)
def test_a_rewritten_chapter_keeps_to_its_size_and_its_minutes(tmp_path, monkeypatch, cells, words):
    header = "0 minutes to read" if cells else "100 minutes to read"
    assert any(words in line for line in rewritten(tmp_path, monkeypatch, CLAIM, *cells, header=header))
    assert rewritten(tmp_path, monkeypatch, CLAIM, *cells, header=header, listed=["00"]) == []


def test_a_rewritten_chapter_claims_something_and_then_leaves_the_list(tmp_path, monkeypatch):
    assert any("claims nothing" in line for line in rewritten(tmp_path, monkeypatch))
    assert rewritten(tmp_path, monkeypatch, listed=["00"]) == []
    assert rewritten(tmp_path, monkeypatch, CLAIM) == []
    (found,) = rewritten(tmp_path, monkeypatch, CLAIM, listed=["00"])
    assert "keeps every rule; take 00 out of NOT_YET_REWRITTEN" in found


def test_an_export_mark_is_no_line_of_code():
    cells = [nbformat.v4.new_code_cell(source) for source in ("#| export model.a\nx = 1\n\ny = 2", "z = 3", "")]
    assert rules.code_lines(cells) == [3, 1]
    assert rules.size(cells)["lines of code"] == 4 and rules.size(cells)["words"] == 0


def test_minutes_are_counted_from_words_and_lines():
    cells = [nbformat.v4.new_markdown_cell("a word, | **two** " * 600), nbformat.v4.new_code_cell("x = 1\n" * 240)]
    assert rules.reading_minutes(cells) == 30, "1,800 words in 10 minutes, 240 lines in 20"


def exercise(number, minutes):
    return f"# %% [markdown]\n# ### Exercise 0.{number} — turn\n#\n# {minutes}"


def test_the_header_states_what_the_exercises_add_up_to(tmp_path, monkeypatch):
    both = exercise(1, "10 minutes, ●○○."), exercise(2, "*25 minutes, hard.*")
    (found,) = rewritten(tmp_path, monkeypatch, *both, listed=["00"])
    assert found.endswith("its header says 0 minutes for the exercises, theirs add up to 35")
    unstated = exercise(3, "Think.\n#\n# ### 5 minutes of rest")
    assert "'Exercise 0.3 — turn' states no minutes" in rewritten(tmp_path, monkeypatch, *both, unstated)[0]


@pytest.mark.parametrize("next_line", ["", "# **Next:** chapter 01.", "# **Next:** [02 · Third](02_third.ipynb)"])
def test_a_chapter_ends_with_a_link_to_the_next(course, next_line):
    write(course, "00_first", FIRST.replace("# **Next:** [01 · Second](01_second.ipynb)", next_line))
    in_step(course)
    assert any("00_first.py: must end with a link" in line and "(01_second.ipynb)" in line for line in problems(course))


def test_a_chapter_without_its_minutes_is_named(course):
    write(course, "00_first", FIRST.replace("| Time |", "| Duration |"))
    assert any("00_first.py: has no header; it must hold" in line for line in problems(course))


def test_the_list_names_chapters_that_exist(checkout):
    assert set(rules.NOT_YET_REWRITTEN) <= {pair.number for pair in all_pairs(checkout)}


def test_a_stored_output_holds_no_wrong_answer_and_no_quick_run(course, monkeypatch, capsys):
    claim("a disc is round", True)  # tests are quick runs
    quick = capsys.readouterr().out
    monkeypatch.setenv("COURSE_QUICK", "0")
    claim("a disc is round", True)
    full = capsys.readouterr().out
    with pytest.raises(AssertionError) as wrong:
        claim("a disc has corners", False)
    for text, words in (
        (quick, "its output is that of a quick run"),
        (str(wrong.value), "its output holds ✗"),
        (full, None),
        ("○ area: not written yet", None),
    ):
        change_notebook(course, "00_first", set_first_output(nbformat.v4.new_output("stream", text=text)))
        found = problems(course)
        assert found == [] if words is None else words in found[0] and "(cell 4, line 1)" in found[0]


def test_numbers_that_nothing_on_the_page_bears_out_are_listed(course):
    prose = """
# %% [markdown]
# ## 12. In the prose 2.45 is held, 2.46 is not; 43 % is held, 44 % is not.
#
# 1,200 steps of chapter 77 in 2025, `99`, 3.7 million (not 3.8 million), 512 letters, three, 7 and $2^{31}$; see
# [this](https://example.org/66) and GPT-12, x86-64, section 71 and 72.
#
# ## Further reading
#
# - A paper with 345 pages.
"""
    write(course, "00_first", FIRST + prose + '\n# %%\nprint("a", 1_200)\n')
    in_step(course)
    printed = "2.4512, accuracy 0.431, parameters 3,712,004\n"
    change_notebook(course, "00_first", set_first_output(nbformat.v4.new_output("stream", text=printed)))
    found = list(prose_numbers.unshown_numbers(Pair(course, "00_first")))
    assert [line.partition(" in: ")[0].rpartition(": ")[2] for line in found] == ["2.46", "44 %", "3.8 million", "512"]
    text = (course / "notebooks" / "text" / "00_first.py").read_text().splitlines()
    for line in found:
        place, words = line.partition(" in: ")[::2]
        assert text[int(place.split(":")[1].split(" ")[0]) - 1] == f"# {words}"


def test_the_command_lists_numbers_rooms_and_links(monkeypatch, course, capsys):
    monkeypatch.setattr(cli, "CHECKOUT", course)
    write(course, "00_first", FIRST.replace("# it goes.", "# [it](https://example.org/a_(b)) goes 700 miles."))
    in_step(course)
    (course / "README.md").write_text((course / "README.md").read_text() + "\n<https://example.org/0>\n")
    assert course_command("check", "--links", "01") == 0
    assert capsys.readouterr().out == "https://example.org/0\nhttps://example.org/a_(b)\n"
    assert course_command("check", "--numbers", "00") == 0
    assert ": 700 in: " in capsys.readouterr().out
    assert course_command("check", "--rooms") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == ["model              1  –", "train              1  model", rooms.ALL_WELL]
    by_hand(course, "model/up", "from course_lib.train.second import Disc")
    assert course_command("check", "--rooms") == 1
    out = capsys.readouterr().out
    assert "model              2  train" in out and "model comes before train" in out and rooms.ALL_WELL not in out


def test_sync_writes_the_chapters_into_the_readme(monkeypatch, course, capsys):
    monkeypatch.setattr(cli, "CHECKOUT", course)
    write(course, "00_first", FIRST.replace("See how\n# it goes.", "Go | stop.").replace("a second", "two days"))
    assert any("README.md: its chapters are out of date; `course sync`" in line for line in problems(course))
    assert course_command("sync", "00", "--overwrite") == 0
    assert "wrote the chapters into README.md" in capsys.readouterr().out
    text = (course / "README.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| 0")]
    assert rows[0] == "| 00 | [start here](notebooks/00_first.ipynb) | Go \\| stop. | 0 + 0 min | two days |"
    assert text.startswith("# A course\n") and text.endswith("\nAfter it.\n")
    assert course_command("sync", "00") == 0 and "README" not in capsys.readouterr().out
    (course / "README.md").write_text("# A course\n")
    assert any("README.md must hold '<!-- chapters" in line for line in problems(course))


def test_the_readme_says_how_many_hours_all_chapters_take(course):
    write(course, "01_second", SECOND.replace("0 minutes to read, 0 for", "95 minutes to read, 200 for"))
    course_map.write_readme(course)
    assert "2 chapters: about 2 hours to read, 3 for the exercises" in (course / "README.md").read_text()


MAPPED = FIRST.replace(
    f"{HEADER}#\n", f"{HEADER}#\n# It begins.\n\n# %% [markdown]\n# ![The map](images/map_00.png)\n", 1
)
WAYS = (
    "**00** · [01](01_second.ipynb) · [open this one in Colab](https://colab.research.google.com/github/someone/"
    "microgpt-to-nanochat/blob/main/notebooks/00_first.ipynb) "
    "([how](https://github.com/someone/microgpt-to-nanochat/blob/main/docs/machines.md#colab))"
)


def test_below_the_map_stand_the_ways_to_other_chapters_and_to_colab(course):
    write(course, "00_first", MAPPED)
    assert any("00_first.py: the line below its map is out of date" in line for line in problems(course))
    in_step(course)
    pair = Pair(course, "00_first")
    below = next(cell.source for cell in tree.read_notebook(pair).cells if "map_00" in cell.source)
    assert below.split("\n")[:3] == ["![The map](images/map_00.png)", "", WAYS]
    assert problems(course) == []
    text = pair.text.read_text()
    pair.text.write_text(text.replace("[01](01_second", "[01](01_older"))
    in_step(course)
    assert pair.text.read_text() == text, "the old line goes, what follows it stays"


def test_a_line_below_the_map_does_not_make_a_text_look_edited(course):
    write(course, "00_first", MAPPED)
    pair = Pair(course, "00_first")
    os.utime(pair.text, (1, 1))
    with pytest.raises(CourseError, match="was changed after"):  # the notebook is the later one, and would be lost
        sync.sync(pair)
    assert pair.text.stat().st_mtime == 1 and WAYS in pair.text.read_text()


@pytest.mark.parametrize(
    "line, right",
    [
        ("git clone https://github.com/OWNER/microgpt-to-nanochat", "https://github.com/someone/microgpt-to-nanochat"),
        ("[it](https://other.github.io/microgpt-to-nanochat/x)", "https://someone.github.io/microgpt-to-nanochat/x"),
        ("git clone git@github.com:<you>/microgpt-to-nanochat", "git@github.com:someone/microgpt-to-nanochat"),
    ],
)
def test_every_file_names_the_one_address(monkeypatch, course, capsys, line, right):
    monkeypatch.setattr(cli, "CHECKOUT", course)
    (course / "docs").mkdir()
    (course / "docs" / "a.md").write_text(f"# A\n{line}\n")
    assert [found for found in problems(course) if "names another address of the course" in found] == [
        "docs/a.md:2: names another address of the course than https://github.com/someone/microgpt-to-nanochat of "
        "pyproject.toml; `course sync` writes it"
    ]
    assert course_command("sync", "00") == 0
    assert "into docs/a.md" in capsys.readouterr().out and right in (course / "docs" / "a.md").read_text()
    assert problems(course) == []


def test_a_folder_of_the_courses_name_is_no_address(course):
    (course / "docs").mkdir()
    (course / "docs" / "a.md").write_text("# A\nIn `~/.cache/microgpt-to-nanochat` or microgpt-to-nanochat/mine.\n")
    assert problems(course) == []


def test_a_course_without_an_address_is_told_where_to_write_it(course):
    file = course / "pyproject.toml"
    file.write_text(file.read_text().replace("github.com/someone", "example.org"))
    assert any("[project.urls] must hold Repository" in line for line in problems(course))


def test_a_chapter_that_stands_in_no_part_is_named(course):
    write(course, "77_far", SECOND.replace("train.second", "train.far"))
    assert any("77_far.py: stands in no part" in line for line in problems(course))


# ---- a run on a quiet machine


@pytest.mark.slow
def test_outputs_of_a_disturbed_run_are_not_stored(monkeypatch, course, capsys):
    monkeypatch.setattr(cli, "CHECKOUT", course)
    pair = Pair(course, "00_first")
    change_notebook(course, "00_first", clear_outputs)
    before = pair.notebook.read_bytes()
    clock = iter([10.0, 1e6, 10.0, 1e6])
    monkeypatch.setattr(run, "others_seconds", lambda: next(clock))
    status = course_command("run", "00")
    assert "of the CPU" in status and "--disturbed" in status and pair.notebook.read_bytes() == before
    assert course_command("run", "00", "--disturbed") == 0
    assert "others took" in capsys.readouterr().out and outputs(course, "00_first") == [0, 0, 1]


@pytest.mark.parametrize(("seconds", "fine"), [(0.0, True), (0.5, True), (2.0, False)])
def test_a_tenth_of_all_cores_is_the_limit(monkeypatch, course, seconds, fine):
    class Client:
        def __init__(self, *_, **__):
            pass

        def execute(self, **_):
            pass

    clock, others = iter([100.0, 105.0]), iter([7.0, 7.0 + seconds])  # five seconds on two cores
    monkeypatch.setattr(run, "NotebookClient", Client)
    monkeypatch.setattr(run.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(run, "others_seconds", lambda: next(others))
    monkeypatch.setattr(run.os, "cpu_count", lambda: 2)
    if fine:
        assert run.run(Pair(course, "00_first")).endswith(f"in 5 s, others took {seconds * 10:.0f}% of the CPU")
    else:
        with pytest.raises(CourseError, match="other processes took 20% of the CPU"):
            run.run(Pair(course, "00_first"))


@pytest.mark.slow
def test_what_this_process_and_its_children_used_is_not_of_others(monkeypatch):
    monkeypatch.undo()
    machine = SimpleNamespace(user=1000.0, nice=100.0, system=10.0, idle=9999.0, steal=1.0)
    monkeypatch.setattr(run.psutil, "cpu_times", lambda: machine)
    before = run.others_seconds()
    assert before == pytest.approx(1111 - sum(os.times()[:4]), abs=1)
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 1: pass"], check=True)
    assert before - run.others_seconds() == pytest.approx(1, abs=0.5)


@pytest.mark.slow
def test_the_kernel_chooses_its_own_products_and_knows_of_experiments(monkeypatch, course):
    pair = Pair(course, "00_first")
    names = ["OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS", "COURSE_EXPERIMENTS"]
    for name in names:
        monkeypatch.setenv(name, "1")
    write(course, "00_first", f"# %%\nimport os\nprint([os.environ.get(name) for name in {names}])\n")
    sync.sync(pair, overwrite=True)
    for experiments, word in ((False, "0"), (True, "1")):
        run.run(pair, experiments=experiments)
        assert tree.read_notebook(pair).cells[0].outputs[0].text == f"[None, None, '1', '{word}']\n"


def test_no_notebook_holds_anything_but_tags(checkout):
    for pair in all_pairs(checkout):
        raw = json.loads(pair.notebook.read_text("utf-8"))
        assert set(raw["metadata"]) == {"kernelspec", "language_info"}
