"""Headless Chromium of this machine: a page that is driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ARGUMENTS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
"""WebGL without a graphics card."""
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_chromium() -> str | None:
    """Path of the program, `PCDISTILL_CHROMIUM` first; None where there is none."""
    named = os.environ.get("PCDISTILL_CHROMIUM")
    return next((path for name in (named, *NAMES) if name and (path := shutil.which(name))), None)


@contextmanager
def chromium_page(width: int = 1000, height: int = 640) -> Iterator[tuple[Any, list[str]]]:
    """An empty page, and what goes wrong in it: errors of the console and of scripts.

    Args:
        width: of the window, pixels.
        height: of the window, pixels.
    """
    from playwright.sync_api import sync_playwright

    troubles: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=list(ARGUMENTS), handle_sigint=False
        )
        page = browser.new_page(viewport={"width": width, "height": height})
        page.on("console", lambda m: troubles.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        try:
            yield page, troubles
        finally:
            browser.close()
