"""Every data set goes from raw files to a cloud that answers questions, with one command."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from pcdistill.pipeline.artifact_files import read_tensors
from pcdistill.scenes import find_scans, open_scene, read_ply
from tests.conftest import DATA

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TINY = (
    "synthesize.images=1",
    "distill.students=[superpoint]",
    "distill.architecture=MinkUNet14A",
    "distill.epochs=1",
    "distill.width=0.125",
    "distill.voxel_size=0.1",
    "run.teachers=[demo-dense]",
    "report.queries=[a place to sit]",
    "report.heat_maps=[table]",
)


class Case(NamedTuple):
    """One data set and what is known of every fixture of its kind."""

    folders: str
    """Glob below the data root."""
    config: str
    label_set: str | None


CASES = {
    "scannet": Case("scannet_raw*", "scannet_small", "scannet20"),
    "matterport": Case("matterport_raw*", "matterport_small", "matterport21"),
    "nuscenes": Case("nuscenes_raw*", "nuscenes_small", "nuscenes16"),
    "clips": Case("nuscenes_openscene_layout*", "nuscenes_small", "nuscenes16"),
    "replica": Case("replica_raw*", "replica", None),
    "rgbd": Case("rgbd_frames*", "rgbd", None),
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


def run_arguments(case: Case, scan: Path, workspace: Path) -> list[object]:
    config = CONFIGS / f"{case.config}.yaml"
    step = ["ingest.frame_step=8"] if case.config in ("rgbd", "matterport_small") else []
    start = ["run", config, "--scan", scan, "--workspace", workspace, "--jobs", 1]
    return [*start, "--set", *TINY, *step]


@pytest.mark.parametrize("name", CASES)
def test_a_data_set_is_labelled_and_answers(name, workspace, pcdistill):
    case = CASES[name]
    place = folder_of(case)
    scans = [scan.name for scan in find_scans(place)]
    ran = pcdistill(*run_arguments(case, place, workspace))
    broken = set(re.findall(r"FAILED ingest (\S+): \S", ran.output))
    good = [scan for scan in scans if scan not in broken]
    assert ran.status == (1 if broken else 0), ran.output
    assert good, ran.output

    for scene_name in good:
        scene = open_scene(workspace / "scenes" / scene_name)
        assert scene.label_set == case.label_set or scene.labels is None
        lifted = read_tensors(workspace / "features" / "demo-dense" / f"{scene_name}.safetensors")
        assert int((lifted["views"] > 0).sum()) > 0.05 * len(scene.points)
        predicted = read_tensors(
            workspace / "evaluation" / "student=superpoint" / f"{scene_name}.safetensors"
        )
        assert len(predicted["labels"]) == len(scene.points)
    found = json.loads((workspace / "report" / "report.json").read_text())
    assert bool(found["rows"]) == (case.label_set is not None)
    assert any(picture["section"] == "Geometry" for picture in found["pictures"])

    answered = pcdistill("query", workspace, "a place to sit", "--scene", good[0])
    assert answered.status == 0, answered.output
    cloud = read_ply(workspace / "queries" / "a-place-to-sit" / f"{good[0]}.ply")
    assert bool(torch.isfinite(cloud.scalars["relevancy"].float()).all())
    assert re.search(r"0\.\d\d", answered.output), "no superpoint was large enough to answer"

    again = pcdistill(*run_arguments(case, place, workspace))
    expected = r"0 done, \d+ up to date" if broken else "nothing to do"
    assert re.search(expected, again.output), again.output


def test_a_damaged_scan_is_one_sentence_and_stops_no_other(workspace, pcdistill):
    """Holds where the ScanNet fixture has a scan without what it needs."""
    case = CASES["scannet"]
    place = folder_of(case)
    scans = {scan.name: scan.folder for scan in find_scans(place)}
    damaged = [name for name, folder in scans.items() if not list(folder.glob("*_vh_clean_2.ply"))]
    if not damaged:
        pytest.skip(f"no damaged scan in {place}")
    only = ["--only", "ingest", "partition"]
    ran = pcdistill(*run_arguments(case, place, workspace), *only)
    assert ran.status == 1
    for name in damaged:
        (sentence,) = re.findall(rf"FAILED ingest {name}: (.+?)(?= FAILED| \d+ more|$)", ran.output)
        assert name in sentence
        assert sentence.count(". ") == 0
        assert f"FAILED partition {name}" not in ran.output.split("s FAILED ingest")[-1]
    assert f"{len(damaged)} more units were not tried, because they need these" in ran.output


def test_a_single_scan_of_a_data_set_is_taken(tmp_path, pcdistill):
    case = CASES["scannet"]
    scan = find_scans(folder_of(case))[0].folder
    only = ["--only", "ingest", "partition"]
    ran = pcdistill(*run_arguments(case, scan, tmp_path / "run"), *only)
    assert ran.status == 0, ran.output
    assert [path.name for path in (tmp_path / "run" / "scenes").iterdir()] == [scan.name]


def test_a_bare_cloud_is_ingested_and_cut(tmp_path, data_root, pcdistill):
    clouds = sorted(data_root.glob("rgbd*/mesh.ply"))
    if not clouds:
        pytest.skip(f"no rgbd*/mesh.ply below {data_root}")
    arguments = ["run", CONFIGS / "rgbd.yaml", "--scan", clouds[0], "--workspace", tmp_path / "run"]
    ran = pcdistill(*arguments, "--only", "ingest", "partition", "--jobs", 1)
    assert ran.status == 0, ran.output
    assert "0 frames" in ran.output
    assert (tmp_path / "run" / "superpoints" / "mesh.safetensors").exists()
