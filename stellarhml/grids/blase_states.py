"""State dictionaries of gully/blase: one `.pt` file for each node of the grid, named `T4700G4.5Z-0.5.pt`.

A file holds, for every line, `lam_centers` [vacuum angstrom] and the natural logs `amplitudes` (of a dimensionless
amplitude), `sigma_widths` and `gamma_widths` (of angstrom); `pre_line_centers` are the centres before fitting, and
`a_coeff, b_coeff, c_coeff` and `radial_velocity` belong to the whole spectrum.
"""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np

from stellarhml.exceptions import BlaseStateError, GridNotFoundError, SpectrumFileError
from stellarhml.storage.atomic_files import atomic_path
from stellarhml.storage.file_sizes import LIMITS, refuse_large, refuse_large_archive

LINE_KEYS = ("lam_centers", "amplitudes", "sigma_widths", "gamma_widths")
OPTIONAL_LINE_KEYS = ("pre_line_centers",)
SPECTRUM_DEFAULTS = {"a_coeff": 1.0, "b_coeff": 0.0, "c_coeff": 0.0, "radial_velocity": 0.0}

_NUMBER = r"([+-]?\d+(?:\.\d+)?)"
_STATE_NAME = re.compile(rf"T{_NUMBER}G{_NUMBER}Z{_NUMBER}\.pt")


def read_state_dict(path) -> dict:
    """Read one `.pt` file with `torch.load(weights_only=True)`, which runs no code.

    Returns float64 arrays by name: `lam_centers`, `amplitudes`, `sigma_widths`, `gamma_widths`, each (n_lines,), and of
    `pre_line_centers` (n_lines,), `a_coeff`, `b_coeff`, `c_coeff`, `radial_velocity` those that the file has. Values
    are as in the file: logs stay logs, NaN stays NaN. FileNotFoundError if there is no such file; BlaseStateError if it
    is not a file of torch, is truncated, lacks a key, or its arrays differ in length.
    """
    import torch

    path = Path(path)
    try:
        refuse_large(path, "binary")
        with open(path, "rb") as file:
            packed = file.read(4) == b"PK\x03\x04"  # files of old versions of torch are not archives
        if packed:
            refuse_large_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except SpectrumFileError as error:
        raise BlaseStateError(str(error)) from error
    except Exception as error:  # torch raises RuntimeError, EOFError, UnpicklingError, ... by the kind of damage
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BlaseStateError(
            f"{path} ({path.stat().st_size} bytes) cannot be read by torch.load(weights_only=True): {reason} A whole "
            "file written by torch.save(model.state_dict()) is needed; copy it again from the archive."
        ) from error
    if not isinstance(content, dict):
        raise BlaseStateError(
            f"{path} holds a {type(content).__name__}, but a dictionary with the keys {', '.join(LINE_KEYS)} is "
            "needed. Save model.state_dict(), not the model."
        )
    known = (*LINE_KEYS, *OPTIONAL_LINE_KEYS, *SPECTRUM_DEFAULTS)
    tensors = {key: value for key, value in content.items() if key in known and isinstance(value, torch.Tensor)}
    for key, value in tensors.items():  # a tensor may repeat one number without holding it more than once
        if 8 * value.numel() > LIMITS["binary"]:
            raise BlaseStateError(f"{path} claims {value.numel():,} numbers of {key}; one for each line is needed.")
    state = {key: value.detach().to(torch.float64).numpy() for key, value in tensors.items()}
    _check_state(state, path)
    return state


def write_state_dict(path, state) -> None:
    """Write one state dictionary, as `read_state_dict` returns it, as blase does.

    `a_coeff` (1), `b_coeff`, `c_coeff` and `radial_velocity` (0) are added if absent. The file appears under its name
    only when it is complete. BlaseStateError if a key is missing or unknown to blase, or the lengths differ.
    """
    import torch

    path = Path(path)
    arrays = {key: np.asarray(value, dtype=np.float64) for key, value in state.items()}
    unknown = set(arrays) - {*LINE_KEYS, *OPTIONAL_LINE_KEYS, *SPECTRUM_DEFAULTS}
    if unknown:
        raise BlaseStateError(
            f"The state for {path} has the keys {', '.join(sorted(unknown))}, which blase does not know. Leave them "
            "out."
        )
    _check_state(arrays, path)
    for key, value in SPECTRUM_DEFAULTS.items():
        arrays.setdefault(key, np.float64(value))
    with atomic_path(path) as temporary:
        torch.save({key: torch.tensor(value, dtype=torch.float64) for key, value in arrays.items()}, temporary)


