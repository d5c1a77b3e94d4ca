"""The detector of photographs as a teacher: boxes become masks, masks get a caption each."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import as_file, files

import torch
from torch import Tensor

from pcdistill.segmenters import BoxOutliner
from pcdistill.teachers.base import LabelledMasks, TextEncoder, ViewGeometry, read_words
from pcdistill.teachers.captions import Captioner, TemplateCaptioner, captions_provenance
from pcdistill.teachers.detector.boxes import Boxes, box_iou, choose_boxes
from pcdistill.teachers.detector.network import CLASSES, NanoDet, load_nanodet, prepare_images

WEIGHTS = "nanodet_g.safetensors"
REVISION = "nanodet-g/1"
"""Of weights and outlines: other masks need another one."""
_OWN_CAPTIONS = "template label-first"
MIN_SCORE = 0.3
"""That a box must exceed."""
MAX_OVERLAP = 0.5
"""IoU of two boxes of a class above which the less sure is a double."""
SAME_PLACE = 0.7
"""IoU above which boxes of different classes speak of one thing."""
MAX_BOX = 0.75
"""Share of the image above which a box is left out: it names the picture and outlines nothing."""
MIN_MASK = 0.0005
"""Share of the image below which a mask is left out."""
THING_ON = 0.25
"""Share of a mask's area below which another one inside of its box is a thing on it."""
INSIDE = 0.8
"""Share of the smaller box that lies in the larger one then."""

LABELS = {"dining table": "table", "potted plant": "plant", "tv": "television"}
"""Shorter nouns for what COCO annotates under a narrower name."""
SYNONYMS = {"couch": ("sofa",), "dining table": ("table",), "tv": ("television",)}
"""Names of other vocabularies for the same thing."""


class PhotoDetector:
    """Finds the 80 things of COCO in photographs, outlines and describes each.

    What is in a box is outlined from the image and, in the frames of a scan, from its depth and
    superpoints. Where masks overlap the surer one counts, but a much smaller one inside of a box is
    a thing on or before the larger one and keeps its pixels. What no mask covers stays unseen.

    By default a caption is "{label}: a {colour} {noun}", of the template captioner.
    """

    name = "detector"
    min_spoken = 0.35
    """A mask covers an object in more than half of its views, and what lies behind in a few."""

    def __init__(self, encoder: TextEncoder, captioner: Captioner | None = None) -> None:
        """Load the weights.

        Args:
            encoder: embeds captions; classes whose name says nothing to it are never named.
            captioner: by default the one that needs no weights, label first.

        Raises:
            ArtifactError: the weights are missing or damaged.
            UnreadableError: they cannot be read.
        """
        self._network = _load()
        self._encoder = encoder
        self._outline = BoxOutliner()
        self._captioner = captioner or TemplateCaptioner(label_first=True)
        self._embedded: dict[str, Tensor] = {}
        self._known = torch.tensor([bool(read_words(encoder, name).known) for name in CLASSES])
        self.text_space = encoder.text_space
        self.dimensions = encoder.dimensions
        self.provenance = {
            "training": "photographs of everyday scenes with boxes (COCO)",
            "revision": _revision(self._captioner),
            "licence": "Apache-2.0",
            "source": "RangiLyu/nanodet",
            **captions_provenance(self._captioner),
        }

    @property
    def taught(self) -> tuple[str, ...]:
        """The classes it was trained on, under their own and other vocabularies' names."""
        return tuple(
            word
            for name, known in zip(CLASSES, self._known.tolist(), strict=True)
            if known
            for word in (name, *SYNONYMS.get(name, ()))
        )

    def __call__(self, image: Tensor) -> LabelledMasks:
        """See a (3, H, W) uint8 image."""
        return self.predict_batch(image[None])[0]

    def predict_batch(self, images: Tensor) -> list[LabelledMasks]:
        """See (B, 3, H, W) uint8 images."""
        return self.predict_views(images, [ViewGeometry(None, None)] * len(images))

    def predict_views(
        self, images: Tensor, geometry: Sequence[ViewGeometry]
    ) -> list[LabelledMasks]:
        """See (B, 3, H, W) uint8 images of a scan, and what is known of the surface in each."""
        with torch.inference_mode():
            levels = self._network(prepare_images(images))
            found = choose_boxes(levels, MIN_SCORE, MAX_OVERLAP)
        size = (images.shape[2], images.shape[3])
        return [
            self._describe(image, self._worth_outlining(boxes.scaled_to(size), size), known)
            for image, boxes, known in zip(images, found, geometry, strict=True)
        ]

    def _worth_outlining(self, boxes: Boxes, size: tuple[int, int]) -> Boxes:
        """Those that are not contradicted, outline something and have a known name."""
        boxes = drop_contradicted(boxes)
        width, height = (boxes.corners[:, 2:] - boxes.corners[:, :2]).unbind(dim=1)
        small = width * height <= MAX_BOX * size[0] * size[1]
        kept = small & self._known[boxes.classes]
        return Boxes(*(part[kept] for part in boxes))

    def _describe(self, image: Tensor, boxes: Boxes, known: ViewGeometry) -> LabelledMasks:
        outlines = self._outline(image, boxes.corners, known.depth, known.superpoint_ids)
        mask_ids, rows = paint_masks(outlines, boxes, int(MIN_MASK * outlines[0:1].numel()))
        nouns = tuple(CLASSES[int(boxes.classes[row])] for row in rows)
        labels = tuple(LABELS.get(noun, noun) for noun in nouns)
        captions = self._captioner(image, mask_ids, labels, nouns)
        return LabelledMasks(mask_ids, self._embed(captions), labels, captions)

    def _embed(self, captions: Sequence[str]) -> Tensor:
        new = sorted(set(captions) - self._embedded.keys())
        if new:
            self._embedded.update(zip(new, self._encoder.encode(new), strict=True))
        if not captions:
            return torch.zeros(0, self.dimensions)
        return torch.stack([self._embedded[caption] for caption in captions])


