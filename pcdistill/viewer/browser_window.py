"""Server of the browser's page: the only file that imports viser."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import math
import socket
from collections.abc import Callable
from typing import Any

import torch

from pcdistill.errors import ConfigError, MissingExtraError
from pcdistill.viewer.same_origin import own_pages_only
from pcdistill.visualization import RenderCamera

_MAX_PORT = 65535


def start_server(host: str, port: int, title: str) -> Any:
    """Start a `viser.ViserServer` at exactly this address.

    Args:
        host: address to listen at.
        port: to listen at; 0 takes a free one.
        title: stands above the panel.

    Raises:
        MissingExtraError: viser is not installed.
        ConfigError: the address is not of this machine, or the port is taken.
    """
    try:
        import viser
        import websockets.asyncio.server
    except ImportError as error:
        raise MissingExtraError(
            "pcdistill view: needs the package viser, which is not installed; "
            "`pip install 'pcdistill[viewer]'`, or look at the report of the run"
        ) from error

    class LocalServer(viser.ViserServer):
        """A server that no message from a browser makes public."""

        def request_share_url(self, verbose: bool = True) -> str | None:
            """Open no tunnel to other servers, whoever asks."""
            del verbose
            return None

    _require_free(host, port)
    # browsers open connections ahead and close them unused: no news for whoever started the viewer
    logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
    quiet = contextlib.redirect_stdout(io.StringIO())  # our own lines say more than its banner
    with quiet, own_pages_only(websockets.asyncio.server, host):
        server = LocalServer(host=host, port=port, label=title, verbose=False)
    if port not in (0, server.get_port()):  # somebody took it since we looked
        stop_server(server)
        raise _taken(host, port)
    server.gui.configure_theme(show_logo=False, show_share_button=False)
    server.gui.main_panel.dock_right()
    return server


def stop_server(server: Any) -> None:
    """Stop a server without a word."""
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()


def place_first_camera(
    server: Any, camera: RenderCamera, target: tuple[float, float, float]
) -> None:
    """Set where browsers look from that connect from now on; see `move_camera`."""
    first = server.initial_camera
    first.position, first.look_at = _position(camera), target
    first.up, first.fov = (0.0, 0.0, 1.0), vertical_field(camera)


def move_camera(server: Any, camera: RenderCamera, target: tuple[float, float, float]) -> None:
    """Set where every browser looks from.

    Args:
        server: whose browsers.
        camera: z up.
        target: place, metres, that orbits turn around; on the camera's axis.
    """
    place_first_camera(server, camera, target)
    for client in server.get_clients().values():
        with client.atomic():
            client.camera.position = _position(camera)
            client.camera.look_at = target
            client.camera.fov = vertical_field(camera)


def vertical_field(camera: RenderCamera) -> float:
    """Angle from the lower to the upper rim of a camera's picture, radians."""
    return 2 * math.atan(camera.image_size[0] / 2 / float(camera.intrinsics[1, 1]))


def target_of(camera: RenderCamera, middle: torch.Tensor) -> tuple[float, float, float]:
    """The place on a camera's axis, metres, that is nearest to the middle (3,) of a scene."""
    pose = camera.camera_to_world
    forward = (middle.double() - pose[:3, 3]) @ pose[:3, 2]
    x, y, z = (pose[:3, 3] + max(float(forward), 0.1) * pose[:3, 2]).tolist()
    return x, y, z


def page_of(draw: Callable[[Any], None], camera: RenderCamera, middle: torch.Tensor) -> str:
    """A page that shows a scene without any server.

    Args:
        draw: is given the scene of a server that nobody looks at.
        camera: where the page looks from.
        middle: (3,) of the scene, metres.
    """
    server = start_server("127.0.0.1", 0, "")
    try:
        place_first_camera(server, camera, target_of(camera, middle))
        draw(server.scene)
        html: str = server.scene.as_html()
    finally:
        stop_server(server)
    return html


def _position(camera: RenderCamera) -> tuple[float, float, float]:
    x, y, z = camera.camera_to_world[:3, 3].tolist()
    return x, y, z


def _require_free(host: str, port: int) -> None:
    """Refuse an address that cannot be listened at: viser would take the next port unasked."""
    if not 0 <= port <= _MAX_PORT:
        raise ConfigError(f"--port {port}: expected 0 to {_MAX_PORT}; name another")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except socket.gaierror as error:
        raise ConfigError(
            f"--host {host}: is no address of this machine ({error.strerror}); leave it out to be "
            "reached from this machine only"
        ) from None
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError as error:
            raise ConfigError(
                f"--port {port}: cannot be listened at ({error.strerror}); take one above 1023"
            ) from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise _taken(host, port) from None
            raise ConfigError(
                f"--host {host}: cannot be listened at ({error.strerror}); leave it out to be "
                "reached from this machine only"
            ) from None


def _taken(host: str, port: int) -> ConfigError:
    return ConfigError(
        f"--port {port}: another program listens there at {host}, expected a free port; name "
        "another, or 0 for any"
    )
