"""Units and kinds of coordinates that a survey file states: as WKT, GeoTIFF keys or a comment.

Everything here computes in metres with z up. Feet and other lengths are converted; degrees of
latitude and longitude and coordinates from the centre of the Earth are no room and refused.

Source: OGC 01-009 and 18-010 (well-known text), OGC 19-008 (GeoTIFF keys), ASPRS LAS 1.4.
"""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pcdistill.errors import SceneError
from pcdistill.scenes.units import FOOT, INCH, METRE, US_FOOT

_LOG = logging.getLogger(__name__)

_UNITS_OF_EPSG = {
    9001: METRE,
    9002: FOOT,
    9003: US_FOOT,
    9014: 1.8288,  # fathom
    9036: 1000.0,
    9030: 1852.0,
    1025: 0.001,
    1033: 0.01,
    9096: 0.9144,
    9093: 1609.344,
}
_UNITS_BY_NAME = {
    "m": METRE,
    "meter": METRE,
    "metre": METRE,
    "dm": 0.1,
    "decimeter": 0.1,
    "decimetre": 0.1,
    "cm": 0.01,
    "centimeter": 0.01,
    "centimetre": 0.01,
    "mm": 0.001,
    "millimeter": 0.001,
    "millimetre": 0.001,
    "km": 1000.0,
    "kilometer": 1000.0,
    "kilometre": 1000.0,
    "inch": INCH,
    "inche": INCH,  # of inches
    "in": INCH,
    "ft": FOOT,
    "foot": FOOT,
    "feet": FOOT,
}
# GeoTIFF keys
_MODEL, _GEOGRAPHIC, _PROJECTED = 1024, 2048, 3072
_LINEAR, _LINEAR_SIZE, _VERTICAL = 3076, 3077, 4099
_GEOGRAPHIC_MODEL, _GEOCENTRIC_MODEL = 2, 3
_USER_DEFINED = 32767
_DOUBLES = 34736
_PROJECT = "project it to metres (`pdal translate`, filter reprojection) and give the result"
_MAX_NODES = 10_000
_MAX_DEPTH = 50  # nodes inside of each other
_STATED_UNIT = r"(?:length )?units?(?: is| are)?\s*[:= ]\s*([a-z_ ]+)"


class Units(NamedTuple):
    """Metres per unit of a file's coordinates."""

    horizontal: float
    vertical: float


class _Node(NamedTuple):
    """KEYWORD[value, ..., CHILD[...], ...] of well-known text."""

    keyword: str
    values: list[str]
    children: list[_Node]

    def below(self) -> Iterator[_Node]:
        """The node and all in it."""
        yield self
        for child in self.children:
            yield from child.below()


def units_of_wkt(file: Path, text: str) -> Units | None:
    """Units of a coordinate system as well-known text, either version; None where it has none.

    Raises:
        SceneError: its coordinates are angles, or counted from the centre of the Earth.
    """
    root = _parse(text)
    if root is None:
        _LOG.warning(
            "%s: its coordinate system cannot be read ('%s'), coordinates are taken as metres",
            *(file, " ".join(text.split())[:60]),
        )
        return None
    nodes = list(root.below())
    flat = next((n for n in nodes if n.keyword in ("PROJCS", "PROJCRS", "PROJECTEDCRS")), None)
    up = next((n for n in nodes if n.keyword in ("VERT_CS", "VERTCRS", "VERTICALCRS")), None)
    if flat is None:
        kinds = {n.keyword for n in nodes}
        if kinds & {"GEOCCS"} or _is_geocentric(nodes):
            raise _from_the_center(file)
        if kinds & {"GEOGCS", "GEOGCRS", "GEOGRAPHICCRS", "GEODCRS", "GEODETICCRS"}:
            raise _angles(file, root.values[0] if root.values else root.keyword)
        flat = root
    horizontal = _length_of(flat)
    if horizontal is None:
        _LOG.warning("%s: its coordinate system states no unit, taken as metres", file)
        horizontal = METRE
    vertical = None if up is None else _length_of(up)
    return Units(horizontal, horizontal if vertical is None else vertical)


