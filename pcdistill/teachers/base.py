"""Interfaces of teachers and text encoders, and the results of teachers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.errors import ConfigError
from pcdistill.geometry import sample_feature_map
from pcdistill.teachers.known_words import Words
from pcdistill.teachers.weight_files import WeightStore


class FeatureMap(NamedTuple):
    """Result of a dense teacher: a vector in the text space for every cell of a grid."""

    features: Tensor
    """(D, h, w) float, at the teacher's own resolution, never upsampled."""
    image_size: tuple[int, int]
    """(H, W) pixels of the image that the map describes."""
    align_corners: bool = False
    """Which bilinear convention the teacher's authors use to upsample to the image."""
    covered: tuple[float, float] | None = None
    """(H, W) pixels that the map spans from the top left corner, where these are not the image's:
    the teacher padded the image and cut the padding off to whole cells."""

    def sample(self, pixels: Tensor) -> Tensor:
        """Features (M, D) float32 at integer `pixels` (M, 2), (u, v) = (column, row).

        Equal to upsampling the whole map to the image first and then indexing it, without ever
        building the (D, H, W) map.
        """
        return self._sample(self.features, pixels)

    def classify(self, text_embeddings: Tensor) -> Tensor:
        """Best of the K `text_embeddings` (K, D) for every pixel: (H, W) int64.

        Similarities are linear in the features, so they are upsampled instead of the features.
        """
        scores = torch.einsum("dhw,kd->khw", self.features.float(), text_embeddings.float())
        if self.covered is not None:
            pixels = torch.cartesian_prod(*(torch.arange(side) for side in self.image_size)).flip(1)
            return self._sample(scores, pixels).argmax(dim=1).reshape(self.image_size)
        upsampled = functional.interpolate(
            scores[None],
            self.image_size,
            mode="bilinear",
            align_corners=self.align_corners,
        )
        return upsampled[0].argmax(dim=0)

    def _sample(self, values: Tensor, pixels: Tensor) -> Tensor:
        """(M, C) float32 at `pixels`, of a map (C, h, w) on the grid of the features."""
        return sample_feature_map(
            values,
            self.image_size,
            pixels,
            align_corners=self.align_corners,
            covered=self.covered,
        )


