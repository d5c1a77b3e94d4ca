"""Image generators and segmenters by name: a new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pcdistill.capability.interfaces import ImageGenerator, Segmenter, SynthesisSetup
from pcdistill.suggest import look_up
from pcdistill.teachers import load_state_dict


def _embedded_generator(_: SynthesisSetup) -> ImageGenerator:
    from pcdistill.capability.generators.rendered import RenderedImageGenerator

    return RenderedImageGenerator()


def _stable_diffusion(setup: SynthesisSetup) -> ImageGenerator:
    from pcdistill.capability.generators.stable_diffusion import StableDiffusionGenerator

    return StableDiffusionGenerator(setup)


def _superpixel_segmenter(_: SynthesisSetup) -> Segmenter:
    from pcdistill.segmenters import SuperpixelSegmenter

    return SuperpixelSegmenter()


def _segment_anything(name: str, setup: SynthesisSetup) -> Segmenter:
    from pcdistill.segmenters import SegmentAnythingSegmenter

    file, provenance = setup.weights.find(name), setup.weights.provenance(name)
    read = partial(load_state_dict, file)
    return SegmentAnythingSegmenter(name, read, str(file), provenance, setup.device)


def _of_transformers(name: str, setup: SynthesisSetup) -> Segmenter:
    from pcdistill.capability.hub_segmenter import HubSegmenter

    return HubSegmenter(name, setup)


_SAM = ("sam-vit-b", "sam-vit-l", "sam-vit-h")
GENERATORS: dict[str, Callable[[SynthesisSetup], ImageGenerator]] = {
    "embedded": _embedded_generator,
    "stable-diffusion": _stable_diffusion,
}
SEGMENTERS: dict[str, Callable[[SynthesisSetup], Segmenter]] = {
    "superpixels": _superpixel_segmenter,
    **{name: partial(_segment_anything, name) for name in _SAM},
    **{name: partial(_of_transformers, name) for name in ("sam2", "sam3")},
}


def build_generator(name: str, setup: SynthesisSetup) -> ImageGenerator:
    """Build the image generator of that name.

    Raises:
        ConfigError: no generator has this name, and the text suggests the closest one; or its
            weights are not on this machine.
        ArtifactError: its weights are damaged.
        MissingExtraError: a package that it needs is not installed.
    """
    return look_up("image generator", name, GENERATORS)(setup)


def build_segmenter(name: str, setup: SynthesisSetup) -> Segmenter:
    """Build the segmenter of that name; large weights are read when it first sees an image.

    Raises:
        ConfigError: no segmenter has this name, and the text suggests the closest one; or its
            weights are not on this machine.
        MissingExtraError: a package that it needs is not installed.
    """
    return look_up("segmenter", name, SEGMENTERS)(setup)
