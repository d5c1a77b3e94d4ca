"""Projection of a scene's points into its frames, with an occlusion test."""

from __future__ import annotations

from functools import cached_property
from threading import Lock
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.geometry import (
    MeshDepthRenderer,
    Projection,
    estimate_normals,
    point_spacing,
    project_points,
    splat_depth,
    zbuffer_depth,
)
from pcdistill.scenes import Frame, Scene


class ProjectionRules(NamedTuple):
    """Rules of which points a frame sees."""

    depth_tolerance: float
    """Relative: a point is seen where its distance is that of the surface in front, or less off."""
    border: int
    """Pixels at the edges of an image in which nothing counts as seen."""
    occlusion: Literal["auto", "depth", "mesh", "splat", "none"] = "auto"
    """What tells what stands before a point; auto takes the first of depth, mesh and splat."""


class SceneProjector:
    """Projects the points of one scene into its frames by the rules of a run.

    Several threads may use it at once.

    Raises:
        SceneError: the mesh is asked for where there is none.
    """

    def __init__(self, scene: Scene, rules: ProjectionRules) -> None:
        self.scene = scene
        self.rules = rules
        self._has_faces = scene.faces is not None and len(scene.faces) > 0
        if rules.occlusion == "mesh" and not self._has_faces:
            raise SceneError(
                f"scene {scene.name}: lift.occlusion is mesh but the scene has no faces; "
                "use auto or splat"
            )
        self._lock = Lock()
        self.methods_used: set[str] = set()
        """Which of depth, mesh, splat and none the frames so far were seen by."""

    def project(self, frame: Frame) -> Projection:
        """Project the points into a frame and find those that it sees.

        Raises:
            SceneError: an image is damaged, or depth is asked for where there is none.
        """
        return self._project(frame, self.occlusion_depth(frame))

    def _project(self, frame: Frame, depth: Tensor | None) -> Projection:
        return project_points(
            self.scene.points,
            frame.camera_to_world,
            frame.intrinsics,
            frame.image_size,
            depth,
            depth_tolerance=self.rules.depth_tolerance,
            border=self.rules.border,
        )

    def occlusion_depth(self, frame: Frame) -> Tensor | None:
        """(H, W) float32 metres, 0 = unknown: depth of the nearest surface on the rays of a frame.

        Returns:
            None where nothing hides anything. Of a mesh, depth is known where points land.

        Raises:
            SceneError: an image is damaged, or depth is asked for where there is none.
        """
        method = self.rules.occlusion
        if method in ("auto", "depth"):
            measured = frame.depth()
            if measured is not None:
                self.methods_used.add("depth")
                return measured
            if method == "depth":
                raise SceneError(
                    f"scene {self.scene.name}: lift.occlusion is depth but frame {frame.name} has "
                    "no depth image; use auto, mesh or splat"
                )
            method = "mesh" if self._has_faces else "splat"
        self.methods_used.add(method)
        if method == "mesh":
            return self._mesh_depth(frame)
        if method == "splat":
            with self._lock:
                normals, spacing = self._discs
            camera = (frame.camera_to_world, frame.intrinsics, frame.image_size)
            return splat_depth(self.scene.points, normals, spacing, *camera)
        return None

    def _mesh_depth(self, frame: Frame) -> Tensor:
        """Where a ray slips through a gap of the mesh, its nearest vertex there stands first."""
        landing = self._project(frame, None)
        pixels, z = landing.pixels[landing.visible], landing.depth[landing.visible]
        camera = (frame.camera_to_world, frame.intrinsics, frame.image_size)
        with self._lock:
            met = self._mesh.render(*camera, pixels)
        return torch.where(met > 0, met, zbuffer_depth(pixels, z, frame.image_size))

    @cached_property
    def _mesh(self) -> MeshDepthRenderer:
        if self.scene.faces is None:
            raise ValueError(f"scene {self.scene.name} has no faces")
        return MeshDepthRenderer(self.scene.points, self.scene.faces)

    @cached_property
    def _discs(self) -> tuple[Tensor, Tensor]:
        """Normals, of either sign, and spacing of the points."""
        points = self.scene.points
        normals = estimate_normals(points, viewpoint=points.mean(dim=0))
        return normals, point_spacing(points)
