"""Inferring from files as telescopes deliver them: each to a row of a table, with pictures if wanted."""

from pathlib import Path

import numpy as np
import pandas as pd

from stellarhml.cli.terminal import INTERRUPTED, json_text, until_interrupted
from stellarhml.flags import InferenceFlag
from stellarhml.inference._inference_result import GRAVE, with_units
from stellarhml.inference.observing import infer_each
from stellarhml.storage.atomic_files import atomic_path


def infer_spectra(regressor, spectra, *, resolving_power, n_jobs=None, verbose=None):
    """Infer from spectra that were read.

    Parameters
    ----------
    regressor : BayesianStellarRegressor
        Fitted.
    spectra : list of ObservedSpectrum or str
        As from :func:`stellarhml.workflows.preparing.prepare_spectra`.
    resolving_power : float, "file" or "grid"
        Of the spectrographs; "file" takes what each format states.
    n_jobs, verbose : int, bool, default=None
        Workers over spectra, and progress bar.

    Returns
    -------
    results : list of InferenceResult or str
        Text is why there is none; INTERRUPTED for those that Ctrl-C left.
    """
    powers = [_power(spectrum, resolving_power) for spectrum in spectra]
    results = [power if isinstance(power, str) else INTERRUPTED for power in powers]
    n_wanted = results.count(INTERRUPTED)
    found = _infer_by_power(regressor, spectra, powers, n_jobs=n_jobs, verbose=verbose)
    for pair in until_interrupted(found, n_wanted):
        if pair != INTERRUPTED:
            results[pair[0]] = pair[1]
    return results


def _infer_by_power(regressor, spectra, powers, *, n_jobs, verbose):
    """Number and result, or why there is none, of each spectrum whose resolving power is known."""
    for power in sorted({power for power in powers if not isinstance(power, str)}):
        chosen = [i for i, value in enumerate(powers) if value == power]
        power = None if np.isinf(power) else power
        found = infer_each(
            regressor, [spectra[i] for i in chosen], resolving_power=power, n_jobs=n_jobs, verbose=verbose
        )
        for i, result in zip(chosen, found, strict=True):
            yield i, result.messages[0] if result.flags & InferenceFlag.FAILED else result


def table_of(paths, names, results):
    """Tabulate what was inferred from files.

    Parameters
    ----------
    paths : list of str
        The files.
    names : sequence of str
        Names of the parameters.
    results : list of InferenceResult or str
        What was found, or why nothing was.

    Returns
    -------
    table : DataFrame
        Columns `spectrum`, `status` ("ok", "flagged" or "failed"), `<name>` and `<name>_std` for each parameter,
        `chi2`, `n_pixels`, `seconds`, `flags`, `note`; one row for each file.
    """
    rows = []
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, str):
            rows.append({"spectrum": path, "status": "failed", "note": result})
            continue
        row = {"spectrum": path, "status": "flagged" if result.flags & GRAVE else "ok"}
        for name in names:
            row[name], row[f"{name}_std"] = result.values[name], result.errors[name]
        row |= {"chi2": result.reduced_chi2, "n_pixels": result.n_pixels, "seconds": result.seconds}
        rows.append(row | {"flags": result.flag_names, "note": "; ".join(result.messages)})
    columns = [column for name in names for column in (name, f"{name}_std")]
    return pd.DataFrame(rows, columns=["spectrum", "status", *columns, "chi2", "n_pixels", "seconds", "flags", "note"])


def draw_results(paths, results, folder):
    """Write a picture of each fit.

    Parameters
    ----------
    paths : list of str
        The files that were inferred from.
    results : list of InferenceResult or str
        What was found.
    folder : path-like
        Where to write ``NAME.png``, one for each file.

    Returns
    -------
    written : list of Path or None
        The picture of each file, None where nothing was found.
    """
    from stellarhml.plotting._inference_display import InferenceDisplay

    written, taken = [], set()
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, str):
            written.append(None)
            continue
        name, n = Path(path).stem, 2
        while name in taken:
            name, n = f"{Path(path).stem}-{n}", n + 1
        taken.add(name)
        written.append(Path(folder) / f"{name}.png")
        with atomic_path(written[-1]) as temporary:
            InferenceDisplay.from_result(result).plot().figure_.savefig(temporary, dpi=150)
    return written


def write_table(table, path):
    """Write a table by a temporary file: CSV, or JSON, ECSV or FITS where the name says so, the latter two with units.

    Parameters
    ----------
    table : DataFrame
        The table.
    path : path-like
        File to write.
    """
    with atomic_path(path) as temporary:
        suffix = Path(path).suffix.lower()
        if suffix in (".ecsv", ".fits"):
            with_units(table).write(temporary, overwrite=True, format={".ecsv": "ascii.ecsv", ".fits": "fits"}[suffix])
        elif suffix == ".json":
            temporary.write_text(json_text(table.to_dict("records")) + "\n", encoding="utf-8")
        else:
            table.to_csv(temporary, index=False)


def _power(spectrum, resolving_power):
    """Resolving power of a spectrum, or why there is none."""
    if isinstance(spectrum, str):
        return spectrum
    if resolving_power != "file":
        return np.inf if resolving_power == "grid" else resolving_power
    stated = spectrum.meta.get("resolving_power")
    return stated or "the file states no resolving power; give it with --resolving-power"
