"""Every test runs short, with one BLAS thread, and away from the user's own home folder."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["COURSE_QUICK"] = "1"
os.environ.pop("COURSE_AUTHORING", None)
if "COURSE_HOME" not in os.environ:  # the notebooks' home; the workers that pytest starts share it
    os.environ["COURSE_HOME"] = tempfile.mkdtemp(prefix="course-home-")


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
