"""A run that is being looked at: scene, question, choices, clicked points; knows no browser."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcdistill.artifacts import stored_scenes
from pcdistill.errors import ConfigError
from pcdistill.inference import (
    FinishedRun,
    PointExplanation,
    SceneResponse,
    explain_point,
    known_words,
)
from pcdistill.scenes import scene_to_source, source_points
from pcdistill.suggest import suggest
from pcdistill.viewer.cloud_painter import visible_mask
from pcdistill.viewer.frame_crops import FrameCrop, crop_frames
from pcdistill.viewer.picking import pick_point
from pcdistill.viewer.scene_content import ANSWER, SCAN, Coloring, SceneContent
from pcdistill.viewer.view_state import MAX_PANES, Pane, ViewState, color_view, make_panes
from pcdistill.visualization import RenderCamera, birds_eye_view

Vector = tuple[float, float, float]
KEPT_SCENES = 2
"""Scenes whose points and colours stay in memory; a million points take about 100 MB."""
FIELD_OF_VIEW = 45.0
"""Degrees across the picture that the first view is framed for."""
_FRAME = (660, 800)
"""Height and width of a picture that is no wider than a window beside the panel usually is."""
_FRAMED_POINTS = 60_000


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a point has its label."""

    point: int
    position: Vector
    """Metres, in the scene's frame."""
    source_position: Vector
    """Metres, in the frame of the scan's own files."""
    teachers: PointExplanation | None
    """What the teachers say; None where their features are not stored."""
    said: tuple[tuple[str, str], ...]
    """(view, class) of every view that was shown."""
    crops: tuple[FrameCrop, ...]


