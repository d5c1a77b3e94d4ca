"""Settings of the readers of raw scans; light to import, as the configuration extends them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

from pcdistill.errors import ConfigError
from pcdistill.suggest import suggest

UpAxis = Literal["z", "y", "-y"]
PoseConventionName = Literal[
    "camera_to_world",
    "world_to_camera",
    "camera_to_world_opengl",
    "world_to_camera_opengl",
]
Intrinsics = Literal["own", "openscene"]


@dataclass(frozen=True)
class ScanSettings:
    """How raw scans are read; None leaves it to the layout, whose docs name its choice.

    Raises:
        ConfigError: a value that cannot be.
    """

    image_size: tuple[int, int] | None = None
    """(H, W) pixels: frames of a scan are resized to it, by default as its layout says; generated
    frames are 240 x 320 by default."""
    frame_step: int | None = None
    """Use every n-th frame of a scan; by default as its layout says."""
    depth_scale: float | None = None
    """Stored depth units per metre; by default as the scan's layout says, which is 1000 where it
    says nothing."""
    up_axis: UpAxis = "z"
    """Which axis of the scan's world points up, where its layout does not say it."""
    pose_convention: PoseConventionName = "camera_to_world"
    """What the pose files of a scan say; OpenGL cameras look along -z with +y up."""
    surface_file: str | None = None
    """PLY of a scan's mesh or cloud; by default `mesh.ply` or `cloud.ply` in it, else its depth
    images are fused."""
    fuse_voxel_size: float = 0.02
    """Metres between the points of a fused cloud."""
    align_axes: bool = False
    """Turn a scan by the alignment that comes with it (ScanNet)."""
    intrinsics: Intrinsics = "own"
    """`openscene`: the camera matrices of OpenScene's preprocessing, rounding included."""
    sweeps: bool = False
    """Add the LiDAR sweeps before the keyframe (nuScenes)."""

    prefix = ""  # of the settings' names in messages

    def __post_init__(self) -> None:
        scale, size, step = self.depth_scale, self.image_size, self.frame_step
        self._require(
            scale is None or 0 < scale < math.inf,
            f"depth_scale is {scale}, expected counts per metre; 1000 = millimetres",
        )
        self._require(
            self.up_axis in get_args(UpAxis),
            f"up_axis is '{self.up_axis}', expected one of z, y, -y; name the axis that is",
        )
        self._require(
            self.intrinsics in get_args(Intrinsics),
            f"intrinsics is '{self.intrinsics}', expected own or openscene",
        )
        self._require(step is None or step >= 1, f"frame_step is {step}, expected at least 1")
        self._require(
            size is None or min(size) >= 1, f"image_size is {size}, expected (H, W) pixels > 0"
        )
        conventions = get_args(PoseConventionName)
        if self.pose_convention not in conventions:
            raise ConfigError(
                f"unknown pose_convention '{self.pose_convention}', "
                f"{suggest(self.pose_convention, conventions)}"
            )
        self._require(
            0 < self.fuse_voxel_size < math.inf,
            f"fuse_voxel_size is {self.fuse_voxel_size}, expected metres > 0",
        )

    def _require(self, is_possible: bool, sentence: str) -> None:
        if not is_possible:
            raise ConfigError(f"{self.prefix}{sentence}")

    def with_label_set(self, label_set: str) -> ReaderSettings:
        """The same for readers, which give labels in a label set."""
        values = {field.name: getattr(self, field.name) for field in fields(ScanSettings)}
        return ReaderSettings(**values, label_set=label_set)


@dataclass(frozen=True)
class ReaderSettings(ScanSettings):
    """How one raw scan is to be read.

    Raises:
        ConfigError: a value that cannot be.
    """

    label_set: str | None = None
    """Label set to give labels in, where the layout's labels can be mapped to several."""
