"""The configuration of `perdure serve`: what is unknown or wrong is refused by key and place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perdure import TrustPolicy
from perdure.errors import ConfigInvalid
from perdure.server import Config, load_config

GIVEN: dict[str, Any] = {"store": "sqlite:///a.db", "app": "m:app"}


def test_what_is_given_stands_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "perdure.toml"
    file.write_text('store = "file"\napp = "file"\nhost = "file"\nport = 1\n')

    found = load_config({"store": "given", "app": None}, environment={"PERDURE_STORE": "env", "PERDURE_APP": "env", "PATH": "x"}, file=file)

    assert found == Config(store="given", app="env", host="file", port=1)


def test_the_environment_can_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "perdure.toml"
    file.write_text('store = "file"\napp = "file"\ndev = true\n')

    assert load_config({}, environment={"PERDURE_CONFIG": str(file)}).dev


@pytest.mark.parametrize(("text", "meant"), [("1", True), ("true", True), ("no", False), ("0", False)])
def test_a_flag_in_the_environment_is_a_word(text: str, meant: bool) -> None:
    assert load_config(GIVEN, environment={"PERDURE_DEV": text, "PERDURE_PORT": "99"}) == Config(**GIVEN, dev=meant, port=99)


@pytest.mark.parametrize(
    ("given", "environment", "text", "named"),
    [
        (GIVEN, {"PERDURE_PROT": "1"}, "", ["PERDURE_PROT", "the environment"]),
        (GIVEN, {"PERDURE_PORT": "x"}, "", ["PERDURE_PORT", "the environment", "'x'"]),
        (GIVEN, {"PERDURE_DEV": "maybe"}, "", ["PERDURE_DEV", "'maybe'"]),
        (GIVEN, {}, "prot = 1", ["'prot'", "perdure.toml"]),
        (GIVEN, {}, "port = 70000", ["'port'", "perdure.toml", "65535"]),
        (GIVEN, {}, 'dev = "yes"', ["'dev'", "perdure.toml"]),
        (GIVEN, {}, "port = ", ["perdure.toml", "TOML"]),
        ({**GIVEN, "port": -1}, {}, "", ["--port"]),
        ({**GIVEN, "tls_key": "k"}, {}, "", ["tls_key", "tls_cert"]),
        ({**GIVEN, "trusted_keys": ["ab"]}, {}, "", ["trusted_keys", "64 lower-case hex digits"]),
        (GIVEN, {"PERDURE_REQUIRE_SIGNATURE": "1"}, "", ["require_signature", "trusted_keys"]),
        (GIVEN, {}, "trusted_keys = 'ab'", ["'trusted_keys'", "perdure.toml"]),
        ({"app": "a"}, {}, "", ["store is missing", "--store"]),
    ],
)
def test_a_key_that_is_unknown_wrong_or_missing_is_named_with_its_place(
    tmp_path: Path, given: dict[str, Any], environment: dict[str, str], text: str, named: list[str]
) -> None:
    file = tmp_path / "perdure.toml"
    file.write_text(text)

    with pytest.raises(ConfigInvalid) as refused:
        load_config(given, environment=environment, file=file)

    assert [one for one in named if one not in str(refused.value)] == []


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"none\.toml"):
        load_config(GIVEN, environment={}, file=tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("given", "environment", "trust"),
    [
        ({}, {}, None),
        ({"require_signature": False}, {}, None),
        ({"trusted_keys": ["ab" * 32]}, {}, TrustPolicy(["ab" * 32])),
        ({}, {"PERDURE_TRUSTED_KEYS": f"{'ab' * 32} {'cd' * 32}"}, TrustPolicy(["cd" * 32, "ab" * 32])),
        ({"trusted_keys": ["ab" * 32]}, {"PERDURE_REQUIRE_SIGNATURE": "no"}, TrustPolicy(["ab" * 32], required=False)),
    ],
)
def test_whose_packages_are_taken_is_configured(given: dict[str, Any], environment: dict[str, str], trust: TrustPolicy | None) -> None:
    assert load_config({**GIVEN, **given}, environment=environment).trust == trust
