"""From flux to labels."""

from stellarhml.inference._bayesian_stellar_regressor import BayesianStellarRegressor

__all__ = ["BayesianStellarRegressor"]
