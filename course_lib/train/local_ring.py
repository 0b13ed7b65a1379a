"""Several processes of one program on this machine, joined in a ring of MLX's distributed engine.

`launch` starts them and watches: whatever ends one of them ends them all. Each finds the others through the variables
MLX_RANK and MLX_HOSTFILE, as it does under `mlx.launch`, which is for several machines.

Written by hand; chapter 10 uses it.
"""

import json
import math
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from course_lib.host.errors import CourseError
from course_lib.host.stop import StopRequest, stop_when_asked

GRACE = 5.0  # seconds for the others to end by themselves once one has
LAST_WORDS = 600.0  # seconds for a process to save and end when nobody watches it any more
LOST = 75  # exit code of a process that ends because another is gone


def fitting_processes(device_kind: str) -> int:
    """How many processes make the most of this machine: one, or on Linux's CPU one a core, up to four.

    MLX's own work on a CPU is done by one thread.
    """
    if device_kind != "cpu" or sys.platform != "linux":
        return 1
    cores = len(os.sched_getaffinity(0))
    return 4 if cores >= 4 else min(cores, 2)


def in_a_ring() -> bool:
    """Whether this process was started as one of several: by `launch`, by mlx.launch or by MPI."""
    return any(name in os.environ for name in ("MLX_RANK", "OMPI_COMM_WORLD_RANK"))


def launch(module: str, arguments: list[str], processes: int) -> int:
    """Run `python -m module arguments` in `processes` processes of one BLAS thread each; the exit code of the run.

    Ctrl-C and SIGTERM are passed on, so that they can save and end; a second Ctrl-C kills them. Raises CourseError when
    one dies.
    """
    with tempfile.TemporaryDirectory() as folder, stop_when_asked() as stop:
        hostfile = Path(folder) / "ring.json"
        hostfile.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in _free_ports(processes)]), encoding="utf-8")
        environment = {**os.environ, "MLX_HOSTFILE": str(hostfile), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", module, *arguments]
        complaints = [Path(folder) / f"stderr_{rank}" for rank in range(processes)]
        running = []
        try:
            for rank, complaint in enumerate(complaints):
                with complaint.open("wb") as quiet:
                    heard = {"stdout": subprocess.DEVNULL, "stderr": quiet} if rank else {}
                    # stdin ends when we do, see end_with_the_launcher; and a Ctrl-C of the terminal reaches us alone
                    more: dict[str, Any] = {"stdin": subprocess.PIPE, "start_new_session": True, **heard}
                    running.append(subprocess.Popen(command, env={**environment, "MLX_RANK": str(rank)}, **more))
            return _watch(running, complaints, stop)
        except KeyboardInterrupt:
            return 130
        finally:
            for process in running:
                process.kill()
                process.wait()


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def _watch(running: list[subprocess.Popen], complaints: list[Path], stop: StopRequest) -> int:
    """Wait for the end of all, or until GRACE after one has failed: their exit code, the first that is not 0."""
    told, deadline = 0, math.inf
    while None in (codes := [process.poll() for process in running]) and time.monotonic() < deadline:
        if stop.code and not told:
            told = stop.code
            for process in running:
                process.send_signal(told - 128)
        if deadline == math.inf and any(code not in (None, 0, told) for code in codes):
            deadline = time.monotonic() + GRACE  # one that ends as it was told does not hurry the others: they save
        time.sleep(0.05)
    killed = {rank for rank, process in enumerate(running) if process.poll() is None}
    for rank in killed:
        running[rank].kill()
        running[rank].wait()
    codes = [0 if rank in killed else process.returncode for rank, process in enumerate(running)]
    if told and 128 - told in codes:  # told before it could listen
        return told
    for rank, code in enumerate(codes):
        if code < 0:
            raise CourseError(
                f"process {rank} of {len(running)} died of {signal.Signals(-code).name}, so all have stopped; what was "
                "saved is whole: go on from it with --resume"
            )
    if codes[0] in (0, LOST):  # the first process does not know why another failed
        for complaint in complaints[1:]:
            sys.stderr.write(complaint.read_text(encoding="utf-8", errors="replace"))
    return next((code for code in codes if code not in (0, LOST)), max(codes) and (told or LOST))


def end_with_the_launcher(stop: StopRequest) -> None:
    """In a process that `launch` or mlx.launch started: when the launcher is gone, ask this process to stop too.

    They are told by a pipe as stdin; MPI and other starters give /dev/null, which has ended from the start.
    """

    def wait() -> None:
        while os.read(0, 4096):
            pass
        stop.code = stop.code or 128 + signal.SIGTERM
        time.sleep(LAST_WORDS)  # a process that waits for a message that nobody will send hears no signal
        os._exit(stop.code)

    with suppress(OSError):  # no stdin at all
        if "MLX_RANK" in os.environ and stat.S_ISFIFO(os.fstat(0).st_mode):
            if select.select([0], [], [], 0)[0] and not os.read(0, 4096):  # gone already
                stop.code = stop.code or 128 + signal.SIGTERM
            threading.Thread(target=wait, daemon=True).start()
