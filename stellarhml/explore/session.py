"""Subject: what an explorer shows: a generator, observed spectra beside it, and fits of these."""

import numpy as np
import pandas as pd

from stellarhml.explore.comparison import Comparison
from stellarhml.explore.fit_jobs import FitRunner
from stellarhml.explore.page_state import LIMITS, RESERVED, first_state, from_query, to_query
from stellarhml.explore.screen_data import view_lines, view_spectrum

_BEYOND = 2.0  # times the band: wavelengths that a window may reach, where there is nothing to see


class Subject:
    """A generator and observed spectra, which nobody changes, so that many may look at them.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted.
    title : str
        What it is called.
    spectra : list of (str, ObservedSpectrum or str), default=()
        Names and spectra; text in place of a spectrum is why it could not be read.

    Attributes
    ----------
    names : tuple of str
        Names of the labels.
    bounds : ndarray of shape (n_labels, 2)
        Their ranges.
    band, reach : tuple of (float, float)
        Wavelengths that the generator knows, and that a window may reach, in angstrom.
    catalog : ndarray of shape (n_lines,)
        Wavelengths in angstrom by which lines are known.
    spectra : list of (str, ObservedSpectrum, Comparison)
        Those that can be shown.
    problems : list of str
        Why others cannot.

    Raises
    ------
    ValueError
        If a label is called as a part of the page, such as rv.
    """

    def __init__(self, generator, title, spectra=()):
        self.generator, self.title, self._runner = generator, title, FitRunner(generator)
        self.names, self.bounds = tuple(generator.label_names_), generator.interpolator_.bounds_
        if clash := sorted(set(self.names) & set(RESERVED)):
            raise ValueError(
                f"The generator has labels {clash}, but a page has parts of its own that are called so. Fit it with "
                "other `label_names`."
            )
        self.catalog = np.asarray(generator.decomposer_.line_catalog_)
        self.band = tuple(generator.wavelength_[[0, -1]].tolist())
        self.reach = self.band[0] / _BEYOND, self.band[1] * _BEYOND
        self.spectra, self.problems = [], []
        for name, spectrum in spectra:
            try:
                if isinstance(spectrum, str):
                    raise ValueError(spectrum)
                self.spectra.append((name, spectrum, Comparison(generator, spectrum)))
            except ValueError as error:
                text = " ".join(str(error).split())
                self.problems.append(text if name in text else f"{name}: {text}")

    def begin(self, query):
        """Make the state of a page.

        Parameters
        ----------
        query : dict of str to str
            What its address says.

        Returns
        -------
        state : State
            What is shown.
        problems : list of str
            What the address says that makes no sense.
        """
        seen, most = {}, (0, max(len(self.spectra) - 1, 0))
        if self.spectra:
            power = self.spectra[0][1].meta["resolving_power"]
            known = power is not None and LIMITS["power"][0] <= power <= LIMITS["power"][1]
            seen = {"ranges": self.spectra[0][2].ranges, "power": float(power) if known else None}
        start = first_state(self.bounds.mean(axis=1), self.band, **seen)
        limits = dict(zip(self.names, self.bounds.tolist(), strict=True)) | LIMITS
        limits |= {"low": self.reach, "high": self.reach, "line": (0, len(self.catalog) - 1), "spectrum": most}
        return from_query(query, start, limits, self.names, self.generator.grid_id_)

    def address(self, state):
        """What an address says of a state, as pairs of texts."""
        return [list(pair) for pair in to_query(state, self.names, self.generator.grid_id_).items()]

    def view(self, state, n_columns=None):
        """The curve, see :func:`stellarhml.explore.screen_data.view_spectrum`."""
        return view_spectrum(self.generator, state.labels, state.window, n_columns=n_columns, **state.star)

    def lines(self, state, n_lines=None):
        """The lines in the window, see :func:`stellarhml.explore.screen_data.view_lines`."""
        return view_lines(self.generator, state.labels, state.window, rv=state.rv, n_lines=n_lines)

    def compare(self, state):
        """The orders of the spectrum in the window beside the model, as `Compared`, or None if there is no spectrum."""
        if not self.spectra:
            return None
        comparison = self.spectra[state.spectrum][2]
        return comparison.at(state.labels, orders=comparison.orders_in(state.window), **state.star)

    def ranges(self, state):
        """First and last wavelength of each order of the spectrum."""
        return self.spectra[state.spectrum][2].ranges if self.spectra else []

    def order_names(self, state):
        """What each order of the spectrum is called, and where it is."""
        numbers = self.spectra[state.spectrum][2].numbers if self.spectra else []
        ranges = self.ranges(state)
        return [f"{n}: {low:.0f}-{high:.0f} Å" for n, (low, high) in zip(numbers, ranges, strict=True)]

    def fit(self, state):
        """Start to fit the spectrum with the resolving power that is set, as `FitJob`."""
        name, spectrum, _ = self.spectra[state.spectrum]
        return self._runner.start(name, spectrum, resolving_power=state.power)

    def close(self):
        """Stop all fits."""
        self._runner.close()

    def table(self, state):
        """Tabulate what the window shows, pixel by pixel.

        Parameters
        ----------
        state : State
            What is shown.

        Returns
        -------
        table : DataFrame
            The generator's pixels (`order` is "generator"): `wavelength`, `model`, `model_error`; then those of the
            observed orders, see `Compared.table`.
        """
        view, compared = self.view(state), self.compare(state)
        columns = {"order": "generator", "wavelength": view.wavelength, "model": view.flux}
        parts = [pd.DataFrame(columns | {"model_error": (view.upper - view.lower) / 2})]
        if compared is not None and compared.orders:
            parts.append(compared.table(self.spectra[state.spectrum][2].numbers))
        table = pd.concat(parts, ignore_index=True)
        return table[table["wavelength"].between(*state.window)]
