"""Functions travel into a ring of processes, which always ends; the checks of chapter 20's exercises teach."""

import os
import signal
import subprocess
import sys
import threading
import time

import mlx.core as mx
import pytest
from waiting import wait_for

from course_lib.classroom.exercises import processes as exercises
from course_lib.host.errors import CourseError
from course_lib.train import ring_call
from course_lib.train.ring_call import failure, in_a_ring, two_cores_idle

ADDED = 10


def added(number, more=ADDED):
    return number + more


def total(number, function=added, times=1):
    """Uses an import, a function beside it, and a plain value."""
    group = mx.distributed.init()
    return [group.rank(), times * mx.distributed.all_sum(mx.array(function(number + group.rank()))).item()]


def never_comes(folder):
    (folder / f"pid_{os.environ['MLX_RANK']}").write_text(str(os.getpid()))
    if os.environ["MLX_RANK"] == "1":
        time.sleep(600)
    return mx.distributed.init().size()


def raises():
    group = mx.distributed.init()
    if group.rank() == 1:
        raise KeyError("a bug")
    return mx.distributed.all_sum(mx.array(1.0)).item()


def killed():
    if mx.distributed.init().rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return mx.distributed.all_sum(mx.array(1.0)).item()


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pids(folder):
    files = [folder / f"pid_{rank}" for rank in (0, 1)]
    wait_for(lambda: all(path.exists() and path.read_text() for path in files))
    return [int(path.read_text()) for path in files]


# ---- in_a_ring


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_a_function_runs_in_each_process_with_what_it_uses(processes):
    sums = sum(range(processes)) + processes * 15
    assert in_a_ring(total, processes, 5, times=2) == [[rank, 2 * sums] for rank in range(processes)]


@pytest.mark.slow
def test_functions_travel_as_arguments_too():
    assert in_a_ring(total, 2, 5, lone) == [[0, 2], [1, 2]]


def lone(number):
    return number // number


@pytest.mark.slow
def test_a_process_that_never_comes_ends_in_a_sentence_and_none_stays(tmp_path):
    with pytest.raises(CourseError, match="2 processes were not done after 3 seconds"):
        in_a_ring(never_comes, 2, tmp_path, seconds=3)
    assert not any(is_running(pid) for pid in pids(tmp_path))


@pytest.mark.slow
def test_what_a_process_raised_is_told_and_not_that_another_lost_it():
    with pytest.raises(CourseError, match="process 1 of 2 raised KeyError: 'a bug' .in the line: raise KeyError"):
        in_a_ring(raises, 2)


@pytest.mark.slow
def test_a_process_that_was_killed_is_named():
    assert "process 1 of 2 died of SIGKILL" in failure(killed, 2, seconds=60)
    with pytest.raises(AssertionError, match="lone_sum should have failed"):
        failure(lone_sum, 1, seconds=60)


def lone_sum():
    return mx.distributed.all_sum(mx.array(1.0)).item()


@pytest.mark.slow
def test_an_interrupt_ends_all_at_once(tmp_path):
    started = time.monotonic()

    def interrupt():
        pids(tmp_path)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        in_a_ring(never_comes, 2, tmp_path, seconds=300)
    assert time.monotonic() - started < 100
    assert not any(is_running(pid) for pid in pids(tmp_path))


@pytest.mark.slow
def test_they_end_with_a_caller_that_is_killed(tmp_path):
    program = (
        "import pathlib, sys, test_processes as t; t.in_a_ring(t.asleep, 2, pathlib.Path(sys.argv[1]), seconds=300)"
    )
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], env=environment) as caller:
        running = pids(tmp_path)
        caller.kill()
    wait_for(lambda: not any(is_running(pid) for pid in running))


def asleep(folder):
    (folder / f"pid_{os.environ['MLX_RANK']}").write_text(str(os.getpid()))
    time.sleep(600)


