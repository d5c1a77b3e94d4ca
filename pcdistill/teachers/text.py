"""Text encoders, by name: the shared space in which teachers, vocabulary and questions meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.resources import as_file, files
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcdistill.choices import suggest
from pcdistill.errors import ConfigError
from pcdistill.teachers.protocols import TextEncoder

ENCODER_FOLDER = "text_encoder"


@lru_cache(maxsize=1)
def _static_model() -> Any:
    from model2vec import StaticModel

    with as_file(files("pcdistill.teachers") / ENCODER_FOLDER) as folder:
        return StaticModel.from_pretrained(str(folder))


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
            ConfigError: a text has no known word, so it has no direction in the text space.
        """
        if len(texts) == 0:
            return torch.zeros(0, self.dimensions)
        raw = np.asarray(_static_model().encode(list(texts)), dtype=np.float32)
        length = np.linalg.norm(raw, axis=1)
        for text, size in zip(texts, length, strict=True):
            if not size > 1e-6:
                raise ConfigError(
                    f"the text '{text}' has no word that the text encoder knows; "
                    "write it with common English words"
                )
        return torch.from_numpy(raw / length[:, None])


TEXT_ENCODERS: dict[str, Callable[[], TextEncoder]] = {"static": StaticTextEncoder}


def build_text_encoder(name: str = "static") -> TextEncoder:
    """Build the text encoder of that name.

    Raises:
        ConfigError: no text encoder has this name; the text suggests the closest one.
    """
    if name not in TEXT_ENCODERS:
        raise ConfigError(f"unknown text encoder '{name}'; {suggest(name, TEXT_ENCODERS)}")
    return TEXT_ENCODERS[name]()
