"""SAM 3 as a teacher: masks of what each word of the run's vocabulary names.

Source: Carion et al., SAM 3: Segment Anything with Concepts, 2025; thresholds are those of its
documentation in transformers.
"""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.errors import ConfigError
from pcdistill.teachers.base import LabelledMasks, TeacherSetup, read_words
from pcdistill.teachers.captions import build_captioner, captions_provenance
from pcdistill.teachers.hub_models import HubFolder
from pcdistill.teachers.transformers_package import import_transformers, require_transformers

WEIGHTS = "sam3"
REVISION = "concepts-1"
"""Of prompts and masks; another one where they would differ."""
MIN_SCORE = 0.5
"""Probability that a mask must exceed: that the word is there, times that the mask is one of it."""
MIN_INSIDE = 0.5
"""Probability that a pixel of a mask must exceed."""
MIN_LEFT = 0.5
"""Share of a mask below which it is left out, where surer masks took the rest."""
WORDS_AT_ONCE = 4
"""Each carries maps of the image at a quarter of its size."""
_DIGEST = 8
"""Hexadecimal digits that name the words."""


class TextFeatures(NamedTuple):
    """What the network makes of K words."""

    features: Tensor
    """(K, L, D) float."""
    seen: Tensor
    """(K, L) int64, 1 for a token and 0 for padding."""


class FoundMasks(NamedTuple):
    """Masks of an image before their overlaps are settled."""

    masks: Tensor
    """(n, H, W) bool."""
    scores: Tensor
    """(n,) float32, probabilities."""
    words: Tensor
    """(n,) int64, the word that each was asked for by."""


