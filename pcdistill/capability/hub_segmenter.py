"""Segmenters of package transformers that take points: SAM 2 and SAM 3, from a local folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcdistill.capability.interfaces import SynthesisSetup
from pcdistill.segmenters import check_point_prompts
from pcdistill.teachers import HubFolder, require_transformers


class _Classes(NamedTuple):
    """Names in transformers."""

    model: str
    processor: str


HUB_SEGMENTERS: dict[str, _Classes] = {
    "sam2": _Classes("Sam2Model", "Sam2Processor"),
    "sam3": _Classes("Sam3TrackerModel", "Sam3TrackerProcessor"),
}
"""Entry of the table of weights -> who reads it. Of SAM 3 the part that takes points."""


class HubSegmenter:
    """Point-prompted segmentation by a network of transformers, computed in float32.

    All points are on the object, and one mask is asked for, as of Segment Anything. Weights are
    read when the first image is outlined, and kept; nothing is fetched.
    """

    def __init__(self, name: str, setup: SynthesisSetup) -> None:
        """Find the folder of an entry of `HUB_SEGMENTERS`; read nothing yet.

        Raises:
            ConfigError: it is not on this machine, or not complete.
            MissingExtraError: transformers is not installed.
        """
        user = f"segmenter '{name}'"
        require_transformers(user)
        self.name = name
        self.provenance: Mapping[str, str] = setup.weights.provenance(name)
        self._folder = HubFolder(setup.weights.find(name), name, user)
        self._device = setup.device

    @cached_property
    def _model(self) -> Any:
        return self._folder.load_model(HUB_SEGMENTERS[self.name].model).to(self._device)

    @cached_property
    def _processor(self) -> Any:
        return self._folder.load_processor(HUB_SEGMENTERS[self.name].processor)

    @torch.no_grad()
    def __call__(self, image: Tensor, points: Tensor) -> Tensor:
        """Outline the object that the points lie on.

        Args:
            image: (3, H, W) uint8 RGB.
            points: (P, 2) int64, (x, y) = (column, row), P >= 1.

        Returns:
            (H, W) bool, on the image's device. It may be empty, or leave out points.

        Raises:
            ValueError: other shapes or dtypes, no point, or a point outside the image.
            ArtifactError: the folder is damaged, or that of another network.
        """
        check_point_prompts(image, points)
        given = self._processor(
            images=image.cpu(),
            input_points=[[points.tolist()]],
            input_labels=[[[1] * len(points)]],
            return_tensors="pt",
        ).to(self._device)
        sizes = given.pop("original_sizes")
        found = self._model(**given, multimask_output=False)
        (masks,) = self._processor.post_process_masks(found.pred_masks.cpu(), sizes.cpu())
        mask: Tensor = masks[0, 0]  # (1, 1, H, W): one object, one mask
        return mask.to(image.device)
