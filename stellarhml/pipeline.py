"""make_stellar_pipeline: preprocessing and inference on one wavelength grid, and the paper's settings."""

from sklearn.pipeline import Pipeline

from stellarhml.inference._bayesian_stellar_regressor import BayesianStellarRegressor
from stellarhml.lines._voigt_line_decomposer import VoigtLineDecomposer
from stellarhml.manifold._line_manifold_interpolator import LineManifoldInterpolator
from stellarhml.preprocessing._phoenix_preprocessor import PhoenixPreprocessor
from stellarhml.synthesis._spectrum_generator import SpectrumGenerator

PAPER_SETTINGS = {
    "preprocessor": {"percentile": 99, "degree": 5, "peak_distance": 5001, "continuum": "each"},
    "decomposer": {
        "prominence": 0.005,
        "distance": 4,
        "profile": "pseudo-voigt",
        "solver": "adam",
        "wing_cut": 6000,
        "line_margin": 30.0,
        "loss_margin": 60.0,
        "match_tolerance": 0,
        "fit_undetected": False,
        "learning_rate": 0.05,
        "max_iter": 100,
    },
    "interpolator": {"method": "linear", "absent": "vanish"},
    "generator": {"n_factors": None, "residual_rank": None},
    "regressor": {
        "search": "bayes",
        "n_initial_points": 30,
        "n_calls": 50,
        "polish": False,
        "continuum_degree": None,
    },
}
"""Parameters of each step that reproduce the method of the paper. The margins suit its band of 4,811 angstrom."""


def make_stellar_pipeline(
    *,
    wavelength=None,
    settings=None,
    label_names=None,
    resolving_power=None,
    random_state=None,
    n_jobs=None,
    verbose=None,
):
    """Chain a preprocessor and a regressor on one wavelength grid.

    Parameters
    ----------
    wavelength : array-like of shape (n_pixels,), default=None
        Vacuum wavelengths of the columns of `X`, in angstrom, strictly increasing. None: the pixel index.
    settings : dict of dict, default=None
        Parameters by step: "preprocessor", "decomposer", "interpolator", "generator", "regressor".
        :data:`PAPER_SETTINGS` are those of the paper. None: the defaults of each class.
    label_names : sequence of str, default=None
        Names of the labels. None: ("teff", "logg", "feh") for three.
    resolving_power : float, default=None
        Resolving power that the spectra of the grid have, see `SpectrumGenerator`. None: they are as computed.
    random_state : int, RandomState instance or None, default=None
        Seed of the search.
    n_jobs : int, default=None
        Number of joblib workers, over spectra.
    verbose : bool, default=None
        Whether to show progress bars.

    Returns
    -------
    pipeline : Pipeline
        Steps "preprocess" and "regress"; nested parameters are reached as in
        ``regress__generator__decomposer__prominence``. `X` is raw flux without a known Teff, so that no black body
        is divided.

    Raises
    ------
    ValueError
        If `settings` names an unknown step.

    Examples
    --------
    >>> from stellarhml import make_stellar_pipeline
    >>> pipeline = make_stellar_pipeline(wavelength=[8500.0, 8500.1, 8500.2])
    >>> pipeline.set_params(regress__generator__decomposer__prominence=0.01).named_steps["preprocess"].degree
    5
    """
    settings = settings or {}
    unknown = set(settings) - set(PAPER_SETTINGS)
    if unknown:
        raise ValueError(f"`settings` has unknown steps {sorted(unknown)}; the steps are {sorted(PAPER_SETTINGS)}.")
    step = {name: dict(settings.get(name, {})) for name in PAPER_SETTINGS}
    window = step["preprocessor"].get("window")
    cropped = wavelength
    if window is not None and wavelength is not None:
        cropped = [value for value in wavelength if window[0] <= value <= window[1]]
    generator = SpectrumGenerator(
        wavelength=cropped,
        decomposer=VoigtLineDecomposer(**step["decomposer"]),
        interpolator=LineManifoldInterpolator(**step["interpolator"]),
        label_names=label_names,
        resolving_power=resolving_power,
        n_jobs=n_jobs,
        verbose=verbose,
        **step["generator"],
    )
    regressor = BayesianStellarRegressor(
        generator=generator, random_state=random_state, n_jobs=n_jobs, verbose=verbose, **step["regressor"]
    )
    return Pipeline(
        [("preprocess", PhoenixPreprocessor(wavelength=wavelength, **step["preprocessor"])), ("regress", regressor)]
    )
