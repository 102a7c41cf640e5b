import gzip

import numpy as np
import pytest

from stellarhml.exceptions import LineListError
from stellarhml.lines.line_lists import LineList, read_line_list
from stellarhml.lines.species import atoms_of, species_of, species_of_code
from stellarhml.physics.wavelength import air_to_vacuum

# Na I 8194.824 and Fe I 8468.407 in air, and CN 8000.010; excitations and strengths as NIST and VALD have them.
AIR = np.array([8000.010, 8194.824, 8468.407])
SPECIES = ["CN", "Na I", "Fe I"]
EXCITATION = np.array([0.5, 2.1044, 2.2227])
LOG_GF = np.array([-2.0, 0.492, -2.072])

VALD_LONG = """ 8000.00000, 8500.00000,  3,  99999, 1.0 Wavelength region, lines selected, lines processed, Vmicro
                                                                     Lande factors        Damping parameters   Central
Spec Ion       WL_air(A)  log gf* E_low(eV) J lo  E_up(eV) J up   lower   upper    mean   Rad.  Stark    Waals   depth
'CN 1',         8000.0100,  -2.000,  0.5000, 10.5,  2.0493, 11.5, 99.000, 99.000, 99.000, 0.000, 0.000,   0.000, 0.010,
'  Hb                                                  2s2 X,2,0,,none,1'
'  Hb                                                  2s2 A,2,0,,none,2'
'_          BBSB   1 gf:BBSB   1 BBSB   1 BBSB   1 BBSB   1 BBSB   1 BBSB   1 BBSB   1 BBSB    (12)C(14)N'
'Na 1',         8194.8240,   0.492,  2.1044,  1.5,  3.6170,  2.5,  1.330,  1.200,  1.070, 7.790,-4.960,  -7.230, 0.700,
'  LS                                                              2p6.3p 2P*'
'  LS                                                              2p6.3d 2D'
'Kurucz Na I 2006   1 KP   1 KP   1 KP   1 KP   1 KP   1 KP   1 KP   1 KP   1 KP       Na            '
'Fe 1',         8468.4070,  -2.072,  2.2227,  1.0,  3.6864,  1.0,  2.490,  2.490,  2.490, 7.170,-6.200,  -7.780, 0.640,
'  LS                                                              3d7.(4P).4s a5P'
'  LS                                                              3d7.(4P).4p z5P*'
'K14 Kurucz Fe I   1 K14   1 K14   1 K14   1 K14   1 K14   1 K14   1 K14   1 K14       Fe            '
* oscillator strengths were scaled by the solar isotopic ratios.
 References:
  1. K14: Kurucz 2014
"""
VALD_SHORT = """ 8000.00000, 8500.00000,  3,  99999, 1.0 Wavelength region, lines selected, lines processed, Vmicro
                                                 Lande  Damping parameters   Central
Spec Ion       WL_air(A)   Excit(eV) Vmic log gf*  Rad.  Stark    Waals  factor  depth  Reference
'CN 1',         8000.0100,  0.5000, 1.0, -2.000, 0.000, 0.000,  0.000, 99.000, 0.010, 'BBSB'
'Na 1',         8194.8240,  2.1044, 1.0,  0.492, 7.790,-4.960, -7.230,  1.070, 0.700, '  1 KP   1 KP'
'Fe 1',         8468.4070,  2.2227, 1.0, -2.072, 7.170,-6.200, -7.780,  2.490, 0.640, '  1 K14'
"""
MOOG = """a list of lines
 8000.010   607.0     0.5000   -2.000                    7.76
 8194.824    11.0     2.1044    0.492
 8468.407    26.0     2.2227   -2.072    2.0
"""
CSV = """species,wlcent,excit,gflog,gamvw
Fe 1,8468.407,2.2227,-2.072,-7.78
CN 1,8000.01,0.5,-2.0,0
Na 1,8194.824,2.1044,0.492,0
"""


