"""The settings of a run, flat as options and in JSON, nested as the code has them."""

import json
from dataclasses import fields

import pytest

from command_line.settings import (
    CHANGEABLE,
    MINUTES,
    NUMBERS,
    PRESETS,
    RunSettings,
    check_settings,
    flatten_settings,
    nest_settings,
)
from programs import TINY
from train import Settings
from utils import SIZES

GIVEN = dict(corpus="/text", out="m", n_seq=16)


def test_settings_are_the_same_after_a_round_trip_through_json():
    settings = nest_settings(TINY | GIVEN | dict(sha256=["a", "b"], beta_2=0.5))
    assert settings.hparams == {name: TINY[name] for name in SIZES}
    assert settings.tokens_per_step == 64
    assert settings.optimisation.beta_2 == 0.5 and settings.optimisation.dropout == 0.1
    flat = flatten_settings(settings)
    assert "optimisation" not in flat and flat["lr"] == Settings().lr
    assert nest_settings(json.loads(json.dumps(flat))) == settings


def test_what_a_file_lacks_has_its_default_and_what_is_unknown_is_left_out():
    sizes = {name: TINY[name] for name in SIZES}
    settings = nest_settings(sizes | GIVEN | dict(resume="m", no_such_setting=1))
    assert settings.optimisation == Settings(n_seq=16)
    assert settings.preset is None and settings.val is None and settings.dtype == "float32"


def test_no_name_has_two_meanings():
    names = [field.name for kind in (RunSettings, Settings) for field in fields(kind)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_of_settings_only(preset):
    names = {field.name for kind in (RunSettings, Settings) for field in fields(kind)}
    assert set(PRESETS[preset]) <= names
    assert set(MINUTES) - set(PRESETS[preset]) in (set(), set(SIZES))


def test_the_defaults_from_python_are_those_of_the_shell():
    assert Settings().n_seq == MINUTES["n_ctx"]
    assert Settings().threads == 1  # so that BLAS can have its own, which nobody has taken away


def test_every_number_has_its_range_and_the_presets_are_within_it():
    kinds = [field for kind in (RunSettings, Settings) for field in fields(kind)]
    assert {field.name for field in kinds if field.type in (int, float)} == set(NUMBERS)
    for preset in PRESETS.values():
        check_settings(preset)
    names = {field.name for field in kinds}
    assert set(CHANGEABLE) <= names


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_steps", 0),
        ("n_steps", 2.5),
        ("n_steps", "3"),
        ("keep_best", 1),
        ("threads", True),
        ("lr", float("nan")),
        ("dtype", "int8"),
        ("optimizer", "sgd"),
        ("sha256", ["a"]),
        ("val", 3),
    ],
)
def test_a_setting_that_no_run_can_have_is_named(name, value):
    with pytest.raises(ValueError, match=f"the setting {name} is "):
        check_settings({"lr": 1, "val": None, "sha256": ["a", "b"]} | {name: value})
