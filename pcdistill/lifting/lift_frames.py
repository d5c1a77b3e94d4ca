"""Pipelined lifting of frames: reading, inference of the teacher and accumulation overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from pcdistill.callbacks import ProgressCallback
from pcdistill.fusion import MultiViewAccumulator
from pcdistill.scenes import Frame
from pcdistill.teachers import FeatureMap, LabelledMasks, Teacher, ViewGeometry, predict_batch

T = TypeVar("T")
R = TypeVar("R")


class FrameObservation(NamedTuple):
    """One frame's image, and the points that it sees."""

    seen: Tensor
    """(M,) int64, the points."""
    pixels: Tensor
    """(M, 2) int64, (column, row) of each."""
    image: Tensor
    """(3, H, W) uint8."""
    geometry: ViewGeometry | None = None
    """What the scan knows of the surface in it, for teachers that follow it."""


FrameLoader = Callable[[Frame], FrameObservation | None]
"""Reads one frame; None where it sees no point. Called from several threads at once."""


def lift_frames(
    frames: Sequence[Frame],
    load_frame: FrameLoader,
    teacher: Teacher,
    accumulator: MultiViewAccumulator,
    report: ProgressCallback,
    *,
    batch: int = 1,
    workers: int = 2,
) -> None:
    """Run a teacher on every frame and accumulate its features per point.

    Frames are read by `workers` threads, a bounded number ahead of the teacher, and added up by
    another thread while the teacher sees the next ones. Frames reach the teacher and the sums in
    their own order, so that neither `workers` nor the machine's speed changes the result; `batch`
    changes it by no more than the teacher's own rounding. At most ``2 * workers + 3 * batch``
    frames are in memory, and the teacher's maps of ``2 * batch``.

    Args:
        frames: of one scene.
        load_frame: reads a frame and tells which points it sees.
        teacher: gives a feature map or labelled masks for each image.
        accumulator: what is said is added to.
        report: called after every frame.
        batch: images of one size that the teacher is given at once.
        workers: threads that read frames, at least 1.

    Raises:
        SceneError: a frame cannot be read; nothing goes on in the background afterwards.
    """
    readers = ThreadPoolExecutor(workers, thread_name_prefix="read-frame")
    adder = ThreadPoolExecutor(1, thread_name_prefix="add-frame")
    adding: Future[None] | None = None
    done = 0
    try:
        views = ordered_map(readers, load_frame, frames, ahead=2 * workers + batch)
        for group, passed in _batches(views, batch):
            answers = deque(_ask(teacher, group) if group else ())
            if adding is not None:
                adding.result()
            adding = adder.submit(_add, accumulator, group, answers)
            done += passed
            report(done, len(frames), "frames")
        if adding is not None:
            adding.result()
    finally:
        readers.shutdown(cancel_futures=True)
        adder.shutdown(cancel_futures=True)


def ordered_map(
    workers: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T], *, ahead: int
) -> Iterator[R]:
    """Results of `work` in the order of the items, at most `ahead` of them begun and not taken.

    Args:
        workers: threads that do the work.
        work: called with one item.
        items: taken as they are needed.
        ahead: results that may be begun before they are taken.
    """
    begun: deque[Future[R]] = deque()
    for item in items:
        begun.append(workers.submit(work, item))
        if len(begun) >= max(1, ahead):
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _batches(
    views: Iterable[FrameObservation | None], size: int
) -> Iterator[tuple[list[FrameObservation], int]]:
    """Up to `size` consecutive views of one image size, and how many frames went by for them."""
    group: list[FrameObservation] = []
    passed = 0
    for view in views:
        if view is not None and group and group[0].image.shape != view.image.shape:
            yield group, passed
            group, passed = [], 0
        passed += 1
        if view is not None:
            group.append(view)
        if len(group) == size:
            yield group, passed
            group, passed = [], 0
    if passed:
        yield group, passed


def _ask(
    teacher: Teacher, views: Sequence[FrameObservation]
) -> Sequence[FeatureMap | LabelledMasks]:
    """What a teacher says of views of one image size."""
    known = [view.geometry for view in views if view.geometry is not None]
    images = torch.stack([view.image for view in views])
    return predict_batch(teacher, images, known if len(known) == len(views) else None)


def _add(
    accumulator: MultiViewAccumulator,
    views: Sequence[FrameObservation],
    answers: deque[FeatureMap | LabelledMasks],
) -> None:
    """Accumulate the outputs of some views; they are popped, so that no map outlives its turn."""
    if len(answers) != len(views):
        raise ValueError(f"the teacher gave {len(answers)} answers for {len(views)} images")
    for view in views:
        answer = answers.popleft()
        if isinstance(answer, LabelledMasks):
            accumulator.add_masks(
                view.seen, answer.mask_at(view.pixels), answer.embeddings, keys=answer.captions
            )
        else:
            accumulator.add_map(
                view.seen,
                view.pixels,
                answer.features,
                answer.image_size,
                align_corners=answer.align_corners,
                covered=answer.covered,
            )
