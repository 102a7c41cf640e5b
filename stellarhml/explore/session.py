"""ExplorerSession: the generator and observed spectra that all pages show, and their fits."""

import numpy as np
import pandas as pd

from stellarhml.explore.comparison import SpectrumComparison
from stellarhml.explore.effects import Effects
from stellarhml.explore.fit_jobs import FitRunner
from stellarhml.explore.page_state import LIMITS, RESERVED, first_state, from_query, to_query
from stellarhml.explore.screen_data import lines_in_window, spectrum_in_window

_BEYOND = 2.0  # a window may extend by this factor outside either end of the band


class ExplorerSession:
    """A generator and observed spectra, which all pages share and none changes.

    `effects` are keyword arguments of `Effects`: what is modelled and fitted besides labels and velocities. `spectra`
    holds names and spectra; a text in place of a spectrum is the reason why it could not be read. A label
    with a name that the page uses itself, such as rv, is a ValueError.

    Attributes
    ----------
    names : tuple of str
        Names of the labels.
    bounds : ndarray of shape (n_labels, 2)
        Ranges of the labels.
    grid_ranges : dict of str to (float, float)
        Ranges of the labels, and of those of a second photosphere, by name.
    band, window_limits : tuple of (float, float)
        Ends of the generator's band, and the limits of a window, in angstrom.
    catalog : ndarray of shape (n_lines,)
        Catalogue wavelengths of the lines, in angstrom.
    spectra : list of (str, ObservedSpectrum, SpectrumComparison)
        Spectra that can be shown.
    problems : list of str
        One message for each spectrum that cannot be shown.
    effects : Effects
        What is modelled besides labels and velocities.
    """

    def __init__(self, generator, title, spectra=(), **effects):
        self.generator, self.title, self._runner = generator, title, FitRunner(generator)
        self.names, self.bounds = tuple(generator.label_names_), generator.interpolator_.bounds_
        if clash := sorted(set(self.names) & set(RESERVED)):
            raise ValueError(
                f"The generator has labels {clash}, but the explorer uses these names itself. Fit the generator with "
                "other `label_names`."
            )
        self.effects, self._stages = Effects(generator, **effects), []
        self.grid_ranges = dict(zip(self.names, self.bounds.tolist(), strict=True)) | self.effects.labels
        self.catalog = np.asarray(generator.decomposer_.line_catalog_)
        self.band = tuple(generator.wavelength_[[0, -1]].tolist())
        self.window_limits = self.band[0] / _BEYOND, self.band[1] * _BEYOND
        self.spectra, self.problems = [], []
        for name, spectrum in spectra:
            try:
                if isinstance(spectrum, str):
                    raise ValueError(spectrum)
                stages = self.effects.stages_of(spectrum)
                self.spectra.append((name, spectrum, SpectrumComparison(generator, spectrum, stages=stages)))
                self._stages.append(stages)
            except ValueError as error:
                text = " ".join(str(error).split())
                self.problems.append(text if name in text else f"{name}: {text}")

    def read_address(self, query):
        """PageState of a new page, by the query of its address, and one message for each value that was ignored."""
        observed, last = {}, (0, max(len(self.spectra) - 1, 0))
        if self.spectra:
            power = self.spectra[0][1].meta["resolving_power"]
            known = power is not None and LIMITS["power"][0] <= power <= LIMITS["power"][1]
            observed = {"ranges": self.spectra[0][2].ranges, "power": float(power) if known else None}
        start = first_state(self.bounds.mean(axis=1), self.band, **observed, effects=self.effects.start)
        limits = dict(zip(self.names, self.bounds.tolist(), strict=True)) | LIMITS | self.effects.limits
        limits |= {"low": self.window_limits, "high": self.window_limits}
        limits |= {"line": (0, len(self.catalog) - 1), "spectrum": last}
        return from_query(query, start, limits, self.names, self.generator.grid_id_)

    def address(self, state):
        """Query of the address that stores a state, as pairs of texts."""
        return [list(pair) for pair in to_query(state, self.names, self.generator.grid_id_).items()]

    def spectrum(self, state, n_columns=None):
        """Model spectrum in the window, see :func:`stellarhml.explore.screen_data.spectrum_in_window`."""
        stages = self._stages[state.spectrum] if self.spectra else self.effects.stages
        star = state.star | {"stages": stages, "n_columns": n_columns}
        return spectrum_in_window(self.generator, state.labels, state.window, **star)

    def lines(self, state, n_lines=None):
        """Lines in the window, see :func:`stellarhml.explore.screen_data.lines_in_window`."""
        return lines_in_window(self.generator, state.labels, state.window, rv=state.rv, n_lines=n_lines)

    def compare(self, state):
        """Observed orders in the window and the model, as `ComparedOrders`; None without a spectrum."""
        if not self.spectra:
            return None
        comparison = self.spectra[state.spectrum][2]
        return comparison.at(state.labels, orders=comparison.orders_in(state.window), **state.star)

    def ranges(self, state):
        """First and last wavelength of each order of the spectrum."""
        return self.spectra[state.spectrum][2].ranges if self.spectra else []

    def order_names(self, state):
        """Number and wavelength range of each order of the spectrum, as text."""
        numbers = self.spectra[state.spectrum][2].numbers if self.spectra else []
        ranges = self.ranges(state)
        return [f"{n}: {low:.0f}-{high:.0f} Å" for n, (low, high) in zip(numbers, ranges, strict=True)]

    def fit(self, state):
        """Start a fit of the spectrum at the resolving power of the state, with all effects, as `FitJob`."""
        name, spectrum, _ = self.spectra[state.spectrum]
        return self._runner.start(name, spectrum, resolving_power=state.power, **self.effects.settings)

    def close(self):
        """Stop all fits."""
        self._runner.close()

    def table(self, state):
        """DataFrame of all pixels in the window.

        First the generator's pixels (`order` is "generator"): `wavelength`, `model`, `model_std`; then those of the
        observed orders, see `ComparedOrders.table`.
        """
        seen, compared = self.spectrum(state), self.compare(state)
        columns = {"order": "generator", "wavelength": seen.wavelength, "model": seen.flux}
        parts = [pd.DataFrame(columns | {"model_std": (seen.upper - seen.lower) / 2})]
        if compared is not None and compared.orders:
            parts.append(compared.table())
        table = pd.concat(parts, ignore_index=True)
        return table[table["wavelength"].between(*state.window)]
