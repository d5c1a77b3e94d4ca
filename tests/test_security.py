"""Foreign files are read, and nothing else: no code, no path out of their folder, no flood."""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pcdistill.atomic_io import atomic_file
from pcdistill.cli.view import view
from pcdistill.errors import ArtifactError, ConfigError, SceneError
from pcdistill.networks import build_student, load_checkpoint
from pcdistill.pipeline.artifact_files import read_json
from pcdistill.pipeline.config_loading import load_config
from pcdistill.pipeline.yaml_text import parse_yaml
from pcdistill.scenes import load_label_set
from pcdistill.scenes.formats.images import read_image_size
from pcdistill.scenes.formats.text import read_text
from pcdistill.scenes.label_files import read_label_file
from pcdistill.scenes.paths import path_inside
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Scan
from pcdistill.scenes.readers.colmap.reader import COLMAP
from pcdistill.scenes.readers.nerfstudio.reader import NERFSTUDIO
from pcdistill.scenes.readers.tum import TUM
from pcdistill.size_limits import VARIABLE, raised
from pcdistill.teachers.hub_parts import read_part_names
from pcdistill.teachers.state_dicts import load_state_dict
from pcdistill.viewer.viewer_app import ViewerApp
from tests.fixtures import corrupt_files, user_captures

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "pcdistill"
TREES = {
    file: ast.parse(file.read_text())
    for folder in ("pcdistill", "preprocessing", "tools")
    for file in sorted((REPOSITORY / folder).rglob("*.py"))
}
UNPICKLERS = {
    "networks/checkpoints.py",
    "scenes/readers/scannet/openscene.py",
    "teachers/restricted_unpickler.py",
    "teachers/script_archive.py",
    "teachers/state_dicts.py",
}
"""Files that import `pickle`: for its error, or for the unpickler that calls nothing."""
PROCESSES = {"cli/execute.py", "pipeline/ray_cluster.py", "teachers/openseg/teacher.py"}
"""Files that start other programs: git for a version, Ray, and the worker of one teacher."""
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__"),
    *("os.system", "os.popen", "pickle.load", "pickle.loads", "yaml.load", "yaml.full_load"),
    *("yaml.unsafe_load", "marshal.loads", "marshal.load", "shelve.open", "joblib.load"),
    *("torch.hub.load", "torch.jit.load", "pd.read_pickle", "subprocess.getoutput"),
    *("shutil.unpack_archive", "tempfile.mktemp"),
}


def keywords(node: ast.Call) -> dict[str, str]:
    return {known.arg: ast.unparse(known.value) for known in node.keywords if known.arg}


