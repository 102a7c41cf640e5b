"""What `VoigtLineDecomposer.fit` learns from a grid: the catalogue, lines that were missed at first, and the prior."""

from functools import partial

import numpy as np

from stellarhml._parallel import map_stored
from stellarhml.lines.catalog import Detections, build_catalog
from stellarhml.lines.line_fitting import find_minima, fit_and_search
from stellarhml.lines.prior import LinePrior
from stellarhml.lines.settings import settings_digest
from stellarhml.storage.result_store import ResultStore

# Lines to add, chosen on held-out nodes of the SME grid and of the PHOENIX H band: interpolated lines and residual
# against the node
_SEEN_IN = 0.1  # share of the training spectra that must ask for a line
_NARROWEST, _WIDEST = 0.5, 4.0  # times the median width of the catalogue: anything else is no line
_NARROW_START, _WIDE_START = 0.7, 1.2  # times that width: where the width of a new line begins
_NEAREST = 3  # pixels from a line of the catalogue, and
_OUTSIDE = 1.0  # widths from it: in the core of a broad line a second one mends its shape, and runs wild elsewhere
_NOTHING = 5e-4  # depth that a line must have in some training spectrum to stay in the catalogue


def learn_catalog(decomposer, X, labels):
    """Detect the lines of all spectra and merge them.

    Parameters
    ----------
    decomposer : VoigtLineDecomposer
        Gets `_catalog` (pixels), `_prominence` and `_width` [angstrom] of the lines.
    X : ndarray of shape (n_spectra, n_pixels)
        Normalised fluxes.
    labels : ndarray of shape (n_spectra, n_labels) or None
        Labels along which lines are tracked.

    Returns
    -------
    tracks : list of (lines, centers)
        For each spectrum the catalogue lines that were detected in it, and where [angstrom].
    """
    # kept nowhere: it takes less time to detect lines than to read them
    options = {"n_jobs": decomposer.n_jobs, "verbose": decomposer.verbose, "description": "Detecting lines"}
    detections = list(map_stored(partial(find_minima, light_copy(decomposer)), X, store=None, **options))
    catalog = build_catalog(detections, decomposer._scale, labels=labels, tolerance=decomposer.match_tolerance)
    decomposer._catalog, decomposer._prominence, decomposer._width = catalog[:3]
    decomposer._added = np.zeros(len(catalog.pixels), dtype=bool)
    decomposer._known = ~decomposer._added
    decomposer.n_detected_ = catalog.n_spectra
    centers = [np.interp(found.positions, decomposer._scale, decomposer.wavelength_) for found in detections]
    return list(zip(catalog.members, centers, strict=True))


def refine_catalog(decomposer, X, labels, tracks):
    """Fit training spectra, add what their residuals ask for, drop what does nothing, and learn the prior.

    Parameters
    ----------
    decomposer : VoigtLineDecomposer
        With its catalogue, which changes; gets `_prior` and `_typical_rms`.
    X : ndarray of shape (n_spectra, n_pixels)
        Normalised fluxes.
    labels : ndarray of shape (n_spectra, n_labels) or None
        Labels along which lines are tracked.
    tracks : list of (lines, centers)
        What `learn_catalog` returned.
    """
    from stellarhml.kernels.rendering import line_depths

    features = decomposer._catalog
    if not len(features):
        return
    rows = _spread(X, features, decomposer.subsample)
    light = np.stack([np.asarray(X[i][features], dtype=np.float64) for i in rows])
    labels = None if labels is None else labels[rows]
    tracks = [tracks[i] for i in rows]
    # once loosely, once as closely as asked for, and once more for each round of added lines
    for n_done in range(decomposer.n_rounds + 2):
        theta, missed, rms = _fit_all(decomposer, X, rows, tracks, n_done)
        decomposer._prior = LinePrior.learn(features, light, theta)
        decomposer._known = np.ones(len(decomposer._catalog), dtype=bool)
        decomposer._typical_rms = float(np.median(rms))
        enough = decomposer._typical_rms <= decomposer.rms_tol or decomposer.n_lines is not None
        if n_done and (enough or n_done > decomposer.n_rounds or not _add_lines(decomposer, missed, labels)):
            break
    depths = np.max([line_depths(row, decomposer.profile) for row in theta], axis=0)
    _keep_lines(decomposer, depths >= _NOTHING)


def _fit_all(decomposer, X, rows, tracks, n_done):
    """Parameters, missed lines and errors of the training spectra."""
    fits = map_stored(
        partial(fit_and_search, light_copy(decomposer)),
        ((X[i], *(track if n_done == 0 else ())) for i, track in zip(rows, tracks, strict=True)),
        store=None if decomposer.store is None else ResultStore(decomposer.store),
        settings=settings_digest(decomposer, "search"),
        pack=_pack,
        unpack=_unpack,
        n_jobs=decomposer.n_jobs,
        verbose=decomposer.verbose,
        description=f"Learning lines, pass {n_done + 1} of at most {decomposer.n_rounds + 2}",
        total=len(rows),
    )
    theta, missed, rms = zip(*fits, strict=True)
    return np.stack(theta), list(missed), np.array(rms)


