"""Registry of the tags of stored files and their classes: reading a file imports and makes nothing else.

A tag is ``asdf://stellarhml.org/tags/NAME-VERSION``. Tags are permanent: if a class moves or is renamed, only its line
here changes. A class whose state changes gets a new version, listed after the old one, and keeps a method that reads
the old state, such as ``"...:LineBank.from_state_1_0"``. Objects are written under the last tag of their class, with
`to_state`.
"""

import importlib

TAGS = "asdf://stellarhml.org/tags/"
SCHEMAS = "asdf://stellarhml.org/schemas/"

READERS = {
    "pipeline-1.0.0": "stellarhml.storage.pipelines:PipelineState.from_state",
    "phoenix_preprocessor-1.0.0": "stellarhml.preprocessing._phoenix_preprocessor:PhoenixPreprocessor.from_state",
    "voigt_line_decomposer-1.0.0": "stellarhml.lines._voigt_line_decomposer:VoigtLineDecomposer.from_state",
    "line_prior-1.0.0": "stellarhml.lines.prior:LinePrior.from_state",
    "line_manifold_interpolator-1.0.0": (
        "stellarhml.manifold._line_manifold_interpolator:LineManifoldInterpolator.from_state_1_0"
    ),
    "line_manifold_interpolator-1.1.0": (
        "stellarhml.manifold._line_manifold_interpolator:LineManifoldInterpolator.from_state"
    ),
    "lattice_weights-1.0.0": "stellarhml.manifold.lattice:LatticeWeights.from_state",
    "scattered_weights-1.0.0": "stellarhml.manifold.scattered:ScatteredWeights.from_state",
    "regression_weights-1.0.0": "stellarhml.manifold.regression:RegressionWeights.from_state",
    "coded_rows-1.0.0": "stellarhml.manifold.residual:CodedRows.from_state",
    "line_bank-1.0.0": "stellarhml.manifold.line_tables:LineBank.from_state",
    "line_factors-1.0.0": "stellarhml.manifold.line_tables:LineFactors.from_state",
    "residual_basis-1.0.0": "stellarhml.manifold.residual:ResidualBasis.from_state",
    "spectrum_generator-1.0.0": "stellarhml.synthesis._spectrum_generator:SpectrumGenerator.from_state_1_0",
    "spectrum_generator-1.1.0": "stellarhml.synthesis._spectrum_generator:SpectrumGenerator.from_state_1_1",
    "spectrum_generator-1.2.0": "stellarhml.synthesis._spectrum_generator:SpectrumGenerator.from_state_1_2",
    "spectrum_generator-1.3.0": "stellarhml.synthesis._spectrum_generator:SpectrumGenerator.from_state_1_3",
    "spectrum_generator-1.4.0": "stellarhml.synthesis._spectrum_generator:SpectrumGenerator.from_state_1_4",
    "spectrum_generator-1.5.0": "stellarhml.synthesis._spectrum_generator:SpectrumGenerator.from_state",
    "error_model-1.0.0": "stellarhml.synthesis.error_model:ErrorModel.from_state",
    "label_shifts-1.0.0": "stellarhml.synthesis.error_model:LabelShifts.from_state",
    "bayesian_stellar_regressor-1.0.0": (
        "stellarhml.inference._bayesian_stellar_regressor:BayesianStellarRegressor.from_state_1_0"
    ),
    "bayesian_stellar_regressor-1.1.0": (
        "stellarhml.inference._bayesian_stellar_regressor:BayesianStellarRegressor.from_state"
    ),
    "line_calibrator-1.0.0": "stellarhml.calibration._line_calibrator:LineCalibrator.from_state",
    "node_spectra-1.0.0": "stellarhml.inference.node_spectra:NodeSpectra.from_state",
    "templates-1.0.0": "stellarhml.inference.node_spectra:Templates.from_state",
}


def _class_of(reader):
    return reader.rpartition(".")[0]


_WRITTEN = {_class_of(reader): tag for tag, reader in READERS.items()}
# scikit-learn's class cannot carry `to_state` itself
_WRITTEN["sklearn.pipeline:Pipeline"] = _WRITTEN.pop("stellarhml.storage.pipelines:PipelineState")


def find_tag(kind):
    """Tag under which objects of a class are written.

    Parameters
    ----------
    kind : type
        The class itself; a subclass is another.

    Returns
    -------
    tag : str or None
        Name and version; None if objects of this class cannot be stored.
    """
    return _WRITTEN.get(f"{kind.__module__}:{kind.__qualname__}")


def find_type_names():
    """Full names of the classes that can be stored.

    Returns
    -------
    names : list of str
        Such as "stellarhml.manifold.line_tables.LineBank".
    """
    return [name.replace(":", ".") for name in _WRITTEN]


def find_class_name(tag):
    """Name of the class behind a tag, without importing it.

    Parameters
    ----------
    tag : str
        Name and version.

    Returns
    -------
    name : str or None
        Such as "LineBank"; None for an unknown tag.
    """
    return _class_of(READERS[tag]).rpartition(":")[2].removesuffix("State") if tag in READERS else None


def find_class(tag):
    """Class behind a tag.

    Parameters
    ----------
    tag : str
        Name and version.

    Returns
    -------
    kind : type
        The class.
    """
    module, _, name = _class_of(READERS[tag]).partition(":")
    return getattr(importlib.import_module(module), name)


def read_state(tag, state):
    """Make an object from its state.

    Parameters
    ----------
    tag : str
        Name and version.
    state : dict
        The state, in which all objects are made already.

    Returns
    -------
    value : object
        The object.

    Raises
    ------
    StateError
        If the state does not suit the class.
    """
    return getattr(find_class(tag), READERS[tag].rpartition(".")[2])(state)
