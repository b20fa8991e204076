"""A page in a headless Chromium of the system, for pictures and timings."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_browser() -> str | None:
    """Path of Chromium or Chrome; None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def launched() -> Iterator[Any]:
    """A headless browser.

    Raises:
        FileNotFoundError: If there is none.
    """
    path = find_browser()
    if path is None:
        raise FileNotFoundError(f"expected a browser on the PATH ({', '.join(NAMES)}), found none; install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def served(run: Path, port: int) -> Iterator[str]:
    """Serve a run by `face app` while the block lasts; yields the address."""
    command = [sys.executable, "-m", "face_lightning.cli", "app", "--run", str(run), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            if not server.stdout.readline():  # printed just before the server starts
                raise RuntimeError(f"{' '.join(command)} has ended; see its message above")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def open_page(browser: Any, address: str, tries: int = 100) -> Any:  # noqa: ANN401
    """Open a page; the server may still be starting."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    for left in reversed(range(tries)):
        try:
            page.goto(address)
            break
        except Error:
            if not left:
                raise
            time.sleep(0.1)
    return page
