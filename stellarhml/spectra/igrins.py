r"""Spectra of IGRINS from its pipeline (PLP), after division by an A0V star: ``*.spec_a0v.fits``.

Images with a row for each order: `SPEC_DIVIDE_A0V`, the flux :math:`f = t\,v / a` (target, Vega model, standard), and
`WAVELENGTH`, vacuum, in micron. Errors come from the first of these that exists:

* `SPEC_DIVIDE_A0V_VARIANCE` in the file (PLP 3): the variance of :math:`f`;
* ``*.variance.fits`` in the same folder: the variance of the target alone, so :math:`\sigma_f = \sigma_t |f / t|` with
  `TGT_SPEC`;
* ``*.sn.fits`` in the same folder: signal to noise of the target in a resolution element :math:`\lambda / 40000`, not
  in a pixel, so :math:`\sigma_f = |f| / (S/N) \sqrt{\lambda / (40000\,\Delta\lambda)}` with the width
  :math:`\Delta\lambda` of a pixel.
"""

import re

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.echelle import check_range, read_images, source_meta
from stellarhml.spectra.orders import OrderBuilder

RESOLVING_POWER = 45000.0  # Park et al. (2014), doi:10.1117/12.2056431
_PLP_RESOLUTION = 40000.0  # resolving power in the pipeline's definition of S/N
_RANGE = (1.3, 2.6)  # micron
_TO_ANGSTROM = 1e4
_FLUX, _WAVE, _TARGET, _VARIANCE = "SPEC_DIVIDE_A0V", "WAVELENGTH", "TGT_SPEC", "SPEC_DIVIDE_A0V_VARIANCE"


def is_igrins(content) -> bool:
    """Whether the extensions of a FITS file are those of IGRINS."""
    return _FLUX in content["names"]


def read_igrins(path, content, *, error_file):
    """Orders and meta of a ``spec_a0v.fits`` file.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    content : dict
        Result of `list_extensions`.
    error_file : pathlib.Path or None
        The file of variances or S/N. None: the extension of the file, or a file in the same folder with the name that
        the pipeline gives.

    Returns
    -------
    orders, meta : list of Order, dict
        As for `ObservedSpectrum`.

    Raises
    ------
    SpectrumFileError
        If a file is damaged, not as the pipeline writes it, or there are no errors.
    """
    images = read_images(path, [_FLUX, _WAVE], optional=[_TARGET, _VARIANCE])
    flux, micron = images[_FLUX], images[_WAVE]
    check_range(path, micron, *_RANGE, "micron")
    error, source = _errors(path, images, error_file)
    builder = OrderBuilder(path)
    for number in range(len(flux)):
        builder.add(number, _TO_ANGSTROM * micron[number], flux[number], error[number])
    notes = [
        f"Columns used: {_FLUX}, {_WAVE} (micron); {source}.",
        "Divided by an A0V standard by the pipeline; wavelengths are in the frame of the telescope.",
        *builder.notes(),
    ]
    return builder.orders, source_meta(
        path,
        content,
        instrument="IGRINS",
        format="igrins (spec_a0v)",
        medium="vacuum",
        resolving_power=RESOLVING_POWER,
        errors_known=builder.errors_known,
        flux_unit=None,
        order_numbers=builder.numbers,
        notes=notes,
    )


def _errors(path, images, error_file):
    """Errors of the flux, and a note on their source."""
    if error_file is None and _VARIANCE in images:
        with np.errstate(all="ignore"):
            return np.sqrt(images[_VARIANCE]), f"errors from {_VARIANCE}"
    if error_file is None:
        error_file = _companion(path)
    kind = re.search(r"(?:^|[._-])(variance|sn)\.(?:fits?|fts)(?:\.gz)?$", error_file.name.lower())
    if not kind:
        raise SpectrumFileError(
            f"{error_file} is the error file of {path.name}, but its name must end in 'variance.fits' or 'sn.fits', "
            "which states the kind of errors. Rename it as the pipeline does."
        )
    (values,) = read_images(error_file, [""]).values()
    flux = images[_FLUX]
    if values.shape != flux.shape:
        raise SpectrumFileError(
            f"{error_file} has the shape {values.shape}, but {path.name} has {flux.shape[0]} orders of {flux.shape[1]} "
            "pixels. Use the two files of one run of the pipeline."
        )
    source = f"errors from {error_file.name}, without those of the standard"
    with np.errstate(all="ignore"):
        if kind[1] == "sn":
            micron = images[_WAVE]
            pixels = micron / _PLP_RESOLUTION / np.abs(np.gradient(micron, axis=1))
            return np.abs(flux) / values * np.sqrt(pixels), source
        if _TARGET not in images:
            raise SpectrumFileError(
                f"{path} has no extension {_TARGET!r}, but it is needed to scale the variances of {error_file.name}, "
                "which are those of the target before division, to the divided flux. Use the file as the pipeline "
                "wrote it."
            )
        return np.sqrt(values) * np.abs(flux / images[_TARGET]), source


def _companion(path):
    """Find the error file in the folder of a ``spec_a0v.fits``."""
    stem = re.sub(r"spec_a0v\.fits(\.gz)?$", "", path.name)
    names = [f"{stem}{kind}.fits{end}" for kind in ("variance", "sn") for end in ("", ".gz")]
    if stem != path.name:
        for name in names:
            if path.with_name(name).is_file():
                return path.with_name(name)
    tried = f"{names[0]} or {names[2]} in its folder" if stem != path.name else "other file (its name has no spec_a0v)"
    raise SpectrumFileError(
        f"{path} has no extension {_VARIANCE!r}, and there is no {tried}, but errors are needed. Copy the pipeline's "
        "variance.fits to its folder, or pass its path as `error_file`."
    )
