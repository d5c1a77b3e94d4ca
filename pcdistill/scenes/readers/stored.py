"""Reader of scenes that this package stored."""

from __future__ import annotations

from pathlib import Path

from pcdistill.errors import SceneError
from pcdistill.scenes.label_sets import load_label_set
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Division, Reader, Refusal, Scan, refuse_all_but
from pcdistill.scenes.scene import Scene
from pcdistill.scenes.store import has_labels, is_stored_scene, open_stored_scene


def find_stored(folder: Path) -> tuple[Scan, ...]:
    """The stored scene that a folder is, if it is one."""
    return (Scan(folder.resolve().name, folder),) if is_stored_scene(folder) else ()


def open_stored(scan: Scan, settings: ReaderSettings) -> Scene:
    """Open a stored scene.

    Raises:
        SceneError: its labels are of another label set.
    """
    scene = open_stored_scene(scan.folder)
    if settings.label_set is not None and scene.label_set is not None:
        wanted = load_label_set(settings.label_set).name
        if scene.label_set != wanted:
            raise SceneError(
                f"{scan.folder}: is a stored scene labelled with '{scene.label_set}', expected "
                f"'{wanted}'; name its label set, or give the raw scan"
            )
    return scene


def stored_division(scan: Scan) -> Division:
    """What is known of a stored scene when scenes are divided: whether it has labels."""
    return Division(has_labels(scan.folder))


_DECIDED = Refusal(
    "{folder}: is a stored scene, `{name}` was decided when it was written; leave the setting out, "
    "or give the raw scan"
)

STORED = Reader(
    "scene.json (a stored scene)",
    find_stored,
    open_stored,
    division=stored_division,
    settings=dict.fromkeys(refuse_all_but(), _DECIDED),
)
