import subprocess
import sys

import pytest

import stellarhml.datasets
import stellarhml.model_selection


def test_importing_the_packages_and_the_mini_grid_loads_nothing_heavy():
    code = (
        "import sys, stellarhml.datasets, stellarhml.model_selection, stellarhml.spectra\n"
        "from stellarhml.datasets import fetch_phoenix, load_mini_grid, load_phoenix, make_stellar_grid\n"
        "load_mini_grid()\n"
        "print([m for m in ('astropy', 'torch', 'matplotlib', 'gollum') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", [stellarhml.datasets, stellarhml.model_selection])
def test_public_names(package):
    for name in package.__all__:
        assert callable(getattr(package, name))
    assert dir(package) == sorted(package.__all__)
    with pytest.raises(AttributeError, match="public names are"):
        package.nothing  # noqa: B018
