"""Pictures: what is in front is seen, what is hidden is not, and colours mean what they say."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pcdistill.visualization import (
    RenderCamera,
    below_ceiling_mask,
    birds_eye_view,
    colorize_labels,
    colorize_scores,
    colorize_superpoints,
    draw_points,
    front_facing_mask,
    heat_legend,
    label_legend,
    png_bytes,
    save_png,
    score_range,
    stack_pictures,
)
from pcdistill.visualization.colormaps import UNLABELLED, heat_colormap
from pcdistill.visualization.draw_points import BACKGROUND
from pcdistill.visualization.rasterize import eye_dome_lighting, fill_holes, rasterize_discs
from pcdistill.visualization.viewpoints import project_to_image

FRONT = RenderCamera(
    camera_to_world=torch.eye(4, dtype=torch.float64),
    intrinsics=torch.tensor([[40.0, 0, 19.5], [0, 40.0, 14.5], [0, 0, 1]], dtype=torch.float64),
    image_size=(30, 40),
)


def plane(depth, half=0.6, step=0.02):
    """A square that faces the camera of `FRONT`."""
    axis = torch.arange(-half, half, step)
    x, y = torch.meshgrid(axis, axis, indexing="xy")
    return torch.stack([x.flatten(), y.flatten(), torch.full((x.numel(),), depth)], dim=1)


def painted(points, color):
    return torch.tensor(color, dtype=torch.uint8).expand(len(points), 3)


def room(step=0.1):
    """Floor, ceiling and four walls of 5 x 4 x 2.5 m, normals inward, a table in the middle."""
    parts, normals = [], []

    def sheet(origin, a, b, normal):
        lengths = [math.dist(a, (0, 0, 0)), math.dist(b, (0, 0, 0))]
        s, t = (torch.linspace(0, 1, int(length / step) + 1) for length in lengths)
        s, t = (grid.flatten()[:, None] for grid in torch.meshgrid(s, t, indexing="ij"))
        sheet_points = torch.tensor(origin) + s * torch.tensor(a) + t * torch.tensor(b)
        parts.append(sheet_points)
        normals.append(torch.tensor(normal).expand(len(sheet_points), 3))

    sheet((0.0, 0, 0), (5.0, 0, 0), (0.0, 4, 0), (0.0, 0, 1))
    sheet((0.0, 0, 2.5), (5.0, 0, 0), (0.0, 4, 0), (0.0, 0, -1))
    sheet((0.0, 0, 0), (5.0, 0, 0), (0.0, 0, 2.5), (0.0, 1, 0))
    sheet((0.0, 4, 0), (5.0, 0, 0), (0.0, 0, 2.5), (0.0, -1, 0))
    sheet((0.0, 0, 0), (0.0, 4, 0), (0.0, 0, 2.5), (1.0, 0, 0))
    sheet((5.0, 0, 0), (0.0, 4, 0), (0.0, 0, 2.5), (-1.0, 0, 0))
    sheet((2.0, 1.5, 0.75), (1.0, 0, 0), (0.0, 1, 0), (0.0, 0, 1))
    return torch.cat(parts), torch.cat(normals)


def test_the_nearer_surface_hides_the_farther():
    near, far = plane(1.0, half=0.2), plane(2.0)
    points = torch.cat([near, far])
    colors = torch.cat([painted(near, (200, 0, 0)), painted(far, (0, 0, 200))])
    for order in (slice(None), torch.arange(len(points)).flip(0)):
        image = draw_points(points[order], colors[order], view=FRONT, hide_ceiling=False)
        assert image.shape == (30, 40, 3)
        assert image.dtype == torch.uint8
        assert image[15, 20].tolist() == [200, 0, 0]
        assert image[15, 20 + 11].tolist()[2] > 150  # 2 m away, 0.57 m aside
        assert image[15, 20 + 11, 0] == 0
        assert image[0, 0].tolist() == list(BACKGROUND)


def test_points_behind_the_camera_are_not_drawn():
    points = plane(-1.0)
    image = draw_points(points, painted(points, (9, 9, 9)), view=FRONT, hide_ceiling=False)
    assert (image == torch.tensor(BACKGROUND, dtype=torch.uint8)).all()


def test_a_step_in_depth_is_darkened_a_flat_surface_is_not():
    depth = np.full((20, 20), 2.0, dtype=np.float32)
    depth[:, :10] = 1.5
    depth[0] = np.inf
    shade = eye_dome_lighting(depth, 2, 10.0, 0.01)
    assert (shade[:, :10] == 1).all()  # in front
    assert (shade[1:, 10:12] < 0.9).all()  # behind, beside the edge
    assert (shade[:, 15:] == 1).all()
    assert (shade[0] == 1).all()
    assert (eye_dome_lighting(depth, 2, 10.0, 0.6) == 1).all()  # a step within the slack


def test_a_disc_covers_what_it_should():
    one = np.array([5.0])
    nearest, point = rasterize_discs(one, one, one, np.array([2.0]), 0.1, 11, 11)
    rows, columns = np.nonzero(point == 0)
    assert len(rows) == 13  # integer positions within distance 2
    assert ((rows - 5) ** 2 + (columns - 5) ** 2 <= 4).all()
    assert nearest[5, 5] == np.float32(5.0)
    assert nearest[5, 7] == np.float32(5.1)
    assert np.isinf(nearest[0, 0])
    point[5, 5], nearest[5, 5] = -1, np.inf
    fill_holes(nearest, point)
    assert point[5, 5] == 0
    assert point[0, 0] == -1


@given(
    seed=st.integers(0, 2**32 - 1),
    azimuth=st.floats(0, 360),
    elevation=st.floats(0, 90),
    orthographic=st.booleans(),
    wide=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_the_whole_scene_is_in_the_picture(seed, azimuth, elevation, orthographic, wide):
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor([6.0, 3.0, 1.0]) * torch.rand(3, generator=generator)
    points = torch.rand(300, 3, generator=generator) * extent - 4
    size = (90, 160) if wide else (160, 90)
    view = birds_eye_view(
        points, size, azimuth=azimuth, elevation=elevation, orthographic=orthographic
    )
    rotation = view.camera_to_world[:3, :3]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(rotation) > 0
    column, row, depth, _ = project_to_image(points.double().numpy(), view)
    assert (depth > 0).all()
    assert column.min() >= -0.5
    assert row.min() >= -0.5
    assert column.max() <= size[1] - 0.5
    assert row.max() <= size[0] - 0.5
    if extent.min() > 0.1:  # and it fills it: one direction up to the margin
        filled = max(np.ptp(column) / size[1], np.ptp(row) / size[0])
        assert filled > 0.75


def test_up_is_up():
    view = birds_eye_view(torch.rand(50, 3), azimuth=30, elevation=20)
    low, high = np.array([[0.5, 0.5, 0.0]]), np.array([[0.5, 0.5, 1.0]])
    assert project_to_image(high, view)[1] < project_to_image(low, view)[1]  # rows count downwards
    camera = view.camera_to_world[:3, 3] - 0.5
    # the view looks at the middle of fifty random points, which is only near 0.5
    assert math.degrees(math.atan2(camera[1], camera[0])) == pytest.approx(30, abs=8)


def test_the_ceiling_goes_the_rest_stays():
    points, normals = room()
    ceiling = points[:, 2] > 2.45
    for given_normals in (None, normals):
        keep = below_ceiling_mask(points, given_normals)
        assert not keep[ceiling].any()
        assert keep[points[:, 2] < 2.3].all()
    without = points[~ceiling & (points[:, 2] < 1.7)]
    assert below_ceiling_mask(without).all()
    assert below_ceiling_mask(points[:0]).shape == (0,)


def test_walls_before_the_room_go_the_others_stay():
    points, normals = room()
    keep = below_ceiling_mask(points)
    points, normals = points[keep], normals[keep]
    view = birds_eye_view(points, azimuth=-90.0)  # the camera stands at negative y
    kept = front_facing_mask(points, normals, view)
    near = normals[:, 1] == 1
    assert not kept[near].any()
    assert kept[normals[:, 1] == -1].all()
    assert kept[normals[:, 2] != 0].all()
    # Normals that do not say where the room is are not trusted.
    assert front_facing_mask(points, -normals, view).all()
    assert front_facing_mask(points, torch.zeros_like(normals), view).all()
    # With the near wall gone, the table is to be seen.
    table = points[:, 2] == 0.75
    colors = torch.where(table[:, None], torch.tensor([250, 0, 0]), torch.tensor([0, 0, 90]))
    image = draw_points(points, colors.to(torch.uint8), normals=normals, view=view)
    assert ((image[..., 0] > 150) & (image[..., 2] < 20)).sum() > 5000


def test_the_chosen_side_shows_more_than_the_hidden_one():
    """A room with one wall missing is looked at through the gap."""
    points, _ = room()
    points = points[(points[:, 2] < 2.45) & (points[:, 1] < 3.95)]  # open towards +y
    view = birds_eye_view(points, elevation=30)
    assert view.camera_to_world[1, 3] > 4


def test_drawing_changes_nothing_and_repeats_exactly():
    points, normals = room(0.2)
    colors = (points.abs() * 40).to(torch.uint8)
    copies = points.clone(), colors.clone(), normals.clone()
    first = draw_points(points, colors, normals=normals, image_size=(60, 80))
    second = draw_points(points, colors, normals=normals, image_size=(60, 80))
    assert torch.equal(first, second)
    for tensor, copy in zip((points, colors, normals), copies, strict=True):
        assert torch.equal(tensor, copy)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_points_can_be_drawn(count):
    points = torch.rand(count, 3)
    image = draw_points(points, painted(points, (10, 20, 30)), image_size=(30, 40))
    assert image.shape == (30, 40, 3)
    assert bool((image[..., 0] < 200).any()) == (count > 0)


def test_points_without_position_are_left_out():
    points = torch.cat([torch.rand(20, 3), torch.full((2, 3), math.nan)])
    image = draw_points(points, painted(points, (10, 20, 30)), image_size=(30, 40))
    same = draw_points(points[:20], painted(points[:20], (10, 20, 30)), image_size=(30, 40))
    assert torch.equal(image, same)


def test_heat_goes_from_pale_blue_to_red_in_even_steps():
    scores = torch.linspace(0, 1, 101)
    colors = colorize_scores(scores, low=0, high=1).int()
    assert colors[0, 2] > colors[0, 0]
    assert colors[-1].tolist() == [190, 18, 44]
    scaled = colorize_scores(scores * 7 - 3, low=-3, high=4).int()
    assert (scaled - colors).abs().max() <= 8  # one entry of the table
    assert torch.equal(
        colorize_scores(torch.tensor([-5.0, 9.0]), low=0, high=1).int(), colors[[0, -1]]
    )
    unknown = colorize_scores(torch.tensor([0.0, math.nan, 1.0]))
    assert unknown[1].tolist() == list(UNLABELLED)
    assert colorize_scores(torch.full((3,), 0.5)).shape == (3, 3)
    steps = heat_colormap(64).double().diff(dim=0).norm(dim=1)
    assert steps.max() < 6 * steps.median()  # no jump
    assert score_range(torch.cat([scores, torch.tensor([math.nan])])) == pytest.approx(
        # percentiles of 100 values lie between two of them
        (0.05, 0.995),
        abs=0.01,
    )
    assert score_range(torch.tensor([])) == (0.0, 1.0)


def test_labels_have_their_palette_and_others_are_gray():
    palette = torch.tensor([[1, 2, 3], [4, 5, 6]], dtype=torch.uint8)
    colors = colorize_labels(torch.tensor([1, 255, 0, 256, -1]), palette)
    assert colors.tolist() == [[4, 5, 6], [*UNLABELLED], [1, 2, 3], [*UNLABELLED], [*UNLABELLED]]


def test_superpoints_next_to_each_other_differ():
    ids = torch.arange(-1, 500)
    colors = colorize_superpoints(ids.int()).int()
    assert colors[0].tolist() == list(UNLABELLED)
    assert (colors[1:-1] - colors[2:]).abs().sum(dim=1).min() > 40
    assert torch.equal(colorize_superpoints(torch.tensor([7, 7])), colors[[8, 8]].to(torch.uint8))


def test_png_holds_the_picture(tmp_path):
    image = torch.randint(0, 256, (20, 30, 3), dtype=torch.uint8)
    path = tmp_path / "new folder" / "picture.png"
    save_png(path, image)
    assert np.array_equal(np.asarray(Image.open(path)), image)
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"]
    few = Image.open(io.BytesIO(png_bytes(image, colors=16))).convert("RGB")
    assert len(few.getcolors()) <= 16


def test_legends_fit_below_a_picture():
    palette = torch.tensor([[200, 0, 0], [0, 0, 200]] * 8, dtype=torch.uint8)
    names = [f"shower curtain {i}" for i in range(16)]
    legend = label_legend(names, palette, width=300)
    for color in palette[:2]:
        assert (legend == color).all(dim=2).sum() > 8 * 200  # eight filled squares each
    heat = heat_legend("similarity to 'couch'", 0.1, 0.42, width=300)
    together = stack_pictures([torch.zeros(50, 300, 3, dtype=torch.uint8), legend, heat])
    assert together.shape == (50 + len(legend) + len(heat), 300, 3)


def test_wrong_shapes_are_named():
    points = torch.rand(4, 3)
    with pytest.raises(ValueError, match=r"colors has shape \(3, 3\), expected \(4, 3\)"):
        draw_points(points, torch.zeros(3, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"normals has shape \(2, 3\), expected \(4, 3\)"):
        draw_points(points, torch.zeros(4, 3, dtype=torch.uint8), normals=torch.zeros(2, 3))
    with pytest.raises(ValueError, match="points is empty"):
        birds_eye_view(points[:0])
    with pytest.raises(ValueError, match="elevation is 120"):
        birds_eye_view(points, elevation=120)
    with pytest.raises(ValueError, match="field_of_view is 0"):
        birds_eye_view(points, field_of_view=0)
