"""Fits in threads: each can be followed and stopped while others go on."""

import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

from stellarhml.inference._bayesian_stellar_regressor import BayesianStellarRegressor

_OF_FIT = ("start", "first fit", "fit 1", "fit 2", "fit 3", "line fit", "errors")
STAGES = ("waiting", "preparing the search, once", *_OF_FIT)
"""Stages of a fit, in order; later rounds are skipped where no pixel is rejected."""

_RUNNING, _WAITING = 2, 4  # fits of all pages together


class FitStoppedError(Exception):
    """A fit was stopped."""


class TooManyFitsError(Exception):
    """So many fits run and wait that another one is refused."""


class FitJob:
    """One fit in its thread, of the spectrum `name`; `stage` is one of `STAGES`.

    `result` is None until the fit has succeeded; `error` is the exception that ended it, `FitStoppedError` if it was
    stopped; `n_evaluations` counts evaluations of the model.
    """

    def __init__(self, name):
        self.name, self.stage, self.n_evaluations = name, STAGES[0], 0
        self.result, self.error = None, None
        self._begin, self._stopped = time.monotonic(), threading.Event()

    @property
    def done(self):
        """Whether there is a result or an error."""
        return self.result is not None or self.error is not None

    @property
    def seconds(self):
        """Seconds since the fit was requested."""
        return time.monotonic() - self._begin

    def stop(self):
        """Stop the fit: the job is done at once, its thread ends at the next evaluation of the model."""
        self._stopped.set()
        if not self.done:
            self.error = FitStoppedError("stopped")

    def record(self, stage, n_evaluations):
        """Record the progress of the fit: the `callback` of `BayesianStellarRegressor.infer`."""
        self.stage, self.n_evaluations = stage, n_evaluations
        if self._stopped.is_set():
            raise FitStoppedError("stopped")


class FitRunner:
    """Fits with one generator: two at a time, four wait. The first builds the regressor, which renders all nodes.

    Examples
    --------
    >>> from time import sleep
    >>> from stellarhml import SpectrumGenerator
    >>> from stellarhml.datasets import make_stellar_grid
    >>> from stellarhml.explore.fit_jobs import FitRunner
    >>> grid = make_stellar_grid(random_state=0)
    >>> generator = SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)
    >>> spectrum = (grid.wavelength, grid.flux[0], 0.01 + 0 * grid.flux[0])
    >>> job = FitRunner(generator).start("star", spectrum, resolving_power=None, fixed={"vsini": 0.0})
    >>> while not job.done:
    ...     sleep(0.01)
    >>> job.stage, job.result.values["vsini"]
    ('errors', 0.0)
    """

    def __init__(self, generator):
        self._generator, self._regressor, self._lock = generator, None, threading.Lock()
        self._workers, self._jobs = ThreadPoolExecutor(_RUNNING, thread_name_prefix="fit"), weakref.WeakSet()
        self._unfinished = set()

    def start(self, name, spectrum, **settings):
        """Start a fit and return its FitJob; `spectrum` and `settings` as for `BayesianStellarRegressor.infer`.

        TooManyFitsError if too many wait already; those that were stopped count until their threads have seen it.
        """
        if len(self._unfinished) >= _RUNNING + _WAITING:
            raise TooManyFitsError(
                f"{_RUNNING} fits run and {_WAITING} wait, of all pages together. Start this one when one has ended."
            )
        job = FitJob(name)
        self._jobs.add(job)
        future = self._workers.submit(self._run, job, spectrum, settings)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        return job

    def close(self):
        """Stop all fits and accept no more, so that the process can end."""
        for job in list(self._jobs):
            job.stop()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _run(self, job, spectrum, settings):
        try:
            job.record(STAGES[1], 0)
            with self._lock:
                if self._regressor is None:
                    self._regressor = BayesianStellarRegressor.from_generator(self._generator, verbose=False)
            result = self._regressor.infer(spectrum, callback=job.record, **settings)
            job.record(job.stage, job.n_evaluations)
            job.result = result
        except Exception as error:  # the page shows it, whatever it is
            job.error = job.error or error
