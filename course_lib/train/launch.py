"""A run in one process or in several on this machine, and what several processes must agree on.

Written by hand; chapter 10 uses it.
"""

import pickle
import socket
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import mlx.core as mx

from course_lib import backend
from course_lib.host.errors import CourseError
from course_lib.host.program import call, given_flags, run_program
from course_lib.host.progress import suggest
from course_lib.host.stop import StopRequest, stop_when_asked
from course_lib.train import local_ring
from course_lib.train.checkpoint import newest_meta
from course_lib.train.distributed import Group, broadcast_json
from course_lib.train.flags import CallFlags, check_flags


def run_training(
    program: str, settings: type, train: Callable, folder_of: Callable, then: dict[str, str], argv: list[str] | None
) -> None:
    """A program that trains: train(settings, which of its flags were given), and what to do with the model.

    folder_of: settings -> the folder of the run; then: the programs to go on with, and what each does.
    """
    given = given_flags(settings, sys.argv[1:] if argv is None else argv)

    def work(flags: CallFlags) -> int:
        code = train(flags, given)
        if not (code or flags.dry_run):
            suggest({f"{name} --tag {folder_of(flags).name}": what for name, what in then.items()})
        return code

    run_program(program, settings, work, argv)


def start(
    program: str, work: Callable, settings: CallFlags, given: Set[str], folder: Path, fits: Callable[[int], object]
) -> int:
    """Call work(settings, given) here, or in several processes of their own; the exit code of the run.

    program: whose name errors carry; folder: of the run; fits: raises CourseError for a number of processes that cannot
    be. There are as many as --processes says, else as the run had, else one for each core, halved until they fit.
    """
    check_flags(settings)
    processes = 1 if local_ring.in_a_ring() else _process_count(settings, folder, fits)
    work = partial(work, settings, given)
    if processes == 1:
        return work()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "work"
        path.write_bytes(pickle.dumps((program, work)))
        return local_ring.launch("course_lib.train.launch", [str(path)], processes)


def _process_count(settings: CallFlags, folder: Path, fits: Callable[[int], object]) -> int:
    if settings.resume and (meta := newest_meta(folder)):
        return settings.processes or meta["processes"]
    processes = settings.processes or local_ring.fitting_processes(backend.device_kind())
    while processes > 1:
        try:
            fits(processes)
            return processes
        except CourseError:
            if settings.processes:
                raise
            processes //= 2
    return 1


@contextmanager
def member_of_a_group(program: str) -> Iterator[tuple[Group, StopRequest]]:
    """(the group of processes that train together, requests to stop) for the block, which is this process's part.

    When another process is gone, or all are to stop before they have begun, says so and ends this one.
    """
    with stop_when_asked() as stop:
        local_ring.end_with_the_launcher(stop)
        try:
            group = mx.distributed.init()
            if stop.code:  # begun now, it would hold the run's folder against the next one
                print(f"{program}: stopped before it began", file=sys.stderr)
                sys.exit(stop.code)
            yield group, stop
        except RuntimeError as error:
            if "[ring]" not in str(error):
                raise
            why = "stopped" if stop.code else "another process of this run is gone"  # some may not have met yet
            print(f"{program}: {why}; what was saved is whole: go on with --resume", file=sys.stderr)
            sys.exit(local_ring.LOST)


def check_same(group: Group, **facts: str) -> None:
    """Raise CourseError when this process has other facts than the first one."""
    for name, theirs in broadcast_json(facts, group).items():
        if facts[name] != theirs:
            raise CourseError(
                f"the {name} here is {facts[name]}, in the first process {theirs}; give all machines the same"
            )


def processes_here(group: Group) -> int:
    """How many processes of the group share this machine."""
    name = mx.array([zlib.crc32(socket.gethostname().encode())], mx.uint32)
    return int((mx.distributed.all_gather(name, group=group) == name).sum().item())


if __name__ == "__main__":  # one of the processes that `start` has started
    call(*pickle.loads(Path(sys.argv[1]).read_bytes()))
