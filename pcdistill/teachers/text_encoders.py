"""Text encoders, by name: the shared space in which teachers, vocabulary and questions meet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache, partial
from importlib.resources import as_file, files
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcdistill.atomic_io import require_readable
from pcdistill.errors import ConfigError, UnreadableError, file_trouble
from pcdistill.scenes import (
    label_set_names,
    load_label_set,
    load_vocabulary,
    vocabulary_names,
)
from pcdistill.suggest import look_up
from pcdistill.teachers.base import TextEncoder
from pcdistill.teachers.clip_text import CLIP_DIMENSIONS, ClipTextEncoder
from pcdistill.teachers.hub_text import HubTextEncoder
from pcdistill.teachers.hub_text_models import HUB_TEXT_MODELS
from pcdistill.teachers.known_words import Words, sort_words
from pcdistill.teachers.open_clip_models import is_open_clip
from pcdistill.teachers.open_clip_text import OpenClipTextEncoder
from pcdistill.teachers.weight_files import WeightStore

ENCODER_FOLDER = "text_encoder"
_ENCODER_FILES = ("config.json", "model.safetensors", "tokenizer.json")
_NAMED = 5
"""Texts that a message lists before it counts the rest."""


@lru_cache(maxsize=1)
def _static_model() -> Any:
    """The model, built here: model2vec's own loading brings the client of a hub along."""
    from model2vec import StaticModel
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    with as_file(files("pcdistill.teachers.demo") / ENCODER_FOLDER) as folder:
        for name in _ENCODER_FILES:
            try:
                require_readable(folder / name)
            except OSError as error:
                raise UnreadableError(file_trouble(error)) from None
        vectors = load_file(folder / "model.safetensors")["embeddings"]
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        return StaticModel(vectors, tokenizer, normalize=True)  # as its config.json has it


class StaticTextEncoder:
    """A 64-dimensional static sentence encoder that works offline on a CPU.

    A text's embedding is the mean of its token embeddings, distilled from all-MiniLM-L6-v2
    (Apache-2.0) with model2vec. Any words can be asked; word order plays no role.
    """

    text_space = "static-minilm-64"
    dimensions = 64

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Embed K texts as (K, 64) float32 rows of unit length.

        Raises:
            ConfigError: a text has no known word, so it has no direction in the text space. Words
                of the label sets and vocabularies that come with the package are as good as known:
                they have a direction of their own.
        """
        if len(texts) == 0:
            return torch.zeros(0, self.dimensions)
        raw = np.asarray(_static_model().encode(list(texts)), dtype=np.float32)
        length = np.linalg.norm(raw, axis=1)
        silent = [
            text
            for text, size in zip(texts, length, strict=True)
            if not size > 1e-6 or self._says_nothing(text)
        ]
        if silent:
            raise ConfigError(no_known_word(silent))
        return torch.from_numpy(raw / length[:, None])

    def words(self, text: str, own: Collection[str] = ()) -> Words:
        """The words of a text that the encoder has a meaning for, and the others.

        Args:
            text: in any alphabet.
            own: words that count as known besides, those of a run.
        """
        tokenizer = _static_model().tokenizer
        return sort_words(
            text,
            lambda word: tokenizer.token_to_id(word) is not None,
            tokenizer.normalizer.normalize_str,
            own,
        )

    def _says_nothing(self, text: str) -> bool:
        words = self.words(text)
        if words.known or not (words.unknown or words.is_empty):
            return False
        return not self.words(text, _shipped_words()).known


def no_known_word(texts: Sequence[str]) -> str:
    """Compose the error about texts without a word that a text encoder knows."""
    listed = ", ".join(f"'{text}'" for text in texts[:_NAMED])
    if len(texts) > _NAMED:
        listed += f" and {len(texts) - _NAMED} more"
    subject = f"the text {listed} has" if len(texts) == 1 else f"the texts {listed} have"
    return f"{subject} no word that the text encoder knows; write it with common English words"


@lru_cache(maxsize=1)
def _shipped_words() -> frozenset[str]:
    """Words of the label sets and vocabularies that come with the package."""
    names = [name for known in label_set_names() for name in load_label_set(known).prompt_names]
    names += [word for known in vocabulary_names() for word in load_vocabulary(known)]
    return frozenset(word for name in names for word in name.split())


TEXT_ENCODERS: dict[str, Callable[[WeightStore], TextEncoder]] = {
    "static": lambda _: StaticTextEncoder(),
    **{name: partial(ClipTextEncoder, name, size) for name, size in CLIP_DIMENSIONS.items()},
    **{name: partial(HubTextEncoder, name) for name in HUB_TEXT_MODELS},
}
"""Text encoders by name, built with what finds their weights; those of open_clip are not listed."""


def build_text_encoder(name: str = "static", weights: WeightStore | None = None) -> TextEncoder:
    """Build the text encoder of that name.

    Args:
        name: one of `TEXT_ENCODERS`, or `open-clip:MODEL/WEIGHTS`.
        weights: finds the files of weights; by default in the folder of the user's cache.

    Raises:
        ConfigError: no text encoder has this name, and the text suggests the closest one; or its
            weights are not on this machine.
        MissingExtraError: open_clip is not installed.
    """
    store = WeightStore() if weights is None else weights
    if is_open_clip(name):
        return OpenClipTextEncoder(name, store)
    return look_up("text encoder", name, TEXT_ENCODERS)(store)
