"""Inference from files of observed spectra: a table of labels and velocities, and a figure of each fit."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from stellarhml.flags import InferenceFlag
from stellarhml.inference._bayesian_stellar_regressor import BayesianStellarRegressor
from stellarhml.inference._inference_result import NO_FRAME
from stellarhml.spectra.reading import read_spectrum
from stellarhml.spectra.tellurics import divide_standard, divide_tellurics, mask_tellurics
from stellarhml.spectra.transmissions import read_transmission
from stellarhml.storage.atomic_files import atomic_path
from stellarhml.storage.saving import load
from stellarhml.synthesis._spectrum_generator import SpectrumGenerator

AT_REST = {"rv": 0.0, "vsini": 0.0}
"""Parameters that are fixed for spectra at rest."""

INTERRUPTED = "interrupted before it was done"
"""Message of the files that Ctrl-C left."""

_NO_POWER = (
    "the file states no resolving power. Give --resolving-power R, or --resolving-power grid for spectra at the "
    "generator's own resolution"
)


def predict_files(generator, paths, *, resolving_power="file", at_rest=False, n_jobs=None, verbose=None, **reading):
    """Infer labels, radial velocity and vsini from files; a failure does not stop the others.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted generator.
    paths : sequence of str or path-like
        Files of observed spectra, see :func:`stellarhml.spectra.read_spectrum`.
    resolving_power : float, "file" or "grid", default="file"
        Wavelength over the full width at half maximum of the line-spread function. "file": as each file states it;
        "grid": the spectra are at the generator's own resolution.
    at_rest : bool, default=False
        Whether the radial velocity and vsini are fixed to zero.
    n_jobs : int, default=None
        Number of worker processes.
    verbose : bool, default=None
        Whether to show a progress bar. None shows one on a terminal when it takes over two seconds.
    **reading : dict
        Parameters of `read_spectra`: format, medium, orders, tellurics.

    Returns
    -------
    table : DataFrame
        One row for each file: `star` (the file), `status` (ok, flagged or failed), value and standard deviation of each
        parameter, `reduced_chi2`, `n_pixels`, `n_rejected`, `rv_frame`, `seconds`, `flags`, `message`.
    results : list of InferenceResult or str
        The results; the message where there is none.

    Examples
    --------
    >>> from stellarhml.workflows.predicting import open_generator, predict_files
    >>> table, results = predict_files(open_generator("generator.asdf"), ["star.fits"])  # doctest: +SKIP
    """
    spectra = read_spectra(paths, **reading)
    powers = [_power_of(spectrum, resolving_power) for spectrum in spectra]
    results = [power if isinstance(power, str) else INTERRUPTED for power in powers]
    if INTERRUPTED in results:
        regressor = BayesianStellarRegressor.from_generator(generator, verbose=False)
        fixed = AT_REST if at_rest else None
        found = _infer_by_power(regressor, spectra, powers, fixed=fixed, n_jobs=n_jobs, verbose=verbose)
        n_done = 0
        try:
            for number, result in found:
                results[number] = result
                n_done += 1
        except KeyboardInterrupt:
            if not n_done:
                raise
    names = next((result.names for result in results if not isinstance(result, str)), None)
    return tabulate(paths, names or (*generator.label_names_, *AT_REST), results), results


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
    sky = {"sky": None} if sky_scale is None else {"sky_scale": sky_scale}
    read = partial(read_spectrum, medium=medium, format=format, **sky)
    standard = None if standard is None else read(standard)
    transmission = None if tellurics is None else read_transmission(tellurics)
    correct, limit = {"mask": (mask_tellurics, "threshold"), "divide": (divide_tellurics, "minimum")}[tellurics_mode]
    limits = {} if tellurics_limit is None else {limit: tellurics_limit}
    spectra = []
    for path in paths:
        try:
            spectrum = read(path)
            if orders is not None:
                spectrum = choose_orders(spectrum, orders)
            if standard is not None:
                spectrum = divide_standard(spectrum, standard)
            if transmission is not None:
                spectrum = correct(spectrum, *transmission, **limits)
            spectra.append(spectrum)
        except (ValueError, OSError, ImportError) as error:
            spectra.append(" ".join(str(error).split()))
    return spectra


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


def tabulate(paths, names, results):
    """DataFrame of many files as `predict_files` returns it; a result is an InferenceResult or a message."""
    failed = {column: np.nan for name in names for column in (name, f"{name}_std")}
    failed |= {"reduced_chi2": np.nan, "n_pixels": 0, "n_rejected": 0, "rv_frame": NO_FRAME, "seconds": 0.0}
    failed["flags"] = InferenceFlag.FAILED.name
    rows = []
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, str):
            rows.append({"star": str(path), "status": "failed"} | failed | {"message": result})
        else:
            rows.append({"star": str(path), "status": result.status} | result.to_row())
    return pd.DataFrame(rows)


def draw_results(paths, results, folder):
    """Draw each fit as ``NAME.png`` into a folder; returns the paths, None where there is no result."""
    from stellarhml.plotting._inference_display import InferenceDisplay

    figures, taken = [], set()
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, str):
            figures.append(None)
            continue
        name, n = Path(path).stem, 2
        while name in taken:
            name, n = f"{Path(path).stem}-{n}", n + 1
        taken.add(name)
        figures.append(Path(folder) / f"{name}.png")
        with atomic_path(figures[-1]) as temporary:
            InferenceDisplay.from_result(result).plot().figure_.savefig(temporary, dpi=150)
    return figures


def _power_of(spectrum, resolving_power):
    """Resolving power of a spectrum (infinite at the generator's own resolution), or the message why there is none."""
    if isinstance(spectrum, str):
        return spectrum
    if resolving_power != "file":
        return np.inf if resolving_power == "grid" else resolving_power
    return spectrum.meta.get("resolving_power") or _NO_POWER


def _infer_by_power(regressor, spectra, powers, **settings):
    """Yield number and result (or message) of each spectrum, those of one resolving power after another."""
    for power in sorted({power for power in powers if not isinstance(power, str)}):
        chosen = [number for number, value in enumerate(powers) if value == power]
        found = regressor.infer_each(
            [spectra[number] for number in chosen], resolving_power=None if np.isinf(power) else power, **settings
        )
        for number, result in zip(chosen, found, strict=True):
            yield number, "; ".join(result.messages) if result.flags & InferenceFlag.FAILED else result
