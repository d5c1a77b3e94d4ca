"""What stands in a report, before it is a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from pcdistill.evaluation import Comparison
from pcdistill.geometry import require_shape
from pcdistill.inference import QueryMatch


@dataclass(frozen=True)
class MethodRow:
    """How one method did, in per cent.

    Raises:
        ValueError: a number is not in 0 to 100. Methods that could not be measured have no row.
    """

    name: str
    """`teacher:<name>`, `average`, `linear`, `binary`, `shuffled`, `fused`, `oracle`,
    `fused+voxels`, `fused+superpoints`, `student:point`, `student:superpoint`,
    `student:superpoint+ensemble` or `student:pretrained`; other names are shown as they are."""
    miou: float
    macc: float
    per_class: Mapping[str, float | None]
    """IoU of each class; None for a class without a true point."""
    per_class_accuracy: Mapping[str, float | None] = field(default_factory=dict)
    overall_accuracy: float | None = None
    """Share of points that are right; None where an older version measured."""
    interval: tuple[float, float] | None = None
    """95 % interval of the mIoU over scenes; None with a single scene."""

    def __post_init__(self) -> None:
        numbers = {"mIoU": self.miou, "mAcc": self.macc}
        numbers |= {f"IoU of {k}": v for k, v in self.per_class.items() if v is not None}
        for what, value in numbers.items():
            if not 0 <= value <= 100 + 1e-9:
                raise ValueError(
                    f"row '{self.name}': {what} is {value}, expected 0 to 100 per cent"
                )


@dataclass(frozen=True, eq=False)
class ConfusionFindings:
    """What one method takes the points of each class for."""

    method: str
    classes: tuple[str, ...]
    counts: Tensor
    """(K + 1, K) int64, points by predicted and true category, the last row those without one."""

    def __post_init__(self) -> None:
        require_shape("counts", self.counts, len(self.classes) + 1, len(self.classes))


@dataclass(frozen=True, eq=False)
class CapabilityFindings:
    """How well each teacher finds each word, measured on generated images.

    Raises:
        ValueError: the table has another shape than its names.
    """

    teachers: tuple[str, ...]
    vocabulary: tuple[str, ...]
    values: Tensor
    """(T, K) float in [0, 1]; NaN for a word of which there is no image."""
    true: Tensor | None = None
    """(T, K) float in [0, 1], the teachers' true IoU; NaN where nothing is known of it."""
    intervals: Tensor | None = None
    """(T, K, 2) float in [0, 1], low and high end of each value's interval over images; NaN where
    there is none."""
    images: tuple[int, ...] | None = None
    """How many images of each word were compared."""
    origin: str | None = None
    """Table that the values are from; None where the run measured them."""

    def __post_init__(self) -> None:
        require_shape("values", self.values, len(self.teachers), len(self.vocabulary))
        if self.true is not None:
            require_shape("true", self.true, len(self.teachers), len(self.vocabulary))
        if self.intervals is not None:
            size = len(self.teachers), len(self.vocabulary), 2
            require_shape("intervals", self.intervals, *size)


@dataclass(frozen=True, eq=False)
class ExampleTile:
    """One view of a generated image: itself, its heat map, or a mask in it."""

    caption: str
    image: Tensor
    """(H, W, 3) uint8."""

    def __post_init__(self) -> None:
        require_shape("image", self.image, None, None, 3)


@dataclass(frozen=True, eq=False)
class ClassExamples:
    """Generated images of one word, and what was found in them."""

    word: str
    note: str
    """How many there are, and which were left out for what reason; a sentence."""
    samples: tuple[tuple[ExampleTile, ...], ...]
    """For each image the same views, in the same order."""


@dataclass(frozen=True, eq=False)
class ReferenceSheet:
    """Examples of the generated images by which teachers are compared."""

    summary: str
    """How many images of all words were left out for what reason; a sentence."""
    classes: tuple[ClassExamples, ...]


@dataclass(frozen=True)
class HeatScale:
    """What the colours of `colorize_scores` mean in one picture."""

    title: str
    low: float
    """Value of the first colour; larger than `high` where small values stand out."""
    high: float
    other: LabelColor | None = None
    """A colour beside the scale."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One image of the page."""

    section: str
    """Pictures of the same section stand together, sections in the order in which they begin."""
    caption: str
    image: Tensor
    """(H, W, 3) uint8."""
    alt: str = ""
    """What is to be seen, for those who do not see it; the caption by default."""
    scale: HeatScale | None = None
    """Legend of a heat map."""

    def __post_init__(self) -> None:
        require_shape("image", self.image, None, None, 3)


NOTHING_FITS = "nothing looks like that"


@dataclass(frozen=True)
class AskedQuestion:
    """The best answer to one question."""

    text: str
    method: str
    """Whose features answered, a name of the results table."""
    scene: str
    match: QueryMatch | None
    """The place that was found; None where nothing fits."""
    correct: bool | None = None
    """Whether that answers the question; None where nobody can tell."""


@dataclass(frozen=True)
class StageCost:
    """What one stage took."""

    stage: str
    units: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class LabelColor:
    """A colour of a legend: a category in all pictures, or what it means in one."""

    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything on the page. Whatever is empty is left out of it."""

    title: str
    protocol: str
    """`Protocol.describe`, or in words why nothing was measured."""
    seed: int
    summary: tuple[str, ...] = ()
    """Paragraphs: what was measured, in plain words."""
    rows: tuple[MethodRow, ...] = ()
    conclusions: tuple[str, ...] = ()
    """What the rows say, in sentences."""
    differences: tuple[Comparison, ...] = ()
    """The differences in them."""
    confusions: tuple[ConfusionFindings, ...] = ()
    """Of the methods that are drawn so."""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """What was measured and by what, as JSON values: the protocol's choices, label set, prompts,
    teachers with their revisions, software, scenes."""
    capability: CapabilityFindings | None = None
    examples: ReferenceSheet | None = None
    labels: tuple[LabelColor, ...] = ()
    pictures: tuple[Picture, ...] = ()
    queries: tuple[AskedQuestion, ...] = ()
    costs: tuple[StageCost, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Versions, configuration hash, device and the like, by name."""
    notes: tuple[str, ...] = ()
    """Sentences that the reader must not miss."""
