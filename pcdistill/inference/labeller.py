"""A trained student as an object: labels for any point cloud, from the points alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pcdistill.artifacts import check_colors
from pcdistill.distillation import Looks, StudentInput, infer_point_features
from pcdistill.errors import ConfigError
from pcdistill.fusion import predict_labels
from pcdistill.geometry import estimate_normals, require_shape
from pcdistill.pipeline import (
    DistillConfig,
    PretrainedStudent,
    load_pretrained,
    resolve_checkpoint,
)
from pcdistill.teachers import TextEncoder, WeightStore, build_text_encoder, embed_names


class Labeller:
    """A trained student with the text encoder of its training."""

    def __init__(
        self, student: PretrainedStudent, text_encoder: TextEncoder, device: torch.device
    ) -> None:
        self._student = student
        self._text_encoder = text_encoder
        self._device = device

    @property
    def voxel_size(self) -> float:
        """Metres: what points have to be given in, and cut into."""
        return self._student.needs.voxel_size

    @property
    def input(self) -> str:
        """What the student sees of a voxel: constant, geometry or color."""
        return self._student.needs.input

    def features(
        self,
        points: Tensor,
        colors: Tensor | None = None,
        normals: Tensor | None = None,
        *,
        votes: int = 1,
    ) -> Tensor:
        """(N, D) float32: the feature of each point.

        Args:
            points: (N, 3) float, metres, z up.
            colors: (N, 3) uint8; needed by a student of input `color`.
            normals: (N, 3) float, unit length; estimated where they are needed and not given.
            votes: cuts into voxels over which features are averaged.

        Raises:
            SceneError: the student sees colours and there are none.
            ValueError: an array does not have the shape above.
        """
        require_shape("points", points, None, 3)
        if colors is not None:
            require_shape("colors", colors, len(points), 3)
        if normals is not None:
            require_shape("normals", normals, len(points), 3)
        check_colors("given points", colors, self.input)
        cloud = StudentInput(points.float())
        if self.input != "constant":
            known = estimate_normals(points.float()) if normals is None else normals.float()
            cloud = cloud._replace(normals=known, colors=colors if self.input == "color" else None)
        network, looks = self._student.network, Looks(votes)
        return infer_point_features(network, cloud, self.voxel_size, self._device, looks=looks)

    def label(
        self,
        points: Tensor,
        colors: Tensor | None = None,
        categories: Sequence[str] = (),
        normals: Tensor | None = None,
        *,
        votes: int = 1,
    ) -> Tensor:
        """(N,) int64: for each point the category whose text is most similar to its feature.

        Args:
            points: as in `features`.
            colors: as in `features`.
            categories: what to tell apart, in plain words; indices of the answer count in them.
            normals: as in `features`.
            votes: as in `features`.

        Raises:
            ConfigError: there is no category, or one has no word that the text encoder knows.
            SceneError, ValueError: see `features`.
        """
        if not categories:
            raise ConfigError("there are no categories to choose from; give at least one word")
        texts = embed_names(self._text_encoder, self._student.prompt or "{}", categories)
        return predict_labels(self.features(points, colors, normals, votes=votes), texts)


def load_student(
    path: str | Path,
    *,
    device: str = "cpu",
    text_encoder: str = "static",
    weights: WeightStore | None = None,
) -> Labeller:
    """Load a trained student.

    Args:
        path: the workspace of a finished run, whose best measured student is taken, or
            `WORKSPACE:NAME` for another of its students; or a checkpoint file.
        device: where it computes, such as cpu or cuda.
        text_encoder: name of that of its training.
        weights: finds the files of the text encoder's weights; by default in the usual folder.

    Raises:
        ConfigError: there is no finished student, or texts cannot be compared with what it says.
        ArtifactError: its file is damaged.
    """
    source = resolve_checkpoint(str(path), None)
    student = load_pretrained(source, DistillConfig())
    encoder = build_text_encoder(text_encoder, weights)
    student.require_fit(encoder, text_encoder)
    return Labeller(student, encoder, torch.device(device))
