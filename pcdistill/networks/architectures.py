"""The sizes of the MinkUNet family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pcdistill.errors import ConfigError
from pcdistill.suggest import suggest

NUM_STAGES = 8
"""Four stages down, four up."""

CHANNEL_STEP = 4
"""Scaled channel counts are rounded to multiples of this."""


@dataclass(frozen=True)
class Architecture:
    """Everything that determines the shapes of a network's weights."""

    name: str
    """Member of the family whose `layers` these are, or the nearest by name."""
    in_channels: int
    out_channels: int
    planes: tuple[int, ...]
    """Channels of the eight stages."""
    stem_channels: int
    """Channels after the first convolution and the first downsampling."""
    layers: tuple[int, ...]
    """Residual blocks of the eight stages."""

    def __post_init__(self) -> None:
        for name in ("planes", "layers"):
            values = getattr(self, name)
            if len(values) != NUM_STAGES or min(values) < 1:
                raise ConfigError(
                    f"{name} of {self.name} is {values}, expected {NUM_STAGES} whole numbers of 1 "
                    "or "
                    "more, one per stage"
                )
        for name in ("in_channels", "out_channels", "stem_channels"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"{name} of {self.name} is {getattr(self, name)}, expected 1 or more"
                )


PLANES: dict[str, tuple[int, ...]] = {
    "MinkUNet14A": (32, 64, 128, 256, 128, 128, 96, 96),
    "MinkUNet18A": (32, 64, 128, 256, 128, 128, 96, 96),
    "MinkUNet34C": (32, 64, 128, 256, 256, 128, 96, 96),
}
"""Channels of the eight stages by name. Source: OpenScene, models/mink_unet.py."""

LAYERS: dict[str, tuple[int, ...]] = {
    "MinkUNet14A": (1, 1, 1, 1, 1, 1, 1, 1),
    "MinkUNet18A": (2, 2, 2, 2, 2, 2, 2, 2),
    "MinkUNet34C": (2, 3, 4, 6, 2, 2, 2, 2),
}
"""Residual blocks of the eight stages by name."""

STEM_CHANNELS = 32
"""Channels of the stem at full width."""


def scale_channels(channels: int, width: float) -> int:
    """A channel count at reduced (or increased) width, a multiple of `CHANNEL_STEP`."""
    if width == 1:
        return channels
    return max(CHANNEL_STEP, CHANNEL_STEP * round(channels * width / CHANNEL_STEP))


def resolve_architecture(
    architecture: str,
    in_channels: int,
    out_channels: int,
    *,
    width: float = 1.0,
    planes: Sequence[int] | None = None,
    stem_channels: int | None = None,
    layers: Sequence[int] | None = None,
) -> Architecture:
    """Resolve a name, a width and explicit sizes (which win) to one architecture.

    Args:
        architecture: one of the names in `PLANES`.
        in_channels: of the input.
        out_channels: of the output.
        width: multiplies every channel count.
        planes: channels of each stage.
        stem_channels: of the first convolution.
        layers: residual blocks of each stage.

    Raises:
        ConfigError: unknown name, width not positive, or sizes that make no network.
    """
    if architecture not in PLANES:
        raise ConfigError(
            f"unknown student architecture '{architecture}': {suggest(architecture, PLANES)}"
        )
    if not width > 0:
        raise ConfigError(f"the student's width is {width}, expected more than 0 (1.0 is full)")
    if planes is None:
        planes = [scale_channels(count, width) for count in PLANES[architecture]]
    if stem_channels is None:
        stem_channels = scale_channels(STEM_CHANNELS, width)
    if layers is None:
        layers = LAYERS[architecture]
    return Architecture(
        architecture,
        int(in_channels),
        int(out_channels),
        tuple(int(count) for count in planes),
        int(stem_channels),
        tuple(int(count) for count in layers),
    )


def architecture_from_layers(layers: Sequence[int]) -> str | None:
    """The family member with these residual blocks per stage, if any."""
    for name, known in LAYERS.items():
        if known == tuple(layers):
            return name
    return None


def infer_width(architecture: Architecture) -> float | None:
    """The width that `resolve_architecture` makes these channels from, if there is one."""
    planes = PLANES[architecture.name]
    width = architecture.stem_channels / STEM_CHANNELS
    scaled = tuple(scale_channels(count, width) for count in planes)
    return width if scaled == architecture.planes else None
