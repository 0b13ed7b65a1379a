"""Processes in a ring find each other, end together whatever ends one of them, and never stay behind."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from waiting import wait_for

from course_lib.host.errors import CourseError
from course_lib.host.stop import StopRequest
from course_lib.train import local_ring
from course_lib.train.launch import member_of_a_group

pytestmark = pytest.mark.slow

MEMBER = """
import os, pathlib, sys, time
import mlx.core as mx
from course_lib.train import local_ring
from course_lib.host.stop import stop_when_asked

how, folder, rank = sys.argv[1], pathlib.Path(sys.argv[2]), int(os.environ["MLX_RANK"])
if how == "early":
    here = folder / f"here_{rank}"
    here.write_text(str(os.getpid()))
    here.rename(folder / f"pid_{rank}")  # whole from the first moment
    time.sleep(100)
group = mx.distributed.init()
assert group.rank() == rank
assert os.getsid(0) == os.getpid()  # else a terminal's Ctrl-C would reach it twice
with stop_when_asked() as stop:
    local_ring.end_with_the_launcher(stop)
    here = folder / f"here_{rank}"
    here.write_text(str(os.getpid()))
    here.rename(folder / f"pid_{rank}")
    if how == "sum":
        print(rank, group.size(), mx.distributed.all_sum(mx.array(rank + 1)).item(), os.environ["OPENBLAS_NUM_THREADS"],
            flush=True)
        print(f"complaint of {rank}", file=sys.stderr)
        sys.exit()
    if how == "alone" and rank == 1:
        print("rank 1 did not like it", file=sys.stderr)
        sys.exit(3)
    if how == "raise" and rank == 1:
        raise KeyError("a bug")
    if how == "hang":
        while rank == 0 or not (folder / "pid_0").exists():
            time.sleep(0.01)
        sys.exit(3)
    code = 0
    try:
        while not code:
            time.sleep(0.01)
            code = int(mx.distributed.all_max(mx.array(stop.code)).item())
    except RuntimeError as error:
        assert "[ring]" in str(error), error
        (folder / f"lost_{rank}").write_text("")
        sys.exit(local_ring.LOST)
    if rank == 0:
        (folder / "saving").write_text("")
        time.sleep(100 if how == "slow" else 2)  # a large checkpoint
        (folder / "saved").write_text("")
    sys.exit(code)
"""


@pytest.fixture
def member(tmp_path, monkeypatch):
    (tmp_path / "member_of_the_ring.py").write_text(MEMBER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(local_ring, "GRACE", 1.0)
    return tmp_path


def launch_in_time(module, arguments, processes, seconds=120):
    """local_ring.launch, ended by two Ctrl-Cs (then it gives 130) should it hang."""

    def interrupt():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    timer = threading.Timer(seconds, interrupt)
    timer.start()
    try:
        return local_ring.launch(module, arguments, processes)
    finally:
        timer.cancel()


def launch(how, folder, processes=2):
    return launch_in_time("member_of_the_ring", [how, str(folder)], processes)


def pids(folder, count=2):
    wait_for(lambda: all((folder / f"pid_{rank}").exists() for rank in range(count)))
    return [int((folder / f"pid_{rank}").read_text()) for rank in range(count)]


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") if os.path.exists(f"/proc/{pid}/stat") else open(os.devnull) as file:
        return ") Z " in file.read()  # nobody has asked for its exit code yet


def once_they_run(folder, do):
    """Call do(pids) from another thread."""
    thread = threading.Thread(target=lambda: do(pids(folder)), daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("processes", [2, 3])
def test_all_find_each_other_and_only_the_first_is_heard(member, capfd, processes):
    assert launch("sum", member, processes) == 0
    out, err = capfd.readouterr()
    assert out == f"0 {processes} {sum(range(1, processes + 1))} 1\n"
    assert "complaint of 0\n" in err
    assert all(is_gone(pid) for pid in pids(member, processes))


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_wish_to_stop_reaches_all_and_the_first_has_the_time_to_save(member, number, code):
    """The second process ends at once, with the same exit code; that must not hurry the first one."""
    once_they_run(member, lambda _: os.kill(os.getpid(), number))
    assert launch("loop", member) == code
    assert (member / "saved").exists()


def test_a_wish_before_they_can_listen_is_a_stop_and_no_death(member):
    once_they_run(member, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert launch("early", member) == 143


def test_a_second_ctrl_c_kills_them(member):
    def twice(_):
        os.kill(os.getpid(), signal.SIGINT)
        wait_for((member / "saving").exists)
        os.kill(os.getpid(), signal.SIGINT)

    once_they_run(member, twice)
    assert launch("slow", member) == 130
    assert not (member / "saved").exists() and all(is_gone(pid) for pid in pids(member))


@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_is_killed_ends_all_with_a_sentence(member, rank, monkeypatch):
    monkeypatch.setattr(local_ring, "GRACE", 60.0)
    once_they_run(member, lambda numbers: os.kill(numbers[rank], signal.SIGKILL))
    with pytest.raises(CourseError, match=f"process {rank} of 2 died of SIGKILL, so all have stopped") as caught:
        launch("loop", member)
    assert "--resume" in str(caught.value) and "\n" not in str(caught.value)
    assert all(is_gone(pid) for pid in pids(member))
    assert (member / f"lost_{1 - rank}").exists()  # the other noticed by itself


@pytest.mark.parametrize("how, words", [("alone", "rank 1 did not like it"), ("raise", "KeyError: 'a bug'")])
def test_what_another_than_the_first_complains_of_is_passed_on(member, capfd, how, words):
    assert launch(how, member) == {"alone": 3, "raise": 1}[how]
    assert words in capfd.readouterr().err
    assert all(is_gone(pid) for pid in pids(member))


def test_one_that_does_not_notice_is_killed_after_a_while(member):
    assert launch("hang", member) == 3
    assert all(is_gone(pid) for pid in pids(member))


def test_without_their_launcher_they_stop_and_save(member):
    code = (
        "from course_lib.train import local_ring; "
        f"local_ring.launch('member_of_the_ring', ['loop', {str(member)!r}], 2)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as launcher:
        numbers = pids(member)
        launcher.kill()
        launcher.wait(timeout=60)
    wait_for(lambda: all(map(is_gone, numbers)))
    assert (member / "saved").exists()


def test_a_module_that_does_not_exist_is_no_success(capfd):
    assert launch_in_time("course_lib.no_such_module", [], 2) == 1
    assert "no_such_module" in capfd.readouterr().err


# ---- one process by itself


@pytest.mark.parametrize("stdin", ["closed pipe", "/dev/null", "none"])
@pytest.mark.parametrize("started_by", ["MLX_RANK", "OMPI_COMM_WORLD_RANK", None])
def test_only_the_end_of_a_launchers_pipe_is_a_wish_to_stop(started_by, stdin):
    code = """
