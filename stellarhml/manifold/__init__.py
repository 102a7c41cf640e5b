"""Line parameters over the label grid."""

from stellarhml.manifold._line_manifold_interpolator import LineManifoldInterpolator

__all__ = ["LineManifoldInterpolator"]
