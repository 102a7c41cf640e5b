"""Loads and uses files of a list, one after the other, in a process with limited memory, and reports on each.

``python attack_worker.py FIXTURE MEMORY``: file names on stdin, one a line; reports as JSON lines on stdout: first
``{"begin": name}``, then ``{"end": name, ...}`` with "outcome" (refused, or the digest of the numbers), "stage" and
"seconds". The fixture is loaded and used first, so that modules are imported and kernels compiled.
"""

import hashlib
import json
import resource
import signal
import sys
import time
import warnings
from contextlib import suppress

import numpy as np

from stellarhml import load
from stellarhml.exceptions import PersistenceError

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
    stage = "load"
    began = time.process_time()
    try:
        value = load(path, mmap_mode="r" if int(hashlib.md5(path.encode()).hexdigest(), 16) % 2 else None)
        stage = "use"
        outcome = digest(use(value, n_pixels))
    except PersistenceError as error:
        outcome = "refused" if stage == "load" and str(error) else f"PersistenceError: {error}"
    except ValueError as error:
        outcome = f"ValueError: {error}"
    except BaseException as error:
        tail = error.__traceback__
        while tail.tb_next:
            tail = tail.tb_next
        place = f"{tail.tb_frame.f_code.co_filename}:{tail.tb_lineno}"
        outcome = f"WRONG {type(error).__name__}: {str(error)[:200]} at {place}"
    return {"outcome": outcome, "stage": stage, "seconds": time.process_time() - began}


def main():
    fixture, memory, n_pixels = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    with suppress(ImportError):
        import torch  # noqa: F401  its libraries count as imports, whenever they are loaded
    for _ in range(2):
        first = [attack(fixture, n_pixels), attack(fixture + ".", n_pixels)]
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))
    print(json.dumps({"end": "fixture", **first[0]}), flush=True)
    for line in sys.stdin:
        path = line.strip()
        print(json.dumps({"begin": path}), flush=True)
        signal.alarm(30)  # kills a process that hangs
        report = attack(path, n_pixels)
        signal.alarm(0)
        print(json.dumps({"end": path, **report}), flush=True)


if __name__ == "__main__":
    main()
