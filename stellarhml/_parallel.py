"""Parallel work: joblib over independent items, with results in order."""

import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections import Counter, deque
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial

from joblib.externals.loky.process_executor import TerminatedWorkerError
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import ThreadpoolController
from tqdm.auto import tqdm

from stellarhml.exceptions import StoreWarning, WorkerDiedError
from stellarhml.storage.result_store import digest

_LOOK = 1.0  # s: how often a worker looks whether its parent is alive


def map_items(function, items, *, n_jobs=None, verbose=None, description="", total=None, on_death=None, spectra=None):
    """Yield `function(item)` for each of `items`, in order, with a progress bar.

    Every call runs on a single thread (BLAS, OpenMP and torch), so that a result depends neither on
    `n_jobs` nor on the machine's number of cores. When a worker dies, the items that were under way are tried once
    more.

    Parameters
    ----------
    function : callable
        Picklable function of one argument.
    items : iterable
        Arguments of the calls; consumed lazily.
    n_jobs : int, default=None
        Number of joblib workers; None is 1 unless inside a `joblib.parallel_config`.
    verbose : bool, default=None
        Whether to show a progress bar. None shows one on a terminal when the work takes over two seconds.
    description : str, default=""
        Text before the bar.
    total : int, default=None
        Number of items, if `items` has no length.
    on_death : callable, default=None
        Function of an item and a WorkerDiedError, called in this process for an item whose worker died twice; what it
        returns is yielded in the place of the result. None raises the error.
    spectra : sequence of int, default=None
        Number of the spectrum that each item is, from 0, for the WorkerDiedError.

    Yields
    ------
    result : object
        Result of `function`.

    Raises
    ------
    WorkerDiedError
        If the worker of an item died twice, unless there is `on_death`.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    results = survive_deaths(function, items, n_jobs=n_jobs, on_death=on_death, spectra=spectra)
    yield from progress(results, total=total, verbose=verbose, description=description)


def survive_deaths(function, items, *, n_jobs=None, on_death=None, spectra=None, **options):
    """Yield `function(item)` in order as `map_items` does, through joblib with `options`, without a bar.

    The death of one worker ends all (loky's rule), and which item caused it is not known. So those that were under way
    are tried once more, each alone in a fresh worker; then the rest goes on in parallel.
    """
    items, n_yielded = iter(items), 0
    while True:
        under_way = _UnderWay(function, items)
        try:
            for result in Parallel(n_jobs=n_jobs, return_as="generator", **options)(under_way):
                under_way.waiting.popleft()
                n_yielded += 1
                yield result
            return
        except TerminatedWorkerError:
            waiting = under_way.stop()
        for item in waiting:
            try:
                # of two workers one stays idle: with one, joblib would work in this process
                (result,) = Parallel(n_jobs=2, **options)([delayed(_on_one_thread)(function, item)])
            except TerminatedWorkerError as error:
                spectrum = None if spectra is None else int(spectra[n_yielded])
                kind, number = ("item", n_yielded) if spectrum is None else ("spectrum", spectrum)
                died = WorkerDiedError(
                    f"The process that worked on {kind} {number + 1} was killed, and again when the {kind} was tried "
                    "alone; most often the machine had no memory left. Free memory or use fewer processes, and start "
                    "again."
                )
                died.spectrum = spectrum
                if on_death is None:
                    raise died from error
                result = on_death(item, died)
            n_yielded += 1
            yield result


class _UnderWay:
    """Iterator of the tasks for joblib, whose threads take from it; `waiting` holds the items not yet yielded."""

    def __init__(self, function, items):
        self.function, self.items, self.waiting = function, items, deque()
        self._lock, self._stopped = threading.Lock(), False

    def __iter__(self):
        return self

    def __next__(self):
        # an item is either handed out and in `waiting`, or left for the next round: none is lost or done twice
        with self._lock:
            if self._stopped:
                raise StopIteration
            self.waiting.append(next(self.items))
            return delayed(_on_one_thread)(self.function, self.waiting[-1])

    def stop(self):
        """Hand out no more, and return the items that were handed out and not yielded."""
        with self._lock:
            self._stopped = True
            return list(self.waiting)


def map_stored(
    function,
    items,
    *,
    store,
    settings="",
    pack=None,
    unpack=None,
    n_jobs=None,
    verbose=None,
    description="",
    total=None,
    spectra=None,
    max_nbytes=None,
):
    """Yield `function(item)` for each of `items`, in order, like `map_items`, and store each result at once.

    The worker writes each result; when the same job is started again, the result is read instead. Both pass through
    `pack` and `unpack`, so that they are identical.

    Parameters
    ----------
    function : callable
        Picklable function of one argument.
    items : iterable
        Arguments of the calls, such as the rows of an array: anything that `stellarhml.storage.result_store.digest`
        takes. Consumed lazily, a few per worker ahead.
    store : ResultStore or None
        Store of the results. Every worker must see its folder. None stores nothing.
    settings : str
        Digest of everything besides the item that a result depends on.
    pack : callable
        Picklable function from a result to a dict of arrays.
    unpack : callable
        Picklable function from such a dict to a result.
    n_jobs, verbose, description, total, spectra
        As in `map_items`. The time left is estimated from the items that were computed, not from those read.
    max_nbytes : str, default=None
        Size above which joblib copies an array to shared memory, which keeps it until the last item is done: for large
        arrays in `function`. None copies none.

    Yields
    ------
    result : object
        Result of `function`, of this or of an earlier run.

    Raises
    ------
    StoreError
        If a result cannot be written, for example because the disk is full.
    WorkerDiedError
        If the worker of an item died twice.

    Warns
    -----
    StoreWarning
        At the end; states the number of stored results that were damaged and have been computed again.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    task = partial(_through_store, function, store, settings, pack, unpack)
    # One item a batch: joblib would learn from items that are read to send hundreds at once to one worker.
    options = {"batch_size": 1, "max_nbytes": max_nbytes}
    outcomes = survive_deaths(task, items, n_jobs=n_jobs, spectra=spectra, **options)
    n_damaged, tally = 0, _TALLY.get()
    with progress(None, total=total, verbose=verbose, description=description) as bar:
        if not bar.disable:
            bar.smoothing = 0  # the mean over all items; those read are in `initial` and do not count
        for result, state in outcomes:
            n_damaged += state == "damaged"
            if tally is not None:
                tally[state] += 1
            if state == "read" and not bar.disable:
                bar.initial += 1
                bar.set_postfix_str(f"{bar.initial} from the store", refresh=False)
            bar.update()
            yield result
    if n_damaged:
        warnings.warn(
            f"{n_damaged} of the results kept in {store.folder} were damaged, or written by another version, and have "
            "been computed again. Check the disk if you did not expect this.",
            StoreWarning,
            stacklevel=2,
        )


@contextmanager
def tally_stored():
    """Count what `map_stored` does in the block: a Counter of the results "read", "computed" and "damaged"."""
    tally = Counter()
    token = _TALLY.set(tally)
    try:
        yield tally
    finally:
        _TALLY.reset(token)


_TALLY = ContextVar("tally", default=None)


def progress(iterable, *, total=None, verbose=None, description="", unit="it"):
    """Wrap `iterable` in a progress bar that appears after two seconds.

    Parameters
    ----------
    iterable : iterable
        Items.
    total : int, default=None
        Its length.
    verbose : bool, default=None
        True shows the bar, False does not, None does on a terminal.
    description, unit : str
        Text of the bar.

    Returns
    -------
    iterable : iterable
        The same items.
    """
    disable = None if verbose is None else not verbose
    return tqdm(iterable, total=total, desc=description, unit=unit, disable=disable, delay=0 if verbose else 2)


def _through_store(function, store, settings, pack, unpack, item):
    """Result of one item, and whether it was "read", "computed", or computed since its file was "damaged"."""
    if store is None:
        return function(item), "computed"
    key = digest(settings, item)
    known = key in store
    arrays = store.read(key) if known else None
    if arrays is not None:
        return unpack(arrays), "read"
    arrays = pack(function(item))
    store.write(key, arrays)
    return unpack(arrays), "damaged" if known else "computed"


@contextmanager
def one_thread():
    """Limit every thread pool (BLAS, OpenMP and torch) to one thread.

    Results then do not depend on the number of cores. For small matrices, threads also spend more time waiting for
    each other than computing, on busy cores a hundred times as long.
    """
    with _thread_pools().limit(limits=1):
        torch = sys.modules.get("torch")
        if torch is None:
            yield
            return
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _on_one_thread(function, item):
    """Apply `function` on one thread.

    A terminal sends Ctrl-C to all processes. joblib's workers leave it to their parent, which ends them: each would
    print a traceback.
    """
    # signals belong to the main thread; joblib takes threads where a worker has workers of its own
    in_worker = multiprocessing.current_process().name.startswith("LokyProcess")
    if in_worker and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _end_with_parent()
    with one_thread():
        return function(item)


@cache
def _end_with_parent():
    """Let this worker end soon after its parent, also when that was killed.

    joblib's workers would wait forever, with all their memory, to hand over a result that nobody reads.
    """
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(_LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@cache
def _thread_pools():
    """Thread pools of the libraries of this process, looked up once: the look-up takes milliseconds."""
    import scipy.linalg  # noqa: F401  (its BLAS must be loaded to be found)

    return ThreadpoolController()
