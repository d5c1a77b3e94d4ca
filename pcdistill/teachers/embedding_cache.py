"""Cache of text embeddings on disk: one small file for each text that a model has read."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pcdistill.atomic_io import atomic_file

CACHE_VARIABLE = "PCDISTILL_CACHE"
"""Environment variable that names the folder of what can be computed again."""
_NAME_DIGITS = 32
_LOG = logging.getLogger(__name__)


def default_cache_folder() -> Path:
    """The folder of the environment variable, else one in the user's cache."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".cache" / "pcdistill"


class EmbeddingCache:
    """Embeddings of one revision of one model, kept in memory and on disk.

    Several processes may share a folder: a file appears whole or not at all. Where nothing can be
    written the cache is that of this process alone, which is said once in the log.
    """

    def __init__(self, folder: Path, model: str, revision: str, dimensions: int) -> None:
        """Open the cache of a model; nothing is read or written yet.

        Args:
            folder: of all caches.
            model: name of the text encoder.
            revision: of its weights and of the way it is used; another one finds nothing.
            dimensions: D of an embedding.
        """
        self._folder = folder / "embeddings" / f"{model}-{revision}"
        self._dimensions = dimensions
        self._known: dict[str, Tensor] = {}
        self._writable = True

    def get(self, text: str) -> Tensor | None:
        """(D,) float32, or None where the text was never embedded or its file is damaged."""
        if text not in self._known:
            stored = self._read(self._file(text))
            if stored is None:
                return None
            self._known[text] = stored
        return self._known[text]

    def put(self, text: str, embedding: Tensor) -> None:
        """Keep a (D,) float32 embedding of a text."""
        self._known[text] = embedding
        if not self._writable:
            return
        try:
            with atomic_file(self._file(text)) as temporary, temporary.open("wb") as file:
                np.save(file, embedding.numpy())
        except OSError as error:
            self._writable = False
            _LOG.warning(
                "%s: text embeddings cannot be kept (%s); the next run embeds them again",
                self._folder,
                error.strerror or error,
            )

    def _file(self, text: str) -> Path:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_NAME_DIGITS]
        return self._folder / f"{digest}.npy"

    def _read(self, path: Path) -> Tensor | None:
        try:
            values = np.load(path, allow_pickle=False)
        except Exception:  # damaged headers, which are Python, raise many kinds
            return None
        if not isinstance(values, np.ndarray):  # an archive of several
            return None
        whole = values.shape == (self._dimensions,) and values.dtype == np.float32
        return torch.from_numpy(values) if whole and np.isfinite(values).all() else None