def units_of_geokeys(file: Path, directory: bytes, doubles: bytes) -> Units | None:
    """Units of a coordinate system as GeoTIFF keys; None where the keys name none.

    Args:
        file: for messages.
        directory: GeoKeyDirectoryTag, 16-bit numbers.
        doubles: GeoDoubleParamsTag, which user-defined units are in.

    Raises:
        SceneError: its coordinates are angles, or counted from the centre of the Earth.
    """
    numbers = struct.unpack(f"<{len(directory) // 2}H", directory[: len(directory) // 2 * 2])
    keys: dict[int, tuple[int, int]] = {}
    for start in range(4, len(numbers) - 3, 4):
        key, place, _, value = numbers[start : start + 4]
        keys[key] = (place, value)
    direct = {key: value for key, (place, value) in keys.items() if place == 0}
    model = direct.get(_MODEL)
    if model == _GEOCENTRIC_MODEL:
        raise _from_the_center(file)
    only_angles = model is None and _GEOGRAPHIC in keys and _PROJECTED not in keys
    if model == _GEOGRAPHIC_MODEL or only_angles:
        raise _angles(file, f"EPSG {direct.get(_GEOGRAPHIC, 'unknown')}")
    if not keys:
        return None
    horizontal = _UNITS_OF_EPSG.get(direct.get(_LINEAR, 0))
    if direct.get(_LINEAR) == _USER_DEFINED and keys.get(_LINEAR_SIZE, (0, 0))[0] == _DOUBLES:
        horizontal = _double(doubles, keys[_LINEAR_SIZE][1])
    if horizontal is None:
        code = direct.get(_LINEAR)
        if code is not None:
            raise SceneError(
                f"{file}: its coordinates are in the unit EPSG {code}, expected a known length; "
                f"{_PROJECT}"
            )
        if not _is_metric(direct.get(_PROJECTED, 0)):
            _LOG.warning(
                "%s: its coordinate system EPSG %s states no unit, taken as metres",
                *(file, direct.get(_PROJECTED, "unknown")),
            )
        horizontal = METRE
    vertical = _UNITS_OF_EPSG.get(direct.get(_VERTICAL, 0), horizontal)
    return Units(horizontal, vertical)


def unit_of_comments(file: Path, comments: list[str]) -> float | None:
    """Metres per unit where a comment says "units: mm" or the like; None where none does."""
    for comment in comments:
        found = re.fullmatch(_STATED_UNIT, comment.strip(), flags=re.IGNORECASE)
        if found is None:
            continue
        name = re.sub(r"[ _]", "", found[1].lower())
        length = US_FOOT if name.startswith(("ussurvey", "usft")) else _UNITS_BY_NAME.get(name)
        length = length or _UNITS_BY_NAME.get(name.removesuffix("s"))
        if length is not None:
            return length
        _LOG.warning("%s: its unit '%s' is not known, taken as metres", file, found[1])
    return None


def _parse(text: str) -> _Node | None:
    """The first node of well-known text; None where brackets or words make none."""
    stack: list[_Node] = []
    words = re.findall(r'"(?:[^"]|"")*"|[\[\](),]|[^\s\[\](),"]+', text.replace("\0", " "))
    if len(words) > _MAX_NODES:
        return None
    previous = ""
    for word in words:
        if word in "[(":
            if not re.fullmatch(r"[A-Za-z_0-9]+", previous) or len(stack) == _MAX_DEPTH:
                return None
            node = _Node(previous.upper(), [], [])
            if stack:
                stack[-1].values.pop()  # the keyword
                stack[-1].children.append(node)
            stack.append(node)
        elif word in "])":
            if not stack:
                return None
            node = stack.pop()
            if not stack:
                return node
        elif word != "," and stack:
            stack[-1].values.append(word.strip('"'))
        previous = word
    return None


def _length_of(system: _Node) -> float | None:
    """Metres per unit of a projected or vertical system: of itself, or of its first axis."""
    places = [system, *(child for child in system.children if child.keyword == "AXIS")]
    for place in places:
        for unit in place.children:
            if unit.keyword in ("UNIT", "LENGTHUNIT") and len(unit.values) >= 2:
                try:
                    length = float(unit.values[1])
                except ValueError:
                    continue
                if 1e-6 < length < 1e6:
                    return length
    return None


def _is_geocentric(nodes: list[_Node]) -> bool:
    return any(node.keyword == "CS" and node.values == ["Cartesian", "3"] for node in nodes)


def _is_metric(code: int) -> bool:
    """Whether an EPSG code is one of UTM, whose unit is the metre."""
    bands = ((32601, 32660), (32701, 32760), (25828, 25838), (26901, 26923), (23028, 23038))
    return any(low <= code <= high for low, high in bands)


def _double(content: bytes, place: int) -> float | None:
    if len(content) < 8 * (place + 1):
        return None
    value: float = struct.unpack_from("<d", content, 8 * place)[0]
    return value if 1e-6 < value < 1e6 else None


def _angles(file: Path, name: str) -> SceneError:
    return SceneError(
        f"{file}: its coordinates are longitude and latitude ({name[:60]}), expected metres; "
        f"{_PROJECT}"
    )


def _from_the_center(file: Path) -> SceneError:
    return SceneError(
        f"{file}: its coordinates are counted from the centre of the Earth, expected metres with z "
        f"up; {_PROJECT}"
    )
