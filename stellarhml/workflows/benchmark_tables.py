"""Summary of the errors of a benchmark, as text with those of the paper, and as JSON."""

import numpy as np
import pandas as pd

from stellarhml.storage.atomic_files import atomic_path
from stellarhml.workflows.tables import DECIMALS, HEADS, number, text_of

SPLIT = 7000.0
"""Teff in K that divides hot from cool stars in the paper."""

PAPER_ERRORS = {
    "below 7000 K": {"teff": 93.0, "logg": 0.24, "feh": 0.056},
    "7000 K and above": {"teff": 347.0, "logg": 0.26, "feh": 0.16},
}
"""Mean absolute errors of the paper: its own training nodes, without noise, Teff known to 500 K."""

_STATISTICS = ("mean", "median", "std")


def summarise(table, label_names):
    """Sum up the errors of a benchmark by method of search, and for stars below and from 7000 K where there are any.

    Each is a dict of `search`, `stars` (the range), `n_stars`, `n_failed`, `errors` (mean, median and standard
    deviation of the absolute differences, by label) and `seconds` (mean of a star). None where all stars failed.
    """
    summary = []
    for search in table["search"].unique():
        of_search = table[table["search"] == search]
        for stars, rows in _by_teff(of_search):
            done = of_search[rows & (of_search["status"] != "failed")]
            errors = {name: _statistics(done[f"{name}_difference"].abs()) for name in label_names}
            record = {"search": search, "stars": stars, "n_stars": int(rows.sum())}
            record |= {"n_failed": int(rows.sum()) - len(done), "errors": errors}
            summary.append(record | {"seconds": float(done["seconds"].mean()) if len(done) else None})
    return summary


def format_summary(summary, label_names):
    """Text of a summary for a terminal: a line for each method and range of Teff, and for each of the paper's.

    Ranges without stars are listed below.
    """
    present = list(dict.fromkeys(record["stars"] for record in summary))
    rows = [(_describe(record), record["errors"], record["seconds"]) for record in summary]
    for stars in PAPER_ERRORS:
        if stars in present:
            rows.append(
                (f"as published: {stars}, seen nodes", {n: {"mean": v} for n, v in PAPER_ERRORS[stars].items()}, None)
            )
    cells = {("", "search"): [row[0] for row in rows]}
    for name in label_names:
        for part in _STATISTICS:
            values = [row[1].get(name, {}).get(part) for row in rows]
            cells[HEADS.get(name, name), part] = [number(value, DECIMALS.get(name, 3)) for value in values]
    cells["", "seconds"] = [number(row[2], 1) for row in rows]
    text = text_of(pd.DataFrame(cells), left=("search",))
    missing = [stars for stars in PAPER_ERRORS if stars not in present]
    if len(missing) == 1:
        text += f"\nNo star lies at {missing[0]}." if "above" in missing[0] else f"\nNo star lies {missing[0]}."
    return text


def as_record(grid, result, summary):
    """Settings and errors of a benchmark for JSON, as a dict.

    It has `grid`, `n_lines`, `n_folds`, seconds, `summary`, and the paper's `paper_errors` (means).
    """
    about = {
        "n_spectra": len(grid.labels),
        "n_pixels": int(grid.wavelength.size),
        "wavelength": [float(grid.wavelength[0]), float(grid.wavelength[-1])],
        "labels": {
            name: [float(column.min()), float(column.max())]
            for name, column in zip(result.label_names, grid.labels.T, strict=True)
        },
    }
    return {
        "grid": about,
        "n_lines": result.n_lines,
        "n_folds": result.n_folds,
        "build_seconds": result.build_seconds,
        "infer_seconds": result.infer_seconds,
        "summary": summary,
        "paper_errors": PAPER_ERRORS,
    }


def edge_note(table, labels, label_names):
    """Sentence with the number of stars at an edge of the grid, where the bounds help the search.

    Empty if there are none. `table` is that of a BenchmarkResult, `labels` (n_nodes, n_labels) are those of the grid.
    """
    stars = labels[table["star"].unique()]
    n_at_end = ((stars == labels.min(axis=0)) | (stars == labels.max(axis=0))).sum(axis=0)
    counts = [f"{n} in {name}" for n, name in zip(n_at_end, label_names, strict=True) if n]
    if not counts:
        return ""
    return (
        f"Of {len(stars)} stars, {', '.join(counts)} lie at an edge of the grid, which bounds the search: errors there "
        "are smaller than elsewhere."
    )


def draw_differences(result, path):
    """Draw the differences of each label against Teff into a figure, in a format of matplotlib."""
    from matplotlib.figure import Figure

    from stellarhml.plotting._inference_error_display import InferenceErrorDisplay

    table, names = result.table, list(result.label_names)
    truth, found = table[[f"{name}_true" for name in names]].to_numpy(), table[names].to_numpy()
    figure = Figure(figsize=(8, 2.4 * len(names) + 0.8), layout="constrained")
    method = table["search"].to_numpy(dtype=str)
    InferenceErrorDisplay.from_predictions(truth, found, names=names, method=method, ax=figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _by_teff(table):
    """Yield the name and the rows of each range of Teff that has stars; all of them where there is no Teff."""
    if "teff_true" not in table:
        yield "all", np.ones(len(table), dtype=bool)
        return
    cool = (table["teff_true"] < SPLIT).to_numpy()
    for stars, rows in zip(PAPER_ERRORS, (cool, ~cool), strict=True):
        if rows.any():
            yield stars, rows


def _statistics(values):
    """Mean, median and standard deviation of absolute errors."""
    if not len(values):
        return dict.fromkeys(_STATISTICS)
    return {"mean": float(values.mean()), "median": float(values.median()), "std": float(values.std(ddof=0))}


def _describe(record):
    """Method, range and number of stars."""
    failed = f", {record['n_failed']} failed" if record["n_failed"] else ""
    number_of = f"{record['n_stars']} star{'s' if record['n_stars'] > 1 else ''}"
    return f"{record['search']}: {record['stars']}, {number_of}{failed}"
