"""A learner's way: a real JupyterLab, a real browser; 03_microgpt is opened as it lies there, and all its cells run."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from course_lib.authoring import learner

pytestmark = pytest.mark.slow

PLACES = [
    os.environ.get("COURSE_CHROMIUM", ""),
    *(shutil.which(name) or "" for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
]
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # keep every cell in the page, so that it can be read
    "apputils-extension/notification": {"checkForUpdates": False},
}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def chromium(playwright) -> str:
    """Path of a Chromium or Chrome on this machine; skips the test where there is none, but fails it on CI."""
    for place in [*PLACES, playwright.chromium.executable_path]:
        if place and Path(place).exists():
            return place
    message = "no Chromium found; install it (Debian: apt-get install chromium) or set COURSE_CHROMIUM to its path"
    pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


@contextmanager
def lab(tmp_path: Path, root: Path) -> Iterator[str]:
    """URL of a JupyterLab on a free port that shows the folder `root`."""
    for name, settings in SETTINGS.items():
        file = tmp_path / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={port}"]
    command += [
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={root}",
    ]
    environment = {
        **os.environ,
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
    }
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: urllib.request.urlopen(f"{url}/api/status", timeout=5).status == 200, seconds=60)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_for(ready, seconds: float):
    """Call `ready` until it is true; fail after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.3)
    pytest.fail(f"not ready after {seconds} s")


@contextmanager
def opened(url: str):
    """The page of a browser with the notebook at `url`, its kernel idle."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(playwright), args=FLAGS)
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.goto(url, timeout=60_000)
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
        page.get_by_text("Python 3 (ipykernel) | Idle", exact=False).first.wait_for(timeout=60_000)
        yield page
        browser.close()


@pytest.mark.parametrize("root", ["notebooks", ".", "a learner's copy"])
def test_files_for_authors_are_hidden_and_a_chapter_opens_unedited(tmp_path, checkout, root):
    if root == "a learner's copy":
        learner.start(tmp_path / root, checkout)
    with lab(tmp_path, (tmp_path if root == "a learner's copy" else checkout) / root) as url:
        folder = "notebooks" if root == "." else ""
        listed = json.load(urllib.request.urlopen(f"{url}/api/contents/{folder}"))["content"]
        names = {entry["name"] for entry in listed}
        assert {"03_microgpt.ipynb", "solutions"} <= names and not {"text", "ruff.toml"} & names
        with opened(f"{url}/lab/tree/{folder}/03_microgpt.ipynb") as page:
            page.wait_for_timeout(3000)  # JupyterLab says so when a notebook counts as edited, and nothing when not
            assert page.locator("#jp-main-dock-panel .lm-TabBar-tab").count() == 1
            assert page.locator(".lm-TabBar-tab.jp-mod-dirty").count() == 0
            assert page.get_by_text("Would you like to get notified").count() == 0


def test_a_learner_runs_03_in_jupyterlab_and_reads_20_names(tmp_path, checkout):
    shutil.copytree(checkout / "notebooks", tmp_path / "notebooks")
    with lab(tmp_path, tmp_path / "notebooks") as url, opened(f"{url}/lab/tree/03_microgpt.ipynb") as page:
        page.get_by_role("menuitem", name="Kernel", exact=True).click()
        page.get_by_role("menuitem", name="Restart Kernel and Clear Outputs of All Cells").click()
        page.get_by_role("button", name="Confirm Kernel Restart").click()
        wait_for(lambda: page.locator(".jp-OutputArea-output").count() == 0, seconds=60)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
        count = prompts.count()
        errors = page.locator("[data-mime-type='application/vnd.jupyter.error'], [data-mime-type$='stderr']")

        def done() -> bool:  # after an error JupyterLab leaves the cells below it alone
            return errors.count() > 0 or all(
                re.fullmatch(r"\[\d+\]:", text.strip()) for text in prompts.all_inner_texts()
            )

        wait_for(done, seconds=300)
        printed = "\n".join(page.locator(".jp-OutputArea-output").all_inner_texts())
        shown = errors.all_inner_texts()
        pictures = page.locator(".jp-OutputArea-output img").count()
    assert count > 40, "the notebook did not open whole"
    assert shown == []
    names = re.findall(r"^sample +\d+: ([a-z]*)$", printed, flags=re.MULTILINE)
    assert len(names) == 20, printed[-2000:]
    assert pictures >= 4