class LabelledMasks(NamedTuple):
    """Result of a teacher of masks: regions, each with a noun and an embedding."""

    mask_ids: Tensor
    """(H, W) int32 row of `embeddings`, -1 where the teacher has nothing to say."""
    embeddings: Tensor
    """(m, D) float32, unit length, the text embedding of each mask's caption."""
    labels: tuple[str, ...]
    """m nouns, the teacher's own label of each mask."""
    captions: tuple[str, ...]
    """m captions with the label in the place of their noun (SAS 3.1); the embeddings' texts."""

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) pixels of the image that the masks describe."""
        return (self.mask_ids.shape[0], self.mask_ids.shape[1])

    def mask_at(self, pixels: Tensor) -> Tensor:
        """Mask row (M,) int64 at integer `pixels` (M, 2), (u, v) = (column, row); -1 for none."""
        return self.mask_ids[pixels[:, 1], pixels[:, 0]].long()

    def classify(self, text_embeddings: Tensor) -> Tensor:
        """Best of the K `text_embeddings` (K, D) for every pixel: (H, W) int64, -1 for none."""
        if len(self.labels) == 0:
            return torch.full(self.image_size, -1, dtype=torch.int64)
        best = (self.embeddings.float() @ text_embeddings.float().T).argmax(dim=1)
        with_none = torch.cat([best, best.new_full((1,), -1)])
        return with_none[self.mask_ids.long()]


class Teacher(Protocol):
    """Frozen 2D model that tells what is where in an image."""

    name: str
    text_space: str
    """Teachers are fused only inside one text space."""
    dimensions: int
    """D, channels of its features."""
    provenance: dict[str, str]
    """Revision, licence and training of the weights, written into every artefact."""

    def __call__(self, image: Tensor) -> FeatureMap | LabelledMasks:
        """Run on a (3, H, W) uint8 RGB image."""
        ...


@runtime_checkable
class BatchTeacher(Protocol):
    """A teacher that is quicker on several images of one size at once; optional."""

    def predict_batch(self, images: Tensor) -> Sequence[FeatureMap | LabelledMasks]:
        """Run on (B, 3, H, W) uint8 RGB images; the same as one at a time, to rounding."""
        ...


class ViewGeometry(NamedTuple):
    """What a scan knows of the surface in one of its images."""

    depth: Tensor | None
    """(H, W) float32 metres along the optical axis, of what stands first; 0 where unknown."""
    superpoint_ids: Tensor | None
    """(H, W) int32, superpoint of the point seen at a pixel, -1 where no point lands."""


@runtime_checkable
class GeometryTeacher(Protocol):
    """A teacher whose outlines follow the scan's surface where it is known; optional.

    A run cuts its scans into superpoints before such a teacher looks at them.
    """

    def predict_views(
        self, images: Tensor, geometry: Sequence[ViewGeometry]
    ) -> Sequence[FeatureMap | LabelledMasks]:
        """See (B, 3, H, W) uint8 RGB images of a scan, and what is known of each."""
        ...


@runtime_checkable
class SelectiveTeacher(Protocol):
    """A teacher that names few things and is silent about the rest; optional."""

    min_spoken: float
    """Share of the views of a point, in [0, 1], in which it must say something about the point."""


@runtime_checkable
class TaughtTeacher(Protocol):
    """A teacher that knows which classes it was taught; optional."""

    @property
    def taught(self) -> tuple[str, ...]:
        """Their names, as its training data has them."""
        ...


def taught_words(teacher: Teacher, vocabulary: Sequence[str]) -> tuple[str, ...] | None:
    """Words of a vocabulary, in its order, that a teacher was taught; None where it cannot tell."""
    if not isinstance(teacher, TaughtTeacher):
        return None
    known = {name.lower() for name in teacher.taught}
    return tuple(word for word in vocabulary if word.lower() in known)


def teacher_revision(teacher: Teacher) -> str:
    """Name the weights that a teacher uses; other weights give other artifacts."""
    return teacher.provenance.get("revision", "unknown")


def encoder_revision(encoder: TextEncoder) -> str | None:
    """Name the weights that a text encoder uses; None for one that comes with the package."""
    provenance: dict[str, str] = getattr(encoder, "provenance", {})
    return provenance.get("revision")


def predict_batch(
    teacher: Teacher, images: Tensor, geometry: Sequence[ViewGeometry] | None = None
) -> Sequence[FeatureMap | LabelledMasks]:
    """Run any teacher on (B, 3, H, W) uint8 images: at once where it can, else one by one.

    Args:
        teacher: one that takes no geometry is given none.
        images: of one size.
        geometry: of each image; None where there is no scan.
    """
    if geometry is not None and isinstance(teacher, GeometryTeacher):
        return teacher.predict_views(images, geometry)
    if isinstance(teacher, BatchTeacher):
        return teacher.predict_batch(images)
    return [teacher(image) for image in images]


class TextEncoder(Protocol):
    """Words as unit vectors in a text space shared with teachers."""

    text_space: str
    dimensions: int

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Embed K texts as (K, D) float32 rows of unit length."""
        ...


class TeacherSetup(NamedTuple):
    """What a teacher is built with."""

    text_encoder: TextEncoder
    """Of the run; a teacher that describes what it finds in words embeds them by it."""
    weights: WeightStore = WeightStore()
    """Finds the files of weights on this machine."""
    device: torch.device = torch.device("cpu")
    """Where the teacher computes."""
    captioner: str = "template"
    """Name of what finds the texts of masks, for teachers of masks."""
    caption_wording: str = "paper"
    """Name of how a captioning network's text is joined with the label of a mask."""
    vocabulary: tuple[str, ...] = ()
    """Words of the run, for a teacher that finds what it is asked for. They belong to its revision,
    so that other words make stale what it saw."""

    def require_text_space(self, teacher: str, text_space: str) -> None:
        """Refuse a teacher that lives in another text space than the run.

        A teacher that does not embed by the encoder calls this before it looks for weights.

        Raises:
            ConfigError: the two differ; the message names both.
        """
        if text_space != self.text_encoder.text_space:
            raise ConfigError(
                f"teacher '{teacher}' lives in the text space '{text_space}' but the text encoder "
                f"of the run gives '{self.text_encoder.text_space}'; only teachers of one text "
                "space can be fused, so change run.teachers or run.text_encoder"
            )


@runtime_checkable
class WordReader(Protocol):
    """A text encoder that can tell which words it has a meaning for."""

    def words(self, text: str, own: Collection[str] = ()) -> Words:
        """The words of a text that the encoder knows, and the others.

        Args:
            text: in any alphabet.
            own: words that count as known besides, those of a run.
        """
        ...


def read_words(encoder: TextEncoder, text: str, own: Collection[str] = ()) -> Words:
    """Ask any text encoder for the words it knows; one that cannot tell knows them all.

    Args:
        encoder: any text encoder.
        text: what is asked.
        own: words that count as known in any case.
    """
    if isinstance(encoder, WordReader):
        return encoder.words(text, own)
    return Words(tuple(text.split()), (), text, not text.strip())
