r"""FluxLevel: the smooth level by which the spectra of a grid were divided when they were normalised.

For each spectrum of the grid, :math:`\ln(L / \pi B_\lambda(T_\mathrm{eff}))` is stored as a Chebyshev series in
wavelength. Its coefficients are interpolated with the weights of the lines; the black body is computed at the labels.
"""

import numpy as np
from numpy.polynomial import chebyshev

from stellarhml._state import LARGE, StateError, check_keys, take_array
from stellarhml.physics.blackbody import blackbody_flux, blackbody_slope

_N_TERMS = 16
_N_SAMPLES = 1024  # pixels from which a series is fitted
_DARK = 0.05  # normalised flux below which a pixel does not tell the level
_ROUGH, _ROUGH_MODEL = 1e-3, 0.02  # RMS deviations from the series from which a level is not smooth


class FluxLevel:
    """Levels of the spectra of a grid: `coefficients` (n_rows, n_terms), float64, of ln of level over black body.

    `ends` are the first and the last wavelength [angstrom], between which the series is defined; beyond, it has its
    value at the end. Without `black_body`, the series is that of ln of the level.
    """

    def __init__(self, coefficients, ends, black_body):
        self.coefficients, self.ends, self.black_body = coefficients, ends, black_body

    @classmethod
    def learn(cls, rows, wavelength, teff, *, rough=_ROUGH):
        """Learn the levels of a grid, one spectrum after the other; None if they are not smooth.

        `rows` yields for each spectrum its raw and its normalised flux at `sample_pixels` of the `wavelength`
        (n_pixels,) [angstrom] or pixel indices; `teff` (n_rows,) [K] or None; `rough` is the largest RMS deviation of
        ln level from its series.
        """
        black_body = teff is not None and wavelength[0] > 0
        at, ends = wavelength[sample_pixels(len(wavelength))], wavelength[[0, -1]]
        basis = chebyshev.chebvander(_scaled(at, ends), min(_N_TERMS, max(len(at) // 4, 1)) - 1)
        coefficients = []
        for i, (raw, flat) in enumerate(rows):
            raw, flat = (np.asarray(part, dtype=np.float64) for part in (raw, flat))
            good = (flat > _DARK) & (raw > 0)
            if good.sum() < basis.shape[1]:
                return None
            ln_level = np.log(raw[good] / flat[good])
            if black_body:
                ln_level -= np.log(blackbody_flux(at[good], teff[i]))
            found = np.linalg.lstsq(basis[good], ln_level, rcond=None)[0]
            if np.sqrt(np.mean((basis[good] @ found - ln_level) ** 2)) > rough:
                return None
            coefficients.append(found)
        return cls(np.array(coefficients), ends, black_body)

    def at(self, weights, wavelength, *, teff=None, slopes=()):
        """Evaluate ln of the level at `wavelength` (n,), shape (n,), and its derivatives, shape (n_slopes, n).

        `weights` of the training rows, csr_matrix (1, n_rows), and `slopes`, their derivatives by each label. The black
        body is that of `teff` [K]; its derivative is not in the result.
        """
        rows = np.stack([np.asarray(row @ self.coefficients).ravel() for row in (weights, *slopes)])
        values = chebyshev.chebval(_scaled(wavelength, self.ends), rows.T)
        if self.black_body:
            values[0] += np.log(blackbody_flux(wavelength, teff))
        return values[0], values[1:]

    def to_state(self) -> dict:
        """State for a file."""
        return {"coefficients": self.coefficients, "ends": self.ends, "black_body": self.black_body}

    @classmethod
    def from_state(cls, state, n_rows, wavelength, names):
        """Rebuild from its state, for the rows, wavelengths and label names of a generator; StateError if invalid."""
        check_keys(state, ("coefficients", "ends", "black_body"))
        shape = (n_rows, None)
        coefficients = take_array(state, "coefficients", dtype="f8", shape=shape, low=-LARGE, high=LARGE)
        ends = take_array(state, "ends", dtype="f8", shape=(2,))
        if not 1 <= coefficients.shape[1] <= _N_TERMS or not np.array_equal(ends, wavelength[[0, -1]]):
            raise StateError(
                f"The level has {coefficients.shape[1]} coefficients between {ends}; it needs 1 to {_N_TERMS} between "
                "the first and the last wavelength."
            )
        if not isinstance(state["black_body"], bool) or (
            state["black_body"] and not ("teff" in names and wavelength[0] > 0)
        ):
            raise StateError("`black_body` must be True or False; a black body needs a label teff and wavelengths.")
        return cls(coefficients, ends, state["black_body"])


def sample_pixels(n_pixels):
    """Pixels from which the level of a spectrum is learnt, spread evenly."""
    return np.unique(np.linspace(0, n_pixels - 1, _N_SAMPLES).round().astype(int))


def learn_level(generator, labels, flux):
    """FluxLevel of a fitted generator, from raw `flux` (n_rows, n_pixels) of its nodes at `labels` (n_rows, n_labels).

    The level is the ratio of the raw flux to the generator's own. ValueError if a node is missing, or the ratio is not
    smooth.
    """
    interpolator, names = generator.interpolator_, generator.label_names_
    nodes = interpolator.nodes_[interpolator.node_of_row_]
    place = {tuple(label): k for k, label in enumerate(np.asarray(labels, dtype=np.float64).tolist())}
    missing = [node for node in nodes.tolist() if tuple(node) not in place]
    if missing or np.shape(flux) != (len(labels), len(generator.wavelength_)):
        what = f"lacks {len(missing)} of the {len(nodes)} nodes" if missing else f"has the shape {np.shape(flux)}"
        raise ValueError(
            f"The raw flux {what}; the level needs the spectra of all nodes of the generator, on its "
            f"{len(generator.wavelength_)} pixels."
        )
    chosen = sample_pixels(len(generator.wavelength_))
    rows = (
        (flux[place[tuple(node)]][chosen], generator.predict(np.array([node]), pixels=chosen)[0])
        for node in nodes.tolist()
    )
    teff = nodes[:, names.index("teff")] if "teff" in names else None
    level = FluxLevel.learn(rows, np.asarray(generator.wavelength_), teff, rough=_ROUGH_MODEL)
    if level is None:
        raise ValueError(
            "The raw flux over the generator's is not a smooth function of wavelength, or not positive. Check that "
            "both are of the same grid."
        )
    return level


def level_of(generator, labels, wavelength, *, derivatives=False):
    """Evaluate ln of the level of a generator at `labels` (n_labels,), moved to the nearest point of the grid.

    `wavelength` (n,) [angstrom]. Returns ln level (n,) and, with `derivatives`, those by each label (n_labels, n).
    """
    level, interpolator, names = generator.level_, generator.interpolator_, generator.label_names_
    low, high = interpolator.bounds_.T
    labels = np.asarray(labels, dtype=np.float64)
    X = np.clip(labels, low, high)[None]
    mixture = interpolator.split_at_breaks(X)
    points = X if mixture is None else mixture.labels
    teff = X[0, names.index("teff")] if level.black_body else None
    values, jacobian = [], []
    for point in points:
        weights, _, *slopes = interpolator.locate(point[None], derivatives=derivatives)
        value, slope = level.at(weights, wavelength, teff=teff, slopes=slopes[0] if derivatives else ())
        values.append(value)
        jacobian.append(slope.T)
    values, jacobian = np.stack(values), np.stack(jacobian)
    if mixture is not None:
        jacobian = mixture.mix_jacobian(values, jacobian) if derivatives else jacobian
        values = mixture.mix(values)
    if not derivatives:
        return values[0]
    slopes = jacobian[0].T * ((labels >= low) & (labels <= high))[:, None]
    if level.black_body and low[names.index("teff")] <= labels[names.index("teff")] <= high[names.index("teff")]:
        slopes[names.index("teff")] += blackbody_slope(wavelength, teff)
    return values[0], slopes


def _scaled(wavelength, ends):
    """Wavelengths on the interval from -1 to 1 on which the series is defined."""
    width = max(ends[1] - ends[0], np.finfo(float).tiny)
    return np.clip(2 * (np.asarray(wavelength, dtype=np.float64) - ends[0]) / width - 1, -1, 1)
