"""Every test runs short and with one BLAS thread."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["COURSE_QUICK"] = "1"
os.environ.pop("COURSE_AUTHORING", None)


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
