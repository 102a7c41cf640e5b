"""What a file states of its wavelengths: their medium, air or vacuum, and the reference frame of their velocities.

Keywords are those of the FITS standard (`SPECSYS`, `CTYPE`; Greisen et al. 2006, doi:10.1051/0004-6361:20053818) and
those that archives use beside it. `CTYPE1 = 'WAVE'` states nothing here: in the standard it means vacuum, but many
pipelines write it for air.
"""

import re
from typing import NamedTuple

FRAMES = ("telescope", "geocenter", "barycenter", "heliocenter", "star")
"""Frames of wavelengths; "star": already shifted to the rest frame of the star."""

_MEDIUM_KEYS = ("AIRORVAC", "VACORAIR", "AIRVAC", "AIR_VAC", "MEDIUM", "WAVEMED", "WAVE_MED")
_FRAME_KEYS = ("SPECSYS", "TRFSYS")
_MEDIA = {"air": "air", "vac": "vacuum", "vacuum": "vacuum"}
_SYSTEMS = {
    "TOPOCENT": "telescope",
    "GEOCENTR": "geocenter",
    "BARYCENT": "barycenter",
    "HELIOCEN": "heliocenter",
    "SOURCE": "star",
    **{name: name for name in ("LSRK", "LSRD", "LSR", "GALACTOC", "LOCALGRP", "CMBDIPOL")},
}
_TRUE, _FALSE = ("t", "true", "yes", "1"), ("f", "false", "no", "0")
_COMMENT = re.compile(r"\s*([A-Za-z][\w -]{0,30}?)\s*[=:]\s*(.+?)\s*(?:\s/\s.*)?$")  # a FITS card ends with its comment
_SENTENCE = re.compile(r"\b(?:wavelengths?|lambda)\b(?P<rest>.*)", re.IGNORECASE)


class Statement(NamedTuple):
    """A `value` ("vacuum", "air", or one of `FRAMES`), and where it is written, such as ``AIRORVAC = 'air'``."""

    value: str
    source: str


def by_format(name, value="vacuum"):
    """Statement of the documentation of a format."""
    return Statement(value, f"the format {name}")


def stated_medium(headers) -> list[Statement]:
    """Statements of the medium in some headers, each a mapping of keywords (upper case) to values."""
    found = []
    for header in headers:
        for key in filter(_may_state_medium, header):
            medium = _medium_of(key, _text(header[key]).lower())
            if medium:
                found.append(Statement(medium, f"{key} = {header[key]!r}"))
    return found


def stated_frame(headers) -> list[Statement]:
    """Statements of the reference frame in some headers, each a mapping of keywords (upper case) to values."""
    found = []
    for header in headers:
        for key in _FRAME_KEYS:
            system = _text(header.get(key, "")).upper()
            frame = next((frame for name, frame in _SYSTEMS.items() if system and system.startswith(name)), None)
            if frame:
                found.append(Statement(frame, f"{key} = {header[key]!r}"))
    return found


def stated_by_ucd(ucd) -> list[Statement]:
    """Statement of the unified content descriptor of a column: `em.wl;obs.atmos` of ESO, `em.wl;obs.air`."""
    words = re.split(r"[;.]", str(ucd or "").lower())
    in_air = words[:2] == ["em", "wl"] and not {"air", "atmos"}.isdisjoint(words)
    return [Statement("air", f"the UCD {ucd!r}")] if in_air else []


def split_medium(words) -> tuple[list, str | None]:
    """Separate words such as `air`, `vac` and `vacuum` from others; returns these, and the medium or None."""
    media = {_MEDIA[word.lower()] for word in words if word.lower() in _MEDIA}
    rest = [word for word in words if word.lower() not in _MEDIA]
    return rest, media.pop() if len(media) == 1 else None


def is_statement(key):
    """Whether a keyword, in any case, may state the medium or the frame."""
    return _may_state_medium(key.upper()) or key.upper() in _FRAME_KEYS


def comment_cards(comments) -> list[dict]:
    """Statements of comments as headers, each a dict of a keyword (upper case) and its value.

    They have the form ``KEY = VALUE`` or ``KEY: VALUE``, or speak of wavelengths in air or in vacuum.
    """
    headers = []
    for comment in map(_text, comments):
        match, sentence = _COMMENT.match(comment), _SENTENCE.search(comment)
        if match:
            headers.append({match[1].strip().upper(): match[2].strip("'\" ")})
        if sentence:
            _, medium = split_medium(re.findall(r"[a-z]+", sentence["rest"].lower()))
            headers += [{"MEDIUM": medium}] if medium else []
    return headers


def table_headers(meta) -> list[dict]:
    """Metadata of a table as headers: its keywords (upper case), those of a nested header, and its comments."""
    inner = meta.get("header")
    comments = [meta.get(key) for key in ("comments", "COMMENT")]
    comments = [line for part in comments for line in ([part] if isinstance(part, str) else part or ())]
    nested = [{str(key).upper(): value for key, value in inner.items()}] if isinstance(inner, dict) else []
    return [{str(key).upper(): value for key, value in meta.items()}, *nested, *comment_cards(comments)]


def check_medium(medium, stated=()):
    """Medium of the wavelengths, "vacuum" or "air".

    `medium` is what the caller states, or None; `stated` has the statements of the file and of its format. ValueError
    if these contradict each other or the caller, or nobody states the medium.
    """
    if medium not in (None, "vacuum", "air"):
        raise ValueError(
            f"`medium` is {medium!r}, but it must be 'vacuum' or 'air', the medium of the wavelengths in the file."
        )
    value = _only_one(stated, "air and vacuum")
    if value is None and medium is None:
        raise ValueError(
            "`medium` is None, and the file does not state whether the wavelengths are in vacuum or in air. Pass "
            "'vacuum' or 'air', on the command line with --medium."
        )
    if None not in (value, medium) and value != medium:
        raise ValueError(
            f"`medium` is {medium!r}, but the wavelengths are in {value} by {_sources(stated)}. Leave `medium` "
            "(--medium) out, or correct the file."
        )
    return medium or value


def check_frame(stated):
    """Frame of the wavelengths by the statements of a file, or None; ValueError if they contradict each other."""
    return _only_one(stated, "different frames")


def _only_one(stated, what):
    """The one value of some statements, or None."""
    if len({statement.value for statement in stated}) > 1:
        claims = ", but ".join(f"{statement.value} by {statement.source}" for statement in stated)
        raise ValueError(f"The file states {what} for its wavelengths: {claims}. Correct the one that is wrong.")
    return stated[0].value if stated else None


def _sources(stated):
    return " and ".join(dict.fromkeys(statement.source for statement in stated))


def _may_state_medium(key):
    return isinstance(key, str) and (key == "VACUUM" or key in _MEDIUM_KEYS or bool(re.fullmatch(r"CTYPE\d", key)))


def _text(value):
    """A text, number or truth value as text; nothing else, which may be huge."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return str(value).strip() if isinstance(value, str | bool | int | float) or hasattr(value, "item") else ""


def _medium_of(key, value):
    """Medium that a keyword states, or None; `value` is text in lower case."""
    if key == "VACUUM":
        return "vacuum" if value in _TRUE else "air" if value in _FALSE else None
    start = re.match(r"(?:in )?(awav|air|vac)", value)
    return None if start is None else "vacuum" if start[1] == "vac" else "air"
