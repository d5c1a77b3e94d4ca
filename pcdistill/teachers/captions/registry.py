"""Captioners by name."""

from __future__ import annotations

from collections.abc import Callable

from pcdistill.suggest import look_up
from pcdistill.teachers.base import TeacherSetup
from pcdistill.teachers.captions.base import Captioner, RegionDescriber, WordedCaptioner
from pcdistill.teachers.captions.florence import FlorenceDescriber
from pcdistill.teachers.captions.tap import TapDescriber
from pcdistill.teachers.captions.template import TemplateCaptioner
from pcdistill.teachers.captions.wording import caption_wording
from pcdistill.teachers.text_encoders import StaticTextEncoder

DESCRIBERS: dict[str, Callable[[TeacherSetup], RegionDescriber]] = {
    "tap": TapDescriber,
    "florence-2": FlorenceDescriber,
}
"""Captioning networks, whose texts are joined with the labels."""


def _template(setup: TeacherSetup) -> Captioner:
    averages_words = isinstance(setup.text_encoder, StaticTextEncoder)
    return TemplateCaptioner(label_first=averages_words)


def _worded(describer: Callable[[TeacherSetup], RegionDescriber]) -> Callable[..., Captioner]:
    def build(setup: TeacherSetup) -> Captioner:
        name = setup.caption_wording
        return WordedCaptioner(describer(setup), caption_wording(name), name)

    return build


CAPTIONERS: dict[str, Callable[[TeacherSetup], Captioner]] = {
    "template": _template,
    **{name: _worded(describer) for name, describer in DESCRIBERS.items()},
}
"""Every captioner by name."""


def build_captioner(setup: TeacherSetup) -> Captioner:
    """Build the captioner that a run names, for its text encoder, weights and device.

    Raises:
        ConfigError: no captioner or wording has the name; or its weights are not on this machine.
        ArtifactError: a file of its weights is damaged.
    """
    caption_wording(setup.caption_wording)  # a wrong one is told although none is needed
    return look_up("captioner", setup.captioner, CAPTIONERS)(setup)