def paint_masks(outlines: Tensor, boxes: Boxes, smallest: int) -> tuple[Tensor, list[int]]:
    """Decide between overlapping outlines.

    Args:
        outlines: (n, H, W) bool, of each box.
        boxes: n, the surest first.
        smallest: pixels below which a mask is left out.

    Returns:
        mask_ids: (H, W) int32, position in the second value, -1 where there is no mask.
        rows: box of each mask that is left.
    """
    own = outlines.clone()
    areas = outlines.sum(dim=(1, 2))
    for small, large in _things_on(boxes, areas):
        own[large] &= ~outlines[small]
    mask_ids = torch.full(outlines.shape[1:], -1, dtype=torch.int32)
    for row in reversed(range(len(own))):  # the surest last, over all others
        mask_ids[own[row]] = row
    left = torch.bincount(mask_ids[mask_ids >= 0], minlength=len(own)) >= max(smallest, 1)
    rows = left.nonzero()[:, 0].tolist()
    number = torch.full((len(own) + 1,), -1, dtype=torch.int32)
    number[torch.tensor(rows, dtype=torch.int64)] = torch.arange(len(rows), dtype=torch.int32)
    return number[mask_ids.long()], rows


def _things_on(boxes: Boxes, areas: Tensor) -> list[tuple[int, int]]:
    """Pairs (small, large) of which the small one is a thing on or before the large one."""
    smaller = areas[:, None] < THING_ON * areas[None, :]
    pairs = smaller & _inside(boxes.corners)
    return [(int(small), int(large)) for small, large in pairs.nonzero()]


def drop_contradicted(boxes: Boxes) -> Boxes:
    """Boxes, the surest first, without those of which a surer one says something else.

    It lies where they lie, under another name, or is of their class, inside and much smaller: then
    they hold the surroundings of the thing as well.
    """
    sizes = (boxes.corners[:, 2:] - boxes.corners[:, :2]).prod(dim=1)
    smaller = sizes[:, None] < THING_ON * sizes[None, :]
    rank = torch.arange(len(sizes))
    surer = rank[:, None] < rank
    same = boxes.classes[:, None] == boxes.classes
    around = smaller & same & _inside(boxes.corners)
    renamed = box_iou(boxes.corners, boxes.corners) > SAME_PLACE
    kept = ~(surer & (around | renamed)).any(dim=0)
    return Boxes(*(part[kept] for part in boxes))


def _inside(corners: Tensor) -> Tensor:
    """(n, n) bool: whether the first of two boxes lies, but for a little, in the second."""
    low = torch.maximum(corners[:, None, :2], corners[None, :, :2])
    high = torch.minimum(corners[:, None, 2:], corners[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    return shared >= INSIDE * (corners[:, 2:] - corners[:, :2]).prod(dim=1)[:, None]


def _revision(captioner: Captioner) -> str:
    """Of what the detector sees and, where it is another captioner than its own, of its texts."""
    said = f"{captioner.name} {captioner.provenance['revision']}"
    return REVISION if said == _OWN_CAPTIONS else f"{REVISION} {said}"


def _load() -> NanoDet:
    with as_file(files("pcdistill.teachers.detector") / "weights" / WEIGHTS) as path:
        return load_nanodet(path)
