"""Text encoder that keeps on disk what it has embedded; the base of those with files of weights."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.errors import ConfigError
from pcdistill.teachers.embedding_cache import EmbeddingCache, default_cache_folder
from pcdistill.teachers.weight_files import WeightStore

USE = "1"
"""Of what is computed from the weights; another one where embeddings would differ."""
_BATCH = 256
"""Texts that are read at a time."""
_LOG = logging.getLogger(__name__)


class CachedTextEncoder(ABC):
    """A text encoder that embeds a text once.

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
            MissingExtraError: the package of the model is not installed.
        """
        if any(not text.strip() for text in texts):
            raise ConfigError("a text to be embedded is empty; write at least one word")
        missing = [text for text in dict.fromkeys(texts) if self._cache.get(text) is None]
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            for text, row in zip(batch, self._embed_unit(batch), strict=True):
                self._cache.put(text, row)
        rows = [self._cache.get(text) for text in texts]
        found = [row for row in rows if row is not None]
        return torch.stack(found) if found else torch.zeros(0, self.dimensions)

    @abstractmethod
    def _embed(self, texts: Sequence[str]) -> Tensor:
        """(K, D) float of any length, of K texts that are not empty."""

    def _embed_unit(self, texts: Sequence[str]) -> Tensor:
        with torch.inference_mode():
            found = self._embed(texts)
        if found.shape[1] != self.dimensions:
            raise ConfigError(
                f"{self._weights.find(self.name)}: these weights embed texts in {found.shape[1]} "
                f"dimensions, expected {self.dimensions} of '{self.name}'; give the weights of "
                "that model"
            )
        return functional.normalize(found.float(), dim=1).clone()

    def _warn_of_long(self, texts: Sequence[str], count: Callable[[str], int], limit: int) -> None:
        """Name texts of more tokens than a model reads.

        Args:
            texts: that will be cut.
            count: tokens of a text.
            limit: how many the model reads.
        """
        for text in texts:
            if count(text) > limit:
                _LOG.warning(
                    "the text '%s' is longer than the %d tokens that %s reads; its end is left out",
                    text,
                    limit,
                    self.name,
                )

    @cached_property
    def _cache(self) -> EmbeddingCache:
        folder = self._cache_folder or default_cache_folder()
        revision = f"{self.provenance['revision']}-{USE}"
        return EmbeddingCache(folder, self.name.replace("/", "--"), revision, self.dimensions)
