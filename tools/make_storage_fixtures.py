"""Write a stored file and a schema for every tag that has none yet: ``python tools/make_storage_fixtures.py``.

The files in tests/storage/fixtures are opened by the tests for all time: a file that exists is never written again. A
schema is drafted from the states of several estimators; look at it before it is committed.
"""

import itertools
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from sklearn.exceptions import NotFittedError

from stellarhml import (
    BayesianStellarRegressor,
    LineManifoldInterpolator,
    PhoenixPreprocessor,
    SpectrumGenerator,
    VoigtLineDecomposer,
    make_stellar_pipeline,
)
from stellarhml.datasets import make_stellar_grid
from stellarhml.storage.asdf_files import state_of, write_asdf
from stellarhml.storage.asdf_text import DTYPES
from stellarhml.storage.registry import READERS, SCHEMAS, TAGS, find_class_name, find_tag

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "tests" / "storage" / "fixtures"
FOLDER = ROOT / "stellarhml" / "storage" / "schemas"
sys.path.insert(0, str(FIXTURES.parent))


def make_estimators():
    """Yield small fitted estimators that hold every class between them."""
    grid = make_stellar_grid(n_lines=3, n_pixels=120, random_state=0)
    generator = SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)
    yield BayesianStellarRegressor.from_generator(generator, random_state=0)
    steps = {
        "preprocessor": PhoenixPreprocessor(peak_distance=20, degree=2, window=(8500.5, 8508.0)),
        "decomposer": VoigtLineDecomposer(n_rounds=0, sparse_output=False),
    }
    labels = pd.DataFrame(grid.labels, columns=["teff", "logg", "feh"])
    yield SpectrumGenerator(wavelength=list(grid.wavelength), **steps).fit(labels, 3e14 * grid.flux)
    rows = np.random.default_rng(0).permutation(len(grid.labels))[:20]
    moved = grid.labels + np.random.default_rng(1).uniform(0, [10, 0.02, 0.02], size=grid.labels.shape)
    yield SpectrumGenerator(
        wavelength=grid.wavelength,
        decomposer=VoigtLineDecomposer(n_rounds=0),
        interpolator=LineManifoldInterpolator(method="scattered", extrapolate="nearest"),
    ).fit(moved[rows], grid.flux[rows])
    keep = ~(grid.labels == [5250.0, 4.0, -0.5]).all(axis=1)
    decomposer = VoigtLineDecomposer(n_rounds=0, profile="pseudo-voigt", wing_cut=50)
    interpolator = LineManifoldInterpolator(breaks={"teff": [5150.0]}, variables={"teff": "inverse"})
    yield SpectrumGenerator(
        wavelength=grid.wavelength,
        residual_rank=None,
        n_factors=None,
        decomposer=decomposer,
        interpolator=interpolator,
        label_names=("teff", "logg", "feh"),
    ).fit(grid.labels[keep], grid.flux[keep])
    yield make_archived()
    settings = {
        "preprocessor": {"peak_distance": 40, "degree": 2},
        "regressor": {"search": "nodes", "n_starts": 1},
    }
    cool = grid.labels[:, 0] < 5500
    yield make_stellar_pipeline(wavelength=grid.wavelength, settings=settings, random_state=0).fit(
        grid.flux[cool] * 3e14, grid.labels[cool]
    )
    yield from (SpectrumGenerator(), VoigtLineDecomposer(), BayesianStellarRegressor(), PhoenixPreprocessor())


def make_archived():
    """A generator of an archive of blase."""
    from stellarhml.grids.blase_states import state_name, write_state_dict

    wavelength, pixels = 8500 + 0.05 * np.arange(400), np.array([60, 130, 300])
    with tempfile.TemporaryDirectory() as folder:
        for teff, logg, feh in itertools.product((5000, 5400), (3.5, 4.5), (-0.5, 0.0)):
            state = {
                "lam_centers": wavelength[pixels] + teff / 1e6,
                "amplitudes": np.array([-2.0, -3.0, -4.0]) + 0.3 * feh,
                "sigma_widths": np.full(3, -2.5) + 0.1 * logg,
                "gamma_widths": np.full(3, -3.0),
                "pre_line_centers": wavelength[pixels],
            }
            write_state_dict(Path(folder) / state_name(teff, logg, feh), state)
        return SpectrumGenerator.from_blase_archive(folder, wavelength=wavelength)


