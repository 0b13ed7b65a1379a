"""Every test runs short, with one BLAS thread, and away from the user's own home folder."""

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    sys.dont_write_bytecode = False  # else each of a hundred processes and kernels compiles all that it imports anew
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["COURSE_QUICK"] = "1"
os.environ.pop("COURSE_AUTHORING", None)
if "COURSE_HOME" not in os.environ:  # the notebooks' home; the workers that pytest starts share it
    os.environ["COURSE_HOME"] = tempfile.mkdtemp(prefix="course-home-")
hypothesis.settings.register_profile(  # a machine that is busy is no fault of the code
    "course", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("course")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

QUICK = 15.0  # seconds of CPU time that no test without the mark `slow` may take; on a fast machine none takes 5


def pytest_ignore_collect(collection_path, config) -> bool | None:
    """`pytest -m quick` does not even read the notebooks."""
    return True if config.option.markexpr == "quick" and collection_path.suffix == ".ipynb" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items) -> None:
    """Each test is quick unless it is marked slow, so that a new one is in the quick lane without a word."""
    for item in items:
        if item.path.suffix == ".py" and not item.get_closest_marker("slow"):
            item.add_marker("quick")


def pytest_collection_finish() -> None:
    """What has been imported stays: no search for garbage in a test goes through it (a third of a second each)."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A test that has grown slow must say so; CPU time, which a busy machine hardly changes."""
    before = os.times()
    result = yield
    spent = sum(os.times()[:4]) - sum(before[:4])  # this process and the children it has waited for
    if spent > QUICK and item.get_closest_marker("quick"):
        pytest.fail(f"it took {spent:.1f} s of CPU time, over {QUICK:.0f}: make it faster or mark it slow")
    return result


def pytest_unconfigure(config) -> None:
    """Remove the notebooks' home when the last process ends."""
    home = Path(os.environ["COURSE_HOME"])
    if home.name.startswith("course-home-") and not hasattr(config, "workerinput"):
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def checkout() -> Path:
    """The folder of the checkout."""
    return Path(__file__).resolve().parent


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty COURSE_HOME for one test."""
    folder = tmp_path / "home"
    monkeypatch.setenv("COURSE_HOME", str(folder))
    return folder


@pytest.fixture(scope="module")
def float32() -> Iterator[None]:
    """Compute in float32 on a GPU, too, also in the programs that a test starts: bfloat16 keeps three digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_DTYPE", "float32")
        yield
