"""Execute notebooks and store their outputs."""

import asyncio
import base64
import io
import os
import re
import subprocess
import tempfile
import time

import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image

from course_lib.authoring.tree import Pair, canonical, inputs, place, read_notebook, read_text, write_notebook
from course_lib.host.errors import CourseError

TIMEOUT = 3600  # seconds a cell; an experiment takes what it takes
# Of all cores' time. A quiet desktop should stay below 5 %; one process that computes takes 50 % of two cores and 12 %
# of eight. On more cores than ten it goes unseen, and leaves enough cores free to matter little.
DISTURBED = 0.1
TEMPORARY = re.compile(rf"{re.escape(tempfile.gettempdir())}/tmp\w+")
CHOOSES_KERNELS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # a learner's machine chooses by itself


def run(pair: Pair, experiments: bool = False, disturbed: bool = False, timeout: int = TIMEOUT) -> str:
    """Execute a notebook from top to bottom in full (never a quick run) and store its outputs; the line to print.

    experiments: `stored` computes and writes its files; disturbed: store the outputs even if other processes took more
    than a tenth of the CPU. The notebook stays as it was when they did, or when a cell fails.
    """
    notebook = read_notebook(pair)
    before = inputs(notebook)
    if before != inputs(read_text(pair)):
        raise CourseError(
            f"{pair.show(pair.notebook)} differs from {pair.show(pair.text)}; first `course sync {pair.name}`, which "
            f"takes the text, or `course pull {pair.name}`, which takes the notebook"
        )
    edited = pair.notebook.stat().st_mtime_ns
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    folder = {"metadata": {"path": str(pair.notebook.parent)}}
    limit = None if experiments else timeout
    client = NotebookClient(notebook, timeout=limit, record_timing=False, kernel_name="python3", resources=folder)
    started, others_before = time.monotonic(), others_seconds()
    try:
        # What cells write to stderr comes back as outputs; the kernel's own log does not matter here.
        environment = {key: value for key, value in os.environ.items() if key not in CHOOSES_KERNELS}
        environment |= {"COURSE_QUICK": "0", "COURSE_AUTHORING": "1", "COURSE_EXPERIMENTS": str(int(experiments))}
        client.execute(env=environment, stderr=subprocess.DEVNULL)
    except CellExecutionError as error:
        index, line = _failure(notebook)
        where = place(pair, notebook.cells, index, line)
        why = (error.evalue.splitlines() or [""])[0]
        raise CourseError(f"{where}: {error.ename}: {why}; the notebook was left as it was") from None
    except asyncio.CancelledError:  # Ctrl-C while the kernel starts; later it interrupts the cell, an error like others
        raise KeyboardInterrupt from None
    # RuntimeError: the kernel did not start; AssertionError: nbclient was interrupted while it ended the kernel
    except (CellTimeoutError, DeadKernelError, RuntimeError, AssertionError) as error:
        reason = (str(error).strip() or "the run was broken off").splitlines()[0]
        raise CourseError(f"{pair.show(pair.notebook)}: {reason}; the notebook was left as it was") from None
    seconds = time.monotonic() - started
    share = max(0.0, others_seconds() - others_before) / (seconds * (os.cpu_count() or 1))
    if share > DISTURBED and not disturbed:
        raise CourseError(
            f"{pair.show(pair.notebook)}: other processes took {share:.0%} of the CPU, so what it timed says little, "
            f"and it was left as it was; run it on a quiet machine (below {DISTURBED:.0%}), or give --disturbed"
        )
    if inputs(read_notebook(pair)) != before:
        raise CourseError(f"{pair.show(pair.notebook)} was changed while it ran and was left as it is; run it again")
    tidy_streams(notebook)
    shrink_pictures(notebook)
    write_notebook(pair, canonical(notebook))
    os.utime(pair.notebook, ns=(edited, edited))  # outputs are no edit; `sync` asks which side was edited last
    return f"ran {pair.show(pair.notebook)} in {seconds:.0f} s, others took {share:.0%} of the CPU"


def others_seconds() -> float:
    """CPU seconds of all processes but this one and its children that have ended, such as a kernel that was run."""
    machine = psutil.cpu_times()
    busy = machine.user + machine.nice + machine.system + getattr(machine, "steal", 0)
    return busy - sum(os.times()[:4])


def tidy_streams(notebook) -> None:
    """Join what a cell has printed piece by piece, and show a temporary folder of this machine as "…"."""
    for cell in notebook.cells:
        joined = []
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = TEMPORARY.sub("…", output.text)
                if joined and joined[-1].get("name") == output.name:
                    joined[-1].text += output.text
                    continue
            joined.append(output)
        if cell.cell_type == "code":
            cell.outputs = joined


def shrink_pictures(notebook) -> None:
    """Store each PNG with at most 128 colours: a plot looks the same and takes a third of the bytes."""
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        data = output.get("data", {})
        if "image/png" in data:
            picture, small = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))), io.BytesIO()
            picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
            data["image/png"] = base64.b64encode(small.getvalue()).decode("ascii")


def _failure(notebook) -> tuple[int, int]:
    """(cell index, line in the cell) of the error that stopped a run, read from its traceback."""
    for index, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                plain = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output.traceback))
                line = re.search(rf"Cell In\[{cell.execution_count}\], line (\d+)", plain)
                return index, int(line[1]) if line else 1
    return 0, 1
