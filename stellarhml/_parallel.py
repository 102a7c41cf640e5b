"""The one way in which the package runs work in parallel: joblib over independent items, in order."""

import sys
from functools import cache

from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import ThreadpoolController
from tqdm.auto import tqdm


def map_items(function, items, *, n_jobs=None, verbose=None, description="", total=None):
    """Yield `function(item)` for each of `items`, in order, with a progress bar.

    Every call runs on a single thread (BLAS, OpenMP and torch), so that a result depends neither on
    `n_jobs` nor on the machine's number of cores.

    Parameters
    ----------
    function : callable
        Picklable function of one argument.
    items : iterable
        What to apply it to; consumed lazily.
    n_jobs : int, default=None
        Number of joblib workers; None is 1 unless inside a `joblib.parallel_config`.
    verbose : bool, default=None
        Whether to show a progress bar. None shows one on a terminal when the work takes over two seconds.
    description : str, default=""
        Text before the bar.
    total : int, default=None
        Number of items, if `items` has no length.

    Yields
    ------
    result : object
        What `function` returned.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    results = Parallel(n_jobs=n_jobs, return_as="generator")(delayed(_on_one_thread)(function, item) for item in items)
    yield from progress(results, total=total, verbose=verbose, description=description)


def progress(iterable, *, total=None, verbose=None, description="", unit="it"):
    """Wrap `iterable` in a progress bar that appears after two seconds.

    Parameters
    ----------
    iterable : iterable
        What to go through.
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


def _on_one_thread(function, item):
    """Apply `function` with every thread pool held to one thread."""
    with _thread_pools().limit(limits=1):
        torch = sys.modules.get("torch")
        if torch is None:
            return function(item)
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return function(item)
        finally:
            torch.set_num_threads(before)


@cache
def _thread_pools():
    """Thread pools of the libraries of this process, looked up once: the look-up takes milliseconds."""
    import scipy.linalg  # noqa: F401  (its BLAS must be loaded to be found)

    return ThreadpoolController()
