"""Interpolation weights for nodes that form no grid."""

import numpy as np
from scipy import sparse
from scipy.spatial import Delaunay, QhullError
from threadpoolctl import threadpool_limits

_MAX_SIMPLEX_LABELS = 3  # a triangulation grows exponentially with the number of labels
_EDGE = 1e-9


class ScatteredWeights:
    """Weights of scattered nodes: linear on a Delaunay triangulation, or inverse distance.

    Up to three labels, the weights are barycentric coordinates in the simplex around the labels (exact for
    functions linear in the labels). With more labels, or nodes that span no volume, they are proportional to the
    inverse square of the distance to the nearest 2 n_labels + 2 nodes. Distances are in units of each label's range.

    Parameters
    ----------
    nodes : ndarray of shape (n_nodes, n_labels)
        Distinct labels of the nodes.
    """

    def __init__(self, nodes):
        self.nodes = nodes
        self._low = nodes.min(axis=0)
        span = np.ptp(nodes, axis=0)
        self._span = np.where(span > 0, span, 1.0)
        self._points = (nodes - self._low) / self._span
        self._simplices = None
        if 2 <= nodes.shape[1] <= _MAX_SIMPLEX_LABELS and len(nodes) > nodes.shape[1] + 1:
            try:
                with threadpool_limits(1):  # thousands of 3 x 3 systems: threads only stand in each other's way
                    self._simplices = Delaunay(self._points)
                    self._transform = self._simplices.transform
            except QhullError:  # nodes in a plane or on a line
                self._simplices = None

    def to_plain_state(self):
        """What a file without code stores: the nodes, from which all else follows.

        Returns
        -------
        state : dict
            Arguments of the constructor.
        """
        return {"nodes": self.nodes}

    @classmethod
    def from_plain_state(cls, state):
        """Make it again.

        Parameters
        ----------
        state : dict
            What `to_plain_state` returned.

        Returns
        -------
        weights : ScatteredWeights
            The same weights.
        """
        return cls(**state)

    def weights(self, labels):
        """Weights of the nodes.

        Parameters
        ----------
        labels : ndarray of shape (n, n_labels)
            Where to interpolate. Outside the nodes the nearest one is taken.

        Returns
        -------
        weights : csr_matrix of shape (n, n_nodes)
            Rows sum to 1.
        outside : ndarray of shape (n,), bool
            Rows outside the convex hull (without a triangulation: outside the ranges of the labels).
        """
        points = (labels - self._low) / self._span
        if self._simplices is None:
            outside = ((points < -_EDGE) | (points > 1 + _EDGE)).any(axis=1)
            parts = [self._inverse_distance(point) for point in points]
        else:
            simplex = self._simplices.find_simplex(points, tol=_EDGE)
            outside = simplex < 0
            parts = [self._barycentric(p, s) for p, s in zip(points, simplex, strict=True)]
        constant = np.ptp(self.nodes, axis=0) == 0
        slack = _EDGE * np.maximum(np.abs(self._low), 1)
        outside |= (np.abs(labels - self._low) > slack)[:, constant].any(axis=1)
        rows = np.repeat(np.arange(len(labels)), [len(nodes) for nodes, _ in parts])
        columns = np.concatenate([nodes for nodes, _ in parts])
        values = np.concatenate([weight for _, weight in parts])
        return sparse.csr_matrix((values, (rows, columns)), shape=(len(labels), len(self.nodes))), outside

    def _barycentric(self, point, simplex):
        if simplex < 0:
            return self._nearest(point)
        transform = self._transform[simplex]
        if not np.isfinite(transform).all():  # a flat simplex on the hull
            return self._inverse_distance(point)
        first = transform[:-1] @ (point - transform[-1])
        weight = np.clip(np.append(first, 1 - first.sum()), 0, None)
        return self._simplices.simplices[simplex], weight / weight.sum()

    def _inverse_distance(self, point):
        distance = ((self._points - point) ** 2).sum(axis=1)
        nearest = np.argsort(distance, kind="stable")[: 2 * len(point) + 2]
        if distance[nearest[0]] <= _EDGE**2:
            return nearest[:1], np.ones(1)
        weight = 1 / distance[nearest]
        return nearest, weight / weight.sum()

    def _nearest(self, point):
        return np.array([int(np.argmin(((self._points - point) ** 2).sum(axis=1)))]), np.ones(1)
