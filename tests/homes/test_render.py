"""Renderings: exact depth and labels, and what the sensor makes of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pcdistill.homes import (
    CLASSES,
    MATERIALS,
    NO_CLASS,
    add_sensor_noise,
    intrinsics_from_fov,
    render,
)
from pcdistill.homes.camera_path import look_at
from pcdistill.homes.materials import make_finish
from pcdistill.homes.mesh import build_surface
from pcdistill.homes.model import Part
from pcdistill.homes.primitives import (
    ball,
    box,
    cylinder,
    lathe,
    loft,
    panel,
    ring,
    rounded_box,
    sheet,
)
from pcdistill.homes.surface import LabelledPart, Surface

SIZE = (48, 64)
MATRIX = intrinsics_from_fov(SIZE, 70.0)


def surface_of(*shapes, material: str = "paint") -> Surface:
    rng = np.random.default_rng(0)
    parts = [
        LabelledPart(Part(quads, make_finish(rng, material, "white")), index, 10 + index, 0)
        for index, quads in enumerate(shapes)
    ]
    lamp = [[0, 0, 2, 1, 1, 1], [0, 0, 2, 0, 0, 0]]
    return build_surface(parts, np.array([[-5, -5, 0, 5, 5, 3]]), np.array([lamp]))


def pose(position, target) -> torch.Tensor:
    return torch.from_numpy(look_at(np.array(position, float), np.array(target, float)))


def test_depth_of_a_wall_is_the_distance_along_the_axis():
    wall = np.array([[[-9, 2.5, -9], [9, 2.5, -9], [9, 2.5, 9], [-9, 2.5, 9]]], float)
    view = render(surface_of(wall), pose((0, 0, 1), (0, 1, 1)), MATRIX, SIZE)
    # float32 at 2.5 metres, and room
    torch.testing.assert_close(view.depth, torch.full(SIZE, 2.5), rtol=0, atol=1e-5)
    assert (view.classes == 0).all()
    assert (view.instances == 10).all()
    torch.testing.assert_close(view.normals[0, 0], torch.tensor([0.0, -1.0, 0.0]))


def test_depth_of_a_tilted_view_follows_the_plane():
    floor = np.array([[[-50, -50, 0], [50, -50, 0], [50, 50, 0], [-50, 50, 0]]], float)
    view = render(surface_of(floor), pose((0, 0, 1.5), (0, 2, 0)), MATRIX, SIZE)
    camera = pose((0, 0, 1.5), (0, 2, 0))
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    rays = np.stack([columns, rows, np.ones(SIZE)], -1) @ np.linalg.inv(MATRIX.numpy()).T
    down = (rays @ camera[:3, :3].numpy().T)[..., 2]
    expected = torch.from_numpy(np.where(down < -0.05, -1.5 / down, 0)).float()
    hit = expected > 0
    # corners are float32: 2e-7 of some metres, divided by a slanting cosine
    torch.testing.assert_close(view.depth[hit], expected[hit], rtol=1e-5, atol=1e-5)


def test_a_box_covers_the_pixels_it_should():
    cube = box((-0.5, 3, 0.5), (0.5, 4, 1.5))
    view = render(surface_of(cube), pose((0, 0, 1), (0, 1, 1)), MATRIX, SIZE)
    half = float(MATRIX[0, 0]) * 0.5 / 3  # pixels from the centre to the box's edge
    columns = torch.arange(SIZE[1]) - MATRIX[0, 2]
    rows = torch.arange(SIZE[0]) - MATRIX[1, 2]
    inside = (columns.abs() < half)[None] & (rows.abs() < half)[:, None]
    torch.testing.assert_close(view.depth > 0, inside)
    assert (view.depth[inside] - 3).abs().max() < 1e-5
    assert (view.classes[~inside] == NO_CLASS).all()
    assert (view.instances[~inside] == -1).all()
    assert (view.materials[~inside] == NO_CLASS).all()


def test_the_nearer_surface_hides_the_farther():
    near, far = box((-0.2, 1, 0.8), (0.2, 1.2, 1.2)), box((-5, 3, -3), (5, 3.1, 5))
    view = render(surface_of(far, near), pose((0, 0, 1), (0, 1, 1)), MATRIX, SIZE)
    assert int(view.classes[SIZE[0] // 2, SIZE[1] // 2]) == 1
    assert int(view.classes[0, 0]) == 0


SOLIDS = {
    "box": box((-0.3, -0.2, 0.1), (0.3, 0.2, 0.6)),
    "rounded_box": rounded_box((-0.3, -0.2, 0.1), (0.3, 0.2, 0.6), 0.05),
    "cylinder": cylinder((0.1, 0, 0), (0, 0.3, 0.7), 0.1),
    "level cylinder": cylinder((-0.4, 0, 0.3), (0.4, 0, 0.3), 0.05),
    "ball": ball((0, 0, 0.5), 0.2),
    "loft": loft(
        [ring((0, 0, z), r, r) for z, r in ((0, 0.2), (0.5, 0.3))], cap_start=True, cap_end=True
    ),
}


@pytest.mark.parametrize("name", SOLIDS)
def test_solids_are_closed_and_look_outward(name):
    quads = SOLIDS[name]
    flux = np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1]) / 2  # area vectors
    # bent patches are measured by their diagonals: square metres that this leaves on these shapes
    np.testing.assert_allclose(flux.sum(axis=0), 0, atol=2e-3)
    volume = np.einsum("qd,qd->", quads.mean(axis=1), flux) / 3
    assert volume > 0.001


def test_open_surfaces_look_where_they_should():
    wall = panel((-1, 0), (1, 2), [(-0.3, 0.5, 0.3, 1.5)])
    flux = np.cross(wall[:, 2] - wall[:, 0], wall[:, 3] - wall[:, 1]) / 2
    # float64 sums of a few boxes
    np.testing.assert_allclose(flux.sum(axis=0), [0, 4 - 0.6, 0], atol=1e-12)
    assert len(sheet(np.zeros((4, 5, 3)))) == 12
    assert len(lathe((0, 0, 0), [(1, 0), (1, 1), (0.5, 2)], 10)) == 20


def test_a_shadow_is_darker_than_the_floor_around_it():
    floor = np.array([[[-4, -4, 0], [4, -4, 0], [4, 4, 0], [-4, 4, 0]]], float)
    plate = box((-0.5, -0.5, 1.0), (0.5, 0.5, 1.05))
    camera = pose((0, -3, 0.6), (0, 0, 0))
    lit = render(surface_of(floor, plate), camera, MATRIX, SIZE, shadows=False)
    shaded = render(surface_of(floor, plate), camera, MATRIX, SIZE)
    fainter = shaded.image.int().sum(dim=2) < lit.image.int().sum(dim=2) - 20
    assert fainter[lit.classes == 0].any()
    assert not fainter[-1].any()  # the floor before the camera


def test_a_seed_changes_the_picture_and_nothing_else():
    scene = surface_of(box((-2, 2, 0), (2, 3, 3)))
    camera = pose((0, 0, 1), (0, 1, 1))
    clean, first, same, other = (
        render(scene, camera, MATRIX, SIZE, seed=seed) for seed in (None, 1, 1, 2)
    )
    assert torch.equal(first.image, same.image)
    assert not torch.equal(first.image, other.image)
    assert torch.equal(clean.depth, first.depth)
    assert torch.equal(clean.classes, first.classes)


def test_bad_arguments_are_named():
    scene = surface_of(box((-2, 2, 0), (2, 3, 3)))
    with pytest.raises(ValueError, match=r"camera_to_world has shape \(3, 4\), expected \(4, 4\)"):
        render(scene, torch.eye(4)[:3], MATRIX, SIZE)
    with pytest.raises(
        ValueError, match=r"image_size must be \(height, width\) >= 1, got \(0, 8\)"
    ):
        render(scene, torch.eye(4), MATRIX, (0, 8))


def wall_at(distance: float, material: str = "paint"):
    reach = 9 * distance
    outline = ((-reach, -reach), (reach, -reach), (reach, reach), (-reach, reach))
    wall = np.array([[(x, distance, z) for x, z in outline]])
    size = (120, 160)
    scene = surface_of(wall, material=material)
    return render(scene, pose((0, 0, 1), (0, 1, 1)), intrinsics_from_fov(size, 60.0), size)


def test_depth_noise_grows_with_the_square_of_depth():
    spread = {}
    for distance in (1.0, 2.0, 4.0):
        noisy = add_sensor_noise(wall_at(distance), 3).depth
        valid = noisy > 0
        assert valid.float().mean() > 0.95
        assert abs(float(noisy[valid].mean()) - distance) < 0.01 * distance
        spread[distance] = float(noisy[valid].std())
    # a ratio of two spreads of some thousand draws: 10 % each, and room
    assert spread[2.0] / spread[1.0] == pytest.approx(4, rel=0.3)
    assert spread[4.0] / spread[2.0] == pytest.approx(4, rel=0.3)


def test_depth_comes_in_steps_at_a_distance():
    noisy = add_sensor_noise(wall_at(4.0), 3).depth
    assert len(torch.unique(noisy)) < 40


def test_the_sensor_has_holes_beyond_its_range_and_on_glass():
    assert (add_sensor_noise(wall_at(5.5), 0).depth == 0).float().mean() > 0.9
    assert (add_sensor_noise(wall_at(0.3), 0).depth == 0).all()
    glass = (add_sensor_noise(wall_at(2.0, "glass"), 0).depth == 0).float().mean()
    assert 0.4 < glass <= 1
    assert "glass" in MATERIALS


def test_the_sensor_misses_edges_and_grazing_surfaces():
    floor = np.array([[[-50, -50, 0], [50, -50, 0], [50, 50, 0], [-50, 50, 0]]], float)
    size = (120, 160)
    low = render(
        surface_of(floor), pose((0, 0, 0.2), (0, 5, 0.1)), intrinsics_from_fov(size, 60.0), size
    )
    angle = torch.atan2(torch.tensor(0.2), low.depth)
    grazing = (low.depth > 0.5) & (low.depth < 5) & (angle < math.radians(5))
    assert (add_sensor_noise(low, 0).depth[grazing] == 0).float().mean() > 0.9
    near, far = box((-0.4, 1, 0.6), (0.4, 1.2, 1.4)), box((-9, 3, -9), (9, 3.1, 9))
    view = render(
        surface_of(far, near), pose((0, 0, 1), (0, 1, 1)), intrinsics_from_fov(size, 60.0), size
    )
    edge = (view.classes[:, 1:] != view.classes[:, :-1]).nonzero()
    holes = add_sensor_noise(view, 0).depth == 0
    assert holes[edge[:, 0], edge[:, 1]].float().mean() > 0.5


def test_noise_repeats_with_its_seed_and_leaves_labels():
    view = wall_at(2.0)
    first, same, other = (add_sensor_noise(view, seed) for seed in (1, 1, 2))
    assert torch.equal(first.depth, same.depth)
    assert not torch.equal(first.depth, other.depth)
    assert torch.equal(first.classes, view.classes)
    assert CLASSES[0] == "wall"
