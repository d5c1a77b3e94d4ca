"""Files that export and query write lie in the frame of the scan's own files."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pcdistill.artifacts import SceneSplit
from pcdistill.inference import MethodTable, Place, Querier, ScenePieces, export_labelled_clouds
from pcdistill.inference import labelled_clouds as export_module
from pcdistill.inference import text_query as query_module
from pcdistill.pipeline import RunWords
from pcdistill.pipeline.workspace import Workspace
from pcdistill.scenes import Scene, load_label_set, read_ply

OFFSET = [451234.0, 5411876.0, 118.0]


@pytest.fixture
def scene():
    """Turned from y up, with an offset; a triangle among its points."""
    rng = np.random.default_rng(0)
    back = np.eye(4)
    back[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    back[:3, 3] = OFFSET
    return Scene(
        "hall",
        torch.from_numpy(rng.uniform(0, 4, (60, 3)).astype(np.float32)),
        normals=torch.tensor([[0.0, 0, 1]]).repeat(60, 1),
        faces=torch.tensor([[0, 1, 2]]),
        provenance={"scene_to_source": back.tolist()},
    )


@pytest.fixture
def run(scene, tmp_path, monkeypatch):
    """Artifacts of a run with one scene, and labels of it."""
    monkeypatch.setattr(export_module, "stored_scenes", lambda workspace, names: ["hall"])
    for module in (export_module, query_module):
        monkeypatch.setattr(module, "open_scene", lambda folder: scene)
    encoder = SimpleNamespace(encode=lambda texts: torch.eye(20)[: len(texts)])
    words = RunWords(encoder, load_label_set("scannet20"), ("wall",))
    words.label_embeddings = words.vocabulary_embeddings = torch.eye(20)
    split = SceneSplit((), ("hall",), (), "", generated=False)
    return SimpleNamespace(workspace=Workspace(tmp_path), words=words, scenes=split)


@pytest.fixture
def predictor():
    labels = torch.arange(60) % 5
    methods = MethodTable(("demo-dense",), ())
    return SimpleNamespace(labels=lambda method, scene: labels, methods=methods)


def expected(scene):
    x, y, z = scene.points.double().unbind(dim=1)
    return torch.stack([x, z, -y], dim=1) + torch.tensor(OFFSET, dtype=torch.float64)


def require_source_frame(file, scene):
    found = read_ply(file)
    torch.testing.assert_close(
        found.points.double() + found.offset, expected(scene), rtol=0, atol=1e-6
    )
    assert found.normals[0].tolist() == [0, 1, 0]
    assert found.faces.tolist() == [[0, 1, 2]]
    return found


def test_export_writes_the_scans_own_coordinates(run, predictor, scene, tmp_path):
    file, _ = export_labelled_clouds(run, predictor, "fused", tmp_path / "out")
    found = require_source_frame(file, scene)
    assert found.scalars["label"].tolist() == [i % 5 for i in range(60)]


def test_query_writes_and_names_the_scans_own_coordinates(run, scene, monkeypatch):
    answer = query_module.SceneResponse(scene, torch.linspace(0, 1, 60), (), 0.1, 0.5)
    cloud, _ = query_module._draw(run.workspace, "chair", answer)
    require_source_frame(cloud, scene)


def test_a_place_is_named_in_the_scans_own_coordinates(run, predictor, scene, monkeypatch):
    pieces = SimpleNamespace(ids=torch.zeros(60, dtype=torch.int64), features=torch.eye(20)[:1])
    place = Place(torch.zeros(1, dtype=torch.int64), torch.arange(60), 0.9, (0, 0, 0), (1, 1, 1))
    monkeypatch.setattr(ScenePieces, "features", lambda self, method, scene: pieces)
    monkeypatch.setattr(query_module, "connected_places", lambda points, ids, fits: [place])
    (answer,) = Querier(run, predictor).query_scene("wall", "hall", method="fused").answers
    low, high = expected(scene).aminmax(dim=0)
    assert answer.position == pytest.approx(((low + high) / 2).tolist(), abs=1e-6)
    assert answer.size == pytest.approx((high - low).tolist(), abs=1e-6)
