"""Loads and uses files of a list, one after the other, in a process with limited memory, and reports on each.

``python attack_worker.py MEMORY N_PIXELS SOUND ...``: file names on stdin, one a line; reports as JSON lines on stdout:
first ``{"begin": name}``, then ``{"end": name, ...}`` with "outcome" (refused, the error, or the digest of numbers),
"stage", "error" (whether there was one), "leak" (an exception that `load` did not expect), "seconds" of the processor
and "memory" in bytes. The sound files are loaded and used first, so that modules are imported and kernels compiled.
"""

import hashlib
import json
import os
import resource
import signal
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

from stellarhml import load
from stellarhml._state import StateError
from stellarhml.exceptions import PersistenceError
from stellarhml.storage.asdf_text import HeaderError
from stellarhml.storage.registry import READERS, find_class

LABELS = np.array([[5300.0, 3.8, -0.2], [5100.0, 3.6, -0.4], [5250.0, 4.0, -0.3]])


def use(value, n_pixels):
    """Numbers that an object gives: all that a caller can make of it without a fit."""
    rng = np.random.default_rng(0)
    flux = 1 - 0.3 * rng.random((2, n_pixels)) ** 4
    calls = {
        "transform": (flux,),
        "node_weights": (LABELS,),
        "weights": (LABELS,),
        "jacobian": (LABELS[:1],),
        "line_table": (LABELS[0],),
    }
    results = []
    name = type(value).__name__
    if name == "LineCalibrator":
        tables = value.corrections_.reset_index(), value.species_.reset_index()
        return [*use(value.generator_, n_pixels), *tables]
    if getattr(value, "calibration_", None) is not None:
        results += [*value.calibration_]
    if hasattr(value, "infer"):
        results.append(value.predict(flux[:1]))
    elif hasattr(value, "predict") and hasattr(value, "get_params"):
        results.append(value.predict(flux[:1] if name == "Pipeline" else LABELS))
    if getattr(value, "error_map_", None) is not None:
        results += [*value.predict(LABELS, return_std=True)]
    if name in ("LineManifoldInterpolator", "Pipeline"):
        calls["transform"] = (LABELS,) if name[0] == "L" else calls["transform"]
    if name == "VoigtLineDecomposer":
        results.append(value.inverse_transform(value.transform(flux)))
    if not hasattr(value, "get_params"):
        calls = {"weights": (LABELS,)}
    for call, arguments in calls.items():
        if hasattr(value, call) and not (name == "Pipeline" and call != "transform"):
            results.append(getattr(value, call)(*arguments))
    return results


def numbers(value):
    """All arrays in what `use` gives."""
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [array for item in value for array in numbers(item)]
    if hasattr(value, "indptr"):
        return [value.data, value.indices, value.indptr]
    if hasattr(value, "to_numpy"):
        return numbers([value[name].to_numpy() for name in value])
    array = np.asarray(value)
    return [array.astype(str) if array.dtype == object else array]


def digest(value):
    hasher = hashlib.blake2b(digest_size=12)
    for array in numbers(value):
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()


def attack(path, n_pixels):
    """Report on one file."""
    stage, failed, leak = "load", False, None
    before, began = peak_memory(reset=True), processor_time()
    try:
        value = load(path, mmap_mode="r" if int(hashlib.md5(path.encode()).hexdigest(), 16) % 2 else None)
        stage = "use"
        outcome = digest(use(value, n_pixels))
    except PersistenceError as error:
        failed, outcome = True, "refused" if stage == "load" and str(error) else f"PersistenceError: {error}"
        if not isinstance(error.__cause__, (StateError, HeaderError, type(None))):
            leak = f"{place_of(error.__cause__)}: {error.__cause__!r:.300}"
    except np.linalg.LinAlgError as error:  # a ValueError, but no clear one
        failed, outcome = True, f"WRONG {error!r:.200} at {place_of(error)}"
    except ValueError as error:
        failed, outcome = True, f"ValueError: {error}"
    except BaseException as error:
        failed, outcome = True, f"WRONG {type(error).__name__}: {str(error)[:200]} at {place_of(error)}"
    seconds, memory = processor_time() - began, peak_memory() - before
    return {"outcome": outcome, "stage": stage, "error": failed, "leak": leak, "seconds": seconds, "memory": memory}


def place_of(error):
    """File and line that raised an exception."""
    tail = error.__traceback__
    while tail.tb_next:
        tail = tail.tb_next
    return f"{tail.tb_frame.f_code.co_filename}:{tail.tb_lineno}"


def processor_time():
    """Seconds of the processor, of all threads: no other process on the machine changes them much, unlike wall time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_memory(*, reset=False):
    """The largest resident memory since the last reset, in bytes."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def main():
    memory, n_pixels, fixtures = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    warnings.simplefilter("ignore")
    # LAPACK prints what it thinks of NaN: not among the reports
    reports = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # imports are no cost of a file
    with suppress(ImportError):
        import torch  # noqa: F401
    for tag in READERS:
        find_class(tag)
    for fixture in fixtures:
        for _ in range(2):
            report = attack(fixture, n_pixels)
            attack(fixture + ".", n_pixels)  # imports for what is raised
        print(json.dumps({"end": fixture, "sound": True, **report}), file=reports, flush=True)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))
    for line in sys.stdin:
        path = line.strip()
        print(json.dumps({"begin": path}), file=reports, flush=True)
        # end a process that hangs: after seconds of the processor, or many of wall time
        signal.setitimer(signal.ITIMER_PROF, 20)
        signal.alarm(600)
        report = attack(path, n_pixels)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        print(json.dumps({"end": path, **report}), file=reports, flush=True)


if __name__ == "__main__":
    main()
