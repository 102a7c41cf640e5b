"""Scripts written for `stellarhml.io` go on working."""

import pytest

import stellarhml.io
import stellarhml.spectra


def test_the_former_name_gives_the_same_objects():
    assert stellarhml.io.__all__ == stellarhml.spectra.__all__
    for name in stellarhml.io.__all__:
        with pytest.warns(DeprecationWarning, match="now called stellarhml.spectra"):
            former = getattr(stellarhml.io, name)
        assert former is getattr(stellarhml.spectra, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = stellarhml.io.nothing
