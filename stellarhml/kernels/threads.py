"""Threads inside one spectrum: compiled loops without the GIL, each on its own part of the output."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np


def in_threads(work, n_items, n_threads):
    """Run `work(first, last)` on parts of range(n_items).

    Python's own threads rather than numba's: these need no threading layer, which forks of joblib may break. The items
    must not share output; then the result does not depend on the number of threads.

    Parameters
    ----------
    work : callable
        Takes the first item of a part, and one past its last.
    n_items : int
        Number of items.
    n_threads : int
        Number of threads; 1 runs everything in this one.
    """
    if n_threads == 1:
        work(0, n_items)
        return
    # lines crowd in the blue: with several turns each, threads end at about the same time
    cuts = np.linspace(0, n_items, 8 * n_threads + 1).astype(int)
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(work, cuts[:-1], cuts[1:]))
