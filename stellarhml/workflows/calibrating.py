"""Corrections of the lines of a saved generator, from files of reference stars."""

import warnings
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from stellarhml._text import one_line
from stellarhml.calibration._line_calibrator import LineCalibrator
from stellarhml.exceptions import InferenceWarning
from stellarhml.flags import InferenceFlag
from stellarhml.inference._bayesian_stellar_regressor import BayesianStellarRegressor
from stellarhml.storage.file_sizes import refuse_large
from stellarhml.workflows.predicting import power_of, read_spectra
from stellarhml.workflows.tables import number, text_of, write_table

UNITS = {"wavelength": "angstrom", "excitation": "eV", "equivalent_width": "angstrom", "velocity": "km/s"}
"""Units of the columns of a table of corrections."""

DESCRIPTIONS = {
    "wavelength": "wavelength of the line in the catalogue, in vacuum",
    "species": "species with the largest share of the line",
    "excitation": "excitation of the lower level of its strongest transition",
    "log_gf": "log gf of its strongest transition, as listed, without the correction",
    "equivalent_width": "equivalent width before the correction, or as added, at the mean labels of the stars",
    "n_stars": "number of stars that show the line",
    "strength": "correction of the strength, in dex, with the zero point of the species",
    "velocity": "correction of the velocity",
    "width": "correction of the natural logarithm of the width of the core",
    "wing": "correction of the strength of the wings, in dex",
    "absent": "whether less than a tenth of the strength is left",
    "added": "whether the line was added: the generator lacked it",
}
"""Descriptions of these columns."""


SUN = 5772.0
"""Effective temperature of the Sun in K."""
_NEAR_SUN = 200.0  # K: what grids without corrections are off by for the Sun, beyond quoted errors


class Calibrated(NamedTuple):
    """What `calibrate_files` found.

    `calibrator` is fitted to the files that could be read and fitted; `failed` has the reasons of the others, by file,
    and `doubts` why one may not be of the Sun. `n_known` is the number of stars with a known label, of `n_stars`.
    """

    calibrator: LineCalibrator
    failed: dict
    n_known: int
    n_stars: int
    doubts: dict


def calibrate_files(
    generator,
    paths,
    *,
    labels=None,
    resolving_power="file",
    n_rounds=3,
    grid_microturbulence=1.0,
    macroturbulence=None,
    sun=False,
    n_jobs=None,
    verbose=None,
    **reading,
):
    """Learn corrections of the lines of a generator from files of reference stars; a failure does not stop the others.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted generator, better with species.
    paths : sequence of str or path-like
        Files of observed spectra, see :func:`stellarhml.spectra.read_spectrum`.
    labels : str or path-like, default=None
        Table (CSV) with the column `star`, a file or its name, and columns of labels; empty where unknown. None: no
        label is known.
    resolving_power : float, "file" or "grid", default="file"
        As in :func:`stellarhml.workflows.predicting.predict_files`.
    n_rounds : int, default=3
        Number of times that all stars are fitted.
    grid_microturbulence, macroturbulence : object
        As of :class:`stellarhml.LineCalibrator`.
    sun : bool, default=False
        Whether the stars are the Sun, whose [X/Fe] are 0 by definition. A spectrum whose temperature, with the lines as
        they are, is not near the Sun's is doubted.
    n_jobs : int, default=None
        Number of worker processes.
    verbose : bool, default=None
        Whether to show a progress bar. None shows one on a terminal when it takes over two seconds.
    **reading : dict
        Parameters of `read_spectra`: format, medium, orders, tellurics.

    Returns
    -------
    calibrated : Calibrated
        The calibrator, and more.

    Raises
    ------
    ValueError
        If the labels do not suit, or no star can be read and fitted.
    """
    known = read_labels(labels, paths, generator.label_names_)
    spectra, powers, rows, failed = [], [], [], {}
    for path, spectrum, row in zip(paths, read_spectra(paths, **reading), known, strict=True):
        try:
            if isinstance(spectrum, str):
                raise ValueError(spectrum)
            powers.append(power_of(spectrum, resolving_power))
        except ValueError as error:
            failed[str(path)] = one_line(error)
            continue
        spectra.append(spectrum)
        rows.append(row)
    if not spectra:
        path, message = next(iter(failed.items()))
        raise ValueError(f"None of the {len(paths)} spectra can be used. The first is {path}: {message}")
    calibrator = LineCalibrator(
        generator,
        n_rounds=n_rounds,
        grid_microturbulence=grid_microturbulence,
        macroturbulence=macroturbulence,
        abundance_scatter=0.0 if sun else 0.05,
        n_jobs=n_jobs,
        verbose=verbose,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InferenceWarning)  # of stars that cannot be fitted: they are in `failed`
        calibrator.fit(spectra, np.array(rows), resolving_power=powers)
    used = [path for path in paths if str(path) not in failed]
    for path, result in zip(used, calibrator.results_, strict=True):
        if result.flags & InferenceFlag.FAILED:
            failed[str(path)] = "; ".join(result.messages)
    n_known = sum(np.isfinite(row).any() for row in rows)
    doubts = {}
    if sun and "teff" in generator.label_names_:
        stars = [(path, *star) for path, *star in zip(used, spectra, powers, strict=True) if str(path) not in failed]
        found = {str(path): _doubt_of_sun(generator, *star) for path, *star in stars}
        doubts = {path: doubt for path, doubt in found.items() if doubt}
    return Calibrated(calibrator, failed, int(n_known), len(spectra), doubts)


