"""The optional package ray: its one import."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from pcdistill.errors import MissingExtraError

_LOG = logging.getLogger(__name__)
_FIX = "install it on every machine with pip install 'pcdistill[ray]'"
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # it would tell its makers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # workers see to it themselves
}


def require_ray() -> None:
    """Tell before the work whether ray is there; importing it takes a second.

    Raises:
        MissingExtraError: it is not installed.
    """
    if find_spec("ray") is None:
        raise MissingExtraError(f"--engine ray needs ray, which is not installed; {_FIX}")


def import_ray() -> Any:
    """Import ray, which from then on says nothing to the terminal, nor to its makers.

    Raises:
        MissingExtraError: it, or a package that it needs, is not installed.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(f"--engine ray needs ray ({error}); {_FIX}") from None
    logging.getLogger("ray").setLevel(logging.ERROR)
    inner = sys.modules.get("ray._private.worker")
    if hasattr(inner, "print_to_stdstream"):  # paragraphs on each lost worker, whatever it is told
        vars(inner)["print_to_stdstream"] = _note
    return ray


def _note(data: Mapping[str, Any], ignore_prefix: bool) -> None:
    for line in data.get("lines", ()):
        _LOG.debug("%s", line)
