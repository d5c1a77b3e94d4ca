"""Label sets (categories that scenes are scored on) and vocabularies, read from JSON."""

from __future__ import annotations

import colorsys
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.atomic_io import atomic_file
from pcdistill.errors import ConfigError, SceneError, require_text
from pcdistill.labels import IGNORE_LABEL, IGNORE_LABEL_OF_FILES
from pcdistill.scenes.paths import is_existing_file
from pcdistill.size_limits import HOW_TO_RAISE, raised, read_bounded
from pcdistill.suggest import suggest

LABEL_SETS = Path(__file__).with_name("label_sets")
VOCABULARIES = Path(__file__).with_name("vocabularies")

TEMPLATE = "a {} in a scene"
"""The prompt of a category where a file names no other (SAS, supplementary 6.1)."""

_OTHER = ("other", "otherfurniture")
"""Classes of the rest, in OpenScene's spelling."""
FILE_KEYS = ("name", "source", "note", "template", "ignore_label", "categories", "prompts")
CATEGORY_KEYS = ("name", "color", "released_as", "id", "group")
PROMPT_KEYS = ("name", "category")
_MAX_BYTES = 16 << 20  # of a label set or vocabulary
_MAX_LABEL = 2**31 - 1  # of files with labels of 32 bits


@dataclass(frozen=True, eq=False)
class LabelSet:
    """K categories, the P prompts that ask for them, and how they are drawn."""

    name: str
    names: tuple[str, ...]
    """K categories in label order, spelled as a text encoder reads them best."""
    prompts: tuple[str, ...]
    """P sentences for the text encoder; P = K where `mapping` is None."""
    palette: Tensor
    """(K, 3) uint8, red green blue."""
    ignore_label: int = IGNORE_LABEL
    """Number of no category in files, those that are read and those that are exported. In memory it
    is `IGNORE_LABEL` for every label set, see `labels_from_files`."""
    mapping: Tensor | None = None
    """(P,) int64, category of each prompt, where several prompts ask for one category."""
    prompt_names: tuple[str, ...] = ()
    """P nouns the prompts are made of."""
    released_names: tuple[str, ...] = ()
    """K categories in the spelling of the published code, to reproduce its prompts."""
    ids: tuple[int, ...] = ()
    """K numbers of the categories in the data set's own labels, where the file has them."""
    template: str = TEMPLATE
    """What makes a prompt of a noun, in place of its {}."""
    groups: tuple[str, ...] = ()
    """K names of the part of the label set that a category is in, where the file has them, such as
    head, common and tail."""

    @property
    def classes_by_group(self) -> dict[str, list[int]]:
        """Group -> indices of its categories; empty where the file names no groups."""
        found: dict[str, list[int]] = {}
        for number, group in enumerate(self.groups):
            found.setdefault(group, []).append(number)
        return found

    def facts(self) -> dict[str, Any]:
        """Everything that a result may depend on, as plain values."""
        return {
            "name": self.name,
            "names": self.names,
            "prompt_names": self.prompt_names,
            "palette": self.palette.tolist(),
            "ignore_label": self.ignore_label,
            "mapping": None if self.mapping is None else self.mapping.tolist(),
            "ids": self.ids,
            **({"groups": self.groups} if self.groups else {}),
        }

    @property
    def openscene_prompts(self) -> tuple[str, ...]:
        """P sentences as OpenScene writes them: its spelling, "other" for the rest alone.

        Its code also writes "other" for the last but one class of `matterport40`, `80` and `160`,
        which are no rest: an index counted for 21 classes, which is not repeated here.

        Source: OpenScene, util/util.py (`extract_text_feature`), run/evaluate.py.
        """
        nouns = self.released_names if self.mapping is None else self.prompt_names
        return tuple(
            "other" if noun in _OTHER else TEMPLATE.replace("{}", noun)
            for noun in nouns or self.prompt_names
        )

    def to_categories(self, predicted_prompts: Tensor) -> Tensor:
        """Turn the index of the best prompt into that of its category.

        Args:
            predicted_prompts: any shape, int64 in [0, P).

        Returns:
            The same shape, int64 in [0, K).
        """
        if self.mapping is None:
            return predicted_prompts
        return self.mapping.to(predicted_prompts.device)[predicted_prompts]

    def colors_of(self, labels: Tensor) -> Tensor:
        """Colour of each label, black where it is ignored.

        Args:
            labels: (N,) int64; black where it is not in [0, K).

        Returns:
            (N, 3) uint8.
        """
        known = (labels >= 0) & (labels < len(self.names))
        colors = self.palette.to(labels.device)[torch.where(known, labels, 0)]
        return colors * known[..., None].to(torch.uint8)

    def labels_from_files(self, where: str, labels: Tensor) -> Tensor:
        """Turn labels as files have them into those of a scene in memory.

        Args:
            where: the scene or file the message names.
            labels: (N,) int64 in [0, K), or `ignore_label` or `IGNORE_LABEL` for none.

        Returns:
            (N,) int64 in [0, K), or `IGNORE_LABEL`.

        Raises:
            SceneError: a label is outside of the set.
        """
        self.require_labels(where, labels)
        return torch.where(labels == self.ignore_label, IGNORE_LABEL, labels)

    def labels_for_files(self, labels: Tensor) -> Tensor:
        """Turn labels in memory into those that files have, the inverse of `labels_from_files`.

        Args:
            labels: (N,) int64 in [0, K), or negative (`IGNORE_LABEL`, `NO_FEATURE_LABEL`) for none.

        Returns:
            (N,) int64 in [0, K), or `ignore_label`.
        """
        return torch.where(labels < 0, self.ignore_label, labels)

    def require_labels(self, where: str, labels: Tensor) -> None:
        """Refuse labels that are neither one of the categories nor stand for none.

        Args:
            where: the scene or file the message names.
            labels: (N,) int64.

        Raises:
            SceneError: a label is outside of the set.
        """
        known = (labels >= 0) & (labels < len(self.names))
        wrong = ~known & (labels != self.ignore_label) & (labels != IGNORE_LABEL)
        if bool(wrong.any()):
            found = sorted(set(labels[wrong].tolist()))
            raise SceneError(
                f"{where}: {int(wrong.sum())} points have labels outside of {self.name} "
                f"({', '.join(map(str, found[:5]))}), expected 0 to {len(self.names) - 1} or "
                f"{self.ignore_label} for none; name the label set the scene was labelled with"
            )