def broken_rules(tree: ast.AST) -> list[str]:
    """What one file does that foreign data or words could misuse."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called, options = ast.unparse(node.func), keywords(node)
        if called in FORBIDDEN_CALLS:
            found.append(called)
        if options.get("shell", "False") != "False":
            found.append(f"{called} with a shell")
        if called == "torch.load" and options.get("weights_only") != "True":
            safe = options.get("pickle_module") == "PickleModule"
            found += [] if safe else ["torch.load of anything"]
        if called in ("np.load", "numpy.load") and options.get("allow_pickle", "False") != "False":
            found.append("np.load of pickles")
        if options.get("trust_remote_code", "False") != "False":
            found.append(f"{called} runs foreign code")
        if called.endswith((".extractall", ".extract")) and "filter" not in options:
            found.append(f"{called} without a filter")
        if options.get("verify", "") == "False" or called == "ssl._create_unverified_context":
            found.append(f"{called} without certificates")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "pickle.load(file)",
        "yaml.load(text, Loader)",
        "AutoModel.from_pretrained(path, trust_remote_code=True)",
        "archive.extractall(folder)",
    ],
)
def test_the_rules_see_what_they_are_for(source):
    assert broken_rules(ast.parse(source))


def test_no_source_runs_words_or_unpickles_foreign_data():
    found = {str(file): rules for file, tree in TREES.items() if (rules := broken_rules(tree))}
    assert found == {}


def test_pickles_and_processes_are_in_few_files():
    where: dict[str, set[str]] = {"pickle": set(), "subprocess": set()}
    for file in [file for file in TREES if PACKAGE in file.parents]:
        for node in ast.walk(TREES[file]):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in set(names) & where.keys():
                where[name].add(str(file.relative_to(PACKAGE)))
    assert where["pickle"] == UNPICKLERS
    assert where["subprocess"] == PROCESSES


def test_the_viewer_listens_at_this_machine_only_unless_told_otherwise():
    for function in (ViewerApp.__init__, view):
        assert inspect.signature(function).parameters["host"].default == "127.0.0.1"


def test_what_a_foreign_file_says_cannot_end_a_line_or_order_a_terminal_about():
    said = str(
        SceneError("a.exr: has an attribute '0\n\x1b[2J\ud800\u2028\x85', \u5ba2\u5385 caf\xe9")
    )
    assert said == (
        r"a.exr: has an attribute '0\n\x1b[2J\ud800\u2028\x85', " + "\u5ba2\u5385 caf\xe9"
    )


# names in files that become paths

ESCAPES = ["../secret.jpg", "../../secret.jpg", "a/../../secret.jpg", "/{top}/secret.jpg"]


@pytest.mark.parametrize("name", [*ESCAPES, "..", "/etc/passwd", "", ".", "a\0b"])
def test_a_path_out_of_a_folder_is_none(tmp_path, name):
    folder = tmp_path / "scan"
    assert path_inside(folder, name.format(top=tmp_path)) is None


@pytest.mark.parametrize("name", ["a.jpg", "images/a.jpg", "../scan/a.jpg", "./a/../b.jpg", "..a"])
def test_a_path_below_a_folder_is_taken_wherever_it_is_seen_from(tmp_path, monkeypatch, name):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert path_inside(Path("../scan"), name) == Path("../scan") / name
    assert path_inside(tmp_path / "scan", str(tmp_path / "scan" / "b")) is not None


def secret_beside(folder: Path) -> str:
    """An image outside of a capture that would be read as well as its own."""
    own = next(path for path in sorted(folder.rglob("*")) if path.suffix in (".jpg", ".png"))
    (folder.parent / "secret.jpg").write_bytes(own.read_bytes())
    return str(folder.parent)


def images_of(scene) -> list[str]:
    return [str(frame.image_path) for frame in scene.frames]


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_nerfstudio_capture_names_its_own_files_only(tmp_path, escape):
    folder = user_captures.write_nerfstudio(tmp_path / "scan", 3)
    top = secret_beside(folder)
    file = folder / "transforms.json"
    content = json.loads(file.read_text())
    content["frames"][0]["file_path"] = escape.format(top=top)
    file.write_text(json.dumps(content))
    opened = NERFSTUDIO.open(Scan("scan", folder), ReaderSettings())
    assert len(opened.frames) == 2
    assert not [path for path in images_of(opened) if "secret" in path]


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_tum_sequence_names_its_own_files_only(tmp_path, escape):
    folder = user_captures.write_tum(tmp_path / "scan", 3)
    top = secret_beside(folder)
    text = (folder / "rgb.txt").read_text()
    name = text.split()[-1]
    (folder / "rgb.txt").write_text(text.replace(name, escape.format(top=top)))
    with pytest.raises(SceneError, match=r"rgb.txt:\d+: names '.*', which is outside of the seq"):
        TUM.open(Scan("scan", folder), ReaderSettings())


@pytest.mark.parametrize("escape", ["../secret.jpg", "../../secret.jpg"])
def test_a_colmap_model_names_its_own_images_only(tmp_path, escape):
    folder = user_captures.write_colmap(tmp_path / "scan", 3, binary=False)
    secret_beside(folder)
    (folder / "secret.jpg").write_bytes((folder.parent / "secret.jpg").read_bytes())
    file = next(folder.rglob("images.txt"))
    text = file.read_text()
    name = re.findall(r"\S+\.jpg", text)[0]
    file.write_text(text.replace(name, escape))
    opened = COLMAP.open(Scan("scan", folder), ReaderSettings())
    assert len(opened.frames) == 2
    assert not [path for path in images_of(opened) if "secret" in path]


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/x.safetensors", "a/x.safetensors", "x.bin", "", ".."]
)
def test_an_index_of_weights_names_parts_beside_it_only(tmp_path, name):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "b.safetensors", "c": name}}))
    with pytest.raises(ArtifactError, match="names the part '.*', expected a .safetensors file"):
        read_part_names(index)
    index.write_text(json.dumps({"weight_map": {"a": "b.safetensors", "c": "b.safetensors"}}))
    assert read_part_names(index) == ["b.safetensors"]


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 1}}']
)
def test_a_damaged_index_is_one_sentence(tmp_path, content):
    index = tmp_path / "i.json"
    index.write_text(content)
    with pytest.raises(ArtifactError, match="is no index of weights, expected 'weight_map'"):
        read_part_names(index)


def test_writing_follows_no_link_of_somebody_else(tmp_path):
    """Neither at the name nor at the temporary name, which can be guessed."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "out").symlink_to(victim)
    with atomic_file(tmp_path / "out") as temporary:
        guessed = temporary
        temporary.write_text("x")
    guessed.symlink_to(victim)
    with atomic_file(tmp_path / "out") as temporary:
        assert temporary == guessed
        temporary.write_text("new")
    assert victim.read_text() == "precious"
    assert (tmp_path / "out").read_text() == "new"


