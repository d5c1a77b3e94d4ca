"""Colours that a scene takes from its frames."""

from __future__ import annotations

from dataclasses import replace

import torch

from pcdistill.homes import ScannerSettings, home_scene
from pcdistill.lifting.frame_colors import MAX_FRAMES, average_frame_colors
from pcdistill.lifting.projector import ProjectionRules
from pcdistill.scenes import MemoryFrame, Scene

INTRINSICS = torch.tensor([[20.0, 0, 15.5], [0, 20.0, 15.5], [0, 0, 1]], dtype=torch.float64)

RULES = ProjectionRules(0.25, 10)


def view(name: str, color: tuple[int, int, int], back: float = 0.0) -> MemoryFrame:
    """A frame of one colour that looks along z at a wall two metres away."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[2, 3] = -back
    pixels = torch.tensor(color, dtype=torch.uint8).expand(32, 32, 3)
    return MemoryFrame(name, INTRINSICS, pose, pixels, torch.full((32, 32), 2.0 + back))


def wall(*frames: MemoryFrame) -> Scene:
    """Three points of a wall, and one behind it."""
    points = torch.tensor([[0.0, 0, 2], [0.1, 0, 2], [0, 0.1, 2], [0, 0, 4]])
    return Scene("wall", points, frames=frames)


def test_colors_are_means_and_points_that_nobody_sees_take_that_of_all():
    scene = wall(view("a", (200, 0, 10)), view("b", (100, 50, 10), back=1))
    found = average_frame_colors(scene, RULES)
    assert found.dtype == torch.uint8
    assert found.tolist() == [[150, 25, 10]] * 4


def test_a_scene_that_no_frame_sees_has_no_colors():
    looking_away = view("a", (1, 2, 3), back=-9)
    assert average_frame_colors(wall(looking_away), RULES) is None


def test_a_long_capture_is_sampled_evenly():
    scene = wall(*(view(str(i), (i % 250, 0, 0)) for i in range(2 * MAX_FRAMES)))
    taken = torch.linspace(0, 2 * MAX_FRAMES - 1, MAX_FRAMES).int() % 250
    assert abs(int(average_frame_colors(scene, RULES)[0, 0]) - float(taken.float().mean())) <= 1


def test_the_colors_of_a_home_are_found_again():
    coarse = ScannerSettings(voxel_size=0.1, truncation=0.2, spacing=0.2)
    home = home_scene(3, "validation", frames=12, image_size=(60, 80), scanner=coarse)
    found = average_frame_colors(replace(home, colors=None), RULES)
    # what a picture shows is shaded, what the scan has is not
    shuffled = found[torch.randperm(len(found), generator=torch.Generator().manual_seed(0))]
    right, wrong = (
        float((colors.float() - home.colors.float()).abs().mean(dim=1).median())
        for colors in (found, shuffled)
    )
    assert right < 0.7 * wrong
