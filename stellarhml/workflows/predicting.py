"""Inference from files of observed spectra: a table of labels and velocities, and a figure of each fit.

A worker takes one file after the other: it reads the file, fits it, draws the figure and stores the row. So neither
spectra nor fits pile up in memory, and whatever ends the command, stored rows remain.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy

from stellarhml import __version__
from stellarhml._parallel import progress, survive_deaths
from stellarhml._text import one_line
from stellarhml.flags import InferenceFlag
from stellarhml.inference._bayesian_stellar_regressor import BayesianStellarRegressor, infer_or_report
from stellarhml.inference._inference_result import NO_FRAME, rows_to_frame
from stellarhml.inference.best_generator import check_settings, infer_best_or_report
from stellarhml.inference.survey import check_survey, few_of, is_survey
from stellarhml.inference.telluric_frame import as_tellurics
from stellarhml.spectra.reading import read_spectrum
from stellarhml.spectra.tellurics import divide_standard, divide_tellurics, mask_tellurics
from stellarhml.spectra.transmissions import read_atmosphere, read_transmission
from stellarhml.storage.atomic_files import atomic_path
from stellarhml.storage.result_store import ResultStore, digest, digest_file
from stellarhml.storage.saving import load
from stellarhml.synthesis._spectrum_generator import SpectrumGenerator

AT_REST = {"rv": 0.0, "vsini": 0.0}
"""Parameters that are fixed for spectra at rest."""

INTERRUPTED = "interrupted before it was done"
"""Message of the files that Ctrl-C left."""

DIED = (
    "the process that fitted it was killed, and again when it was tried alone; most often the machine had no memory "
    "left. Give it more memory, or leave the file out"
)
"""Message of a file whose worker died twice."""

_BATCH = 8  # files of a survey that a worker takes at once: sending the generator takes as long as a star

_NO_POWER = (
    "the file states no resolving power. Give --resolving-power R, or --resolving-power grid for spectra at the "
    "generator's own resolution"
)


class Predicted(NamedTuple):
    """What `predict_files` found.

    Attributes
    ----------
    table : DataFrame
        One row for each file, in their order: `star` (the file), `status` (ok, flagged or failed), value and standard
        deviation of each parameter, `reduced_chi2`, `n_pixels`, `n_rejected`, `rv_frame`, `seconds`, `flags`,
        `message`.
    figures : list of Path or None
        Figure of each file; None where there is none.
    problems : dict of str to str
        Why a figure or a spectrum could not be written, by file.
    keys : list of str
        Keys of the rows in the store.
    n_read, n_damaged : int
        Numbers of rows of earlier runs that were read from the store, and of those that were damaged there and
        computed again.
    interruption : KeyboardInterrupt or None
        What ended the work before its end.
    """

    table: pd.DataFrame
    figures: list
    problems: dict
    keys: list
    n_read: int
    n_damaged: int
    interruption: KeyboardInterrupt | None


def predict_files(
    generator,
    paths,
    *,
    resolving_power="file",
    at_rest=False,
    macroturbulence=None,
    resolving_power_error=None,
    resolving_power_scatter=None,
    wavelength_error=None,
    companion=None,
    spots=None,
    veiling=None,
    components="auto",
    line_errors="auto",
    survey="auto",
    figures=None,
    tellurics=None,
    tellurics_mode="mask",
    tellurics_limit=None,
    tellurics_medium=None,
    barycentric=None,
    out_spectra=None,
    store=None,
    generator_digest=None,
    n_jobs=None,
    verbose=None,
    **reading,
):
    """Infer labels, radial velocity and vsini from files; a failure does not stop the others.

    Parameters
    ----------
    generator : SpectrumGenerator or dict of str to SpectrumGenerator
        Fitted generator. Of several by name, each star is fitted with the one of the highest evidence, see
        :func:`stellarhml.inference.infer_best`, and the table has `generator_name` and `generator_margin`.
    paths : sequence of str or path-like
        Files of observed spectra, see :func:`stellarhml.spectra.read_spectrum`.
    resolving_power : float, "file" or "grid", default="file"
        Wavelength over the full width at half maximum of the line-spread function. "file": as each file states it;
        "grid": the spectra are at the generator's own resolution.
    at_rest : bool, default=False
        Whether the radial velocity and vsini are fixed to zero.
    macroturbulence : {"radial-tangential", "gaussian"}, default=None
        Profile of macroturbulence, whose velocity vmac is then fitted.
    resolving_power_error : float, default=None
        Relative standard deviation of the resolving power, of which a factor is then fitted. None: it is exact.
    resolving_power_scatter : float, default=None
        Relative standard deviation of the resolving power between orders, each of which then has a factor of its own.
    wavelength_error : float, default=None
        Standard deviation in km/s by which the wavelengths of each order may be off. None: they are exact.
    companion, spots, veiling, components : object
        Whether a second star, spots or veiling are looked for, see
        :meth:`stellarhml.BayesianStellarRegressor.infer`.
    line_errors : bool or "auto", default="auto"
        Whether the lines of the grid are taken as uncertain, and abundances and microturbulence are fitted with them,
        see :meth:`stellarhml.BayesianStellarRegressor.infer`.
    survey : bool or "auto", default="auto"
        Whether stars on the same pixels share a table of model spectra, as in
        :meth:`stellarhml.BayesianStellarRegressor.infer_many`; not with several generators.
    figures : str or path-like, default=None
        Folder for a figure of each fit, ``NAME.png``.
    tellurics, tellurics_limit : object
        As in `read_spectra`; with "fit" the limit is that of `out_spectra`, 0.3 by default.
    tellurics_mode : {"mask", "divide", "fit"}, default="mask"
        As in `read_spectra`. "fit": amounts and velocity of the atmosphere are fitted with each star, see the
        `tellurics` of :meth:`stellarhml.BayesianStellarRegressor.infer`.
    tellurics_medium : {"vacuum", "air"}, default=None
        Medium of the wavelengths of `tellurics` where its file does not state it, for "fit".
    barycentric : float, "header" or None, default=None
        As in `infer`.
    out_spectra : str or path-like, default=None
        Folder for each spectrum over its fitted transmission, ``NAME.fits``, for "fit".
    store : ResultStore, default=None
        Where each row is stored when it is done; rows of earlier runs that depended on the same spectrum, generator
        and settings are read from it. None stores nothing.
    generator_digest : str, default=None
        Digest of the generator's file, from `stellarhml.storage.result_store.digest_file`, or of the names and files
        of several; needed with `store`.
    n_jobs : int, default=None
        Number of worker processes.
    verbose : bool, default=None
        Whether to show a progress bar. None shows one on a terminal when it takes over two seconds.
    **reading : dict
        Other parameters of `read_spectra`: format, medium, orders, standard.

    Returns
    -------
    predicted : Predicted
        The table, and more.

    Raises
    ------
    StoreError
        If a row cannot be stored; those stored before are kept.

    Examples
    --------
    >>> from stellarhml.workflows.predicting import open_generator, predict_files
    >>> table = predict_files(open_generator("generator.asdf"), ["star.fits"]).table  # doctest: +SKIP
    """
    if store is not None and generator_digest is None:
        raise ValueError("`store` needs `generator_digest`: else rows of another generator could be read from it.")
    several = isinstance(generator, dict)
    generators = generator if several else {"": generator}
    regressors = {name: BayesianStellarRegressor.from_generator(one, verbose=False) for name, one in generators.items()}
    settings = {
        "fixed": AT_REST if at_rest else None,
        "macroturbulence": macroturbulence,
        "resolving_power_error": resolving_power_error,
        "resolving_power_scatter": resolving_power_scatter,
        "wavelength_error": wavelength_error,
        "companion": companion,
        "spots": spots,
        "veiling": veiling,
        "components": components,
        "line_errors": line_errors,
        "barycentric": barycentric,
    }
    air, fitted = (), {"tellurics": None}
    if tellurics_mode == "fit":
        atmosphere = read_atmosphere(tellurics, medium=tellurics_medium)
        air, fitted = (atmosphere.wavelength, atmosphere.transmissions), {"tellurics": as_tellurics(atmosphere)}
    else:
        reading |= {"tellurics": tellurics, "tellurics_mode": tellurics_mode, "tellurics_limit": tellurics_limit}
    # a generator that cannot infer is an error, not a failure of each star
    check_settings(regressors, settings | {"resolving_power": None})
    versions = [__version__, np.__version__, scipy.__version__]
    limit = 0.3 if tellurics_limit is None else tellurics_limit
    identity = digest(versions, generator_digest, settings, air, None if out_spectra is None else limit)
    read = make_reader(**reading)
    check_survey(survey)
    batch = 1
    if not several and is_survey(len(paths), survey):
        few = _read_few([paths[k] for k in few_of(len(paths))], read, resolving_power)
        regressors[""], found = regressors[""].with_survey(few, settings | fitted | {"resolving_power": None})
        if found is not None:
            identity = digest(identity, "survey", found.wavelengths, found.resolving_powers)
            batch = _BATCH
    fit = partial(infer_best_or_report, regressors) if several else partial(infer_or_report, regressors[""])
    task = _FitFile(fit, read, resolving_power, settings | fitted, store, identity, limit)
    before = set() if store is None else store.keys()
    nothing = [None] * len(paths)
    drawn = nothing if figures is None else figure_paths(paths, figures)
    clean = nothing if out_spectra is None else spectrum_paths(paths, out_spectra)
    stars = list(zip(paths, drawn, clean, strict=True))
    # a number of its own: joblib would learn from rows that are read to send hundreds of files at once to one worker
    options = {"n_jobs": n_jobs, "batch_size": batch, "on_death": lambda *_: _Outcome(message=DIED)}
    outcomes = progress(
        survive_deaths(task, stars, **options), total=len(stars), verbose=verbose, description="Inferring stars"
    )
    found, interruption = [], None
    try:
        for outcome in outcomes:
            found.append(outcome)
    except KeyboardInterrupt as error:
        if not any(outcome.row for outcome in found):
            raise
        interruption = error
    found += [_Outcome(message=INTERRUPTED)] * (len(stars) - len(found))
    names = [*dict.fromkeys(name for one in generators.values() for name in one.label_names_), *AT_REST]
    if macroturbulence is not None:
        names.append("vmac")
    if fitted["tellurics"] is not None:
        names += [parameter.name for parameter in fitted["tellurics"].parameters]
    if resolving_power_error is not None:
        names.append("resolving_power_factor")
    return Predicted(
        tabulate(paths, names, [outcome.row or outcome.message for outcome in found], several=several),
        [outcome.figure for outcome in found],
        {str(path): outcome.problem for path, outcome in zip(paths, found, strict=True) if outcome.problem},
        [outcome.key for outcome in found if outcome.key],
        # a row is also read if the file was given twice, or was done when the worker of another one died
        sum(outcome.state == "read" and outcome.key in before for outcome in found),
        sum(outcome.state == "damaged" for outcome in found),
        interruption,
    )


def open_generator(path, *, trust_pickle=False):
    """Open a saved generator.

    Parameters
    ----------
    path : str or path-like
        File that `stellarhml build` or :func:`stellarhml.save` wrote.
    trust_pickle : bool, default=False
        Whether to open a pickle (joblib), which runs any code that its author put into it.

    Returns
    -------
    generator : SpectrumGenerator
        A fitted generator.

    Raises
    ------
    FileNotFoundError, PersistenceError
        If there is no such file, it is damaged, or it is a pickle that is not trusted.
    ValueError
        If the file holds another estimator.
    """
    generator = load(path, trust_pickle=trust_pickle)
    if not isinstance(generator, SpectrumGenerator):
        raise ValueError(
            f"{path} holds a {type(generator).__name__}, but a SpectrumGenerator is needed. Pass a file that "
            "stellarhml build or demo wrote."
        )
    return generator


def read_spectra(
    paths,
    *,
    medium=None,
    format=None,
    sky_scale=1.0,
    orders=None,
    standard=None,
    tellurics=None,
    tellurics_mode="mask",
    tellurics_limit=None,
):
    """Read observed spectra, choose their orders, and correct for tellurics; a failure does not stop the others.

    Parameters
    ----------
    paths : sequence of str or path-like
        Files, see :func:`stellarhml.spectra.read_spectrum`.
    medium : {"vacuum", "air"}, default=None
        Medium of the wavelengths, where the format does not state it.
    format : str, default=None
        Format of the files. None: recognised.
    sky_scale : float or None, default=1.0
        HPF: factor of the sky fibre before it is subtracted. None: the sky is not subtracted.
    orders : sequence of int, default=None
        Numbers of the orders to use, as the file counts them. None: all.
    standard : str or path-like, default=None
        File of an A0V star, by which the spectra are divided.
    tellurics : str or path-like, default=None
        File of the transmission of the Earth's atmosphere.
    tellurics_mode : {"mask", "divide"}, default="mask"
        Whether pixels of low transmission are masked, or the spectra are divided by the transmission.
    tellurics_limit : float, default=None
        Transmission below which pixels are masked. None: 0.95 for "mask" and 0.1 for "divide".

    Returns
    -------
    spectra : list of ObservedSpectrum or str
        The spectra; the message where one could not be read.
    """
    read = make_reader(medium, format, sky_scale, orders, standard, tellurics, tellurics_mode, tellurics_limit)
    spectra = []
    for path in paths:
        try:
            spectra.append(read(path))
        except (ValueError, OSError, ImportError) as error:
            spectra.append(one_line(error))
    return spectra


def make_reader(
    medium=None,
    format=None,
    sky_scale=1.0,
    orders=None,
    standard=None,
    tellurics=None,
    tellurics_mode="mask",
    tellurics_limit=None,
):
    """Picklable function from a path to a spectrum, with the parameters of `read_spectra`."""
    sky = {"sky": None} if sky_scale is None else {"sky_scale": sky_scale}
    read = partial(read_spectrum, medium=medium, format=format, **sky)
    standard = None if standard is None else read(standard)
    correct, limit = {"mask": (mask_tellurics, "threshold"), "divide": (divide_tellurics, "minimum")}[tellurics_mode]
    limits = {} if tellurics_limit is None else {limit: tellurics_limit}
    if tellurics is not None:
        wavelength, transmission = read_transmission(tellurics)
        limits |= {"wavelength": wavelength, "transmission": transmission}
    return partial(_read_corrected, read, orders, standard, None if tellurics is None else partial(correct, **limits))


def _read_few(paths, read, resolving_power):
    """Spectra of some files that can be read, each with the resolving power of its orders."""
    few = []
    for path in paths:
        with suppress(Exception):  # of any kind, as for a file that fails
            spectrum = read(path)
            few.append((spectrum, [power_of(spectrum, resolving_power)] * len(spectrum.orders)))
    return few


def _read_corrected(read, orders, standard, correct, path):
    """Read one spectrum, choose its orders, and divide or mask."""
    spectrum = read(path)
    if orders is not None:
        spectrum = choose_orders(spectrum, orders)
    if standard is not None:
        spectrum = divide_standard(spectrum, standard)
    return spectrum if correct is None else correct(spectrum)


def choose_orders(spectrum, numbers):
    """ObservedSpectrum with the orders of some `numbers` alone, in the sequence of the file.

    ValueError if there is no order with one of the numbers.
    """
    there = spectrum.meta["order_numbers"]
    missing = sorted(set(numbers) - set(there))
    if missing:
        raise ValueError(
            f"{spectrum.meta['file']} has no order {', '.join(map(str, missing))}: its {len(there)} orders have the "
            f"numbers {min(there)} to {max(there)}. stellarhml inspect --orders lists them."
        )
    return spectrum.select([place for place, number in enumerate(there) if number in set(numbers)])


def tabulate(paths, names, rows, *, several=False):
    """DataFrame of many files as `predict_files` returns it; a row is a dictionary or the message of a failure.

    `several`: whether the files were fitted with the best of several generators.
    """
    failed = {column: np.nan for name in names for column in (name, f"{name}_std")}
    failed |= {"generator_name": "", "generator_margin": np.nan} if several else {}
    failed |= {"reduced_chi2": np.nan, "n_pixels": 0, "n_rejected": 0, "rv_frame": NO_FRAME, "seconds": 0.0}
    failed["flags"] = InferenceFlag.FAILED.name
    table = []
    for path, row in zip(paths, rows, strict=True):
        known = {"status": "failed"} | failed | {"message": row} if isinstance(row, str) else row
        table.append({"star": str(path)} | known)
    return rows_to_frame(table)


def figure_paths(paths, folder, suffix=".png"):
    """Path of the figure of each file: ``NAME.png``, and ``NAME-2.png`` where files have the same name."""
    figures, taken = [], set()
    for path in paths:
        name, n = Path(path).stem, 2
        while name in taken:
            name, n = f"{Path(path).stem}-{n}", n + 1
        taken.add(name)
        figures.append(Path(folder) / f"{name}{suffix}")
    return figures


def spectrum_paths(paths, folder):
    """Path of the spectrum without tellurics of each file: ``NAME.fits``, as `figure_paths`."""
    return figure_paths(paths, folder, ".fits")


def draw_result(result, path):
    """Draw a fit into a file."""
    import matplotlib.pyplot as plt

    from stellarhml.plotting._inference_display import InferenceDisplay

    figure = InferenceDisplay.from_result(result).figure_
    try:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=150)
    finally:
        plt.close(figure)


class _Outcome(NamedTuple):
    """Row of a file or, without one, why it failed; its key and whether the store had it; its figure."""

    row: dict | None = None
    message: str = ""
    key: str | None = None
    state: str = "computed"
    figure: Path | None = None
    problem: str | None = None


@dataclass(frozen=True)
class _FitFile:
    """Function from a file and the path of its figure to an _Outcome, for the workers."""

    fit: partial  # of settings and a spectrum
    read: partial
    resolving_power: float | str
    settings: dict
    store: ResultStore | None
    identity: str
    least_transmission: float = 0.3

    def __call__(self, star):
        path, figure, clean = star
        try:
            spectrum = self.read(path)
            power = power_of(spectrum, self.resolving_power)
        except Exception as error:  # of any kind, also a bug in a reader: the other files go on
            known = isinstance(error, (ValueError, OSError, ImportError))
            return _Outcome(message=one_line(error) if known else f"{type(error).__name__}: {one_line(error)}")
        # What is hashed is what the fit is given, not the file: other files may have been read beside it, and the
        # spectrum has been corrected. repr: a name may have characters that have no UTF-8.
        orders = [list(order[:3]) for order in spectrum.orders]
        key = None if self.store is None else digest(self.identity, power, repr(spectrum.meta), orders)
        row, state = (None, "computed") if key is None else self._stored(key, figure, clean)
        if row is not None:
            return _Outcome(row, key=key, state=state, figure=figure)
        result = self.fit(self.settings | {"resolving_power": power}, spectrum)
        if result.flags & InferenceFlag.FAILED:
            return _Outcome(message="; ".join(result.messages))
        row, problem = {"status": result.status} | result.to_row(), None
        if figure is not None:
            try:
                draw_result(result, figure)
            except Exception as error:  # the row is worth more than its figure
                figure, problem = None, f"its figure could not be drawn ({type(error).__name__}: {one_line(error)})"
        if clean is not None:
            try:
                without = result.without_tellurics(minimum=self.least_transmission)
                spectrum.replace(without.orders, without.meta["notes"][-1]).write(clean)
            except Exception as error:
                clean = None
                problem = f"its spectrum could not be written ({type(error).__name__}: {one_line(error)})"
        if key is not None:
            files = [None if path is None else digest_file(path) for path in (figure, clean)]
            text = json.dumps([row, *files], default=lambda number: number.item())  # all digits
            self.store.write(key, {"row": np.frombuffer(text.encode(), dtype=np.uint8)})
        return _Outcome(row, key=key, state=state, figure=figure, problem=problem)

    def _stored(self, key, *files):
        """Row of an earlier run, or None, and whether it is "read", or "computed" anew, or since it is "damaged"."""
        if key not in self.store:
            return None, "computed"
        arrays = self.store.read(key)
        if arrays is None:
            return None, "damaged"
        row, *written = json.loads(arrays["row"].tobytes())
        for path, known in zip(files, written, strict=True):
            if path is not None and not (path.is_file() and digest_file(path) == known):
                return None, "computed"  # its figure or spectrum is missing, or another one
        return row, "read"


def power_of(spectrum, resolving_power):
    """Resolving power of a spectrum, None at the generator's own resolution; ValueError if it is not known."""
    if resolving_power != "file":
        return None if resolving_power == "grid" else resolving_power
    power = spectrum.meta.get("resolving_power")
    if not power:
        raise ValueError(_NO_POWER)
    return power