def label_set_names() -> tuple[str, ...]:
    """The label sets that come with the package."""
    return tuple(sorted(file.stem for file in LABEL_SETS.glob("*.json")))


def vocabulary_names() -> tuple[str, ...]:
    """The vocabularies that come with the package."""
    return tuple(sorted(file.stem for file in VOCABULARIES.glob("*.json")))


def load_label_set(name: str | Path) -> LabelSet:
    """Read a label set that comes with the package, or one of the user's own.

    Args:
        name: one of `label_set_names()`, or the path of a JSON file with ``categories``: a list of
            names, or of objects with ``name`` and optionally ``color`` ([red, green, blue]),
            ``id`` and ``group`` (a part of the set that has a mean of its own). It may also have
            ``name``, ``template`` (one ``{}``), ``ignore_label`` (the number of no category in
            files; by default 255, or -1 for more than 255 categories), and ``prompts``: a list of
            objects with ``name`` and ``category``, where several prompts ask for one.

    Raises:
        ConfigError: the name is unknown, or the file is missing or malformed.
    """
    file = _find(name, LABEL_SETS, "label set")
    content = _read(file)
    for key in content:
        if key not in FILE_KEYS:
            raise ConfigError(f"{file}: unknown key '{key}', {suggest(key, FILE_KEYS)}")
    categories = [_category(file, entry) for entry in _list(file, content, "categories")]
    names = tuple(entry["name"] for entry in categories)
    _require_different(file, names, "category")
    template = content.get("template", TEMPLATE)
    if not isinstance(template, str) or template.count("{}") != 1:
        raise ConfigError(
            f'{file}: template is {template!r}, expected a text with one {{}}, such as "{TEMPLATE}"'
        )
    ignore_label = _ignore_label(file, content, len(names))
    prompt_names, mapping = names, None
    if "prompts" in content:
        prompt_names, mapping = _prompts(file, content, names)
    for text in (template, str(content.get("name", ""))):
        require_text(str(file), text)
    return LabelSet(
        name=str(content.get("name", file.stem)),
        names=names,
        prompts=tuple(template.replace("{}", noun) for noun in prompt_names),
        palette=torch.tensor(
            [entry.get("color") or _hue(i, len(names)) for i, entry in enumerate(categories)],
            dtype=torch.uint8,
        ),
        ignore_label=ignore_label,
        mapping=mapping,
        prompt_names=prompt_names,
        released_names=tuple(entry.get("released_as", entry["name"]) for entry in categories),
        ids=_ids(file, categories),
        template=template,
        groups=_groups(file, categories),
    )


