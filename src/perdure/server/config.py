"""The configuration of `perdure serve`: a TOML file, the environment, and the command line, each before the one it stands behind."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from perdure.errors import ConfigInvalid, TargetRefused, UsageError
from perdure.packages.signing import TrustPolicy
from perdure.sending.targets import Allowed

PREFIX: Final = "PERDURE_"
_FILE_KEY: Final = "config"
_FLAGS: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `perdure serve` is told.

    Attributes:
        store: URL of the store; it is made if there is none.
        app: `module:name` of the app; without one, the server runs what is deployed.
        host: name or address to listen on.
        port: 0 takes a free one.
        dev: ask for no tokens; on loopback only.
        tls_cert: file of the certificate and its chain, PEM; with it, only TLS is spoken.
        tls_key: file of its key, PEM, if that is not in the same file.
        push_allowed: networks such as `10.0.0.0/8`, and hosts such as `hooks.internal` or `localhost:8080`, that commands may be
            sent to beyond the public internet.
        trusted_keys: public Ed25519 keys, 64 hex digits each, whose packages are taken; none takes those of anybody.
        require_signature: whether a package that none of `trusted_keys` has signed is refused.
        strict: whether `/health/ready` fails while open processes are on packages that this node cannot load.
    """

    store: str
    app: str | None = None
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 8_080
    dev: bool = False
    tls_cert: str | None = None
    tls_key: str | None = None
    push_allowed: tuple[str, ...] = ()
    trusted_keys: tuple[str, ...] = ()
    require_signature: bool = True
    strict: bool = True

    @property
    def allowed(self) -> Allowed:
        """What `push_allowed` says. Raises ConfigInvalid."""
        try:
            return Allowed(
                networks=tuple(one for one in self.push_allowed if "/" in one),
                hosts=tuple(one for one in self.push_allowed if "/" not in one),
            )
        except TargetRefused as error:
            raise ConfigInvalid(f"push_allowed: {error}") from None

    @property
    def trust(self) -> TrustPolicy | None:
        """What `trusted_keys` and `require_signature` say. Raises ConfigInvalid."""
        if not self.trusted_keys:
            return None
        try:
            return TrustPolicy(self.trusted_keys, required=self.require_signature)
        except UsageError as error:
            raise ConfigInvalid(f"trusted_keys: {error}") from None


KEYS: Final = Config.__struct_fields__


def load_config(given: Mapping[str, Any], *, environment: Mapping[str, str], file: str | Path | None = None) -> Config:
    """Return the configuration. What is `given`, on the command line, stands before the environment, and that before the file.

    Args:
        given: by key; None is not given.
        environment: of which `PERDURE_<KEY>` counts; `PERDURE_CONFIG` names the file when `file` does not.
        file: a TOML file.

    Raises:
        ConfigInvalid: a key is unknown, wrong or missing; the text names it, and where it stands.
    """
    variables = {name.removeprefix(PREFIX).lower(): (name, text) for name, text in environment.items() if name.startswith(PREFIX)}
    named = variables.pop(_FILE_KEY, None)
    path = file if file is not None else None if named is None else named[1]
    found: dict[str, Any] = {} if path is None else _read(Path(path))
    for key, (name, text) in variables.items():
        if key not in KEYS:
            raise ConfigInvalid(f"the environment: {name} is unknown; there are {', '.join(PREFIX + one.upper() for one in KEYS)}")
        found[key] = _checked(key, _of_text(key, text), where=f"the environment: {name}")
    found |= {key: _checked(key, value, where=f"--{key.replace('_', '-')}") for key, value in given.items() if value is not None}
    if "store" not in found:
        raise ConfigInvalid(f"store is missing: give --store, {PREFIX}STORE, or `store = …` in a file for --config")
    if "tls_key" in found and "tls_cert" not in found:
        raise ConfigInvalid("tls_key is given without tls_cert: give both")
    if found.get("require_signature") and not found.get("trusted_keys"):
        raise ConfigInvalid("require_signature is given without trusted_keys: give those whose packages are taken")
    config = Config(**found)
    _ = config.allowed, config.trust  # what is not of its form is refused before anything is opened
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"{path}: it cannot be read as TOML: {error}") from error
    for key, value in found.items():
        if key not in KEYS:
            raise ConfigInvalid(f"{path}: the key {key!r} is unknown; there are {', '.join(KEYS)}")
        _checked(key, value, where=f"{path}: the key {key!r}")
    return found


def _of_text(key: str, text: str) -> Any:
    kind = Config.__annotations__[key]
    if kind == "bool":
        return _FLAGS.get(text.lower(), text)
    if kind == "tuple[str, ...]":
        return text.split()
    return int(text) if key == "port" and text.isdecimal() else text


def _checked(key: str, value: Any, *, where: str) -> Any:
    [field] = [field for field in msgspec.structs.fields(Config) if field.name == key]
    try:
        return msgspec.convert(value, field.type)
    except msgspec.ValidationError as error:
        raise ConfigInvalid(f"{where}: {error}, found {value!r}") from None