def state_name(teff: float, logg: float, feh: float) -> str:
    """Blase's file name of a node: `teff` [K] is a whole number, `logg` [dex(cm/s2)], `feh` [dex].

    Examples
    --------
    >>> from stellarhml.grids.blase_states import state_name
    >>> state_name(4700, 4.5, -0.5), state_name(5000, 4, 0)
    ('T4700G4.5Z-0.5.pt', 'T5000G4.0Z0.0.pt')
    """
    if teff != int(teff):
        raise ValueError(f"`teff` is {teff}, but blase names hold whole kelvins. Pass the label of a node of the grid.")
    return f"T{int(teff)}G{float(logg)}Z{float(feh) + 0.0}.pt"


def parse_state_name(name) -> tuple[float, float, float]:
    """Labels (teff [K], logg [dex(cm/s2)], feh [dex]) in the name of a state file.

    BlaseStateError if it has another form. "0", "0.0" and "-0.0" are all a metallicity of zero.
    """
    match = _STATE_NAME.fullmatch(Path(name).name)
    if match is None:
        raise BlaseStateError(f"{name} is not named like T4700G4.5Z-0.5.pt (Teff, log g, metallicity). Rename it so.")
    teff, logg, feh = (float(number) + 0.0 for number in match.groups())
    return teff, logg, feh


def list_states(folder) -> tuple[np.ndarray, list[Path]]:
    """State files of a folder: labels (n_states, 3) float64, sorted, and the paths in the same order.

    Labels are teff [K], logg [dex(cm/s2)], feh [dex]; files with other names are ignored. GridNotFoundError if the
    folder does not exist or holds no state file; BlaseStateError if two files have the same node.
    """
    folder = Path(folder).expanduser()
    names = [p for p in folder.iterdir() if _STATE_NAME.fullmatch(p.name)] if folder.is_dir() else []
    if not names:
        raise GridNotFoundError(
            f"{folder} {'holds no file named like T4700G4.5Z-0.5.pt' if folder.is_dir() else 'is not a folder'}. Pass "
            "the folder with the state files of blase."
        )
    found = sorted((parse_state_name(path), path) for path in names)
    for (labels, path), (next_labels, next_path) in pairwise(found):
        if labels == next_labels:
            raise BlaseStateError(
                f"{path.name} and {next_path.name} in {folder} have the same node {labels}, but only one may. Move one "
                "of them away."
            )
    return np.array([labels for labels, _ in found]), [path for _, path in found]


def _check_state(state, path):
    """Raise if a state lacks a key, or its arrays differ in length."""
    missing = [key for key in LINE_KEYS if key not in state]
    if missing:
        raise BlaseStateError(
            f"{path} lacks {', '.join(missing)}; it has {', '.join(sorted(state)) or 'no known key'}. A state of "
            f"blase has {', '.join(LINE_KEYS)}."
        )
    lines = {key: state[key].shape for key in (*LINE_KEYS, *OPTIONAL_LINE_KEYS) if key in state}
    if any(len(shape) != 1 for shape in lines.values()) or len(set(lines.values())) != 1:
        raise BlaseStateError(
            f"{path} has arrays of the shapes {', '.join(f'{key} {shape}' for key, shape in lines.items())}, but all "
            "must be one-dimensional and of one length, one value for each line."
        )
    for key in SPECTRUM_DEFAULTS:
        if key in state and state[key].size != 1:
            raise BlaseStateError(f"{path} has {key} of shape {state[key].shape}, but it must be a single number.")
