"""Folders of models that gollum reads, one spectrum at a time: Sonora Bobcat, Sonora Diamondback, coolTLUSTY.

gollum (https://github.com/BrownDwarf/gollum) has a class for the files of each family. The nodes are taken from the
names of the files, whose gravities are in m/s2 for Sonora.
"""

import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stellarhml.exceptions import GridNotFoundError, SpectrumFileError
from stellarhml.grids.grid_source import GridSource, increasing, require_one_of_each
from stellarhml.grids.wavelength_statements import chosen_medium
from stellarhml.spectra.orders import to_vacuum

_GRAVITIES = (10, 17, 31, 56, 100, 178, 316, 562, 1000, 1780, 3160)  # m/s2, of log g 3 to 5.5 by 0.25


class _Family(NamedTuple):
    """Names of files, the class of gollum, its module, and its arguments after teff and logg, by label."""

    pattern: re.Pattern
    module: str
    kind: str
    arguments: dict


FAMILIES = {
    "sonora-bobcat": _Family(
        re.compile(r"sp_t(?P<teff>\d+)g(?P<gravity>\d+)nc_m(?P<feh>[+-]?\d\.\d)(?:\.gz)?"),
        "gollum.sonora",
        "Sonora2021Spectrum",
        {"feh": "metallicity"},
    ),
    "sonora-diamondback": _Family(
        re.compile(r"t(?P<teff>\d+)g(?P<gravity>\d+)(?P<fsed>nc|f\d)_m(?P<feh>[+-]?\d\.\d)_co1\.0_std\.spec"),
        "gollum.sonora",
        "Sonora2024Spectrum",
        {"feh": "Z", "fsed": "fsed"},
    ),
    "cool-tlusty": _Family(
        re.compile(r"T(?P<teff>\d+)_g(?P<logg>\d\.\d\d)_Z(?P<z>\d\.\d{3})\.21"),
        "gollum.coolTLUSTY",
        "coolTLUSTYSpectrum",
        {"z": "z"},
    ),
}


def family_of_files(folder):
    """Name of the family whose files a folder holds, or None."""
    names = [path.name for path in folder.iterdir()]
    return next((name for name, family in FAMILIES.items() if any(map(family.pattern.fullmatch, names))), None)


def gollum_source(folder, family, *, medium=None, resolving_power=None) -> GridSource:
    """Spectra of a folder of one of the `FAMILIES`.

    Fluxes are converted to erg/s/cm^2/cm. `medium` is that of the wavelengths, which the files do not state;
    `resolving_power` that of the spectra, None where they are as computed.
    """
    folder, known = Path(folder).expanduser(), FAMILIES[family]
    chosen_medium(medium, folder)
    matches = [(known.pattern.fullmatch(path.name), path) for path in sorted(folder.iterdir())]
    files = [path for match, path in matches if match]
    if not files:
        raise GridNotFoundError(f"{folder} holds no file of {family}. Pass the folder of the files themselves.")
    names = ("teff", "logg", *known.arguments)
    nodes = np.array([_labels_of(match, names) for match, _ in matches if match])
    require_one_of_each(nodes, names, files)
    kind = _spectrum_class(known)

    def spectrum(row):
        return _read(kind, files[row], dict(zip(names, nodes[row], strict=True)), known.arguments, medium)

    def read(rows, pixels):
        for row in rows:
            yield spectrum(row)

    return GridSource(
        labels=nodes,
        label_names=names,
        wavelength=lambda row: spectrum(row)[0],
        read=read,
        names=[str(path) for path in files],
        files=[],
        row_files=files,
        origin=str(folder),
        description=f"{{n}} spectra of {family} in {folder}, read by gollum. Flux in erg/s/cm^2/cm.",
        resolving_power=resolving_power,
    )


def _labels_of(match, names):
    """Labels of a file by its name."""
    parts = match.groupdict()
    if "gravity" in parts:
        gravity = int(parts["gravity"])
        nearest = min(range(len(_GRAVITIES)), key=lambda i: abs(_GRAVITIES[i] - gravity))
        parts["logg"] = 3.0 + 0.25 * nearest
    if "fsed" in parts:
        parts["fsed"] = 0.0 if parts["fsed"] == "nc" else parts["fsed"][1:]
    return [float(parts[name]) + 0.0 for name in names]


def _spectrum_class(family):
    """Class of gollum that reads a file, without the warning filters that gollum sets on import."""
    import importlib

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(importlib.import_module(family.module), family.kind)
    except ImportError as error:
        raise ImportError(
            f'This grid is read by the package gollum ({error}). Install it with: pip install "stellarhml[gollum]"'
        ) from error


def _read(kind, path, node, arguments, medium):
    """Wavelengths [vacuum angstrom], increasing, and flux [erg/s/cm^2/cm] of a file, each (n_pixels,)."""
    from astropy import units as u

    options = {argument: _plain(node[label]) for label, argument in arguments.items()}
    try:
        with warnings.catch_warnings():  # gollum builds on a deprecated class
            warnings.simplefilter("ignore")
            spectrum = kind(
                teff=_plain(node["teff"]), logg=node["logg"], path=f"{path.parent}/", wl_lo=0, wl_hi=1e9, **options
            )
            axis = spectrum.spectral_axis
            flux = spectrum.flux.to_value(u.erg / u.s / u.cm**2 / u.cm, u.spectral_density(u.Quantity(axis)))
            axis = np.asarray(u.Quantity(axis).to_value(u.AA), dtype=np.float64)
    except Exception as error:  # gollum and what it uses raise any of a dozen exceptions
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SpectrumFileError(
            f"{path} cannot be read by gollum ({type(error).__name__}: {reason}). It is damaged or truncated, or its "
            "node is not of the family. Copy it again, or move it out of the folder."
        ) from error
    axis, order = increasing(axis, str(path))
    return to_vacuum(axis, medium, path), np.asarray(flux, dtype=np.float64)[order]


def _plain(value):
    """A whole number as an int, as gollum needs it for the names of files."""
    return int(value) if value == int(value) else float(value)
