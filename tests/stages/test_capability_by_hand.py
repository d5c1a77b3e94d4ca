"""Stages synthesize and score on pictures of a few pixels whose masks and scores are counted."""

from __future__ import annotations

import json

import pytest
import torch

from pcdistill.artifacts.capability import (
    load_capability,
    load_reference_images,
    load_taught_words,
)
from pcdistill.capability import GeneratedImage
from pcdistill.capability.registry import GENERATORS, SEGMENTERS
from pcdistill.pipeline.artifact_files import read_json, read_provenance, write_tensors
from pcdistill.pipeline.context import RunContext
from pcdistill.stages.score import ScoreStage
from pcdistill.stages.synthesize import SynthesizeStage
from tests.fixtures.runs import measured_capability
from tests.stages.followed import Outcomes, follows
from tests.stages.toy import AXES, CLASSES, TEACHERS, VOCABULARY, ToyTeacher, toy_run, work

HEIGHT, WIDTH = 9, 14
SPOTS = {(1, 2): 0.95, (4, 8): 0.8, (7, 3): 0.6, (7, 11): 0.45}
"""(row, column) -> attention, in the order in which equally large spots are pointed at."""
FAINT = 7
"""A picture with a number of this remainder by eight has no attention anywhere."""


class Spots:
    """Pictures filled with their number, and a few pixels of attention, moved by it.

    What is drawn is what the prompt says, the next thing where it says "beside".
    """

    name = "spots"
    image_size = (HEIGHT, WIDTH)
    provenance = {"revision": "1"}  # noqa: RUF012
    settings = {"style": "spots"}  # noqa: RUF012

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []

    def unsupported_categories(self, prompt, categories):
        return ()

    def __call__(self, prompt: str, words: str, seed: int) -> GeneratedImage:
        self.asked.append((prompt, words, seed))
        image = torch.full((3, HEIGHT, WIDTH), seed % 251, dtype=torch.uint8)
        (axis,) = [axis for word, axis in AXES.items() if word in prompt]
        image[0] = (axis + ("beside" in prompt)) % 3
        attention = torch.zeros(HEIGHT, WIDTH)
        for (row, column), value in SPOTS.items():
            if seed % 8 != FAINT:
                attention[row, column + seed % 3] = value
        return GeneratedImage(image, attention)


class Crosses:
    """The points themselves and the pixels beside them; where they go is up to the picture."""

    name = "crosses"
    provenance = {"revision": "1"}  # noqa: RUF012

    def __call__(self, image, points):
        mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
        for column, row in points.tolist():
            mask[row, column - 1 : column + 2] = True
        return mask


class Fickle(Crosses):
    """Finds nothing, everything or something else in some pictures, by their number."""

    def __call__(self, image, points):
        number, mask = int(image[1, 0, 0]), super().__call__(image, points)
        wrong = {
            2: torch.zeros_like(mask),
            10: torch.zeros_like(mask),
            4: torch.ones_like(mask),
            5: torch.zeros_like(mask).index_fill(0, torch.tensor([0]), True),
        }
        return wrong.get(number, mask)


class Holes(Crosses):
    """Everything but the points."""

    def __call__(self, image, points):
        mask = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
        mask[points[:, 1], points[:, 0]] = False
        return mask


class Wide(Spots):
    """Attention in the ten columns from the left, up to the rim."""

    def __call__(self, prompt, words, seed):
        drawn = super().__call__(prompt, words, seed)
        attention = torch.zeros(HEIGHT, WIDTH)
        attention[:, :10] = 1.0
        return drawn._replace(attention=attention)


def synthesize(folder, category: str = "bed", *, seed: int = 0, **settings) -> RunContext:
    run = toy_run(folder, run={"seed": seed}, synthesize={"images": 3, **settings})
    run.generator, run.segmenter = Spots(), Crosses()
    work(SynthesizeStage, run, category)
    return run


def crosses(number: int, threshold: float = 0.7, prompts: int = 3) -> torch.Tensor:
    """(H, W) bool: what `Crosses` makes of the brightest spots, as many as there are points."""
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    bright = [spot for spot, value in SPOTS.items() if value > threshold]
    for row, column in bright[:prompts]:
        mask[row, column + number % 3 - 1 : column + number % 3 + 2] = True
    return mask


