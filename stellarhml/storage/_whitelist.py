"""The classes that a .shml file may hold: all that is ever imported or made because a file says so.

A class is stored as its `__dict__` (a NamedTuple: its items) and made again by `__new__` alone. A class whose
`__dict__` cannot be stored has a method `to_plain_state`, which returns a dictionary, and a classmethod
`from_plain_state`, which takes it. Add the full name of every class that fitted estimators hold, and none that does
anything else when it is made.
"""

CLASSES = frozenset(
    {
        "stellarhml.preprocessing._phoenix_preprocessor.PhoenixPreprocessor",
        "stellarhml.lines._voigt_line_decomposer.VoigtLineDecomposer",
        "stellarhml.lines.prior.LinePrior",
        "stellarhml.manifold._line_manifold_interpolator.LineManifoldInterpolator",
        "stellarhml.manifold.lattice.LatticeWeights",
        "stellarhml.manifold.coded_rows.CodedRows",
        "stellarhml.manifold.line_bank.LineBank",
        "stellarhml.manifold.line_factors.LineFactors",
        "stellarhml.manifold.residual.ResidualBasis",
        "stellarhml.manifold.scattered.ScatteredWeights",
        "stellarhml.synthesis._spectrum_generator.SpectrumGenerator",
        "stellarhml.synthesis.error_model.ErrorModel",
        "stellarhml.synthesis.label_shifts.LabelShifts",
        "stellarhml.synthesis.line_model.LineModel",
        "stellarhml.inference._bayesian_stellar_regressor.BayesianStellarRegressor",
        "stellarhml.inference.templates.Templates",
        "sklearn.pipeline.Pipeline",
        # what set_predict_request and its like leave in an estimator
        "sklearn.utils._metadata_requests.MetadataRequest",
        "sklearn.utils._metadata_requests.MethodMetadataRequest",
    }
)
