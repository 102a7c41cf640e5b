import numpy as np
import pytest

from stellarhml.spectra import ObservedSpectrum, read_spectrum

WAVE = 5000 + 0.1 * np.arange(5)
ERROR = np.array([0.1, np.inf, 0.1, 0.2, 0.1])


@pytest.fixture
def spectrum():
    orders = [(WAVE, np.linspace(1, 2, 5) / 3, ERROR), (WAVE[:3] + 0.2, np.ones(3), np.full(3, 0.01))]
    meta = {
        "instrument": "HPF",
        "object": "β Pic",
        "resolving_power": 55000.0,
        "medium": "vacuum",
        "flux_unit": "erg / (Angstrom s cm2)",
        "order_numbers": [7, 3],
        "notes": ["Sky fibre subtracted.", "a 'quote', and a long one: " + 200 * "x"],
    }
    return ObservedSpectrum(orders, meta)


def _same(one, other):
    assert len(one.orders) == len(other.orders)
    for a, b in zip(one.orders, other.orders, strict=True):
        for part, whole in zip(a, b, strict=True):
            np.testing.assert_array_equal(part, whole)


def test_orders_are_named_and_unpack(spectrum):
    wavelength, flux, error = spectrum.orders[0]
    assert wavelength is spectrum.orders[0].wavelength
    assert flux is spectrum.orders[0].flux
    assert {part.dtype for part in (wavelength, flux, error)} == {np.dtype(np.float64)}
    assert (spectrum.n_pixels, spectrum.n_masked) == (8, 1)
    assert repr(spectrum) == "<ObservedSpectrum HPF β Pic: 2 orders, 5000.0-5000.4 angstrom, 8 pixels, 1 masked>"


def test_what_was_given_is_copied():
    flux, meta = np.ones(5), {"notes": ["one"]}
    spectrum = ObservedSpectrum([(WAVE, flux, ERROR)], meta)
    flux[:] = 3
    meta["notes"].append("two")
    assert spectrum.orders[0].flux.tolist() == [1] * 5
    assert spectrum.meta["notes"] == ["one"]
    with pytest.raises(AttributeError):
        spectrum.orders = []


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ((WAVE, WAVE), "2 parts"),
        ((WAVE, WAVE[:3], ERROR), "one length"),
        (([], [], []), "not 0"),
        ((WAVE[::-1], WAVE, ERROR), "strictly increasing"),
        ((WAVE * 0, WAVE, ERROR), "strictly increasing"),
        ((WAVE - 6000, WAVE, ERROR), "positive"),
        ((WAVE, WAVE * np.nan, ERROR), "finite fluxes"),
        ((WAVE, WAVE, -ERROR), "positive errors"),
        ((WAVE, WAVE, ERROR * np.nan), "positive errors"),
    ],
)
def test_orders_that_break_the_rules(order, message):
    with pytest.raises(ValueError, match=f"Order 0 .*{message}"):
        ObservedSpectrum([order])


def test_meta_is_complete():
    meta = ObservedSpectrum([(WAVE, WAVE, ERROR)]).meta
    assert (meta["medium"], meta["errors_known"], meta["order_numbers"], meta["notes"]) == ("vacuum", True, [0], [])
    unknown = ("instrument", "format", "file", "object", "date", "resolving_power", "flux_unit")
    assert [meta[key] for key in unknown] == [None] * 7


def test_needs_orders_and_as_many_numbers():
    with pytest.raises(ValueError, match="`orders` is empty"):
        ObservedSpectrum([])
    with pytest.raises(ValueError, match="has 2 numbers for 1 orders"):
        ObservedSpectrum([(WAVE, WAVE, ERROR)], {"order_numbers": [1, 2]})


def test_select(spectrum):
    chosen = spectrum.select([1])
    assert chosen.meta["order_numbers"] == [3]
    assert chosen.meta["object"] == "β Pic"
    np.testing.assert_array_equal(chosen.orders[0].flux, spectrum.orders[1].flux)
    with pytest.raises(IndexError, match="orders 0 to 1"):
        spectrum.select([2])


def test_replace_leaves_the_first_as_it_is(spectrum):
    other = spectrum.replace([order._replace(flux=0 * order.flux) for order in spectrum.orders], "Nothing left.")
    assert other.meta["notes"] == [*spectrum.meta["notes"], "Nothing left."]
    assert len(spectrum.meta["notes"]) == 2
    assert spectrum.orders[1].flux.tolist() == [1, 1, 1]


def test_table_has_units_and_masks(spectrum):
    table = spectrum.to_table()
    assert table.colnames == ["order", "wavelength", "flux", "error", "mask"]
    assert table["wavelength"].unit == "Angstrom"
    assert table["flux"].unit == table["error"].unit == "erg / (Angstrom s cm2)"
    assert table["mask"].tolist() == [False, True, False, False, False, False, False, False]
    assert table["order"].tolist() == [7] * 5 + [3] * 3


@pytest.mark.parametrize("name", ["star.ecsv", "star.fits", "star.FIT"])
def test_written_and_read_again_exactly(tmp_path, spectrum, name):
    spectrum.write(tmp_path / name)
    again = read_spectrum(tmp_path / name)  # the medium is in the file
    _same(again, spectrum)
    assert again.meta == spectrum.meta
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(ValueError, match=r"in vacuum by the format of ObservedSpectrum\.write"):
        read_spectrum(tmp_path / name, medium="air")


@pytest.mark.parametrize("name", ["star.ecsv", "star.fits"])
def test_own_table_that_was_cut_short(tmp_path, spectrum, name):
    path = tmp_path / name
    spectrum.write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: -len(whole) // 3])
    with pytest.raises(ValueError, match=rf"{name}.*(damaged|truncated)"):
        read_spectrum(path)


def test_write_refuses_other_suffixes(tmp_path, spectrum):
    with pytest.raises(ValueError, match=r"\.ecsv, \.fits"):
        spectrum.write(tmp_path / "star.txt")
    assert not list(tmp_path.iterdir())


def test_units_are_converted():
    import astropy.units as u

    x = np.array([5000.0, 5000.1])
    first = (x / 10 * u.nm, [1.0, 2.0] * u.Jy, [100.0, np.inf] * u.mJy)
    second = (x * u.AA, [3000.0, 4000.0] * u.mJy, [0.1, 0.2])
    got = ObservedSpectrum([first, second])
    assert got.meta["flux_unit"] == "Jy"
    np.testing.assert_allclose(got.orders[0], [x, [1, 2], [0.1, np.inf]])
    np.testing.assert_allclose(got.orders[1], [x, [3, 4], [0.1, 0.2]])
    assert ObservedSpectrum([(x, [1.0, 2.0], [0.1, 0.2])]).meta["flux_unit"] is None
    with pytest.raises(ValueError, match="Wavelength of order 0 has the unit 's'"):
        ObservedSpectrum([(x * u.s, [1.0, 2.0], [0.1, 0.2])])
    with pytest.raises(ValueError, match="Flux or error of order 0 has the unit 'ct', which does not convert to 'Jy'"):
        ObservedSpectrum([(x, [1.0, 2.0] * u.Jy, [0.1, 0.2] * u.ct)])
