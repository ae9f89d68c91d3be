"""Debian's Chromium, driven by Playwright, with what every test of a page asks of it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

WAIT_MS = 20_000
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1200, "height": 780}


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs chromium: apt-get install chromium")
    # As root, Chromium has no sandbox to start in.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


class Tab:
    """A page of the console. It fails on what a page must never do: an error in a script, a broken policy, a host."""

    def __init__(self, browser: Browser, base: str, **options: Any) -> None:
        self._base = base
        self._context = browser.new_context(**{"viewport": DESK, **options})
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(f"{error}"))
        self.page.on("console", self._hear)
        self.page.on("request", lambda request: self._check_host(request.url))

    def _hear(self, message: ConsoleMessage) -> None:
        # An answer that is an error, or none, is shown by the page, and the browser's console has a line of it too.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.errors.append(message.text)

    def _check_host(self, url: str) -> None:
        if not url.startswith((self._base, "data:")):
            self.errors.append(f"asked another host: {url}")

    def open(self, path: str) -> Page:
        self.page.goto(f"{self._base}/#/{path}")
        self.page.wait_for_selector("main[data-state=shown]")
        return self.page

    def text(self, selector: str = "main") -> str:
        return self.page.inner_text(selector)

    def findings(self, rule: str | None = None) -> list[str]:
        """What axe calls serious or critical, by this rule or all of them, and what the page did wrong."""
        options = {"runOnly": {"type": "rule", "values": [rule]}} if rule else {}
        found = Axe().run(self.page, options=options).response["violations"]
        severe = [each for each in found if each["impact"] in ("serious", "critical")]
        return [f"{each['id']}: {each['nodes'][0]['html']}" for each in severe] + self.errors

    def is_too_wide(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))

    def close(self) -> None:
        self._context.close()
        assert self.errors == []


def without_authorization(node_id: int) -> list[str]:
    """A `prefix` of a LocalCluster: users and rules can be made, and lock nobody out."""
    return ["sh", "-c", 'exec "$@" --authorization off', "sh"]


def screen(page: Page, name: str, folder: Path) -> None:
    """A picture in `folder`, or where RAFTLOG_SCREENS says: docs/images has some of them."""
    page.screenshot(path=Path(os.environ.get("RAFTLOG_SCREENS", folder)) / f"{name}.png")
