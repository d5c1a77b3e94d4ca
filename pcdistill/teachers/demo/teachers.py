"""Demo teachers: small networks trained on rendered homes, one dense, one of masks.

They know different classes and fail differently because they were trained differently: the dense
one on views of whole rooms whose labels name structure and large furniture only, the one of masks
at a lower resolution and mostly on pictures of single objects. Neither was given labels outside
its list, so what it says there is its honest mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import as_file, files
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from pcdistill.teachers.base import FeatureMap, LabelledMasks
from pcdistill.teachers.color_names import color_name
from pcdistill.teachers.demo.network import DemoNetwork, load_network, prepare_images
from pcdistill.teachers.text_encoders import StaticTextEncoder

TEMPERATURE = 0.05
"""Divides the dense teacher's cosines before the softmax, unitless."""
MIN_MASK = 0.0008
"""Share of the image below which a region is no mask of its own."""
SUREST_BELOW = 0.35
"""Mean probability below which a region is left without a label."""


_ADJECTIVES = {
    "wood": "wooden",
    "paint": "painted",
    "paper": "papered",
    "tile": "tiled",
    "plant": "leafy",
    "mirror": "mirrored",
}
"""How a material is said before a noun, where that is not the material's own name."""


def _weights(name: str) -> tuple[DemoNetwork, dict[str, Any]]:
    with as_file(files("pcdistill.teachers.demo") / "weights" / f"{name}.safetensors") as path:
        return load_network(path)


class DemoDenseTeacher:
    """Dense demo teacher: a unit vector in the text space per cell of a grid, as LSeg gives.

    The network's own vectors hesitate between words; each is replaced by the mixture of the words
    that the teacher was told, weighted by how likely it finds each (softmax of the cosines over
    `TEMPERATURE`, with which it was trained).
    """

    name = "demo-dense"
    text_space = StaticTextEncoder.text_space
    dimensions = StaticTextEncoder.dimensions

    def __init__(self) -> None:
        self._network, details = _weights("dense")
        self._labels = tuple(str(label) for label in details.pop("labels"))
        nouns = [f"a {label}" for label in self._labels]
        self._words = StaticTextEncoder().encode(nouns)  # (K, D)
        self.provenance = _as_text(details)

    @property
    def taught(self) -> tuple[str, ...]:
        """The classes it was trained on."""
        return self._labels

    def __call__(self, image: Tensor) -> FeatureMap:
        """Run on a (3, H, W) uint8 image."""
        return self.predict_batch(image[None])[0]

    def predict_batch(self, images: Tensor) -> list[FeatureMap]:
        """Run on (B, 3, H, W) uint8 images."""
        batch = prepare_images(images, self._network.shape.input_size)
        with torch.inference_mode():
            answers = [self._mix_words(raw) for raw in self._network(batch)]
        image_size = (images.shape[2], images.shape[3])
        return [FeatureMap(features.clone(), image_size) for features in answers]

    def _mix_words(self, raw: Tensor) -> Tensor:
        """Replace vectors (D, h, w) by mixtures of the words they are close to."""
        scores = torch.einsum("dhw,kd->khw", functional.normalize(raw, dim=0), self._words)
        likely = (scores / TEMPERATURE).softmax(dim=0)
        mixture = torch.einsum("khw,kd->dhw", likely, self._words)
        return functional.normalize(mixture, dim=0)


class DemoMaskTeacher:
    """Demo teacher of masks: labelled masks with a caption each, as SEEM and TAP give.

    A caption is "{label}: a {colour} {material} {label}"; its text embedding stands for the mask.
    The noun stands there twice because the embedded text encoder averages words.
    """

    name = "demo-masks"
    text_space = StaticTextEncoder.text_space
    dimensions = StaticTextEncoder.dimensions

    def __init__(self) -> None:
        self._network, details = _weights("masks")
        self._labels = tuple(str(label) for label in details.pop("labels"))
        self._materials = tuple(str(m) for m in details.pop("materials"))
        self._encoder = StaticTextEncoder()
        self._embedded: dict[str, Tensor] = {}
        self.provenance = _as_text(details)

    @property
    def taught(self) -> tuple[str, ...]:
        """The classes it was trained on."""
        return self._labels

    def __call__(self, image: Tensor) -> LabelledMasks:
        """Run on a (3, H, W) uint8 image."""
        return self.predict_batch(image[None])[0]

    def predict_batch(self, images: Tensor) -> list[LabelledMasks]:
        """Run on (B, 3, H, W) uint8 images."""
        batch = prepare_images(images, self._network.shape.input_size)
        with torch.inference_mode():
            outputs = self._network(batch)
        return [self._name_regions(*pair) for pair in zip(images, outputs, strict=True)]

    def _name_regions(self, image: Tensor, output: Tensor) -> LabelledMasks:
        """Cut an image into regions and name each, given the network's output (C, h, w)."""
        height, width = image.shape[1], image.shape[2]
        with torch.inference_mode():
            raw = functional.interpolate(
                output[None], (height, width), mode="bilinear", align_corners=False
            )[0]
            probability = raw[: len(self._labels)].softmax(dim=0)
            material = raw[len(self._labels) :]
        best = probability.max(dim=0)
        regions = _regions(best.indices.numpy(), int(MIN_MASK * height * width))
        mask_ids = torch.full((height, width), -1, dtype=torch.int32)
        labels: list[str] = []
        captions: list[str] = []
        for label, inside in regions:
            chosen = torch.from_numpy(inside)
            if float(best.values[chosen].mean()) < SUREST_BELOW:
                continue
            mask_ids[chosen] = len(labels)
            color = color_name(image[:, chosen].float().median(dim=1).values)
            stuff = self._materials[int(material[:, chosen].mean(dim=1).argmax())]
            labels.append(self._labels[label])
            noun = self._labels[label]
            captions.append(f"{noun}: a {color} {_ADJECTIVES.get(stuff, stuff)} {noun}")
        return LabelledMasks(mask_ids, self._embed(captions), tuple(labels), tuple(captions))

    def _embed(self, captions: list[str]) -> Tensor:
        new = sorted(set(captions) - self._embedded.keys())
        self._embedded.update(zip(new, self._encoder.encode(new), strict=True))
        if not captions:
            return torch.zeros(0, self.dimensions)
        return torch.stack([self._embedded[caption] for caption in captions])


def _regions(labels: np.ndarray, smallest: int) -> list[tuple[int, np.ndarray]]:
    """Connected regions of equal label with at least `smallest` pixels, as boolean masks."""
    regions = []
    for label in np.unique(labels):
        parts, _ = ndimage.label(labels == label)
        sizes = np.bincount(parts.ravel())
        regions += [
            (int(label), parts == part)
            for part in range(1, len(sizes))
            if sizes[part] >= max(smallest, 1)
        ]
    return regions


def _as_text(details: Mapping[str, Any]) -> dict[str, str]:
    """What a file of weights says of itself, each fact as words."""
    return {
        key: ", ".join(f"{name} {part}" for name, part in value.items())
        if isinstance(value, Mapping)
        else str(value)
        for key, value in details.items()
    }
