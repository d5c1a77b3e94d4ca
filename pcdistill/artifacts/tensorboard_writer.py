"""The optional package tensorboard: its one import."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pcdistill.errors import MissingExtraError


def require_tensorboard() -> None:
    """Tell before the work whether tensorboard is there; importing it takes seconds.

    Raises:
        MissingExtraError: it is not installed.
    """
    if find_spec("tensorboard") is None:
        raise MissingExtraError(
            "distill.tensorboard needs tensorboard, which is not installed; install it with "
            "pip install 'pcdistill[tensorboard]'"
        )


def open_tensorboard(folder: Path, first_step: int) -> Any:
    """Open a writer of TensorBoard's files.

    Args:
        folder: of the files; created where it is missing.
        first_step: what earlier files say of this step and later ones is hidden.

    Raises:
        MissingExtraError: the package, or one that it needs, is not installed.
    """
    require_tensorboard()
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError(
            f"distill.tensorboard needs tensorboard ({error}); install it with "
            "pip install 'pcdistill[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder), purge_step=first_step)
