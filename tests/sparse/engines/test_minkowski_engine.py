"""Our engine against MinkowskiEngine itself: the same network, weights and scene.

MinkowskiEngine is not among the dependencies. `make minkowski` builds it into a cache; with the
environment variable PCDISTILL_MINKOWSKI=1 the tests build it themselves when the cache is empty.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pcdistill.errors import ConfigError, MissingExtraError
from pcdistill.geometry import voxelize
from pcdistill.homes import build_home, scan_mesh
from pcdistill.networks import build_student
from pcdistill.scenes.formats.ply import read_ply
from tests.conftest import REPOSITORY

CLOSE = 1e-4
"""Largest difference in float32 over the largest entry."""
STEP_CLOSE = 1e-8
"""The same in float64, and for gradients the relative L2."""
BUILD = REPOSITORY / "tools" / "build_minkowski.py"
SCANS = ("**/*_vh_clean_2.ply", "**/*mesh.ply")
"""Meshes of real scans below the data root; the first one there is taken."""


@pytest.fixture(scope="session")
def minkowski_site() -> Path:
    """Folder to import MinkowskiEngine from."""

    def ask(*arguments: str) -> str:
        done = subprocess.run([sys.executable, BUILD, *arguments], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(done.stderr.strip().splitlines()[-1])
        return done.stdout.strip()

    site = ask("--where")
    if not site and os.environ.get("PCDISTILL_MINKOWSKI", "0") in ("", "0"):
        pytest.skip(
            "MinkowskiEngine is not built, so our engine was not compared with it; run make "
            "minkowski, or set PCDISTILL_MINKOWSKI=1"
        )
    return Path(site or ask())


def home_voxels(count: int) -> np.ndarray:
    """(count, 4) int32: the middle of a furnished home, 5 cm voxels, of both signs."""
    points = scan_mesh(build_home(1, "validation").surface).points
    cells = voxelize(points, 0.05).coords
    away = (cells - cells.float().mean(dim=0)).abs()[:, :2].amax(dim=1)
    cells = cells[torch.argsort(away, stable=True)[:count]]
    cells = cells - cells[0]
    return torch.cat((torch.zeros(len(cells), 1), cells), dim=1).to(torch.int32).numpy()


def compare(site: Path, folder: Path, coords: np.ndarray, what: str) -> dict:
    """Both engines in a process of their own: its thread pools and import paths stay there."""
    np.save(folder / "voxels.npy", coords)
    command = [sys.executable, Path(__file__).with_name("subprocess_compare_engines.py")]
    paths = [str(site), str(REPOSITORY)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    environment.setdefault("OPENBLAS_NUM_THREADS", str(torch.get_num_threads()))
    done = subprocess.run(
        [*command, folder / "voxels.npy", what], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_full_size_network_on_a_home(minkowski_site, tmp_path):
    found = compare(minkowski_site, tmp_path, home_voxels(12_000), "forward")
    assert found["rows"] == 12_000
    assert found["output"] < CLOSE


@pytest.mark.slow
def test_full_size_network_on_a_real_scan(minkowski_site, tmp_path, data_root):
    scans = [file for pattern in SCANS for file in sorted(data_root.glob(pattern))]
    if not scans:
        pytest.skip(f"no mesh of a scan below {data_root}")
    cells = voxelize(read_ply(scans[0]).points, 0.03, origin=None).coords
    coords = torch.cat((torch.zeros_like(cells[:, :1]), cells), dim=1)
    found = compare(minkowski_site, tmp_path, coords.numpy(), "forward")
    assert found["rows"] == len(coords)
    assert found["output"] < CLOSE


@pytest.mark.slow
def test_a_step_of_the_full_size_network(minkowski_site, tmp_path):
    one = home_voxels(4_000)
    two = one + np.array([1, -300, 7, -2], dtype=np.int32)  # a batch of two
    found = compare(minkowski_site, tmp_path, np.concatenate((one, two)), "step")
    assert found["output"] < STEP_CLOSE
    assert found["statistics"] < STEP_CLOSE
    assert found["gradients"] < STEP_CLOSE


def test_a_turned_grid_is_turned_for_both(minkowski_site, tmp_path):
    """The trainer's views of the grid carry their turn in the maps, not in the coordinates."""
    found = compare(minkowski_site, tmp_path, home_voxels(2_000), "turned")
    assert found["output"] < CLOSE


def test_rows_keep_the_callers_order(minkowski_site, tmp_path):
    found = compare(minkowski_site, tmp_path, home_voxels(2_000), "rows")
    assert found == {"coords": True, "features": True, "empty": True}


@pytest.mark.skipif(
    importlib.util.find_spec("MinkowskiEngine") is not None, reason="MinkowskiEngine is installed"
)
def test_absence_is_one_sentence_that_says_what_to_do():
    with pytest.raises(MissingExtraError, match=r"tools/build_minkowski.py --install") as raised:
        build_student("MinkUNet14A", 3, 8, width=0.125, engine="minkowski")
    assert "\n" not in str(raised.value)


def test_an_unknown_engine_is_named():
    with pytest.raises(ConfigError, match=r"unknown engine 'minkowsky': did you mean 'minkowski'"):
        build_student("MinkUNet14A", 3, 8, width=0.125, engine="minkowsky")


def test_looking_for_the_wheel_builds_nothing(tmp_path):
    environment = {**os.environ, "PCDISTILL_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, BUILD, "--where"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, "")
    assert not (tmp_path / "cache").exists()
