"""Paths, whole-or-nothing files, and how programs end."""

import os
import stat
import subprocess
import sys
from dataclasses import dataclass

import pytest

from course_lib.host import paths
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.files import write_atomically
from course_lib.host.program import run_program


def test_the_bundled_data_is_found(checkout):
    assert paths.data_dir() == checkout / "data" and (paths.data_dir() / "names.txt").exists()


def test_home_is_made_where_course_home_says(home):
    assert paths.home_dir() == home and home.is_dir()


def test_home_is_in_the_cache_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_HOME", raising=False)
    monkeypatch.setattr(paths.platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path / "cache" / "course"))
    assert paths.home_dir() == tmp_path / "cache" / "course"


def test_a_home_that_cannot_be_made_is_one_sentence(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(CourseError, match="cannot make the folder .*set COURSE_HOME"):
        paths.home_dir()


def test_a_read_only_home_is_one_sentence(home, monkeypatch):
    home.mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)  # a chmod would not stop root
    with pytest.raises(CourseError, match="cannot write to the folder .*set COURSE_HOME"):
        paths.home_dir()


def test_a_file_is_replaced_whole_and_keeps_its_mode(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o600)
    with write_atomically(path) as file:
        file.write("new ü")
        assert path.read_text() == "old"
    assert path.read_text("utf-8") == "new ü" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_can_be_read_by_others_and_its_part_lies_beside_it(tmp_path):
    path = tmp_path / "new.txt"
    with write_atomically(path) as file:
        file.write("a\nb")
        assert [part.parent for part in tmp_path.iterdir()] == [tmp_path] and not path.exists()
    assert path.read_bytes() == b"a\nb" and stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_tilde_in_course_home_is_the_users_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COURSE_HOME", "~/course")
    assert paths.home_dir() == tmp_path / "course"


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = f"""
import pathlib, resource, signal
from course_lib.host.files import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
with write_atomically(pathlib.Path({str(path)!r})) as file:
    file.write("x" * 100_000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "OSError" in done.stderr
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@dataclass(frozen=True)
class Flags:
    """A program."""

    count: int = 1
    """How many."""


@pytest.mark.parametrize(
    "error, code, line",
    [
        (CourseError("no names; give some"), 1, "count: no names; give some\n"),
        (FlagError("--count is 0"), 2, "count: --count is 0\n"),
        (KeyboardInterrupt(), 130, "count: interrupted\n"),
    ],
)
def test_programs_end_with_one_sentence_and_a_code(capsys, error, code, line):
    def work(flags):
        raise error

    with pytest.raises(SystemExit) as caught:
        run_program("count", Flags, work, [])
    assert caught.value.code == code and capsys.readouterr().err == line


def test_programs_take_flags_with_dashes_and_underscores():
    @dataclass(frozen=True)
    class Batch:
        device_batch_size: int = 1

    seen = []
    for flag in ("--device-batch-size", "--device_batch_size"):
        run_program("train", Batch, lambda flags: seen.append(flags.device_batch_size), [flag, "4"])
    assert seen == [4, 4]


def test_a_bug_is_not_hidden():
    def work(flags):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_program("count", Flags, work, [])
