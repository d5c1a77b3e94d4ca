"""Fusing: small targets teach what large ones teach, take a fiftieth of the disk, and agree."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from pcdistill.artifacts import open_point_features
from pcdistill.artifacts.fused_targets import load_fused_targets
from pcdistill.artifacts.point_features import projection_rules
from pcdistill.artifacts.superpoints import compact_ids, load_superpoint_ids
from pcdistill.distillation import superpoint_distillation_loss
from pcdistill.errors import SceneError
from pcdistill.fusion import fuse_features, predict_labels
from pcdistill.homes import home_scene
from pcdistill.inference import fuse_points as fuse_module
from pcdistill.lifting.lift_scene import count_views
from pcdistill.pipeline.artifact_files import read_provenance, write_json, write_tensors
from pcdistill.pipeline.config_loading import config_from_dict
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.stage import Task
from pcdistill.scenes import Scene, open_scene, write_scene
from pcdistill.stages.fuse import FuseStage
from pcdistill.stages.lift import LiftStage
from pcdistill.stages.partition import PartitionStage, partition_scene
from tests.fixtures.runs import measured_capability
from tests.tolerances import FLOAT32_SUMS, FLOAT64_EXACT

HALF_STEP = 2.0**-11  # relative rounding of half precision


def nothing(done, total, words):
    """A report that nobody reads."""


def work(stage, run, unit):
    return stage(run).work(Task(unit, (), "test"), nothing)


def make_run(folder, scene: Scene, name: str, **sections) -> RunContext:
    """A run whose scene is stored, with made-up capabilities."""
    sections = {"run": {"workspace": str(folder)}, "ingest": {"train": 1}, **sections}
    run = RunContext(config_from_dict(sections, "test"))
    write_scene(scene, run.workspace.scene(name))
    for number, teacher in enumerate(run.config.run.teachers):
        scores = {word: ((3 + number) * i % 10) / 10 for i, word in enumerate(run.vocabulary)}
        write_json(run.workspace.capability(teacher), {"capability": scores})
    return run


def write_lifted(
    run: RunContext, scene: str, points: int, dimensions: int, seen_by: float | torch.Tensor
):
    """Random features of every teacher, on a share of the points of its own or those of a mask."""
    generator = torch.Generator().manual_seed(0)
    for teacher in run.config.run.teachers:
        seen = (torch.rand(points, generator=generator) < seen_by).nonzero()[:, 0]
        features = torch.randn(len(seen), dimensions, generator=generator).half()
        tensors = {"features": features, "seen": seen, "views": torch.ones(points)}
        write_tensors(run.workspace.point_features(teacher, scene), tensors, {})


@pytest.fixture(scope="module")
def home():
    return home_scene(5, "train", frames=6, image_size=(48, 64))


@pytest.fixture
def fused_home(home, tmp_path, monkeypatch):
    """A run with a partitioned, lifted and fused home; several chunks of points."""
    monkeypatch.setattr(fuse_module, "_POINTS_AT_A_TIME", 1000)
    run = make_run(tmp_path, home, "home-train-0", fuse={"store_point_features": True})
    work(PartitionStage, run, "home-train-0")
    write_lifted(run, "home-train-0", len(home.points), 64, 0.6)
    work(FuseStage, run, "home-train-0")
    return run


def large_form(run: RunContext, scene: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Fused features (N, D) float64 of all points at once, and who saw any (N,)."""
    count = len(load_superpoint_ids(run.workspace, scene))
    features = torch.zeros(len(run.config.run.teachers), count, 64)
    seen = torch.zeros(len(run.config.run.teachers), count, dtype=torch.bool)
    for number, teacher in enumerate(run.config.run.teachers):
        values, index = open_point_features(run).load(teacher, scene)
        features[number, index] = values.float()
        seen[number, index] = True
    labels = predict_labels(features, run.words.vocabulary_embeddings)
    return fuse_features(features, labels, measured_capability(run), seen=seen), seen.any(dim=0)


