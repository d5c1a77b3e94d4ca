"""Captions of masks by Florence-2, each prompted by the box around the mask.

Source: Xiao et al., Florence-2: Advancing a Unified Representation for a Variety of Vision Tasks,
CVPR 2024; task, places of a box and beams are those of its model card.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcdistill.errors import ArtifactError
from pcdistill.teachers.base import TeacherSetup
from pcdistill.teachers.hub_models import HubFolder
from pcdistill.teachers.transformers_package import require_transformers

WEIGHTS = "florence-2"
TASK = "<REGION_TO_DESCRIPTION>"
REVISION = "regions-1"
"""Of the prompt and the search; another one where texts would differ."""
BEAMS = 3
MAX_TOKENS = 64
"""Of one description, where it does not end before."""
REGIONS_AT_ONCE = 8
"""Each carries a copy of the image's features."""
_CORNERS = 4
_MARKS = re.compile(r"<[^<>]*>")
"""Tokens of places and tasks."""


class FlorenceParts(NamedTuple):
    """What is read of the folder."""

    model: Any
    processor: Any


class FlorenceDescriber:
    """Describes regions by Florence-2; its weights are read when the first image comes.

    An image is encoded once, whatever the number of its regions. The answer is found by a beam
    search, which is the same every time. On a GPU the network computes in half precision.
    """

    name = WEIGHTS

    def __init__(self, setup: TeacherSetup) -> None:
        """Find the folder of the weights.

        Raises:
            ConfigError: it is not on this machine, or not whole.
            MissingExtraError: transformers is not installed.
        """
        user = f"captioner '{WEIGHTS}'"
        self._folder = HubFolder(setup.weights.find(WEIGHTS), WEIGHTS, user)
        require_transformers(user)
        self._device = setup.device
        known = setup.weights.provenance(WEIGHTS)
        self.provenance = {**known, "revision": f"{known['revision']} {REVISION}"}

    @cached_property
    def _parts(self) -> FlorenceParts:
        on_gpu = self._device.type == "cuda"
        dtype = torch.float16 if on_gpu else torch.float32
        model = self._folder.load_model("Florence2ForConditionalGeneration", dtype=dtype)
        processor = self._folder.load_processor("Florence2Processor")
        return FlorenceParts(model.to(self._device), processor)

    def describe(self, image: Tensor, mask_ids: Tensor, count: int) -> tuple[str, ...]:
        """Say what is in each region of one image; see `RegionDescriber`.

        Raises:
            ArtifactError: the folder is damaged, or is that of another network.
        """
        boxes, there = region_boxes(mask_ids, count)
        texts = [""] * count
        rows = there.nonzero()[:, 0].tolist()
        if not rows:
            return tuple(texts)
        processor = self._parts.processor
        size = (image.shape[2], image.shape[1])
        bins = processor.post_processor.quantize(boxes[rows], size)  # (n, 4) of 1000
        with torch.inference_mode():
            for row, text in zip(rows, self._say(image, bins), strict=True):
                texts[row] = text
        return tuple(texts)

    def _say(self, image: Tensor, bins: Tensor) -> list[str]:
        """One text for each box (n, 4) of `bins`."""
        model, processor = self._parts
        given = processor(images=image, text=TASK + "<loc_0>" * _CORNERS, return_tensors="pt")
        prompts = self._prompts(given["input_ids"][0], bins).to(self._device)  # (n, L)
        pixels = given["pixel_values"].to(self._device, model.dtype)
        features = model.get_image_features(pixels).pooler_output[0]  # (F, D)
        said: list[str] = []
        for start in range(0, len(prompts), REGIONS_AT_ONCE):
            some = prompts[start : start + REGIONS_AT_ONCE]
            embedded = model.get_input_embeddings()(some)  # (r, L, D)
            embedded[some == model.config.image_token_id] = features.repeat(len(some), 1)
            seen = torch.ones_like(some)
            encoded = model.get_encoder()(inputs_embeds=embedded, attention_mask=seen)
            tokens = model.generate(
                encoder_outputs=encoded,
                attention_mask=seen,
                num_beams=BEAMS,
                do_sample=False,
                max_new_tokens=MAX_TOKENS,
            )
            said += processor.batch_decode(tokens, skip_special_tokens=True)
        return [plain_text(text) for text in said]

    def _prompts(self, template: Tensor, bins: Tensor) -> Tensor:
        """(n, L) int64: tokens of each box's prompt, from those (L,) of the prompt of a corner.

        Raises:
            ArtifactError: the tokenizer has no tokens for places, or the image takes another number
                of tokens than the processor says.
        """
        tokenizer = self._parts.processor.tokenizer
        names = [f"<loc_{place}>" for place in range(int(bins.max()) + 1)]
        places = torch.tensor(tokenizer.convert_tokens_to_ids(names))
        corners = template == places[0]
        if int(corners.sum()) != _CORNERS or len(set(places.tolist())) < len(names):
            raise ArtifactError(
                f"{self._folder.path}: its tokenizer has no tokens <loc_0> to <loc_999>, expected "
                "the tokenizer of Florence-2; fetch the folder again"
            )
        prompts = template.repeat(len(bins), 1)
        prompts[:, corners] = places[bins.long()]
        return prompts


def region_boxes(mask_ids: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Box around each region of an image.

    Args:
        mask_ids: (H, W) int region, -1 for none.
        count: m, of regions.

    Returns:
        boxes: (m, 4) float32 pixels, left, top, right and bottom edge; zeros for an empty region.
        there: (m,) bool, whether a region has pixels.
    """
    boxes = torch.zeros(count, _CORNERS)
    there = torch.zeros(count, dtype=torch.bool)
    for number in range(count):
        rows, columns = (mask_ids == number).nonzero(as_tuple=True)
        if len(rows):
            there[number] = True
            boxes[number] = torch.tensor(
                [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            )
    return boxes, there


def plain_text(said: str) -> str:
    """An answer without tokens of places and tasks, and without the full stop at its end."""
    return " ".join(_MARKS.sub(" ", said).split()).rstrip(" .")
