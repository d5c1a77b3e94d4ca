"""Training scenes come from mapped files, are checked by their heads, and estimate normals once."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from pcdistill.artifacts import load_student_input, open_training_scenes, training_scenes
from pcdistill.errors import ArtifactError, SceneError
from pcdistill.pipeline.artifact_files import read_tensors, write_tensors
from pcdistill.scenes import Scene
from tests.stages.toy import store
from tests.stages.toy_students import ROOMS, ready

NAMES = [one.name for one in ROOMS]


def opened(run, folder, kind="color", *, per_point=True):
    return open_training_scenes(
        run.workspace, NAMES, kind, per_point=per_point, scratch=folder / "scratch"
    )


def test_nothing_but_heads_is_read_before_a_step_asks(tmp_path):
    run = ready(tmp_path)
    with mock.patch.object(training_scenes, "load_training_scene") as load:
        source = opened(run, tmp_path)
        assert (source.names, source.point_counts) == (tuple(NAMES), (90, 90))
        assert source.superpoint_counts == (5, 5)
        assert not load.called
    assert torch.equal(source[1].points, ROOMS[1].points)


@pytest.mark.parametrize("kind", ["constant", "geometry", "color"])
def test_a_student_is_given_what_it_is_given_in_inference(tmp_path, kind):
    run = ready(tmp_path)
    for normals in (ROOMS[0].normals, None):
        store(run, Scene(NAMES[0], ROOMS[0].points, ROOMS[0].colors, normals))
        scene = opened(run, tmp_path, kind)[0]
        expected = load_student_input(run.workspace, NAMES[0], kind)
        for one, other in zip(
            (scene.points, scene.normals, scene.colors), expected[:3], strict=True
        ):
            assert (one is None) == (other is None)
            assert one is None or torch.equal(one, other)


def test_normals_are_estimated_once_a_scene(tmp_path):
    run = ready(tmp_path)
    store(run, Scene(NAMES[0], ROOMS[0].points, ROOMS[0].colors))
    first = opened(run, tmp_path)[0].normals
    with mock.patch.object(training_scenes, "estimate_normals") as estimate:
        assert torch.equal(opened(run, tmp_path)[0].normals, first)
        assert not estimate.called
    file = next((tmp_path / "scratch").iterdir())
    file.write_bytes(file.read_bytes()[:-30])
    assert torch.equal(opened(run, tmp_path)[0].normals, first)
    moved = ROOMS[0].points.flip(dims=(1,)) * 2  # other points, of another scan under this name
    store(run, Scene(NAMES[0], moved, ROOMS[0].colors))
    assert not torch.equal(opened(run, tmp_path)[0].normals, first)


def test_what_heads_tell_is_refused_at_once(tmp_path):
    run = ready(tmp_path)
    path = run.workspace.fused(NAMES[1])
    tensors = read_tensors(path)
    del tensors["features"]
    write_tensors(path, tensors, {})
    opened(run, tmp_path, per_point=False)
    with pytest.raises(ArtifactError, match="has no features per point; the student 'point'"):
        opened(run, tmp_path)
    store(run, Scene(NAMES[0], ROOMS[0].points))
    opened(run, tmp_path, "geometry", per_point=False)
    with pytest.raises(SceneError, match="has no colours but the student sees them"):
        opened(run, tmp_path, per_point=False)


def test_a_damaged_scene_is_a_sentence_when_it_is_read(tmp_path):
    run = ready(tmp_path)
    source = opened(run, tmp_path)
    file = run.workspace.scene(NAMES[0]) / "points.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(SceneError, match="damaged or truncated"):
        _ = source[0]
