"""Interpolation weights for scattered nodes."""

import numpy as np
from scipy import sparse
from scipy.spatial import Delaunay, QhullError
from threadpoolctl import threadpool_limits

from stellarhml._state import StateError, check_keys
from stellarhml.manifold.leave_one_out import scattered_samples
from stellarhml.manifold.variables import VARIABLES, take_nodes

_MAX_SIMPLEX_LABELS = 3  # a triangulation grows exponentially with the number of labels
_EDGE = 1e-9

_MOST_MISSING = 4.0  # a lattice with more corners for each node is taken as scattered

_STORED_NODES, _STORED_SIMPLICES = 3000, 15
"""Limits for a file: nodes to triangulate, and simplices per node, of which some sets of nodes have very many."""


class ScatteredWeights:
    """Weights of scattered nodes: linear on a Delaunay triangulation, or inverse distance.

    Up to three labels, the weights are barycentric coordinates in the simplex around the labels (exact for functions
    linear in the labels). With more labels, or nodes that span no volume, they are proportional to the inverse square
    of the distance to the nearest 2 n_labels + 2 nodes. Distances are in units of each label's range. `nodes` (n_nodes,
    n_labels) are distinct; `variables` names the variable of each label in which to interpolate.
    """

    def __init__(self, nodes, variables=None):
        self.nodes = nodes
        self._variables = variables
        self._bent = [(k, VARIABLES[name]) for k, name in enumerate(variables or ()) if name != "linear"]
        self._bounds = nodes.min(axis=0), nodes.max(axis=0)
        points, _ = self._positions(nodes)
        self._low = points.min(axis=0)
        span = np.ptp(points, axis=0)
        self._constant = span == 0
        self._span = np.where(self._constant, 1.0, span)
        self._points = (points - self._low) / self._span
        self._simplices = None
        if 2 <= nodes.shape[1] <= _MAX_SIMPLEX_LABELS and len(nodes) > nodes.shape[1] + 1:
            try:
                with threadpool_limits(1):  # thousands of 3 x 3 systems, which threads only slow down
                    self._simplices = Delaunay(self._points)
                    self._transform = self._simplices.transform
            except QhullError:  # nodes in a plane or on a line
                self._simplices = None

    def to_state(self) -> dict:
        """State for a file: "nodes" and "variables", from which everything else is computed."""
        return {"nodes": self.nodes, "variables": None if self._variables is None else list(self._variables)}

    @classmethod
    def from_state(cls, state):
        """Rebuild from its state; StateError if that is invalid."""
        check_keys(state, ("nodes", "variables"))
        nodes, variables = take_nodes(state)
        _check_triangulation(nodes)
        return cls(nodes, variables)

    def weights(self, labels, derivatives=False):
        """Weights of the nodes at labels (n, n_labels), those of the nearest node outside; and which are outside.

        Weights are a csr_matrix (n, n_nodes) whose rows sum to 1. Outside are rows outside the convex hull (without a
        triangulation: outside the ranges of the labels). With `derivatives`, a list follows: derivatives of the weights
        by each label, whose rows sum to 0; zero where the nearest node is taken, and for labels with one value.
        """
        positions, moved = self._positions(labels)
        points = (positions - self._low) / self._span
        if self._simplices is None:
            outside = ((points < -_EDGE) | (points > 1 + _EDGE)).any(axis=1)
            parts = [self._inverse_distance(point) for point in points]
        else:
            simplex = self._simplices.find_simplex(points, tol=_EDGE)
            outside = simplex < 0
            parts = [self._barycentric(p, s) for p, s in zip(points, simplex, strict=True)]
        slack = _EDGE * np.maximum(np.abs(self._bounds[0]), 1)
        beyond = (labels < self._bounds[0] - slack) | (labels > self._bounds[1] + slack)
        outside |= beyond[:, self._constant].any(axis=1) | (moved & beyond).any(axis=1)
        shape = (len(labels), len(self.nodes))
        counts = [len(nodes) for nodes, _, _ in parts]
        pointers = np.concatenate([[0], np.cumsum(counts)])
        columns = np.concatenate([nodes for nodes, _, _ in parts])
        values = np.concatenate([weight for _, weight, _ in parts])
        weights = sparse.csr_matrix((values, columns, pointers), shape=shape)
        if not derivatives:
            return weights, outside
        rate = np.where(self._constant | (moved & beyond), 0.0, 1 / self._span)
        for k, variable in self._bent:
            rate[:, k] *= variable.slope(np.clip(labels[:, k], self._bounds[0][k], self._bounds[1][k]))
        slopes = np.concatenate([slope for _, _, slope in parts]) * np.repeat(rate, counts, axis=0)
        return weights, outside, [sparse.csr_matrix((slope, columns, pointers), shape=shape) for slope in slopes.T]

    def fill_weights(self, labels):
        """Zeros, shape (n, n_labels): scattered nodes have no missing nodes."""
        return np.zeros(labels.shape)

    def split_at_breaks(self, labels):
        """Return None: scattered nodes have no cells with a jump."""

    def leave_one_out(self):
        """Held-out predictions that measure the error of interpolation.

        Nodes strictly inside the hull (without a triangulation: inside all ranges) are predicted from the others.
        """
        if self._simplices is None:
            inner = ((self._points > 0) & (self._points < 1) | self._constant).all(axis=1) & ~self._constant.all()
            inside = np.flatnonzero(inner)
        else:
            inside = np.setdiff1d(np.arange(len(self.nodes)), self._simplices.convex_hull)
        return scattered_samples(self._without, self.nodes, inside)

    def _without(self, node):
        """Other nodes and their weights at `node`."""
        if self._simplices is None:
            others = np.delete(np.arange(len(self.nodes)), node)
        else:
            # without the node, its neighbours are the corners of the new simplex; their neighbours ensure that it
            # exists, and the outermost nodes keep the units of the labels
            start, neighbours = self._simplices.vertex_neighbor_vertices
            ring = neighbours[start[node] : start[node + 1]]
            rings = [neighbours[start[k] : start[k + 1]] for k in ring]
            outermost = np.concatenate([self._points.argmin(axis=0), self._points.argmax(axis=0)])
            others = np.setdiff1d(np.concatenate([ring, *rings, outermost]), [node])
        at = self.nodes[node : node + 1]
        weights, outside = ScatteredWeights(self.nodes[others], self._variables).weights(at)
        return others[weights.indices], weights.data, bool(outside[0])

    def _positions(self, labels):
        """Variables of labels, and a mask of labels moved into the range of the nodes, where variables are defined."""
        moved = np.zeros(labels.shape, dtype=bool)
        positions = labels.copy()
        for k, variable in self._bent:
            low, high = self._bounds[0][k], self._bounds[1][k]
            moved[:, k] = (labels[:, k] < low) | (labels[:, k] > high)
            positions[:, k] = variable.value(np.clip(labels[:, k], low, high))
        return positions, moved

    def _barycentric(self, point, simplex):
        """Nodes, their weights, and the derivatives of the weights with respect to the point."""
        if simplex < 0:
            return self._nearest(point)
        transform = self._transform[simplex]
        if not np.isfinite(transform).all():  # a flat simplex on the hull
            return self._inverse_distance(point)
        first = transform[:-1] @ (point - transform[-1])
        weight = np.clip(np.append(first, 1 - first.sum()), 0, None)
        slope = np.concatenate([transform[:-1], -transform[:-1].sum(axis=0, keepdims=True)])
        return self._simplices.simplices[simplex], weight / weight.sum(), slope

    def _inverse_distance(self, point):
        away = point - self._points
        distance = (away**2).sum(axis=1)
        nearest = np.argsort(distance, kind="stable")[: 2 * len(point) + 2]
        if distance[nearest[0]] <= _EDGE**2:  # at a node inverse squares are flat
            return nearest[:1], np.ones(1), np.zeros((1, len(point)))
        weight = 1 / distance[nearest]
        slope = -2 * (weight**2)[:, None] * away[nearest]
        share = weight / weight.sum()
        return nearest, share, (slope - share[:, None] * slope.sum(axis=0)) / weight.sum()

    def _nearest(self, point):
        node = int(np.argmin(((self._points - point) ** 2).sum(axis=1)))
        return np.array([node]), np.ones(1), np.zeros((1, len(point)))


