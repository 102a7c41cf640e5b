"""Names of atoms, ions and molecules: "Fe I", "Ca II", "CN"."""

import re

_SYMBOLS = re.findall(
    "[A-Z][a-z]?",
    "HHeLiBeBCNOFNeNaMgAlSiPSClArKCaScTiVCrMnFeCoNiCuZnGaGeAsSeBrKrRbSrYZrNbMoTcRuRhPdAgCdInSnSbTeIXeCsBaLaCePrNdPmSmEuGd"
    "TbDyHoErTmYbLuHfTaWReOsIrPtAuHgTlPbBiPoAtRnFrRaAcThPaU",
)
_STAGES = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")
_NAME = re.compile(r"((?:[A-Z][a-z]?\d*)+)(?:[\s_]*(\d+|[IVX]+))?")


def species_of(name):
    """Name of a species in the form of this module, from a name such as "Fe 1", "Fe I" or "CN 1".

    Molecules lose their stage of ionisation. ValueError if an element is unknown.
    """
    match = _NAME.fullmatch(str(name).strip())
    parts = atoms_of(match[1]) if match else {}
    if not match or not parts:
        raise ValueError(f"{name!r} is not a species; a name such as 'Fe 1', 'Fe I' or 'CN 1' is needed.")
    if match[1] not in _SYMBOLS:
        return match[1]
    stage = match[2] or "1"
    number = int(stage) if stage.isdigit() else _STAGES.index(stage) + 1 if stage in _STAGES else 0
    if not 1 <= number <= len(_STAGES):
        raise ValueError(f"{name!r} has the stage of ionisation {stage!r}, but 1 to {len(_STAGES)} is needed.")
    return f"{match[1]} {_STAGES[number - 1]}"


def species_of_code(code, *, ion_per_unit):
    """Name of a species by its number: 26.01 of Kurucz (`ion_per_unit` 100), 26.1 of MOOG (10), 607 for CN.

    ValueError if an element is unknown.
    """
    whole = int(code)
    if whole < 100:
        numbers, stage = [whole], round((float(code) - whole) * ion_per_unit)
    else:
        digits = str(whole)
        digits = "0" * (len(digits) % 2) + digits
        numbers, stage = [int(digits[k : k + 2]) for k in range(0, len(digits), 2)], 0
    if not all(1 <= number <= len(_SYMBOLS) for number in numbers) or not 0 <= stage < len(_STAGES):
        raise ValueError(f"{code} is not the number of a species; one such as 26.0 (Fe I) or 607.0 (CN) is needed.")
    if len(numbers) == 1:
        return f"{_SYMBOLS[numbers[0] - 1]} {_STAGES[stage]}"
    names = [_SYMBOLS[number - 1] for number in numbers]
    if len(names) == 3:  # water
        return f"{names[0]}2{names[2]}" if names[0] == names[1] else "".join(names)
    if names[0] == names[1]:
        return f"{names[0]}2"
    # by custom hydrogen and oxygen come last: TiO and MgH, but CN and CO
    return "".join(reversed(names) if names[0] in ("H", "O") else names)


def atoms_of(species):
    """Number of atoms of each element in a species, such as {"C": 2} for "C2"; empty if one is unknown."""
    atoms = {}
    for symbol, count in re.findall(r"([A-Z][a-z]?)(\d*)", str(species).split()[0]):
        if symbol not in _SYMBOLS:
            return {}
        atoms[symbol] = atoms.get(symbol, 0) + int(count or 1)
    return atoms
