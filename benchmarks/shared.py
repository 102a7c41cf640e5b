"""What the benchmarks share: the test data beside the repository, memory, and the JSON line they end with."""

import importlib.util
import json
import platform
import resource
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "tools"


def load_tool(name):
    """Import a module of ../shared/tools; leave with a reason where it is absent."""
    path = FOLDER / f"{name}.py"
    if not path.is_file():
        sys.exit(f"{path} is missing: this benchmark needs the test data in ../shared.")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def peak_memory_mb():
    """Largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def finish(**figures):
    """Print all figures and the machine as one JSON line."""
    import torch

    machine = f"{platform.machine()}, {torch.get_num_threads()} torch threads, Python {platform.python_version()}"
    print(json.dumps({**figures, "machine": machine}))
