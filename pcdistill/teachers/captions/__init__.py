"""Captioners: texts for the labelled masks of an image, in the words of the label."""

from pcdistill.teachers.captions.base import (
    Captioner,
    RegionDescriber,
    WordedCaptioner,
    captions_provenance,
)
from pcdistill.teachers.captions.parts_of_speech import Word, adjectives, tag_words
from pcdistill.teachers.captions.registry import CAPTIONERS, build_captioner
from pcdistill.teachers.captions.template import TemplateCaptioner, template_caption
from pcdistill.teachers.captions.wording import (
    CAPTION_WORDINGS,
    CaptionWording,
    caption_wording,
    label_in_a_scene,
    place_label,
    scene_text,
)

__all__ = [
    "CAPTIONERS",
    "CAPTION_WORDINGS",
    "CaptionWording",
    "Captioner",
    "RegionDescriber",
    "TemplateCaptioner",
    "Word",
    "WordedCaptioner",
    "adjectives",
    "build_captioner",
    "caption_wording",
    "captions_provenance",
    "label_in_a_scene",
    "place_label",
    "scene_text",
    "tag_words",
    "template_caption",
]
