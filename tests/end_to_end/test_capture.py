"""A real capture goes through the same stages; what is wrong with a capture is said."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pcdistill import open_run
from pcdistill.pipeline.artifact_files import read_tensors
from pcdistill.scenes import read_ply
from tests.end_to_end.conftest import pcdistill

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "rgbd.yaml"
QUICK = (
    "ingest.frame_step=4",
    "ingest.image_size=[240, 320]",
    "synthesize.images=1",
    "distill.epochs=2",
    "distill.width=0.25",
    "distill.voxel_size=0.1",
    "report.queries=[table]",
    "report.heat_maps=[table]",
)

Places = list[tuple[tuple[float, float, float, float], tuple[float, float]]]
CHAIRS: Places = [
    ((-0.65, 0.1, 2.4, 3.3), (0.3, 0.8)),
    ((0.2, 0.8, 2.9, 3.3), (0.5, 0.9)),
    ((1.3, 1.9, 2.6, 3.2), (0.5, 0.9)),
]


def captures(root: Path) -> list[Path]:
    """Every folder of posed RGB-D frames below the data root."""
    return sorted(path.parent for path in root.glob("rgbd*/color"))


@pytest.fixture(scope="module")
def capture(data_root) -> Path:
    found = captures(data_root)
    if not found:
        pytest.skip(f"no rgbd* capture below {data_root}")
    return found[0]


@pytest.fixture(scope="module")
def finished(capture, tmp_path_factory) -> Path:
    """Workspace of a quick run on the capture."""
    workspace = tmp_path_factory.mktemp("capture") / "run"
    arguments = ["run", CONFIG, "--scan", capture, "--workspace", workspace]
    ran = pcdistill(*arguments, "--set", *QUICK)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return workspace


def test_the_report_says_what_was_trained_on_what(finished):
    report = json.loads((finished / "report" / "report.json").read_text())
    assert report["rows"] == []
    (note,) = report["notes"]
    assert "detector was trained on photographs" in note
    assert "silent about all else" in note
    assert note.split(",")[0] in (finished / "report" / "index.html").read_text()
    sections = {picture["section"] for picture in report["pictures"]}
    assert {"The scan", "Geometry"} <= sections


def test_a_question_about_it_is_answered(finished, capture):
    answered = pcdistill("query", finished, "where can I sit")
    assert answered.returncode == 0, answered.stderr
    cloud = read_ply(finished / "queries" / "where-can-I-sit" / f"{capture.name}.ply")
    assert bool(torch.isfinite(cloud.scalars["relevancy"].float()).all())


@pytest.mark.parametrize(
    ("question", "places"),
    [
        ("chair", CHAIRS),
        ("a place to sit", CHAIRS),
        ("table", [((-0.2, 2.0, 1.75, 3.15), (0.65, 0.8))]),
    ],
)
def test_things_of_a_photographed_room_are_found_where_they_are(finished, question, places):
    """Looked up by eye in the mesh and the photographs, (x0, x1, y0, y1) and heights in metres."""
    x, y, z = open_run(finished).query(question, draw="none").answers[0].position
    assert any(
        x0 < x < x1 and y0 < y < y1 and low < z < high for (x0, x1, y0, y1), (low, high) in places
    )


def test_most_of_the_room_stays_unseen(finished, capture):
    """The detector has no word for walls, floor and cupboards."""
    lifted = read_tensors(finished / "features" / "detector" / f"{capture.name}.safetensors")
    assert 0.05 < len(lifted["seen"]) / len(lifted["views"]) < 0.5


def test_ten_frames_see_most_of_the_mesh(finished, capture):
    lifted = read_tensors(finished / "features" / "detector" / f"{capture.name}.safetensors")
    seen = (lifted["views"] > 0).float().mean()
    assert seen > 0.6  # the mesh was made of many more frames
    assert lifted["features"].dtype == torch.float16


def link(capture: Path, folder: Path, frames: int = 4) -> Path:
    """A small copy of the capture without its mesh."""
    copy = folder / "capture"
    for kind in ("color", "depth", "pose"):
        (copy / kind).mkdir(parents=True)
    shutil.copy(capture / "intrinsics.txt", copy)
    names = sorted((path.stem for path in (capture / "color").iterdir()), key=int)[:frames]
    for name in names:
        for kind in ("color", "depth", "pose"):
            (source,) = (capture / kind).glob(f"{name}.*")
            shutil.copy(source, copy / kind)
    return copy


def refused(copy: Path, workspace: Path, *settings: str) -> str:
    """What a run on a broken capture says; it must fail in sentences."""
    arguments = ["run", CONFIG, "--scan", copy, "--workspace", workspace, "--only", "ingest"]
    ran = pcdistill(*arguments, *(["--set", *settings] if settings else []))
    assert ran.returncode in (1, 2), ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr
    return re.sub(r"\s+", " ", ran.stdout + ran.stderr)


def test_without_a_mesh_the_depth_is_fused(capture, tmp_path):
    copy = link(capture, tmp_path, frames=12)
    arguments = ["run", CONFIG, "--scan", copy, "--workspace", tmp_path / "run"]
    ran = pcdistill(*arguments, "--only", "ingest", "partition")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"cloud of \d+ points, 12 frames", ran.stdout)
    assert "superpoints by neighbors" in ran.stdout


def test_a_missing_folder_is_named(tmp_path):
    assert "no such folder" in refused(tmp_path / "nowhere", tmp_path / "run")


def test_a_capture_has_to_be_named(tmp_path):
    ran = pcdistill("run", CONFIG, "--workspace", tmp_path / "run")
    assert ran.returncode == 2
    assert "give the folder of a scan with --scan" in ran.stderr


def test_a_folder_without_a_scan_says_what_was_looked_for(tmp_path):
    (tmp_path / "empty").mkdir()
    said = refused(tmp_path / "empty", tmp_path / "run")
    assert "color" in said
    assert "pose" in said


def test_a_lost_pose_is_skipped_and_counted(capture, tmp_path):
    copy = link(capture, tmp_path, frames=8)
    first = sorted((copy / "pose").iterdir())[0]
    first.write_text("\n".join(["nan nan nan nan"] * 4))
    arguments = ["run", CONFIG, "--scan", copy, "--workspace", tmp_path / "run"]
    ran = pcdistill(*arguments, "--only", "ingest")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "7 frames (1 without a valid pose or file left out)" in ran.stdout


def test_millimetres_taken_for_metres_are_noticed(capture, tmp_path):
    said = refused(link(capture, tmp_path), tmp_path / "run", "ingest.depth_scale=1.0")
    assert "depth_scale: 1000" in said


def test_images_and_depth_of_different_sizes_are_named(capture, tmp_path):
    copy = link(capture, tmp_path)
    path = sorted((copy / "depth").iterdir())[0]
    with Image.open(path) as picture:
        half = np.asarray(picture)[::2, ::2]
    Image.fromarray(half).save(path)
    said = refused(copy, tmp_path / "run")
    assert path.name in said
    assert "320" in said
    assert "640" in said


def test_one_broken_scan_does_not_stop_the_others(capture, tmp_path):
    both = tmp_path / "both"
    both.mkdir()
    link(capture, tmp_path).rename(both / "good")
    (both / "broken").mkdir()
    for kind in ("color", "depth", "pose"):
        (both / "broken" / kind).mkdir()
    arguments = ["run", CONFIG, "--scan", both, "--workspace", tmp_path / "run"]
    ran = pcdistill(*arguments, "--only", "ingest", "partition")
    assert ran.returncode == 1
    assert re.search(r"FAILED ingest broken: \S", ran.stdout)
    assert "not tried, because ingest broken failed" in ran.stdout
    assert (tmp_path / "run" / "superpoints" / "good.safetensors").exists()
