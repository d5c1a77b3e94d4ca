"""The optional package transformers: its one import."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from pcdistill.errors import MissingExtraError


def require_transformers(user: str) -> None:
    """Tell before the work whether transformers is there; importing it takes seconds.

    Args:
        user: what needs it, for the message, such as "captioner 'florence-2'".

    Raises:
        MissingExtraError: it is not installed.
    """
    if find_spec("transformers") is None:
        raise MissingExtraError(
            f"{user} needs transformers, which is not installed; install it with "
            "pip install 'pcdistill[teachers]'"
        )


def import_transformers(user: str) -> Any:
    """Import transformers.

    Args:
        user: what needs it, for the message, such as "captioner 'florence-2'".

    Raises:
        MissingExtraError: it, or a package that it needs, is not installed or does not fit.
    """
    try:
        import transformers
    except (ImportError, RuntimeError) as error:  # the latter of a torchvision for another torch
        raise MissingExtraError(
            f"{user} needs transformers ({error}); install it with "
            "pip install 'pcdistill[teachers]'"
        ) from None
    return transformers
