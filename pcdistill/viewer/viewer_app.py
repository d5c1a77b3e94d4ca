"""The viewer: a session, the panel that changes it, and the page that shows it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pcdistill.errors import PcdistillError, file_trouble
from pcdistill.viewer import markup
from pcdistill.viewer.browser_window import move_camera, start_server, stop_server, target_of
from pcdistill.viewer.cloud_painter import CloudPainter
from pcdistill.viewer.panel import Panel
from pcdistill.viewer.scene_content import ANSWER
from pcdistill.viewer.sharing import glb_of, page_with_legend, picture_with_legend
from pcdistill.viewer.view_state import Pane, extent_along
from pcdistill.viewer.viewer_session import Vector, ViewerSession
from pcdistill.visualization import RenderCamera

_REST = 0.25
"""Seconds that a camera stands still before the level of detail follows it."""

_ARRIVAL = 1.5
"""Seconds that a page has to itself before more points than it begins with are sent; together they
would be seen later."""

START_POINTS = 60_000
"""Points that a page begins with; the others follow, so that there is something to see at once."""


class ViewerApp:
    """Serves a session to browsers until it is closed; all browsers see the same.

    Args:
        session: what is shown.
        host: address to listen at.
        port: to listen at; 0 takes a free one.

    Raises:
        MissingExtraError: viser is not installed.
        ConfigError: the address cannot be listened at.
    """

    def __init__(self, session: ViewerSession, host: str = "127.0.0.1", port: int = 8080) -> None:
        self.session = session
        self._lock = threading.RLock()
        self._asked = ""
        self._moved = threading.Event()
        self._closed = threading.Event()
        self._browsers = 0
        self._dense_from = 0.0
        self.server = start_server(host, port, session.run.artifacts.title)
        self._painter = CloudPainter(self.server.scene)
        self._marks: list[Any] = []
        self._titles: list[Any] = []
        self._numbers: list[Any] = []
        self._camera = session.camera()
        self._layout_camera = self._camera
        self._position: Vector = _position(self._camera)
        self._panes: list[Pane] = []
        self.panel = Panel(self.server.gui, session, self)
        self.server.scene.on_click()(self.guarded(self._clicked))
        self.server.on_client_connect(self._connected)
        self.server.on_client_disconnect(self._disconnected)
        self._follower = threading.Thread(target=self._follow_camera, daemon=True)
        try:
            self.show_scene()
        except BaseException:
            stop_server(self.server)
            raise
        self._follower.start()

    @property
    def port(self) -> int:
        """Where the server listens."""
        port: int = self.server.get_port()
        return port

    def close(self) -> None:
        """Stop the server."""
        self._closed.set()
        self._moved.set()
        self._follower.join()
        with self._lock:  # what was begun is finished
            stop_server(self.server)

    def show_scene(self) -> None:
        """Draw the scene of the session from its own first view."""
        self._painter.clear()
        self.clear_marks()
        self._camera = self.session.camera()
        self.panel.rebuild()
        self.show_layout()

    def show_layout(self) -> None:
        """Draw the copies of the scene, all of them in the picture."""
        self.clear_marks()
        panes = len(self.session.state.views) if self._is_beside else 1
        self._layout_camera = self.session.camera(panes)
        middle = self.session.content.scene.points.mean(dim=0)
        if self._is_beside:
            offsets = torch.tensor([pane.offset for pane in self.session.panes(self._camera)])
            middle = middle + offsets.mean(dim=0)
        self._position = _position(self._layout_camera)
        self.draw()
        move_camera(self.server, self._layout_camera, target_of(self._layout_camera, middle))

    def draw(self) -> None:
        """Bring colours, points and titles up to date."""
        self._panes = self.session.panes(self._camera)
        with self.server.atomic():
            self._paint()
            for old in self._titles:
                old.remove()
            self._titles = self._make_titles() if self._is_beside else []
            self._number_places()
        self.panel.update()

    def ask(self, text: str) -> None:
        """Answer a question that is being typed; only the newest one counts."""
        self._asked = text
        self.guarded(lambda event: self._color(text), self.panel.answer)(None)
        # whoever typed on is let in between
        self.guarded(lambda event: self._list_places(text), self.panel.answer)(None)

    def take_picture(self, event: Any) -> None:
        """Send a picture of the scene, with its legend, to the browser that asks."""
        client = event.client
        height, width = client.camera.image_height, client.camera.image_width
        image = client.get_render(height=height, width=width, timeout=60.0)
        picture = picture_with_legend(torch.from_numpy(np.array(image[..., :3])), self.session)
        self._send(client, f"{self._file_name()}.png", picture)

    def share_page(self, event: Any) -> None:
        """Send a page that shows the scene without a server to the browser that asks."""
        self._say("the page is being made")
        page = page_with_legend(self.session, self._panes, self._layout_camera)
        self._send(event.client, f"{self._file_name()}.html", page)
        self._say("")

    def share_glb(self, event: Any) -> None:
        """Send the scene in its colours as binary glTF to the browser that asks."""
        self._send(event.client, f"{self._file_name()}.glb", glb_of(self.session, self._panes[0]))

    @property
    def _is_beside(self) -> bool:
        return self.session.state.layout == "side by side"

    def guarded(self, work: Callable[[Any], None], box: Any = None) -> Callable[[Any], None]:
        """A callback that runs alone, and whose errors are told in the panel.

        Args:
            work: the callback.
            box: part of the panel where errors are told; by default its top.
        """

        def run(event: Any) -> None:
            with self._lock:
                if self._closed.is_set():
                    return
                told = self.panel.status if box is None else box
                try:
                    work(event)
                except PcdistillError as error:
                    told.content = markup.warning(str(error))
                except OSError as error:
                    told.content = markup.warning(file_trouble(error))

        return run

    def _color(self, text: str) -> None:
        """Show how well everything fits a text."""
        if text != self._asked:
            return
        before = len(self.session.state.views)
        self.session.ask(text)
        if len(self.session.state.views) != before and self._is_beside:
            self.show_layout()
        else:
            self.draw()

    def _list_places(self, text: str) -> None:
        """List the places that fit a text, once it is shown how well everything fits."""
        if text == self._asked and text.strip() == self.session.text != "":
            self.session.find_places()
            self._number_places()
            self.panel.update()

    def _number_places(self) -> None:
        """Number the places that answer as the list of the panel does, where the answer is seen."""
        for old in self._numbers:
            old.remove()
        self._numbers = [
            self.server.scene.add_label(
                f"/places/{copy}/{rank}",
                str(rank),
                position=tuple(np.add(place, pane.offset).tolist()),
                anchor="bottom-center",
            )
            for copy, pane in enumerate(self._panes)
            if ANSWER in pane.title
            for rank, place in enumerate(self.session.places(), start=1)
        ]

    def _make_titles(self) -> list[Any]:
        """Names of the copies, above the far end of each."""
        points = self.session.content.scene.points
        middle = (points.amin(dim=0) + points.amax(dim=0)) / 2
        x, y, _ = self._camera.camera_to_world[:3, 0].tolist()
        far = extent_along(points, (y, -x, 0.0)) / 2
        place = np.array([float(middle[0]) - far * y, float(middle[1]) + far * x, 0.0])
        place[2] = float(points[:, 2].max())
        return [
            self.server.scene.add_label(
                f"/titles/{number}",
                pane.title,
                position=tuple((place + pane.offset).tolist()),
                anchor="bottom-center",
            )
            for number, pane in enumerate(self._panes)
        ]

    def _paint(self) -> None:
        session, content = self.session, self.session.content
        budget = session.state.budget
        drawn = self._painter.paint(
            content.scene.points,
            content.blocks,
            self._panes,
            self._position,
            budget=budget if self._browsers else min(budget, START_POINTS),
            size=content.point_size * session.state.size,
            hide_walls=session.state.hide_walls,
        )
        self.panel.count(drawn, len(self._panes) * len(content.points))

    def _connected(self, client: Any) -> None:
        """Follow the camera of a browser."""

        def moved(camera: Any) -> None:
            x, y, z = camera.position.tolist()
            self._position = (x, y, z)
            self._moved.set()

        client.camera.on_update(moved)
        if self._browsers == 0:
            self._dense_from = time.monotonic() + _ARRIVAL
        self._browsers += 1
        self._moved.set()

    def _disconnected(self, client: Any) -> None:
        """Keep little for the next browser to load, once the last one is gone."""
        del client
        self._browsers -= 1
        self._moved.set()

    def _follow_camera(self) -> None:
        """Draw densely what the camera came near to, once it rests."""
        while not self._closed.is_set():
            self._moved.wait()
            self._moved.clear()
            while self._moved.wait(self._rest()) and not self._closed.is_set():
                self._moved.clear()
            if not self._closed.is_set():
                with self._lock, self.server.atomic():
                    self._paint()

    def _rest(self) -> float:
        """Seconds to wait for the next move of the camera."""
        return max(_REST, self._dense_from - time.monotonic())

    def _clicked(self, event: Any) -> None:
        session = self.session
        position: Vector = tuple(event.client.camera.position.tolist())
        point = session.pick(self._panes, event.ray_origin, event.ray_direction, position)
        if point is None:
            return
        if self.panel.is_measuring:
            self.panel.tell_distance(session.measure(point))
            self._mark(session.measured)
            return
        self.panel.explain(None)
        found = session.explain(point)
        self._mark([found.position])
        self.panel.explain(found)

    def _mark(self, places: list[Vector]) -> None:
        """Mark places in every copy of the scene, and a line between two."""
        self.clear_marks()
        scene, size = self.server.scene, 1.6 * self.session.content.point_size
        for number, pane in enumerate(self._panes):
            moved = [tuple(np.add(place, pane.offset).tolist()) for place in places]
            for end, place in enumerate(moved):
                name = f"/marks/{number}/{end}"
                self._marks.append(
                    scene.add_icosphere(name, radius=size, color=(255, 59, 48), position=place)
                )
            if len(moved) == 2:
                ends = np.array([moved], dtype=np.float32)  # (1, 2, 3)
                name = f"/marks/{number}/line"
                self._marks.append(
                    scene.add_line_segments(name, ends, (255, 59, 48), thickness=size / 2)
                )
                length = math.dist(*places)
                middle = tuple(ends[0].mean(axis=0).tolist())
                name = f"/marks/{number}/length"
                self._marks.append(scene.add_label(name, f"{length:.2f} m", position=middle))

    def clear_marks(self) -> None:
        """Take marks of clicked points away."""
        for mark in self._marks:
            mark.remove()
        self._marks = []

    def _say(self, text: str) -> None:
        self.panel.status.content = markup.note(text)

    def _send(self, client: Any, name: str, content: bytes) -> None:
        client.send_file_download(name, content, save_immediately=True)

    def _file_name(self) -> str:
        """Name of what is sent: scene and view, letters and digits only."""
        words = f"{self.session.content.name}-{'-'.join(self.session.state.views)}"
        return "".join(one if one.isalnum() else "-" for one in words)[:80]


def _position(camera: RenderCamera) -> Vector:
    x, y, z = camera.camera_to_world[:3, 3].tolist()
    return x, y, z
