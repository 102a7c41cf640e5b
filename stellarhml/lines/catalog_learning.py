"""Learning from a grid of spectra: the line catalogue, lines added from residuals, and the prior."""

from functools import partial

import numpy as np

from stellarhml._parallel import map_items, map_stored
from stellarhml.lines.catalog import Detections, LineCatalog, merge_detections
from stellarhml.lines.decomposition import find_minima, fit_and_search
from stellarhml.lines.hydrogen import with_hydrogen
from stellarhml.lines.prior import LinePrior

# Criteria for added lines, chosen by the error at held-out nodes of the SME grid and of the PHOENIX H band
_SEEN_IN = 0.1  # share of the training spectra whose residuals must have the minimum
_NARROWEST, _WIDEST = 0.5, 4.0  # times the median width of the catalogue: other minima are not lines
_NARROW_START, _WIDE_START = 0.7, 1.2  # times that width: limits of the start value of a new line's width
_NEAREST = 3  # smallest distance from a line of the catalogue in pixels, and
_OUTSIDE = 1.0  # in widths: a second line in the core of a broad one would only correct its shape
_ALIKE = 1e-5  # relative rounding error of distances: of equal ones the first is taken, on every CPU
_SHALLOWEST = 5e-4  # depth that a line must have in some training spectrum to stay in the catalogue


def learn_catalog(X, labels, settings, *, n_jobs, verbose):
    """Detect the lines of all spectra (n_spectra, n_pixels), and merge them along `labels` (n_spectra, n_labels).

    Returns the LineCatalog and, for each spectrum, the catalogue lines that were detected in it, with their wavelengths
    [angstrom].
    """
    options = {"n_jobs": n_jobs, "verbose": verbose, "description": "Detecting lines", "spectra": range(len(X))}
    detections = list(map_items(partial(find_minima, settings), X, **options))
    found = merge_detections(detections, settings.scale, labels=labels, tolerance=settings.match_tolerance)
    centers = [np.interp(each.positions, settings.scale, settings.wavelength) for each in detections]
    tracks = list(zip(found.members, centers, strict=True))
    return with_hydrogen(LineCatalog.of_detections(*found[:4]), tracks, settings, detections)


def refine_catalog(X, labels, settings, tracks, *, n_rounds, rms_tol, subsample, store, n_jobs, verbose):
    """Fit training spectra, add lines from their residuals, drop lines without effect, and learn the prior.

    `settings` hold the catalogue of `learn_catalog`, which also gave the `tracks`; `n_rounds`, `rms_tol` and
    `subsample` are those of the `VoigtLineDecomposer`. A `store` keeps the fits. Returns the settings with the refined
    catalogue, the prior and the typical RMS; unchanged where no line was detected.
    """
    from stellarhml.kernels.rendering import line_depths

    features = settings.catalog.pixels
    if not len(features):
        return settings
    rows = choose_training_rows(X, features, subsample)
    feature_flux = np.stack([np.asarray(X[i][features], dtype=np.float64) for i in rows])
    labels = None if labels is None else labels[rows]
    tracks = [tracks[i] for i in rows]
    # one pass with inflated noise, one with `noise`, and one for each round of added lines
    n_passes = n_rounds + 2
    for n_done in range(n_passes):
        fits = map_stored(
            partial(fit_and_search, settings),
            ((X[i], *(track if n_done == 0 else ())) for i, track in zip(rows, tracks, strict=True)),
            store=store,
            settings=settings.digest("search"),
            pack=_pack,
            unpack=_unpack,
            n_jobs=n_jobs,
            verbose=verbose,
            description=f"Learning lines, pass {n_done + 1} of at most {n_passes}",
            total=len(rows),
            spectra=rows,
        )
        theta, missed, rms = zip(*fits, strict=True)
        theta = np.stack(theta)
        catalog = settings.catalog._replace(predicted=np.ones(len(settings.catalog.pixels), dtype=bool))
        settings = settings.replace(
            catalog=catalog, prior=LinePrior.learn(features, feature_flux, theta), typical_rms=float(np.median(rms))
        )
        enough = settings.typical_rms <= rms_tol or settings.n_lines is not None
        if n_done and (enough or n_done > n_rounds):
            break
        if n_done:
            larger = add_lines(settings, list(missed), labels)
            if len(larger.pixels) == len(catalog.pixels):
                break
            settings = settings.replace(catalog=larger)
    keep = np.max([line_depths(row, settings.profile) for row in theta], axis=0) >= _SHALLOWEST
    return settings.replace(catalog=catalog.only(keep), prior=settings.prior.only(keep))


