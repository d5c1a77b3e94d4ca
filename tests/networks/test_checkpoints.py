"""Checkpoints come back as they were saved, and what does not fit is named in one sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pcdistill.errors import ArtifactError
from pcdistill.networks import MinkUNet, build_student, load_checkpoint, save_checkpoint
from pcdistill.sparse import SparseTensor
from tests.conftest import golden_cases


def small_student(name: str = "MinkUNet14A", seed: int = 0, **sizes) -> MinkUNet:
    sizes = sizes or {"width": 0.125}
    network = build_student(name, 3, 6, generator=torch.Generator().manual_seed(seed), **sizes)
    random = torch.Generator().manual_seed(seed + 1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):  # buffers that are not the defaults
            module.running_mean.normal_(generator=random)
            module.running_var.uniform_(0.5, 1.5, generator=random)
            module.num_batches_tracked.fill_(7)
    return network


def same_weights(a: MinkUNet, b: MinkUNet) -> bool:
    mine, other = a.state_dict(), b.state_dict()
    return list(mine) == list(other) and all(torch.equal(mine[key], other[key]) for key in mine)


def reference_file(path, network, prefix="net3d.", **beside):
    state = {prefix + key: value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, **beside}, path)
    return path


@pytest.mark.parametrize("layout", ["pcdistill", "minkowski"])
@pytest.mark.parametrize("name", ["MinkUNet14A", "MinkUNet18A", "MinkUNet34C"])
def test_a_saved_student_comes_back_whole(tmp_path, layout, name):
    network = small_student(name).train()
    provenance = {"stage": "distill", "teachers": ["lseg", "seem"], "epoch": 70}
    path = tmp_path / "folder" / "student.file"
    save_checkpoint(path, network, provenance, layout=layout)
    loaded, metadata = load_checkpoint(path)
    assert same_weights(loaded, network)
    assert loaded.architecture == network.architecture
    assert not loaded.training
    assert metadata["provenance"] == provenance
    assert metadata["layout"] == layout
    assert metadata["width"] == 0.125
    assert [p.name for p in path.parent.iterdir()] == ["student.file"]  # nothing temporary stays
    coords = torch.tensor([[0, x, y, -1] for x in range(-4, 5) for y in range(7)]).int()
    x = SparseTensor(torch.ones(len(coords), 3), coords)
    with torch.no_grad():
        assert torch.equal(loaded(x), network.eval()(x))


def test_loaded_weights_can_be_trained(tmp_path):
    save_checkpoint(tmp_path / "s.safetensors", small_student(), {})
    network = load_checkpoint(tmp_path / "s.safetensors").network.train()
    coords = torch.tensor([[0, x, y, 0] for x in range(40) for y in range(40)]).int()
    network(SparseTensor(torch.ones(len(coords), 3), coords)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("prefix", ["", "net3d.", "module.", "module.net3d."])
@pytest.mark.parametrize("with_optimizer", [False, True])
def test_reference_files_are_recognised(tmp_path, prefix, with_optimizer):
    network = small_student("MinkUNet18A")
    beside = {"epoch": 99, "best_iou": np.float64(0.53)}
    if with_optimizer:
        optimizer = torch.optim.Adam(network.parameters())
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        clone = small_student("MinkUNet18A")  # the step must not move what we compare with
        optimizer.step()
        network.load_state_dict(clone.state_dict())
        beside["optimizer"] = optimizer.state_dict()
    path = reference_file(tmp_path / "model_best.pth.tar", network, prefix, **beside)
    loaded, metadata = load_checkpoint(path)
    assert same_weights(loaded, network)
    assert loaded.architecture == network.architecture
    assert metadata["epoch"] == 99
    assert metadata["leftover_keys"] == []


def test_a_bare_state_dict_loads(tmp_path):
    network = small_student("MinkUNet34C")
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    loaded, metadata = load_checkpoint(tmp_path / "weights.pth")
    assert same_weights(loaded, network)
    assert metadata["architecture"]["name"] == "MinkUNet34C"


def test_the_minkowski_layout_is_the_references(tmp_path):
    network = small_student()
    save_checkpoint(tmp_path / "s.pth", network, {}, layout="minkowski")
    stored = torch.load(tmp_path / "s.pth", weights_only=True)["state_dict"]
    assert list(stored) == [f"net3d.{key}" for key in network.state_dict()]
    assert stored["net3d.conv0p1s1.kernel"].shape == (125, 3, 4)
    assert stored["net3d.final.kernel"].shape == (12, 6)


def test_channels_of_no_family_member_are_recognised(tmp_path):
    sizes = {
        "planes": [4, 8, 8, 12, 12, 8, 8, 4],
        "stem_channels": 6,
        "layers": [1, 2, 1, 3, 1, 1, 2, 1],
    }
    network = small_student(**sizes)
    loaded, metadata = load_checkpoint(reference_file(tmp_path / "odd.pth", network))
    assert loaded.architecture.planes == tuple(sizes["planes"])
    assert loaded.architecture.layers == tuple(sizes["layers"])
    assert metadata["width"] is None
    assert same_weights(loaded, network)


@pytest.mark.parametrize("file", golden_cases("mink_unet/state_dict_manifest.json"))
def test_files_with_the_manifests_keys_load(file, tmp_path):
    entry = next(iter(json.loads(file.read_text()).values()))
    dtypes = {"float32": torch.float32, "int64": torch.int64}
    state = {f"module.{key}": torch.ones(s, dtype=dtypes[d]) for key, s, d in entry["keys"]}
    torch.save({"epoch": 3, "state_dict": state, "best_iou": 0.5}, tmp_path / "openscene.pth.tar")
    network, metadata = load_checkpoint(tmp_path / "openscene.pth.tar")
    assert network.architecture.name == entry["arch"]
    assert network.architecture.out_channels == entry["out_channels"]
    assert metadata["width"] == 1.0


def test_missing_weights_are_named(tmp_path):
    network = small_student()
    state = network.state_dict()
    del state["block3.0.norm2.bn.running_var"]
    torch.save({"state_dict": state}, tmp_path / "m.pth")
    with pytest.raises(ArtifactError, match=r"m\.pth: .*missing.*'block3\.0\.norm2\.bn\.running_v"):
        load_checkpoint(tmp_path / "m.pth")


def test_leftover_weights_are_named(tmp_path):
    state = {**small_student().state_dict(), "logit_scale": torch.ones(())}
    torch.save({"state_dict": state}, tmp_path / "l.pth")
    with pytest.raises(ArtifactError, match=r"left over.*'logit_scale'.*ignore_leftover"):
        load_checkpoint(tmp_path / "l.pth")
    loaded, metadata = load_checkpoint(tmp_path / "l.pth", ignore_leftover=True)
    assert metadata["leftover_keys"] == ["logit_scale"]
    assert same_weights(loaded, small_student())


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save({"state_dict": nn.Linear(3, 4).state_dict()}, tmp_path / "linear.pth")
    with pytest.raises(ArtifactError, match=r"'conv0p1s1\.kernel' is missing \(found 'weight'"):
        load_checkpoint(tmp_path / "linear.pth")


def test_a_wrong_shape_is_named(tmp_path):
    state = small_student().state_dict()
    state["bn0.bn.weight"] = torch.ones(9)
    torch.save({"state_dict": state}, tmp_path / "s.pth")
    with pytest.raises(ArtifactError, match=r"'bn0\.bn\.weight' has shape \(9,\), expected \(4,\)"):
        load_checkpoint(tmp_path / "s.pth")


def test_non_finite_weights_are_refused(tmp_path):
    network = small_student()
    with torch.no_grad():
        network.final.kernel[0, 0] = torch.nan
    save_checkpoint(tmp_path / "n.safetensors", network, {})
    with pytest.raises(ArtifactError, match=r"'final\.kernel' holds values that are not finite"):
        load_checkpoint(tmp_path / "n.safetensors")


@pytest.mark.parametrize("layout", ["pcdistill", "minkowski"])
@pytest.mark.parametrize("fraction", [0.0, 0.0005, 0.3, 0.9])
def test_truncated_files_are_refused(tmp_path, layout, fraction):
    path = tmp_path / "cut"
    save_checkpoint(path, small_student(), {}, layout=layout)
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(ArtifactError, match=r"cut: .*(truncated|not unpickled)"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"hello", b"{}", b"\x89PNG\r\n\x1a\n" + bytes(64)])
def test_foreign_files_are_refused(tmp_path, content):
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"foreign: "):
        load_checkpoint(tmp_path / "foreign")


def test_a_student_of_a_newer_version_is_not_taken_for_a_foreign_file(tmp_path):
    """Its weights may fit and mean something else."""
    weights = small_student().state_dict()
    save_file(weights, tmp_path / "s.safetensors", metadata={"format": "pcdistill.student/2"})
    with pytest.raises(ArtifactError, match=r"of another version \('pcdistill.student/2'\), expec"):
        load_checkpoint(tmp_path / "s.safetensors")
    save_file(weights, tmp_path / "s.safetensors", metadata={"format": "pt"})
    assert load_checkpoint(tmp_path / "s.safetensors").metadata["layout"] == "pcdistill"


def test_files_without_weights_are_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ArtifactError, match=r"holds a list, expected a dictionary"):
        load_checkpoint(tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(ArtifactError, match=r"no weights in this file \(entries: 'epoch'\)"):
        load_checkpoint(tmp_path / "none.pth")
    with pytest.raises(ArtifactError, match=r"no such checkpoint"):
        load_checkpoint(tmp_path / "absent.pth")


class Planted:
    """What an attacker's pickle would run."""

    def __reduce__(self):
        return (print, ("unpickled",))


def test_code_in_a_file_is_not_run(tmp_path, capsys):
    torch.save({"state_dict": small_student().state_dict(), "extra": Planted()}, tmp_path / "x.pth")
    with pytest.raises(ArtifactError, match=r"was not unpickled"):
        load_checkpoint(tmp_path / "x.pth")
    assert capsys.readouterr().out == ""


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "s.safetensors"
    save_checkpoint(path, small_student(seed=1), {"run": 1})
    before = path.read_bytes()

    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pcdistill.atomic_io.os.fsync", fail)
    with pytest.raises(ArtifactError, match=r"could not be written .*No space left"):
        save_checkpoint(path, small_student(seed=2), {"run": 2})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


def test_bad_arguments_of_save(tmp_path):
    with pytest.raises(ValueError, match="layout is 'onnx'"):
        save_checkpoint(tmp_path / "s", small_student(), {}, layout="onnx")
    with pytest.raises(ValueError, match="provenance cannot be written as JSON"):
        save_checkpoint(tmp_path / "s", small_student(), {"model": torch.nn.ReLU()})
    assert list(tmp_path.iterdir()) == []
