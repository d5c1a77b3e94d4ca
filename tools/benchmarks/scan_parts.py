"""Parts of a scan that a benchmark needs and a scene may lack: surface, depth."""

from __future__ import annotations

from torch import Tensor

from pcdistill.scenes import Frame, Scene


def faces_of(scene: Scene) -> Tensor:
    """(F, 3) int64: the faces of a scan.

    Raises:
        SystemExit: it has none.
    """
    if scene.faces is None:
        raise SystemExit(f"{scene.name}: has no mesh, expected one; give a scan with a mesh")
    return scene.faces


def depth_of(frame: Frame) -> Tensor:
    """(H, W) float32, metres: the depth of a frame.

    Raises:
        SystemExit: it has none.
    """
    depth = frame.depth()
    if depth is None:
        raise SystemExit(f"{frame.name}: has no depth, expected some; give an RGB-D scan")
    return depth
