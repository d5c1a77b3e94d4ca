"""A wall hides what is behind it, whichever of depth image, mesh or points there is to tell."""

from __future__ import annotations

import pytest
import torch

from pcdistill.errors import SceneError
from pcdistill.lifting.projector import ProjectionRules, SceneProjector
from pcdistill.scenes import MemoryFrame, Scene

SIZE = (24, 32)
INTRINSICS = torch.tensor([[30.0, 0, 15.5], [0, 30.0, 11.5], [0, 0, 1]], dtype=torch.float64)
FRONT, BACK = 21 * 21, 31 * 31


def sheet(z: float, half: float, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A square of points across the optical axis, and the triangles between them."""
    line = torch.linspace(-half, half, count)
    x, y = torch.meshgrid(line, line, indexing="ij")
    points = torch.stack([x.flatten(), y.flatten(), torch.full((count * count,), z)], dim=1)
    corner = (torch.arange(count - 1)[:, None] * count + torch.arange(count - 1)).flatten()
    faces = torch.stack([corner, corner + 1, corner + count], dim=1)
    others = torch.stack([corner + 1, corner + count + 1, corner + count], dim=1)
    return points, torch.cat([faces, others])


def scene(*, depth: bool, faces: bool) -> Scene:
    """A small wall two metres away in front of a large one at four."""
    front, front_faces = sheet(2.0, 0.5, 21)
    back, back_faces = sheet(4.0, 1.5, 31)
    measured = torch.full(SIZE, 4.0)
    u, v = torch.meshgrid(torch.arange(32), torch.arange(24), indexing="xy")
    inside = (((u - 15.5) / 15).abs() <= 0.5) & (((v - 11.5) / 15).abs() <= 0.5)
    measured[inside] = 2.0
    frame = MemoryFrame(
        "f",
        INTRINSICS,
        torch.eye(4, dtype=torch.float64),
        torch.zeros(*SIZE, 3, dtype=torch.uint8),
        measured if depth else None,
    )
    return Scene(
        "walls",
        torch.cat([front, back]),
        faces=torch.cat([front_faces, back_faces + len(front)]) if faces else None,
        frames=(frame,),
    )


def seen(place: Scene, occlusion: str) -> tuple[torch.Tensor, set[str]]:
    sight = SceneProjector(place, ProjectionRules(0.2, 0, occlusion))
    return sight.project(place.frames[0]).visible, sight.methods_used


@pytest.mark.parametrize(
    ("depth", "faces", "occlusion", "used"),
    [
        (True, True, "auto", "depth"),
        (False, True, "auto", "mesh"),
        (False, False, "auto", "splat"),
        (True, True, "mesh", "mesh"),
        (True, True, "splat", "splat"),
        (True, False, "depth", "depth"),
    ],
)
def test_the_wall_behind_is_hidden_where_the_wall_in_front_is(depth, faces, occlusion, used):
    place = scene(depth=depth, faces=faces)
    visible, by = seen(place, occlusion)
    assert by == {used}
    assert float(visible[:FRONT].float().mean()) > 0.95
    behind = place.points[FRONT:]
    hidden = (behind[:, :2].abs() < 0.8).all(dim=1)  # the front wall's shadow reaches to 1.0
    shown = (behind[:, :2].abs() < 1.4).all(dim=1) & (behind[:, :2].abs() > 1.2).any(dim=1)
    assert not bool(visible[FRONT:][hidden].any())
    assert float(visible[FRONT:][shown].float().mean()) > 0.9


def test_a_vertex_at_the_rim_of_the_mesh_is_seen_though_its_ray_slips_by():
    place = scene(depth=False, faces=True)
    visible, _ = seen(place, "mesh")
    rim = (place.points[:FRONT, :2].abs() > 0.49).any(dim=1)
    assert bool(visible[:FRONT][rim].all())


def test_triangles_between_the_rays_are_seen_by_their_vertices():
    """Each is smaller than a pixel and lies beside its middle, through which the ray goes."""
    pixel = 2.0 / 30  # metres at two metres
    middles = [(column, row) for row in range(3, 20, 5) for column in range(3, 30, 5)]
    corners = [
        [(column - 15.5 + x) * pixel, (row - 11.5 + y) * pixel, 2.0]
        for column, row in middles
        for x, y in ((0.3, 0.3), (0.4, 0.3), (0.3, 0.4))
    ]
    faces = torch.arange(len(corners)).view(-1, 3)
    frame = scene(depth=False, faces=False).frames[0]
    place = Scene("dust", torch.tensor(corners), faces=faces, frames=(frame,))
    visible, by = seen(place, "mesh")
    assert by == {"mesh"}
    assert bool(visible.all())


def test_without_occlusion_everything_in_view_is_seen():
    visible, by = seen(scene(depth=True, faces=True), "none")
    assert by == {"none"}
    assert bool(visible.all())


def test_what_is_asked_for_but_not_there_is_named():
    place = scene(depth=False, faces=False)
    with pytest.raises(SceneError, match="occlusion is mesh but the scene has no faces; use auto"):
        seen(place, "mesh")
    with pytest.raises(SceneError, match="occlusion is depth but frame f has no depth image"):
        seen(place, "depth")
