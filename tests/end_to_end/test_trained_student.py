"""Clouds without images are labelled by a student of another run, which may go afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from pcdistill.networks import build_student, load_checkpoint, save_checkpoint
from pcdistill.pipeline.workspace import UnitRecord, Workspace
from pcdistill.scenes import Scene, open_scene, read_ply, write_ply, write_scene

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "bare_cloud.yaml"
QUESTIONS = ("report.queries=[chair]", "report.heat_maps=[table]")


def room(points: int = 3000) -> tuple[torch.Tensor, torch.Tensor]:
    """Floor and a wall of a room, points (N, 3) in metres and colours (N, 3)."""
    generator = torch.Generator().manual_seed(points)
    flat = torch.rand(points, 3, generator=generator) * torch.tensor([4.0, 3.0, 2.0])
    half = points // 2
    flat[:half, 2] = 0
    flat[half:, 1] = 0
    return flat, torch.randint(0, 256, (points, 3), generator=generator, dtype=torch.uint8)


@pytest.fixture
def clouds(tmp_path) -> Path:
    """A folder of three clouds, of which one has no colours."""
    folder = tmp_path / "clouds"
    folder.mkdir()
    for name, count in (("hall", 3000), ("office", 2500)):
        points, colors = room(count)
        write_ply(folder / f"{name}.ply", points=points, colors=colors)
    write_ply(folder / "pale.ply", points=room()[0])
    return folder


@pytest.fixture
def earlier(tmp_path) -> Path:
    """Workspace of a finished run; what its student says means nothing."""
    torch.manual_seed(0)
    network = build_student("MinkUNet14A", 7, 64, width=0.125)
    root = tmp_path / "earlier"
    save_checkpoint(
        root / "students" / "superpoint" / "checkpoint.safetensors",
        network,
        {
            "text_space": "static-minilm-64",
            "prompt": "a {}",
            "teachers": ["demo-dense"],
            "config": {"voxel_size": 0.1, "input": "color"},
        },
    )
    Workspace(root).write_record("distill", "superpoint", UnitRecord("", "done", "", 0.0, {}, {}))
    (root / "config.yaml").write_text(yaml.safe_dump({"distill": {"students": ["superpoint"]}}))
    return root


def arguments(scan: Path, workspace: Path, trained: Path, *settings: str) -> list[object]:
    start = ["run", CONFIG, "--scan", scan, "--workspace", workspace, "--jobs", 1]
    return [*start, "--set", f"distill.pretrained={trained}", *QUESTIONS, *settings]


def test_clouds_are_labelled_and_answer_after_everything_else_has_gone(
    clouds, earlier, tmp_path, pcdistill
):
    workspace = tmp_path / "run"
    ran = pcdistill(*arguments(clouds, workspace, earlier))
    assert ran.status == 1
    assert "FAILED ingest pale: scene pale: has no colours but the student sees them" in ran.output
    assert "voxels of 0.1 m, input color, prompt 'a {}'" in ran.output
    assert "student:pretrained: labelled 2 scenes" in ran.output
    report = json.loads((workspace / "report" / "report.json").read_text())
    assert report["capability"] is None
    assert {query["scene"] for query in report["queries"]} == {"hall", "office"}
    assert report["notes"] == [
        "The student learned from teachers that were trained on rendered homes; on this real scan "
        "no accuracy is claimed."
    ]

    clouds.rename(tmp_path / "clouds-moved")
    earlier.rename(tmp_path / "earlier-moved")
    shown = pcdistill("status", workspace)
    assert shown.status == 0, shown.output
    for stage, done, failed in (("ingest", 2, 1), ("distill", 1, "-"), ("report", 1, "-")):
        assert f"{stage} │ {done} │ {failed} │ - │ - │" in shown.output
    answered = pcdistill("query", workspace, "chair")
    assert answered.status == 0, answered.output
    heat = read_ply(workspace / "queries" / "chair" / "hall.ply").scalars["relevancy"].float()
    assert bool(torch.isfinite(heat).all())
    assert float(heat.std()) > 0
    measured = pcdistill("evaluate", workspace)
    assert "nothing to do: all 2 units are up to date" in measured.output
    exported = pcdistill("export", workspace)
    assert exported.status == 0, exported.output
    names = sorted(path.name for path in (workspace / "export").iterdir())
    assert names == ["classes.txt", "hall.ply", "office.ply"]

    again = pcdistill("run", workspace)
    assert "FAILED ingest pale: scene pale: has to be read from" in again.output
    assert "which is gone; bring it back, or give its new place with --scan" in again.output
    turned = pcdistill("run", workspace, "--set", "ingest.up_axis=y")
    assert turned.status == 2
    assert "has to be read again from" in turned.output
    assert "or leave the settings of ingest as they were" in turned.output
    assert "ingest │ 2 │ 1 │" in pcdistill("status", workspace, "--set", "ingest.up_axis=z").output
    moved = pcdistill(
        "run", workspace, "--scan", tmp_path / "clouds-moved", "--set", "ingest.up_axis=z"
    )
    assert "0 done, 7 up to date, 2 failed" in moved.output, moved.output


def test_a_cloud_in_centimetres_is_doubted_and_one_with_y_up_is_turned(
    earlier, tmp_path, pcdistill
):
    points, colors = room()
    write_ply(tmp_path / "hall.ply", points=100 * points[:, [0, 2, 1]], colors=colors)
    workspace = tmp_path / "run"
    ran = pcdistill(
        *arguments(tmp_path / "hall.ply", workspace, earlier, "ingest.up_axis=y"),
        "--only",
        "ingest",
    )
    assert ran.status == 0, ran.output
    assert "m apart but the student's voxels are 0.1 m: is its unit the metre?" in ran.output
    stored = open_scene(workspace / "scenes" / "hall").points
    torch.testing.assert_close(stored[:, 2], 100 * points[:, 2])


def test_labelled_scans_are_measured_on_all_points(earlier, tmp_path, pcdistill):
    points, colors = room()
    labels = (points[:, 1] == 0).long()
    scene = Scene("hall", points, colors=colors, labels=labels, label_set="scannet20")
    write_scene(scene, tmp_path / "scans" / "hall")
    workspace = tmp_path / "run"
    ran = pcdistill(*arguments(tmp_path / "scans", workspace, earlier))
    assert ran.status == 0, ran.output
    result = json.loads(
        (workspace / "evaluation" / "student=pretrained" / "result.json").read_text()
    )
    assert result["points"] == len(points)
    assert result["protocol"].startswith("'every point': all points;")
    assert result["protocol"].endswith("prompt 'a {}'")
    report = json.loads((workspace / "report" / "report.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["student:pretrained"]


def test_another_student_is_taken_when_the_file_changes(clouds, earlier, tmp_path, pcdistill):
    workspace = tmp_path / "run"
    command = arguments(clouds / "hall.ply", workspace, earlier)
    assert pcdistill(*command).status == 0
    file = earlier / "students" / "superpoint" / "checkpoint.safetensors"
    network, metadata = load_checkpoint(file)
    with torch.no_grad():
        network.final.kernel.mul_(-1)
    save_checkpoint(file, network, metadata["provenance"])
    again = pcdistill(*command)
    assert "3 done, 2 up to date, 0 failed" in again.output
    kept = load_checkpoint(workspace / "students" / "pretrained" / "checkpoint.safetensors").network
    assert torch.equal(kept.final.kernel, network.final.kernel)


def test_a_cloud_alone_has_nothing_for_teachers_to_see(clouds, earlier, tmp_path, pcdistill):
    given = arguments(clouds / "hall.ply", tmp_path / "run", earlier, "run.teachers=[demo-dense]")
    ran = pcdistill(*given, "synthesize.images=1", "--only", "ingest", "lift")
    assert ran.status == 2
    assert "found clouds without frames, at which no teacher can look" in ran.output
    assert not (tmp_path / "run").exists()
