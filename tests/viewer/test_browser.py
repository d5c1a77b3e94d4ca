"""The viewer in a real browser: load, ask, see the colours change, click, take the picture."""

from __future__ import annotations

import io
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from pcdistill.inference import open_run
from pcdistill.viewer import ViewerApp, ViewerSession
from pcdistill.viewer.scene_content import ANSWER, TRUTH
from tests.fixtures.viewer_run import FLOOR
from tools.benchmarks.chromium import chromium_page, find_chromium

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(
        find_chromium() is None,
        reason="needs Chromium, which is not on this machine (set PCDISTILL_CHROMIUM)",
    ),
]
PATIENCE = 60_000
"""Milliseconds that a busy machine may take for anything."""


@pytest.fixture(scope="module")
def app(run_folder):
    session = ViewerSession(open_run(run_folder))
    session.change(view=TRUTH)
    app = ViewerApp(session, port=0)
    yield app
    app.close()


@pytest.fixture(scope="module")
def opened(app):
    """The page, what went wrong in it, and every address that it asked for."""
    asked: list[str] = []
    with chromium_page(760, 480) as (page, troubles):
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.goto(f"http://localhost:{app.port}")
        page.get_by_text("of 2,170 points are drawn").wait_for(state="attached", timeout=PATIENCE)
        wait_for_scene(page)
        yield page, troubles, asked


def picture(page) -> np.ndarray:
    """(H, W, 3) of the left part of the page, where no panel is."""
    size = page.viewport_size
    clip = {"x": 0, "y": 160, "width": size["width"] - 340, "height": size["height"] - 160}
    return np.array(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB"))


def wait_for_scene(page) -> None:
    """Until the scene has faded in: two pictures in a row are alike, and not empty."""
    last = picture(page)
    for _ in range(PATIENCE // 500):
        page.wait_for_timeout(500)
        now = picture(page)
        if np.array_equal(now, last) and (now.min(axis=2) < 160).mean() > 0.02:
            return
        last = now
    raise AssertionError("no scene is seen")


def share_of_red(image: np.ndarray) -> float:
    """Share of pixels in the colours of the best answers."""
    red, green, blue = (image[..., channel].astype(int) for channel in range(3))
    return float(((red > 120) & (red > green + 80) & (red > blue + 60)).mean())


def find_box(page):
    return page.locator("xpath=//label[text()='Find']/following::input[1]")


def test_the_page_asks_nobody_else(opened):
    _, troubles, asked = opened
    hosts = {urlsplit(address).hostname for address in asked if address[:4] != "data"}
    assert {host for host in hosts if host} == {"localhost"}
    assert troubles == []


def test_a_question_colors_the_scene_while_it_is_typed(opened, app):
    page, troubles, _ = opened
    before = share_of_red(picture(page))
    find_box(page).fill("couch")
    page.get_by_text("answered by").wait_for(timeout=PATIENCE)
    wait_for_scene(page)
    assert app.session.state.view == ANSWER
    assert share_of_red(picture(page)) > before + 0.01
    find_box(page).fill("qwrtzpl")
    trouble = page.get_by_text("has no word that the text encoder knows")
    trouble.wait_for(timeout=PATIENCE)
    find_box(page).fill("")
    trouble.wait_for(state="detached", timeout=PATIENCE)
    assert app.session.state.view != ANSWER
    assert troubles == []


def test_a_class_can_be_hidden(opened, app):
    page, _, _ = opened
    before = picture(page)
    page.get_by_role("button", name="floor, ").click()
    wait_for_scene(page)
    assert app.session.state.hidden == {FLOOR}
    assert (picture(page) != before).any(axis=2).mean() > 0.02
    page.get_by_role("button", name="floor, ").click()
    wait_for_scene(page)
    assert app.session.state.hidden == set()


def test_a_click_tells_why(opened):
    page, troubles, _ = opened
    page.mouse.click(210, 300)
    page.get_by_text("point at").wait_for(timeout=PATIENCE)
    assert page.get_by_text("demo-dense").count() > 0
    assert troubles == []


def test_the_picture_is_sent(opened):
    page, troubles, _ = opened
    page.get_by_text("Share", exact=True).click()
    with page.expect_download(timeout=PATIENCE) as download:
        page.get_by_role("button", name="Picture (.png)").click()
    image = np.array(Image.open(download.value.path()).convert("RGB"))
    assert 300 < image.shape[1] < page.viewport_size["width"]  # of the scene, without the panel
    assert image.std() > 10
    assert troubles == []
