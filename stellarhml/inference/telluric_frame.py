"""The atmosphere as a stage of the forward model, in the frame of a spectrum."""

import os
from numbers import Real

import numpy as np

from stellarhml._units import plain_number
from stellarhml.forward.tellurics import Tellurics
from stellarhml.spectra.barycentric import barycentric_velocity
from stellarhml.spectra.transmissions import read_atmosphere

_FASTEST = 40.0  # km/s: the Earth's motion is at most 30.8
_AT_REST = (None, "telescope", "geocenter")  # frames in which the air moves by less than 0.5 km/s


def as_tellurics(tellurics):
    """Tellurics of what `infer` takes: a stage, an Atmosphere or its two parts, or a file. ValueError if it is none."""
    if isinstance(tellurics, Tellurics):
        return tellurics
    if isinstance(tellurics, (str, os.PathLike)):
        tellurics = read_atmosphere(tellurics)
    if not isinstance(tellurics, (tuple, list)) or len(tellurics) != 2:
        raise ValueError(
            f"`tellurics` is a {type(tellurics).__name__}; it needs an Atmosphere, such as from "
            "stellarhml.spectra.read_atmosphere, the path of its file, or (wavelength, {species: transmission})."
        )
    return Tellurics(*tellurics)


def check_barycentric(barycentric):
    """The argument of `infer`, after a check: a float, "header" or None."""
    if barycentric is None or (isinstance(barycentric, str) and barycentric == "header"):
        return barycentric
    barycentric = plain_number(barycentric, ["km/s"], "`barycentric`")
    number = isinstance(barycentric, Real) and not isinstance(barycentric, (bool, np.bool_))
    if not (number and abs(barycentric) <= _FASTEST):
        raise ValueError(
            f"`barycentric` is {barycentric!r}; it needs the velocity of the observatory towards the star in km/s, at "
            f"most {_FASTEST:g}, 'header' to compute it from the file's header, or None."
        )
    return float(barycentric)


def in_frame_of(spectrum, settings):
    """FitSettings with the atmosphere in the frame of an ObservedSpectrum, and the velocity of the observatory."""
    stages, velocity = [], settings.barycentric
    for stage in settings.stages:
        if isinstance(stage, Tellurics):
            stage, velocity = frame_of_air(spectrum, stage, velocity)
        stages.append(stage)
    if velocity == "header":
        velocity = barycentric_velocity(spectrum)
    return settings._replace(stages=tuple(stages), barycentric=velocity)


def frame_of_air(spectrum, stage, barycentric):
    """A Tellurics in the frame of an ObservedSpectrum, and the velocity of the observatory in km/s, or None."""
    velocity, frame = check_barycentric(barycentric), spectrum.meta.get("frame")
    if velocity == "header":
        velocity = barycentric_velocity(spectrum)
    if frame in _AT_REST or stage.velocity:
        return stage, velocity
    if velocity is None or frame not in ("barycenter", "heliocenter"):
        raise ValueError(
            f"The wavelengths of {spectrum!r} are in the frame of the {frame}, but telluric lines are at rest at the "
            "observatory. Pass `barycentric`, the barycentric correction in km/s by which they were shifted, or "
            "'header' (for the frame of the barycenter), or a stage Tellurics(..., velocity=) with the velocity of the "
            "air in the frame of the spectrum."
        )
    return stage.moved(velocity), velocity