def write_class_names(path: Path, label_set: LabelSet) -> None:
    """Write a line for each number in exported labels: the number and the name of its class."""
    known = {**dict(enumerate(label_set.names)), label_set.ignore_label: "no answer"}
    with atomic_file(path) as temporary:
        temporary.write_text("".join(f"{number} {name}\n" for number, name in known.items()))


def load_vocabulary(name: str | Path) -> tuple[str, ...]:
    """Read the K words on which teachers are compared.

    Args:
        name: one of `vocabulary_names()`, or the path of a JSON file: a list of words, or an object
            with ``categories``.

    Raises:
        ConfigError: the name is unknown, or the file is missing or malformed.

    Source: SAS, supplementary Tab. 9 ("indoor", "outdoor").
    """
    file = _find(name, VOCABULARIES, "vocabulary")
    content = _read(file)
    words = tuple(_category(file, entry)["name"] for entry in _list(file, content, "categories"))
    _require_different(file, words, "word")
    return words


def _find(name: str | Path, folder: Path, kind: str) -> Path:
    own = Path(name)
    if own.suffix == ".json":
        if not is_existing_file(own):
            raise ConfigError(f"{own}: there is no such {kind} file; check the path")
        return own
    known = sorted(file.stem for file in folder.glob("*.json"))
    if str(name) not in known:
        hint = suggest(str(name), known)
        listed = "" if hint.startswith("expected") else f" (there are {', '.join(known)})"
        raise ConfigError(
            f"unknown {kind} '{name}', {hint}{listed}; a {kind} of your own is the path of a "
            ".json file"
        )
    return folder / f"{name}.json"