class Sam3Teacher:
    """Looks for each word of a vocabulary in an image; a mask's label is the word.

    An image is encoded once, and each word once for all images. Where masks overlap the surer one
    counts. A mask's text is the captioner's, embedded by the text encoder of the run; what no mask
    covers stays unseen. Words that say nothing to the text encoder are not looked for.

    On a GPU the network computes in bfloat16, as its authors do.
    """

    name = WEIGHTS

    def __init__(self, setup: TeacherSetup) -> None:
        """Find the folder of the weights; they are read when the first image is seen.

        Raises:
            ConfigError: it is not on this machine, or not whole; or there are no words.
            MissingExtraError: transformers is not installed.
        """
        user = f"teacher '{WEIGHTS}'"
        self._folder = HubFolder(setup.weights.find(WEIGHTS), WEIGHTS, user)
        require_transformers(user)
        if not setup.vocabulary:
            raise ConfigError(
                f"{user} looks for the words that it is given, and there are none; name them in "
                "run.vocabulary, or as vocabulary of its TeacherSetup"
            )
        encoder = setup.text_encoder
        self._words = tuple(
            word for word in dict.fromkeys(setup.vocabulary) if read_words(encoder, word).known
        )
        self._setup = setup
        self._captioner = build_captioner(setup)
        self.text_space = encoder.text_space
        self.dimensions = encoder.dimensions
        known = setup.weights.provenance(WEIGHTS)
        said = f"{self._captioner.name} {self._captioner.provenance['revision']}"
        words = hashlib.sha256("\n".join(self._words).encode()).hexdigest()[:_DIGEST]
        self.provenance = {
            **known,
            "revision": f"{known['revision']} {REVISION} words {words} {said}",
            **captions_provenance(self._captioner),
        }

    def __call__(self, image: Tensor) -> LabelledMasks:
        """See a (3, H, W) uint8 image.

        Raises:
            ArtifactError: the folder is damaged, or is that of another network.
        """
        found = self._find(image)
        mask_ids, rows = settle_overlaps(found.masks, found.scores)
        labels = tuple(self._words[word] for word in found.words[rows].tolist())
        captions = self._captioner(image, mask_ids, labels)
        encoder = self._setup.text_encoder
        embeddings = encoder.encode(captions) if captions else torch.zeros(0, self.dimensions)
        return LabelledMasks(mask_ids, embeddings, labels, captions)

    def _find(self, image: Tensor) -> FoundMasks:
        """Masks of all words in an image, on the CPU."""
        size = (image.shape[1], image.shape[2])
        if not self._words:
            return FoundMasks(torch.zeros(0, *size) > 0, torch.zeros(0), torch.zeros(0).long())
        parts = []
        with torch.inference_mode():
            texts = self._texts
            given = self._processor.image_processor(images=[image], return_tensors="pt")
            pixels = given["pixel_values"].to(self._setup.device)
            with self._precision():
                view = self._model.get_vision_features(pixel_values=pixels)
            for start in range(0, len(self._words), WORDS_AT_ONCE):
                some = TextFeatures(*(part[start : start + WORDS_AT_ONCE] for part in texts))
                found = self._ask(view, some, size)
                parts.append(found._replace(words=found.words + start))
        return FoundMasks(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _ask(self, view: Any, texts: TextFeatures, size: tuple[int, int]) -> FoundMasks:
        """Masks of some words in an image of `size` (H, W) that is encoded as `view`."""
        count = len(texts.features)
        copies = type(view)(
            fpn_hidden_states=tuple(
                map.expand(count, -1, -1, -1) for map in view.fpn_hidden_states
            ),
            fpn_position_encoding=tuple(
                map.expand(count, -1, -1, -1) for map in view.fpn_position_encoding
            ),
        )
        outputs = import_transformers(self._folder.user).modeling_outputs
        with self._precision():
            answer = self._model(
                vision_embeds=copies,
                text_embeds=outputs.BaseModelOutputWithPooling(pooler_output=texts.features),
                attention_mask=texts.seen,
            )
        scores = answer.pred_logits.float().sigmoid()  # (K, Q)
        scores = scores * answer.presence_logits.float().sigmoid()
        words, queries = (scores > MIN_SCORE).nonzero(as_tuple=True)
        inside = answer.pred_masks[words, queries].float().sigmoid()  # (n, h, w)
        upsampled = functional.interpolate(
            inside[:, None], size, mode="bilinear", align_corners=False
        )[:, 0]
        return FoundMasks((upsampled > MIN_INSIDE).cpu(), scores[words, queries].cpu(), words.cpu())

    @cached_property
    def _model(self) -> Any:
        return self._folder.load_model("Sam3Model").to(self._setup.device)

    @cached_property
    def _processor(self) -> Any:
        return self._folder.load_processor("Sam3Processor")

    @cached_property
    def _texts(self) -> TextFeatures:
        """Of all words; a word of more tokens than the network reads is cut."""
        tokens = self._processor.tokenizer(
            list(self._words),
            padding="max_length",
            max_length=self._model.config.text_config.max_position_embeddings,
            truncation=True,
            return_tensors="pt",
        ).to(self._setup.device)
        rows = []
        with self._precision():
            for start in range(0, len(self._words), WORDS_AT_ONCE):
                some = slice(start, start + WORDS_AT_ONCE)
                found = self._model.get_text_features(
                    input_ids=tokens["input_ids"][some],
                    attention_mask=tokens["attention_mask"][some],
                )
                rows.append(found.pooler_output)
        return TextFeatures(torch.cat(rows), tokens["attention_mask"])

    def _precision(self) -> AbstractContextManager[object]:
        if self._setup.device.type == "cuda":
            return torch.autocast("cuda", dtype=torch.bfloat16)
        return nullcontext()


def settle_overlaps(masks: Tensor, scores: Tensor) -> tuple[Tensor, list[int]]:
    """Give each pixel to the surest of the masks that hold it.

    A mask of which surer ones leave less than half is left out, so that a second name of a thing
    does not keep its seam; its pixels are free for others.

    Args:
        masks: (n, H, W) bool.
        scores: (n,) float; of equal ones the first counts.

    Returns:
        mask_ids: (H, W) int32, position in the second value, -1 where there is no mask.
        rows: mask of each position, the surest first.
    """
    mask_ids = torch.full(masks.shape[1:], -1, dtype=torch.int32)
    rows: list[int] = []
    for row in scores.argsort(descending=True, stable=True).tolist():
        free = masks[row] & (mask_ids < 0)
        left = int(free.sum())
        if left > 0 and left >= MIN_LEFT * int(masks[row].sum()):
            mask_ids[free] = len(rows)
            rows.append(row)
    return mask_ids, rows