def test_fusing_in_chunks_equals_fusing_at_once(fused_home):
    fused, seen = large_form(fused_home, "home-train-0")
    targets = load_fused_targets(fused_home.workspace, "home-train-0")
    assert torch.equal(targets.seen, seen.nonzero()[:, 0])
    assert torch.equal(targets.features, fused[seen].half())
    ids = load_superpoint_ids(fused_home.workspace, "home-train-0")
    for superpoint in range(0, int(ids.max()) + 1, 7):
        members = fused[(ids == superpoint) & seen].double()
        assert bool(targets.superpoint_seen[superpoint]) == (len(members) > 0)
        if len(members):
            mean = members.mean(dim=0)
            torch.testing.assert_close(
                # means are stored in half precision: a step is 1e-3
                targets.superpoint_means[superpoint].double(),
                mean,
                rtol=1e-3,
                atol=FLOAT32_SUMS,
            )


def loss_from_points(student, target, ids):
    """Eq. 10 as printed, from one target per point: nothing of it is stored per superpoint."""
    target_means, student_means = {}, {}
    for superpoint in ids.unique().tolist():
        members = ids == superpoint
        target_means[superpoint] = target[members].mean(dim=0)
        student_means[superpoint] = student[members].mean(dim=0)
    per_point = torch.stack([target_means[superpoint] for superpoint in ids.tolist()])
    point = 1 - functional.cosine_similarity(student, per_point, dim=1).mean()
    cosines = [
        functional.cosine_similarity(student_means[s], target_means[s], dim=0)
        for s in student_means
    ]
    return point + (1 - torch.stack(cosines).mean())


def test_loss_and_gradient_of_the_small_form_equal_those_of_the_large_form(fused_home):
    scene = "home-train-0"
    fused, seen = large_form(fused_home, scene)
    ids = load_superpoint_ids(fused_home.workspace, scene)[seen]
    target = fused[seen].double()
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(len(ids), 64, generator=generator, dtype=torch.float64)

    large = start.clone().requires_grad_()
    expected = loss_from_points(large, target, ids)
    expected.backward()

    stored = load_fused_targets(fused_home.workspace, scene).superpoint_means
    small = start.clone().requires_grad_()
    loss = superpoint_distillation_loss(small, ids, stored.double()).total
    loss.backward()
    # the means are stored in half precision, which turns each by a few half steps at most
    assert loss.item() == pytest.approx(expected.item(), abs=4 * HALF_STEP)
    difference = (small.grad - large.grad).norm() / large.grad.norm()
    assert float(difference) < 4 * HALF_STEP

    unrounded = torch.zeros(len(stored), 64, dtype=torch.float64)
    unrounded.index_add_(0, ids, target)
    unrounded /= torch.bincount(ids, minlength=len(stored)).clamp(min=1)[:, None]
    exact = start.clone().requires_grad_()
    loss = superpoint_distillation_loss(exact, ids, unrounded).total
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=0, atol=FLOAT64_EXACT)
    torch.testing.assert_close(exact.grad, large.grad, rtol=0, atol=FLOAT64_EXACT)


def test_scenes_whose_features_are_not_kept_are_fused_to_the_same(home, tmp_path):
    """lift.store_features: validation leaves the training scene's features off the disk."""
    kept = make_run(tmp_path / "all", home, "home-train-0")
    bare = make_run(tmp_path / "few", home, "home-train-0", lift={"store_features": "validation"})
    for run in (kept, bare):
        work(PartitionStage, run, "home-train-0")
        for teacher in run.config.run.teachers:
            work(LiftStage, run, f"{teacher}/home-train-0")
        work(FuseStage, run, "home-train-0")
    there, here = (load_fused_targets(run.workspace, "home-train-0") for run in (kept, bare))
    assert torch.equal(there.seen, here.seen)
    assert torch.equal(there.superpoint_means, here.superpoint_means)
    assert there.features is None
    sizes = [
        run.workspace.point_features("demo-dense", "home-train-0").stat().st_size
        for run in (kept, bare)
    ]
    assert sizes[1] < 0.1 * sizes[0]


