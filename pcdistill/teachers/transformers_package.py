"""The optional package transformers: its one import."""

from __future__ import annotations

from typing import Any

from pcdistill.errors import MissingExtraError


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
