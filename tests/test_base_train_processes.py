"""Runs of base_train as processes of their own: killed, stopped, launched in twos, begun with nothing."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from devices import EXACT
from test_base_train import (
    TINY,
    assert_close_run,
    assert_same_run,
    checkpoint_folders,
    contents,
    folder_of,
    metrics,
    newest_checkpoint,
    text,
    train,
)
from waiting import wait_for

pytestmark = pytest.mark.slow

__all__ = ["text", "train"]  # fixtures


def spawn(text, *flags, **options):
    """base_train as a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLX_")}
    command = [sys.executable, "-m", "course_lib.scripts.base_train", f"--dataset={text}", *TINY, *flags]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen(command, env={**environment, "OPENBLAS_NUM_THREADS": "1"}, **options)


def lines_in(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


KILLS = int(os.environ.get("COURSE_TEST_KILLS", "5"))


def test_killed_at_random_moments_it_loses_at_most_the_steps_since_the_last_save(train, text, home):
    steps, every = 8 + 12 * KILLS, 3
    flags = [f"--num-iterations={steps}", f"--save-every={every}", "--eval-every=20", "--sample-every=50"]
    assert train(*flags, "--tag=whole")[0] == 0
    folder, draw = folder_of(home, "killed"), random.Random(time.time_ns())
    saved = 0
    for kill in range(KILLS):
        begun = bool(checkpoint_folders(folder))
        before = lines_in(folder / "metrics.jsonl") if begun else 0
        with spawn(text, *flags, "--processes=1", "--tag=killed", *["--resume"] * begun) as process:
            if kill and draw.random() < 0.25:  # while it starts
                for _ in range(draw.randrange(6)):
                    process.stdout.readline()
            else:
                enough = before + draw.randrange(4, 14)
                wait_for(lambda: process.poll() is not None or lines_in(folder / "metrics.jsonl") >= enough)  # noqa: B023
                time.sleep(draw.random() * 0.03)
            process.kill()
            _, err = process.communicate(timeout=60)
        assert err == "", err
        here = [path.name for path in checkpoint_folders(folder)]
        if not here and not saved:  # killed before the first save
            shutil.rmtree(folder, ignore_errors=True)
            continue
        done = 1 + max((entry["step"] for entry in whole_lines(folder) if "loss" in entry), default=-1)
        checkpoint = newest_checkpoint(folder)
        assert checkpoint.step == int(here[0].removeprefix("step_")) >= saved
        assert done - checkpoint.step <= every
        saved = checkpoint.step
    code, out, err = train(*flags, "--tag=killed", "--resume")
    assert code == 0 and err == ""
    assert_same_run(folder_of(home, "whole"), folder, steps)
    assert not list(folder.glob(".step_*.part"))


def whole_lines(folder):
    lines = (folder / "metrics.jsonl").read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]


def test_offline_from_an_empty_home_the_bundled_text_is_learned(home, monkeypatch):
    command = [sys.executable, "-m", "course_lib.scripts.base_train", "--depth=2", "--num-iterations=10"]
    command += ["--sequence-len=64", "--total-batch-size=1024", "--processes=1", "--tag=first"]
    offline = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env={**os.environ, **offline}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "there is no tokenizer for this text yet: training one" in done.stdout
    bits = [entry["bits_per_byte"] for entry in metrics(folder_of(home, "first")) if "bits_per_byte" in entry]
    assert bits[-1] < bits[0] - 0.4


# ---- two processes


TWO = ("--processes=2", "--num-iterations=100", "--eval-every=30", "--sample-every=40", "--save-every=5")


