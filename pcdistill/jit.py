"""Compiled loops, kept on disk where that can be written."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numba

if TYPE_CHECKING:
    from numba.core.dispatcher import Dispatcher

_LOG = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])


def njit(
    *,
    nogil: bool = False,
    error_model: Literal["python", "numpy"] = "python",
    inline: Literal["never", "always"] = "never",
) -> Callable[[Function], Dispatcher[Function]]:
    """Compile a function by numba when it is first called, and keep what was compiled.

    It is kept beside the package, or in the user's cache folder, or where NUMBA_CACHE_DIR says.
    Where none of them can be written, as in a read-only installation, it is compiled anew in every
    process, which takes a while and changes nothing else.

    Args:
        nogil: let other threads of Python run meanwhile.
        error_model: "python" raises where a number is divided by zero, "numpy" gives inf or NaN.
        inline: "always" puts the function into those that call it, before anything is optimised.
    """

    def decorate(function: Function) -> Dispatcher[Function]:
        def build(cache: bool) -> Dispatcher[Function]:
            compiled: Dispatcher[Function] = numba.njit(
                function, cache=cache, nogil=nogil, error_model=error_model, inline=inline
            )
            return compiled

        try:
            return build(cache=True)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            _LOG.info("%s is compiled in every process: %s", function.__name__, error)
            return build(cache=False)

    return decorate
