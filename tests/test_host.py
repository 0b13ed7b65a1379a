"""Paths, whole-or-nothing files, how programs end and are stopped, and what they say meanwhile."""

import importlib
import math
import os
import random
import signal
import stat
import subprocess
import sys
import threading
from dataclasses import dataclass, fields
from pathlib import Path

import platformdirs
import pytest
from screens import run_in_terminal

from course_lib.host import paths
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.files import only_one, sha256_of, write_atomically
from course_lib.host.program import run_program
from course_lib.host.progress import StatusLine, suggest
from course_lib.host.stop import stop_when_asked
from course_lib.host.words import duration, plural
from course_lib.train.metrics import MetricsLog, draw_metrics, read_metrics, save_curves


def test_the_bundled_data_is_found(checkout):
    assert paths.data_dir() == checkout / "data" and (paths.data_dir() / "names.txt").exists()


@pytest.mark.parametrize("name", ["x" * 201, "ü" * 101])
def test_a_name_too_long_for_what_stands_beside_it_is_refused_at_once(tmp_path, name):
    with pytest.raises(CourseError, match=r"has 20\d bytes, expected 200 at most; choose a shorter one"):
        only_one(tmp_path / name)
    with only_one(tmp_path / name[:100]):
        pass


def test_home_is_made_where_course_home_says(home):
    assert paths.home_dir() == home and home.is_dir()


def test_home_is_in_the_cache_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_HOME", raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path / "cache" / "course"))
    assert paths.home_dir() == tmp_path / "cache" / "course"


def test_a_home_that_cannot_be_made_is_one_sentence(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(CourseError, match="cannot make the folder .*set COURSE_HOME"):
        paths.home_dir()


def test_a_read_only_home_is_there_to_read_and_one_sentence_for_who_writes(home, monkeypatch):
    home.mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)  # a chmod would not stop root
    assert paths.home_dir() == home
    for folder in (home, home / "a" / "b"):
        with pytest.raises(CourseError, match="cannot write to the folder .*set COURSE_HOME"):
            paths.check_writable(folder)
        with pytest.raises(CourseError, match="cannot write to the folder .*set COURSE_HOME"):
            only_one(folder / "x")


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


def test_a_path_is_what_the_user_means_in_every_spelling(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "real" / "x.txt").symlink_to("blob")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    monkeypatch.chdir(tmp_path / "real")
    for text in ("~/real/x.txt", "x.txt", "./x.txt", "x.txt/", "../real/x.txt", "../link/../x.txt", "deep/../x.txt"):
        assert paths.user_path(text) == tmp_path / "real" / "x.txt", text
    assert paths.user_path("deep/..") == paths.user_path(".") == tmp_path / "real"
    assert paths.user_path(tmp_path / "a b" / "~") == tmp_path / "a b" / "~"


@pytest.mark.parametrize("text", ["", "~no-such-user/x", "a\0b"])
def test_a_path_that_leads_nowhere_is_one_sentence(text):
    with pytest.raises(CourseError):
        paths.user_path(text)


def test_a_working_folder_that_is_gone_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(CourseError, match="working folder, which was deleted"):
        paths.user_path("x")
    assert paths.user_path("/x") == Path("/x")


def without_a_home(monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(uid)))


