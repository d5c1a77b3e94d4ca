"""Temporal ensemble: moving average of the student's class scores, and its pseudo labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pcdistill.distillation.histories import Histories, MemoryHistories, stored_scores
from pcdistill.geometry import require_shape, superpoint_mean


class PseudoLabels(NamedTuple):
    """Labels that the history of one scene gives; int64 in [0, K), on the ids' device."""

    point: Tensor
    """(N,): best class of each point."""
    superpoint: Tensor
    """(S,): best class of each superpoint; 0 where a superpoint has no point."""


class TemporalEnsemble:
    """Exponential moving average of the student's scores in every scene.

    The published method averages features, F = a F + (1 - a) F_new, and labels with
    argmax(F · text). The dot product and pooling over superpoints are linear, so averaging the
    K scores gives the same labels with K / D of the memory (1 / 25.6 of a float32 history for
    20 classes and 512 channels, 1 / 12.8 of a half one). Where points have the label of their
    superpoint, as in the released code, no label asks for the scores of a point: a history is of
    the superpoints then, each with the mean over its points, since that mean and the average are
    linear and every output is of every point. Scores are kept in float32: in half precision, as
    released, a step of 1 - alpha = 1e-4 of the difference is mostly rounded away. Where several
    prompts ask for one class, the history is of the P prompts, since the best of several is not
    linear; labels are classes.

    R below are the rows of a history: N points, or S superpoints. It begins with the first output
    it is given. It is kept in `histories`, in memory by default; each update moves one scene's
    scores to the student's device and back.

    Source: SAS, Eq. 11 and 12.
    """

    def __init__(
        self,
        text_embeddings: Tensor,
        alpha: float = 0.9999,
        *,
        point_labels: Literal["point", "superpoint"] = "point",
        class_of_prompt: Tensor | None = None,
        device: torch.device | str = "cpu",
        histories: Histories | None = None,
    ) -> None:
        """Begin with the scenes of `histories`, of which memory has none.

        Args:
            text_embeddings: (P, D) float; the prompts of the classes that the labels choose from.
            alpha: share of the past in each update, in [0, 1]; the released value by default.
            point_labels: "point" labels each point by its own history, as published;
                "superpoint" gives it the label of its superpoint, as the released code does.
            class_of_prompt: (P,) int64 in [0, K), where several prompts ask for one class; without
                it each prompt is a class, P = K.
            device: where the text embeddings, and histories in memory, are kept.
            histories: where the scores are kept; memory by default.

        Raises:
            ValueError: the embeddings are not a matrix or alpha is out of range.
        """
        require_shape("text_embeddings", text_embeddings, None, None)
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is {alpha}, expected a number from 0 to 1")
        self.text_embeddings = text_embeddings.detach().float().to(device)
        if class_of_prompt is not None:
            require_shape("class_of_prompt", class_of_prompt, len(text_embeddings))
        self.class_of_prompt = class_of_prompt
        self.alpha = float(alpha)
        self.of_superpoints = point_labels == "superpoint"
        """Whether a history has a row a superpoint, instead of one a point."""
        self.device = torch.device(device)
        self.histories: Histories = histories or MemoryHistories(self.device)

    @property
    def scenes(self) -> tuple[str, ...]:
        """Names of the scenes that have a history."""
        return self.histories.scenes

    @property
    def nbytes(self) -> int:
        """Bytes of all histories together."""
        return self.histories.nbytes

    def history(self, scene: str) -> Tensor:
        """(R, P) float32: scores of one scene; a view, not a copy.

        Raises:
            ValueError: the scene has no history yet.
        """
        scores = self.histories.get(scene)
        if scores is None:
            raise ValueError(f"scene '{scene}' has no history yet; initialize or update it first")
        return scores

    def initialize(
        self,
        scene: str,
        student: Tensor,
        *,
        point_to_voxel: Tensor | None = None,
        superpoint_ids: Tensor | None = None,
        count: int | None = None,
    ) -> None:
        """Begin (again) the history of a scene with one output of the student.

        Args:
            scene: its name.
            student: (N, D) float per point, or (V, D) per voxel together with `point_to_voxel`.
            point_to_voxel: (N,) int64, row of `student` for each point.
            superpoint_ids: (N,) integer in [0, S). A history of points begins with the mean of
                each point's superpoint then, as in the released code, and without them with
                the point's own score; a history of superpoints needs them.
            count: S; the largest id + 1 by default.

        Raises:
            ValueError: shapes do not fit.
        """
        scores = self._point_scores(student, point_to_voxel)  # (N, P)
        if self.of_superpoints:
            scores = _pooled(scores, superpoint_ids, count)  # (S, P)
        elif superpoint_ids is not None:
            ids = superpoint_ids.to(scores.device, torch.int64)
            scores = superpoint_mean(scores, ids)[ids]  # (N, P), the same in a superpoint
        self.histories.put(scene, scores)

    def update(
        self,
        scene: str,
        student: Tensor,
        *,
        point_to_voxel: Tensor | None = None,
        superpoint_ids: Tensor | None = None,
        count: int | None = None,
    ) -> Tensor:
        """Update the history of a scene with one output of the student (Eq. 11).

        Args as in `initialize`, which is what happens for a scene without history; a history of
        points reads the superpoints only then.

        Returns:
            (R, P) float32, the history after the update, on the student's device.

        Raises:
            ValueError: shapes do not fit, or the scene has another number of points, or
                superpoints, than before.
        """
        past = self.histories.get(scene)  # (R, P)
        if past is None:
            self.initialize(
                scene,
                student,
                point_to_voxel=point_to_voxel,
                superpoint_ids=superpoint_ids,
                count=count,
            )
            return self.history(scene).to(student.device)
        scores = self._point_scores(student, point_to_voxel)  # (N, P)
        if self.of_superpoints:
            scores = _pooled(scores, superpoint_ids, count)  # (S, P)
        if scores.shape != past.shape:
            rows = "superpoints" if self.of_superpoints else "points"
            raise ValueError(
                f"scene '{scene}': {scores.shape[0]} {rows} but the history has {past.shape[0]}; "
                "give an output for every point, in the same order as before"
            )
        present = torch.lerp(past.to(scores.device), scores, 1 - self.alpha)
        self.histories.put(scene, present)
        return present

    def pseudo_labels(
        self, scene: str, superpoint_ids: Tensor, *, count: int | None = None
    ) -> PseudoLabels:
        """Label the points and superpoints of a scene by its history (Eq. 12).

        Args:
            scene: its name.
            superpoint_ids: (N,) integer in [0, S).
            count: S; the largest id + 1 by default, or as many as the history has.

        Raises:
            ValueError: the scene has no history or shapes do not fit.
        """
        scores = self.history(scene).to(superpoint_ids.device)  # (R, P)
        if self.of_superpoints:
            require_shape("superpoint_ids", superpoint_ids, None)
            require_shape("history", scores, count, None)
            superpoint = self._best_class(scores)  # (S,)
            return PseudoLabels(superpoint[superpoint_ids.long()], superpoint)
        require_shape("superpoint_ids", superpoint_ids, len(scores))
        superpoint = self._best_class(superpoint_mean(scores, superpoint_ids, count))  # (S,)
        return PseudoLabels(self._best_class(scores), superpoint)

    def _best_class(self, prompt_scores: Tensor) -> Tensor:
        """(R,) int64 in [0, K), class of the best prompt, of scores (R, P)."""
        best = prompt_scores.argmax(dim=1)  # (R,) in [0, P)
        return best if self.class_of_prompt is None else self.class_of_prompt.to(best.device)[best]

    def state_dict(self) -> dict[str, Tensor]:
        """Collect everything needed to go on later, as tensors that safetensors can store."""
        state = self.histories.state()
        state["alpha"] = torch.tensor(self.alpha, dtype=torch.float64)
        state["text_embeddings"] = self.text_embeddings
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` gave; whatever was here before is replaced.

        Raises:
            ValueError: the state is of other classes, another alpha, or not such a state.
        """
        if "alpha" not in state or "text_embeddings" not in state:
            raise ValueError(
                f"the state has the keys {sorted(state)}, expected those of TemporalEnsemble"
            )
        if float(state["alpha"]) != self.alpha:
            raise ValueError(
                f"the state has alpha {float(state['alpha'])}, here it is {self.alpha}"
            )
        stored = state["text_embeddings"].to(self.device)
        if not torch.equal(stored, self.text_embeddings):
            raise ValueError(
                f"the state scores other text embeddings {tuple(stored.shape)} than those here "
                f"{tuple(self.text_embeddings.shape)}; begin the ensemble anew"
            )
        for scene, scores in stored_scores(state).items():
            require_shape(f"history of scene '{scene}'", scores, None, len(self.text_embeddings))
        self.histories.load(state)

    @torch.no_grad()
    def _point_scores(self, student: Tensor, point_to_voxel: Tensor | None) -> Tensor:
        """(N, P) float32: scores of every point, of a student's output per point or per voxel."""
        require_shape("student", student, None, self.text_embeddings.shape[1])
        text = self.text_embeddings.to(student.device)
        with torch.autocast(student.device.type, enabled=False):
            scores = student.detach().float() @ text.T  # (N, P) or (V, P)
        if point_to_voxel is None:
            return scores
        require_shape("point_to_voxel", point_to_voxel, None)
        return scores[point_to_voxel]  # (N, P)


def _pooled(scores: Tensor, superpoint_ids: Tensor | None, count: int | None) -> Tensor:
    """(S, P) float32: mean of (N, P) scores over each superpoint."""
    if superpoint_ids is None:
        raise ValueError("a history of superpoints needs the superpoint_ids of every point")
    return superpoint_mean(scores, superpoint_ids, count)
