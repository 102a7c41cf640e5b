"""Scripts written for `stellarhml.io` go on working."""

import importlib
import sys

import pytest

import stellarhml.spectra


def test_the_former_name_gives_the_same_objects(monkeypatch):
    monkeypatch.delitem(sys.modules, "stellarhml.io", raising=False)
    with pytest.warns(DeprecationWarning, match="now called stellarhml.spectra"):
        former = importlib.import_module("stellarhml.io")
    assert former.__all__ == stellarhml.spectra.__all__
    assert all(getattr(former, name) is getattr(stellarhml.spectra, name) for name in former.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = former.nothing
