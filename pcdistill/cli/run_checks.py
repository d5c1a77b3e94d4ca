"""Checks of a run before it begins: settings and files with which a later stage would fail."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pcdistill.artifacts import open_scan_sources, require_tensorboard, split_scenes
from pcdistill.errors import ConfigError
from pcdistill.inference import GENERAL_PHRASES, ignored_words, known_words
from pcdistill.pipeline import HOME_IMAGE_SIZE, STAGE_NAMES, RunConfig, RunContext, RunWords
from pcdistill.scenes import LabelSet
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
        _check_homes(run.config, run.label_set)
    elif "lift" in stages:
        layouts = {scan.layout for scan in open_scan_sources(run).index.found.values()}
        _check_frames(run.config, layouts)
    _check_students(run.config)
    if "distill" in stages:
        _check_precision(run.config, run.device.type)
        if run.config.distill.tensorboard:
            require_tensorboard()
        _check_validation(run.config, is_test=split_scenes(run).is_test)
    _check_report(run.config, run.words, split_scenes(run).validation)


def _check_homes(config: RunConfig, label_set: LabelSet) -> None:
    from pcdistill.homes import LABEL_SET

    if label_set.name != LABEL_SET:
        raise ConfigError(
            f"run.label_set is '{label_set.name}' but generated homes are labelled with "
            f"'{LABEL_SET}'; set run.label_set: {LABEL_SET}"
        )
    if config.ingest.validation == 0:
        raise ConfigError(
            "ingest.validation is 0 but the stages evaluate and report need a home to measure; set "
            "it to 1 or more"
        )
    size, border = config.ingest.image_size or HOME_IMAGE_SIZE, config.lift.border
    if config.run.teachers and 2 * border >= min(size):
        raise ConfigError(
            f"lift.border is {border} pixels but frames have {size[0]} x {size[1]}, of which "
            "nothing would be left; lower it, or raise ingest.image_size"
        )


def _check_frames(config: RunConfig, layouts: set[str]) -> None:
    """Refuse teachers where no scan has frames; `layouts` are those of the scans."""
    if config.run.teachers and layouts == {_NO_FRAMES}:
        raise ConfigError(
            f"{config.ingest.path}: found clouds without frames, at which no teacher can look; "
            "set run.teachers: [] with distill.pretrained (configs/bare_cloud.yaml), or give scans "
            "with frames"
        )


def _check_students(config: RunConfig) -> None:
    if "point" in config.distill.student_names and not config.fuse.store_point_features:
        raise ConfigError(
            "distill.students has 'point', which learns from features per point, but "
            "fuse.store_point_features is false; set it to true, or leave the student out"
        )


def _check_precision(config: RunConfig, device: str) -> None:
    """Refuse float16 on a CPU; `device` is its kind."""
    own = config.distill
    if own.pretrained is None and own.precision == "float16" and device != "cuda":
        raise ConfigError(
            f"distill.precision is float16, which needs a GPU, but the student learns on the "
            f"{device}; set distill.precision: bfloat16 or float32"
        )


def _check_validation(config: RunConfig, *, is_test: bool) -> None:
    """Refuse to validate on test scenes, or to let the best answer where nothing is measured."""
    own = config.distill
    if own.pretrained is None and own.validate_every and is_test:
        raise ConfigError(
            f"distill.validate_every is {own.validate_every} but the scenes that the run measures "
            "are test scenes, which no training may look at; set it to 0, or measure others while "
            "you choose (ingest.homes: development, ingest.validation_list)"
        )
    if own.pretrained is None and own.answer == "best" and not own.validate_every:
        raise ConfigError(
            "distill.answer is best but distill.validate_every is 0, so that nothing tells which "
            "weights are the best; set it to a number of epochs, or answer: last"
        )


def _check_report(run: RunConfig, words: RunWords, measured: Sequence[str]) -> None:
    config, classes = run.report, words.label_set.names
    for key in ("queries", "heat_maps"):
        _require_words(words, f"report.{key}", getattr(config, key))
    words.text_encoder.encode(GENERAL_PHRASES)
    if len(config.expected_classes) > len(config.queries):
        raise ConfigError(
            f"report.expected_classes has {len(config.expected_classes)} classes for the "
            f"{len(config.queries)} "
            "questions of report.queries, expected at most one for each"
        )
    for number, answer in enumerate(config.expected_classes):
        if answer and answer not in classes:
            raise ConfigError(
                f"report.expected_classes[{number}] is '{answer}', which is no class of label set "
                f"'{words.label_set.name}'; {suggest(answer, classes)}, or '' for none"
            )
    for name in config.scenes:
        if name not in measured:
            raise ConfigError(
                f"report.scenes has '{name}', which is not among the {len(measured)} scenes that "
                f"are measured; {suggest(name, measured[:8])}"
            )


def _require_words(words: RunWords, setting: str, texts: Sequence[str]) -> None:
    for text in texts:
        try:
            unknown = known_words(words, text).unknown
        except ConfigError as error:
            raise ConfigError(f"{setting}: {error}") from None
        if unknown:
            _LOG.warning("%s: %s", setting, ignored_words(text, unknown))
