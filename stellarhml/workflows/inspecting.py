"""Contents of a file: a saved generator, or an observed spectrum. Each becomes a record that JSON can hold."""

from pathlib import Path

import numpy as np

_HEADS = (b"#ASDF", b"\x80")  # first bytes of an ASDF file and of a pickle
_SUFFIXES = (".asdf", ".joblib", ".pkl", ".pickle")
_PERCENTILE = 95  # of the pixels, for the larger of the two errors in a record


def inspect_file(path, *, medium=None, format=None, trust_pickle=False, orders=False):
    """Describe the contents of a file, recognised by its first bytes.

    Parameters
    ----------
    path : str or path-like
        The file.
    medium : {"vacuum", "air"}, default=None
        Medium of the wavelengths of a spectrum. None: as the format states; where it states none, wavelengths are
        given as they are in the file.
    format : str, default=None
        Format of a spectrum, see :func:`stellarhml.spectra.read_spectrum`. None: recognised.
    trust_pickle : bool, default=False
        Whether to open a pickle (joblib), which runs the code of its author.
    orders : bool, default=False
        Whether to describe each order of a spectrum.

    Returns
    -------
    record : dict
        With "file" and "kind": "estimator" or "spectrum".

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError, OSError, ImportError
        If it is neither, damaged, or a pickle that is not trusted.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is not a file. Pass a saved generator, or a spectrum.")
    with open(path, "rb") as file:
        head = file.read(5)
    saved = head.startswith(_HEADS) or path.suffix.lower() in _SUFFIXES
    if saved and format is None:
        return {"file": str(path), "kind": "estimator"} | _describe_saved(path, trust_pickle)
    return {"file": str(path), "kind": "spectrum"} | _read_and_describe(path, medium, format, orders)


def _describe_saved(path, trust_pickle):
    """Record of a saved estimator."""
    from stellarhml.storage.saving import inspect, load

    estimator = load(path, trust_pickle=trust_pickle)
    return inspect(path) | {"class": type(estimator).__name__} | describe_generator(estimator)


def describe_generator(estimator):
    """Labels, nodes, band, lines, their tags, tables, breaks and error of a fitted generator, as a dict.

    `estimator` is a generator, a regressor with one, or a pipeline that ends with either; else the dict is empty.
    """
    from stellarhml.inference._inference_result import UNITS

    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    generator = getattr(last, "generator_", last)
    if not hasattr(generator, "interpolator_") or not hasattr(generator, "wavelength_"):
        return {}
    interpolator, residual, wavelength = generator.interpolator_, generator.residual_, generator.wavelength_
    nodes = interpolator.nodes_
    labels = [
        {
            "name": name,
            "unit": UNITS.get(name),
            "low": float(column.min()),
            "high": float(column.max()),
            "n_values": len(np.unique(column)),
        }
        for name, column in zip(generator.label_names_, nodes.T, strict=True)
    ]
    factors = getattr(interpolator.table_, "factors", None)
    return {
        "labels": labels,
        "n_nodes": len(nodes),
        "wavelength": [float(wavelength[0]), float(wavelength[-1])],
        "n_pixels": len(wavelength),
        "resolving_power": getattr(generator, "resolving_power", None),
        "n_lines": len(generator.decomposer_.line_catalog_),
        "n_tagged": None if generator.tags_ is None else int(generator.tags_.tagged.sum()),
        "n_factors": None if factors is None else int(factors.shape[-1]),
        "residual_rank": None if residual is None else int(residual.rank),
        "breaks": {name: [float(value) for value in values] for name, values in (interpolator.breaks or {}).items()},
        "error": _error_of(generator.error_map_, len(nodes)),
    }


def _error_of(error_map, n_nodes):
    """The generator's own error, averaged over the grid: standard deviations in units of the continuum."""
    if error_map is None:
        return None
    from scipy.sparse import csr_matrix

    std = error_map.std(csr_matrix(np.full((1, n_nodes), 1 / n_nodes)))[0]
    return {"median": float(np.median(std)), f"percentile_{_PERCENTILE}": float(np.percentile(std, _PERCENTILE))}


def _read_and_describe(path, medium, format, orders):
    """Record of a spectrum; the error says that the file is neither."""
    from stellarhml.exceptions import SpectrumFileError
    from stellarhml.spectra.reading import read_spectrum

    stated = True
    try:
        try:
            spectrum = read_spectrum(path, medium=medium, format=format)
        except SpectrumFileError:
            raise
        except ValueError:
            if medium is not None:
                raise
            # the medium is not stated: wavelengths are given as they are
            spectrum, stated = read_spectrum(path, medium="vacuum", format=format), False
    except SpectrumFileError as error:
        why = str(error).removeprefix(f"{path} ")
        why = why if why == str(error) else f"it {why}"
        raise SpectrumFileError(
            f"{path} is neither a saved generator nor a spectrum that can be read: {why}"
        ) from error
    record = describe_spectrum(spectrum, orders=orders)
    return record if stated else record | {"medium": None}


def describe_spectrum(spectrum, *, orders=False):
    """Format, source, band, pixels, S/N and notes of an ObservedSpectrum, as a dict.

    With `orders`, its "orders" is a list with a dict for each.
    """
    meta, known = spectrum.meta, spectrum.meta["errors_known"]
    keys = ("format", "instrument", "object", "date", "medium", "frame", "resolving_power", "flux_unit", "errors_known")
    ends = [order.wavelength[[0, -1]] for order in spectrum.orders]
    record = {key: meta[key] for key in keys} | {
        "n_orders": len(spectrum.orders),
        "wavelength": [float(np.min(ends)), float(np.max(ends))],
        "n_pixels": spectrum.n_pixels,
        "n_masked": spectrum.n_masked,
        "median_snr": _snr(spectrum.orders) if known else None,
        "notes": list(meta["notes"]),
    }
    if orders:
        record["orders"] = [
            {
                "order": number,
                "wavelength": [float(order.wavelength[0]), float(order.wavelength[-1])],
                "n_pixels": len(order.wavelength),
                "n_masked": int(np.isinf(order.error).sum()),
                "median_snr": _snr([order]) if known else None,
            }
            for number, order in zip(meta["order_numbers"], spectrum.orders, strict=True)
        ]
    return record


def _snr(orders):
    """Median of flux over error of the pixels that are not masked, or None."""
    ratio = np.concatenate([(order.flux / order.error)[np.isfinite(order.error)] for order in orders])
    return float(np.median(ratio)) if len(ratio) else None
