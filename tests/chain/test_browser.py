"""The page and the report in a real browser: the system's Chromium, headless, driven by Playwright."""

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.chain.tiny import World, face, process

pytestmark = pytest.mark.slow
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"no browser found: none of {', '.join(names)} is on the PATH")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def address(chain: World) -> Iterator[str]:
    """Address of `face app` on the last stage of the chain."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = process("app", "--run", chain.run("stage3"), "--port", str(port), threads=1)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith(f"http://127.0.0.1:{port}"), (line, server.stderr and server.stderr.read())
        for _ in range(100):
            with socket.socket() as probe:
                probe.settimeout(5)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


class Watched:
    """A page whose errors and requests are written down."""

    def __init__(self, browser: Any, width: int, scheme: str = "light") -> None:
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or ""))

    def check(self) -> None:
        """No error, no foreign host, nothing wider than the page."""
        assert not self.errors
        assert self.hosts <= {"127.0.0.1", ""}
        assert self.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def recommended(page: Any) -> list[str]:
    page.wait_for_selector("[data-testid=recommended]")
    found: list[str] = page.locator("[data-testid=recommended] button").all_inner_texts()
    return found


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_search_open_and_change_words(browser: Any, address: str, width: int, scheme: str) -> None:
    watched = Watched(browser, width, scheme)
    page = watched.page
    page.goto(address)
    page.get_by_label("Search").fill("u1")
    page.get_by_text("Users", exact=True).click()
    page.locator("[data-testid=result]").first.click()
    page.get_by_role("heading", name="u1").wait_for()
    before = recommended(page)
    page.locator(".q-chip__icon--remove").first.click()
    page.locator("[data-testid=changes] .less").wait_for()
    page.get_by_label("Add a word").fill(page.locator(".whys").first.inner_text().split()[0])
    page.keyboard.press("Enter")
    page.locator("[data-testid=changes] .more").wait_for()
    slider = page.locator(".q-slider")
    slider.click(position={"x": slider.bounding_box()["width"] - 1, "y": 10})
    page.get_by_text("100%").wait_for()
    page.wait_for_timeout(500)
    assert recommended(page) != before
    assert page.locator(".move").first.is_visible()
    page.get_by_role("tab", name="Map").click()
    page.locator("canvas").wait_for(timeout=60_000)
    watched.check()
    page.close()


def test_a_new_visitor_picks_an_item_with_the_keyboard(browser: Any, address: str) -> None:
    watched = Watched(browser, 1280)
    page = watched.page
    page.goto(address)
    page.get_by_label("Search").fill("film 1")
    page.locator("[data-testid=result]").first.wait_for()
    page.keyboard.press("Enter")
    assert len(recommended(page)) == 20
    assert "Film 1" not in recommended(page)
    watched.check()
    page.close()


def test_requests_by_another_name_are_refused(browser: Any, address: str) -> None:
    answer = browser.new_context().request.get(address, headers={"Host": "evil.example"})
    assert answer.status == 400


@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_opens_without_a_server(browser: Any, chain: World, tmp_path: Path, width: int) -> None:
    out = tmp_path / "report.html"
    assert face("report", "--run", chain.run("stage3"), "--compare", chain.run("control"), "--out", out) == 0
    watched = Watched(browser, width)
    watched.page.goto(out.as_uri())
    assert watched.page.locator("svg").count() >= 10
    watched.check()
    watched.page.close()
