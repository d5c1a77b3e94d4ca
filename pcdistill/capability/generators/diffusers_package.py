"""The optional package diffusers: its one import."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from pcdistill.errors import MissingExtraError


def import_diffusers(user: str) -> Any:
    """Import diffusers, which takes seconds.

    Args:
        user: what needs it, for the message.

    Raises:
        MissingExtraError: it, or a package that it needs, is not installed or does not fit.
    """
    try:
        import diffusers
    except (ImportError, RuntimeError) as error:  # the latter of a torchvision for another torch
        raise _missing(user, str(error)) from None
    return diffusers


def require_diffusers(user: str) -> None:
    """Look whether diffusers and transformers are installed, without importing them.

    Args:
        user: what needs them, for the message.

    Raises:
        MissingExtraError: one of them is not.
    """
    for package in ("diffusers", "transformers"):
        if find_spec(package) is None:
            raise _missing(user, f"{package} is not installed")


@contextmanager
def quiet_loading(diffusers: Any, transformers: Any) -> Iterator[None]:
    """Keep both packages from drawing bars and from warnings about what is meant to be so."""
    loggers = (diffusers.utils.logging, transformers.utils.logging)
    levels = [logger.get_verbosity() for logger in loggers]
    bars = [logger.is_progress_bar_enabled() for logger in loggers]
    try:
        for logger in loggers:
            logger.set_verbosity_error()
            logger.disable_progress_bar()
        yield
    finally:
        for logger, level, bar in zip(loggers, levels, bars, strict=True):
            logger.set_verbosity(level)
            if bar:
                logger.enable_progress_bar()


def _missing(user: str, reason: str) -> MissingExtraError:
    return MissingExtraError(
        f"{user} needs diffusers ({reason}); install it with pip install 'pcdistill[synthesis]'"
    )
