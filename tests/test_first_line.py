"""A program says what it does before it has loaded what it needs."""

import sys
import sysconfig
from pathlib import Path

import pytest
from screens import run_in_terminal

from course_lib.scripts import FIRST


def test_each_program_that_loads_much_has_a_first_line(checkout):
    programs = {path.stem for path in (checkout / "course_lib" / "scripts").glob("[a-z]*.py")}
    assert FIRST.keys() == programs - {"microgpt"}


@pytest.mark.slow
def test_the_first_line_is_there_on_a_terminal_before_the_program_is_loaded():
    program = Path(sysconfig.get_path("scripts")) / "chat_cli"
    code, shown, _ = run_in_terminal([sys.executable, "-X", "importtime", str(program), "--step", "-1"])
    before, line, after = shown.partition("chat_cli: loading the model …")
    assert code == 2 and line and "course_lib.host.startup" in before and "tyro" not in before and "tyro" in after


@pytest.mark.slow
def test_who_asks_for_help_is_not_told_of_loading():
    program = Path(sysconfig.get_path("scripts")) / "chat_cli"
    code, shown, _ = run_in_terminal([sys.executable, str(program), "--help"])
    assert code == 0 and "loading" not in shown and "--temperature" in shown
