"""Interpolation of line parameters over the grid of labels."""

from stellarhml.manifold._line_manifold_interpolator import LineManifoldInterpolator

__all__ = ["LineManifoldInterpolator"]
