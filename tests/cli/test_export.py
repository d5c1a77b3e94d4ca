"""The command that exports: its formats, and what it prints."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pcdistill import inference
from pcdistill.cli import run_command


@pytest.fixture
def asked(monkeypatch):
    """What the finished run is asked for."""
    calls = []

    def export(folder, method, **options):
        options.pop("report")(1, 1, "scenes")
        calls.append((folder, method, options))
        return [Path("out/a [1].ply"), Path("out/classes.txt")]

    monkeypatch.setattr(inference, "open_run", lambda run: SimpleNamespace(export=export))
    return calls


@pytest.mark.parametrize(
    ("words", "formats"),
    [
        ([], ("ply",)),
        (["--format", "npz"], ("npz",)),
        (["--format", "ply", "las"], ("ply", "las")),
        (["--format", "ply", "--format", "las", "glb"], ("ply", "las", "glb")),
    ],
)
def test_formats_may_be_named_together_or_one_by_one(asked, words, formats, capsys):
    assert run_command(["export", "run", *words]) == 0
    assert asked == [(None, None, {"formats": formats, "zipped": False})]
    assert capsys.readouterr().out == "out/a [1].ply\nout/classes.txt\n"


def test_all_options_reach_the_run(asked):
    words = ["--to", "out", "--method", "fused", "--format", "scannet", "--zip"]
    assert run_command(["export", "run", *words]) == 0
    assert asked == [(Path("out"), "fused", {"formats": ("scannet",), "zipped": True})]
