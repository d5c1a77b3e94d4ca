"""Which requests a viewer answers: those of its own page, not those of other sites' pages.

A page of any site that is open in the same browser may ask for localhost. Browsers keep it from
reading answers, but not from opening a WebSocket, and a name that its owner points to 127.0.0.1
passes for the same site. Both give themselves away by their headers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine reaches."""
_SERVING = Lock()


def why_refused(host: str | None, origin: str | None, *, local: bool) -> str | None:
    """Say why a request is refused; None where it is answered.

    Args:
        host: of the request's headers: by which name the browser knows the server.
        origin: of the request's headers: the page that asks; None where it does not say.
        local: whether only this machine is meant to ask.
    """
    if local and _hostname(f"//{host or ''}") not in LOCAL_HOSTS:
        return f"asked as {host}, expected localhost; open http://localhost with the same port"
    if origin is not None and urlsplit(origin).netloc != host:
        return f"asked by a page of {origin}, expected this viewer's own"
    return None


@contextmanager
def own_pages_only(server_module: Any, host: str) -> Iterator[None]:
    """Let servers that are started inside answer their own pages only.

    Args:
        server_module: `websockets.asyncio.server`, whose `serve` starts a server.
        host: address that the server listens at.
    """
    with _SERVING:
        serve = server_module.serve
        server_module.serve = _checked(serve, local=host in LOCAL_HOSTS)
        try:
            yield
        finally:
            server_module.serve = serve


def _checked(serve: Callable[..., Any], *, local: bool) -> Callable[..., Any]:
    """The function `serve` with a look at the headers before each request is processed."""

    def serve_own(*arguments: Any, process_request: Callable[..., Any], **options: Any) -> Any:
        def process(connection: Any, request: Any) -> Any:
            headers = request.headers
            trouble = why_refused(headers.get("Host"), headers.get("Origin"), local=local)
            if trouble is not None:
                return connection.respond(HTTPStatus.FORBIDDEN, f"{trouble}\n")
            return process_request(connection, request)

        return serve(*arguments, process_request=process, **options)

    return serve_own


def _hostname(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
