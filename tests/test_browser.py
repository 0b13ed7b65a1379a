"""A learner's way: a real JupyterLab, a real browser, all cells of 03_microgpt run."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PLACES = [
    os.environ.get("COURSE_CHROMIUM", ""),
    *(shutil.which(name) or "" for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
]
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # keep every cell in the page, so that it can be read
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


def chromium(playwright) -> str:
    """Path of a Chromium or Chrome on this machine; skips the test where there is none, but fails it on CI."""
    for place in [*PLACES, playwright.chromium.executable_path]:
        if place and Path(place).exists():
            return place
    message = "no Chromium found; install it (Debian: apt-get install chromium) or set COURSE_CHROMIUM to its path"
    pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


@pytest.fixture
def lab(tmp_path, checkout):
    """URL of a JupyterLab on a free port that shows a copy of the notebooks."""
    shutil.copytree(checkout / "notebooks", tmp_path / "notebooks")
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
        f"--ServerApp.root_dir={tmp_path / 'notebooks'}",
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


def test_a_learner_runs_03_in_jupyterlab_and_reads_20_names(lab):
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(playwright), args=flags)
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.goto(f"{lab}/lab/tree/03_microgpt.ipynb", timeout=60_000)
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
        page.get_by_text("Python 3 (ipykernel) | Idle", exact=False).first.wait_for(timeout=60_000)
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
        browser.close()
    assert count > 40, "the notebook did not open whole"
    assert shown == []
    names = re.findall(r"^sample +\d+: ([a-z]*)$", printed, flags=re.MULTILINE)
    assert len(names) == 20, printed[-2000:]
    assert pictures >= 4