def pictures(run: RunContext, category: str = "bed") -> list[tuple[int, torch.Tensor]]:
    """Number of each stored picture, and its mask."""
    images, masks = load_reference_images(run.workspace, category)
    assert bool((images[:, 0] == AXES[category]).all())
    return list(zip(images[:, 1, 0, 0].tolist(), masks, strict=True))


@pytest.mark.parametrize("category", CLASSES)
def test_a_mask_is_what_the_segmenter_makes_of_the_points_in_its_own_picture(tmp_path, category):
    run = synthesize(tmp_path, category)
    found = pictures(run, category)
    assert [number for number, _ in found] == [0, 1, 2]
    for number, mask in found:
        assert torch.equal(mask, crosses(number))
    prompt = f"a good photo of a {category}"
    assert run.generator.asked == [(prompt, category, number) for number in range(3)]


def test_pictures_without_a_mask_are_left_out_with_their_masks(tmp_path):
    """Which and why is in the artefact, how many and why in the stage's line."""
    run = toy_run(tmp_path, synthesize={"images": 11})
    run.generator, run.segmenter = Spots(), Fickle()
    said = work(SynthesizeStage, run, "bed")
    found = pictures(run)
    assert [number for number, _ in found] == [0, 1, 3, 6, 8, 9]
    for number, mask in found:
        assert torch.equal(mask, crosses(number))
    told = read_provenance(run.workspace.reference_images("bed"))["left_out"]
    assert told == {
        "no coarse region": [FAINT],
        "empty mask": [2, 10],
        "mask of everything": [4],
        "mask off the heat map": [5],
    }
    assert said == (
        "6 images, masks cover 5 %, left out: 2 empty mask, 1 mask of everything, "
        "1 mask off the heat map, 1 no coarse region"
    )


def test_a_class_without_any_mask_has_no_score(tmp_path):
    """The others have theirs, and the run goes on."""
    run = toy_run(tmp_path, synthesize={"images": 3})
    run.generator, run.segmenter = Spots(), Crosses()
    for word in VOCABULARY:
        faint = {"bed": 0.97}.get(word, 0.7)
        one = toy_run(tmp_path, synthesize={"images": 3, "threshold": faint})
        one.generator, one.segmenter = Spots(), Crosses()
        said = work(SynthesizeStage, one, word)
        if word == "bed":
            assert said == (
                "none of 3 images shows where the class is (3 no coarse region), so it has no "
                "score; raise synthesize.images or lower synthesize.threshold"
            )
    said = work(ScoreStage, run, TEACHERS[0])
    assert f"over {len(VOCABULARY) - 1} classes and {3 * (len(VOCABULARY) - 1)} images" in said
    known = load_capability(run.workspace, TEACHERS[:1], VOCABULARY)[0]
    assert known.isnan().tolist() == [word == "bed" for word in VOCABULARY]


@follows("synthesize.images")
def test_images(tmp_path) -> Outcomes:
    for value in (1, 4):
        run = synthesize(tmp_path / str(value), images=value)
        yield [number for number, _ in pictures(run)], list(range(value))


@follows("synthesize.threshold")
def test_threshold(tmp_path) -> Outcomes:
    for value in (0.5, 0.7, 0.9):
        run = synthesize(tmp_path / str(value), threshold=value)
        expected = [(number, crosses(number, threshold=value)) for number in range(3)]
        yield pictures(run), expected


@follows("synthesize.prompt_points")
def test_prompts(tmp_path) -> Outcomes:
    """Four spots of one pixel; more points than spots repeat them, and lie nowhere else."""
    for value in (2, 3, 4):
        run = synthesize(tmp_path / str(value), prompt_points=value, threshold=0.4)
        expected = [(n, crosses(n, threshold=0.4, prompts=value)) for n in range(3)]
        yield pictures(run), expected
    run = synthesize(tmp_path / "more", prompt_points=9, threshold=0.4)
    assert all(torch.equal(mask, crosses(n, 0.4, 4)) for n, mask in pictures(run))


