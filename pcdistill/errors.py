"""Exceptions for mistakes of users, whose text is the whole message.

A message is one sentence that names the file or setting, what was found, what was expected, and
what to do. The command line prints it without a traceback; anything else is a bug of ours.
"""

from __future__ import annotations

import re

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Line ends, orders to a terminal, and what has no bytes: names in foreign files may have them."""


_ENDLESS = re.compile(r"[^\s/]{300,}")
"""More than a name of a file can have, without a space: what damaged files are quoted with."""
_LONGEST = 6000
"""Characters of a message; a path alone may have 4,096."""


class PcdistillError(Exception):
    """Base of every error a user can mend; its text stands alone, in one printable line.

    What it quotes of foreign files may be of any length, and is cut in the middle.
    """

    def __str__(self) -> str:
        text = _ENDLESS.sub(lambda found: f"{found[0][:40]}...{found[0][-20:]}", super().__str__())
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
        return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


class ConfigError(PcdistillError):
    """A configuration file or command-line value that the user can edit is wrong."""


class MissingWeightsError(ConfigError):
    """A file or folder of weights is not on this machine."""


class SceneError(PcdistillError):
    """One scene is unusable; a run goes on with the others and ends with exit status 1."""


class ArtifactError(PcdistillError):
    """A stored artefact or checkpoint is missing, damaged, or made for something else."""


class UnreadableError(ArtifactError):
    """A stored artefact is there, or may be, but cannot be read: that is not called missing."""


class TrainingError(PcdistillError):
    """A student learned nothing that could be used."""


class LostRankError(PcdistillError):
    """Another process of a training over several processes ended, or does not answer."""


class MissingExtraError(PcdistillError):
    """An optional package is not installed; the text names the extra that brings it."""


def require_setting(condition: bool, setting: str, expected: str, found: object) -> None:
    """Check one setting of a configuration.

    Args:
        condition: whether its value is allowed.
        setting: `section.key`.
        expected: what it must be.
        found: its value.

    Raises:
        ConfigError: the condition does not hold.
    """
    if not condition:
        raise ConfigError(f"{setting} must be {expected}, got {found}")


def require_text(where: str, value: str) -> None:
    """Refuse text that has no bytes: half a surrogate pair, as JSON, YAML and terminals may have.

    Args:
        where: file or setting, for the message.
        value: the text.

    Raises:
        ConfigError: it cannot be written, asked for or drawn.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{where}: {value[:60]!a} is no text, expected letters; write it again as UTF-8"
        ) from None


def file_trouble(error: OSError, path: object = None) -> str:
    """Compose a message of what the operating system refused.

    Args:
        error: what the system said.
        path: the file, where the error does not name it.
    """
    file, reason = error.filename if path is None else path, error.strerror or str(error)
    if file is None:
        return f"a file cannot be read or written ({reason}); check permissions and free space"
    return f"{file}: cannot be read or written ({reason}); check its permissions and the free space"