def kurucz():
    """Lines of Kurucz in his 160 columns: nm, log gf, code, and two levels in 1/cm."""
    rows = []
    for air, code, low, log_gf in zip(AIR[1:], (11.0, 26.0), EXCITATION[1:], LOG_GF[1:], strict=True):
        first = low * 8065.543937
        second = -(first + 1e8 / air)  # a predicted level
        rows.append(
            f"{air / 10:11.4f}{log_gf:7.3f}{code:6.2f}{first:12.3f}{1.5:5.1f} {'lower':10s}{second:12.3f}{2.5:5.1f} "
            f"{'upper':10s}{7.79:6.2f}{-4.96:6.2f}{-7.23:6.2f}K14 "
        )
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize(
    ("text", "format", "first"),
    [(VALD_LONG, "vald", 0), (VALD_SHORT, "vald", 0), (MOOG, "moog", 0), (CSV, "csv", 0), (kurucz(), "kurucz", 1)],
    ids=["vald_long", "vald_short", "moog", "csv", "kurucz"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_formats(tmp_path, text, format, first, packed):
    path = tmp_path / ("lines.gz" if packed else "lines.txt")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    for stated in (None, format):
        got = read_line_list(path, format=stated)
        assert got.species.tolist() == SPECIES[first:]
        # Kurucz' files have four decimals of a nanometre
        np.testing.assert_allclose(got.wavelength, air_to_vacuum(AIR[first:]), rtol=0, atol=5e-4)
        np.testing.assert_allclose(got.excitation, EXCITATION[first:], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(got.log_gf, LOG_GF[first:])


def test_media(tmp_path):
    path = tmp_path / "lines.vald"
    path.write_text(VALD_SHORT.replace("WL_air(A)", "WL_vac(A)"))
    np.testing.assert_array_equal(read_line_list(path).wavelength, AIR)
    with pytest.raises(ValueError, match=r"`medium` is 'air', but .*lines.vald states vacuum"):
        read_line_list(path, medium="air")
    path.write_text(CSV)
    np.testing.assert_array_equal(read_line_list(path, medium="vacuum").wavelength, AIR)
    path.write_text(CSV.replace("8000.01", "1999.0"))  # in vacuum there, by the rule of all lists
    assert read_line_list(path).wavelength[0] == 1999.0


def test_units_of_vald(tmp_path):
    path = tmp_path / "lines.vald"
    head = VALD_LONG.replace("WL_air(A)", "WL_vac(nm)").replace("E_low(eV)", "E_low(cm-1)")
    path.write_text(head.replace(" 0.5000, 10.5", " 4032.77197, 10.5").replace("8000.0100", "800.00100"))
    got = read_line_list(path)
    assert got.wavelength[0] == pytest.approx(8000.01, abs=1e-9)
    assert got.excitation[0] == pytest.approx(0.5, abs=1e-8)


def test_strengths_of_moog_that_are_no_logarithms(tmp_path):
    path = tmp_path / "lines.moog"
    path.write_text(" 8194.824    11.0     2.1044    3.105\n 8468.407    26.1     2.2227   0.00847\n")
    got = read_line_list(path)
    np.testing.assert_allclose(got.log_gf, [0.492, -2.072], atol=5e-4)  # digits of the numbers above
    assert got.species.tolist() == ["Na I", "Fe II"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a line list of a known format"),
        ("once upon a time\n", "not a line list of a known format"),
        (VALD_SHORT.split("Reference\n")[1], "no line with the names of the columns"),
        (VALD_SHORT.replace("WL_air(A)", "WL_air"), "no line with the names of the columns"),
        (VALD_SHORT.replace("Excit(eV)", "Excit"), "no line with the names of the columns"),
        (kurucz().replace(" 11.00", "   inf"), "in the format kurucz"),
        ("species,wavelength,excitation\nFe 1,5000,1\n", "but log_gf is needed"),
        ("species,wavelength,excitation,log_gf\nQq 1,5000,1,0\n", "'Qq 1' is not a species"),
        ("species,wavelength,excitation,log_gf\nFe 1,,1,0\n", "1 transitions, 1 of them without"),
        ("species,wavelength,excitation,log_gf\nFe 1,red,1,0\n", "in the format csv"),
        ("8000.0 999.0 1.0 -1.0\n", "not the number of a species"),
    ],
)
def test_what_is_no_line_list(tmp_path, text, message):
    path = tmp_path / "lines.txt"
    path.write_text(text)
    with pytest.raises(LineListError, match=rf"lines\.txt.*{message}"):
        read_line_list(path)


def test_wrong_arguments_and_damaged_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="line list"):
        read_line_list(tmp_path / "none")
    path = tmp_path / "lines.csv.gz"
    path.write_bytes(gzip.compress(CSV.encode())[:-12])
    with pytest.raises(LineListError, match="cannot be unpacked"):
        read_line_list(path)
    with pytest.raises(ValueError, match="`format` is 'nist'"):
        read_line_list(path, format="nist")
    with pytest.raises(ValueError, match="`medium` is 'water'"):
        read_line_list(path, medium="water")


def test_names_of_species():
    assert [species_of(name) for name in ("Fe 1", "Fe II", "Ca 2", "C2 1", "CN", "TiO 1", "Fe")] == [
        *("Fe I", "Fe II", "Ca II", "C2", "CN", "TiO", "Fe I")
    ]
    assert species_of_code(26.01, ion_per_unit=100) == species_of_code(26.1, ion_per_unit=10) == "Fe II"
    codes = {
        10108.0: "H2O",
        608.0: "CO",
        607.0: "CN",
        606.0: "C2",
        106.0: "CH",
        108.0: "OH",
        112.0: "MgH",
        822.0: "TiO",
        607.01214: "CN",
    }
    assert {code: species_of_code(code, ion_per_unit=10) for code in codes} == codes
    assert atoms_of("CN") == {"C": 1, "N": 1}
    assert atoms_of("C2") == {"C": 2}
    assert atoms_of("H2O") == {"H": 2, "O": 1}
    assert atoms_of("Fe II") == {"Fe": 1}
    for wrong in ("", "Xx 1", "Fe 0", "Fe 99", "fe 1", "1"):
        with pytest.raises(ValueError, match=r"is needed|is not a species"):
            species_of(wrong)


def test_the_lists_of_the_shared_data(shared_data):
    got = read_line_list(shared_data.line_list("hpf"))
    assert isinstance(got, LineList)
    assert len(got.species) == 22727
    assert (np.diff(got.wavelength) >= 0).all()
    assert {"Fe I", "CN", "OH", "Ca II"} <= set(got.species)