@follows("synthesize.clean_border")
def test_clean_border(tmp_path) -> Outcomes:
    """One row above and below and two columns at either side are the rim of so small a picture."""
    for value in (False, True):
        run = toy_run(tmp_path / str(value), synthesize={"images": 1, "clean_border": value})
        run.generator, run.segmenter = Wide(), Holes()
        work(SynthesizeStage, run, "bed")
        ((_, mask),) = pictures(run)
        assert int((~mask).sum()) == 3
        yield bool(mask[1:-1, 2:-2].logical_not().sum() == 3), value


def test_another_seed_makes_other_pictures(tmp_path):
    for seed in (0, 2):
        run = synthesize(tmp_path / str(seed), seed=seed)
        numbers = [number for _, _, number in run.generator.asked]
        assert numbers == [10_000 * seed + number for number in range(3)]


@follows("synthesize.prompt")
def test_prompt(tmp_path) -> Outcomes:
    """The picture is of what the prompt says, the attention of the class, and both are noted."""
    for number, value in enumerate(("a good photo of a {}", "what stands beside a {} in a {room}")):
        run = synthesize(tmp_path / str(number), prompt=value)
        said = value.replace("{}", "bed")
        assert run.generator.asked == [(said, "bed", n) for n in range(3)]
        assert read_provenance(run.workspace.reference_images("bed"))["prompt"] == said
        yield (
            load_reference_images(run.workspace, "bed")[0][:, 0].unique().tolist(),
            [(AXES["bed"] + number) % 3],
        )


@follows("synthesize.generator")
def test_generator(tmp_path, monkeypatch) -> Outcomes:
    class Later(Spots):
        def __call__(self, prompt, words, seed):
            return super().__call__(prompt, words, seed + 100)

    for value, made, first in (("spots", Spots, 0), ("later", Later, 100)):
        monkeypatch.setitem(GENERATORS, value, lambda _, made=made: made())
        run = toy_run(tmp_path / value, synthesize={"images": 3, "generator": value})
        run.segmenter = Crosses()
        work(SynthesizeStage, run, "bed")
        yield pictures(run), [(first + n, crosses(first + n)) for n in range(3)]


@follows("synthesize.segmenter")
def test_segmenter(tmp_path, monkeypatch) -> Outcomes:
    class Rows(Crosses):
        def __call__(self, image, points):
            return super().__call__(image, points).any(dim=1, keepdim=True).expand(HEIGHT, WIDTH)

    for value, made in (("crosses", Crosses), ("rows", Rows)):
        monkeypatch.setitem(SEGMENTERS, value, lambda _, made=made: made())
        run = toy_run(tmp_path / value, synthesize={"images": 3, "segmenter": value})
        run.generator = Spots()
        work(SynthesizeStage, run, "bed")
        rows = crosses(0).any(dim=1, keepdim=True).expand(HEIGHT, WIDTH)
        yield pictures(run), [(n, rows if value == "rows" else crosses(n)) for n in range(3)]


def test_other_weights_of_a_segmenter_make_other_masks(tmp_path):
    """The artefact says whose masks they are, and other weights make it stale."""
    run = synthesize(tmp_path)
    told = read_provenance(run.workspace.reference_images("bed"))["segmenter"]
    assert told == {"name": "crosses", "revision": "1"}
    stage = SynthesizeStage(run)
    before = stage.settings("bed")
    run.segmenter.provenance = {"revision": "2"}
    assert stage.settings("bed") != before


SEEN = {"bed": ((4, 2), (10, 9)), "door": ((6, 6), (3, 0)), "lamp": ((2, 1), (8, 6))}
"""Word -> of two pictures, columns that have its colour, and of these that it is truly on."""
EXTRA = 3
"""Columns beside them that it is on as well but that have another colour."""


