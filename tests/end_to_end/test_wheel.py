"""The built wheel alone, away from any clone, has all that it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.end_to_end.conftest import TINY

NEEDED = (
    "pcdistill/py.typed",
    "pcdistill/configs/demo.yaml",
    "pcdistill/teachers/demo/weights/dense.safetensors",
    "pcdistill/teachers/demo/weights/masks.safetensors",
    "pcdistill/teachers/demo/text_encoder/model.safetensors",
    "pcdistill/teachers/demo/text_encoder/LICENCE.txt",
    "pcdistill/teachers/detector/weights/nanodet_g.safetensors",
    "pcdistill/teachers/detector/weights/LICENSE.txt",
    "pcdistill/teachers/detector/weights/NOTICE.txt",
    "pcdistill/scenes/label_sets/scannet20.json",
    "pcdistill/scenes/vocabularies/indoor.json",
    "pcdistill/reporting/report.css",
    "pcdistill/reporting/page.html.j2",
)
LOADED = """
import importlib, pkgutil
import pcdistill
for module in pkgutil.walk_packages(pcdistill.__path__, "pcdistill."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:  # of an extra
            assert not error.name.startswith("pcdistill"), error
from importlib.resources import files
from pcdistill.pipeline import RunContext, load_config
run = RunContext(load_config(files("pcdistill") / "configs" / "demo.yaml"))
run.validate()
print(len(run.words.vocabulary_embeddings), len(run.words.label_embeddings))
print(*(run.teacher(name).name for name in run.config.run.teachers))
print(pcdistill.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this clone."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder]
    subprocess.run([*build, REPOSITORY], check=True, capture_output=True, timeout=300)
    (built,) = folder.glob("pcdistill-*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """A folder into which the wheel was installed."""
    folder = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
    subprocess.run([*install, wheel], check=True, capture_output=True, timeout=300)
    return folder


def run(site: Path, away: Path, *arguments: str) -> str:
    """What Python prints in another folder, with the wheel's package before all others."""
    finished = subprocess.run(
        [sys.executable, *arguments],
        cwd=away,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_the_wheel_carries_its_data_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert not set(NEEDED) - set(names)
    assert not [name for name in names if name.startswith(("tests/", "tools/"))]
    assert wheel.stat().st_size < 15e6  # bytes; what a package index takes without asking is more


def test_everything_in_it_is_imported_and_loaded_from_there(site, tmp_path):
    embedded, teachers, where = run(site, tmp_path, "-c", LOADED).splitlines()
    assert all(int(count) >= 20 for count in embedded.split())
    assert teachers == "demo-dense demo-masks"
    assert where.startswith(str(site))


@pytest.mark.slow
def test_it_runs_the_demo(site, tmp_path):
    settings = (*TINY, "ingest.train=1", "distill.epochs=2")
    run(site, tmp_path, "-m", "pcdistill.cli", "demo", "--set", *settings)
    report = json.loads((tmp_path / "runs" / "demo" / "report" / "report.json").read_text())
    measured = [row["name"] for row in report["rows"]]
    assert measured[0] == "teacher:demo-dense"
    assert measured[-1] == "student:superpoint+ensemble"
    assert "fused" in measured
