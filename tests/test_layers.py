"""Data flows one way through the package (DESIGN.md, section 5)."""

import ast
import subprocess
import sys
from pathlib import Path

import stellarhml

ROOT = Path(stellarhml.__file__).parent

# Which packages each package may import, besides itself and the modules at the root that stand below everything.
FLOORS = {
    "physics": set(),
    "kernels": set(),
    "storage": set(),
    "spectra": {"physics", "storage"},
    "grids": {"kernels", "physics", "spectra", "storage"},
    "preprocessing": {"physics"},
    "lines": {"kernels", "physics", "storage"},
    "manifold": {"kernels"},
    "forward": {"kernels", "physics"},
    "synthesis": {"forward", "grids", "kernels", "lines", "manifold", "physics", "storage"},
    "inference": {"forward", "kernels", "physics", "spectra", "synthesis"},
    "calibration": {"forward", "inference", "lines", "manifold", "physics", "spectra", "synthesis"},
    "datasets": {"grids", "lines"},
    "model_selection": set(),
    "plotting": {"physics", "synthesis"},
    "explore": {"forward", "inference", "physics", "plotting", "spectra", "synthesis"},
    "workflows": {
        "calibration",
        "datasets",
        "grids",
        "inference",
        "model_selection",
        "physics",
        "pipeline",
        "plotting",
        "preprocessing",
        "spectra",
        "storage",
        "synthesis",
    },
    "cli": {"datasets", "explore", "grids", "spectra", "storage", "workflows"},
}
BELOW = {
    *("_bounds", "_grid_faults", "_parallel", "_rounding", "_sklearn", "_state", "_text", "_units", "_validation"),
    *("exceptions", "flags"),
}
TOP = {
    "__init__": set(),
    "_parallel": {"storage"},
    "pipeline": {"inference", "lines", "manifold", "preprocessing", "synthesis"},
}


def _imports(path):
    """Full names of all modules of the package that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "stellarhml")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            if node.module.split(".")[0] == "stellarhml":
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _allowed(path):
    where = path.relative_to(ROOT)
    if len(where.parts) > 1:
        return FLOORS[where.parts[0]] | BELOW | {where.parts[0]}
    name = where.stem
    return BELOW | TOP[name] if name in TOP else BELOW


def test_every_package_has_its_floor():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == set(FLOORS)


def test_imports_go_one_way():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        for name in _imports(path):
            parts = name.split(".")
            target = parts[1] if len(parts) > 1 else ""
            if target not in _allowed(path) and target != "__version__":
                wrong.append(f"{where} imports {name}")
    assert not wrong, wrong


def test_imports_come_from_the_defining_file():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        for name in _imports(path):
            parts = name.split(".")[1:-1]
            if parts and (ROOT.joinpath(*parts) / "__init__.py").is_file():
                target = ROOT.joinpath(*name.split(".")[1:])
                # importing a module from its package is not a package face
                if not target.with_suffix(".py").is_file():
                    wrong.append(f"{path.relative_to(ROOT)} imports {name} from a package face")
    assert not wrong, wrong


def test_physics_and_kernels_share_no_code():
    for package, other in (("physics", "kernels"), ("kernels", "physics")):
        for path in (ROOT / package).glob("*.py"):
            assert not any(name.startswith(f"stellarhml.{other}") for name in _imports(path)), path


def test_private_names_of_sklearn_have_one_door():
    for path in ROOT.rglob("*.py"):
        if path.name == "_sklearn.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "sklearn":
                names = [*node.module.split("."), *(alias.name for alias in node.names)]
                assert not any(name.startswith("_") for name in names), f"{path}: {names}"


def test_import_is_light():
    code = (
        "import sys, stellarhml\n"
        "heavy = {'torch', 'matplotlib', 'astropy', 'numba', 'bokeh', 'sklearn', 'pandas', 'scipy'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_torch_is_imported_only_where_its_gradients_or_a_gpu_are_asked_for():
    code = (
        "import sys\n"
        "from stellarhml import BayesianStellarRegressor, SpectrumGenerator\n"
        "from stellarhml.datasets import make_stellar_grid\n"
        "grid = make_stellar_grid(random_state=0)\n"
        "generator = SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)\n"
        "star = generator.observe(grid.labels[:1], grid.wavelength[100:-100], resolving_power=5e4, vsini=3.0)\n"
        "generator.jacobian(grid.labels[:1])\n"
        "regressor = BayesianStellarRegressor.from_generator(generator)\n"
        "regressor.infer((grid.wavelength[100:-100], star[0], 0.01 + 0 * star[0]), resolving_power=5e4)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
