"""Statistics of a scan's frames: views per point, depth against the surface, poses, colours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.geometry import MeshDepthRenderer, Projection, camera_rays, project_points
from pcdistill.pipeline.config import LiftConfig
from pcdistill.scenes import Frame, Scene

from .scan_parts import depth_of, faces_of

AGREES = 0.05
"""Relative to the measured depth: a frame sees a point that lies no farther from its reading."""
ELSEWHERE = 0.10
"""Relative to the measured depth: farther from it, the surface shows something else."""
_WINDOW = 7  # pixels along the windows in which a single depth image is asked to be smooth
_SMOOTH = 0.05  # relative range of the depth in such a window
_NEAR, _FAR = 1.5, 2.5  # metres at which the noise of depth is told
_JUMP, _BESIDE = 0.08, 4  # a relative step of depth is an edge; pixels that are beside one
_REACH = 0.10  # metres: a reading farther from the surface says nothing of the pose
_STEPS = 4  # of Gauss and Newton
_PRIOR = 0.03  # metres, or radians: how far a pose is thought to be off before looking
_SIGMA = 0.01  # metres, of one reading
_MOST_READINGS = 300  # that count as independent of each other in one image
_FEWEST_READINGS = 100
_EVERY, _REST = 4, 2  # pixels between the readings that a pose is fitted to, and before the first
_SLANTED = 0.3  # cosine of the flattest angle of view that counts
_POINTS = 20_000  # whose brightness is followed through the frames

Statistics = dict[str, float]


def view_statistics(scene: Scene) -> Statistics:
    """How many frames see each point, and how many points none sees by the rule of stage lift."""
    views = torch.zeros(len(scene.points), dtype=torch.int64)
    lifted = torch.zeros(len(scene.points), dtype=torch.bool)
    rule = LiftConfig()
    for frame in scene.frames:
        depth = depth_of(frame)
        views += sees(scene.points, frame, depth, AGREES).visible
        lifted |= sees(scene.points, frame, depth, rule.depth_tolerance).visible
    count = len(scene.points)
    centers = torch.stack([frame.camera_to_world[:3, 3] for frame in scene.frames])
    found = {
        "frames": len(scene.frames),
        "way": 100 * quantile(centers.diff(dim=0).norm(dim=1), 0.5),
        "views": float(views.double().mean()),
        "views_median": float(views.double().median()),
        "views_3": 100 * int((views >= 3).sum()) / count,
        "unseen": 100 * int((~lifted).sum()) / count,
        "in_view": 100 * float(views.double().mean()) / len(scene.frames),
    }
    return found | {f"views_{n}": 100 * int((views == n).sum()) / count for n in range(3)}


def sees(points: Tensor, frame: Frame, depth: Tensor, tolerance: float) -> Projection:
    """Project points into a frame and compare them with its depth.

    Args:
        points: (N, 3) float32, metres.
        frame: the frame.
        depth: (H, W) float32, metres.
        tolerance: relative to the depth.
    """
    return project_points(
        points,
        frame.camera_to_world,
        frame.intrinsics,
        frame.image_size,
        depth,
        depth_tolerance=tolerance,
        border=LiftConfig().border,
    )


def depth_statistics(scene: Scene) -> Statistics:
    """Depth images by themselves and against the surface, and the poses that they ask for."""
    surface = MeshDepthRenderer(scene.points, faces_of(scene))
    compared = [compare_depth(frame, surface) for frame in scene.frames]
    together = DepthComparison(*(torch.cat(column) for column in zip(*compared, strict=True)))
    relative = together.difference.abs() / together.depth
    same = relative < ELSEWHERE
    missing = np.array([float(one.missing.double().mean()) for one in compared])
    shift = together.correction[:, :3].norm(dim=1)
    turn = together.correction[:, 3:].norm(dim=1).rad2deg()
    step = together.correction[:, :3].diff(dim=0).norm(dim=1)
    lost, edge = together.missing, together.beside_edge
    return {
        "missing": 100 * float(missing.mean()),
        "missing_90": 100 * float(np.quantile(missing, 0.9)),
        "missing_edges": 100 * fraction(lost[edge & together.surface]),
        "missing_flat": 100 * fraction(lost[~edge & together.surface]),
        "off": 100 * quantile(relative, 0.5),
        "off_95": 100 * quantile(relative, 0.95),
        "off_mm": 1000 * quantile(together.difference[same].abs(), 0.5),
        "bias": 1000 * quantile(together.difference[same], 0.5),
        "elsewhere": 100 * fraction(~same),
        "no_surface": 100 * fraction(~together.surface[~lost]),
        "depth_noise": 1000 * quantile(together.noise, 0.5),
        "drift": 1000 * quantile(shift, 0.5),
        "drift_90": 1000 * quantile(shift, 0.9),
        "turn": quantile(turn, 0.5),
        "turn_90": quantile(turn, 0.9),
        "drift_step": 1000 * quantile(step, 0.5),
    }


class DepthComparison(NamedTuple):
    """The depth of a frame against the surface; the second axis of all is what is listed."""

    missing: Tensor
    """(P,) bool, of all pixels: no reading."""
    surface: Tensor
    """(P,) bool: its ray meets the surface."""
    beside_edge: Tensor
    """(P,) bool: the surface steps within some pixels."""
    depth: Tensor
    """(M,) metres, of the pixels with a reading and a surface."""
    difference: Tensor
    """(M,) metres, reading less surface."""
    noise: Tensor
    """(W,) metres, see `depth_noise`."""
    correction: Tensor
    """(1, 6) metres and radians, see `pose_correction`."""


def compare_depth(frame: Frame, surface: MeshDepthRenderer) -> DepthComparison:
    """Compare the depth of a frame with that of the surface from its pose."""
    depth = depth_of(frame)
    rendered = surface.render(frame.camera_to_world, frame.intrinsics, frame.image_size)
    both = (depth > 0) & (rendered > 0)
    width = 2 * _BESIDE + 1
    high = functional.max_pool2d(rendered[None], width, 1, _BESIDE)[0]
    low = -functional.max_pool2d(-rendered[None], width, 1, _BESIDE)[0]
    return DepthComparison(
        (depth <= 0).flatten(),
        (rendered > 0).flatten(),
        (high - low > _JUMP * rendered).flatten(),
        depth[both].double(),
        (depth - rendered)[both].double(),
        depth_noise(depth),
        pose_correction(frame, depth, surface)[None],
    )


def quantile(values: Tensor, at: float) -> float:
    """Of any number of values; not a number without any."""
    return float(np.quantile(values.double().numpy(), at)) if len(values) else float("nan")


def fraction(flags: Tensor) -> float:
    """Of those that are set; not a number without any."""
    return float(flags.double().mean()) if len(flags) else float("nan")


def depth_noise(depth: Tensor) -> Tensor:
    """(W,) metres: residual of planes fitted to windows of a depth image, scaled to 2 m.

    One over the depth of a plane is an affine function of the pixel. The noise of a sensor that
    measures disparity grows with the square of the distance.
    """
    blocks = functional.unfold(depth.double()[None, None], _WINDOW, stride=_WINDOW)[0].T  # (W, 49)
    low, high, middle = blocks.amin(dim=1), blocks.amax(dim=1), blocks.mean(dim=1)
    good = (low > 0) & (high - low < _SMOOTH * middle) & (middle > _NEAR) & (middle < _FAR)
    rows, columns = torch.meshgrid(*[torch.arange(_WINDOW).double()] * 2, indexing="ij")
    terms = torch.stack([rows.flatten(), columns.flatten(), torch.ones(_WINDOW**2).double()], dim=1)
    base = torch.linalg.qr(terms).Q  # (49, 3)
    inverse = 1 / blocks[good]
    residual = inverse - inverse @ base @ base.T
    spread: Tensor = (residual.square().sum(dim=1) / (_WINDOW**2 - 3)).sqrt()
    return spread * 2.0**2  # |dz| = z2 |d(1/z)|


def pose_correction(frame: Frame, depth: Tensor, surface: MeshDepthRenderer) -> Tensor:
    """(6,) float64: how a pose has to move for its depth to be on the surface, metres and radians.

    Least squares of the distances from readings to the surface along its normals, with a weak
    belief in the pose as it is, so that what a frame cannot tell (where it sees one wall) counts
    as right. The rotation is about the camera's centre.

    Args:
        frame: with the pose.
        depth: (H, W) float32, metres.
        surface: of the scan.
    """
    pose = frame.camera_to_world.clone()
    total = torch.zeros(6, dtype=torch.float64)
    for _ in range(_STEPS):
        here, normal, distance = readings_on_surface(frame, pose, depth, surface)
        if len(distance) < _FEWEST_READINGS:
            break
        lever = torch.cat([normal, torch.linalg.cross(here - pose[:3, 3], normal)], dim=1)
        weight = 1 / (1 + (distance / _SIGMA).square()) / _SIGMA**2
        weight = weight * min(1.0, _MOST_READINGS / len(distance))
        square = (lever * weight[:, None]).T @ lever
        square += torch.eye(6, dtype=torch.float64) / _PRIOR**2
        pull = -(lever * weight[:, None]).T @ distance - total / _PRIOR**2
        move = torch.linalg.solve(square, pull)
        total += move
        pose[:3, :3] = torch.matrix_exp(cross_matrix(move[3:])) @ pose[:3, :3]
        pose[:3, 3] += move[:3]
    return total


def cross_matrix(axis: Tensor) -> Tensor:
    """(3, 3) matrix of the cross product with (3,)."""
    x, y, z = axis.tolist()
    return torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)


def readings_on_surface(
    frame: Frame, pose: Tensor, depth: Tensor, surface: MeshDepthRenderer
) -> tuple[Tensor, Tensor, Tensor]:
    """Readings (M, 3) in the world, the surface's normals (M, 3) there, distances (M,), metres.

    Args:
        frame: with intrinsics.
        pose: (4, 4), camera to world.
        depth: (H, W) float32, metres.
        surface: of the scan.
    """
    height, width = frame.image_size
    rendered = surface.render(pose, frame.intrinsics, frame.image_size).double()
    rays = camera_rays(torch.arange(height * width), width, frame.intrinsics)
    rays = (rays @ pose[:3, :3].T).view(height, width, 3)
    hits = rays * rendered[..., None]  # from the camera
    # differences over four pixels, so that single triangles do not set the normal
    down = hits[_EVERY::_EVERY, _REST:-_REST:_EVERY] - hits[:-_EVERY:_EVERY, _REST:-_REST:_EVERY]
    right = hits[_REST:-_REST:_EVERY, _EVERY::_EVERY] - hits[_REST:-_REST:_EVERY, :-_EVERY:_EVERY]
    rows, columns = min(len(down), len(right)), min(down.shape[1], right.shape[1])
    down, right = down[:rows, :columns], right[:rows, :columns]
    normal = functional.normalize(torch.linalg.cross(down, right), dim=-1)
    hit, ray, far, read = (
        image[_REST:-_REST:_EVERY, _REST:-_REST:_EVERY][:rows, :columns]
        for image in (hits, rays, rendered, depth.double())
    )
    there = ray * read[..., None]
    distance = ((there - hit) * normal).sum(dim=-1)
    jump = torch.maximum(down.norm(dim=-1), right.norm(dim=-1)) > ELSEWHERE * far
    slanted = (functional.normalize(hit, dim=-1) * normal).sum(dim=-1).abs() < _SLANTED
    good = (far > 0) & (read > 0) & ~jump & ~slanted & (distance.abs() < _REACH)
    return there[good] + pose[:3, 3], normal[good], distance[good]


def color_statistics(scene: Scene) -> Statistics:
    """Noise of images, and how a point's brightness changes from frame to frame, grey levels."""
    draws = torch.Generator().manual_seed(0)
    points = scene.points[torch.randperm(len(scene.points), generator=draws)[:_POINTS]]
    count, total, squares = torch.zeros(3, len(points), dtype=torch.float64)
    noise = []
    for frame in scene.frames:
        gray = frame.image().double().mean(dim=2)
        noise.append(image_noise(gray))
        view = sees(points, frame, depth_of(frame), AGREES)
        value = gray[view.pixels[:, 1], view.pixels[:, 0]] * view.visible
        count += view.visible
        total += value
        squares += value.square()
    often = count >= 3
    count, total, squares = count[often], total[often], squares[often]
    variance = (squares - total.square() / count).clamp(min=0) / (count - 1)
    return {
        "image_noise": float(np.median(noise)),
        "color_spread": quantile(variance.sqrt(), 0.5),
    }


def image_noise(gray: Tensor) -> float:
    """Standard deviation of the noise of an image (H, W), grey levels.

    Source: Immerkaer, Fast noise variance estimation, CVIU 1996, with a median in place of the
    mean, which edges and texture move less.
    """
    mask = torch.tensor([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=torch.float64)
    answer = functional.conv2d(gray[None, None].double(), mask[None, None])
    return float(answer.abs().median()) / 0.6745 / 6  # of a normal distribution; norm of the mask
