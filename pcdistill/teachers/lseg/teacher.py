"""LSeg as a teacher: dense features in the text space of CLIP ViT-B/32."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from pcdistill.suggest import look_up
from pcdistill.teachers.base import FeatureMap, TeacherSetup
from pcdistill.teachers.lseg.checkpoint import load_lseg
from pcdistill.teachers.lseg.network import LSegNetwork, LSegSizes, prepare_images
from pcdistill.teachers.lseg.views import LSEG_VIEWS

TEXT_SPACE = "clip-vit-b-32"
WEIGHTS = "lseg"
"""Entry of the table of weights."""
VERSION = 1
"""Of the ways to look at an image: other features need another one."""


class LSegTeacher:
    """Dense features of LSeg (Li et al., ICLR 2022) from its official checkpoint.

    Features are in half precision, at the resolution that the way of looking gives; on a GPU the
    network computes in half precision too. Weights are read at the first image.
    """

    def __init__(self, name: str, setup: TeacherSetup, sizes: LSegSizes | None = None) -> None:
        """Find the weights.

        Args:
            name: one of `LSEG_VIEWS`: how it looks at an image.
            setup: of the run.
            sizes: of the network; None: those of the official checkpoint.

        Raises:
            ConfigError: the weights are not there, or the run has another text space.
        """
        self._view = look_up("way of LSeg", name, LSEG_VIEWS)
        setup.require_text_space(name, TEXT_SPACE)
        self._path = setup.weights.find(WEIGHTS)
        self._device = setup.device
        self._sizes = sizes or LSegSizes()
        self.name = name
        self.text_space = TEXT_SPACE
        self.dimensions = self._sizes.dimensions
        self.provenance = setup.weights.provenance(WEIGHTS)
        self.provenance["revision"] += f"/{name}/{VERSION}"

    def __call__(self, image: Tensor) -> FeatureMap:
        """See a (3, H, W) uint8 image."""
        with torch.inference_mode():
            return self._view(self._network, prepare_images(image[None].to(self._device)))

    @cached_property
    def _network(self) -> LSegNetwork:
        network = load_lseg(self._path, self._sizes).to(self._device)
        return network.half() if self._device.type == "cuda" else network
