"""A finished run as an object: ask it, take its labels and its features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from pcdistill.artifacts import load_result, scene_names
from pcdistill.errors import ConfigError
from pcdistill.inference.labelled_clouds import export_labelled_clouds
from pcdistill.inference.methods import (
    default_method,
    method_features,
    method_names,
    predict_scene_labels,
    require_method,
)
from pcdistill.inference.text_query import Drawn, Response, query
from pcdistill.pipeline import RunContext, load_config


class FinishedRun:
    """What a run has found out about its scenes."""

    def __init__(self, context: RunContext) -> None:
        self._context = context

    @property
    def scenes(self) -> tuple[str, ...]:
        """Names of all scenes, training scenes first."""
        return scene_names(self._context)

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the rows of the results table."""
        return method_names(self._context)

    @property
    def best_method(self) -> str:
        """The method that answers unless another is named."""
        return default_method(self._context)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the C evaluation classes, in the order of their indices."""
        return tuple(self._context.label_set.names)

    def query(
        self,
        text: str,
        scenes: Sequence[str] = (),
        *,
        top_k: int = 5,
        method: str | None = None,
        draw: Drawn = "none",
    ) -> Response:
        """Find places that fit a text.

        Args:
            text: what to look for, in plain words.
            scenes: where to look; by default everywhere that is measured.
            top_k: places at most.
            method: whose features answer; by default the best measured one.
            draw: of which scenes a coloured cloud and a picture are written to the workspace.

        Raises:
            ConfigError: the text, a scene or the method is unknown.
            ArtifactError: the run is not finished.
        """
        return query(self._context, text, tuple(scenes), top_k, method, draw)

    def labels(self, scene: str, method: str | None = None) -> Tensor:
        """(N,) int64: class index of each point of a scene; negative where there is no answer.

        Raises:
            ConfigError: the scene or the method is unknown.
            ArtifactError: the run is not finished.
        """
        self._require_scene(scene)
        return predict_scene_labels(self._context, require_method(self._context, method), scene)

    def features(self, scene: str, method: str | None = None) -> tuple[Tensor, Tensor]:
        """Features (N, D) float32 of the points of a scene, and which of them (N,) bool have one.

        Raises:
            ConfigError: the scene or the method is unknown.
            ArtifactError: the run is not finished.
        """
        self._require_scene(scene)
        return method_features(self._context, require_method(self._context, method), scene)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(K, D) float32, unit rows: texts in the space of the features.

        Raises:
            ConfigError: a text has no known word.
        """
        return self._context.text_encoder.encode(list(texts))

    def result(self, method: str) -> dict[str, Any]:
        """What was measured of a method: mIoU and mAcc in %, per class, with the protocol.

        Raises:
            ConfigError: the method is unknown.
            ArtifactError: it was not measured.
        """
        return load_result(self._context, require_method(self._context, method))

    def export(self, folder: str | Path | None = None, method: str | None = None) -> list[Path]:
        """Write a labelled PLY for every scene; see `export_labelled_clouds`."""
        target = None if folder is None else Path(folder)
        return export_labelled_clouds(self._context, target, method)

    def _require_scene(self, scene: str) -> None:
        if scene not in self.scenes:
            raise ConfigError(f"unknown scene '{scene}'; expected one of: {', '.join(self.scenes)}")


def open_run(workspace: str | Path) -> FinishedRun:
    """Open the workspace of a run, wherever it lies now.

    Args:
        workspace: the folder that `pcdistill run` or `pcdistill demo` wrote.

    Raises:
        ConfigError: there is no run.
    """
    return FinishedRun(open_context(Path(workspace)))


def open_context(workspace: Path) -> RunContext:
    """The context of a workspace, or of the run that a configuration file describes.

    Raises:
        ConfigError: there is neither.
    """
    path = workspace / "config.yaml" if workspace.is_dir() else workspace
    if not path.exists():
        raise ConfigError(
            f"{workspace}: found no config.yaml of a run there; give the workspace of a run, "
            "such as runs/demo"
        )
    config = load_config(path)
    if workspace.is_dir():  # it may have been moved since
        config = replace(config, run=replace(config.run, workspace=str(workspace)))
    return RunContext(config)