def _add_lines(decomposer, missed, labels):
    """Add the minima of residuals that are lines by their width, place and number; return whether there are any."""
    scale, catalog = decomposer._scale, decomposer._catalog
    found = build_catalog(missed, scale, labels=labels, tolerance=decomposer.match_tolerance)
    free = _far_from(decomposer)[found.pixels]
    # widths compare as velocities: the pixels of a spectrogram are not equally wide everywhere
    speed = np.gradient(scale) / np.gradient(decomposer.wavelength_)
    usual = np.median((decomposer._width * speed[catalog])[~decomposer._added])
    ratio = found.widths * speed[found.pixels] / usual
    new = free & (ratio >= _NARROWEST) & (ratio <= _WIDEST) & (found.n_spectra >= _SEEN_IN * len(missed))
    new = _thin(found, np.flatnonzero(new))
    if not len(new):
        return False
    widths = np.clip(ratio[new], _NARROW_START, _WIDE_START) * usual / speed[found.pixels[new]]
    pixels = np.concatenate([catalog, found.pixels[new]])
    order = np.argsort(pixels)
    decomposer._catalog = pixels[order]
    decomposer._prominence = np.concatenate([decomposer._prominence, found.prominences[new]])[order]
    decomposer._width = np.concatenate([decomposer._width, widths])[order]
    decomposer._added = np.concatenate([decomposer._added, np.ones(len(new), bool)])[order]
    decomposer._known = np.concatenate([decomposer._known, np.zeros(len(new), bool)])[order]
    decomposer.n_detected_ = np.concatenate([decomposer.n_detected_, np.zeros(len(new), np.int64)])[order]
    return True


def _far_from(decomposer):
    """Pixels where a line may be added, shape (n_pixels,)."""
    step = np.gradient(decomposer.wavelength_)[decomposer._catalog]
    reach = np.maximum(_NEAREST, np.ceil(_OUTSIDE * decomposer._width / step)).astype(np.int64)
    n_pixels = decomposer.wavelength_.size
    edges = np.zeros(n_pixels + 1, np.int64)
    np.add.at(edges, np.maximum(decomposer._catalog - reach + 1, 0), 1)
    np.add.at(edges, np.minimum(decomposer._catalog + reach, n_pixels), -1)
    return np.cumsum(edges)[:-1] == 0


def _thin(found, candidates):
    """Leave the lines that most spectra, or the most prominent minima, ask for, none nearer than `_NEAREST` pixels."""
    order = candidates[
        np.lexsort((found.pixels[candidates], -found.prominences[candidates], -found.n_spectra[candidates]))
    ]
    taken = np.zeros(found.pixels.max(initial=0) + 1 + _NEAREST, dtype=bool)
    keep = []
    for k in order:
        pixel = found.pixels[k]
        if not taken[pixel]:
            keep.append(k)
            taken[max(pixel - _NEAREST + 1, 0) : pixel + _NEAREST] = True
    return np.sort(np.array(keep, dtype=np.int64))


def _keep_lines(decomposer, keep):
    """Reduce the catalogue, and all that goes with it, to some of its lines."""
    for name in ("_catalog", "_prominence", "_width", "_added", "_known", "n_detected_"):
        setattr(decomposer, name, getattr(decomposer, name)[keep])
    prior = decomposer._prior
    decomposer._prior = prior._replace(coefficients=np.ascontiguousarray(prior.coefficients[:, keep]))


def _spread(X, features, n_rows):
    """Choose rows that are as different as can be: each is the one farthest from those chosen before."""
    if n_rows is None or len(X) <= n_rows:
        return np.arange(len(X))
    light = np.stack([np.asarray(row[features], dtype=np.float32) for row in X])
    distance = np.linalg.norm(light - light.mean(axis=0), axis=1)
    chosen = [int(np.argmin(distance))]
    distance = np.linalg.norm(light - light[chosen[0]], axis=1)
    while len(chosen) < n_rows and distance.max() > 0:
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(light - light[chosen[-1]], axis=1))
    return np.sort(chosen)


def light_copy(decomposer):
    """Copy a decomposer without the second copy of its wavelengths, to send it to workers.

    Parameters
    ----------
    decomposer : VoigtLineDecomposer
        Fitted, or being fitted.

    Returns
    -------
    light : VoigtLineDecomposer
        A shallow copy.
    """
    light = object.__new__(type(decomposer))
    light.__dict__.update(decomposer.__dict__, wavelength=None)
    return light


def _pack(result):
    theta, missed, rms = result
    return {"theta": theta, "rms": np.asarray(rms), **missed._asdict()}


def _unpack(arrays):
    missed = Detections(*(arrays[name] for name in Detections._fields))
    return arrays["theta"], missed, float(arrays["rms"])
