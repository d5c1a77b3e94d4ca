"""Lifting: the overlapped loop gives what a plain loop gives, and ends cleanly when it fails."""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import replace

import pytest
import torch

from pcdistill.artifacts.point_features import projection_rules
from pcdistill.errors import SceneError
from pcdistill.fusion import MultiViewAccumulator
from pcdistill.geometry import project_points
from pcdistill.homes import home_scene
from pcdistill.lifting.lift_frames import FrameObservation, lift_frames
from pcdistill.lifting.lift_scene import count_views
from pcdistill.pipeline.config import LiftConfig
from pcdistill.scenes import MemoryFrame
from pcdistill.teachers import (
    FeatureMap,
    LabelledMasks,
    TeacherSetup,
    build_teacher,
    build_text_encoder,
    predict_batch,
)
from tests.fixtures.lifted import lift_by
from tests.tolerances import FLOAT32_SUMS


def nothing(done, total, words):
    """A report that nobody reads."""


def threads():
    return {t.name for t in threading.enumerate() if t.name.startswith(("read-", "add-"))}


class PaintTeacher:
    """A dense teacher whose answer is the image itself, at half its resolution."""

    name, text_space, dimensions, provenance = "paint", "none", 3, {}

    def __init__(self):
        self.batches = []

    def __call__(self, image):
        return self.predict_batch(image[None])[0]

    def predict_batch(self, images):
        self.batches.append(len(images))
        low = torch.nn.functional.avg_pool2d(images.float(), 2)
        return [FeatureMap(one, tuple(images.shape[2:])) for one in low]


class MaskTeacher:
    """Two masks a frame: bright and dark. It cannot take several images at once."""

    name, text_space, dimensions, provenance = "halves", "none", 2, {}

    def __call__(self, image):
        ids = (image.float().mean(dim=0) > 100).to(torch.int32)
        return LabelledMasks(ids, torch.eye(2), ("dark", "bright"), ("dark", "bright"))


@pytest.fixture(scope="module")
def home():
    return home_scene(3, "train", frames=9, image_size=(48, 64))


def plain_loop(scene, teacher, config):
    """One frame after the other, whole projections, samples at all points at once."""
    accumulator = MultiViewAccumulator(len(scene.points), teacher.dimensions)
    for frame in scene.frames:
        view = project_points(
            scene.points,
            frame.camera_to_world,
            frame.intrinsics,
            frame.image_size,
            frame.depth(),
            depth_tolerance=config.depth_tolerance,
            border=config.border,
        )
        seen = view.visible.nonzero()[:, 0]
        said = teacher(frame.image().permute(2, 0, 1))
        pixels = view.pixels[seen]
        if isinstance(said, LabelledMasks):
            accumulator.add_masks(seen, said.mask_at(pixels), said.embeddings, keys=said.captions)
        else:
            accumulator.add_features(seen, said.sample(pixels))
    return accumulator


@pytest.mark.parametrize("teacher", [PaintTeacher, MaskTeacher])
@pytest.mark.parametrize(("batch", "workers"), [(1, 1), (2, 3), (4, 2), (20, 5)])
def test_neither_batch_nor_threads_change_the_result(home, teacher, batch, workers):
    config = LiftConfig(depth_tolerance=0.05, border=2, batch=batch, workers=workers)
    expected = plain_loop(home, teacher(), config)
    found = lift_by(config, home, teacher())
    assert torch.equal(found.views, expected.views)
    assert torch.equal(count_views(home, projection_rules(config), nothing), expected.views)
    there, here = expected.result(dtype=torch.float32), found.result(dtype=torch.float32)
    assert len(there.seen) > 100
    assert torch.equal(here.seen, there.seen)
    assert torch.equal(here.features, there.features)
    assert not threads()


@pytest.mark.parametrize("name", ["demo-dense", "demo-masks"])
def test_the_embedded_teachers_say_the_same_in_a_batch(home, name):
    teacher = build_teacher(name, TeacherSetup(build_text_encoder()))
    images = torch.stack([frame.image().permute(2, 0, 1) for frame in home.frames[:3]])
    for alone, together in zip(map(teacher, images), predict_batch(teacher, images), strict=True):
        if isinstance(alone, LabelledMasks):
            assert (alone.mask_ids != together.mask_ids).float().mean() < 0.01
            assert alone.image_size == together.image_size
        else:
            torch.testing.assert_close(alone.features, together.features, atol=1e-4, rtol=0)


