r"""Weights of nodes from any regressor of scikit-learn.

The values of all nodes are :math:`\bar y + V\,\Lambda`, with few orthonormal columns V and the principal components
:math:`\Lambda`. A regressor f that learns the rows of V, each times the size of its component, gives the weights
:math:`w(x) = 1 / n + V f(x)`, which add up to 1: a prediction is then a weighted sum of the nodes, whatever is
predicted.
"""

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import KFold

from stellarhml.manifold.line_tables import principal_components
from stellarhml.manifold.regression import Scaling, full_rows, held_out_samples, inner_nodes

_LEFT_OUT = 1e-6  # share of the variance in the components that are not learnt
_FOLDS = 5
_STEP = 1e-4  # of the points, for derivatives: central differences


class EstimatorWeights:
    """Weights of nodes by a regressor of scikit-learn.

    `nodes` (n_nodes, n_labels) are distinct; `variables` names the variable of each label, or is None. The `regressor`
    is cloned and fitted on the labels, each scaled from -1 to 1 over the nodes, and the components of `values`
    (n_nodes, n_values), all in the same unit, the largest of which varies by 1.
    """

    def __init__(self, nodes, variables, values, regressor):
        self.nodes = nodes
        self._scaling = Scaling(nodes, variables)
        self._points = self._scaling.points(nodes)[0]
        values = values - values.mean(axis=0)
        vectors, sizes = principal_components(values @ values.T)
        left_out = 1 - np.cumsum(sizes**2) / max((sizes**2).sum(), 1e-300)
        kept = int(np.searchsorted(-left_out, -_LEFT_OUT)) + 1
        self._vectors, sizes = vectors[:, :kept], sizes[:kept]
        self._unit = sizes / max(sizes.max(initial=0.0), 1e-300) * np.sqrt(len(nodes))
        self._regressor = self._fitted(regressor, slice(None))
        self._samples = self._held_out(regressor)

    def weights(self, labels, derivatives=False):
        """Weights of the nodes at labels, which are outside, and derivatives, as those of `RegressionWeights`.

        Outside are labels outside the ranges of the nodes.
        """
        points, beyond, rate = self._scaling.points(labels)
        outside = beyond.any(axis=1)
        if not derivatives:
            return full_rows(self._at(self._regressor, points)), outside
        steps = _STEP * np.eye(points.shape[1])
        around = np.concatenate([points, *(points + step for step in steps), *(points - step for step in steps)])
        weights, *moved = self._at(self._regressor, around).reshape(-1, len(points), len(self.nodes))
        ahead, behind = moved[: len(steps)], moved[len(steps) :]
        slopes = [
            full_rows((high - low) / (2 * _STEP) * rate[:, k, None])
            for k, (high, low) in enumerate(zip(ahead, behind, strict=True))
        ]
        return full_rows(weights), outside, slopes

    def fill_weights(self, labels):
        """Zeros, shape (n, n_labels): a regression has no missing nodes."""
        return np.zeros(labels.shape)

    def split_at_breaks(self, labels):
        """Return None: a regression has no cells with a jump."""

    def leave_one_out(self):
        """Predictions of nodes inside the ranges, in five parts, each by a regressor fitted on the others."""
        return self._samples

    def _fitted(self, regressor, rows):
        targets = self._vectors[rows] * self._unit
        return clone(regressor).fit(self._points[rows], targets) if targets.size else None

    def _at(self, regressor, points):
        """Weights (n, n_nodes) at points."""
        weights = np.full((len(points), len(self.nodes)), 1 / len(self.nodes))
        if regressor is not None:
            found = np.asarray(regressor.predict(points), dtype=np.float64).reshape(len(points), -1)
            weights += (found / self._unit) @ self._vectors.T
        return weights

    def _held_out(self, regressor):
        """ErrorSamples of the nodes inside the ranges."""
        inner = inner_nodes(self.nodes)
        if len(self.nodes) < 2 * _FOLDS:
            inner[:] = False
        held_out, weights = [], []
        for rest, part in KFold(_FOLDS, shuffle=True, random_state=0).split(self.nodes) if inner.any() else ():
            tested = part[inner[part]]
            if len(tested):
                held_out.append(tested)
                weights.append(self._at(self._fitted(regressor, rest), self._points[tested]))
        if not held_out:
            return held_out_samples(self.nodes, np.empty(0, np.int64), np.empty((0, len(self.nodes))), 1.0)
        held_out, weights = np.concatenate(held_out), np.concatenate(weights)
        order = np.argsort(held_out)
        return held_out_samples(self.nodes, held_out[order], weights[order], 1.0)
