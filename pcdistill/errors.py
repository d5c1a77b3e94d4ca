"""The mistakes a user can make, as exceptions whose text is the whole message.

A message is one sentence that names the file or setting, what was found, what was expected, and
what to do. The command line prints it without a traceback; anything else is a bug of ours.
"""

from __future__ import annotations


class PcdistillError(Exception):
    """Base of every error a user can mend; its text stands alone."""


class ConfigError(PcdistillError):
    """A configuration file or command-line value that the user can edit is wrong."""


class SceneError(PcdistillError):
    """One scene is unusable; a run goes on with the others and ends with exit status 1."""


class ArtifactError(PcdistillError):
    """A stored artefact or checkpoint is missing, damaged, or made for something else."""


class TrainingError(PcdistillError):
    """A student learned nothing that could be used."""


class MissingExtraError(PcdistillError):
    """An optional package is not installed; the text names the extra that brings it."""
