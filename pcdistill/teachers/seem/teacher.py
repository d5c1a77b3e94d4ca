"""SEEM as a teacher: segments of an image, described in words of the run's text space."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pcdistill.teachers.base import LabelledMasks, TeacherSetup, read_words
from pcdistill.teachers.captions import build_captioner, captions_provenance
from pcdistill.teachers.embedding_cache import EmbeddingCache, default_cache_folder
from pcdistill.teachers.open_clip_package import import_open_clip
from pcdistill.teachers.seem.checkpoint import load_seem
from pcdistill.teachers.seem.class_embeddings import embed_classes
from pcdistill.teachers.seem.masks import MASK_STYLES, ImageQueries, MaskStyle, NamedMasks
from pcdistill.teachers.seem.network import SeemNetwork, SeemSizes, normalize_and_pad
from pcdistill.teachers.seem.vocabulary import class_prompts

SHORT_SIDE = 512
"""Pixels of the shorter side of the network's image."""
PROMPTS = "prompts-1"
"""Of what class embeddings are means of; another one where they would differ."""


class SeemTeacher:
    """Divides an image into segments of 138 classes and describes each.

    A segment's class is one of COCO panoptic's 133 or of five indoor things that the paper asks for
    besides. Its text is the captioner's, with the class as noun, embedded by the text encoder of
    the run. What no segment covers stays unseen.

    On a GPU the network computes in half precision, but for the embeddings of its classes.
    """

    def __init__(
        self,
        setup: TeacherSetup,
        *,
        weights: str = "seem",
        style: str = "segments",
        sizes: SeemSizes | None = None,
        cache_folder: Path | None = None,
    ) -> None:
        """Find the weights; they are read when the first image is seen.

        Args:
            setup: classes whose name says nothing to its text encoder are never named.
            weights: "seem" or "seem-v1", entry of the table of weights.
            style: of `MASK_STYLES`; "released" only serves to reproduce numbers.
            sizes: of the network, by default Focal-L.
            cache_folder: where embeddings of the classes are kept; by default in the user's cache.

        Raises:
            ConfigError: the weights are not on this machine.
        """
        self.name = weights if style == "segments" else f"{weights}-{style}"
        self._weights = weights
        self._path = setup.weights.find(weights)
        self._setup = setup
        self._sizes = sizes
        self._cache_folder = default_cache_folder() if cache_folder is None else cache_folder
        self._style: MaskStyle = MASK_STYLES[style]
        wording = self._style.caption_wording or setup.caption_wording
        self._captioner = build_captioner(setup._replace(caption_wording=wording))
        encoder = setup.text_encoder
        self._nouns = [self._style.noun(name) for name in self._style.vocabulary.names]
        self._known = [bool(read_words(encoder, noun).known) for noun in self._nouns]
        self.text_space = encoder.text_space
        self.dimensions = encoder.dimensions
        of_weights = setup.weights.provenance(weights)
        said = f"{self._captioner.name} {self._captioner.provenance['revision']}"
        self.provenance = {
            **of_weights,
            "revision": f"{of_weights['revision']} {self._style.revision} {said}",
            **captions_provenance(self._captioner),
        }

    @property
    def taught(self) -> tuple[str, ...]:
        """The classes it names."""
        return tuple(
            noun
            for number, noun in enumerate(self._nouns)
            if self._known[number] and number != self._style.vocabulary.void
        )

    def __call__(self, image: Tensor) -> LabelledMasks:
        """See a (3, H, W) uint8 image."""
        return self.predict_batch(image[None])[0]

    def predict_batch(self, images: Tensor) -> list[LabelledMasks]:
        """See (B, 3, H, W) uint8 images.

        Raises:
            ArtifactError: the weights are damaged or of another network.
            MissingExtraError: open_clip, whose tokenizer reads the classes, is not installed.
        """
        image_size = (images.shape[2], images.shape[3])
        resized = torch.stack([resize_short_side(image, SHORT_SIDE) for image in images])
        given = normalize_and_pad(resized.to(self._setup.device))
        with torch.inference_mode():
            classes = self._class_embeddings
            with self._precision():
                prediction = self._network(given, classes)
            views = [
                ImageQueries(
                    logits.float(),
                    masks.float(),
                    padded_size=(given.shape[2], given.shape[3]),
                    network_size=(resized.shape[2], resized.shape[3]),
                    image_size=image_size,
                )
                for logits, masks in zip(prediction.logits, prediction.mask_logits, strict=True)
            ]
            found = [self._style.masks(view, self._style.vocabulary) for view in views]
        return [self._describe(*pair) for pair in zip(images, found, strict=True)]

    def _describe(self, image: Tensor, masks: NamedMasks) -> LabelledMasks:
        mask_ids, categories = keep_known(masks, self._known)
        labels = tuple(self._nouns[category] for category in categories)
        captions = self._captioner(image, mask_ids, labels)
        encoder = self._setup.text_encoder
        embeddings = encoder.encode(captions) if captions else torch.zeros(0, self.dimensions)
        return LabelledMasks(mask_ids, embeddings, labels, captions)

    @cached_property
    def _network(self) -> SeemNetwork:
        return load_seem(self._path, self._sizes).to(self._setup.device)

    @cached_property
    def _class_embeddings(self) -> Tensor:
        """(C, P) float32, of the classes in the model's own text space; kept on disk."""
        names = self._style.vocabulary.names
        encoder = self._network.language_encoder
        revision = f"{self._setup.weights.revision(self._weights)}-{PROMPTS}"
        cache = EmbeddingCache(self._cache_folder, "seem", revision, encoder.dimensions)
        missing = [name for name in names if cache.get(name) is None]
        if missing:
            tokenizer = import_open_clip(f"teacher '{self.name}'").SimpleTokenizer()
            token_ids = torch.stack([tokenizer(class_prompts(name)) for name in missing])
            found = embed_classes(encoder, token_ids.to(self._setup.device)).cpu()
            for name, embedding in zip(missing, found, strict=True):
                cache.put(name, embedding)
        kept = [embedding for name in names if (embedding := cache.get(name)) is not None]
        return torch.stack(kept).to(self._setup.device)

    def _precision(self) -> AbstractContextManager[object]:
        if self._setup.device.type == "cuda":
            return torch.autocast("cuda", dtype=torch.float16)
        return nullcontext()


def keep_known(masks: NamedMasks, known: list[bool]) -> NamedMasks:
    """Leave out masks whose class is not known, on the CPU.

    Args:
        masks: of an image.
        known: of each class.
    """
    rows = [row for row, category in enumerate(masks.categories) if known[category]]
    number = torch.full((len(masks.categories) + 1,), -1, dtype=torch.int32)
    number[torch.tensor(rows, dtype=torch.int64)] = torch.arange(len(rows), dtype=torch.int32)
    return NamedMasks(number[masks.mask_ids.cpu().long()], [masks.categories[r] for r in rows])


def resize_short_side(image: Tensor, side: int) -> Tensor:
    """Resize (3, H, W) uint8 so that the shorter side has that many pixels; bicubic, as Pillow."""
    height, width = image.shape[1:]
    short = min(height, width)
    size = (side * width // short, side * height // short)
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())
    resized = picture.resize(size, Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)
