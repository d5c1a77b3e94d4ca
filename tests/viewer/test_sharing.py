"""Files that need no viewer: a page with all points, glTF of what is shown, a picture's legend."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from pcdistill.viewer.scene_content import TRUTH
from pcdistill.viewer.sharing import glb_of, page_with_legend, picture_with_legend
from tests.fixtures.viewer_run import FLOOR, WALL, room
from tools.benchmarks.chromium import chromium_page, find_chromium


def test_a_model_has_the_shown_points_in_their_colors(session):
    session.change(view=TRUTH, hidden=frozenset({WALL}), hide_ceiling=False)
    (pane,) = session.panes(session.camera())
    (cloud,) = trimesh.load(io.BytesIO(glb_of(session, pane)), file_type="glb").geometry.values()
    kept = room().labels != WALL
    x, y, z = room().points[kept].T
    assert np.allclose(cloud.vertices, torch.stack([x, z, -y], dim=1).numpy())
    assert np.array_equal(np.asarray(cloud.colors)[:, :3], pane.colors[kept].numpy())


def test_a_picture_has_the_classes_below(session):
    session.change(view=TRUTH)
    picture = torch.full((60, 400, 3), 255, dtype=torch.uint8)
    found = np.array(Image.open(io.BytesIO(picture_with_legend(picture, session))))
    assert found.shape[0] > 60
    palette = session.run.artifacts.words.label_set.palette
    legend = found[60:].reshape(-1, 3)
    for label in (WALL, FLOOR):
        assert (legend == palette[label].numpy()).all(axis=1).sum() > 100
    session.ask("couch")
    heat = np.array(Image.open(io.BytesIO(picture_with_legend(picture, session))))
    assert heat.shape[0] > 60


@pytest.mark.thorough
@pytest.mark.skipif(
    find_chromium() is None,
    reason="needs Chromium, which is not on this machine (set PCDISTILL_CHROMIUM)",
)
def test_a_page_shows_the_scene_without_any_server(session, tmp_path):
    session.change(view=TRUTH)
    camera = session.camera()
    page_file = tmp_path / "shared.html"
    page_file.write_bytes(page_with_legend(session, session.panes(camera), camera))
    asked = []
    with chromium_page(500, 320) as (page, troubles):
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_file.as_uri())
        page.get_by_text("home-validation-0: truth").wait_for()
        for _ in range(120):
            page.wait_for_timeout(500)
            image = np.array(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))[:260]
            if (image.min(axis=2) < 160).mean() > 0.02:
                break
        else:
            raise AssertionError("no scene is seen")
    assert troubles == []
    assert {address.split(":")[0] for address in asked} <= {"file", "data", "blob"}
