"""Principal components of the rows of a table, and how many of them can be interpolated."""

import numpy as np

_FEW = 32
"""Components of which none is left out: small grids save little by it, and can tell little about it."""


def principal_components(gram):
    """Principal components from scalar products.

    Parameters
    ----------
    gram : ndarray of shape (n_rows, n_rows), float64
        Scalar products of rows of mean zero, summed in double precision.

    Returns
    -------
    vectors : ndarray of shape (n_rows, n_components)
        Orthonormal weights: ``vectors.T @ rows`` are the components, each as long as its `sizes`, and
        ``vectors @ vectors.T @ rows`` are the rows.
    sizes : ndarray of shape (n_components,)
        Their lengths, decreasing, without those that are rounding.
    """
    squares, vectors = np.linalg.eigh(gram)
    order = np.argsort(squares)[::-1]
    order = order[squares[order] > len(gram) * np.finfo(np.float64).eps * max(squares.max(initial=0.0), 0.0)]
    vectors = vectors[:, order]
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, np.arange(len(order))])  # no sign left free
    return vectors, np.sqrt(squares[order])


def choose_rank(scores, samples, slack=1.0):
    """Number of components with which held-out rows are predicted best.

    A component that varies smoothly with the labels is predicted by its interpolated scores; one that is noise from row
    to row is better left out.

    Parameters
    ----------
    scores : ndarray of shape (n_rows, n_components)
        Scores of the rows, components in decreasing order.
    samples : ErrorSamples
        Places where rows are held out.
    slack : float, default=1.0
        Factor above the smallest held-out error that is as good, if it takes fewer components.

    Returns
    -------
    rank : int
        The smallest number with the smallest held-out error, but for `slack`. Up to 32 components are all kept; without
        rows to hold out, no more are.
    """
    telling = samples.telling
    if not telling.any() or scores.shape[1] <= _FEW:
        return min(scores.shape[1], _FEW)
    missed = (samples.targets - samples.weights)[telling] @ scores
    # a component that is kept errs where rows are held out, one that is left out is missed at all of them: those that
    # can be held out need not show it, such as the middle one of three in a row
    kept, left_out = (missed**2).mean(axis=0), (scores**2).mean(axis=0)
    error = np.concatenate([[0.0], np.cumsum(kept)]) + np.concatenate([np.cumsum(left_out[::-1])[::-1], [0.0]])
    return int(np.argmax(error <= slack**2 * error.min()))
