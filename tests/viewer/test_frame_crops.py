"""Crops show what frames saw of a point: only those that see it, the nearest first."""

from __future__ import annotations

from dataclasses import replace

import torch

from pcdistill.lifting import ProjectionRules, SceneProjector
from pcdistill.viewer.frame_crops import FrameCrop, crop_frames, crop_sheet
from tests.fixtures.viewer_run import room

RULES = ProjectionRules(0.05, 1)


def most_seen_point(projector):
    """A point that several frames see, and these frames by name."""
    seen = {
        frame.name: projector.project(frame).visible for frame in projector.scene.frames
    }  # (N,) each
    point = int(torch.stack(list(seen.values())).sum(dim=0).argmax())
    return point, {name for name, visible in seen.items() if bool(visible[point])}


def test_all_frames_that_see_a_point_are_shown_the_nearest_first():
    projector = SceneProjector(room(), RULES)
    point, names = most_seen_point(projector)
    assert len(names) > 1
    crops = crop_frames(projector, point)
    assert {crop.frame for crop in crops} == names
    distances = [crop.distance for crop in crops]
    assert distances == sorted(distances)
    assert [crop.frame for crop in crop_frames(projector, point, most=1)] == [crops[0].frame]


def test_a_frame_with_something_in_front_is_left_out():
    scene = room()
    point, names = most_seen_point(SceneProjector(scene, RULES))
    hidden = min(names)
    frames = tuple(
        replace(frame, depth_pixels=frame.depth_pixels / 2) if frame.name == hidden else frame
        for frame in scene.frames
    )
    projector = SceneProjector(replace(scene, frames=frames), RULES)
    assert {crop.frame for crop in crop_frames(projector, point)} == names - {hidden}


def test_a_ring_marks_the_point_in_a_part_of_the_image():
    projector = SceneProjector(room(), RULES)
    point, _ = most_seen_point(projector)
    crop = crop_frames(projector, point)[0]
    frame = next(f for f in projector.scene.frames if f.name == crop.frame)
    height, width = crop.image.shape[:2]
    assert height == width < min(frame.image_size)
    red = (crop.image == torch.tensor([255, 59, 48])).all(dim=2)
    assert 8 < int(red.sum()) < 80
    column, row = projector.project(frame).pixels[point].tolist()
    rows, columns = torch.nonzero(red, as_tuple=True)
    middle = torch.stack([columns.float().mean(), rows.float().mean()])
    top = min(max(row - height // 2, 0), frame.image_size[0] - height)
    left = min(max(column - width // 2, 0), frame.image_size[1] - width)
    assert float((middle - torch.tensor([column - left, row - top])).abs().max()) < 1.5


def test_a_sheet_has_every_crop_in_its_place():
    crops = [
        FrameCrop(str(shade), 1.0, torch.full((40, 40, 3), shade, dtype=torch.uint8))
        for shade in (10, 60, 110, 160)
    ]
    sheet = crop_sheet(crops)
    edge = sheet.shape[1] // 3
    assert sheet.shape == (2 * edge, 3 * edge, 3)
    for number, crop in enumerate(crops):
        middle = sheet[number // 3 * edge + edge // 2, number % 3 * edge + edge // 2]
        assert middle.tolist() == crop.image[0, 0].tolist()
    assert sheet[edge + edge // 2, 2 * edge + edge // 2].tolist() == [255, 255, 255]
