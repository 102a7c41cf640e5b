import numpy as np
import pytest
import torch

from stellarhml.exceptions import BlaseStateError, GridNotFoundError
from stellarhml.grids.blase_states import list_states, parse_state_name, read_state_dict, state_name, write_state_dict

LINES = ("lam_centers", "amplitudes", "sigma_widths", "gamma_widths")


@pytest.fixture
def state():
    rng = np.random.default_rng(0)
    return {key: rng.normal(size=7) for key in LINES}


def test_round_trip_is_exact_and_fills_what_blase_expects(tmp_path, state):
    path = tmp_path / "T4700G4.5Z-0.5.pt"
    write_state_dict(path, state | {"pre_line_centers": np.arange(7.0)})
    # Read back as blase does: a plain dictionary of float64 tensors.
    raw = torch.load(path, weights_only=True)
    assert all(value.dtype == torch.float64 for value in raw.values())
    got = read_state_dict(path)
    for key in LINES:
        np.testing.assert_array_equal(got[key], state[key])
    assert {key: float(got[key]) for key in got if key not in (*LINES, "pre_line_centers")} == {
        "a_coeff": 1.0,
        "b_coeff": 0.0,
        "c_coeff": 0.0,
        "radial_velocity": 0.0,
    }
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_state_of_a_model_with_other_entries_and_float32(tmp_path, state):
    # state_dict() of a real emulator also holds buffers of its own, and (1,)-shaped coefficients.
    tensors = {key: torch.nn.Parameter(torch.tensor(value, dtype=torch.float32)) for key, value in state.items()}
    torch.save(tensors | {"a_coeff": torch.ones(1), "wl_normed": torch.zeros(3)}, tmp_path / "a.pt")
    got = read_state_dict(tmp_path / "a.pt")
    assert got["amplitudes"].dtype == np.float64
    np.testing.assert_array_equal(got["amplitudes"], state["amplitudes"].astype(np.float32))
    assert got["a_coeff"].shape == (1,)
    assert "wl_normed" not in got


def test_golden_state_survives(tmp_path, shared_data):
    golden = {key: value for key, value in shared_data.golden().items() if key in (*LINES, "a_coeff")}
    write_state_dict(tmp_path / "T4700G4.5Z0.0.pt", golden)
    got = read_state_dict(tmp_path / "T4700G4.5Z0.0.pt")
    for key in LINES:
        np.testing.assert_array_equal(got[key], golden[key])


@pytest.mark.parametrize("key", LINES)
def test_missing_key(tmp_path, state, key):
    path = tmp_path / "T4700G4.5Z0.0.pt"
    torch.save({k: torch.tensor(v) for k, v in state.items() if k != key}, path)
    with pytest.raises(BlaseStateError, match=rf"T4700G4\.5Z0\.0\.pt lacks {key};"):
        read_state_dict(path)
    with pytest.raises(BlaseStateError, match=f"lacks {key};"):
        write_state_dict(tmp_path / "b.pt", {k: v for k, v in state.items() if k != key})


def test_unequal_lengths(tmp_path, state):
    path = tmp_path / "a.pt"
    torch.save({k: torch.tensor(v)[: 5 if k == "amplitudes" else 7] for k, v in state.items()}, path)
    with pytest.raises(BlaseStateError, match=r"a\.pt has arrays.*amplitudes \(5,\)"):
        read_state_dict(path)
    with pytest.raises(BlaseStateError, match="pre_line_centers"):
        write_state_dict(path, state | {"pre_line_centers": np.arange(6.0)})


def test_coefficient_that_is_not_a_number(tmp_path, state):
    with pytest.raises(BlaseStateError, match="radial_velocity of shape"):
        write_state_dict(tmp_path / "a.pt", state | {"radial_velocity": np.zeros(7)})


def test_unknown_key_is_not_written(tmp_path, state):
    with pytest.raises(BlaseStateError, match="wing_cut"):
        write_state_dict(tmp_path / "a.pt", state | {"wing_cut": 6000})


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_damaged_file(tmp_path, state, damage):
    path = tmp_path / "T4700G4.5Z0.0.pt"
    write_state_dict(path, state)
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"no such page", "empty": b""}[damage])
    with pytest.raises(BlaseStateError, match=r"T4700G4\.5Z0\.0\.pt .*cannot be read by torch\.load"):
        read_state_dict(path)


def test_pickle_of_a_whole_object_is_refused_without_running_it(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w').close()",))

    torch.save({"lam_centers": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(BlaseStateError, match=r"bomb\.pt"):
        read_state_dict(tmp_path / "bomb.pt")
    assert not (tmp_path / "ran").exists()


def test_other_content_and_missing_file(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "a.pt")
    with pytest.raises(BlaseStateError, match="holds a Tensor"):
        read_state_dict(tmp_path / "a.pt")
    with pytest.raises(FileNotFoundError):
        read_state_dict(tmp_path / "b.pt")


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("T4700G4.5Z-0.5.pt", (4700, 4.5, -0.5)),
        ("T12000G6.0Z0.0.pt", (12000, 6.0, 0.0)),
        ("T2300G2.0Z0.pt", (2300, 2.0, 0.0)),
        ("T2300G2.0Z-0.0.pt", (2300, 2.0, 0.0)),
        ("some/folder/T2300G2Z+0.5.pt", (2300, 2.0, 0.5)),
    ],
)
def test_names_parse(name, labels):
    assert parse_state_name(name) == labels
    assert not np.signbit(parse_state_name(name)[2]) or labels[2] < 0


def test_name_is_what_blase_formats():
    class Spectrum:  # with gollum's attributes: teff int, logg and Z floats
        teff, logg, Z = 4700, 4.5, 0.0

    spec = Spectrum()
    assert state_name(np.float64(4700), np.float64(4.5), -0.0) == f"T{spec.teff}G{spec.logg}Z{spec.Z}.pt"
    with pytest.raises(ValueError, match="whole kelvins"):
        state_name(4700.5, 4.5, 0)


@pytest.mark.parametrize("name", ["T4700G4.5.pt", "T4700G4.5Z0.0.pth", "xT4700G4.5Z0.0.pt", "TG4.5Z0.pt"])
def test_other_names_are_refused(name):
    with pytest.raises(BlaseStateError, match="is not named like"):
        parse_state_name(name)


def test_states_are_listed_in_the_order_of_their_labels(tmp_path):
    for name in ("T10000G4.0Z0.0.pt", "T4700G4.5Z-0.5.pt", "T4700G4.5Z0.0.pt", "T4700G4.0Z0.0.pt", "readme.pt"):
        (tmp_path / name).touch()
    labels, paths = list_states(tmp_path)
    assert labels.tolist() == [[4700, 4.0, 0], [4700, 4.5, -0.5], [4700, 4.5, 0], [10000, 4.0, 0]]
    assert [parse_state_name(path) for path in paths] == [tuple(row) for row in labels]


def test_folders_without_states_or_with_two_of_a_node(tmp_path):
    with pytest.raises(GridNotFoundError, match="holds no file named like"):
        list_states(tmp_path)
    with pytest.raises(GridNotFoundError, match="is not a folder"):
        list_states(tmp_path / "nowhere")
    (tmp_path / "T4700G4.5Z0.0.pt").touch()
    (tmp_path / "T4700G4.5Z-0.0.pt").touch()
    with pytest.raises(BlaseStateError, match="have the same node"):
        list_states(tmp_path)
