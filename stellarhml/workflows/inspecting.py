"""What is in a file: a saved generator, or an observed spectrum. Each becomes a record that JSON can hold."""

from pathlib import Path

import numpy as np

_PICKLE, _SAFE = b"\x80", b"stellarhml"  # first bytes of a joblib file and of a .shml file
_ERROR_SHARE = 95.0  # percentage of the pixels that have a smaller error than the larger of the two told


def inspect_file(path, *, medium=None, format=None, open_pickle=False, orders=False):
    """Tell what is in a file, recognised by its content.

    Parameters
    ----------
    path : str or path-like
        The file.
    medium : {"vacuum", "air"}, default=None
        What the wavelengths of a spectrum are measured in. None: what the format says; where it says nothing, the
        wavelengths are told as they are.
    format : str, default=None
        What kind of spectrum it is, see :func:`stellarhml.spectra.read_spectrum`. None: recognised.
    open_pickle : bool, default=False
        Whether to open a joblib file, which runs the code of its author. A .shml file is opened always.
    orders : bool, default=False
        Whether to tell each order of a spectrum.

    Returns
    -------
    record : dict
        With "file" and "kind": "estimator" or "spectrum".

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError, OSError, ImportError
        If it is neither, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is not a file. Pass a saved generator, or a spectrum.")
    with open(path, "rb") as file:
        head = file.read(len(_SAFE))
    safe = head == _SAFE or path.suffix.lower() == ".shml"
    saved = safe or head.startswith(_PICKLE) or path.suffix.lower() == ".joblib" or _has_record(path)
    if saved and format is None:
        if safe and path.suffix.lower() != ".shml":
            raise ValueError(f"{path} is a .shml file under another name. Give it a name that ends in .shml.")
        return {"file": str(path), "kind": "estimator"} | _describe_saved(path, safe or open_pickle)
    return {"file": str(path), "kind": "spectrum"} | _read_and_describe(path, medium, format, orders)


def _has_record(path):
    """Whether the JSON file of a saved estimator lies beside a file: a compressed joblib file looks like any other."""
    sidecar = path.with_name(path.name + ".json")
    return sidecar.is_file() and b'"sha256"' in sidecar.read_bytes()[: 1 << 16]


def _describe_saved(path, opened):
    """Record of a saved estimator."""
    from stellarhml.storage.saving import inspect, load

    found = inspect(path)
    record = {"holds_code": found["format"] != "shml", "opened": opened, **found}
    if opened:
        # its checksums were just compared; a pickle compares them again
        safe = found["format"] == "shml"
        record |= describe_generator(load(path, **({"mmap_mode": "r", "verify": False} if safe else {})))
    return record


def describe_generator(estimator):
    """Tell what a fitted generator knows.

    Parameters
    ----------
    estimator : object
        A generator, or what holds one: a regressor, or a pipeline that ends with one.

    Returns
    -------
    record : dict
        Labels, nodes, band, lines, tables, breaks and error; empty if there is no fitted generator.
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
        "n_lines": len(generator.decomposer_.line_catalog_),
        "n_factors": None if factors is None else int(factors.shape[-1]),
        "residual_rank": None if residual is None else int(residual.rank),
        "breaks": {name: [float(value) for value in values] for name, values in (interpolator.breaks or {}).items()},
        "error": _error_of(generator.error_map_, len(nodes)),
    }


def _error_of(error_map, n_nodes):
    """The generator's own error in the mean over the grid, as standard deviations in units of the continuum."""
    if error_map is None:
        return None
    from scipy.sparse import csr_matrix

    std = error_map.std(csr_matrix(np.full((1, n_nodes), 1 / n_nodes)))[0]
    return {"median": float(np.median(std)), f"percentile_{_ERROR_SHARE:.0f}": float(np.percentile(std, _ERROR_SHARE))}


def _read_and_describe(path, medium, format, orders):
    """Record of a spectrum, or an error that says that the file is neither."""
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
            # nothing says what the wavelengths are measured in: they are told as they are
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
    """Tell what is in an observed spectrum.

    Parameters
    ----------
    spectrum : ObservedSpectrum
        The spectrum.
    orders : bool, default=False
        Whether to tell each order.

    Returns
    -------
    record : dict
        Format, source, orders, band, pixels, S/N; "orders" is a list of records where asked for.
    """
    meta, known = spectrum.meta, spectrum.meta["errors_known"]
    keys = ("format", "instrument", "object", "date", "medium", "resolving_power", "flux_unit", "errors_known")
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
