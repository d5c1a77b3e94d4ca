"""Every data set goes from raw files to a cloud that answers questions, with one command."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from pcdistill.scenes import find_scans, open_scene, read_ply
from pcdistill.stages.files import read_tensors
from tests.conftest import DATA
from tests.end_to_end.conftest import pcdistill

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TINY = (
    "synthesize.images=1",
    "distill.students=[superpoint]",
    "distill.architecture=MinkUNet14A",
    "distill.epochs=1",
    "distill.width=0.125",
    "distill.voxel_size=0.2",
    "report.queries=[a place to sit]",
    "report.heat_maps=[table]",
)


class Case(NamedTuple):
    """One data set and what is known of every fixture of its kind."""

    folders: str
    """Glob below the data root."""
    config: str
    label_set: str | None
    occlusion: str


CASES = {
    "scannet": Case("scannet_raw*", "scannet", "scannet20", "depth"),
    "matterport": Case("matterport_raw*", "matterport", "matterport21", "depth"),
    "nuscenes": Case("nuscenes_raw*", "nuscenes", "nuscenes16", "none"),
    "clips": Case("nuscenes_openscene_layout*", "nuscenes", "nuscenes16", "none"),
    "replica": Case("replica_raw*", "replica", None, "depth"),
    "rgbd": Case("rgbd_frames*", "rgbd", None, "depth"),
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """One for all, so that images and scores of the teachers are made once."""
    return tmp_path_factory.mktemp("datasets") / "run"


def folder_of(case: Case) -> Path:
    found = sorted(DATA.glob(case.folders)) if DATA.is_dir() else []
    if not found:
        pytest.skip(f"no {case.folders} below {DATA} (set PCDISTILL_DATA)")
    return found[0]


def run(case: Case, scan: Path, workspace: Path):
    arguments = ["run", CONFIGS / f"{case.config}.yaml", "--scan", scan, "--workspace", workspace]
    step = ["ingest.frame_step=4"] if case.config in ("rgbd", "matterport") else []
    ran = pcdistill(*arguments, "--jobs", 1, "--set", *TINY, *step)
    assert "Traceback" not in ran.stdout + ran.stderr
    return ran


@pytest.mark.parametrize("name", CASES)
def test_a_data_set_is_labelled_and_answers(name, workspace):
    case = CASES[name]
    place = folder_of(case)
    scans = [scan.name for scan in find_scans(place)]
    ran = run(case, place, workspace)
    broken = re.findall(r"FAILED ingest (\S+): .*[.;] ?.*", ran.stdout)
    good = [scan for scan in scans if scan not in broken]
    assert ran.returncode == (1 if broken else 0), ran.stdout + ran.stderr
    assert good, ran.stdout
    assert set(re.findall(r"FAILED (\w+) \S+: (?!not tried)", ran.stdout)) <= {"ingest"}

    for scene_name in good:
        scene = open_scene(workspace / "scenes" / scene_name)
        assert scene.label_set == case.label_set
        lifted = read_tensors(workspace / "features" / "dense" / f"{scene_name}.safetensors")
        assert int((lifted["views"] > 0).sum()) > 0.2 * len(scene.points)
        predicted = read_tensors(
            workspace / "evaluation" / "student-superpoint" / f"{scene_name}.safetensors"
        )
        assert len(predicted["labels"]) == len(scene.points)
    found = json.loads((workspace / "report" / "report.json").read_text())
    assert bool(found["rows"]) == (case.label_set is not None)
    assert any(picture["section"] == "Geometry" for picture in found["pictures"])

    answered = pcdistill("query", workspace, "a place to sit", "--scene", good[0])
    assert answered.returncode == 0, answered.stderr
    assert good[0] in answered.stdout
    cloud = read_ply(workspace / "queries" / "a-place-to-sit" / f"{good[0]}.ply")
    assert bool(torch.isfinite(cloud.scalars["similarity"].float()).all())

    again = run(case, place, workspace)
    if broken:
        assert re.search(r"0 done, \d+ up to date", again.stdout), again.stdout
    else:
        assert "nothing to do" in again.stdout, again.stdout


def test_a_single_scan_of_a_data_set_is_taken(workspace, tmp_path):
    case = CASES["scannet"]
    scan = find_scans(folder_of(case))[0].folder
    config = CONFIGS / f"{case.config}.yaml"
    arguments = ["run", config, "--scan", scan, "--workspace", tmp_path / "run"]
    ran = pcdistill(*arguments, "--only", "ingest", "partition", "--jobs", 1)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [path.name for path in (tmp_path / "run" / "scenes").iterdir()] == [scan.name]


def test_a_bare_cloud_is_ingested_and_cut(tmp_path, data_root):
    clouds = sorted(data_root.glob("rgbd*/mesh.ply"))
    if not clouds:
        pytest.skip(f"no rgbd*/mesh.ply below {data_root}")
    arguments = ["run", CONFIGS / "rgbd.yaml", "--scan", clouds[0], "--workspace", tmp_path / "run"]
    ran = pcdistill(*arguments, "--only", "ingest", "partition", "--jobs", 1)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "0 frames" in ran.stdout
    assert (tmp_path / "run" / "superpoints" / "mesh.safetensors").exists()
