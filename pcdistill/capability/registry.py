"""Image generators and segmenters by name: a new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable

from pcdistill.capability.interfaces import ImageGenerator, Segmenter, SynthesisSetup
from pcdistill.suggest import look_up


def _embedded_generator(_: SynthesisSetup) -> ImageGenerator:
    from pcdistill.capability.generators.rendered import RenderedImageGenerator

    return RenderedImageGenerator()


def _superpixel_segmenter(_: SynthesisSetup) -> Segmenter:
    from pcdistill.segmenters import SuperpixelSegmenter

    return SuperpixelSegmenter()


GENERATORS: dict[str, Callable[[SynthesisSetup], ImageGenerator]] = {
    "embedded": _embedded_generator,
}
SEGMENTERS: dict[str, Callable[[SynthesisSetup], Segmenter]] = {
    "superpixels": _superpixel_segmenter,
}


def build_generator(name: str, setup: SynthesisSetup) -> ImageGenerator:
    """Build the image generator of that name.

    Raises:
        ConfigError: no generator has this name; the text suggests the closest one.
    """
    return look_up("image generator", name, GENERATORS)(setup)


def build_segmenter(name: str, setup: SynthesisSetup) -> Segmenter:
    """Build the segmenter of that name.

    Raises:
        ConfigError: no segmenter has this name; the text suggests the closest one.
    """
    return look_up("segmenter", name, SEGMENTERS)(setup)
