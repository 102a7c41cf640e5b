"""From files to spectra that can be inferred from: read, orders chosen, the Earth's atmosphere dealt with."""

from typing import NamedTuple

from stellarhml.spectra.reading import read_spectrum
from stellarhml.spectra.tellurics import divide_standard, divide_tellurics, mask_tellurics
from stellarhml.spectra.transmissions import read_transmission


class Reading(NamedTuple):
    """How spectra are read.

    Attributes
    ----------
    medium : {"vacuum", "air"} or None
        What wavelengths are measured in, where the format does not say it.
    format : str or None
        What the files are; None recognises it.
    sky : float or None
        Factor of the sky fibre of HPF before it is subtracted; None leaves the sky in.
    """

    medium: str | None = None
    format: str | None = None
    sky: float | None = 1.0

    def __call__(self, path):
        """Read a file.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        spectrum : ObservedSpectrum
            The spectrum.
        """
        sky = {"sky": None} if self.sky is None else {"sky_scale": self.sky}
        return read_spectrum(path, medium=self.medium, format=self.format, **sky)


class Atmosphere(NamedTuple):
    """What is done about the Earth's atmosphere.

    Attributes
    ----------
    standard : ObservedSpectrum or None
        Telluric standard to divide by.
    transmission : tuple of ndarray or None
        Wavelengths and transmission.
    mode : {"mask", "divide"}
        What is done with the transmission.
    limit : float or None
        Transmission below which pixels are masked; None takes that of `mask_tellurics` or `divide_tellurics`.
    """

    standard: object = None
    transmission: tuple | None = None
    mode: str = "mask"
    limit: float | None = None

    @classmethod
    def read(cls, reading, *, standard=None, tellurics=None, mode="mask", limit=None):
        """Read the files.

        Parameters
        ----------
        reading : Reading
            How the standard is read: as the spectra are.
        standard, tellurics : str or path-like, default=None
            Files of the standard and of the transmission.
        mode, limit
            As the attributes.

        Returns
        -------
        atmosphere : Atmosphere
            What is to be done.
        """
        return cls(
            None if standard is None else reading(standard),
            None if tellurics is None else read_transmission(tellurics),
            mode,
            limit,
        )

    def treat(self, spectrum):
        """Divide a spectrum by the standard, then mask or divide by the transmission.

        Parameters
        ----------
        spectrum : ObservedSpectrum
            As seen from the telescope.

        Returns
        -------
        spectrum : ObservedSpectrum
            Another, with a note for each step.
        """
        if self.standard is not None:
            spectrum = divide_standard(spectrum, self.standard)
        if self.transmission is None:
            return spectrum
        act, limit = {"mask": (mask_tellurics, "threshold"), "divide": (divide_tellurics, "minimum")}[self.mode]
        return act(spectrum, *self.transmission, **({} if self.limit is None else {limit: self.limit}))


def prepare_spectra(paths, reading, *, numbers=None, atmosphere=Atmosphere()):  # noqa: B008 - a tuple
    """Read and prepare observed spectra; one that cannot be does not stop the others.

    Parameters
    ----------
    paths : sequence of str or path-like
        Files, see :func:`stellarhml.spectra.read_spectrum`.
    reading : Reading
        How they are read.
    numbers : sequence of int, default=None
        Numbers of the orders wanted, as their file counts them. None takes all.
    atmosphere : Atmosphere
        What is done about the atmosphere.

    Returns
    -------
    spectra : list of ObservedSpectrum or str
        Text is why there is none.
    """
    spectra = []
    for path in paths:
        try:
            spectrum = reading(path)
            if numbers is not None:
                spectrum = choose_orders(spectrum, numbers)
            spectra.append(atmosphere.treat(spectrum))
        except (ValueError, OSError, ImportError) as error:
            spectra.append(" ".join(str(error).split()))
    return spectra


def choose_orders(spectrum, numbers):
    """Keep the orders of some numbers.

    Parameters
    ----------
    spectrum : ObservedSpectrum
        The spectrum.
    numbers : sequence of int
        Numbers of orders, as its file counts them.

    Returns
    -------
    spectrum : ObservedSpectrum
        With those orders, as they follow each other in the file.

    Raises
    ------
    ValueError
        If it has no order of one of the numbers.
    """
    there = spectrum.meta["order_numbers"]
    missing = sorted(set(numbers) - set(there))
    if missing:
        raise ValueError(
            f"{spectrum.meta['file']} has no order {', '.join(map(str, missing))}: its {len(there)} orders have the "
            f"numbers {min(there)} to {max(there)}. stellarhml inspect --orders tells them."
        )
    return spectrum.select([place for place, number in enumerate(there) if number in set(numbers)])