# sizes


def test_yaml_that_grows_without_end_is_refused(tmp_path):
    """Nine lines of nine aliases each are four hundred million words, all in one message."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    file = tmp_path / "run.yaml"
    file.write_text("\n".join([*lines, "run: {title: *a8}"]))
    with pytest.raises(ConfigError, match="not valid YAML at somewhere: more than 100000 values"):
        load_config(file)
    file.write_text("run: {teachers: &a [*a]}")
    with pytest.raises(ConfigError, match="more than 100000 values"):
        load_config(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: " + "[" * 1500, "too deep"),
        ("a: !!python/object/apply:os.system [echo]", "could not determine a constructor"),
        ("a: 2001-99-99", "month must be in 1..12"),
        ("{[1, 2]: 3}", "unhashable"),
        ("{? {a: 1} : 2}", "unhashable"),
        ("a: &b", None),
        ("", None),
    ],
)
def test_strange_yaml_is_a_sentence(text, said):
    if said is None:
        parse_yaml(text)
        return
    with pytest.raises(ValueError, match=said) as error:
        parse_yaml(text)
    assert type(error.value) is ValueError
    assert "\n" not in str(error.value)


def sparse(file: Path, size: int) -> Path:
    with file.open("wb") as stream:
        stream.truncate(size)
    return file


LARGE = {
    "configuration": (load_config, "a.yaml", 2 << 20, ConfigError),
    "artefact": (read_json, "a.json", (1 << 30) + 1, ArtifactError),
    "label set": (load_label_set, "a.json", 17 << 20, ConfigError),
    "text": (lambda path: read_text(path, "words"), "a.txt", 65 << 20, SceneError),
    "index": (read_part_names, "a.json", 65 << 20, ArtifactError),
}


@pytest.mark.parametrize("kind", [kind for kind in LARGE if kind != "artefact"])
def test_a_file_of_unusual_size_is_refused_with_how_to_raise_the_limit(tmp_path, kind, monkeypatch):
    read, name, size, error = LARGE[kind]
    file = sparse(tmp_path / name, size)
    with pytest.raises(error, match=rf"has more than \d+ bytes, .*twice as much by {VARIABLE}=2"):
        read(file)
    monkeypatch.setenv(VARIABLE, "3")
    with pytest.raises(error, match="^(?!.*has more than)"):  # it is still no such file
        read(file)


@pytest.mark.slow
def test_an_artefact_of_unusual_size_is_refused(tmp_path):
    read, name, size, error = LARGE["artefact"]
    with pytest.raises(error, match="has more than 1073741824 bytes"):
        read(sparse(tmp_path / name, size))


def test_the_limit_of_an_artefact(tmp_path, monkeypatch):
    monkeypatch.setattr("pcdistill.pipeline.artifact_files.MAX_JSON_BYTES", 100)
    with pytest.raises(ArtifactError, match="has more than 100 bytes; delete it and run again, or"):
        read_json(sparse(tmp_path / "a.json", 101))


def test_an_image_of_unusual_size_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "PNG")
    file = tmp_path / "a.png"
    file.write_bytes(corrupt_files.lying_png(stream.getvalue(), (9000, 9000)) + bytes(1 << 20))
    with pytest.raises(SceneError, match=rf"9000 x 9000 pixels, more than the 64.*{VARIABLE}"):
        read_image_size(file)
    monkeypatch.setenv(VARIABLE, "1.5")
    assert read_image_size(file) == (9000, 9000)


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "many", "1e9"])
def test_a_factor_that_is_none_is_named(monkeypatch, text):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ConfigError, match=f"{VARIABLE} is '{text}', expected a factor"):
        raised(5)


def test_a_factor_raises_every_limit(monkeypatch):
    assert raised(10) == 10
    monkeypatch.setenv(VARIABLE, "2.5")
    assert raised(10) == 25


def bomb(file: Path) -> Path:
    """An archive of `torch.save` whose tensor is compressed a thousand times."""
    torch.save({"state_dict": {"a": torch.zeros(20 << 20)}}, file.with_suffix(".whole"))
    with (
        zipfile.ZipFile(file.with_suffix(".whole")) as whole,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in whole.infolist():
            packed.writestr(entry.filename, whole.read(entry))
    file.with_suffix(".whole").unlink()
    return file


@pytest.mark.parametrize("read", [load_checkpoint, load_state_dict])
def test_weights_that_unpack_to_far_more_than_they_have_are_refused(tmp_path, read):
    file = bomb(tmp_path / "a.pth")
    assert file.stat().st_size < 1 << 20
    with pytest.raises(ArtifactError, match=r"bytes unpack to 838\d+, expected at most"):
        read(file)


def test_usual_weights_are_no_bomb(tmp_path):
    network = build_student("MinkUNet14A", 3, 8, width=0.125)
    torch.save(network.state_dict(), tmp_path / "a.pth")
    assert load_state_dict(tmp_path / "a.pth").keys() == network.state_dict().keys()
    load_checkpoint(tmp_path / "a.pth")


def test_labels_that_unpack_to_more_than_a_scan_has_are_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", labels=np.zeros(100_000, dtype=np.int64))
    (tmp_path / "a.txt").write_text("1\n" * 100_000)
    monkeypatch.setattr("pcdistill.scenes.label_files.MAX_BYTES", 150_000)
    labels = load_label_set("scannet20")
    for name in ("a.npz", "a.txt"):
        with pytest.raises(SceneError, match=r"unpacks to \d+ bytes, more than the 150000"):
            read_label_file(tmp_path / name, labels, "true")


def test_what_a_hub_folder_names_is_looked_at_before_the_library_reads_it(tmp_path):
    from pcdistill.teachers.hub_models import HubFolder

    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../b.safetensors"}}))
    with pytest.raises(ArtifactError, match="expected a .safetensors file beside it"):
        HubFolder(tmp_path, "florence-2", "a test").load_model("AutoModel")


def test_the_promises_of_the_text_for_users_name_what_there_is():
    text = (REPOSITORY / "SECURITY.md").read_text()
    assert VARIABLE in text
    assert "127.0.0.1" in text
    for command in re.findall(r"`make (\w+)`", text):
        assert f"\n{command}:" in (REPOSITORY / "Makefile").read_text()
    for place in re.findall(r"`(tests/[\w/.]+)`", text):
        assert (REPOSITORY / place).exists(), place
