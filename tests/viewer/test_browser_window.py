"""Addresses the server listens at, and what it refuses."""

from __future__ import annotations

import socket
import sys
import urllib.request

import pytest

from pcdistill.errors import ConfigError, MissingExtraError
from pcdistill.viewer.browser_window import start_server, stop_server


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
