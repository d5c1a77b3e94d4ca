"""Text encoders of OpenAI's CLIP, through open_clip, from a local file of weights.

OpenAI's weights need the quick GELU, x * sigmoid(1.702 x); with the usual one they run and give
something else. The sizes of the network are those of the weights.

Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021;
openai/CLIP (MIT).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcdistill.errors import ArtifactError, ConfigError
from pcdistill.teachers.embedding_cache import EmbeddingCache, default_cache_folder
from pcdistill.teachers.open_clip_package import import_open_clip
from pcdistill.teachers.weight_files import WeightStore, load_state_dict

HEAD_WIDTH = 64
"""Channels of an attention head in every CLIP of OpenAI."""
USE = "1"
"""Of what is computed from the weights; another one where embeddings would differ."""
_BATCH = 256
"""Texts that are read at a time."""
_IMAGE_SIDE = ("visual.", "logit_scale", "input_resolution", "context_length", "vocab_size")
"""Prefixes of what the text side does not read."""
_LOG = logging.getLogger(__name__)


class ClipTextEncoder:
    """A text encoder of CLIP; embeddings are kept on disk.

    Nothing is loaded before a text is asked for that was never embedded. A text of more tokens than
    the model reads is cut, and the log says so.
    """

    def __init__(
        self,
        name: str,
        dimensions: int,
        weights: WeightStore,
        *,
        cache_folder: Path | None = None,
    ) -> None:
        """Look for nothing yet, so that a teacher of another text space is refused first.

        Args:
            name: of the encoder, its text space and the entry of its weights.
            dimensions: D of its embeddings.
            weights: finds the file.
            cache_folder: where embeddings are kept; by default in the user's cache.
        """
        self.name = self.text_space = name
        self.dimensions = dimensions
        self._weights = weights
        self._cache_folder = cache_folder

    @cached_property
    def provenance(self) -> dict[str, str]:
        """File, revision, license and training of the weights.

        Raises:
            ConfigError: the file is not on this machine.
        """
        return self._weights.provenance(self.name)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Embed K texts as (K, D) float32 rows of unit length.

        Raises:
            ConfigError: a text is empty, or the weights are not on this machine or those of
                another model.
            ArtifactError: the file of weights is damaged.
            MissingExtraError: open_clip is not installed.
        """
        if any(not text.strip() for text in texts):
            raise ConfigError("a text to be embedded is empty; write at least one word")
        missing = [text for text in dict.fromkeys(texts) if self._cache.get(text) is None]
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            for text, row in zip(batch, self._embed(batch), strict=True):
                self._cache.put(text, row)
        rows = [self._cache.get(text) for text in texts]
        found = [row for row in rows if row is not None]
        return torch.stack(found) if found else torch.zeros(0, self.dimensions)

    def _embed(self, texts: Sequence[str]) -> Tensor:
        tokens = self._tokenizer(list(texts))  # (K, 77)
        for text in texts:
            if len(self._tokenizer.encode(text)) + 2 > tokens.shape[1]:
                _LOG.warning(
                    "the text '%s' is longer than the %d tokens that %s reads; its end is left out",
                    text,
                    tokens.shape[1] - 2,
                    self.name,
                )
        with torch.inference_mode():
            return functional.normalize(self._network.encode_text(tokens).float(), dim=1).clone()

    @cached_property
    def _cache(self) -> EmbeddingCache:
        folder = self._cache_folder or default_cache_folder()
        revision = f"{self.provenance['revision']}-{USE}"
        return EmbeddingCache(folder, self.name, revision, self.dimensions)

    @cached_property
    def _tokenizer(self) -> Any:
        return clip_tokenizer(self.name)

    @cached_property
    def _network(self) -> Any:
        path = self._weights.find(self.name)
        network: Any = build_text_tower(self.name, load_state_dict(path), path)
        found = network.text_projection.shape[1]
        if found != self.dimensions:
            raise ConfigError(
                f"{path}: these weights embed texts in {found} dimensions, expected "
                f"{self.dimensions} of '{self.name}'; give the weights of that model"
            )
        return network


CLIP_DIMENSIONS = {"clip-vit-b-32": 512, "clip-vit-l-14-336": 768}
"""D of the text spaces of CLIP, by the name of encoder, text space and weights."""


def build_text_tower(name: str, weights: Mapping[str, Tensor], path: Path) -> nn.Module:
    """Build the text side of a CLIP in the sizes of its weights, in float32 and eval mode.

    Args:
        name: of the model, for messages.
        weights: under OpenAI's names; those of the image side are left out.
        path: where they are from, for messages.

    Raises:
        ArtifactError: they are not the weights of a CLIP.
        MissingExtraError: open_clip is not installed.
    """
    open_clip = import_open_clip(f"text encoder '{name}'")
    text = {k: v.float() for k, v in weights.items() if not k.startswith(_IMAGE_SIDE)}
    try:
        vocabulary, width = text["token_embedding.weight"].shape
        sizes = {
            "context_length": text["positional_embedding"].shape[0],
            "vocab_size": vocabulary,
            "width": width,
            "heads": width // HEAD_WIDTH,
            "layers": len({key.split(".")[2] for key in text if key.startswith("transformer.")}),
        }
        network: nn.Module = open_clip.CLIP(
            embed_dim=text["text_projection"].shape[1],
            vision_cfg={"layers": 1, "width": HEAD_WIDTH, "patch_size": 32, "image_size": 32},
            text_cfg=sizes,
            quick_gelu=True,
        )
        network.visual = nn.Identity()
        loaded = network.load_state_dict(text, strict=False)
        odd = [key for key in (*loaded.missing_keys, *loaded.unexpected_keys) if key[:5] != "logit"]
        if odd:
            raise KeyError(odd[0])
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(
            f"{path}: not the weights of a CLIP under OpenAI's names ({reason}); give those of "
            f"'{name}'"
        ) from None
    return network.eval().requires_grad_(False)


def clip_tokenizer(name: str) -> Any:
    """The tokenizer of every CLIP of OpenAI: K texts -> (K, 77) int64.

    Raises:
        MissingExtraError: open_clip is not installed.
    """
    return import_open_clip(f"text encoder '{name}'").SimpleTokenizer()
