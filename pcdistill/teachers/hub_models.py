"""Models and processors of transformers, read from a folder in the layout of the Hugging Face hub.

Nothing is fetched, no code of a folder is run, and no pickle is read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pcdistill.errors import ArtifactError, MissingExtraError
from pcdistill.teachers.hub_parts import read_part_names
from pcdistill.teachers.transformers_package import import_transformers

_KEYS_NAMED = 3
"""Weights that a message lists before it counts the rest."""
_REASON = 200
"""Characters of a library's message that are passed on."""


class HubFolder(NamedTuple):
    """A folder of weights, and who reads it."""

    path: Path
    weights: str
    """Entry of `WEIGHT_FILES`, for messages."""
    user: str
    """For messages, such as "captioner 'florence-2'"."""

    def load_model(self, kind: str, *, dtype: torch.dtype = torch.float32) -> Any:
        """Read a network with all of its weights; it is frozen and in eval mode.

        Args:
            kind: name of its class in transformers.
            dtype: of its weights.

        Raises:
            ArtifactError: the folder is damaged, or is that of another network.
            MissingExtraError: transformers is not installed, or too old for this network.
        """
        for index in sorted(self.path.glob("*.safetensors.index.json")):
            read_part_names(index)  # before the library opens whatever it names
        with self._reading(kind) as wanted:
            model, told = wanted.from_pretrained(
                self.path,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=dtype,
                output_loading_info=True,
            )
        missing = sorted(told["missing_keys"])  # the library would make them up
        if missing:
            named = ", ".join(missing[:_KEYS_NAMED])
            more = f" and {len(missing) - _KEYS_NAMED} more" if len(missing) > _KEYS_NAMED else ""
            raise ArtifactError(self._not_of(kind, f"without {named}{more}"))
        return model.eval().requires_grad_(False)

    def load_processor(self, kind: str) -> Any:
        """Read what prepares images and texts for a network.

        Args:
            kind: name of its class in transformers.

        Raises:
            ArtifactError: the folder is damaged, or is that of another network.
            MissingExtraError: transformers is not installed, or too old for this network.
        """
        with self._reading(kind) as wanted:
            return wanted.from_pretrained(self.path, local_files_only=True, trust_remote_code=False)

    @contextmanager
    def _reading(self, kind: str) -> Iterator[Any]:
        """The class of that name; what it says of the folder becomes one sentence."""
        transformers = import_transformers(self.user)
        wanted = getattr(transformers, kind, None)
        if wanted is None:
            raise MissingExtraError(
                f"{self.user} needs {kind} of transformers, which {transformers.__version__} does "
                "not have; install a newer one with pip install -U 'pcdistill[teachers]'"
            )
        try:
            with _quiet(transformers):
                yield wanted
        except (MemoryError, KeyboardInterrupt):
            raise
        except ImportError as error:
            raise MissingExtraError(
                f"{self.user} needs a package that is not installed ({_first_line(error)}); "
                "install it with pip install 'pcdistill[teachers]'"
            ) from None
        except Exception as error:  # of many kinds: whatever a damaged file makes of a library
            raise ArtifactError(self._not_of(kind, _first_line(error))) from None

    def _not_of(self, kind: str, reason: str) -> str:
        return (
            f"{self.path}: not a folder that {kind} of transformers reads ({reason}); fetch it "
            f"again as `pcdistill weights list {self.weights}` says, or name another in "
            f"run.weights.{self.weights}"
        )


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:_REASON]
    return text or type(error).__name__


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep the library's bars and remarks from the terminal; what matters becomes an error."""
    library = transformers.utils.logging
    level, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity(logging.CRITICAL)
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(level)
        if bars:
            library.enable_progress_bar()
