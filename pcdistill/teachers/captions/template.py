"""Captions put together from what can be seen of a mask, without a language model."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pcdistill.teachers.captions.wording import article
from pcdistill.teachers.color_names import main_color


class TemplateCaptioner:
    """Says the label and the colour of a mask: "a brown table".

    The colour is left out where no single one covers most of the mask. Materials are not told:
    nothing here knows them on a photograph.
    """

    name = "template"

    def __init__(self, label_first: bool) -> None:
        """Choose the form.

        Args:
            label_first: say "table: a brown dining table", for an encoder that averages words, so
                that no adjective outweighs the label.
        """
        self._label_first = label_first
        self.provenance = {
            "revision": "label-first" if label_first else "phrase",
            "licence": "Apache-2.0",
        }

    def __call__(
        self,
        image: Tensor,
        mask_ids: Tensor,
        labels: Sequence[str],
        nouns: Sequence[str] | None = None,
    ) -> tuple[str, ...]:
        """Describe the masks of one image; see `Captioner`."""
        texts = []
        for number, (label, noun) in enumerate(
            zip(labels, labels if nouns is None else nouns, strict=True)
        ):
            described = template_caption(noun, main_color(image[:, mask_ids == number]) or "")
            texts.append(f"{label}: {described}" if self._label_first else described)
        return tuple(texts)


def template_caption(noun: str, *described: str) -> str:
    """Compose a caption such as "a brown dining table".

    Args:
        noun: what is described.
        described: adjectives, in order; empty ones are left out.
    """
    phrase = " ".join((*filter(None, described), noun))
    return f"{article(phrase)} {phrase}"