def test_a_user_without_a_home_is_told_to_set_course_home(monkeypatch, tmp_path):
    without_a_home(monkeypatch)
    monkeypatch.delenv("COURSE_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(CourseError, match="set COURSE_HOME"):
        paths.home_dir()
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    assert paths.home_dir() == tmp_path


NAMES = (
    "base_train chat_sft chat_rl base_eval chat_eval chat_cli chat_web tok_train tok_eval microgpt get_data speedrun"
).split()
PROGRAMS = [importlib.import_module(f"course_lib.scripts.{name}") for name in NAMES]
PATHS = [(each, field.name) for each in PROGRAMS for field in fields(each.Settings) if "Path" in str(field.type)]


def test_the_programs_have_flags_with_paths():
    assert {name for _, name in PATHS} >= {"tokenizer", "folder", "names", "checkpoint"}


@pytest.mark.parametrize("program, flag", PATHS, ids=[f"{program.__name__[19:]} {flag}" for program, flag in PATHS])
def test_every_flag_that_is_a_path_is_read_in_one_way(program, flag, monkeypatch, tmp_path, capsys):
    got = []
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("~/x y", "x y"):
        monkeypatch.chdir(tmp_path)
        run_program("program", program.Settings, got.append, [f"--{flag}={text}"])
    run_program("program", program.Settings, got.append, [f"--{flag}", "~/x y/"])
    assert [getattr(settings, flag) for settings in got] == 3 * [tmp_path / "x y"]
    for text in ("", "~no-such-user/x"):
        with pytest.raises(SystemExit) as end:
            run_program("program", program.Settings, got.append, [f"--{flag}", text])
        captured = capsys.readouterr()
        assert end.value.code == 2 and captured.err.startswith("program: ") and captured.err.count("\n") == 1
        assert not captured.out and len(got) == 3


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = f"""
import pathlib, resource, signal
from course_lib.host.files import sha256_of, write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
with write_atomically(pathlib.Path({str(path)!r})) as file:
    file.write("x" * 100_000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "OSError" in done.stderr
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_the_checksum_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@dataclass(frozen=True)
class Flags:
    """A program."""

    count: int = 1
    """How many."""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1:strict", "utf-8"])
def test_no_character_ends_a_program_whatever_stdout_can_say(tmp_path, encoding):
    code = """
from dataclasses import dataclass
from rich.table import Table
from course_lib.host.errors import CourseError
from course_lib.host.program import run_program
from course_lib.host.progress import console, sample, say

@dataclass(frozen=True)
class Flags:
    'A program … 字.'
    count: int = 1

def work(flags):
    say("step 1: … 字 \\udcff")
    sample("…", "字")
    table = Table("±")
    table.add_row("字")
    console().print(table)
    raise CourseError("… 字 \\udcff")

run_program("count", Flags, work)
"""
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for flag in ("--count=1", "--help"):
        done = subprocess.run([sys.executable, "-c", code, flag], capture_output=True, env=environment)
        assert b"Traceback" not in done.stderr and done.returncode == (flag != "--help")
    assert b"A program" in done.stdout


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_with_bytes_that_are_no_text_is_refused_by_its_flag(capsys, kind):
    @dataclass(frozen=True)
    class Where:
        the_data: kind = kind("a")

    with pytest.raises(SystemExit) as caught:
        run_program("train", Where, lambda flags: None, ["--the-data", os.fsdecode(b"b\xff")])
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert "--the-data is '" in err and "b\\udcff', with bytes that are no UTF-8; rename it" in err


def test_a_home_with_bytes_that_are_no_text_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_HOME", os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    with pytest.raises(CourseError, match="no UTF-8; set COURSE_HOME"):
        paths.home_dir()


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


# ---- wishes to stop


def test_ctrl_c_and_sigterm_are_noted_and_the_handlers_come_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with stop_when_asked() as stop:
            assert stop.code == 0
            os.kill(os.getpid(), number)
            assert stop.code == code
            os.kill(os.getpid(), signal.SIGTERM)  # a second one of these is no more than the first
            assert stop.code in (code, 143)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_terminal_that_is_closed_is_a_request_unless_that_is_ignored():
    for handler, code in ((signal.SIG_DFL, 129), (signal.SIG_IGN, 0)):
        before = signal.signal(signal.SIGHUP, handler)
        try:
            with stop_when_asked() as stop:
                if signal.getsignal(signal.SIGHUP) != signal.SIG_DFL:  # which would end the tests
                    os.kill(os.getpid(), signal.SIGHUP)
                assert stop.code == code
            assert signal.getsignal(signal.SIGHUP) == handler
        finally:
            signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("where, complaint", [("| head -1", ""), ("> /dev/full", "nothing can be printed any more")])
@pytest.mark.parametrize("printing", ["print('a' * 9000, flush=True)", "console().print('a' * 9000)"])
def test_a_stdout_that_fails_lets_long_work_end_by_itself(where, complaint, printing):
    if "full" in where and not os.path.exists("/dev/full"):  # macOS has none
        return
    code = f"""
import sys
from course_lib.host.program import call
from course_lib.host.progress import console
from course_lib.host.stop import stop_when_asked
def work():
    with stop_when_asked() as stop:
        while not stop.code:
            {printing}
        print("more")
        print("saved", file=sys.stderr)
    return stop.code
call("count", work)
"""
    command = f'"{sys.executable}" -c "$CODE" {where}; exit ${{PIPESTATUS[0]}}'
    environment = {**os.environ, "CODE": code}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert done.returncode == 128 + signal.SIGPIPE
    *said, last = done.stderr.splitlines()
    assert last == "saved" and len(said) == bool(complaint) and complaint in "".join(said)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_an_empty_one(closed):
    code = """
import sys
from course_lib.host.program import call
def work():
    print(sys.stdin.isatty(), sys.stdin.read())
    print("x", file=sys.stderr)
call("count", work)
"""
    command = f'"{sys.executable}" -c "$CODE" {closed}'
    environment = {**os.environ, "CODE": code}
    done = subprocess.run(["bash", "-c", command], input="", capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and done.stderr in ("", "x\n")


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_ctrl_c_interrupts_at_once(first):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stop_when_asked():
        os.kill(os.getpid(), first)
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_in_another_thread_there_is_no_wish_and_no_error():
    seen = []

    def work():
        with stop_when_asked() as stop:
            seen.append(stop.code)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(timeout=30)
    assert seen == [0]


# ---- metrics


def test_metrics_are_lines_of_json_there_at_once(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    log = MetricsLog(path)
    log.add(0, loss=2.5, samples=[["a", "ü\n"]])
    log.add(1, loss=math.nan)
    assert path.read_text().count("\n") == 2  # not closed yet
    first, second = read_metrics(path)
    assert first == {"step": 0, "loss": 2.5, "samples": [["a", "ü\n"]]} and math.isnan(second["loss"])
    log.close()
    assert [each.name for each in path.parent.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("torn", [b"", b'{"step": 3, "lo', b'{"step": 3, "samples": "\xc3', b"\x00\x00"])
def test_who_goes_on_drops_a_torn_line_and_the_steps_that_come_again(tmp_path, torn):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in range(5):
        log.add(step, loss=float(step))
        log.add(step, bits_per_byte=1.0)
    log.close()
    path.write_bytes(path.read_bytes() + torn)
    assert [entry["step"] for entry in read_metrics(path)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    log = MetricsLog(path, first_step=3)
    log.add(3, loss=9.0)
    log.close()
    assert [entry["step"] for entry in read_metrics(path)] == [0, 0, 1, 1, 2, 2, 3]
    assert read_metrics(path)[-1]["loss"] == 9.0
    assert len(path.read_text().splitlines()) == 7
    MetricsLog(path).close()  # from the beginning
    assert path.read_text() == "" and read_metrics(tmp_path / "none") == []


def test_whatever_a_bit_does_to_the_metrics_a_run_goes_on_and_says_what_it_left_out(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in range(20):
        log.add(step, loss=1.5, bits_per_byte=0.5, tokens_per_second=100)
    log.close()
    whole, rng = path.read_bytes(), random.Random(0)
    said = 0
    for n in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        entries = read_metrics(path)
        if n % 60 == 0:
            draw_metrics(entries)
        assert len(entries) >= 18, "other lines stay: a flipped line end joins two"
        MetricsLog(path, 100).close()
        message = capsys.readouterr().err
        assert message in ("", f"{path}: left out 1 damaged line\n")
        assert len(entries) == 20 or message or damaged.splitlines()[-1] != whole.splitlines()[-1]
        said += bool(message)
    assert said > 50


@pytest.mark.slow
def test_curves_show_what_was_measured(tmp_path):
    entries = [{"step": n, "loss": 3.0 - n, "smoothed": 3.0 - n / 2, "lr_multiplier": 1.0} for n in range(3)]
    entries += [{"step": 0, "bits_per_byte": 2.0}, {"step": 3, "bits_per_byte": 1.0}]
    panels = draw_metrics(entries).axes
    assert [len(panel.lines) for panel in panels] == [2, 1, 1, 1]
    loss, bits, rate, speed = (panel.lines[-1] for panel in panels)
    assert list(loss.get_ydata()) == [3.0, 2.5, 2.0] and list(panels[0].lines[0].get_ydata()) == [3.0, 2.0, 1.0]
    assert (
        list(bits.get_xdata()) == [0, 3]
        and list(bits.get_ydata()) == [2.0, 1.0]
        and list(rate.get_ydata()) == [1.0] * 3
    )
    assert len(speed.get_ydata()) == 0 and all(panel.get_xlabel() == "step" and panel.get_ylabel() for panel in panels)
    for some in (entries, []):
        save_curves(tmp_path / "curves.png", some)
        assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


# ---- the line that says how far it is


def test_without_a_terminal_the_status_is_a_line_now_and_then(capsys):
    with StatusLine(40) as line:
        for step in range(1, 41):
            line.show(step, f"step {step}")
            line.hint("not seen")
        line.say("[/b] stays")
    out, err = capsys.readouterr()
    assert out == "".join(f"step {step}\n" for step in range(2, 41, 2)) + "[/b] stays\n" and err == ""
    with StatusLine(3) as line:
        line.show(1, "one")
    assert capsys.readouterr().out == "one\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_the_other_processes_say_nothing(capsys, monkeypatch, terminal):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    with StatusLine(4, quiet=True) as line:
        line.show(1, "one")
        line.hint("a hint")
        line.say("two")
        line.sample("three", "four")
    assert capsys.readouterr() == ("", "")


SCREEN = """
import sys
from pathlib import Path
from types import SimpleNamespace
from course_lib.evaluate.core import TaskResult
from course_lib.evaluate.reports import Evaluation
from course_lib.host.progress import StatusLine, suggest

tasks = [SimpleNamespace(name=name, kind="schema", baseline=0.5) for name in ("words", "pronouns")]
with StatusLine(40) as line:
    line.show(1, "task 1 of 2: [/words]")
    line.say("speed        " + "somewhat " * 14)
    line.say("step 7: 2.7 bits [/b] :smile:")
    line.sample("a [red]\\nprompt\\x1b[2J", "its text " * 20, label="right")
    line.sample("x" * 50 + "a long prompt", "its text " * 20, cut=True)
    def ask(task, label):
        line.hint(label)
        return TaskResult(task, 3, 6), {}

    run = Evaluation(None, None, Path(sys.argv[1]), line, None)
    run.ask_tasks(tasks, ask, {}, lambda task: task.kind)
    print("complained", file=sys.stderr)
suggest({"base_eval --tag d4": "measure it", "chat_sft": "make it an assistant"})
"""


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_everything_stands_whole_and_in_order_above_the_bar_that_goes(columns, tmp_path):
    code, shown, _ = run_in_terminal([sys.executable, "-c", SCREEN, str(tmp_path / "report.json")], columns)
    lines = shown.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("┏"))
    assert code == 0, shown
    widths = {len(line) for line in lines[start : start + 6]}
    assert len(widths) == 1 and lines[start + 5].startswith("└") and lines[start + 5].endswith("┘"), shown
    assert lines[start + 4].startswith("│ pronouns │")
    assert lines[start + 6 :] == [
        "mean of the centred scores: +0.0000 ± 0.2887 (0: guessing, 1: all right)",
        "complained",
        "next         uv run base_eval --tag d4  # measure it",
        "             uv run chat_sft            # make it an assistant",
    ]
    said = lines[:start]
    assert said[0].startswith("speed        somewhat") and said[1].startswith("             somewhat")
    assert "step 7:      2.7 bits [/b] :smile:" in said and "  right: a [red] prompt[2J … its text" in shown
    assert said[-1].startswith("  … long prompt … its text") and said[-1].endswith("…") and len(said[-1]) == columns
    words = set(" ".join(said[:-1]).split())  # none is broken
    assert words == set("speed somewhat step 7: 2.7 bits [/b] :smile: right: a [red] prompt[2J … its text".split())


def test_into_a_pipe_goes_plain_text(capsys):
    with StatusLine(40) as line:
        line.say("speed        " + "somewhat " * 14)
        line.sample("a\nprompt\x1b[2J", "its\ttext " * 20, cut=True)
    suggest({"base_eval": "measure it"})
    out = capsys.readouterr().out
    assert out == f"speed        {'somewhat ' * 14}\n  a prompt[2J … {' '.join(['its text'] * 20)}\n"


def test_an_error_breaks_at_words_on_a_terminal():
    program = "from course_lib.host import program; program.run_program('x', int, lambda _: open('word ' * 40))"
    code, shown, _ = run_in_terminal([sys.executable, "-c", program], 31)
    assert code == 1 and shown.count("word\n") > 3, shown


# ---- words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0:00"),
        (0.4, "0:00"),
        (59.6, "1:00"),
        (245, "4:05"),
        (3599.4, "59:59"),
        (3600, "1:00:00"),
        (3729, "1:02:09"),
    ],
)
def test_a_duration_is_said_with_hours_from_one_hour_on(seconds, said):
    assert duration(seconds) == said and duration(86_400 + 3600 * 2 + 5) == "26:00:05"


def test_a_count_takes_the_noun_that_fits_it():
    assert [plural(n, "item") for n in (0, 1, 2, 1234)] == ["0 items", "1 item", "2 items", "1,234 items"]
    assert [plural(n, "process", "processes") for n in (1, 2)] == ["1 process", "2 processes"]


def test_ctrl_c_while_a_program_is_loading_is_no_traceback():
    for raised, said in (("KeyboardInterrupt", "base_train: interrupted\n"), ("ValueError", "Traceback")):
        code = f"import sys; sys.argv = ['/x/base_train']; import course_lib.scripts; raise {raised}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode and done.stderr.startswith(said)
