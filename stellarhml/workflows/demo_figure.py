"""The figure of the demo: a star and its model, and the manifold of one of its lines."""

import numpy as np

from stellarhml.plotting._manifold_display import ManifoldDisplay
from stellarhml.plotting._spectrum_fit import compare
from stellarhml.plotting._spectrum_fit_display import SpectrumFitDisplay
from stellarhml.plotting._style import label_text

_ZOOM = 0.1  # share of the band that the second panel shows


def draw_demo(regressor, observation, inference, *, title=None):
    """Draw a star, its model, a part of both, and a line's manifold.

    Parameters
    ----------
    regressor : BayesianStellarRegressor
        Fitted regressor, of at least two labels.
    observation : Observation
        The star.
    inference : Inference
        What was found for it.
    title : str, default=None
        Name of the star.

    Returns
    -------
    figure : matplotlib Figure
        Not tied to a window.
    """
    from matplotlib.figure import Figure

    generator = regressor.generator_
    names = generator.label_names_
    fit = compare(regressor, observation.flux, inference.labels, flux_error=observation.flux_error)
    line = _strong_line(generator, inference.labels)
    figure = Figure(figsize=(11, 10.5), layout="constrained")
    rows = figure.add_gridspec(5, 2, height_ratios=(3, 1, 3, 1, 3.2))
    found = ", ".join(
        f"{label_text(name).split(' [')[0]} = {_with_error(value, std)}"
        for name, value, std in zip(names, inference.labels, inference.std, strict=True)
    )
    text = f"{title}: {found}" if title else found
    pairs = [[figure.add_subplot(rows[row, :]) for row in pair] for pair in ((0, 1), (2, 3))]
    SpectrumFitDisplay.from_arrays(*fit[:2], fit.fitted, fit.flux_error, text, ax=pairs[0])
    half = 0.5 * _ZOOM * (fit.wavelength[-1] - fit.wavelength[0])
    centre = np.clip(line, fit.wavelength[0] + half, fit.wavelength[-1] - half)
    window = (centre - half, centre + half)
    SpectrumFitDisplay.from_arrays(*fit[:2], fit.fitted, fit.flux_error, ax=pairs[1], window=window)
    axes = ("teff", "logg") if {"teff", "logg"} <= set(names) else names[:2]
    maps = [figure.add_subplot(rows[4, column]) for column in range(2)]
    ManifoldDisplay.from_estimator(generator, line=line, labels=axes, ax=maps)
    return figure


def _with_error(value, std):
    """Value and standard deviation, with two digits of the latter."""
    digits = int(np.clip(1 - np.floor(np.log10(std)), 0, 6)) if np.isfinite(std) and std > 0 else 3
    return f"{value:.{digits}f} ± {std:.{digits}f}"


def _strong_line(generator, labels):
    """Wavelength of the strongest line, in angstrom."""
    table = generator.line_table(labels)
    return float(table["equivalent_width"].idxmax() if len(table) else generator.wavelength_.mean())
