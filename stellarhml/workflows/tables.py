"""Tables of inferred labels: data frames, their text on a terminal, and their files.

All tables have the same names of columns: `NAME` is the value of a parameter and `NAME_std` its standard deviation;
where the truth is known, `NAME_true`, and `NAME_difference` is found minus true.
"""

import json
import math
from pathlib import Path

import pandas as pd

from stellarhml._text import escaped
from stellarhml.inference._inference_result import with_units
from stellarhml.storage.atomic_files import atomic_path

DECIMALS = {"teff": 1, "rv": 3, "vsini": 2, "vmac": 2, "reduced_chi2": 2, "n_pixels": 0, "n_rejected": 0, "seconds": 1}
DECIMALS |= {"teff_2": 1, "teff_spot": 1, "rv_2": 3, "vsini_2": 2, "log_evidence": 1}
"""Decimals of columns in text; others have three."""

HEADS = {"teff": "Teff [K]", "logg": "log g [dex]", "feh": "[Fe/H] [dex]", "vmic": "vmic [km/s]"}
"""Heads of the parameters in text, with their units."""

MEAN_ROW = "mean |difference|"
"""Name of the last row of a table with the truth."""

SUFFIXES = (".csv", ".json", ".ecsv", ".fits")
"""Endings of the files that `write_table` writes."""


def with_truth(table, label_names, truth):
    """Add to a table of inferred labels the truth, shape (n_stars, n_labels), and found minus true.

    `NAME_true` comes before and `NAME_difference` after the columns `NAME` and `NAME_std` of each label.
    """
    true = dict(zip(label_names, truth.T, strict=True))
    columns = {}
    for column, values in table.items():
        if column in true:
            columns[f"{column}_true"] = true[column]
        columns[column] = values
        name = column.removesuffix("_std")
        if name in true and name != column:
            columns[f"{name}_difference"] = table[name] - true[name]
    return pd.DataFrame(columns, index=table.index)


def with_mean_row(table, label_names):
    """Append to a table of `with_truth` a row "mean |difference|", with the means of these and of the seconds."""
    means = {f"{name}_difference": table[f"{name}_difference"].abs().mean() for name in label_names}
    texts = dict.fromkeys(table.select_dtypes(["object", "string"]).columns, "")
    last = pd.DataFrame([texts | {"star": MEAN_ROW, "seconds": table["seconds"].mean()} | means])
    return pd.concat([table, last.reindex(columns=table.columns)], ignore_index=True)


def format_truth_table(table, label_names):
    """Text of a table of `with_mean_row` for a terminal: a line for each star and the means, under two headers."""
    cells = {("", "star"): table["star"]}
    for name in label_names:
        for part in ("true", "found", "std", "difference"):
            values = table[name if part == "found" else f"{name}_{part}"]
            texts = [number(value, DECIMALS.get(name, 3), "+" * (part == "difference")) for value in values]
            if part == "difference":
                texts[-1] = texts[-1].lstrip("+")  # a mean of absolute values has no sign
            cells[HEADS.get(name, name), part] = texts
    cells["", "seconds"] = [number(value, 1) for value in table["seconds"]]
    return text_of(pd.DataFrame(cells))


def format_table(table):
    """Text of a table of inferred parameters for a terminal: one line for each star, under one of headers."""
    cells = {}
    for column, values in table.items():
        if pd.api.types.is_numeric_dtype(values):
            digits = DECIMALS.get(column.removesuffix("_std"), 3)
            cells[column] = [number(value, digits) for value in values]
        else:
            cells[column] = [escaped(str(text)) for text in values.fillna("")]
    return text_of(pd.DataFrame(cells), left=("star", "status", "flags", "message"))


def text_of(cells, left=("star",)):
    """Text of a data frame of texts, without trailing spaces.

    Columns whose last header is in `left` are aligned at the left, others at the right.
    """
    heads = [list(column) if isinstance(column, tuple) else [column] for column in cells.columns]
    columns = []
    for k, head in enumerate(heads):
        texts = cells.iloc[:, k].tolist()
        if head[-1] in left:
            width = max(map(len, [head[-1], *texts]))
            head[-1], texts = head[-1].ljust(width), [text.ljust(width) for text in texts]
        columns.append(texts)
    aligned = pd.DataFrame(dict(enumerate(columns)))
    aligned.columns = pd.MultiIndex.from_tuples(map(tuple, heads))
    text = aligned.to_string(index=False, justify="right", line_width=None, max_colwidth=None)
    return "\n".join(line.rstrip() for line in text.splitlines())


def number(value, digits, sign=""):
    """Text of a number with some decimals, empty for NaN."""
    return "" if pd.isna(value) else f"{value:{sign}.{digits}f}"


def require_suffix(path):
    """Raise, before any work, if `write_table` does not know the ending of a name."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} is to be a table, but its name ends in none of {', '.join(SUFFIXES)}. Rename it.")


def write_table(table, path, **described):
    """Write a table as CSV, JSON, ECSV or FITS, by the ending of the name; ECSV and FITS state the units.

    The file appears under its name only when it is complete. Characters that the format cannot have are escaped.
    `described` are units and descriptions of columns for `with_units`; None: those of inferred parameters.
    """
    suffix = Path(path).suffix.lower()
    with atomic_path(path, sync=True) as temporary:
        if suffix == ".ecsv":
            with_units(table, **described).write(temporary, overwrite=True, format="ascii.ecsv")
        elif suffix == ".fits":
            with_units(_in_ascii(table), **described).write(temporary, overwrite=True, format="fits")
        elif suffix == ".json":
            temporary.write_text(json_text(table.to_dict("records")) + "\n", encoding="utf-8")
        else:
            temporary.write_text(csv_text(table), encoding="utf-8")


def csv_text(table):
    """Text of a table as CSV: a row is one line."""
    return _in_texts(table, escaped).to_csv(index=False, lineterminator="\n")


def _in_ascii(table):
    """Table whose texts are in the characters of FITS; others are escaped."""
    return _in_texts(table, lambda text: escaped(text).encode("ascii", "backslashreplace").decode())


def _in_texts(table, change):
    """Table with all texts changed."""
    texts = table.select_dtypes(["object", "string"])
    return table.assign(**{name: [change(str(text)) for text in column.fillna("")] for name, column in texts.items()})


def json_text(value):
    """Text of a JSON document, with null for NaN and infinity."""
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def _plain(value):
    """The same value in the types of JSON."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if hasattr(value, "item"):  # a number of NumPy
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
