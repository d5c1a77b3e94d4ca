"""Captions put together from what is known of a mask, without a language model."""

from __future__ import annotations


def template_caption(label: str, *described: str, noun: str | None = None) -> str:
    """A caption such as "table: a brown dining table", for an encoder that averages words.

    Args:
        label: the noun that the mask is found by; it leads, so that no adjective outweighs it.
        described: adjectives, in order; empty ones are left out.
        noun: what is described, by default the label.
    """
    phrase = " ".join((*filter(None, described), noun or label))
    article = "an" if phrase[0].lower() in "aeiou" else "a"
    return f"{label}: {article} {phrase}"
