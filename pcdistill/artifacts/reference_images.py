"""Synthesised images of a class: heat maps and masks, and which images were left out and why."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from pcdistill.pipeline import Workspace, read_provenance, read_tensors


class ReferenceFacts(NamedTuple):
    """What is known of the images of a class without reading them."""

    drawn: int
    """How many images there were."""
    left_out: dict[str, tuple[int, ...]]
    """Reason -> numbers of the images that have no mask for it, from 0 in the order of drawing."""
    segmenter: str
    threshold: float
    """Of the heat maps."""
    clean_border: bool
    """Whether the coarse masks' rims were cleared."""

    @property
    def kept(self) -> int:
        """How many images have a mask."""
        return self.drawn - sum(len(numbers) for numbers in self.left_out.values())


class ReferenceViews(NamedTuple):
    """The m images of a class whose masks are believed."""

    images: Tensor
    """(m, 3, H, W) uint8 RGB."""
    attention: Tensor
    """(m, H, W) float16 in [0, 1], heat maps of the class."""
    masks: Tensor
    """(m, H, W) bool, pseudo masks."""


def load_reference_facts(workspace: Workspace, category: str) -> ReferenceFacts | None:
    """Read what is known of the images of a class; None where the run has none.

    Raises:
        ArtifactError: the file is damaged.
    """
    file = workspace.reference_images(category)
    if not file.exists():
        return None
    told = read_provenance(file)
    return ReferenceFacts(
        told["drawn"],
        {reason: tuple(numbers) for reason, numbers in told["left_out"].items()},
        told["segmenter"]["name"],
        told["threshold"],
        told["clean_border"],
    )


def load_reference_views(workspace: Workspace, category: str) -> ReferenceViews:
    """Read the images of a class, their heat maps and masks.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    tensors = read_tensors(workspace.reference_images(category), ReferenceViews._fields)
    return ReferenceViews(tensors["images"], tensors["attention"], tensors["masks"].bool())