def ranks_of(launcher):
    """Process ids of the ranks that a launcher has started, in order."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
            environment = (stat.parent / "environ").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue
        if int(fields[1]) == launcher.pid and fields[0] != "Z":
            rank = [value for value in environment if value.startswith(b"MLX_RANK=")]
            found += [(int(rank[0][9:]), int(stat.parent.name))] if rank else []
    return [number for _, number in sorted(found)]


def is_gone(number):
    try:
        return ") Z " in Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_two_processes_killed_stopped_and_resumed_end_as_one_with_more_accumulation(train, text, home):
    """Each rank is killed once, the launcher too; Ctrl-C, and a SIGTERM to one rank alone, stop the run in between."""
    one = [flag for flag in TWO if "processes" not in flag]
    assert train(*one, "--tag=one")[0] == 0
    folder, file = folder_of(home, "two"), folder_of(home, "two") / "metrics.jsonl"
    done = 0
    for count, how in enumerate(["Ctrl-C", "rank 1", "SIGTERM", "rank 0", "launcher"]):
        old = file.stat().st_ino if count else None  # who goes on writes the file anew

        def is_training(old=old, done=done):
            if not file.exists() or file.stat().st_ino == old:
                return False
            return any(entry["step"] >= done for entry in steps_in(folder))

        with spawn(text, *TWO, "--tag=two", *["--resume"] * (count > 0)) as process:
            wait_for(lambda process=process, is_training=is_training: process.poll() is not None or is_training())
            ranks = ranks_of(process)
            if len(ranks) < 2:  # it has ended: too quick for us
                out, err = process.communicate(timeout=120)
                assert (process.returncode, err) == (0, "")
                break
            if how == "Ctrl-C":
                process.send_signal(signal.SIGINT)
            elif how == "SIGTERM":
                os.kill(ranks[1], signal.SIGTERM)  # one alone: both must agree
            elif how == "launcher":
                process.kill()
            else:
                os.kill(ranks[int(how[-1])], signal.SIGKILL)
            out, err = process.communicate(timeout=120)
        wait_for(lambda ranks=ranks: all(map(is_gone, ranks)))
        newest = newest_checkpoint(folder).step if checkpoint_folders(folder) else 0
        if how in ("Ctrl-C", "SIGTERM"):
            assert (process.returncode, err) == ({"Ctrl-C": 130, "SIGTERM": 143}[how], "")
            assert f"stopped after {newest} steps" in out
        elif how.startswith("rank"):
            assert process.returncode == 1 and f"process {how[-1]} of 2 died of SIGKILL" in err
            assert "Traceback" not in err
        assert newest >= done
        done = newest
    with spawn(text, *TWO, "--tag=two", "--resume") as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    a, b = (contents(folder_of(home, tag) / "step_000100") for tag in ("one", "two"))
    assert not EXACT or [name for name in a[0] if a[0][name] != b[0][name]] == []
    assert a[1]["data"] == b[1]["data"] and (a[1]["processes"], b[1]["processes"]) == (1, 2)
    losses = [[entry["loss"] for entry in metrics(folder_of(home, tag)) if "loss" in entry] for tag in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6 if EXACT else 2e-2) and len(losses[0]) == 100


def steps_in(folder):
    return [entry for entry in whole_lines(folder) if "loss" in entry]


def test_a_run_of_two_processes_goes_on_in_one_and_an_error_of_the_first_ends_both(train, text, home):
    flags = ("--num-iterations=8", "--save-every=4")
    assert train(*flags, "--tag=whole")[0] == 0
    with spawn(text, *flags, "--processes=2", "--tag=parts", "--dry-run") as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "") and "in each of 2 processes" in out
    with spawn(text, *flags, "--processes=2", "--tag=whole") as process:  # there is a run already
        out, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "holds a run already" in err and "Traceback" not in err
    shutil.copytree(folder_of(home, "whole"), folder_of(home, "parts"))
    shutil.rmtree(folder_of(home, "parts") / "step_000008")
    with spawn(text, *flags, "--processes=2", "--tag=parts", "--resume") as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert_close_run(folder_of(home, "whole"), folder_of(home, "parts"), 8)


def test_it_works_under_mlx_launch(text, home, train):
    flags = ("--num-iterations=6", "--sample-every=99")
    assert train(*flags, "--tag=alone")[0] == 0
    launcher = Path(sys.executable).with_name("mlx.launch")
    if not launcher.exists():
        pytest.skip("mlx.launch is not installed beside this Python")
    ports = subprocess.run(
        [sys.executable, "-c", "from course_lib.train import local_ring; print(local_ring._free_ports(1)[0])"],
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.strip()
    command = [str(launcher), "-n", "2", "-p", ports, "--", sys.executable, "-m", "course_lib.scripts.base_train"]
    done = subprocess.run(
        [*command, f"--dataset={text}", *TINY, *flags, "--tag=launched"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "done in" in done.stdout
    a, b = (contents(folder_of(home, tag) / "step_000006")[0] for tag in ("alone", "launched"))
    assert not EXACT or [name for name in a if a[name] != b[name]] == []