@pytest.mark.parametrize(
    ("gains", "load", "kind", "idle"),
    [
        ([1.7, 1.9], 2.0, "cpu", True),
        ([1.7, 1.2], 2.0, "cpu", False),
        ([1.9, 1.9], 9.0, "cpu", False),  # what others lost
        ([1.9, 1.9], 2.0, "metal", False),
    ],
)
def test_cores_are_idle_when_a_second_process_gains_and_nobody_loses(gains, load, kind, idle, monkeypatch):
    monkeypatch.setattr(ring_call.os, "getloadavg", lambda: (load, load, load))
    monkeypatch.setattr(ring_call.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(ring_call.backend, "device_kind", lambda: kind)
    assert two_cores_idle(gains) == idle


# ---- exercise 20.1


def right_passing_on(size, pieces, later=0, behind=0):
    return [
        [(p, tick - p - behind * p) for p in range(size - 1) if 0 <= tick - p - behind * p < pieces]
        for tick in range(pieces + size - 2 + later)
    ]


def whole_list_first(size, pieces):
    return [[(p, piece)] for p in range(size - 1) for piece in range(pieces)]


def all_send_the_same(size, pieces):
    return [[(p, tick) for p in range(size - 1) if tick < pieces] for tick in range(pieces + size - 2)]


def around_the_ring(size, pieces):
    return [[(p, tick - p) for p in range(size) if 0 <= tick - p < pieces] for tick in range(pieces + size - 2)]


def all_at_once(size, pieces):
    return [[(p, piece) for piece in range(pieces)] for p in range(size - 1)]


def test_the_right_plan_passes():
    assert "102 ticks" in exercises.passing_on(right_passing_on)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda size, pieces: None, "return"),
        (whole_list_first, "a process can pass a piece on as soon as it has it"),
        (all_send_the_same, "which it does not have before this tick"),
        (lambda size, pieces: right_passing_on(size, pieces)[:-1], "still lacks piece"),
        (lambda size, pieces: right_passing_on(size, pieces, later=1), "ticks, 1 are enough"),
        (around_the_ring, "its right neighbour is process 0"),
        (all_at_once, "sends more than one piece"),
        (
            lambda size, pieces: [[(p + 1, n) for p, n in tick] for tick in right_passing_on(size, pieces)],
            "is the last",
        ),
        (
            lambda size, pieces: [[(p, n + 1) for p, n in tick] for tick in right_passing_on(size, pieces)],
            "the pieces are",
        ),
    ],
)
def test_wrong_plans_are_told_why(answer, said):
    with pytest.raises(AssertionError) as caught:
        exercises.passing_on(answer)
    assert said in str(caught.value)


# ---- exercise 20.2


def right_careful_step(weight, loss, gradient, group):
    mean_loss = mx.distributed.all_sum(loss, group=group) / group.size()
    mean = mx.distributed.all_sum(gradient, group=group) / group.size()
    mx.eval(mean_loss, mean)
    return weight if mean_loss.item() > 10 else weight - 0.1 * mean


def as_it_was(weight, loss, gradient, group):
    if loss.item() > 10:
        return weight
    return weight - 0.1 * mx.distributed.all_sum(gradient, group=group) / group.size()


def waits_for_ever(weight, loss, gradient, group):
    if mx.distributed.all_sum(loss, group=group).item() > 30 and group.rank() == 0:
        mx.eval(mx.distributed.all_sum(loss, group=group))
        time.sleep(600)
    return right_careful_step(weight, loss, gradient, group)


def decides_alone(weight, loss, gradient, group):
    mean = mx.distributed.all_sum(gradient, group=group) / group.size()
    mx.eval(mean)
    return weight if loss.item() > 10 else weight - 0.1 * mean


def skips_when_one_is_high(weight, loss, gradient, group):
    highest = mx.distributed.all_max(loss, group=group).item()
    mean = mx.distributed.all_sum(gradient, group=group) / group.size()
    return weight if highest > 10 else weight - 0.1 * mean


def adds_up_the_losses(weight, loss, gradient, group):
    total = mx.distributed.all_sum(loss, group=group).item()
    mean = mx.distributed.all_sum(gradient, group=group) / group.size()
    return weight if total > 10 else weight - 0.1 * mean


def adds_up_the_gradients(weight, loss, gradient, group):
    mean_loss = mx.distributed.all_sum(loss, group=group).item() / group.size()
    return weight if mean_loss > 10 else weight - 0.1 * mx.distributed.all_sum(gradient, group=group)


def takes_its_own_gradient(weight, loss, gradient, group):
    mean_loss = mx.distributed.all_sum(loss, group=group).item() / group.size()
    return weight if mean_loss > 10 else weight - 0.1 * gradient


def never_skips(weight, loss, gradient, group):
    return weight - 0.1 * mx.distributed.all_sum(gradient, group=group) / group.size()


def gives_nothing_back(weight, loss, gradient, group):
    right_careful_step(weight, loss, gradient, group)


def not_written(weight, loss, gradient, group):
    raise NotImplementedError


@pytest.mark.slow
def test_a_step_that_is_not_written_is_no_mistake():
    with pytest.raises(NotImplementedError):
        exercises.careful_step(not_written)


@pytest.mark.slow
def test_the_right_step_passes():
    exercises.careful_step(right_careful_step)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (as_it_was, "waits for a message that no other sends"),
        (waits_for_ever, "waits for a message that no other sends"),
        (decides_alone, "the processes now disagree"),
        (skips_when_one_is_high, "only the mean of the losses decides"),
        (adds_up_the_losses, "only the mean of the losses decides"),
        (adds_up_the_gradients, "by the sum of the gradients"),
        (takes_its_own_gradient, "the processes now disagree"),
        (never_skips, "all must leave the weight as it is"),
        (gives_nothing_back, "nothing came back"),
    ],
)
def test_wrong_steps_are_told_why(answer, said):
    with pytest.raises(AssertionError) as caught:
        exercises.careful_step(answer)
    assert said in str(caught.value)
