"""Options of `pcdistill run` for Ray, as far as they can be wrong before anything begins."""

from __future__ import annotations

from importlib.resources import files

import pytest

from pcdistill.cli import run_command
from pcdistill.pipeline import ray_package

DEMO = str(files("pcdistill") / "configs" / "demo.yaml")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--ray-cpus", "2"),
            "--ray-cpus is given without --engine ray, which it is for; add that",
        ),
        (
            ("--ray-address", "auto"),
            "--ray-address is given without --engine ray, which it is for; add that",
        ),
        (
            ("--engine", "ray", "--ray-gpus", "-1"),
            "--ray-gpus must be 0 or more, got -1.0",
        ),
        (
            ("--engine", "ray"),
            "--engine ray needs ray, which is not installed; install it on every machine with "
            "pip install 'pcdistill[ray]'",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    tmp_path, capsys, monkeypatch, options, sentence
):
    monkeypatch.setattr(ray_package, "find_spec", lambda name: None)
    root = tmp_path / "run"
    assert run_command(["run", DEMO, "--workspace", str(root), *options]) == 2
    assert capsys.readouterr().err == f"error: {sentence}\n"
    assert not root.exists()
