"""What is seen in the viewer as files that need no viewer: picture, page, binary glTF."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pcdistill.scenes import colored_glb
from pcdistill.viewer import markup
from pcdistill.viewer.browser_window import page_of
from pcdistill.viewer.cloud_painter import CloudPainter
from pcdistill.viewer.scene_content import ANSWER
from pcdistill.viewer.view_state import Pane
from pcdistill.viewer.viewer_session import ViewerSession
from pcdistill.visualization import (
    RenderCamera,
    heat_legend,
    label_legend,
    png_bytes,
    stack_pictures,
)

PAGE_POINTS = 1_000_000
"""Points of a page at most: about 12 MB."""
_LEGEND_CLASSES = 24


def picture_with_legend(picture: Tensor, session: ViewerSession) -> bytes:
    """A PNG of what is seen, with the meaning of its colours below.

    Args:
        picture: (H, W, 3) uint8.
        session: what is shown.
    """
    width, parts = picture.shape[1], [picture]
    if ANSWER in session.state.views and session.answer is not None:
        low, high = session.answer.scores or (0.0, 1.0)
        parts.append(heat_legend(f"relevancy for {session.text}", low, high, width=width))
    coloring = session.labelled
    if coloring is not None:
        classes = [index for index, _ in _legend_classes(session)]
        names = [session.run.class_names[index] for index in classes]
        palette = session.run.artifacts.words.label_set.palette[classes]
        parts.append(label_legend(names, palette, width=width))
    return png_bytes(stack_pictures(parts))


def page_with_legend(session: ViewerSession, panes: list[Pane], camera: RenderCamera) -> bytes:
    """A page of HTML that shows the panes without a server.

    Args:
        session: what is shown.
        panes: copies of the scene.
        camera: where the page looks from.
    """
    content = session.content
    x, y, z = camera.camera_to_world[:3, 3].tolist()

    def draw(scene: Any) -> None:
        CloudPainter(scene).paint(
            content.scene.points,
            content.blocks,
            panes,
            (x, y, z),
            budget=PAGE_POINTS,
            size=content.point_size * session.state.size,
            hide_walls=session.state.hide_walls,
        )

    middle = content.scene.points.mean(dim=0)
    middle = middle + torch.tensor([pane.offset for pane in panes]).mean(dim=0)
    html = page_of(draw, camera, middle)
    classes = [index for index, _ in _legend_classes(session)]
    palette = session.run.artifacts.words.label_set.palette.tolist()
    legend = markup.swatches(
        [session.run.class_names[index] for index in classes], [palette[i] for i in classes]
    )
    titles = ", ".join(pane.title for pane in panes)
    asked = f"; asked for {session.text}" if ANSWER in session.state.views else ""
    box = (
        '<div style="position:fixed;left:0;bottom:0;right:0;padding:0.6em 0.9em;z-index:9;'
        'background:rgba(255,255,255,0.85);font:14px sans-serif">'
        f"{markup.note(f'{content.name}: {titles}{asked}')}{legend}</div>"
    )
    end = html.rindex("</body>")
    return (html[:end] + box + html[end:]).encode()


def glb_of(session: ViewerSession, pane: Pane) -> bytes:
    """Binary glTF of one pane: the mesh where the scene has one, else its points.

    Raises:
        MissingExtraError: there is no package that writes it.
    """
    return colored_glb(session.content.scene, pane.colors, pane.shown)


def _legend_classes(session: ViewerSession) -> list[tuple[int, float]]:
    """(class, share) of those a legend has room for."""
    coloring = session.labelled
    return [] if coloring is None else session.class_shares(coloring)[:_LEGEND_CLASSES]
