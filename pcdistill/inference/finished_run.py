"""A finished run as an object: ask it, take its labels and its features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pcdistill.artifacts import RunArtifacts, load_result, open_artifacts
from pcdistill.callbacks import ProgressCallback
from pcdistill.errors import ConfigError
from pcdistill.inference.labelled_clouds import export_labelled_clouds
from pcdistill.inference.predictor import ScenePredictor
from pcdistill.inference.questions import Question
from pcdistill.inference.text_query import Drawn, Querier, Response
from pcdistill.pipeline import RunContext, load_workspace_config


class FinishedRun:
    """A finished run: questions, labels, features and results of its scenes."""

    def __init__(self, artifacts: RunArtifacts) -> None:
        self.artifacts = artifacts
        self.predictor = ScenePredictor(artifacts)
        self.querier = Querier(artifacts, self.predictor)

    @property
    def scenes(self) -> tuple[str, ...]:
        """Names of all scenes, training scenes first."""
        return self.artifacts.scenes.all

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the rows of the results table."""
        return self.predictor.methods.names

    @property
    def best_method(self) -> str:
        """The method that answers unless another is named."""
        return self.predictor.methods.default(self.artifacts.workspace)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the C evaluation classes, in the order of their indices."""
        return tuple(self.artifacts.words.label_set.names)

    def query(
        self,
        text: str,
        scenes: Sequence[str] = (),
        *,
        top_k: int = 5,
        method: str | None = None,
        draw: Drawn = "none",
        synonyms: Sequence[str] = (),
        negatives: Sequence[str] = (),
        min_similarity: float | None = None,
    ) -> Response:
        """Find places that fit a text.

        Args:
            text: what to look for, in plain words.
            scenes: where to look; by default everywhere that is measured.
            top_k: places at most.
            method: whose features answer; by default the best measured one.
            draw: of which scenes a coloured cloud and a picture are written to the workspace.
            synonyms: further texts that ask for the same.
            negatives: texts of what is not meant; what fits one of them better is no answer.
            min_similarity: cosine that a place has to exceed, in [-1, 1]; by default it comes from
                the features of its scene.

        Raises:
            ConfigError: a text, a scene or the method is unknown, or a text is asked for and
                excluded.
            ArtifactError: the run is not finished.
        """
        question = Question(text, tuple(synonyms), tuple(negatives), min_similarity)
        return self.querier.query(question, scenes, top_k, method, draw)

    def labels(self, scene: str, method: str | None = None) -> Tensor:
        """(N,) int64: class index of each point of a scene; negative where there is no answer.

        Raises:
            ConfigError: the scene or the method is unknown.
            ArtifactError: the run is not finished.
        """
        self._require_scene(scene)
        return self.predictor.labels(self._method(method), scene)

    def features(self, scene: str, method: str | None = None) -> tuple[Tensor, Tensor]:
        """Features (N, D) float32 of the points of a scene, and which of them (N,) bool have one.

        Raises:
            ConfigError: the scene or the method is unknown.
            ArtifactError: the run is not finished.
        """
        self._require_scene(scene)
        return self.predictor.features(self._method(method), scene)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(K, D) float32, unit rows: texts in the space of the features.

        Raises:
            ConfigError: a text has no known word.
        """
        return self.artifacts.words.text_encoder.encode(list(texts))

    def result(self, method: str) -> dict[str, Any]:
        """Load what was measured of a method: mIoU and mAcc in %, per class, with the protocol.

        Raises:
            ConfigError: the method is unknown.
            ArtifactError: it was not measured.
        """
        return load_result(self.artifacts.workspace, self._method(method))

    def export(
        self,
        folder: str | Path | None = None,
        method: str | None = None,
        *,
        formats: Sequence[str] = ("ply",),
        zipped: bool = False,
        report: ProgressCallback = lambda done, total, words: None,
    ) -> list[Path]:
        """Write the labelled points of every scene; see `export_labelled_clouds`.

        Args:
            folder: where to; `export/` of the workspace by default.
            method: whose labels; by default those of the best measured one.
            formats: any of ply, las, laz, npz, glb, rrd and scannet.
            zipped: pack the files of format scannet as the benchmark takes them.
            report: told how many scenes are written.

        Raises:
            ConfigError: the method or a format is unknown, or the folder is a file or cannot be
                made.
            ArtifactError: the run is not finished.
        """
        return export_labelled_clouds(
            self.artifacts,
            self.predictor,
            self._method(method),
            None if folder is None else Path(folder),
            formats=formats,
            zipped=zipped,
            report=report,
        )

    def _method(self, method: str | None) -> str:
        return self.predictor.methods.require(method, self.artifacts.workspace)

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
    return FinishedRun(open_artifacts(RunContext(load_workspace_config(Path(workspace)))))