def collect(value, found):
    """All objects with a tag in an object, by tag."""
    if tag := find_tag(type(value)):
        found.setdefault(tag, []).append(value)
        collect(state_of(value), found)
    elif isinstance(value, dict):
        for part in value.values():
            collect(part, found)
    elif isinstance(value, (list, tuple)):
        for part in value:
            collect(part, found)


def draft(values):
    """Schema of all of some values."""
    kinds = {}
    for value in values:
        kinds.setdefault(_kind(value), []).append(value)
    drafts = [_draft_kind(kind, group) for kind, group in sorted(kinds.items(), key=lambda pair: pair[0] != "null")]
    return drafts[0] if len(drafts) == 1 else {"anyOf": drafts}


def _kind(value):
    if value is None:
        return "null"
    if isinstance(value, (bool, np.bool_)):
        return "boolean"
    if isinstance(value, (int, np.integer)):
        return "integer"
    if isinstance(value, (float, np.floating)):
        return "number"
    if isinstance(value, (str, Path)):
        return "string"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, np.ndarray) and value.dtype.kind not in "OU":
        return f"array {value.dtype.str} {value.ndim}"
    if tag := find_tag(type(value)):
        return f"tag {tag}"
    return "array"


def _draft_kind(kind, values):
    if kind == "object":
        keys = list(dict.fromkeys(key for value in values for key in value))
        parts = {key: draft([v[key] for v in values if key in v]) for key in keys}
        required = [key for key in keys if all(key in value for value in values)]
        return {"type": "object", "properties": parts, "required": required, "additionalProperties": False}
    if kind == "array":
        items = [item for value in values for item in value]
        return {"type": "array", "items": draft(items)} if items else {"type": "array"}
    if kind.startswith("array "):
        _, name, ndim = kind.split()
        words = {np.dtype(dtype).str: word for word, dtype in DTYPES.items()}
        return {
            "tag": "tag:stsci.edu:asdf/core/ndarray-1.*",
            "datatype": words[name],
            "exact_datatype": True,
            "ndim": int(ndim),
        }
    if kind.startswith("tag "):
        return {"tag": TAGS + kind[4:].rpartition(".")[0].rpartition(".")[0] + ".*"}
    return {"type": kind}


def make_schema(tag, values):
    """Schema of a tag."""
    states = [state_of(value) for value in values]
    body = _draft_kind("object", states)
    if "parameters" in body["properties"]:
        names = list(states[0]["parameters"])
        body["properties"]["parameters"] = {
            "type": "object",
            "properties": {name: {} for name in names},
            "required": names,
            "additionalProperties": False,
        }
        fitted = [state["fitted"] for state in states]
        body["properties"]["fitted"] = draft([*fitted, None])
        body["properties"]["requests"] = {"type": "object"}
    head = {
        "$schema": "http://stsci.edu/schemas/yaml-schema/draft-01",
        "id": SCHEMAS + tag,
        "title": f"State of a {find_class_name(tag)}",
    }
    return "%YAML 1.1\n---\n" + yaml.safe_dump(head | body, sort_keys=False, width=120) + "...\n"


def main():
    """Write what is missing."""
    from attack_worker import numbers, use

    warnings.simplefilter("ignore")
    found = {}
    for estimator in make_estimators():
        collect(estimator, found)
    # objects are written under the last version of their tag: earlier ones are stored already
    missing = {tag for tag in set(READERS) - set(found) if not (FIXTURES / f"{tag}.asdf").exists()}
    if missing:
        raise SystemExit(f"No estimator here holds {sorted(missing)}: add one that does.")
    for folder in (FIXTURES, FOLDER):
        folder.mkdir(exist_ok=True)
    for tag in READERS:
        schema, path = FOLDER / f"{tag}.yaml", FIXTURES / f"{tag}.asdf"
        if not schema.exists():
            schema.write_text(make_schema(tag, found.get(tag, [])))
        if not path.exists():
            for value in found[tag]:
                with suppress(NotFittedError, ValueError):  # not fitted, or on other pixels
                    np.savez_compressed(path.with_suffix(".npz"), *numbers(use(value, 120)))
                    write_asdf(value, path)
                    break
    path = FIXTURES / "spectrum_generator-1.0.0.holed.asdf"
    if not path.exists():
        value = list(make_estimators())[3]
        np.savez_compressed(path.with_suffix(".npz"), *numbers(use(value, 120)))
        write_asdf(value, path)


if __name__ == "__main__":
    main()