def _doubt_of_sun(generator, spectrum, power):
    """Why a spectrum may not be that of the Sun, by a fit of the grid's own lines; empty if it may."""
    regressor = BayesianStellarRegressor.from_generator(generator, line_errors=False)
    result = regressor.infer(spectrum, resolving_power=power)
    value, error = result.values["teff"], result.errors["teff"]
    if abs(value - SUN) < _NEAR_SUN + 5 * error:
        return ""
    return (
        f"with the generator's lines as they are it has {value:.0f} +- {error:.0f} K, and the Sun {SUN:.0f} K: check "
        "that it is a spectrum of the Sun, and its resolving power, or leave --sun out"
    )


def read_labels(path, stars, names):
    """Labels of `stars`, files, by the columns `names` of a table: (n_stars, n_labels), NaN where unknown.

    A row belongs to the star whose path, or else whose name without its folder, is in the column `star`. ValueError if
    there is no such column, a label is no number, or a row belongs to no star or to several, or two rows to one; `path`
    None: all unknown.
    """
    labels = np.full((len(stars), len(names)), np.nan)
    if path is None:
        return labels
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist or is not a file. Pass a table of the stars' labels.")
    refuse_large(path, "text")
    try:
        text = StringIO(Path(path).read_text(encoding="utf-8-sig"))
        table = pd.read_csv(text, dtype=str, comment="#", skipinitialspace=True)
    except ValueError as error:
        raise ValueError(f"{path} is no table of labels ({one_line(error)}). Give it as CSV, in UTF-8.") from error
    columns = [name for name in names if name in table]
    if "star" not in table or not columns:
        raise ValueError(
            f"{path} has the columns {', '.join(map(str, table.columns))}, but `star` is needed, and one of "
            f"{', '.join(names)} or more."
        )
    rows = {}
    for star, *values in table[["star", *columns]].itertuples(index=False):
        found = [k for k, own in enumerate(stars) if str(own) == str(star)]
        found = found or [k for k, own in enumerate(stars) if Path(own).name == str(star)]
        if len(found) != 1:
            raise ValueError(
                f"{path} has a star {star!r}, which is {'several' if found else 'none'} of the {len(stars)} spectra. "
                "Give the path of a spectrum, or the name of its file, and no rows of other stars."
            )
        if found[0] in rows:
            raise ValueError(
                f"{path} has two rows, {rows[found[0]]!r} and {star!r}, of the spectrum {stars[found[0]]}. Keep one."
            )
        rows[found[0]] = star
        for name, value in zip(columns, values, strict=True):
            try:
                labels[found[0], names.index(name)] = float(value)  # an empty cell is NaN
            except ValueError as error:
                raise ValueError(f"{path} has {name} = {value!r} for star {star!r}, which is no number.") from error
    return labels


def write_corrections(calibrator, path):
    """Write the table of corrections, see `stellarhml.workflows.tables.write_table`."""
    write_table(calibrator.corrections_.reset_index(), path, units=UNITS, descriptions=DESCRIPTIONS)


def format_calibration(calibrated):
    """Text of a Calibrated for a terminal."""
    calibrator = calibrated.calibrator
    lines, species = calibrator.corrections_, calibrator.species_
    shown = lines[lines["n_stars"] > 0]
    n_stars = calibrated.n_stars
    text = [
        f"{n_stars} star{'s' * (n_stars != 1)}, {calibrated.n_known} with known labels: {len(shown)} of {len(lines)} "
        f"lines are shown, {int(shown['absent'].sum())} of them are absent, {int(shown['added'].sum())} were added.",
        f"Corrections of these lines, root mean square: strength {_rms(shown['strength']):.3f} dex, velocity "
        f"{_rms(shown['velocity']):.3f} km/s, width {100 * _rms(shown['width']):.1f} %.",
    ]
    if len(species):
        cells = {
            "species": species.index.tolist(),
            "zero point [dex]": [number(value, 3, "+") for value in species["zero_point"]],
            "error": [number(value, 3) for value in species["zero_point_std"]],
            "stars": [str(n) for n in species["n_stars"]],
        }
        text.append(text_of(pd.DataFrame(cells), left=("species",)))
    return "\n".join(text)


def _rms(values):
    return float(np.sqrt(np.mean(values**2))) if len(values) else 0.0
