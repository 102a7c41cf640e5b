"""Warnings of spectra at the wrong nodes of a grid, before its lines are fitted."""

import warnings

import numpy as np

from stellarhml._grid_faults import FEWEST_PIXELS, LARGEST, describe_node, same_spectrum_at_two_nodes
from stellarhml._validation import LABELS, check_label_names
from stellarhml.exceptions import GridWarning
from stellarhml.grids.blase_states import LINE_KEYS
from stellarhml.manifold._line_manifold_interpolator import LineManifoldInterpolator
from stellarhml.manifold.breaks import find_breaks
from stellarhml.manifold.lattice import LATTICE_SHARE, LatticeWeights
from stellarhml.manifold.misplaced import find_misplaced
from stellarhml.storage.result_store import digest

_MOST_NAMED = 5  # in a message
_MANY = 0.25
_FEWEST_TO_COMPARE = 200  # pixels: in less, as from one line, true spectra need not vary smoothly from node to node
_EQUAL_SPECTRA = (
    "Different nodes of the grid have exactly the same spectrum: {}. If the labels do have an effect there, one of "
    "them holds the spectrum of the other: read or compute it again."
)


def misplaced_nodes(labels, flux, label_names=None):
    """Find spectra of a grid that seem to belong to another node, without fitting a line.

    Parameters
    ----------
    labels : ndarray of shape (n_nodes, n_labels)
        Labels of the spectra, each node once.
    flux : ndarray of shape (n_nodes, n_pixels)
        Normalised fluxes, which may be a memory map.
    label_names : sequence of str, default=None
        Names of the labels. None: ("teff", "logg", "feh") for three.

    Returns
    -------
    found : list of Misplaced
        Rows, see `stellarhml.manifold.misplaced`. Empty for scattered nodes, which are not tested.
    """
    names = check_label_names(label_names, labels.shape[1])
    if max(float(np.abs(row).max()) for row in flux) > LARGEST:  # row by row: a memory map stays on disk
        return []
    if len(names) > 1 and LatticeWeights.share(labels) < LATTICE_SHARE:
        return []
    interpolator = LineManifoldInterpolator(label_names=names, breaks=find_breaks(labels, flux, names))
    return find_misplaced(labels, flux, interpolator.fit(labels, labels).error_samples())


def warn_of_equal_spectra(labels, flux, label_names):
    """Warn of nodes with exactly the same spectrum; returns the rows of all of them.

    Where more than a quarter of the rows are equal to others, a label has no effect, and nothing is said.
    """
    if flux.shape[1] < FEWEST_PIXELS:
        return []
    groups = same_spectrum_at_two_nodes(labels, [digest(row) for row in flux])
    groups = [rows for rows in groups if np.ptp(flux[rows[0]]) > 0]  # all spectra without lines are equal
    if sum(map(len, groups)) > max(2, _MANY * len(labels)):
        return []
    _warn([_nodes(labels[rows], label_names) for rows in groups], _EQUAL_SPECTRA)
    return [row for rows in groups for row in rows]


def warn_of_equal_states(labels, states):
    """Warn of nodes of an archive of blase with exactly the same lines; `states` as from `read_state_dict`."""
    digests = [digest({key: state[key] for key in LINE_KEYS}) for state in states]
    groups = same_spectrum_at_two_nodes(labels, digests)
    _warn([_nodes(labels[rows], LABELS) for rows in groups], _EQUAL_SPECTRA)


def warn_of_misplaced_spectra(labels, normalised, label_names, named):
    """Warn of spectra that seem to belong to other nodes; the rows `named` are left out."""
    rows = np.setdiff1d(np.arange(len(labels)), named)
    nodes = labels[rows]
    if normalised.shape[1] < _FEWEST_TO_COMPARE or not len(rows) or len(np.unique(nodes, axis=0)) < len(nodes):
        return
    found = misplaced_nodes(nodes, normalised[rows] if len(named) else normalised, label_names)
    _warn(
        [_nodes(nodes[list(rows)], label_names) + _wrong(swapped, rows) for swapped, rows in found],
        "Spectra of the grid are not what the nodes around them predict: {}. Check their labels and fluxes, or leave "
        "them out.",
    )


def _wrong(swapped, rows):
    if swapped:
        return " seem to be swapped"
    return " does not fit its neighbours" if len(rows) == 1 else " are alike, and the first does not fit its neighbours"


def _nodes(labels, label_names):
    return " and ".join(f"({describe_node(row, label_names)})" for row in labels)


def _warn(texts, message):
    """Warn with the first few texts in the message, if there are any."""
    if texts:
        more = [f"and {len(texts) - _MOST_NAMED} more"] if len(texts) > _MOST_NAMED else []
        warnings.warn(message.format("; ".join(texts[:_MOST_NAMED] + more)), GridWarning, stacklevel=3)