@pytest.mark.parametrize("store_point_features", [False, True])
def test_the_estimates_are_what_is_written(home, tmp_path, store_point_features):
    run = make_run(
        tmp_path, home, "home-train-0", fuse={"store_point_features": store_point_features}
    )
    header = 4096
    units = {
        PartitionStage: "home-train-0",
        LiftStage: "demo-dense/home-train-0",
        FuseStage: "home-train-0",
    }
    for stage, unit in units.items():
        estimate = stage(run).estimate(unit)
        if stage is FuseStage:
            work(LiftStage, run, "demo-masks/home-train-0")
        work(stage, run, unit)
        written = sum(path.stat().st_size for path in stage(run).outputs(unit))
        assert written <= estimate + header
        largest = written
        if stage is LiftStage or (
            stage is FuseStage and store_point_features
        ):  # unseen points are not written
            fraction = len(open_point_features(run).load("demo-dense", "home-train-0")[1]) / len(
                home.points
            )
            largest = written / fraction
        assert estimate <= 1.1 * largest


def test_a_partition_says_how_it_is_cut(home, tmp_path):
    side = home.points[:, 0] > home.points[:, 0].median()  # a border across tables and floors
    halved = replace(home, labels=side.long(), instances=side.int())
    run = make_run(tmp_path, halved, "home-train-0")
    summary = work(PartitionStage, run, "home-train-0")
    about = read_provenance(run.workspace.superpoints("home-train-0"))
    ids = load_superpoint_ids(run.workspace, "home-train-0")
    assert about["superpoints"] == int(ids.max()) + 1
    assert about["sizes"][3] == int(torch.bincount(ids).max())
    assert 0 < about["boundary"] < 1
    for kind in ("labels", "instances"):
        assert 0.5 < about[kind]["purity"] <= 1
        assert 0 < about[kind]["boundary_recall"] <= 1
        assert 0 < about[kind]["boundary_precision"] <= 1
    assert f"{about['superpoints']} superpoints by mesh" in summary
    assert re.search(
        r"% pure by labels \(borders: \d+ % found, \d+ % of those cut are true\)", summary
    )
    assert "% pure by objects" in summary


def test_ids_are_stored_short_where_they_fit(home, tmp_path):
    for largest, dtype in ((2**15 - 1, torch.int16), (2**15, torch.int32)):
        ids = torch.tensor([0, largest], dtype=torch.int32)
        assert compact_ids(ids).dtype == dtype
        assert compact_ids(ids).tolist() == ids.tolist()
    assert compact_ids(torch.zeros(0, dtype=torch.int32)).shape == (0,)
    run = make_run(tmp_path, home, "home-train-0")
    work(PartitionStage, run, "home-train-0")
    found = load_superpoint_ids(run.workspace, "home-train-0")
    assert torch.equal(found, partition_scene(home, run.config.partition).superpoint_ids.long())


def test_fused_features_of_a_scan_take_a_fiftieth_of_the_disk(data_root, tmp_path):
    """Features of 512 channels on the points that its frames see: ids counted in."""
    meshes = sorted(data_root.glob("scannet_raw/scans/*/*_vh_clean_2.ply"))
    if not meshes:
        pytest.skip(f"no ScanNet mesh below {data_root}/scannet_raw")
    scene = open_scene(meshes[0].parent)
    run = make_run(tmp_path, scene, "home-train-0")
    views = count_views(scene, projection_rules(run.config.lift), nothing)

    class Wide:  # any text space of 512 channels
        text_space, dimensions = "wide", 512

        def encode(self, texts):
            generator = torch.Generator().manual_seed(len(texts))
            return functional.normalize(torch.randn(len(texts), 512, generator=generator), dim=1)

    run.text_encoder = Wide()
    work(PartitionStage, run, "home-train-0")
    write_lifted(run, "home-train-0", len(views), 512, views > 0)
    work(FuseStage, run, "home-train-0")
    seen = len(load_fused_targets(run.workspace, "home-train-0").seen)
    assert 0 < seen == int((views > 0).sum())
    per_point = seen * 2 * 512  # half precision, seen points only, not even an index
    stored = [run.workspace.fused("home-train-0"), run.workspace.superpoints("home-train-0")]
    assert 50 * sum(path.stat().st_size for path in stored) <= per_point


def test_a_scene_without_frames_is_refused_by_lift(home, tmp_path):
    run = make_run(tmp_path, replace(home, frames=()), "home-train-0")
    with pytest.raises(SceneError, match="has no frames, so no teacher can look at it"):
        work(LiftStage, run, "demo-dense/home-train-0")
