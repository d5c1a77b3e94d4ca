"""Interfaces of captioners: what is said of each mask of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from pcdistill.teachers.captions.wording import CaptionWording


class Captioner(Protocol):
    """Finds a text for each labelled mask of an image; its embedding stands for the mask."""

    name: str
    provenance: dict[str, str]
    """Revision, licence and training of its weights; a revision says how texts are put together."""

    def __call__(
        self,
        image: Tensor,
        mask_ids: Tensor,
        labels: Sequence[str],
        nouns: Sequence[str] | None = None,
    ) -> tuple[str, ...]:
        """Describe the masks of one image.

        Args:
            image: (3, H, W) uint8, RGB.
            mask_ids: (H, W) int32 position in `labels`, -1 where there is no mask.
            labels: m, what the teacher calls each mask.
            nouns: m, fuller names of the same things ("dining table" for "table"), by default
                the labels.

        Returns:
            m texts, which hold the nouns.
        """
        ...


class RegionDescriber(Protocol):
    """An image captioner for regions that knows nothing of labels."""

    name: str
    provenance: dict[str, str]

    def describe(self, image: Tensor, mask_ids: Tensor, count: int) -> tuple[str, ...]:
        """Say what is in each region of one image.

        Args:
            image: (3, H, W) uint8, RGB.
            mask_ids: (H, W) int32 region, -1 for none.
            count: m, regions; one that no pixel belongs to gets a text, too.

        Returns:
            m texts, empty where there is nothing to say.
        """
        ...


class WordedCaptioner:
    """A describer of regions whose texts are joined with the labels of the masks."""

    def __init__(
        self, describer: RegionDescriber, wording: CaptionWording, wording_name: str
    ) -> None:
        """Join what `describer` says by `wording`, which is called `wording_name` in records."""
        self.name = describer.name
        self._describer = describer
        self._wording = wording
        revision = f"{describer.provenance['revision']} {wording_name}"
        self.provenance = {**describer.provenance, "revision": revision}

    def __call__(
        self,
        image: Tensor,
        mask_ids: Tensor,
        labels: Sequence[str],
        nouns: Sequence[str] | None = None,
    ) -> tuple[str, ...]:
        """Describe the masks of one image; see `Captioner`."""
        if not labels:
            return ()
        said = self._describer.describe(image, mask_ids, len(labels))
        return tuple(
            self._wording(caption, noun)
            for caption, noun in zip(said, labels if nouns is None else nouns, strict=True)
        )


def captions_provenance(captioner: Captioner) -> dict[str, str]:
    """What a teacher tells artefacts of a captioner with weights; nothing of one without."""
    known = captioner.provenance
    if "weights" not in known:
        return {}
    return {
        "captions": f"{known['weights']}, revision {known['revision']}, {known['licence']}, "
        f"trained on {known['training']}"
    }