def add_lines(settings, missed, labels):
    """Add minima of the residuals as lines, if they are as wide as lines, apart from others, and in enough spectra.

    `settings` hold a catalogue with at least one detected line, `missed` the minima of the residuals of each
    training spectrum. Returns the catalogue with the new lines; unchanged if there are none.
    """
    scale, catalog = settings.scale, settings.catalog
    found = merge_detections(missed, scale, labels=labels, tolerance=settings.match_tolerance)
    # in a wide line there are others
    free = _far_from_lines(settings.wavelength, catalog.only(~settings.wide_lines))[found.pixels]
    # compare widths as velocities, since the width of pixels varies over a spectrum
    speed = np.gradient(scale) / np.gradient(settings.wavelength)
    usual = np.median((catalog.widths * speed[catalog.pixels])[~catalog.added])
    ratio = found.widths * speed[found.pixels] / usual
    new = free & (ratio >= _NARROWEST) & (ratio <= _WIDEST) & (found.n_spectra >= _SEEN_IN * len(missed))
    new = _thin(found, np.flatnonzero(new))
    if not len(new):
        return catalog
    widths = np.clip(ratio[new], _NARROW_START, _WIDE_START) * usual / speed[found.pixels[new]]
    return catalog.with_lines(found.pixels[new], found.prominences[new], widths)


def _far_from_lines(wavelength, catalog):
    """Mask of pixels where a line may be added, shape (n_pixels,)."""
    step = np.gradient(wavelength)[catalog.pixels]
    reach = np.maximum(_NEAREST, np.ceil(_OUTSIDE * catalog.widths / step)).astype(np.int64)
    edges = np.zeros(wavelength.size + 1, np.int64)
    np.add.at(edges, np.maximum(catalog.pixels - reach + 1, 0), 1)
    np.add.at(edges, np.minimum(catalog.pixels + reach, wavelength.size), -1)
    return np.cumsum(edges)[:-1] == 0


def _thin(found, candidates):
    """Lines at least `_NEAREST` pixels apart: those in most spectra first, then the most prominent."""
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


def choose_training_rows(X, features, n_rows):
    """Rows of `X` that differ most at the pixels `features`, increasing; all of them if `n_rows` is None.

    Each is the farthest from those already chosen.
    """
    if n_rows is None or len(X) <= n_rows:
        return np.arange(len(X))
    light = np.stack([np.asarray(row[features], dtype=np.float32) for row in X])
    distance = np.linalg.norm(light - light.mean(axis=0), axis=1)
    chosen = [int(np.argmax(distance <= (1 + _ALIKE) * distance.min()))]
    distance = np.linalg.norm(light - light[chosen[0]], axis=1)
    while len(chosen) < n_rows and distance.max() > 0:
        chosen.append(int(np.argmax(distance >= (1 - _ALIKE) * distance.max())))
        distance = np.minimum(distance, np.linalg.norm(light - light[chosen[-1]], axis=1))
    return np.sort(chosen)


def _pack(result):
    theta, missed, rms = result
    return {"theta": theta, "rms": np.asarray(rms), **missed._asdict()}


def _unpack(arrays):
    missed = Detections(*(arrays[name] for name in Detections._fields))
    return arrays["theta"], missed, float(arrays["rms"])