def painted(word: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Two pictures of a word, and where in them it is said to be."""
    other = AXES[word] - 1  # one of the other two colours, maybe from the end
    images = torch.zeros(2, 3, 4, 20, dtype=torch.uint8)
    masks = torch.zeros(2, 4, 20, dtype=torch.uint8)
    for number, (colored, true) in enumerate(SEEN[word]):
        images[number, AXES[word], :, :colored] = 100
        images[number, other, :, colored:] = 100
        masks[number, :, colored - true : colored + EXTRA] = 1
    return images, masks


def skill(word: str, *, pooled: bool) -> float:
    """Columns in both over columns in either, of each picture or of all together."""
    both = [true for _, true in SEEN[word]]
    either = [colored + EXTRA for colored, _ in SEEN[word]]
    if pooled:
        return sum(both) / sum(either)
    return sum(a / b for a, b in zip(both, either, strict=True)) / len(both)


def score(folder, **settings) -> RunContext:
    run = toy_run(folder, **settings)
    for word in VOCABULARY:
        images, masks = painted(word)
        write_tensors(run.workspace.reference_images(word), {"images": images, "masks": masks}, {})
    for teacher in TEACHERS:
        work(ScoreStage, run, teacher)
    return run


def test_a_teacher_is_scored_where_it_sees_the_class(tmp_path):
    run = score(tmp_path)
    for teacher in TEACHERS:
        scores = read_json(run.workspace.capability(teacher))["capability"]
        for word in VOCABULARY:
            assert scores[word] == pytest.approx(skill(word, pooled=False))
    expected = [[skill(word, pooled=False) for word in VOCABULARY]] * 2
    torch.testing.assert_close(measured_capability(run), torch.tensor(expected))


def test_teachers_that_see_otherwise_are_scored_otherwise(tmp_path):
    """The rows of the table are in the order of the run, whoever was scored first."""
    run = toy_run(tmp_path)
    for word in VOCABULARY:
        images, masks = painted(word)
        write_tensors(run.workspace.reference_images(word), {"images": images, "masks": masks}, {})
    known = run.teacher("demo-masks")

    class Blind(ToyTeacher):
        def __call__(self, image):
            return known(torch.zeros_like(image))

    run.teacher = {"demo-masks": known, "demo-dense": Blind("demo-dense")}.__getitem__
    for teacher in TEACHERS[::-1]:
        work(ScoreStage, run, teacher)
    expected = [[skill(word, pooled=False) for word in VOCABULARY], [0.0, 0.0, 0.0]]
    torch.testing.assert_close(measured_capability(run), torch.tensor(expected))


@follows("score.pooled")
def test_pooled(tmp_path) -> Outcomes:
    for value in (False, True):
        run = score(tmp_path / str(value), score={"pooled": value})
        yield (
            measured_capability(run)[0],
            torch.tensor([skill(w, pooled=value) for w in VOCABULARY]),
        )


@follows("run.vocabulary")
def test_vocabulary(tmp_path) -> Outcomes:
    """The words that pictures are made for and on which teachers are scored."""
    for value in (["door", "bed"], ["lamp"]):
        file = tmp_path / f"{value[0]}.json"
        file.write_text(json.dumps(value))
        run = toy_run(tmp_path / value[0], run={"vocabulary": str(file)})
        del run.vocabulary  # the toy world's; it is read when it is asked for
        run.generator, run.segmenter = Spots(), Crosses()
        for word in SynthesizeStage(run).units():
            work(SynthesizeStage, run, word)
        work(ScoreStage, run, "demo-masks")
        made = sorted(path.stem for path in run.workspace.root.glob("synthesis/*"))
        scored = sorted(read_json(run.workspace.capability("demo-masks"))["capability"])
        axes = torch.eye(4)[[AXES[word] for word in value]]
        yield (made, scored, run.words.vocabulary_embeddings), (sorted(value), sorted(value), axes)


def test_what_a_teacher_was_taught_is_noted_where_it_says_so(tmp_path):
    """In the order of the vocabulary, and only its words."""

    class Taught(ToyTeacher):
        taught = ("sofa", "door", "Lamp")

    run = score(tmp_path)
    assert [load_taught_words(run.workspace, teacher) for teacher in TEACHERS] == [None, None]
    run.teacher = {
        "demo-masks": Taught("demo-masks"),
        "demo-dense": ToyTeacher("demo-dense"),
    }.__getitem__
    for teacher in TEACHERS:
        work(ScoreStage, run, teacher)
    assert [load_taught_words(run.workspace, teacher) for teacher in TEACHERS] == [
        ("lamp", "door"),
        None,
    ]
