"""Models and corrections that were forged: their checksums are right, and what they say is not."""

from __future__ import annotations

import json
import struct
import time

import numpy as np
import pytest

from spectrolabe.errors import InputError
from spectrolabe.homogenise.booster import check_booster, read_ubjson
from spectrolabe.homogenise.correction_files import load_correction
from spectrolabe.models.age_files import load_ages
from spectrolabe.models.checkpoint import load
from spectrolabe.models.denoiser import load_denoiser
from spectrolabe.models.emulator import load_emulator
from tests.fuzz import originals

MODELS = {
    "encoder": (originals.encoders, "model", load, "encoder"),
    "emulator": (originals.emulators, "model", load_emulator, "network"),
    "ages": (originals.age_models, "model", load_ages, "network"),
}


def written(files, folder):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def edit_card(folder, **changes):
    path = folder / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("size", [10**12, 50_000, -1, 0])
def test_no_network_is_made_that_is_larger_than_its_weights(tmp_path, kind, size):
    make, name, read, section = MODELS[kind]
    folder = written(next(iter(make().values())), tmp_path) / name
    assert read(folder) is not None
    sizes = json.loads((folder / "card.json").read_text())[section]
    key = "state_width" if "state_width" in sizes else "width"
    edit_card(folder, **{section: {**sizes, key: size}})
    begin = time.monotonic()
    with pytest.raises(InputError, match=folder.name):
        read(folder)
    assert time.monotonic() - begin < 5.0


@pytest.mark.parametrize("name", ["../..", "/tmp", "../../other", "../run/../../x", "\0", "..\n"])
def test_a_denoiser_reads_no_encoder_from_elsewhere(tmp_path, name):
    folder = written(originals.denoisers()["denoiser"], tmp_path) / "run" / "denoiser"
    (tmp_path / "card.json").write_text("{}")  # there is something to be found
    edit_card(folder, encoder=name)
    with pytest.raises(InputError, match=r"a name inside|a released model|null|a run, a folder"):
        load_denoiser(folder)


def test_a_denoiser_reads_the_encoder_above_and_beside(tmp_path):
    folder = written(originals.denoisers()["denoiser"], tmp_path) / "run" / "denoiser"
    assert load_denoiser(folder).name == "tiny"
    beside = tmp_path / "beside"
    beside.mkdir()
    for path in folder.iterdir():
        (beside / path.name).write_bytes(path.read_bytes())
    edit_card(beside, encoder="../run")
    assert load_denoiser(beside).name == "tiny"


@pytest.mark.parametrize(
    "changes", [{"name": "a\nb"}, {"name": "x" * 80}, {"errors": {"": [1.0]}}, {"errors": {}}]
)
def test_what_a_denoiser_writes_is_looked_at(tmp_path, changes):
    folder = written(originals.denoisers()["denoiser"], tmp_path) / "run" / "denoiser"
    edit_card(folder, **changes)
    with pytest.raises(InputError, match="denoiser"):
        load_denoiser(folder)


# forests


def forest(tmp_path) -> bytes:
    written(originals.corrections()["xgboost"], tmp_path)
    found = load_correction(tmp_path / "a.correction")
    return found.labels["teff"].curve.bend.booster  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return forest(tmp_path_factory.mktemp("forest"))


def test_a_forest_says_what_xgboost_says_of_it(raw):
    import xgboost as xgb

    tree = read_ubjson(raw)["learner"]["gradient_booster"]["model"]["trees"][0]
    said = json.loads(bytes(xgb.Booster(model_file=bytearray(raw)).save_raw("json")))
    expected = said["learner"]["gradient_booster"]["model"]["trees"][0]
    for key in ("left_children", "right_children", "split_indices", "split_conditions"):
        assert np.asarray(tree[key]).tolist() == pytest.approx(expected[key])
    check_booster("x", raw, 3)


def replaced(raw: bytes, key: str, node: int, value: float) -> bytes:
    """The first array of that name with another number."""
    at = raw.index(b"L" + struct.pack(">q", len(key)) + key.encode()) + 9 + len(key)
    assert raw[at : at + 2] == b"[$"
    size = {b"l": 4, b"d": 4, b"U": 1, b"i": 1}[raw[at + 2 : at + 3]]
    kind = {b"l": ">i", b"d": ">f", b"U": ">B", b"i": ">b"}[raw[at + 2 : at + 3]]
    begin = at + 3 + 1 + 1 + 8 + size * node
    return raw[:begin] + struct.pack(kind, value) + raw[begin + size :]


@pytest.mark.parametrize(
    ("key", "node", "value"),
    [
        ("left_children", 0, 0),  # a circle
        ("left_children", 0, 10**6),
        ("right_children", 0, 1),  # the same twice
        ("right_children", 0, -7),
        ("split_indices", 0, 99),
        ("split_indices", 0, -1),
        ("split_type", 0, 1),
        ("parents", 1, 5),
    ],
)
def test_a_forged_forest_is_refused(raw, key, node, value):
    with pytest.raises(InputError, match="a: expected trees of 3 inputs by XGBoost"):
        check_booster("a", replaced(raw, key, node, value), 3)


def test_forests_of_other_sizes_or_cut_off_are_refused(raw):
    with pytest.raises(InputError, match="trees of 4 inputs"):
        check_booster("a", raw, 4)
    for size in (0, 1, 40, len(raw) // 2, len(raw) - 1):
        with pytest.raises(InputError, match="trees of 3 inputs"):
            check_booster("a", raw[:size], 3)
    with pytest.raises(InputError, match="trees of 3 inputs"):
        check_booster("a", raw + b"x", 3)
    with pytest.raises(InputError, match="trees of 3 inputs"):
        check_booster("a", raw.replace(b"gbtree", b"dartxx"), 3)


def test_a_polynomial_of_enormous_order_is_refused(tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    written(originals.corrections()["polynomial"], tmp_path)
    path = tmp_path / "a.correction"
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["spectrolabe_correction"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    header["labels"]["teff"]["curves"][0][0]["order"] = 10**9
    save_file(tensors, path, {"spectrolabe_correction": json.dumps(header)})
    begin = time.monotonic()
    with pytest.raises(InputError, match=r"a\.correction, teff: expected the coefficients"):
        load_correction(path)
    assert time.monotonic() - begin < 2.0
