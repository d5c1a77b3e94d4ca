"""What all readers of raw scans share: where a scan lies, and how it is to be read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

from pcdistill.errors import ConfigError
from pcdistill.scenes.checks.pose_conventions import POSE_CONVENTIONS
from pcdistill.scenes.resampled_frames import Intrinsics
from pcdistill.scenes.scene import Scene
from pcdistill.suggest import suggest

UpAxis = Literal["z", "y", "-y"]


class Scan(NamedTuple):
    """One scan on disk."""

    name: str
    """What the scene will be called; a valid file name, unique among its neighbours."""
    folder: Path
    """Folder (or file) that holds it."""
    part: str = ""
    """Which of several scans in `folder`, in the layout's own words; empty where it is the one."""


@dataclass(frozen=True)
class ReaderSettings:
    """How a raw scan is to be read; None leaves it to the layout, whose docs name its choice.

    Raises:
        ConfigError: a value that cannot be.
    """

    depth_scale: float | None = None
    """Counts per metre of 16-bit depth images."""
    up_axis: UpAxis = "z"
    """Which axis of the scan's world points up; only for layouts that do not say it themselves."""
    frame_step: int | None = None
    """Use every n-th frame."""
    image_size: tuple[int, int] | None = None
    """(H, W) pixels to which frames are resized."""
    pose_convention: str = "camera_to_world"
    """What pose files hold, one of `POSE_CONVENTIONS`; "..._opengl" cameras look along -z, y up."""
    surface_file: str | None = None
    """Mesh or cloud (PLY), relative to the scan, instead of the layout's own."""
    fuse_voxel_size: float = 0.02
    """Metres between points where the depth images have to be fused."""
    label_set: str | None = None
    """Label set to give labels in, where the layout's labels can be mapped to several."""
    align_axes: bool = False
    """Turn the scan by the alignment that comes with it (ScanNet)."""
    intrinsics: Intrinsics = "own"
    """`openscene`: the camera matrices that OpenScene's preprocessing writes, rounding included."""
    sweeps: bool = False
    """Add the LiDAR sweeps before the keyframe (nuScenes)."""

    def __post_init__(self) -> None:
        if self.depth_scale is not None and not 0 < self.depth_scale < math.inf:
            raise ConfigError(
                f"depth_scale is {self.depth_scale}, expected counts per metre; 1000 = millimetres"
            )
        if self.up_axis not in get_args(UpAxis):
            raise ConfigError(
                f"up_axis is '{self.up_axis}', expected one of z, y, -y; name the axis that is"
            )
        if self.intrinsics not in get_args(Intrinsics):
            raise ConfigError(f"intrinsics is '{self.intrinsics}', expected own or openscene")
        if self.frame_step is not None and self.frame_step < 1:
            raise ConfigError(f"frame_step is {self.frame_step}, expected at least 1")
        if self.image_size is not None and min(self.image_size) < 1:
            raise ConfigError(f"image_size is {self.image_size}, expected (H, W) pixels > 0")
        if self.pose_convention not in POSE_CONVENTIONS:
            raise ConfigError(
                f"unknown pose_convention '{self.pose_convention}', "
                f"{suggest(self.pose_convention, POSE_CONVENTIONS)}"
            )
        if not 0 < self.fuse_voxel_size < math.inf:
            raise ConfigError(f"fuse_voxel_size is {self.fuse_voxel_size}, expected metres > 0")


class Refusal(NamedTuple):
    """Why a layout does not take a setting."""

    sentence: str
    """The message, a format of the scan's `folder` and the setting's `name` and `value`."""
    allowed: tuple[Any, ...] = ()
    """Values that are taken besides the default: they ask for what the layout does anyway."""


def refuse_all_but(*taken: str) -> dict[str, Refusal]:
    """Refusals of all settings but a few; `label_set` comes with every run and may be set."""
    sentence = (
        "{folder}: `{name}` has no meaning for a scan of this layout, expected only "
        f"{', '.join(taken)}; leave it out"
    )
    known = (field.name for field in fields(ReaderSettings))
    return {name: Refusal(sentence) for name in known if name not in (*taken, "label_set")}


class Division(NamedTuple):
    """What the files of a scan tell, by their names, of training and measuring."""

    labelled: bool
    """Whether the scan has true labels, and what they belong to."""
    side: str = ""
    """`train`, `val` or `test` where the data set itself puts the scan there; empty where it does
    not say it, or in a list beside the data (`Reader.lists`)."""


class Reader(NamedTuple):
    """One layout of scans on disk."""

    required_files: str
    """What a folder must have, for the message where no reader fits."""
    find: Callable[[Path], Sequence[Scan]]
    """Scans of this layout in a folder: the folder itself, or those of a data set whose root it
    is; none where it is another layout. Looks at names only, and takes no time."""
    open: Callable[[Scan, ReaderSettings], Scene]
    """Read one scan; images stay on disk until they are asked for."""
    files: Callable[[Scan], Sequence[Path]] | None = None
    """Files and folders that a scan is read from, where they are not just its folder: a scan is
    read again when one of them changes."""
    division: Callable[[Scan], Division] | None = None
    """For layouts whose scans may have true labels; takes no time worth mentioning."""
    lists: Mapping[str, str] = MappingProxyType({})
    """Side of a division -> published text file, beside the data, with the names of its scans."""
    measured: tuple[str, ...] = ("val", "test")
    """Sides on which the data set's published numbers are measured; the first that is there."""
    settings: Mapping[str, Refusal] = MappingProxyType({})
    """Name of a setting that this layout does not take -> why; checked before a scan is opened."""

    def require_taken(self, scan: Scan, settings: ReaderSettings) -> None:
        """Refuse settings that this layout does not take, rather than ignore them.

        Raises:
            ConfigError: one of them differs from its default.
        """
        plain = ReaderSettings()
        for name, refusal in self.settings.items():
            value = getattr(settings, name)
            if value not in (getattr(plain, name), *refusal.allowed):
                raise ConfigError(
                    refusal.sentence.format(folder=scan.folder, name=name, value=value)
                )
