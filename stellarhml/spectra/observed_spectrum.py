"""ObservedSpectrum: one observed spectrum in memory, independent of its file format."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stellarhml._units import plain_array
from stellarhml.spectra.orders import Order
from stellarhml.storage.atomic_files import atomic_path

_DEFAULTS = {
    **dict.fromkeys(("instrument", "format", "file", "object", "date", "resolving_power", "flux_unit", "frame")),
    "medium": "vacuum",
    "errors_known": True,
}
_FORMATS = {".ecsv": "ascii.ecsv", ".fits": "fits", ".fit": "fits", ".fts": "fits"}


@dataclass(frozen=True, eq=False)
class ObservedSpectrum:
    """An observed spectrum: its orders and metadata.

    Parameters
    ----------
    orders : list of (wavelength, flux, error)
        For each order three arrays of one length: vacuum wavelengths in angstrom, strictly increasing; fluxes, finite;
        standard deviations of the fluxes, positive, where infinity masks a pixel. Astropy units are converted: to
        angstrom, and to the flux unit of the first order. Stored as float64, in named tuples.
    meta : dict, default={}
        Metadata: `instrument`, `format`, `file`, `object`, `date` (str, or None), `medium` (of the original
        wavelengths, "vacuum" or "air"; the orders are in vacuum), `frame` (of the wavelengths: "telescope",
        "barycenter", "heliocenter", "star" if they are shifted to its rest frame, or None if not stated; see
        `statements.FRAMES`), `resolving_power` (float, or None), `errors_known`
        (False if the errors are placeholders), `flux_unit` (str, or None), `order_numbers` (list of int), `notes`
        (list of str: changes made to the data), and `header` of a FITS file (dict: the keywords of place, time and
        target, from which the velocity of the observatory follows). Missing entries are added. Stored as a copy.

    Raises
    ------
    ValueError
        If there are no orders, or one violates these rules.

    Examples
    --------
    >>> from stellarhml.spectra import ObservedSpectrum
    >>> spectrum = ObservedSpectrum([([5000.0, 5000.1, 5000.2], [1.0, 0.9, 1.0], [0.01, 0.01, float("inf")])])
    >>> spectrum
    <ObservedSpectrum: 1 order, 5000.0-5000.2 angstrom, 3 pixels, 1 masked>
    >>> spectrum.orders[0].flux
    array([1. , 0.9, 1. ])
    """

    orders: list
    meta: dict = field(default_factory=dict)

    def __post_init__(self):
        orders = [tuple(order) for order in self.orders]
        unit = getattr(orders[0][1], "unit", None) if orders and len(orders[0]) == 3 else None
        stated = {"flux_unit": str(unit)} if unit else {}
        object.__setattr__(self, "orders", [_checked(order, unit, number) for number, order in enumerate(orders)])
        object.__setattr__(self, "meta", {**_DEFAULTS, "notes": [], **stated, **self.meta})
        self.meta["notes"] = list(self.meta["notes"])
        if not self.orders:
            raise ValueError("`orders` is empty, but at least one order is needed: [(wavelength, flux, error)].")
        numbers = list(self.meta.get("order_numbers") or range(len(self.orders)))
        if len(numbers) != len(self.orders):
            raise ValueError(f"meta['order_numbers'] has {len(numbers)} numbers for {len(self.orders)} orders.")
        self.meta["order_numbers"] = numbers

    def __repr__(self):
        low, high = min(o.wavelength[0] for o in self.orders), max(o.wavelength[-1] for o in self.orders)
        who = " ".join(str(self.meta[key]) for key in ("instrument", "object") if self.meta.get(key))
        return (
            f"<ObservedSpectrum{' ' + who if who else ''}: {len(self.orders)} order{'s' * (len(self.orders) > 1)}, "
            f"{low:.1f}-{high:.1f} angstrom, {self.n_pixels} pixels, {self.n_masked} masked>"
        )

    @property
    def n_pixels(self) -> int:
        """Number of pixels of all orders."""
        return sum(len(order.wavelength) for order in self.orders)

    @property
    def n_masked(self) -> int:
        """Number of masked pixels of all orders."""
        return sum(int(np.count_nonzero(np.isinf(order.error))) for order in self.orders)

    def select(self, indices) -> "ObservedSpectrum":
        """Select some of the orders.

        Parameters
        ----------
        indices : iterable of int
            Indices of `orders`, from 0; the result has this sequence.

        Returns
        -------
        spectrum : ObservedSpectrum
            Spectrum with the selected orders.

        Raises
        ------
        IndexError
            If an index is out of range.
        """
        indices = list(indices)
        wrong = [index for index in indices if not -len(self.orders) <= index < len(self.orders)]
        if wrong:
            raise IndexError(f"`indices` has {wrong[0]}, but the spectrum has the orders 0 to {len(self.orders) - 1}.")
        numbers = [self.meta["order_numbers"][index] for index in indices]
        return ObservedSpectrum([self.orders[index] for index in indices], {**self.meta, "order_numbers": numbers})

    def replace(self, orders, note=None, **meta) -> "ObservedSpectrum":
        """Copy the spectrum with other orders.

        Parameters
        ----------
        orders : list of (wavelength, flux, error)
            New orders, as many as before.
        note : str, default=None
            Sentence to add to `meta["notes"]`.
        **meta
            Entries of `meta` to change.

        Returns
        -------
        spectrum : ObservedSpectrum
            The new spectrum.
        """
        notes = [*self.meta["notes"], *([note] if note else [])]
        return ObservedSpectrum(orders, {**self.meta, **meta, "notes": notes})

    def to_specutils(self) -> list:
        """Convert to objects of specutils, one for each order.

        Returns
        -------
        spectra : list of specutils.Spectrum
            Vacuum wavelengths in angstrom, fluxes in the unit of `meta["flux_unit"]` (dimensionless if there is none),
            errors as StdDevUncertainty (0 where masked, since specutils has no infinite errors) and a mask. `meta`
            of each is a copy of that of the spectrum, with the number of the order as `order`.

        Raises
        ------
        ImportError
            If specutils is not installed.
        """
        from stellarhml.spectra.specutils_objects import to_spectra

        return to_spectra(self)

    @classmethod
    def from_specutils(
        cls, spectra, *, medium: str | None = None, resolving_power: float | None = None
    ) -> "ObservedSpectrum":
        """Convert from objects of specutils.

        Parameters
        ----------
        spectra : specutils.Spectrum, or list of them, or specutils.SpectrumList
            One order each; a Spectrum with two-dimensional flux has one order in each row. Spectral axes may be in any
            unit of length, frequency or energy. Uncertainties are standard deviations, variances or inverse variances.
            Masks are kept.
        medium : {"vacuum", "air"}, default=None
            Medium of the wavelengths; needed unless the headers in `meta` of all spectra state it. Air is
            converted to vacuum.
        resolving_power : float, default=None
            Resolving power of the spectrograph, wavelength over full width at half maximum. None: that in the `meta`
            of the first spectrum, if any.

        Returns
        -------
        spectrum : ObservedSpectrum
            The converted spectrum.

        Raises
        ------
        ValueError
            If units cannot be converted, the kind of uncertainty is unknown, wavelengths do not increase, or the
            medium is not stated or contradicts a header, or headers state different media or frames.
        """
        from stellarhml.spectra.specutils_objects import from_spectra

        orders, meta = from_spectra(spectra, medium)
        return cls(orders, meta if resolving_power is None else meta | {"resolving_power": resolving_power})

    @classmethod
    def from_table(cls, table, *, medium: str | None = None) -> "ObservedSpectrum":
        """Convert from an astropy table in memory, such as that of `to_table`; `read_spectrum` reads files.

        Parameters
        ----------
        table : astropy.table.Table or QTable
            One row for each pixel; columns `wavelength`, `flux` and optionally `error`, `order` and `mask` (not 0 where
            a pixel is bad), found by name as in `read_spectrum`. Wavelengths without a unit are in angstrom. Masked
            cells are masked pixels.
        medium : {"vacuum", "air"}, default=None
            Medium of the wavelengths; needed unless the table states it. Air is converted to vacuum.

        Returns
        -------
        spectrum : ObservedSpectrum
            The converted spectrum.

        Raises
        ------
        SpectrumFileError
            If columns are missing or ambiguous, units do not convert, or wavelengths do not increase.
        ValueError
            If the medium is not stated, or contradicts the table.

        Examples
        --------
        >>> from astropy import units as u
        >>> from astropy.table import QTable
        >>> from stellarhml.spectra import ObservedSpectrum
        >>> table = QTable({"wavelength": [850.0, 850.01] * u.nm, "flux": [1.0, 0.9], "error": [0.01, 0.01]})
        >>> ObservedSpectrum.from_table(table, medium="vacuum")
        <ObservedSpectrum: 1 order, 8500.0-8500.1 angstrom, 2 pixels, 0 masked>
        """
        from stellarhml.spectra.tables import from_table

        return cls(*from_table(table, medium))

    def to_table(self):
        """Convert to one astropy table with a row for each pixel.

        Returns
        -------
        table : astropy.table.Table
            Columns `order`, `wavelength` (angstrom, vacuum), `flux`, `error` (infinite where masked) and `mask` (True
            where masked), and `meta` as JSON. `read_spectrum` reads it back from ECSV and FITS.
        """
        from stellarhml.spectra.tables import to_table

        return to_table(self)

    def write(self, path) -> None:
        """Write a table that `read_spectrum` reads back exactly.

        Parameters
        ----------
        path : str or path-like
            File to write; the suffix chooses the format: `.ecsv` or `.fits`. The file appears under its name only when
            it is complete.

        Raises
        ------
        ValueError
            If the suffix is unknown.
        """
        path = Path(path)
        if path.suffix.lower() not in _FORMATS:
            raise ValueError(
                f"`path` is {path}, but its suffix must be one of {', '.join(_FORMATS)}, which choose the format."
            )
        table = self.to_table()
        with atomic_path(path) as temporary:
            table.write(temporary, format=_FORMATS[path.suffix.lower()])


def _checked(order, unit, number):
    """Make an Order of float64 arrays, flux and error in `unit`, after checks."""
    if len(order) != 3:
        raise ValueError(f"Order {number} has {len(order)} parts, but three are needed: wavelength, flux and error.")
    with np.errstate(all="ignore"):
        wavelength = plain_array(order[0], "angstrom", f"Wavelength of order {number}", spectral=True)
        order = Order(wavelength, *(plain_array(part, unit, f"Flux or error of order {number}") for part in order[1:]))
    shapes = [values.shape for values in order]
    if order.wavelength.ndim != 1 or len(set(shapes)) != 1 or not order.wavelength.size:
        raise ValueError(f"Order {number} has arrays of the shapes {shapes}, but one length, not 0, is needed.")
    rules = {
        "wavelengths that are finite, positive and strictly increasing": (
            np.all(np.isfinite(order.wavelength)) and order.wavelength[0] > 0 and np.all(np.diff(order.wavelength) > 0)
        ),
        "finite fluxes (mask a pixel by an infinite error)": np.all(np.isfinite(order.flux)),
        "positive errors (infinite where masked)": np.all(order.error > 0),
    }
    for rule, kept in rules.items():
        if not kept:
            raise ValueError(f"Order {number} violates a rule: it needs {rule}. Correct or mask these pixels.")
    return order
