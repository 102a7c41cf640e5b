"""Global searches for the labels of a spectrum."""

import warnings

import numpy as np


def bayes_search(loss, bounds, *, n_initial_points, n_calls, seed):
    """Minimise by Gaussian processes, the paper's search.

    Parameters
    ----------
    loss : callable
        From labels, shape (n_labels,), to a float.
    bounds : ndarray of shape (n_labels, 2)
        Lowest and highest labels.
    n_initial_points : int
        Number of random calls.
    n_calls : int
        Number of all calls.
    seed : int
        Seed of the search.

    Returns
    -------
    labels : ndarray of shape (n_calls, n_labels)
        Where the loss was evaluated, best first.
    values : ndarray of shape (n_calls,)
        Its values.
    """
    from skopt import gp_minimize

    with warnings.catch_warnings():
        # the optimiser proposing a point twice, and its Gaussian process at a bound of a length scale, are no news
        warnings.filterwarnings("ignore", message="The objective has been evaluated", category=UserWarning)
        warnings.filterwarnings("ignore", module="sklearn.gaussian_process")
        result = gp_minimize(
            lambda x: float(loss(np.array(x))),
            [tuple(map(float, b)) for b in bounds],
            n_initial_points=min(n_initial_points, n_calls),
            n_calls=n_calls,
            random_state=seed,
        )
    order = np.argsort(result.func_vals, kind="stable")
    return np.array(result.x_iters)[order], np.array(result.func_vals)[order]


def node_search(flux, weight, nodes, node_flux):
    """Compare a spectrum with those of the nodes.

    Parameters
    ----------
    flux, weight : ndarray of shape (n_pixels,)
        Spectrum and the weights of its pixels.
    nodes : ndarray of shape (n_nodes, n_labels)
        Labels of the nodes.
    node_flux : ndarray of shape (n_nodes, n_pixels)
        Their spectra.

    Returns
    -------
    labels : ndarray of shape (n_nodes, n_labels)
        The nodes, best first.
    values : ndarray of shape (n_nodes,)
        Their weighted sums of squared differences.
    """
    values = ((node_flux - flux) ** 2) @ weight
    order = np.argsort(values, kind="stable")
    return nodes[order], values[order]
