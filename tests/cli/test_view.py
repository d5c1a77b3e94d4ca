"""The command that shows a run: what it prints, and what it listens to."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pcdistill import inference, viewer
from pcdistill.cli import run_command
from pcdistill.cli import view as view_module


@pytest.fixture
def shown(monkeypatch):
    """What the viewer is made with; whoever waits is interrupted at once."""
    calls = []

    class App:
        def __init__(self, session, host, port):
            self.port = port or 40404
            calls.append((session, host, port))

        def close(self):
            calls.append("closed")

    def interrupt(self):
        raise KeyboardInterrupt

    event = SimpleNamespace(wait=lambda: interrupt(None))
    monkeypatch.setattr(view_module.threading, "Event", lambda: event)
    monkeypatch.setattr(inference, "open_run", lambda run: f"run {run}")
    monkeypatch.setattr(viewer, "ViewerSession", lambda run, scene: (run, scene))
    monkeypatch.setattr(viewer, "ViewerApp", App)
    return calls


def test_it_listens_to_this_machine_and_says_how_to_come_by_ssh(shown, capsys):
    assert run_command(["view", "runs/demo"]) == 0
    assert shown == [(("run runs/demo", None), "127.0.0.1", 8080), "closed"]
    out, err = capsys.readouterr()
    assert "viewer: http://localhost:8080\n" in out
    assert "ssh -N -L 8080:localhost:8080 " in out
    assert err == ""


def test_whoever_opens_it_to_others_is_warned(shown, capsys):
    words = ["--host", "0.0.0.0", "--port", "0", "--scene", "a"]
    assert run_command(["view", "runs/demo", *words]) == 0
    assert shown[0] == (("run runs/demo", "a"), "0.0.0.0", 0)
    out, err = capsys.readouterr()
    assert err.startswith("WARNING: everybody who can reach port 40404 of this machine sees")
    assert "ssh" not in out
    assert "http://0.0.0.0:40404" in out


def test_no_run_is_one_sentence(tmp_path, capsys):
    assert run_command(["view", str(tmp_path)]) == 2
    assert "found no config.yaml of a run there" in capsys.readouterr().err
