"""Errors and warnings of the package, each a subclass of the built-in that a caller would expect."""


class GridIncompleteError(ValueError):
    """A complete label grid is needed, but nodes are missing."""


class GridNotFoundError(FileNotFoundError):
    """The folder does not hold the model grid."""


class LabelsOutsideGridError(ValueError):
    """Labels lie outside the domain of the grid."""


class SpectrumFileError(ValueError):
    """The file cannot be read as a spectrum: it is truncated, or has the wrong length or columns."""


class WavelengthCoverageError(ValueError):
    """The spectrum does not overlap the wavelengths of the model."""


class BlaseStateError(ValueError):
    """The file is not a state dictionary of gully/blase."""


class BlaseNotInstalledError(ImportError):
    """The package gully/blase is not installed, or another package has the name `blase`."""


class DeviceNotFoundError(RuntimeError):
    """The requested computing device does not exist on this machine."""


class LineListError(ValueError):
    """The file cannot be read as a list of transitions."""


class PersistenceError(ValueError):
    """A saved estimator is damaged or of an unknown format, or an estimator cannot be saved."""


class DownloadError(OSError):
    """A download failed; the part that arrived is kept, and the next call continues from there."""


class StoreError(OSError):
    """A result of a long job could not be written; earlier results are kept."""


class WorkerDiedError(ChildProcessError):
    """A worker process was killed, and again when its item was tried alone; most often memory had run out."""

    spectrum: int | None = None
    """Number of the spectrum that the process worked on, from 0, or None if it worked on something else."""


class StellarHMLWarning(UserWarning):
    """Base class of the warnings of this package."""


class GridWarning(StellarHMLWarning):
    """A model grid looks faulty: a node given twice, or spectra that seem to belong to other nodes."""


class ExtrapolationWarning(StellarHMLWarning):
    """Labels outside the grid were moved to its edge, or their results set to NaN."""


class LineDetectionWarning(StellarHMLWarning):
    """A spectrum has no lines, or lines were left out of the catalogue."""


class ContinuumWarning(StellarHMLWarning):
    """The continuum fit had to be simplified: too few pixels, or a continuum that is not positive."""


class InferenceWarning(StellarHMLWarning):
    """An inferred label is at a bound or did not converge: do not trust it."""


class StoreWarning(StellarHMLWarning):
    """Stored results of an earlier run were damaged and were computed again."""