import os, time
from course_lib.train import local_ring
from course_lib.host.stop import StopRequest
stop = StopRequest()
local_ring.end_with_the_launcher(stop)
end = time.monotonic() + (60 if os.environ["EXPECTED"] == "143" else 0.3)
while time.monotonic() < end and not stop.code:
    time.sleep(0.01)
print(stop.code)
"""
    expected = "143" if started_by == "MLX_RANK" and stdin == "closed pipe" else "0"
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MLX_RANK", "OMPI_COMM_WORLD_RANK")
    }
    environment |= {"EXPECTED": expected, "PYTHONWARNINGS": "ignore"} | ({started_by: "0"} if started_by else {})
    options = {"closed pipe": {"input": ""}, "/dev/null": {"stdin": subprocess.DEVNULL}, "none": {}}[stdin]
    command = [sys.executable, "-c", code]
    if stdin == "none":
        command = ["sh", "-c", 'exec "$0" "$@" <&-', *command]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, **options)
    assert (done.stdout, done.stderr) == (f"{expected}\n", "")


def test_one_whose_launcher_is_gone_does_not_begin():
    code = "from course_lib.train.launch import member_of_a_group\nwith member_of_a_group('p'): print('begun')"
    environment = {**os.environ, "MLX_RANK": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, input="")
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "p: stopped before it began\n")


def test_in_a_ring(monkeypatch):
    for name in ("MLX_RANK", "OMPI_COMM_WORLD_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert not local_ring.in_a_ring()
    for name in ("MLX_RANK", "OMPI_COMM_WORLD_RANK"):
        with monkeypatch.context() as only:
            only.setenv(name, "0")
            assert local_ring.in_a_ring()


@pytest.mark.parametrize("cores, fitting", [(1, 1), (2, 2), (3, 2), (4, 4), (64, 4)])
def test_processes_that_fit_a_machine(monkeypatch, cores, fitting):
    monkeypatch.setattr(local_ring.sys, "platform", "linux")
    monkeypatch.setattr(local_ring.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert local_ring.fitting_processes("cpu") == fitting
    assert local_ring.fitting_processes("cuda") == 1
    monkeypatch.setattr(local_ring.sys, "platform", "darwin")
    assert local_ring.fitting_processes("cpu") == local_ring.fitting_processes("metal") == 1


def test_free_ports_are_different_and_free():
    ports = local_ring._free_ports(5)
    assert len(set(ports)) == 5 and all(1024 <= port < 65536 for port in ports)


class Process:
    """What _watch needs of a process that has ended."""

    def __init__(self, code):
        self.returncode = code

    def poll(self):
        return self.returncode


@pytest.mark.parametrize(
    "codes, expected", [([0, 0], 0), ([75, 3], 3), ([1, 75], 1), ([75, 75], 75), ([0, 75], 75), ([130, 130], 130)]
)
def test_the_exit_code_is_that_of_the_cause(tmp_path, codes, expected):
    complaints = [tmp_path / str(rank) for rank in range(2)]
    for complaint in complaints:
        complaint.write_text("")
    assert local_ring._watch([Process(code) for code in codes], complaints, StopRequest()) == expected


def test_a_ring_that_breaks_after_ctrl_c_was_stopped_not_lost(capsys):
    for asked, said in ((130, "x: stopped; what was saved is whole"), (0, "x: another process")):
        with pytest.raises(SystemExit) as end, member_of_a_group("x") as (_, stop):
            stop.code = asked
            raise RuntimeError("[ring] Couldn't connect")
        assert end.value.code == local_ring.LOST and capsys.readouterr().err.startswith(said)


def test_the_launcher_says_that_it_was_told_when_the_others_say_lost():
    code = (
        f"import signal as s, sys; s.signal(15, lambda *_: sys.exit({local_ring.LOST})); print(flush=True); s.pause()"
    )
    asked = StopRequest()
    asked.request(signal.SIGTERM)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()  # it listens
        assert local_ring._watch([process], [], asked) == 143
        assert local_ring._watch([process], [], StopRequest()) == local_ring.LOST
