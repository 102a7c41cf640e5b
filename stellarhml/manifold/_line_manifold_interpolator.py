"""LineManifoldInterpolator: line parameters as functions of the labels."""

import copy
import warnings

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from stellarhml._sklearn import HasMethods, StrOptions, fit_context
from stellarhml._state import StateError, check_keys, estimator_state, make_estimator, take, take_array
from stellarhml._validation import check_label_names, feature_names, is_plain, take_feature_names
from stellarhml.exceptions import ExtrapolationWarning, LabelsOutsideGridError, PersistenceError
from stellarhml.manifold.estimator_weights import EstimatorWeights
from stellarhml.manifold.lattice import LATTICE_SHARE, LatticeWeights
from stellarhml.manifold.line_tables import LineBank, LineFactors
from stellarhml.manifold.regression import MOST_NODES, RegressionWeights
from stellarhml.manifold.scattered import ScatteredWeights, node_spacings
from stellarhml.manifold.variables import DEFAULT_VARIABLES, check_variable_values, check_variables

_MOST_VALUES = 8192  # about so many values of each node show how well a regression predicts


class LineManifoldInterpolator(MultiOutputMixin, RegressorMixin, TransformerMixin, BaseEstimator):
    r"""Interpolate the parameters of every line over the grid of labels.

    One sparse vector of node weights serves all lines: :math:`\theta_j(x) = \sum_k w_k(x)\,\theta_{jk}`, piecewise
    cubic in each label, or multilinear as in the paper. A line that is absent at some of the nodes fades: its shape is
    the weighted mean over the nodes that have it, and its amplitude is multiplied by their total weight, so that it
    goes to zero continuously.

    Parameters
    ----------
    method : {"auto", "linear", "scattered", "regression"}, default="auto"
        "linear" is the paper's, multilinear, and needs every node of a rectilinear grid. "auto" is piecewise cubic in
        labels of three values and more; it takes grids with missing nodes, which are interpolated between their
        neighbours, and falls back to "scattered" where nodes fill less than half of the grid: linear on a Delaunay
        triangulation for two and three labels, inverse distances for more. "regression" is for many labels, scattered
        or on a grid: smooth functions of the labels, learnt from up to 3000 nodes, see `regressor`.
    regressor : estimator, default=None
        With method="regression", a regressor of scikit-learn that learns several outputs. It is fitted on the labels,
        each scaled from -1 to 1 over the nodes, and the principal components of the nodes' values; derivatives are
        central differences. None takes, of a Gaussian process with a length scale for each label, and of polynomials
        with all interactions up to degree 4, what predicts held-out nodes best.
    absent : {"fade", "vanish"}, default="fade"
        Treatment of a line that is absent at some of the surrounding nodes. "vanish" is the paper's rule: the log
        amplitude is -1000 at those nodes and lines below -100 are dropped, so that the line is gone at a tenth of the
        way. In a regression neither is used: an absent line has its mean shape and its smallest amplitude.
    breaks : dict, default=None
        Values at which the grid jumps, such as ``{"teff": [5050]}`` for the jump of PHOENIX-ACES between 5000 and
        5100 K: with method="auto", the cubic does not use nodes across a jump, and cells with a jump are linear. None:
        a :class:`SpectrumGenerator` finds the jumps in its spectra, and the interpolator alone assumes none; ``{}``:
        there are none.
    extrapolate : {"raise", "nan", "nearest"}, default="raise"
        Treatment of labels outside the grid: an error, NaN, or the nearest point of the grid; the latter two with an
        :class:`~stellarhml.exceptions.ExtrapolationWarning` that states their number.
    parameters : sequence of str, default=("center", "log_amplitude", "log_sigma", "log_gamma")
        Parameters of a line, in the order of the columns; must contain "log_amplitude". Only used where lines can be
        absent, in a sparse matrix or an array with NaN.
    label_names : sequence of str, default=None
        Names of the labels, for messages and `variables`. None: ("teff", "logg", "feh") for three.
    variables : dict of str to str, default=None
        Variable in which to interpolate each label, by the label's name: "linear" (the label itself), "inverse"
        (-5040 / x), "log", "saturating" (-exp(-0.2 x), x in dex). None is ``{"feh": "saturating"}`` for method="auto"
        on a rectilinear grid, and otherwise ``{}``, the labels themselves.

    Attributes
    ----------
    nodes_ : ndarray of shape (n_nodes, n_labels), dtype float64
        Distinct labels, sorted.
    bounds_ : ndarray of shape (n_labels, 2), dtype float64
        Smallest and largest value of each label.
    table_ : LineBank, LineFactors or ndarray
        Line parameters of the training rows: a bank if lines can be absent, or its factors.
    n_features_in_ : int
        Number of labels.

    See Also
    --------
    VoigtLineDecomposer : Finds the lines.
    SpectrumGenerator : Combines both, and renders spectra.

    Examples
    --------
    >>> import numpy as np
    >>> from stellarhml import LineManifoldInterpolator
    >>> labels = np.array([[5000.0, 4.0], [5000.0, 5.0], [6000.0, 4.0], [6000.0, 5.0]])
    >>> theta = np.array([[1.0], [2.0], [3.0], [4.0]])
    >>> LineManifoldInterpolator().fit(labels, theta).predict([[5500.0, 4.5]])
    array([[2.5]])
    """

    _parameter_constraints: dict = {
        "method": [StrOptions({"auto", "linear", "scattered", "regression"})],
        "regressor": [HasMethods(["fit", "predict"]), None],
        "absent": [StrOptions({"fade", "vanish"})],
        "breaks": [dict, None],
        "extrapolate": [StrOptions({"raise", "nan", "nearest"})],
        "parameters": ["array-like"],
        "label_names": ["array-like", None],
        "variables": [dict, None],
    }

    def __init__(
        self,
        *,
        method="auto",
        regressor=None,
        absent="fade",
        breaks=None,
        extrapolate="raise",
        parameters=("center", "log_amplitude", "log_sigma", "log_gamma"),
        label_names=None,
        variables=None,
    ):
        self.method = method
        self.regressor = regressor
        self.absent = absent
        self.breaks = breaks
        self.extrapolate = extrapolate
        self.parameters = parameters
        self.label_names = label_names
        self.variables = variables

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, flux=None):
        """Store the lines of each node.

        Parameters
        ----------
        X : array-like of shape (n_nodes, n_labels)
            Labels. Rows that occur more than once are averaged.
        y : array-like or sparse matrix of shape (n_nodes, n_outputs) or (n_nodes,)
            Line parameters. Lines may be absent in a sparse matrix, or as NaN in an array.
        flux : array-like of shape (n_nodes, n_pixels), default=None
            Fluxes of the nodes, which may be a memory map: a regression is the one that predicts them best. None: that
            predicts `y` best, all columns alike. A :class:`SpectrumGenerator` passes its spectra.

        Returns
        -------
        self : LineManifoldInterpolator
            The fitted interpolator.

        Raises
        ------
        GridIncompleteError
            If ``method="linear"`` and nodes are missing.
        ValueError
            If the numbers of rows differ, a value is not finite, lines are absent and the number of columns is not a
            multiple of the number of parameters, `variables` has an unknown name, or a variable that is undefined at a
            node, there is a `regressor` with another method, or a regression has more than 3000 nodes or `breaks`.
        """
        X = validate_data(self, X, dtype=np.float64)
        if y is None:
            raise ValueError(
                "This LineManifoldInterpolator estimator requires y to be passed, but the target y is None."
            )
        if not sparse.issparse(y):
            y = check_array(y, ensure_2d=False, dtype=np.float64, ensure_all_finite="allow-nan", input_name="y")
        else:
            y = sparse.csr_matrix(y, dtype=np.float64)
        check_consistent_length(X, y)
        names = check_label_names(self.label_names, X.shape[1])
        nodes, member = np.unique(X, axis=0, return_inverse=True)
        table = y
        if sparse.issparse(y) or np.isnan(y).any():
            n_parameters = self._n_parameters()
            if y.ndim == 1 or y.shape[1] % n_parameters:
                raise ValueError(
                    f"y has shape {y.shape} and absent lines, but its columns must be a multiple of the {n_parameters} "
                    f"`parameters` {tuple(self.parameters)}. Set `parameters` to those of the line profile."
                )
            table = LineBank.from_table(y, n_parameters)
        options = {"method": self.method, "variables": self.variables, "breaks": self.breaks}
        if self.method == "regression":
            table, values = self._regressed(table, flux, member.ravel())
            options |= {"regressor": self.regressor, "values": values}
        elif self.regressor is not None:
            raise ValueError(
                f"`regressor` is set, but method={self.method!r} does not use it. Set method='regression', or "
                "regressor=None."
            )
        weights = make_weights(nodes, names, **options)
        self._set_fitted(weights, member.ravel(), table, sparse_output=sparse.issparse(y))
        return self

    def predict(self, X):
        """Interpolate line parameters.

        Parameters
        ----------
        X : array-like of shape (n, n_labels)
            Labels.

        Returns
        -------
        theta : csr_matrix or ndarray of shape (n, n_outputs) or (n,)
            Line parameters, in the form of the `y` of `fit`.

        Raises
        ------
        LabelsOutsideGridError
            If labels lie outside the grid and ``extrapolate="raise"``.
        """
        check_is_fitted(self)
        weights, outside = self.node_weights(X)
        theta = self.interpolate(weights)
        if self.extrapolate == "nan" and outside.any():
            if sparse.issparse(theta):
                theta.data[np.repeat(outside, np.diff(theta.indptr))] = np.nan
            else:
                theta[outside] = np.nan
        return theta

    def interpolate(self, weights):
        """Combine the line parameters of the training rows.

        Parameters
        ----------
        weights : csr_matrix of shape (n, n_rows)
            Weight of each training row, as `node_weights` returns them.

        Returns
        -------
        theta : csr_matrix or ndarray of shape (n, n_outputs) or (n,)
            Line parameters, in the form of the `y` of `fit`.
        """
        if isinstance(self.table_, np.ndarray):
            return np.asarray(weights @ self.table_)
        n_parameters = self._n_parameters()
        n_columns = n_parameters * self.table_.n_lines
        rows = [self.lines_at(weights[i])[:2] for i in range(weights.shape[0])]
        columns = [(lines[:, None] * n_parameters + np.arange(n_parameters)).ravel() for lines, _ in rows]
        if not self._sparse_output:
            dense = np.full((len(rows), n_columns), np.nan)
            for i, (_, theta) in enumerate(rows):
                dense[i, columns[i]] = theta.ravel()
            return dense
        indptr = np.concatenate([[0], np.cumsum([len(c) for c in columns])])
        data = np.concatenate([theta.ravel() for _, theta in rows])
        return sparse.csr_matrix((data, np.concatenate(columns), indptr), shape=(len(rows), n_columns))

    def lines_at(self, weights, slopes=None, *, wanted=None):
        """Lines at weighted means of training rows, for a table of lines that can be absent.

        Parameters
        ----------
        weights : csr_matrix of shape (1, n_rows)
            Weight of each training row.
        slopes : list of csr_matrix of shape (1, n_rows), default=None
            Derivatives of the weights.
        wanted : ndarray of int, default=None
            Catalogue indices of the lines to compute, increasing. None: all.

        Returns
        -------
        lines, theta, slopes : ndarray of shape (n,), (n, n_parameters) and (n_slopes, n, n_parameters)
            Lines present, their parameters, and the derivatives of the parameters.
        """
        rows, values, changes = weights.indices, weights.data, None
        if slopes is not None:
            rows = np.unique(np.concatenate([rows, *(slope.indices for slope in slopes)]))
            together = sparse.vstack([weights, *slopes], format="csr")[:, rows].toarray()
            values, changes = together[0], together[1:]
        amplitude = tuple(self.parameters).index("log_amplitude")
        return self.table_.lines_at(rows, values, changes, amplitude=amplitude, absent=self.absent, wanted=wanted)

    def with_table(self, table):
        """Interpolator of the same nodes with another table of lines.

        Parameters
        ----------
        table : LineBank or LineFactors
            Lines of the same rows.

        Returns
        -------
        interpolator : LineManifoldInterpolator
            A shallow copy with that table.
        """
        other = copy.copy(self)
        other.table_ = table
        return other

    def transform(self, X):
        """Interpolate line parameters: the same as `predict`.

        Parameters
        ----------
        X : array-like of shape (n, n_labels)
            Labels.

        Returns
        -------
        theta : csr_matrix or ndarray of shape (n, n_outputs) or (n,)
            Line parameters.
        """
        return self.predict(X)

    def node_weights(self, X):
        """Weights of the training rows at given labels.

        Parameters
        ----------
        X : array-like of shape (n, n_labels)
            Labels.

        Returns
        -------
        weights : csr_matrix of shape (n, n_rows)
            Weight of each row of the training `X`; rows sum to 1.
        outside : ndarray of shape (n,), bool
            Labels outside the grid.
        """
        if not is_plain(self, X):
            check_is_fitted(self)
            X = validate_data(self, X, dtype=np.float64, reset=False)
        weights, outside = self._locate(X)
        if outside.any():
            report_outside(X, outside, self.bounds_, check_label_names(self.label_names, X.shape[1]), self.extrapolate)
        return weights, outside

    def locate(self, X, *, derivatives=False):
        """Weights of the training rows at the nearest point of the grid, without warnings.

        Parameters
        ----------
        X : array-like of shape (n, n_labels)
            Labels.
        derivatives : bool, default=False
            Whether to return the derivatives of the weights too.

        Returns
        -------
        weights : csr_matrix of shape (n, n_rows)
            Weight of each row of the training `X`; rows sum to 1.
        outside : ndarray of shape (n,), bool
            Labels outside the grid.
        slopes : list of csr_matrix of shape (n, n_rows)
            Derivatives of the weights with respect to each label, only with `derivatives`. At a kink of the weights,
            those towards higher labels; zero for labels that were moved to the grid.
        """
        if not is_plain(self, X):
            check_is_fitted(self)
            X = validate_data(self, X, dtype=np.float64, reset=False)
        return self._locate(X, derivatives=derivatives)

    @property
    def node_of_row_(self):
        """Index in `nodes_` of each row of the training `X`, ndarray of shape (n_rows,), int."""
        check_is_fitted(self)
        return self._member

    @property
    def spacings_(self):
        """Distance between neighbouring nodes along each label, on average where they are scattered: (n_labels,)."""
        check_is_fitted(self)
        return node_spacings(self.nodes_)

    def split_at_breaks(self, X):
        """Replace labels in cells with a jump by the two nodes at its ends, see `stellarhml.manifold.breaks`.

        Parameters
        ----------
        X : ndarray of shape (n, n_labels)
            Labels.

        Returns
        -------
        mixture : Mixture or None
            None without breaks.
        """
        return self._weights.split_at_breaks(np.asarray(X, dtype=np.float64))

    def fill_weights(self, X):
        """Weights of missing nodes that are filled from others, by the label along which they are filled.

        Parameters
        ----------
        X : ndarray of shape (n, n_labels)
            Labels; those outside are moved to the edge of the grid.

        Returns
        -------
        weights : ndarray of shape (n, n_labels)
            For each label, the absolute weights of the missing nodes that are predicted along it, each times the ratio
            of its error to that of a held-out node. 0 far from missing nodes.
        """
        return self._weights.fill_weights(np.asarray(X, dtype=np.float64))

    def error_samples(self):
        """Held-out predictions that measure the error of interpolation.

        Returns
        -------
        samples : ErrorSamples
            Samples over the rows of the training `X`: inner nodes, predicted along each label from their neighbours; on
            labels with two values, the middle, compared with the mean of the two nodes; scattered nodes inside the
            hull, predicted from the others. Missing nodes are neither predicted nor used. Small grids may have no
            samples.
        """
        check_is_fitted(self)
        samples = self._weights.leave_one_out()
        return samples._replace(weights=self._onto_rows(samples.weights), targets=self._onto_rows(samples.targets))

    def get_feature_names_out(self, input_features=None):
        """Names of the columns of `transform`.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        names : ndarray of shape (n_outputs,), dtype object
            ``"output0"``, ``"output1"``, ...
        """
        check_is_fitted(self)
        table = self.table_
        if isinstance(table, np.ndarray):
            n_outputs = 1 if table.ndim == 1 else table.shape[1]
        else:
            n_outputs = table.n_lines * self._n_parameters()
        return np.array([f"output{i}" for i in range(n_outputs)], dtype=object)

    def to_state(self) -> dict:
        """State for a file: parameters and fitted values."""
        fitted = None
        if hasattr(self, "table_"):
            fitted = {
                "weights": self._weights,
                "node_of_row": self._member,
                "table": self.table_,
                "sparse_output": self._sparse_output,
                "feature_names": feature_names(self),
            }
        state = estimator_state(self, fitted)
        if self.regressor is not None:
            raise PersistenceError(
                f"The LineManifoldInterpolator has the `regressor` {type(self.regressor).__name__}, of scikit-learn, "
                "which an ASDF file cannot hold. Save to a name that ends in .joblib, or fit with regressor=None."
            )
        plain = {"parameters": list(self.parameters)}
        if self.label_names is not None:
            plain["label_names"] = [str(name) for name in self.label_names]
        if self.breaks is not None:
            plain["breaks"] = {name: np.ravel(values).astype(float).tolist() for name, values in self.breaks.items()}
        state["parameters"].update(plain)
        return state

    @classmethod
    def from_state(cls, state):
        """Rebuild from its state; StateError if that is invalid."""
        interpolator, fitted = make_estimator(cls, state)
        if interpolator.regressor is not None:
            raise StateError("`regressor` must be None in a file.")
        if fitted is None:
            return interpolator
        check_keys(fitted, ("weights", "node_of_row", "table", "sparse_output", "feature_names"))
        weights = take(fitted, "weights", (LatticeWeights, ScatteredWeights, RegressionWeights))
        n_nodes, n_labels = weights.nodes.shape
        member = take_array(fitted, "node_of_row", dtype="i8", shape=(None,), low=0, high=n_nodes - 1)
        if (np.bincount(member, minlength=n_nodes) == 0).any():
            raise StateError("`node_of_row` leaves a node without a row; each needs at least one.")
        table = take(fitted, "table", (LineBank, LineFactors, np.ndarray))
        try:
            check_label_names(interpolator.label_names, n_labels)
            if isinstance(table, np.ndarray):
                shape = (len(member), None)[: max(table.ndim, 1)]
                table = take_array(fitted, "table", dtype="f8", shape=shape)
            elif (table.n_nodes, table.origin.shape[1]) != (len(member), interpolator._n_parameters()):
                raise StateError(
                    f"`table` has {table.n_nodes} rows of lines of {table.origin.shape[1]} parameters; it needs "
                    f"{len(member)} rows, and {interpolator._n_parameters()} parameters."
                )
        except (TypeError, ValueError) as error:
            raise StateError(str(error)) from None
        vars(interpolator).update(take_feature_names(fitted, n_labels))
        interpolator._set_fitted(weights, member, table, sparse_output=take(fitted, "sparse_output", bool))
        return interpolator

    @classmethod
    def from_state_1_0(cls, state):
        """Rebuild from a state of version 1.0, which has no regressor; StateError if it is invalid."""
        parameters = state.get("parameters") if isinstance(state, dict) else None
        if not isinstance(parameters, dict):
            return cls.from_state(state)
        if "regressor" in parameters:
            raise StateError("An interpolator before version 1.1 has no `regressor`.")
        return cls.from_state(state | {"parameters": parameters | {"regressor": None}})

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = True
        return tags

    def _regressed(self, table, flux, member):
        """Table of a regression, of lines that all nodes have, and what it predicts, (n_nodes, n_values)."""
        if isinstance(table, LineBank):
            table = table.completed(tuple(self.parameters).index("log_amplitude"))
            values = table.values.reshape(table.n_nodes, -1) if flux is None else flux
        else:
            values = table if flux is None else flux
        if len(values) != len(member):
            raise ValueError(f"`flux` has {len(values)} rows, but X has {len(member)}. Pass the flux of each node.")
        values = np.asarray(values).reshape(len(member), -1)
        values = np.asarray(values[:, :: max(values.shape[1] // _MOST_VALUES, 1)], dtype=np.float64)
        mean = np.zeros((member.max() + 1, values.shape[1]))
        np.add.at(mean, member, values)
        return table, mean / np.bincount(member)[:, None]

    def _set_fitted(self, weights, member, table, *, sparse_output):
        nodes = weights.nodes
        self.nodes_, self._weights, self._member = nodes, weights, member
        self.bounds_ = np.stack([nodes.min(axis=0), nodes.max(axis=0)], axis=1)
        # spectra of the same node share its weight
        share = 1 / np.bincount(member)[member]
        shape = (len(nodes), len(member))
        self._spread = sparse.csr_matrix((share, (member, np.arange(len(member)))), shape=shape)
        # without repeated nodes, the column of a node is just renumbered
        self._row_of = np.argsort(member).astype(np.int32) if len(nodes) == len(member) else None
        self.table_, self._sparse_output = table, sparse_output

    def _locate(self, X, *, derivatives=False):
        """`locate` without checks, for a float64 array of finite labels: a third of the time for one row."""
        weights, outside, *slopes = self._weights.weights(X, derivatives)
        weights = self._onto_rows(weights)
        return (
            (weights, outside, [self._onto_rows(slope) for slope in slopes[0]]) if derivatives else (weights, outside)
        )

    def _onto_rows(self, weights):
        """Weights of the training rows from those of the nodes, which are overwritten."""
        if self._row_of is None:
            weights.sort_indices()
            return (weights @ self._spread).tocsr()
        weights.indices = self._row_of[weights.indices]
        weights.has_sorted_indices = False
        return weights

    def _n_parameters(self):
        if "log_amplitude" not in tuple(self.parameters):
            raise ValueError(f"`parameters` is {tuple(self.parameters)}; it must contain 'log_amplitude'.")
        return len(self.parameters)


def make_weights(nodes, names, *, method, variables, breaks, regressor=None, values=None):
    """Weights of distinct nodes (n_nodes, n_labels), in their variables; options as in `LineManifoldInterpolator`.

    `values` (n_nodes, n_values) are those that a regression predicts.

    Raises ValueError if `variables` or `breaks` do not match the labels, or a regression has too many nodes, and
    GridIncompleteError if ``method="linear"`` and nodes are missing.
    """
    grid = method == "linear" or (method == "auto" and LatticeWeights.share(nodes) >= LATTICE_SHARE)
    if variables is None:
        default = DEFAULT_VARIABLES if grid and method == "auto" else {}
        variables = {name: variable for name, variable in default.items() if name in names}
    variables = check_variables(variables, names)
    check_variable_values(nodes, variables, names)
    breaks = _check_breaks(breaks or {}, names)
    if method == "regression":
        return _make_regression(nodes, variables, values, regressor, breaks)
    if not grid and len(names) > 1:
        return ScatteredWeights(nodes, variables)
    full_for = names if method == "linear" else None
    return LatticeWeights(nodes, smooth=method == "auto", full_for=full_for, variables=variables, breaks=breaks)


def _make_regression(nodes, variables, values, regressor, breaks):
    if any(breaks):
        raise ValueError(
            "`breaks` is set, but a regression is smooth. Set method='auto', or fit a generator on each side."
        )
    if regressor is not None:
        return EstimatorWeights(nodes, variables, values, regressor)
    if len(nodes) > MOST_NODES:
        raise ValueError(
            f"There are {len(nodes)} nodes; a regression without a `regressor` takes at most {MOST_NODES}. Pass fewer, "
            "set method='auto' if they are a grid, or set a `regressor`."
        )
    return RegressionWeights.learn(nodes, variables, values)


def _check_breaks(breaks, names):
    """Breaks of each label, as a tuple of tuples of float."""
    unknown = [name for name in breaks if name not in names]
    if unknown:
        raise ValueError(
            f"`breaks` has {unknown}, but the labels are {list(names)}. Use those names, or set `label_names`."
        )
    found = {name: np.atleast_1d(np.asarray(values, dtype=np.float64)) for name, values in breaks.items()}
    for name, values in found.items():
        if values.ndim != 1 or not np.isfinite(values).all():
            raise ValueError(
                f"`breaks` of {name!r} is {breaks[name]!r}; it needs a list of finite values of the label."
            )
    return tuple(tuple(found[name].tolist()) if name in found else () for name in names)


def report_outside(labels, outside, bounds, names, extrapolate):
    """Raise LabelsOutsideGridError if `extrapolate` is "raise", else warn, with the number of labels outside.

    `outside` (n,), bool, is True for labels (n, n_labels) outside, at least one; `bounds` is (n_labels, 2).
    """
    limits = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in zip(names, bounds, strict=True))
    first = {name: float(value) for name, value in zip(names, labels[outside.argmax()], strict=True)}
    found = f"{outside.sum()} of {len(labels)} labels lie outside the grid ({limits}), first {first}"
    if extrapolate == "raise":
        raise LabelsOutsideGridError(
            f"{found}. Stay inside, or set extrapolate='nearest' or 'nan' on the LineManifoldInterpolator."
        )
    fate = "set to NaN" if extrapolate == "nan" else "moved to the nearest point of the grid"
    warnings.warn(f"{found}; they were {fate}.", ExtrapolationWarning, stacklevel=4)