def _read(file: Path) -> dict[str, Any]:
    try:
        text = read_bounded(file, _MAX_BYTES)
        if text is None:
            raise ConfigError(
                f"{file}: has more than {raised(_MAX_BYTES)} bytes, expected a list of classes; "
                f"give that, or, {HOW_TO_RAISE}"
            )
        content = json.loads(text.decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read ({error.strerror or error}); give yourself the right to read "
            "it"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: is not readable JSON ({error}); mend the file") from error
    if isinstance(content, list):
        return {"categories": content}
    if not isinstance(content, dict):
        raise ConfigError(
            f"{file}: holds a {type(content).__name__}, expected an object with 'categories'"
        )
    return content


def _list(file: Path, content: dict[str, Any], key: str) -> list[Any]:
    values = content.get(key)
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{file}: '{key}' is {values!r}, expected a list that is not empty")
    return values


def _category(file: Path, entry: Any) -> dict[str, Any]:
    category = _object(file, entry, CATEGORY_KEYS)
    color = category.get("color")
    if color is not None and not (
        isinstance(color, list)
        and len(color) == 3
        and all(_is_int(value) and 0 <= value <= 255 for value in color)
    ):
        raise ConfigError(
            f"{file}: the color of '{category['name']}' is {color!r}, expected [red, green, blue] "
            "from 0 to 255"
        )
    return category


def _ids(file: Path, categories: list[dict[str, Any]]) -> tuple[int, ...]:
    """The data set's own numbers of all categories, or of none."""
    ids = [entry["id"] for entry in categories if "id" in entry]
    if ids and (len(ids) != len(categories) or len(set(map(str, ids))) != len(ids)):
        raise ConfigError(
            f"{file}: {len(set(map(str, ids)))} different ids for {len(categories)} categories, "
            "expected one for each, or none at all"
        )
    if wrong := [value for value in ids if not _is_int(value) or value < 0]:
        raise ConfigError(f"{file}: an id is {wrong[0]!r}, expected a number from 0")
    return tuple(ids)


def _groups(file: Path, categories: list[dict[str, Any]]) -> tuple[str, ...]:
    """The group of every category, or of none."""
    groups = [entry["group"] for entry in categories if "group" in entry]
    if groups and len(groups) != len(categories):
        raise ConfigError(
            f"{file}: {len(groups)} of {len(categories)} categories have a group, expected all or "
            "none"
        )
    if wrong := [group for group in groups if not isinstance(group, str) or not group.strip()]:
        raise ConfigError(f"{file}: a group is {wrong[0]!r}, expected a name")
    return tuple(groups)


def _ignore_label(file: Path, content: dict[str, Any], categories: int) -> int:
    collides = categories > IGNORE_LABEL_OF_FILES
    default = IGNORE_LABEL if collides else IGNORE_LABEL_OF_FILES
    value = content.get("ignore_label", default)
    if not _is_int(value) or 0 <= value < categories or abs(value) > _MAX_LABEL:
        raise ConfigError(
            f"{file}: ignore_label is {value!r}, expected a number that is none of the "
            f"{categories} categories (0 to {categories - 1}), such as {IGNORE_LABEL}"
        )
    return int(value)


def _object(file: Path, entry: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    if isinstance(entry, str):
        return _object(file, {"name": entry}, keys)
    if not isinstance(entry, dict):
        raise ConfigError(f"{file}: {entry!r} stands where a name or an object was expected")
    for key in entry:
        if key not in keys:
            raise ConfigError(f"{file}: unknown key '{key}' in {entry}, {suggest(key, keys)}")
    name = entry.get("name")
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"{file}: {entry} needs a 'name' that is a text")
    for text in (value for value in entry.values() if isinstance(value, str)):
        require_text(str(file), text)
    return entry


def _prompts(
    file: Path, content: dict[str, Any], names: tuple[str, ...]
) -> tuple[tuple[str, ...], Tensor]:
    entries = [_object(file, entry, PROMPT_KEYS) for entry in _list(file, content, "prompts")]
    for entry in entries:
        if entry.get("category") not in names:
            hint = suggest(str(entry.get("category")), names)
            raise ConfigError(
                f"{file}: prompt '{entry['name']}' asks for category "
                f"'{entry.get('category')}', {hint}"
            )
    nouns = tuple(entry["name"] for entry in entries)
    _require_different(file, nouns, "prompt")
    if silent := [name for name in names if name not in {e["category"] for e in entries}]:
        raise ConfigError(f"{file}: no prompt asks for '{silent[0]}'; add one to 'prompts'")
    return nouns, torch.tensor([names.index(e["category"]) for e in entries], dtype=torch.int64)


def _require_different(file: Path, names: tuple[str, ...], kind: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ConfigError(f"{file}: {kind} '{name}' is listed twice; remove one")
        seen.add(name)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _hue(index: int, count: int) -> list[int]:
    """A colour for a category without one: around the colour circle, alternating in lightness."""
    value = (0.95, 0.65)[index % 2]
    return [round(255 * channel) for channel in colorsys.hsv_to_rgb(index / count, 0.75, value)]
