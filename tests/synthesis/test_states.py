"""States of all that a generator holds: made again bit by bit, and refused where a compiled kernel would be misled."""

import contextlib
import copy
import itertools

import numpy as np
import pytest
from scipy import sparse

from stellarhml import LineManifoldInterpolator, SpectrumGenerator, VoigtLineDecomposer
from stellarhml._state import StateError
from stellarhml.datasets import make_stellar_grid
from stellarhml.lines.prior import LinePrior
from stellarhml.manifold.lattice import LatticeWeights
from stellarhml.manifold.line_tables import LineBank, LineFactors
from stellarhml.manifold.residual import CodedRows, ResidualBasis
from stellarhml.manifold.scattered import ScatteredWeights
from stellarhml.synthesis.error_model import ErrorModel, LabelShifts

BETWEEN = np.array([[5120.0, 3.7, -0.35], [5480.0, 4.2, -0.1]])
QUICK = VoigtLineDecomposer(n_rounds=0, subsample=6)
PLAIN = (type(None), bool, int, float, str, np.ndarray)


def again(value):
    """An object from the states of all its parts, none of which may be seen twice."""
    seen = set()

    def copied(value):
        if hasattr(value, "to_state"):
            assert id(value) not in seen, f"{type(value).__name__} is twice in a state"
            seen.add(id(value))
            state = value.to_state()
            assert all(isinstance(key, str) and not key.startswith("_") for key in state)
            return type(value).from_state({key: copied(part) for key, part in state.items()})
        if isinstance(value, dict):
            return {key: copied(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [copied(part) for part in value]
        assert sparse.issparse(value) or type(value) in PLAIN, type(value)
        return copy.deepcopy(value)

    return copied(value)


@pytest.fixture(scope="module")
def data():
    return make_stellar_grid(n_teff=5, n_logg=3, n_feh=3, n_pixels=300, n_lines=6, random_state=1)


@pytest.fixture(scope="module")
def generators(data):
    """A generator of a grid with a hole, one of lines in a bank, and one of scattered nodes."""
    whole = SpectrumGenerator(wavelength=data.wavelength, decomposer=QUICK)
    keep = np.arange(len(data.labels)) != 22
    bank = copy.deepcopy(whole).set_params(n_factors=None, label_names=["a", "b", "c"])
    some = np.random.default_rng(0).permutation(len(data.labels))[:20]
    scattered = SpectrumGenerator(
        wavelength=data.wavelength, decomposer=QUICK, interpolator=LineManifoldInterpolator(method="scattered")
    )
    return {
        "hole": whole.fit(data.labels[keep], data.flux[keep]),
        "bank": bank.fit(data.labels, data.flux),
        "scattered": scattered.fit(data.labels[some], data.flux[some]),
    }


def parts(generators):
    """One object of each class."""
    hole, bank = generators["hole"], generators["bank"]
    error_map = hole.error_map_
    return {
        LinePrior: hole.decomposer_._prior,
        VoigtLineDecomposer: hole.decomposer_,
        LineManifoldInterpolator: hole.interpolator_,
        LatticeWeights: hole.interpolator_._weights,
        ScatteredWeights: generators["scattered"].interpolator_._weights,
        CodedRows: hole.residual_.rows,
        ResidualBasis: hole.residual_,
        LineFactors: hole.interpolator_.table_,
        LineBank: bank.interpolator_.table_,
        ErrorModel: error_map,
        LabelShifts: error_map.shifts,
        SpectrumGenerator: hole,
    }


@pytest.mark.parametrize("name", ["hole", "bank", "scattered"])
def test_a_generator_is_made_again_bit_by_bit(generators, data, name):
    ours = generators[name]
    theirs = again(ours)
    nodes = ours.interpolator_.nodes_
    inside = np.random.default_rng(0).dirichlet(np.ones(len(nodes)), size=2) @ nodes
    for options in ({}, {"pixels": slice(30, 180), "rv": [-20.0, 35.0]}):
        for one, two in zip(
            ours.predict(inside, return_std=True, **options),
            theirs.predict(inside, return_std=True, **options),
            strict=True,
        ):
            np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(ours.jacobian(inside, **options), theirs.jacobian(inside, **options))
    assert ours.line_table(inside[0]).equals(theirs.line_table(inside[0]))
    assert ours.error_map_.to_frame().equals(theirs.error_map_.to_frame())
    np.testing.assert_array_equal(ours.error_map_.shifts.near(inside[0]), theirs.error_map_.shifts.near(inside[0]))
    assert theirs.error_map_.shifts.interpolator is theirs.interpolator_
    assert ours.label_names_ == theirs.label_names_
    one, two = (each.decomposer_.decompose(data.flux[:3]) for each in (ours, theirs))
    np.testing.assert_array_equal(one.theta.toarray(), two.theta.toarray())
    np.testing.assert_array_equal(one.flags, two.flags)
    assert vars(ours).keys() == vars(theirs).keys()
    assert vars(ours.interpolator_).keys() == vars(theirs.interpolator_).keys()
    assert vars(ours.decomposer_).keys() == vars(theirs.decomposer_).keys()


def test_unfitted_estimators_keep_their_parameters():
    model = SpectrumGenerator(
        wavelength=[8500.0, 8501.0],
        decomposer=VoigtLineDecomposer(store="here"),
        interpolator=LineManifoldInterpolator(breaks={"teff": [5050]}, variables={"feh": "linear"}),
    )
    theirs = again(model)
    assert not hasattr(theirs, "lines_")
    assert theirs.interpolator.breaks == {"teff": [5050.0]}
    assert theirs.interpolator.parameters == model.interpolator.parameters
    # a file does not say where to write
    assert theirs.decomposer.store is None


@pytest.mark.parametrize("sparse_output", [True, False])
def test_an_interpolator_of_any_table_is_made_again(sparse_output):
    labels = np.array(list(itertools.product([0.0, 1, 2], [0.0, 1, 3])))
    table = np.random.default_rng(0).normal(size=(9, 8))
    absent = table.copy()
    absent[2, :4] = np.nan
    for y in (table, table[:, 0], sparse.csr_matrix(table) if sparse_output else absent):
        ours = LineManifoldInterpolator(variables={}).fit(labels, y)
        one, two = (model.predict([[0.5, 2.0]]) for model in (ours, again(ours)))
        if sparse.issparse(one):
            one, two = one.toarray(), two.toarray()
        np.testing.assert_array_equal(one, two)
        assert again(ours).get_feature_names_out().tolist() == ours.get_feature_names_out().tolist()


def set_at(array, index, value):
    array = array.copy()
    array[index] = value
    return array


# class, key, and what becomes of its value
CORRUPTIONS = {
    LinePrior: [
        ("pixels", lambda x: set_at(x, 0, -1)),
        ("pixels", lambda x: x.astype(np.int32)),
        ("mean", lambda x: x[1:]),
        ("components", lambda x: x[:, 1:]),
        ("bounds", lambda x: x[::-1] + [[1], [0]]),
        ("coefficients", lambda x: x[1:]),
        ("coefficients", lambda x: set_at(x, 0, np.nan)),
        ("leverage", lambda x: np.nan),
    ],
    LatticeWeights: [
        ("nodes", lambda x: x[::-1]),
        ("nodes", lambda x: x[[0, 0, *range(2, len(x))]]),
        ("nodes", lambda x: x[[0, 14, 43]]),
        ("nodes", lambda x: np.diag(np.arange(40.0))[::-1]),  # a grid of 2^40 places
        ("nodes", lambda x: set_at(x, -1, np.inf)),
        ("nodes", lambda x: x[:0]),
        ("nodes", lambda x: x[:, :0]),
        ("smooth", lambda x: 1),
        ("variables", lambda x: ["cubic", *x[1:]]),
        ("variables", lambda x: x[1:]),
        ("variables", lambda x: [*x[:2], "log"]),  # of negative [Fe/H]
        ("breaks", lambda x: [[], []]),
        ("breaks", lambda x: [[np.nan], [], []]),
        ("breaks", lambda x: [["5050"], [], []]),
    ],
    ScatteredWeights: [
        ("nodes", lambda x: x[::-1]),
        ("nodes", lambda x: x.astype(np.float32)),
        ("nodes", lambda x: set_at(x, 0, np.nan)),
        ("variables", lambda x: ["inverse"]),
    ],
    CodedRows: [
        ("n_pixels", lambda x: x + 32),
        ("n_pixels", lambda x: 2**40),
        ("n_pixels", lambda x: -1),
        ("n_rows", lambda x: 1),
        ("n_rows", lambda x: 0),
        ("indptr", lambda x: set_at(x, 1, x[-1] + 1)),
        ("indptr", lambda x: set_at(x, 1, -1)),
        ("indptr", lambda x: set_at(x, -1, x[-1] - 1)),
        ("indptr", lambda x: set_at(x, 0, 1)),
        ("indptr", lambda x: x[:-1]),
        ("row", lambda x: set_at(x, 0, 65535)),
        ("row", lambda x: x[1:]),
        ("exponent", lambda x: x.astype(np.int64)),
        ("code", lambda x: x[:, :31]),
        ("code", lambda x: x.astype(np.uint8)),
    ],
    ResidualBasis: [
        ("rows", lambda x: None),
        ("coefficients", lambda x: x[:, 1:]),
        ("coefficients", lambda x: set_at(x, 0, np.inf)),
        ("coefficients", lambda x: x.ravel()),
    ],
    LineBank: [
        ("indptr", lambda x: set_at(x, 3, x[-1] + 5)),
        ("indptr", lambda x: set_at(x, 3, -5)),
        ("indptr", lambda x: x[1:]),
        ("indptr", lambda x: x[:0]),
        ("line", lambda x: set_at(x, 0, 99)),
        ("line", lambda x: set_at(x, 0, -1)),
        ("line", lambda x: set_at(x, 1, x[0])),  # a line twice in a node
        ("line", lambda x: x[:-1]),
        ("values", lambda x: x[:, :-1]),
        ("values", lambda x: set_at(x, 0, np.nan)),
        ("origin", lambda x: x[:-1]),
        ("origin", lambda x: x[:0]),
        ("origin", lambda x: set_at(x, 0, np.inf)),
    ],
    LineFactors: [
        ("origin", lambda x: x[1:]),
        ("factors", lambda x: x[:, 1:]),
        ("factors", lambda x: x[:, :, 1:]),
        ("factors", lambda x: x.astype(np.float32)),
        ("unit", lambda x: set_at(x, 0, np.nan)),
        ("unit", lambda x: x[1:]),
        ("scores", lambda x: x[:, 1:]),
        ("scores", lambda x: x[0]),
    ],
    ErrorModel: [
        ("labels", lambda x: x[1:]),
        ("labels", lambda x: x[:, 1:]),
        ("axis", lambda x: set_at(x, 0, 3)),
        ("axis", lambda x: set_at(x, 0, -2)),
        ("measured", lambda x: x.astype(np.uint8)),
        ("scale", lambda x: set_at(x, 0, np.nan)),
        ("windows", lambda x: x[1:]),
        ("windows", lambda x: set_at(x, 1, x[2])),
        ("windows", lambda x: set_at(x, -1, x[-1] + 1)),
        ("window_rms", lambda x: x[:, 1:]),
        ("code", lambda x: x[1:]),
        ("gain", lambda x: set_at(x, 0, -1)),
        ("label_names", lambda x: x[1:]),
        ("label_names", lambda x: [x[0]] * 3),
        ("shifts", lambda x: 3),
    ],
    LabelShifts: [
        ("edges", lambda x: x[:1]),
        ("edges", lambda x: set_at(x, 0, 1)),
        ("values", lambda x: x[:, :, 1:]),
        ("values", lambda x: x[1:]),
        ("values", lambda x: set_at(x, 0, np.nan)),
        ("names", lambda x: x[1:]),
        ("names", lambda x: [*x[:-1], "vsini"]),
        ("labels", lambda x: x[:, 1:]),
        ("axis", lambda x: set_at(x, 0, 3)),
        ("axis", lambda x: set_at(x, 0, -3)),
        ("steps", lambda x: 0 * x),
        ("across", lambda x: x[1:]),
        ("broken", lambda x: x[1:]),
        ("broken", lambda x: [np.zeros((1, 3)), *x[1:]]),
        ("scale", lambda x: -1 - x),
    ],
    VoigtLineDecomposer: [
        ("parameters.profile", lambda x: "gauss"),
        ("parameters.profile", lambda x: "pseudo-voigt"),  # of fewer parameters than the prior predicts
        ("parameters.loss_margin", lambda x: 1e9),
        ("parameters.wavelength", lambda x: x + 1),
        ("parameters.wavelength", lambda x: None),
        ("fitted.wavelength", lambda x: x[1:]),
        ("fitted.wavelength", lambda x: x[::-1]),
        ("fitted.wavelength", lambda x: x[:0]),
        ("fitted.wavelength", lambda x: x * 1e-300),
        ("fitted.catalog.pixels", lambda x: set_at(x, -1, 300)),
        ("fitted.catalog.pixels", lambda x: set_at(x, 0, -1)),
        ("fitted.catalog.pixels", lambda x: x[::-1]),
        ("fitted.catalog.widths", lambda x: x[1:]),
        ("fitted.catalog.prominences", lambda x: set_at(x, 0, np.nan)),
        ("fitted.catalog.n_detected", lambda x: x.astype(float)),
        ("fitted.catalog.added", lambda x: x.astype(int)),
        ("fitted.catalog", lambda x: {key: part[1:] for key, part in x.items()}),
        ("fitted.prior", lambda x: x._replace(pixels=set_at(x.pixels, 0, 300))),
        ("fitted.prior", lambda x: 0),
        ("fitted.typical_rms", lambda x: -1.0),
        ("fitted.feature_names", lambda x: ["a", "b"]),
    ],
    LineManifoldInterpolator: [
        ("parameters.parameters", lambda x: x[1:]),
        ("parameters.parameters", lambda x: ["center", "b", "c", "d", "e", "f"]),
        ("parameters.label_names", lambda x: ["teff"]),
        ("parameters.method", lambda x: "cubic"),
        ("fitted.weights", lambda x: None),
        ("fitted.node_of_row", lambda x: set_at(x, 0, 44)),
        ("fitted.node_of_row", lambda x: set_at(x, 0, -1)),
        ("fitted.node_of_row", lambda x: x[1:]),
        ("fitted.node_of_row", lambda x: 0 * x),
        ("fitted.table", lambda x: np.zeros(3)),
        ("fitted.table", lambda x: np.zeros(())),
        ("fitted.table", lambda x: np.full((44, 2), np.nan)),
        ("fitted.table", lambda x: LineFactors(x.origin, x.factors, x.unit, x.scores[1:])),
        ("fitted.sparse_output", lambda x: 1),
    ],
    SpectrumGenerator: [
        ("parameters.n_factors", lambda x: -1),
        ("fitted.decomposer", lambda x: VoigtLineDecomposer()),
        ("fitted.decomposer", lambda x: VoigtLineDecomposer.from_catalog(x.wavelength_, x._catalog.pixels[1:])),
        ("fitted.decomposer", lambda x: VoigtLineDecomposer.from_catalog(x.wavelength_[1:], x._catalog.pixels)),
        ("fitted.interpolator", lambda x: LineManifoldInterpolator()),
        ("fitted.interpolator", lambda x: x.with_table(np.zeros((44, 2)))),
        ("fitted.residual", lambda x: ResidualBasis(x.rows, x.coefficients[1:])),
        ("fitted.error_map", lambda x: _with(x, gain=x.gain[1:])),
        ("fitted.error_map", lambda x: _with(x, code=x.code[1:])),
        ("fitted.error_map", lambda x: _with(x, label_names=("a", "b", "c"))),
        ("fitted.preprocessor", lambda x: LineManifoldInterpolator()),
        ("fitted.line_span", lambda x: None),
        ("fitted.line_span", lambda x: x[1:]),
        ("fitted.line_span", lambda x: set_at(x, 0, np.nan)),
        ("fitted.one_output", lambda x: True),
        ("fitted.grid_id", lambda x: 3),
        ("fitted.feature_names", lambda x: ["a", "a", "b"]),
    ],
}


def _with(value, **changes):
    value = copy.copy(value)
    vars(value).update(changes)
    return value


def corrupted(state, path, change):
    first, _, rest = path.partition(".")
    value = corrupted(state[first], rest, change) if rest else change(state[first])
    return {**state, first: value}


def test_every_class_is_in_the_table(generators):
    assert CORRUPTIONS.keys() == parts(generators).keys()


@pytest.mark.parametrize(
    ("kind", "path", "change"),
    [(kind, *entry) for kind, entries in CORRUPTIONS.items() for entry in entries],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_corrupted_state_is_refused(generators, kind, path, change):
    state = parts(generators)[kind].to_state()
    kind.from_state(state)
    with pytest.raises(StateError):
        kind.from_state(corrupted(state, path, change))


def leaves(state, prefix=""):
    for key, value in state.items():
        yield prefix + key
        if isinstance(value, dict) and key in ("fitted", "catalog"):
            yield from leaves(value, f"{prefix}{key}.")


@pytest.mark.parametrize("kind", CORRUPTIONS, ids=lambda kind: kind.__name__)
def test_no_value_raises_anything_but_a_state_error(generators, kind):
    state = parts(generators)[kind].to_state()
    values = [
        *(None, True, -1, 2**70, 1.5, np.nan, "text", "", [], [1, "a"], {}, {"a": 1}, (), object()),
        *(np.zeros(0), np.zeros(()), np.zeros((2, 2)), np.full(5, np.nan), np.array(["a"]), np.array([None])),
        sparse.csr_matrix((2, 2)),
    ]
    for path in leaves(state):
        for value in values:
            with contextlib.suppress(StateError):
                kind.from_state(corrupted(state, path, lambda _, value=value: value))
    for path in list(state):
        with pytest.raises(StateError):
            kind.from_state({key: value for key, value in state.items() if key != path})
    with pytest.raises(StateError):
        kind.from_state({**state, "more": 1})


def test_wild_but_finite_numbers_only_make_wild_spectra(generators):
    """Kernels take any finite line: what a state cannot exclude does no harm."""
    rng = np.random.default_rng(0)
    bank = generators["bank"]
    for size in (10, 800, 1e30):
        state = bank.interpolator_.table_.to_state()
        state["origin"] = rng.normal(size=state["origin"].shape) * size
        table = LineBank.from_state(state)
        fitted = bank.to_state()["fitted"]
        wild = {**fitted, "interpolator": bank.interpolator_.with_table(table), "error_map": None}
        model = SpectrumGenerator.from_state({"parameters": bank.to_state()["parameters"], "fitted": wild})
        with np.errstate(all="ignore"):
            assert model.predict(BETWEEN).shape == (2, 300)
            assert model.jacobian(BETWEEN).shape == (2, 300, 3)
