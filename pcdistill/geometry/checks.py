"""Checks of tensor arguments: shape and finite numbers."""

from __future__ import annotations

from torch import Tensor


def require_shape(name: str, tensor: Tensor, *dims: int | None) -> None:
    """Check the shape of an argument.

    Args:
        name: the argument's name, for the message.
        tensor: any dtype and device.
        dims: one entry per axis; ``None`` accepts any length.

    Raises:
        ValueError: the number of axes or a length differs.
    """
    shape = tuple(tensor.shape)
    if len(shape) == len(dims) and all(
        want is None or have == want for have, want in zip(shape, dims, strict=True)
    ):
        return
    wanted = ", ".join("any" if want is None else str(want) for want in dims)
    raise ValueError(f"{name} has shape {shape}, expected ({wanted})")


def require_finite(name: str, tensor: Tensor) -> None:
    """Check that an argument holds no NaN or infinity.

    Raises:
        ValueError: an element is not finite.
    """
    bad = int((~tensor.isfinite()).sum())
    if bad:
        raise ValueError(
            f"{name} has {bad} non-finite values of {tensor.numel()}, expected all finite"
        )