def test_images_go_in_batches_of_one_size_and_unseen_frames_are_not_shown():
    def look(frame):
        side = 4 if frame.name in "gh" else 6
        return (
            None
            if frame.name in "bd"
            else FrameObservation(
                torch.tensor([0]), torch.tensor([[1, 1]]), torch.zeros(3, side, side)
            )
        )

    matrix, pose = torch.eye(3, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    pixels = torch.zeros(2, 2, 3, dtype=torch.uint8)
    frames = [MemoryFrame(name, matrix, pose, pixels) for name in "abcdefghi"]
    teacher, accumulator, heard = PaintTeacher(), MultiViewAccumulator(1, 3), []
    lift_frames(frames, look, teacher, accumulator, lambda *w: heard.append(w[:2]), batch=3)
    assert teacher.batches == [3, 1, 2, 1]  # a c e, f, g h, i
    assert accumulator.views.tolist() == [7]
    assert heard == [(5, 9), (6, 9), (8, 9), (9, 9)]


@pytest.mark.parametrize("error", [SceneError("frame 4 is damaged"), KeyboardInterrupt()])
def test_an_unreadable_frame_ends_everything(home, error):
    begun = []

    def look(frame):
        begun.append(frame.name)
        if frame.name == home.frames[4].name:
            raise error
        time.sleep(0.01)
        return FrameObservation(torch.tensor([0]), torch.tensor([[1, 1]]), torch.zeros(3, 4, 4))

    frames = home.frames * 20
    with pytest.raises(type(error)):
        lift_frames(frames, look, PaintTeacher(), MultiViewAccumulator(1, 3), nothing)
    assert not threads()
    assert len(begun) < 20


def test_a_failing_teacher_ends_everything(home):
    class Failing(PaintTeacher):
        def predict_batch(self, images):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        lift_by(LiftConfig(depth_tolerance=0.05), home, Failing())
    assert not threads()


def test_an_answer_that_cannot_be_added_ends_everything(home):
    class TooWide(PaintTeacher):
        dimensions = 4

    with pytest.raises(ValueError, match="feature_map has shape"):
        lift_by(LiftConfig(depth_tolerance=0.05), home, TooWide())
    assert not threads()


def test_a_teacher_that_answers_for_too_few_images_is_named(home):
    class Short(PaintTeacher):
        def predict_batch(self, images):
            return super().predict_batch(images)[1:]

    config = LiftConfig(depth_tolerance=0.05, border=2, batch=3)
    with pytest.raises(ValueError, match="the teacher gave 2 answers for 3 images"):
        lift_by(config, home, Short())
    assert not threads()


def test_maps_are_gone_once_they_are_added(home):
    """While the teacher sees the next images, the maps of the last ones are freed."""
    given, held = [], []

    class Watching(PaintTeacher):
        def predict_batch(self, images):
            until = time.monotonic() + 5
            while time.monotonic() < until and any(map() is not None for map in given):
                time.sleep(0.005)
            held.append(sum(map() is not None for map in given))
            answers = super().predict_batch(images)
            own = [answer._replace(features=answer.features.clone()) for answer in answers]
            given.extend(weakref.ref(answer.features) for answer in own)
            return own

    config = LiftConfig(depth_tolerance=0.05, border=2, batch=3)
    lift_by(config, home, Watching())
    assert held == [0, 0, 0]
    assert len(given) == 9


@pytest.mark.parametrize("teacher", [PaintTeacher, MaskTeacher])
def test_the_order_of_the_frames_changes_nothing_but_rounding(home, teacher):
    config = LiftConfig(depth_tolerance=0.05, border=2, batch=2)
    expected = lift_by(config, home, teacher())
    there = expected.result(dtype=torch.float32)
    for order in (home.frames[::-1], home.frames[4:] + home.frames[:4]):
        found = lift_by(config, replace(home, frames=order), teacher())
        assert torch.equal(found.views, expected.views)
        here = found.result(dtype=torch.float32)
        assert torch.equal(here.seen, there.seen)
        torch.testing.assert_close(
            here.features, there.features, rtol=FLOAT32_SUMS, atol=FLOAT32_SUMS
        )


def test_few_frames_are_in_memory_however_slow_the_teacher(home):
    held, limit = [0], [0]
    lock = threading.Lock()

    class Slow(PaintTeacher):
        def predict_batch(self, images):
            time.sleep(0.005)
            with lock:
                held[0] -= len(images)
            return super().predict_batch(images)

    def look(frame):
        with lock:
            held[0] += 1
            limit[0] = max(limit[0], held[0])
        return FrameObservation(torch.tensor([0]), torch.tensor([[1, 1]]), torch.zeros(3, 4, 4))

    lift_frames(
        home.frames * 12, look, Slow(), MultiViewAccumulator(1, 3), nothing, batch=2, workers=3
    )
    assert limit[0] <= 2 * 3 + 2 + 2
