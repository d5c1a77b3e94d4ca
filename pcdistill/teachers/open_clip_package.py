"""The optional package open_clip: its one import."""

from __future__ import annotations

from typing import Any

from pcdistill.errors import MissingExtraError


def import_open_clip(user: str) -> Any:
    """Import open_clip.

    Args:
        user: what needs it, for the message, such as "text encoder 'clip-vit-b-32'".

    Raises:
        MissingExtraError: it, or a package that it needs, is not installed or does not fit.
    """
    try:
        import open_clip
    except (ImportError, RuntimeError) as error:  # the latter of a torchvision for another torch
        raise MissingExtraError(
            f"{user} needs open_clip ({error}); install it with pip install 'pcdistill[teachers]'"
        ) from None
    return open_clip
