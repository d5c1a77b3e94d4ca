"""Pictures of the viewer: a walk through a run in headless Chromium, as docs/viewer.md tells it.

    pcdistill demo
    python tools/viewer_pictures.py runs/demo       # writes docs/images/viewer_*.png

`make pictures` does both. Nothing but the embedded homes is to be seen in what the project ships.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.chromium import chromium_page
from PIL import Image

from pcdistill.inference import open_run
from pcdistill.viewer import ViewerApp, ViewerSession

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
WINDOW = (1280, 760)
"""Width and height, pixels."""
SCENE = "home-validation-0"
PLACE = (0.245, 0.325)
"""Of the window: where the sofa of the first view is clicked."""


def main() -> None:
    """Walk through a run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="workspace of a finished demo")
    parser.add_argument("--to", type=Path, default=IMAGES, help="folder of the pictures")
    arguments = parser.parse_args()
    app = ViewerApp(ViewerSession(open_run(arguments.run), SCENE), port=0)
    try:
        with chromium_page(*WINDOW) as (page, troubles):
            page.goto(f"http://localhost:{app.port}")
            walk(page, app, lambda name: take(page, arguments.to / f"viewer_{name}.png"))
        if troubles:
            raise SystemExit(f"the page reports: {'; '.join(troubles)}")
    finally:
        app.close()


def walk(page: Any, app: ViewerApp, picture: Callable[[str], None]) -> None:
    """Go through what the viewer can do.

    Args:
        page: of the browser, just opened.
        app: what it shows.
        picture: takes a picture by its name.
    """
    wait_until_still(page)
    for button in page.locator(".mantine-Notification-closeButton").all():
        button.click()
    picture("classes")
    find = page.locator("xpath=//label[text()='Find']/following::input[1]")
    find.fill("couch")
    page.get_by_text("answered by").wait_for()
    picture("answer")
    find.fill("")
    page.get_by_text("answered by").wait_for(state="detached")
    page.mouse.click(PLACE[0] * WINDOW[0], PLACE[1] * WINDOW[1])
    page.get_by_text("point at").wait_for()
    picture("why")
    choose(page, "Layout", "wipe")
    choose(page, "View", "scan")
    choose(page, "Other side", app.session.content.best_method or "scan")
    picture("wipe")
    choose(page, "Layout", "side by side")
    count = len(app.session.state.views) * len(app.session.content.points)
    page.get_by_text(f"of {count:,} points are drawn").wait_for(state="attached", timeout=600_000)
    picture("side_by_side")


def choose(page: Any, label: str, value: str) -> None:
    """Pick an option of a dropdown of the panel."""
    page.locator(f"xpath=//label[text()='{label}']/following::input[1]").click()
    page.get_by_role("option", name=value, exact=True).click()


def take(page: Any, path: Path) -> None:
    """Write a picture of the window once nothing moves in it."""
    wait_until_still(page)
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    small = image.quantize(256, Image.Quantize.MEDIANCUT, kmeans=4, dither=Image.Dither.NONE)
    path.parent.mkdir(parents=True, exist_ok=True)
    small.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


def wait_until_still(page: Any, patience: float = 120.0) -> None:
    """Wait until two pictures, a second apart, are the same.

    Args:
        page: of the browser.
        patience: seconds.
    """
    end, last = time.monotonic() + patience, b""
    while time.monotonic() < end:
        page.wait_for_timeout(1500)
        now = page.screenshot()
        if now == last:
            return
        last = now
    raise SystemExit(f"the page is still moving after {patience:.0f} s")


if __name__ == "__main__":
    main()
