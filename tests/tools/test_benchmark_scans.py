"""The statistics of scans against rooms of which they are known, and the page that shows them."""

from __future__ import annotations

import argparse
import math

import numpy as np
import pytest
import torch

from pcdistill.geometry import MeshDepthRenderer
from pcdistill.scenes import MemoryFrame, Scene, write_scene
from tools.benchmarks import scan_frames, scan_surface, scans

SIZE = (120, 160)
CAMERA = torch.tensor([[140.0, 0, 79.5], [0, 140.0, 59.5], [0, 0, 1]], dtype=torch.float64)


def sheet(spacing: float, side: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (N, 3) float32 and triangles (F, 3) of a square at height 0."""
    n = round(side / spacing) + 1
    rows, columns = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    points = torch.stack([rows, columns, torch.zeros(n, n)], dim=-1).view(-1, 3) * spacing
    index = torch.arange(n * n).view(n, n)
    lower = torch.stack([index[:-1, :-1], index[1:, :-1], index[:-1, 1:]], dim=-1).view(-1, 3)
    upper = torch.stack([index[1:, :-1], index[1:, 1:], index[:-1, 1:]], dim=-1).view(-1, 3)
    return points.float(), torch.cat([lower, upper])


def corner(spacing: float = 0.05) -> tuple[torch.Tensor, torch.Tensor]:
    """Points and triangles of a floor and two walls that meet in a corner, 2 m each."""
    points, faces = sheet(spacing)
    walls = [points, points[:, [0, 2, 1]], points[:, [2, 0, 1]]]
    return torch.cat(walls), torch.cat([faces + k * len(points) for k in range(3)])


def poses(count: int) -> list[torch.Tensor]:
    """(4, 4) cameras about 2 m from the corner that look at it."""
    found = []
    for k in range(count):
        place = torch.tensor([1.8, 1.5 + 0.05 * k, 1.6], dtype=torch.float64)
        forward = torch.nn.functional.normalize(torch.tensor([0.4, 0.4, 0.4]) - place, dim=0)
        right = torch.nn.functional.normalize(
            torch.linalg.cross(forward, torch.tensor([0.0, 0, 1]).double()), dim=0
        )
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=1)
        pose[:3, 3] = place
        found.append(pose)
    return found


def room(frames: int = 3, change=lambda depth: depth, believed=lambda pose: pose) -> Scene:
    """The corner with frames whose depth is exact but for a change, and whose poses may err."""
    points, faces = corner()
    surface = MeshDepthRenderer(points, faces)
    gray = torch.full((*SIZE, 3), 100, dtype=torch.uint8)
    return Scene(
        name="corner",
        points=points,
        faces=faces,
        colors=torch.full((len(points), 3), 90, dtype=torch.uint8),
        labels=torch.arange(3).repeat_interleave(len(points) // 3),
        instances=torch.arange(3).repeat_interleave(len(points) // 3).int(),
        frames=tuple(
            MemoryFrame(
                f"{k}", CAMERA, believed(pose), gray, change(surface.render(pose, CAMERA, SIZE))
            )
            for k, pose in enumerate(poses(frames))
        ),
    )


def test_a_square_sheet_is_counted_and_measured():
    points, faces = sheet(0.05)
    found = scan_surface.surface_statistics(Scene(name="sheet", points=points, faces=faces))
    assert found["area"] == pytest.approx(4, rel=1e-6)
    assert found["density"] == pytest.approx(41**2 / 4, rel=1e-6)
    assert found["spacing"] == pytest.approx(50, rel=1e-4)
    assert found["holes"] == pytest.approx(8 / 4, rel=1e-6)  # its rim
    assert found["hole_edges"] == pytest.approx(160 / 4)
    assert found["pieces"] == pytest.approx(1 / 4)
    assert found["largest_piece"] == 100
    assert found["flat"] > 85  # all but the rim
    assert found["roughness"] == pytest.approx(0, abs=1e-3)
    assert found["normal_noise"] == pytest.approx(0, abs=1e-3)
    assert "color_step" not in found


def test_a_hole_and_a_second_piece_are_seen():
    points, faces = sheet(0.05)
    hole = (faces != 20 * 41 + 20).all(dim=1)  # the six triangles around one vertex
    other = torch.cat([points, points + 5])
    both = torch.cat([faces[hole], faces + len(points)])
    found = scan_surface.surface_statistics(Scene(name="holed", points=other, faces=both))
    area = 8 - 6 * 0.05**2 / 2
    ring = 4 * 0.05 + 2 * 0.05 * math.sqrt(2)
    assert found["holes"] == pytest.approx((16 + ring) / area, rel=1e-5)
    assert found["pieces"] == pytest.approx(2 / area, rel=1e-5)
    assert found["largest_piece"] == pytest.approx(100 * 1681 / 3361)  # one vertex is unused


def test_roughness_is_the_noise_of_the_points():
    points, faces = sheet(0.02)
    noise = torch.randn(len(points), generator=torch.Generator().manual_seed(0))
    points[:, 2] += 0.003 * noise
    found = scan_surface.surface_statistics(Scene(name="rough", points=points, faces=faces))
    assert found["roughness"] == pytest.approx(3, rel=0.1)
    assert found["normal_noise"] > 3  # degrees
    exact = torch.zeros_like(points)
    exact[:, 2] = 1
    given = scan_surface.surface_statistics(
        Scene(name="rough", points=points, faces=faces, normals=exact)
    )
    assert given["normal_noise"] < 1  # only the fitted planes err
    assert given["mesh_normal_noise"] == found["normal_noise"]


def test_normals_across_an_edge_bend_as_the_surface_does():
    points, faces = sheet(0.05)
    radius = 1.0  # a part of a cylinder: neighbours along it are 0.05 rad apart
    bent = points.clone()
    bent[:, 0] = radius * torch.sin(points[:, 0] / radius)
    bent[:, 2] = radius * torch.cos(points[:, 0] / radius)
    found = scan_surface.surface_statistics(Scene(name="bent", points=bent, faces=faces))
    # a third of the edges run along the cylinder, two thirds across it
    assert found["bend_90"] == pytest.approx(math.degrees(0.05), rel=0.02)


def test_superpoints_have_sizes_areas_and_fidelity():
    scene = room()
    found = scan_surface.scan_superpoint_statistics(scene)
    assert found["superpoints"] == pytest.approx(1000 * 3 / len(scene.points))
    assert found["size_mean"] == pytest.approx(len(scene.points) / 3)
    assert found["extent_mean"] == pytest.approx(4, rel=1e-6)
    # only vertices of seams, which lie in two walls at once, may belong to the other one
    seams = 100 * 3 * 41 / len(scene.points)
    assert 100 - seams <= found["label_purity"] <= 100
    assert found["label_purity"] == found["instance_purity"]
    assert found["label_boundary_recall"] == 100


def test_painting_gives_a_segment_what_most_of_it_is():
    segments = torch.tensor([0, 0, 0, 1, 1, 2])
    truth = torch.tensor([5, 7, 7, -1, -1, 5])
    assert scan_surface.painted(segments, truth).tolist() == [7, 7, 7, -1, -1, 5]


def test_labels_finer_than_segments_are_pure_once_painted():
    points, faces = sheet(0.05)
    labels = (points[:, 0] > 1.2).long()  # a poster: no normal tells where it ends
    scene = Scene(name="sheet", points=points, faces=faces, labels=labels, label_set="scannet20")
    found = scan_surface.scan_superpoint_statistics(scene)
    assert found["label_purity"] == pytest.approx(100 * (labels == 0).double().mean())
    assert found["label_boundary_recall"] == 0
    assert found["painted_label_purity"] == 100
    assert "label_boundary_precision" not in found  # nothing is cut
    assert "instance_purity" not in found


def test_views_are_counted_by_agreement_with_depth():
    scene = room(3)
    found = scan_frames.view_statistics(scene)
    assert found["way"] == pytest.approx(5)
    # nothing hides anything, and depth is exact: what is in the image is seen
    inside = torch.zeros(len(scene.points), dtype=torch.int64)
    for pose in poses(3):
        local = (scene.points.double() - pose[:3, 3]) @ pose[:3, :3]
        pixel = local @ CAMERA.T
        column, row = pixel[:, 0] / pixel[:, 2], pixel[:, 1] / pixel[:, 2]
        inside += (
            (column.round() >= 10)
            & (column.round() < SIZE[1] - 10)
            & (row.round() >= 10)
            & (row.round() < SIZE[0] - 10)
        )
    assert found["views"] == pytest.approx(float(inside.double().mean()), rel=0.02)
    assert found["views_0"] == pytest.approx(100 * float((inside == 0).double().mean()), rel=0.02)
    total = sum(found[f"views_{k}"] for k in range(4))
    assert total == pytest.approx(100)
    half = scan_frames.view_statistics(room(3, change=lambda depth: 0.5 * depth))
    assert half["views"] == 0
    assert half["unseen"] == 100
    tenth = scan_frames.view_statistics(room(3, change=lambda depth: 1.1 * depth))
    assert tenth["views"] == 0
    assert tenth["unseen"] == pytest.approx(found["unseen"], abs=0.5)  # lift allows it


def test_depth_that_is_one_percent_long_is_one_percent_off():
    found = scan_frames.depth_statistics(room(2, change=lambda depth: 1.01 * depth))
    assert found["off"] == pytest.approx(100 * 0.01 / 1.01, rel=1e-3)
    assert found["bias"] == pytest.approx(found["off_mm"])
    assert found["elsewhere"] == 0
    assert found["depth_noise"] < 0.01


def test_pixels_without_depth_are_missing():
    def half_lost(depth):
        missing = depth.clone()
        missing[:, ::2] = 0
        return missing

    whole, half = (
        scan_frames.depth_statistics(room(2, change=c)) for c in (lambda d: d, half_lost)
    )
    there = 1 - whole["missing"] / 100
    assert half["missing"] == pytest.approx(100 * (1 - there / 2), abs=1)
    assert whole["missing_flat"] == 0
    assert half["missing_flat"] == pytest.approx(50, abs=1)


def test_pixels_beside_steps_are_told_from_others():
    def without_steps(depth):
        padded = np.pad(depth.numpy(), 4, mode="edge")
        around = np.lib.stride_tricks.sliding_window_view(padded, (9, 9))
        step = np.ptp(around, axis=(2, 3)) > 0.08 * depth.numpy()
        assert 0.1 < step.mean() < 0.9
        return torch.where(torch.from_numpy(step), 0.0, depth)

    found = scan_frames.depth_statistics(room(2, change=without_steps))
    assert found["missing_edges"] == 100
    assert found["missing_flat"] == 0


def test_a_reading_through_a_hole_meets_no_surface():
    scene = room(2)
    center = (scene.points - torch.tensor([0.5, 0.5, 0.0])).norm(dim=1)
    keep = (center[scene.faces] > 0.3).all(dim=1)
    holed = Scene(name="holed", points=scene.points, faces=scene.faces[keep], frames=scene.frames)
    assert scan_frames.depth_statistics(scene)["no_surface"] == 0
    assert scan_frames.depth_statistics(holed)["no_surface"] > 1


@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (0.02, -0.01, 0.015)])
@pytest.mark.parametrize("turn", [(0.0, 0.0, 0.0), (0.004, 0.006, -0.005)])
def test_poses_that_err_are_asked_to_move_back(shift, turn):
    shift, turn = torch.tensor(shift).double(), torch.tensor(turn).double()

    def moved(pose):
        wrong = pose.clone()
        wrong[:3, :3] = torch.matrix_exp(scan_frames.cross_matrix(turn)) @ pose[:3, :3]
        wrong[:3, 3] += shift
        return wrong

    scene = room(1, believed=moved)
    surface = MeshDepthRenderer(scene.points, scene.faces)
    found = scan_frames.pose_correction(scene.frames[0], scene.frames[0].depth(), surface)
    torch.testing.assert_close(found[:3], -shift, rtol=0, atol=0.002)
    torch.testing.assert_close(found[3:], -turn, rtol=0, atol=0.001)


def test_noise_of_one_depth_image_is_that_at_two_metres():
    rows, columns = torch.meshgrid(torch.arange(140.0), torch.arange(140.0), indexing="ij")
    depth = 1 / (0.5 + 0.0003 * rows - 0.0002 * columns)  # a slanted plane about 2 m away
    noise = torch.randn(depth.shape, generator=torch.Generator().manual_seed(0))
    found = scan_frames.depth_noise(depth + 0.004 * noise * (depth / 2) ** 2)
    assert float(found.median()) == pytest.approx(0.004, rel=0.05)
    assert len(scan_frames.depth_noise(depth / 4)) == 0  # nearer than where it is told


def test_noise_of_an_image_is_found_beside_edges():
    noise = torch.randn(200, 200, generator=torch.Generator().manual_seed(0))
    blocks = 60.0 * (torch.arange(200) // 25 % 2).double()
    assert scan_frames.image_noise(blocks + 3 * noise) == pytest.approx(3, rel=0.1)


def test_brightness_of_points_is_followed_through_frames():
    scene = room(4)
    levels = [90, 100, 110, 120]
    frames = tuple(
        MemoryFrame(f.name, CAMERA, f.camera_to_world, torch.full_like(f.pixels, level), f.depth())
        for f, level in zip(scene.frames, levels, strict=True)
    )
    found = scan_frames.color_statistics(
        Scene(name="lit", points=scene.points, faces=scene.faces, frames=frames)
    )
    assert found["color_spread"] == pytest.approx(np.std(levels, ddof=1), rel=1e-6)
    assert found["image_noise"] == 0


def test_the_page_has_every_row_a_ratio_and_a_sentence(tmp_path, monkeypatch):
    scan = room(2)
    write_scene(scan, tmp_path / "real")
    near = room(2, change=lambda depth: 1.002 * depth)
    monkeypatch.setattr("pcdistill.homes.home_scene", lambda seed, split: near)
    page = tmp_path / "homes.md"
    found = scans.run(
        argparse.Namespace(
            homes=2,
            scan=[tmp_path / "real"],
            title=["a kitchen"],
            about="It was filmed by hand.",
            write=page,
        )
    )
    text = page.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    labels = [label for _, section in scans.SECTIONS for _, label, _ in section]
    assert len(set(labels)) == len(labels)
    assert all(any(row.startswith(f"| {label} |") for row in rows) for label in labels)
    density = f"{found['homes']['density']:.0f}"
    assert f"| points per m² | {density} ({density} to {density}) | {density} | 1.00 |" in text
    assert "| a kitchen |" in text
    assert "It was filmed by hand." in text
    assert str(tmp_path) not in text
    assert "Homes have less:" in text
    assert found["homes"]["frame_density"] == pytest.approx(10 * 2 / 12, rel=1e-3)
    assert found["homes"]["density"] == found["scans"]["a kitchen"]["density"]


def test_a_ratio_is_homes_over_the_scan_and_far_ones_are_named():
    homes = [{"density": 100.0, "label_purity": 90.0}, {"density": 300.0, "label_purity": 92.0}]
    found = {"density": 800.0, "area": 3.0, "label_purity": 97.0}
    real = [scans.Column("x", found, True), scans.Column("x, merged", found, False)]
    assert scans.ratio(homes, real[0], "density") == 0.25
    assert scans.ratio(homes, real[0], "area") is None
    assert scans.ratio(homes, real[0], "label_purity") is None  # painted on this mesh
    assert scans.ratio(homes, real[1], "label_purity") == pytest.approx(91 / 97)
    first, second = scans.distances(homes, real)
    assert scans.distances(homes, []) == ["- No real scan was given."]
    told = scans.distances([{"label_mean_iou": 79.04, "size_mean": 410.0}], [])[-1]
    assert "mean IoU of 79.0 % on homes, with 410 points" in told
    assert first.startswith("- x: 0 of 1 statistics are within a factor of 1.5.")
    assert "less: points per m² (0.25)." in first
    assert "more: nothing." in first
    assert second.startswith("- x, merged: 1 of 2 statistics")


def test_a_merged_scan_is_coarser_and_keeps_what_is_known_of_it():
    scene = room(1)
    coarse = scans.merged(scene, 0.1)
    assert 0.2 < len(coarse.points) / len(scene.points) < 0.35
    wall = coarse.points.argmin(dim=1)  # the axis across it
    clear = coarse.points.sort(dim=1).values[:, 1] > 0.2
    assert (coarse.labels[clear] == torch.tensor([2, 1, 0])[wall[clear]]).all()
    assert len(coarse.frames) == 1
    assert coarse.colors.unique().tolist() == [90]
    areas = [float(scan_surface.face_areas(s.points, s.faces).sum()) for s in (scene, coarse)]
    assert areas[1] == pytest.approx(areas[0], rel=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scan": ["nowhere"]}, "nowhere: no such folder"),
        (
            {"scan": ["a", "b"], "title": ["one"]},
            "--title is given 1 times, expected once for each",
        ),
        ({"homes": 0}, "--homes is 0, expected at least 1"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, change, message):
    options = {"homes": 1, "scan": [], "title": [], "about": "", "write": None} | change
    options["scan"] = [tmp_path / name for name in options["scan"]]
    with pytest.raises(SystemExit, match=message):
        scans.run(argparse.Namespace(**options))


def test_scans_without_mesh_or_depth_are_refused(tmp_path):
    scene = room(1)
    write_scene(Scene(name="bare", points=scene.points, frames=scene.frames), tmp_path / "bare")
    write_scene(Scene(name="blind", points=scene.points, faces=scene.faces), tmp_path / "blind")
    with pytest.raises(SystemExit, match="bare: has no mesh, expected one to measure"):
        scans.open_real_scan(tmp_path / "bare")
    with pytest.raises(SystemExit, match="blind: has no frames with depth"):
        scans.open_real_scan(tmp_path / "blind")
