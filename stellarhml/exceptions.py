"""Errors and warnings of the package, each a subclass of the built-in that a caller would expect."""


class GridIncompleteError(ValueError):
    """Nodes of a label grid are missing where all of them are needed."""


class GridNotFoundError(FileNotFoundError):
    """A folder does not hold the model grid that was asked for."""


class LabelsOutsideGridError(ValueError):
    """Labels lie outside the domain on which the grid was computed."""


class SpectrumFileError(ValueError):
    """A file cannot be read as a spectrum: truncated, wrong length, wrong columns."""


class WavelengthCoverageError(ValueError):
    """A spectrum does not overlap the wavelengths of the model."""


class BlaseStateError(ValueError):
    """A file is not a state dictionary as gully/blase writes it."""


class BlaseNotInstalledError(ImportError):
    """The package found under the name `blase` is not gully/blase, or there is none."""


class DeviceNotFoundError(RuntimeError):
    """The computing device that was asked for is not there."""


class PersistenceError(ValueError):
    """A saved estimator is damaged or of a form this version cannot read, or an estimator cannot be saved."""


class DownloadError(OSError):
    """A download failed; what had arrived is kept and the next call goes on from there."""


class StoreError(OSError):
    """A result of a long job could not be written; those written before are kept."""


class StellarHMLWarning(UserWarning):
    """Base class of the warnings of this package."""


class ExtrapolationWarning(StellarHMLWarning):
    """Labels outside the grid were moved to its edge, or their result set to NaN."""


class LineDetectionWarning(StellarHMLWarning):
    """Spectra without a single line, or lines left out of the catalogue."""


class ContinuumWarning(StellarHMLWarning):
    """A continuum could not be fitted as asked (too few pixels, not positive)."""


class InferenceWarning(StellarHMLWarning):
    """An inferred label is not to be trusted: it sits at a bound or did not converge."""


class StoreWarning(StellarHMLWarning):
    """Kept results of an earlier run were damaged and had to be computed again."""
