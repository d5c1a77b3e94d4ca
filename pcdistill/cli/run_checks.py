"""Everything about a run that can be told to fail later from its configuration and its files."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pcdistill.artifacts import get_scan_index, validation_scenes
from pcdistill.errors import ConfigError
from pcdistill.inference import GENERAL_PHRASES, ignored_words, known_words
from pcdistill.pipeline import HOME_IMAGE_SIZE, STAGE_NAMES, RunContext
from pcdistill.suggest import suggest

_LOG = logging.getLogger(__name__)

_NO_FRAMES = "bare"
"""The layout of clouds and meshes alone."""


def check_run(run: RunContext, stages: Sequence[str] = STAGE_NAMES) -> None:
    """Refuse a run whose later stages, or questions to it, are bound to fail; nothing is written.

    Args:
        run: as it was configured.
        stages: names of those that will be worked on.

    Raises:
        ConfigError: a setting names what there is not, or settings do not go together.
        ArtifactError: the trained student's file is damaged.
        MissingExtraError: a package is not installed.
    """
    run.validate()
    if run.config.ingest.source == "homes":
        _check_homes(run)
    elif "lift" in stages:
        _check_scans(run)
    _check_students(run)
    _check_report(run)


def _check_homes(run: RunContext) -> None:
    from pcdistill.homes import LABEL_SET

    if run.label_set.name != LABEL_SET:
        raise ConfigError(
            f"run.label_set is '{run.label_set.name}' but generated homes are labelled with "
            f"'{LABEL_SET}'; set run.label_set: {LABEL_SET}"
        )
    if not validation_scenes(run):
        raise ConfigError(
            "ingest.validation is 0 but the stages evaluate and report need a home to measure; set "
            "it to 1 or more"
        )
    size, border = run.config.ingest.image_size or HOME_IMAGE_SIZE, run.config.lift.border
    if run.config.run.teachers and 2 * border >= min(size):
        raise ConfigError(
            f"lift.border is {border} pixels but frames have {size[0]} x {size[1]}, of which "
            "nothing would be left; lower it, or raise ingest.image_size"
        )


def _check_scans(run: RunContext) -> None:
    layouts = {scan.layout for scan in get_scan_index(run).found.values()}
    if run.config.run.teachers and layouts == {_NO_FRAMES}:
        raise ConfigError(
            f"{run.config.ingest.path}: found clouds without frames, at which no teacher can look; "
            "set run.teachers: [] with distill.pretrained (configs/bare_cloud.yaml), or give scans "
            "with frames"
        )


def _check_students(run: RunContext) -> None:
    if "point" in run.config.distill.student_names and not run.config.fuse.store_point_features:
        raise ConfigError(
            "distill.students has 'point', which learns from features per point, but "
            "fuse.store_point_features is false; set it to true, or leave the student out"
        )


def _check_report(run: RunContext) -> None:
    config = run.config.report
    for key in ("queries", "heat_maps"):
        _require_words(run, f"report.{key}", getattr(config, key))
    run.text_encoder.encode(GENERAL_PHRASES)
    if len(config.expected_classes) > len(config.queries):
        raise ConfigError(
            f"report.expected_classes has {len(config.expected_classes)} classes for the "
            f"{len(config.queries)} "
            "questions of report.queries, expected at most one for each"
        )
    for number, answer in enumerate(config.expected_classes):
        if answer and answer not in run.label_set.names:
            raise ConfigError(
                f"report.expected_classes[{number}] is '{answer}', which is no class of label set "
                f"'{run.label_set.name}'; {suggest(answer, run.label_set.names)}, or '' for none"
            )
    measured = validation_scenes(run)
    for name in config.scenes:
        if name not in measured:
            raise ConfigError(
                f"report.scenes has '{name}', which is not among the {len(measured)} scenes that "
                f"are measured; {suggest(name, measured[:8])}"
            )


def _require_words(run: RunContext, setting: str, texts: Sequence[str]) -> None:
    for text in texts:
        try:
            unknown = known_words(run, text).unknown
        except ConfigError as error:
            raise ConfigError(f"{setting}: {error}") from None
        if unknown:
            _LOG.warning("%s: %s", setting, ignored_words(text, unknown))
