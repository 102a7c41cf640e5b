"""Tables of inferred labels: as data frames for files, as text for a terminal."""

import numpy as np
import pandas as pd

DECIMALS = {"teff": 1}
"""Decimals of labels in large units; others get three."""

UNITS = {"teff": "Teff [K]", "logg": "log g [dex]", "feh": "[Fe/H] [dex]"}
"""Heads of the labels, with their units."""

MEAN_ROW = "mean |error|"


def truth_table(names, label_names, truth, inferences):
    """Tabulate inferred labels beside true ones, with the mean absolute errors in the last row.

    Parameters
    ----------
    names : list of str
        Names of the stars.
    label_names : tuple of str
        Names of the labels.
    truth : ndarray of shape (n_stars, n_labels)
        True labels.
    inferences : list of Inference
        What was found.

    Returns
    -------
    table : DataFrame
        Columns `star`, then `<label>_true`, `<label>_inferred`, `<label>_error`, `<label>_std` for each label,
        `seconds`, `note`. The last row has the means of the absolute errors and of the seconds only.
    """
    inferred = np.stack([inference.labels for inference in inferences])
    std = np.stack([inference.std for inference in inferences])
    columns = {"star": list(names)}
    for k, name in enumerate(label_names):
        columns[f"{name}_true"] = truth[:, k]
        columns[f"{name}_inferred"] = inferred[:, k]
        columns[f"{name}_error"] = inferred[:, k] - truth[:, k]
        columns[f"{name}_std"] = std[:, k]
    columns["seconds"] = [inference.seconds for inference in inferences]
    columns["note"] = [inference.note for inference in inferences]
    table = pd.DataFrame(columns)
    means = {f"{name}_error": table[f"{name}_error"].abs().mean() for name in label_names}
    last = pd.DataFrame([{"star": MEAN_ROW, **means, "seconds": table["seconds"].mean(), "note": ""}])
    return pd.concat([table, last.reindex(columns=table.columns)], ignore_index=True)


def spectrum_table(paths, label_names, results):
    """Tabulate inferred labels of files.

    Parameters
    ----------
    paths : list of str
        The files.
    label_names : tuple of str
        Names of the labels.
    results : list of (Observation, Inference) or str
        What was found, or why nothing was.

    Returns
    -------
    table : DataFrame
        Columns `spectrum`, `status` ("ok", "flagged" or "failed"), `<label>` and `<label>_std` for each label,
        `coverage`, `rms`, `chi2`, `seconds`, `note`; one row for each file.
    """
    rows = []
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, str):
            rows.append({"spectrum": path, "status": "failed", "note": result})
            continue
        observation, found = result
        row = {"spectrum": path, "status": "flagged" if found.note else "ok"}
        for name, value, std in zip(label_names, found.labels, found.std, strict=True):
            row[name], row[f"{name}_std"] = value, std
        row |= {"coverage": observation.coverage, "rms": found.rms, "chi2": found.chi2, "seconds": found.seconds}
        rows.append(row | {"note": found.note})
    labels = [column for name in label_names for column in (name, f"{name}_std")]
    return pd.DataFrame(rows, columns=["spectrum", "status", *labels, "coverage", "rms", "chi2", "seconds", "note"])


def format_truth_table(table, label_names):
    """Lay out a table of `truth_table` for a terminal.

    Parameters
    ----------
    table : DataFrame
        The table.
    label_names : tuple of str
        Names of the labels.

    Returns
    -------
    text : str
        One line for each star and for the means, under two of headers.
    """
    parts = ("true", "inferred", "error", "std")
    cells = [["", *table["star"]]]
    heads = [""]
    for name in label_names:
        digits = DECIMALS.get(name, 3)
        for part in parts:
            heads.append(UNITS.get(name, name) if part == "true" else "")
            sign = "+" if part == "error" else ""
            values = [number(value, digits, sign) for value in table[f"{name}_{part}"]]
            if part == "error":
                values[-1] = values[-1].lstrip("+")  # a mean of absolute values has no sign
            cells.append([part, *values])
    heads.append("")
    cells.append(["seconds", *(number(value, 1) for value in table["seconds"])])
    return lay_out(heads, cells, group=len(parts))


def format_spectrum_table(table, label_names):
    """Lay out a table of inferred parameters for a terminal.

    Parameters
    ----------
    table : DataFrame
        Of `spectrum_table` or of :func:`stellarhml.workflows.predicting.table_of`.
    label_names : tuple of str
        Names of the parameters.

    Returns
    -------
    text : str
        One line for each spectrum.
    """
    cells = [["spectrum", *table["spectrum"]], ["status", *table["status"]]]
    for name in label_names:
        digits = DECIMALS.get(name, 3)
        for column in (name, f"{name}_std"):
            cells.append([column, *(number(value, digits) for value in table[column])])
    for column, digits in (("coverage", 2), ("rms", 4), ("chi2", 2), ("n_pixels", 0), ("seconds", 1)):
        if column in table:
            cells.append([column, *(number(value, digits) for value in table[column])])
    cells.append(["note", *table["note"].fillna("")])
    return lay_out(None, cells, left=("spectrum", "status", "note"))


def number(value, digits, sign=""):
    """Text of a number, empty for NaN."""
    return "" if pd.isna(value) else f"{value:{sign}.{digits}f}"


def lay_out(heads, cells, *, group=0, left=("",)):
    """Put columns of text side by side.

    Parameters
    ----------
    heads : list of str or None
        What stands above the first column of each group, a text for each column.
    cells : list of list of str
        The columns, the head of each first.
    group : int, default=0
        Columns of a group; the first column and the last belong to none.
    left : tuple of str, default=("",)
        Heads of columns that are set to the left.

    Returns
    -------
    text : str
        One line for each row.
    """
    padded = []
    for column in cells:
        width = max(len(cell) for cell in column)
        padded.append([cell.ljust(width) if column[0] in left else cell.rjust(width) for cell in column])
    lines = ["  ".join(row).rstrip() for row in zip(*padded, strict=True)]
    if heads is None:
        return "\n".join(lines)
    widths = [len(column[0]) for column in padded]
    top = " " * (widths[0] + 2)
    for k in range(1, len(widths) - 1, group):
        top += heads[k].center(sum(widths[k : k + group]) + 2 * (group - 1)) + "  "
    return "\n".join([top.rstrip(), *lines])
