"""The built wheel alone, away from any clone, runs the demo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.end_to_end.conftest import TINY

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_wheel_carries_its_data_and_runs_the_demo(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path]
    subprocess.run([*build, REPOSITORY], check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("pcdistill-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "pcdistill/py.typed",
        "pcdistill/configs/demo.yaml",
        "pcdistill/teachers/weights/dense.safetensors",
        "pcdistill/teachers/weights/masks.safetensors",
        "pcdistill/teachers/text_encoder/model.safetensors",
        "pcdistill/teachers/text_encoder/LICENCE.txt",
        "pcdistill/scenes/label_sets/scannet20.json",
        "pcdistill/scenes/vocabularies/indoor.json",
        "pcdistill/evaluation/report.css",
    ):
        assert needed in names
    assert not [name for name in names if name.startswith(("tests/", "tools/"))]
    assert wheel.stat().st_size < 15e6

    site, away = tmp_path / "site", tmp_path / "away"
    away.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site]
    subprocess.run([*install, wheel], check=True, capture_output=True, timeout=300)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = subprocess.run(
        [sys.executable, "-c", "import pcdistill; print(pcdistill.__file__)"],
        cwd=away,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(site))
    demo = [sys.executable, "-m", "pcdistill.cli", "demo", "--set", *TINY, "ingest.train=1"]
    finished = subprocess.run(
        [*demo, "distill.epochs=2"],
        cwd=away,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    report = json.loads((away / "runs" / "demo" / "report" / "report.json").read_text())
    assert len(report["rows"]) == 8