class ViewerSession:
    """What is being looked at, and what follows from it.

    Raises:
        ArtifactError: no scene of the run is there yet.
        ConfigError: there is no such scene.
    """

    def __init__(self, run: FinishedRun, scene: str | None = None) -> None:
        self.run = run
        self.scenes = stored_scenes(run.artifacts.workspace, run.scenes)
        validation = [name for name in run.artifacts.scenes.validation if name in self.scenes]
        self.state = ViewState()
        self.text = ""
        self.answer: Coloring | None = None
        """Colours of how well everything fits the text; None while nothing is asked."""
        self.response: SceneResponse | None = None
        """The places that fit, once they were looked for."""
        self.answered_by = ""
        self._view_before = SCAN
        self.measured: list[Vector] = []
        """Up to two places between which a distance is measured, metres."""
        self._kept: dict[str, SceneContent] = {}
        if scene is not None and scene not in self.scenes:
            raise ConfigError(f"unknown scene '{scene}'; {suggest(scene, self.scenes)}")
        self.choose_scene(scene or (validation or list(self.scenes))[0])
        self.state = replace(self.state, view=self.content.best_method or SCAN)

    @property
    def content(self) -> SceneContent:
        """The scene that is shown."""
        return self._kept[self._scene]

    @property
    def views(self) -> tuple[str, ...]:
        """What can be shown now."""
        return (*self.content.views, *((ANSWER,) if self.answer is not None else ()))

    @property
    def labelled(self) -> Coloring | None:
        """The first view on the screen whose colours are classes."""
        for view in self.state.views:
            found = color_view(self.content, view, self.answer)
            if found.labels is not None:
                return found
        return None

    def choose_scene(self, name: str) -> None:
        """Show another scene, with the same choices as far as it has them, and ask it the same."""
        self._scene = name
        found = self._kept.pop(name) if name in self._kept else SceneContent(self.run, name)
        self._kept[name] = found  # the last one
        while len(self._kept) > KEPT_SCENES:
            self._kept.pop(next(iter(self._kept)))
        content, self.measured = self.content, []
        self.answer = self.response = None
        chosen = {view for view in self.state.views if view in content.views}
        best = content.best_method or SCAN
        self.state = replace(
            self.state,
            view=self.state.view if self.state.view in chosen else best,
            other=self.state.other if self.state.other in content.views else SCAN,
            beside=tuple(view for view in self.state.beside if view in content.views),
        )
        if self.text and content.best_method is not None:
            self.ask(self.text)

    def change(self, **choices: Any) -> None:
        """Change choices of the state.

        Raises:
            ConfigError: more views side by side than there is room for.
        """
        state = replace(self.state, **choices)
        if len(state.beside) > MAX_PANES:
            raise ConfigError(
                f"{len(state.beside)} views side by side, expected {MAX_PANES} at most"
            )
        self.state = state

    def ask(self, text: str) -> None:
        """Ask the scene, and show how well everything fits; an empty text takes it away.

        Raises:
            ConfigError: no word of the text is known, or nothing here can answer.
        """
        content, asked = self.content, text.strip()
        if not asked:
            self.text, self.answer, self.response = "", None, None
            before = self._view_before if self._view_before in content.views else SCAN
            state = self.state
            self.state = replace(
                state,
                view=before if state.view == ANSWER else state.view,
                other=SCAN if state.other == ANSWER else state.other,
                beside=tuple(view for view in state.beside if view != ANSWER),
            )
            return
        relevancy, self.answered_by = self.run.querier.scene_relevancy(
            asked, content.name, self._answering_method()
        )
        self.text, self.response = asked, None
        self.answer = content.answer_coloring(relevancy)
        if self.state.layout == "side by side":
            beside = (*(view for view in self.state.views if view != ANSWER), ANSWER)
            self.state = replace(self.state, beside=beside[-MAX_PANES:])
        elif ANSWER not in self.state.views:
            self._view_before = self.state.view
            other = self.state.view if self.state.layout == "wipe" else self.state.other
            self.state = replace(self.state, view=ANSWER, other=other)

    def find_places(self) -> None:
        """Look for the places that fit the text, after `ask`."""
        self.response = self.run.querier.query_scene(
            self.text, self.content.name, method=self.answered_by
        )

    def _answering_method(self) -> str:
        """The first method on the screen; the one that answered, where its answer is; the best."""
        content = self.content
        shown = [view for view in self.state.views if view in content.methods]
        if shown:
            return shown[0]
        if ANSWER in self.state.views and self.answered_by in content.methods:
            return self.answered_by
        if content.best_method is None:
            raise ConfigError(
                f"scene {content.name}: no method says anything of it yet, expected one that can "
                "answer; finish the run with pcdistill run"
            )
        return content.best_method

    def places(self) -> list[Vector]:
        """Where the middles of the answers are, best first; metres, in the scene's own frame."""
        if self.response is None:
            return []
        back = torch.linalg.inv(scene_to_source(self.response.scene.provenance))
        found = torch.tensor([one.position for one in self.response.answers]).double()
        return [_vector(back[:3, :3] @ place + back[:3, 3]) for place in found]

    def ignored_words(self) -> tuple[str, ...]:
        """Words of the question that the text encoder does not know."""
        return tuple(known_words(self.run.artifacts.words, self.text).unknown)

    def camera(self, panes: int = 1) -> RenderCamera:
        """A camera that has all copies of the scene in the picture."""
        scene, content = self.content.scene, self.content
        keep = content.below_ceiling if self.state.hide_ceiling else slice(None)
        points = scene.points[keep]
        step = max(1, len(points) // _FRAMED_POINTS)
        normals = None if scene.normals is None else scene.normals[keep][::step]
        some = points[::step]
        view = birds_eye_view(
            some, _FRAME, normals=normals, hide_ceiling=False, field_of_view=FIELD_OF_VIEW
        )
        if panes == 1:
            return view
        offsets = [pane.offset for pane in self.panes(view)]
        moved = torch.cat([some + torch.tensor(offset) for offset in offsets])
        towards = -view.camera_to_world[:3, 2]
        azimuth = float(torch.rad2deg(torch.atan2(towards[1], towards[0])))
        return birds_eye_view(
            moved, _FRAME, azimuth=azimuth, hide_ceiling=False, field_of_view=FIELD_OF_VIEW
        )

    def panes(self, camera: RenderCamera) -> list[Pane]:
        """Copies of the scene on the screen; side by side along the camera's rows.

        Raises:
            PcdistillError: a view cannot be made; the text says why.
        """
        x, y, z = camera.camera_to_world[:3, 0].tolist()
        return make_panes(self.content, self.state, self.answer, (x, y, z))

    def pick(
        self, panes: list[Pane], origin: Vector, direction: Vector, position: Vector
    ) -> int | None:
        """Find the point that is clicked, in whatever copy of the scene.

        Args:
            panes: what is on the screen.
            origin: of the ray, metres.
            direction: of the ray.
            position: of the camera, metres; tells which walls are hidden.

        Returns:
            row of the scene's points; None where the ray meets none.
        """
        content, nearest, found = self.content, np.inf, None
        for pane in panes:
            start = np.asarray(origin) - np.asarray(pane.offset)
            shown = pane.shown
            if self.state.hide_walls:
                x, y, z = (a - b for a, b in zip(position, pane.offset, strict=True))
                shown = shown & visible_mask(content.blocks, (x, y, z), len(content.points))
            size = content.point_size * self.state.size
            point = pick_point(
                content.points, (start[0], start[1], start[2]), direction, size, shown.numpy()
            )
            if point is not None:
                away = float(np.linalg.norm(content.points[point] - start))
                nearest, found = (away, point) if away < nearest else (nearest, found)
        return found

    def explain(self, point: int) -> Explanation:
        """Tell why a point has its label.

        Raises:
            SceneError: an image of the scene is missing or damaged.
            ArtifactError: a file of the run is damaged.
        """
        content = self.content
        names = self.run.artifacts.words.label_set.names
        said = tuple(
            (view, names[int(labels[point])] if int(labels[point]) >= 0 else "nothing")
            for view, labels in content.known_labels().items()
        )
        crops = crop_frames(content.projector, point) if content.scene.frames else []
        return Explanation(
            point,
            _vector(content.scene.points[point]),
            _vector(source_points(content.scene)[point]),
            explain_point(self.run.artifacts, content.name, point),
            said,
            tuple(crops),
        )

    def measure(self, point: int) -> float | None:
        """Take a point as the next end of a distance.

        Returns:
            metres, once there are two ends; a third point begins anew.
        """
        ends = self.measured if len(self.measured) < 2 else []
        self.measured = [*ends, _vector(self.content.scene.points[point])]
        if len(self.measured) < 2:
            return None
        return math.dist(*self.measured)

    def class_shares(self, coloring: Coloring) -> list[tuple[int, float]]:
        """(class, share of the points) of the classes that occur, the most frequent first."""
        if coloring.labels is None:
            return []
        count = len(self.run.class_names)
        known = coloring.labels[(coloring.labels >= 0) & (coloring.labels < count)]
        shares = torch.bincount(known, minlength=count).double() / max(len(coloring.labels), 1)
        order = torch.argsort(shares, descending=True, stable=True).tolist()
        return [(index, float(shares[index])) for index in order if shares[index] > 0]


def _vector(values: Tensor) -> Vector:
    x, y, z = values.tolist()
    return x, y, z
