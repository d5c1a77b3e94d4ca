"""Captions of masks by TAP, each prompted by the point farthest inside of the mask."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pcdistill.errors import ArtifactError
from pcdistill.geometry import chamfer_distance_transform
from pcdistill.teachers.base import TeacherSetup
from pcdistill.teachers.captions.tap.network import END, Tap, pad_image, read_sizes
from pcdistill.teachers.captions.tap.pieces import WordPieces, load_word_pieces
from pcdistill.teachers.captions.tap.region_decoder import PAD_POINT
from pcdistill.teachers.state_dicts import load_state_dict

WEIGHTS = "tap"
VOCABULARY = "tap-tokenizer"
PROMPTS_AT_ONCE = 16
"""Each carries a copy of the image's features."""
_INSIDE = 1


class TapDescriber:
    """Describes regions by TAP; its weights are read when the first image comes."""

    name = WEIGHTS

    def __init__(self, setup: TeacherSetup) -> None:
        """Find the weights and the vocabulary of the text decoder.

        Raises:
            ConfigError: one of them is not on this machine.
            ArtifactError: the vocabulary is damaged.
        """
        self._path = setup.weights.find(WEIGHTS)
        self._device = setup.device
        self._words = load_word_pieces(setup.weights.find(VOCABULARY))
        self.provenance = setup.weights.provenance(WEIGHTS)

    @cached_property
    def _network(self) -> Tap:
        network = load_tap(self._path, self._words)
        on_gpu = self._device.type == "cuda"
        return network.to(self._device, torch.float16 if on_gpu else torch.float32)

    def describe(self, image: Tensor, mask_ids: Tensor, count: int) -> tuple[str, ...]:
        """Say what is in each region of one image; see `RegionDescriber`."""
        network = self._network
        pixels, scale = pad_image(image, network.image_size)
        points = region_prompts(mask_ids, count)
        points[..., :2] *= scale
        texts: list[str] = []
        with torch.inference_mode():
            features = network.encode_image(pixels[None].to(self._device))
            for start in range(0, count, PROMPTS_AT_ONCE):
                some = points[start : start + PROMPTS_AT_ONCE].to(self._device)
                tokens = network.write(network.best_tokens(features, some))
                texts += (read_tokens(row, self._words) for row in tokens.tolist())
        there = torch.bincount(mask_ids[mask_ids >= 0], minlength=count) > 0
        return tuple(text if seen else "" for text, seen in zip(texts, there.tolist(), strict=True))


def region_prompts(mask_ids: Tensor, count: int) -> Tensor:
    """Point prompts (count, 2, 3) float32: for each region (x, y, kind) of a point and of a pad.

    The point is the first, row by row, of those farthest from the outside of the region; (0, 0)
    where the region has no pixel.

    Args:
        mask_ids: (H, W) int32 region, -1 for none.
        count: of regions.
    """
    prompts = torch.zeros(count, 2, 3)
    prompts[:, 0, 2] = _INSIDE
    prompts[:, 1, 2] = PAD_POINT
    ids = mask_ids.cpu().numpy()
    for number in range(count):
        inside = np.ascontiguousarray(ids == number)
        row, column = divmod(int(chamfer_distance_transform(inside).argmax()), ids.shape[1])
        prompts[number, 0, :2] = torch.tensor([column, row])
    return prompts


def read_tokens(tokens: list[int], words: WordPieces) -> str:
    """The text of one row of the text decoder, up to its end."""
    told = tokens[1:]
    return words.decode(told[: told.index(END)] if END in told else told).strip()


def load_tap(path: Path, words: WordPieces) -> Tap:
    """Read an official checkpoint; the network is frozen, in float32, of the size it tells.

    Raises:
        ArtifactError: the file is missing, damaged, or of another network or vocabulary.
        UnreadableError: it cannot be read.
    """
    state = load_state_dict(path)
    try:
        sizes = read_sizes(state)
        with torch.device("meta"):
            network = Tap(sizes)
        network.load_state_dict(
            {
                key: value.float() if value.is_floating_point() else value
                for key, value in state.items()
            },
            assign=True,
        )
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(
            f"{path}: not a checkpoint of TAP ({reason}); fetch it again, or name another in "
            f"run.weights.{WEIGHTS}"
        ) from None
    if len(words) != sizes.vocabulary:
        raise ArtifactError(
            f"{path}: its text decoder has {sizes.vocabulary} tokens, but run.weights.{VOCABULARY} "
            f"gives {len(words)} pieces of words; take both from one release"
        )
    return network.eval().requires_grad_(False)
