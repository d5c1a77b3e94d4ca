"""Text encoders of OpenAI's CLIP, through open_clip, from a local file of weights.

Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021;
openai/CLIP (MIT).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

from pcdistill.teachers.cached_encoder import CachedTextEncoder
from pcdistill.teachers.clip_towers import build_image_tower, build_text_tower, clip_tokenizer
from pcdistill.teachers.patches.network import PatchNetwork
from pcdistill.teachers.patches.open_clip_towers import MASKCLIP, OPENAI_COLORS, patches_of_tower
from pcdistill.teachers.weight_files import load_state_dict

CLIP_DIMENSIONS = {"clip-vit-b-32": 512, "clip-vit-b-16": 512, "clip-vit-l-14-336": 768}
"""D of the text spaces of CLIP, by the name of encoder, text space and weights."""


class ClipTextEncoder(CachedTextEncoder):
    """A text encoder of CLIP, whose image side gives patches to `maskclip`."""

    dense_teacher = MASKCLIP

    def load_image_side(self) -> PatchNetwork:
        """Read the image side of the same file of weights.

        Raises:
            ConfigError: the weights are not on this machine.
            ArtifactError: they are damaged, or not those of a CLIP.
            MissingExtraError: open_clip is not installed.
        """
        path = self._weights.find(self.name)
        tower = build_image_tower(self.name, load_state_dict(path), path)
        return patches_of_tower(self.name, tower, OPENAI_COLORS)

    def _embed(self, texts: Sequence[str]) -> Tensor:
        tokens = self._tokenizer(list(texts))  # (K, 77)
        self._warn_of_long(
            texts, lambda text: len(self._tokenizer.encode(text)), tokens.shape[1] - 2
        )
        embedded: Tensor = self._network.encode_text(tokens)
        return embedded

    @cached_property
    def _tokenizer(self) -> Any:
        return clip_tokenizer(self.name)

    @cached_property
    def _network(self) -> Any:
        path = self._weights.find(self.name)
        return build_text_tower(self.name, load_state_dict(path), path)
