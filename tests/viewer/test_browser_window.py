"""Addresses the server listens at, and what it refuses."""

from __future__ import annotations

import http.client
import logging
import socket
import sys
import urllib.error
import urllib.request

import pytest
import viser

from pcdistill.errors import ConfigError, MissingExtraError
from pcdistill.viewer.browser_window import start_server, stop_server
from pcdistill.viewer.same_origin import why_refused


def test_only_this_machine_is_listened_to(capfd):
    server = start_server("127.0.0.1", 0, "title")
    try:
        port = server.get_port()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
            assert b"<html" in page.read()
        for path in ("../../../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "//etc/passwd"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}")
        assert server.request_share_url() is None  # nobody makes it public
    finally:
        stop_server(server)
    assert capfd.readouterr().out == ""


def test_a_connection_that_asks_nothing_is_no_news(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("websockets.server"), "filters", [])  # viser's, of before
    server = start_server("127.0.0.1", 0, "title")
    try:
        with socket.create_connection(("127.0.0.1", server.get_port())) as opened:
            opened.shutdown(socket.SHUT_WR)
            assert opened.recv(100) == b""  # the server has seen it end
    finally:
        stop_server(server)
    assert caplog.records == []


def test_a_port_that_is_taken_is_an_error_and_no_other_is_used():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: another program listens there"):
            start_server("127.0.0.1", port, "title")


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("no-such-host.invalid", 0, "is no address of this machine"),
        ("203.0.113.7", 0, "cannot be listened at"),  # a documentation address, of nobody
        ("127.0.0.1", 70000, "expected 0 to 65535"),
        ("127.0.0.1", -1, "expected 0 to 65535"),
    ],
)
def test_addresses_that_are_none_are_errors(host, port, said):
    with pytest.raises(ConfigError, match=said):
        start_server(host, port, "title")


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pcdistill\[viewer\]'"):
        start_server("127.0.0.1", 0, "title")


def status_of(port: int, headers: dict[str, str]) -> int:
    """Status of a WebSocket that is asked for with these headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    opening = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
        "Sec-WebSocket-Protocol": f"viser-v{viser.__version__}",
    }
    try:
        connection.request("GET", "/", headers={**opening, **headers})
        return connection.getresponse().status
    finally:
        connection.close()


def test_pages_of_other_sites_are_refused():
    server = start_server("127.0.0.1", 0, "title")
    try:
        port = server.get_port()
        own = f"localhost:{port}"
        assert status_of(port, {"Host": own, "Origin": f"http://{own}"}) == 101
        assert status_of(port, {"Host": own}) == 101  # not a browser
        assert status_of(port, {"Host": own, "Origin": "https://example.org"}) == 403
        assert status_of(port, {"Host": own, "Origin": "null"}) == 403
        other = f"example.org:{port}"  # a name that leads here
        assert status_of(port, {"Host": other, "Origin": f"http://{other}"}) == 403
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": other})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(asked)
    finally:
        stop_server(server)


@pytest.mark.parametrize(
    ("host", "origin", "local", "refused"),
    [
        ("localhost:8080", "http://localhost:8080", True, False),
        ("[::1]:8080", None, True, False),
        ("127.0.0.1", None, True, False),
        (None, None, True, True),
        ("[", None, True, True),
        ("localhost.example.org", None, True, True),
        ("server:8080", "http://server:8080", False, False),
        ("server:8080", "http://server:9090", False, True),
    ],
)
def test_who_is_refused(host, origin, local, refused):
    assert (why_refused(host, origin, local=local) is not None) == refused