def node_spacings(nodes):
    """Distance between neighbouring nodes (n_nodes, n_labels) along each label: median, of scattered nodes on average.

    It is 1 for a label with one value.
    """
    axes = [np.unique(column) for column in nodes.T]
    steps = np.array([np.median(np.diff(axis)) if len(axis) > 1 else 1.0 for axis in axes])
    if np.prod([float(len(axis)) for axis in axes]) > _MOST_MISSING * len(nodes):
        varied = np.array([len(axis) > 1 for axis in axes])
        count = len(nodes) ** (1 / np.count_nonzero(varied))
        steps[varied] = np.ptp(nodes, axis=0)[varied] / max(count - 1, 1)
    return steps


def _check_triangulation(nodes):
    """Raise StateError if the triangulation of nodes in a file could take long, judged from some of them."""
    n_nodes, n_labels = nodes.shape
    if not 2 <= n_labels <= _MAX_SIMPLEX_LABELS:
        return
    if n_nodes > _STORED_NODES:
        raise StateError(f"There are {n_nodes} scattered nodes; a file holds at most {_STORED_NODES}.")
    order = np.random.default_rng(0).permutation(n_nodes)
    for n in (250, 1000):
        if n_nodes <= n:
            break
        some = nodes[order[:n]]
        span = np.ptp(some, axis=0)
        try:
            simplices = Delaunay((some - some.min(axis=0)) / np.where(span == 0, 1.0, span)).simplices
        except QhullError:
            return
        if len(simplices) > _STORED_SIMPLICES * n:
            raise StateError(f"{n} of the scattered nodes make {len(simplices)} simplices, so all would take too long.")
