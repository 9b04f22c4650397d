"""config.toml: who this site is and where it listens. Parsed once into a frozen value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import tomli_w

from gossip.addresses import split_address
from gossip.errors import PeerError
from gossip.limits import ADDRESSES_MAX
from p2pfl.core.errors import ManifestError, OutOfRange
from p2pfl.core.manifest_table import Table, parse_toml
from p2pfl.runtime.errors import EXIT_CONFIG, EXIT_USAGE, OperatorError, as_sentence
from p2pfl.runtime.home import read_own

CONFIG_BYTES_MAX: Final = 64 * 1024

_KEYS: Final = (
    "name",
    "listen",
    "announce",
    "consortium",
    "metrics",
    "mdns",
    "network_key",
    "upload_mbit_s",
    "models_gb",
)
_LIMITS: Final = ("upload_mbit_s", "models_gb")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")
_CONSORTIUM: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_ADDRESS: Final = re.compile(r"[^\s]{1,261}")
_ANYWHERE: Final = ("0.0.0.0", "[::]")  # noqa: S104 - recognised in order to be refused in cards


@dataclass(frozen=True, slots=True)
class Config:
    """What `init` was told."""

    name: str
    """Short name of the site, a-z, 0-9, `_.-`; also the name of its card file."""
    listen: str
    """host:port the node binds."""
    announce: tuple[str, ...]
    """host:port under which other sites reach it; equals `listen` unless that is a wildcard.

    Empty: nobody can dial it."""
    consortium: str
    metrics: str = ""
    """host:port where monitoring reads numbers; empty: nowhere."""
    mdns: bool = False
    """Whether the site is announced on the local network, and members are looked for there."""
    network_key: bool = False
    """Whether every connection is covered by the key in keys/swarm.key, the same at all members."""
    upload_mbit_s: float = 0.0
    """What models may take of the line out, in megabits a second; 0: all there is."""
    models_gb: float = 0.0
    """What models may take of the disk, in gigabytes (10⁹ bytes); 0: all but a reserve."""

    @property
    def upload_bytes_per_s(self) -> float:
        """0: all there is."""
        return self.upload_mbit_s * 1e6 / 8

    @property
    def listen_host(self) -> str:
        """Without brackets around IPv6."""
        return split_listen(self.listen)[0]

    @property
    def listen_port(self) -> int:
        """1…65535."""
        return split_listen(self.listen)[1]


def split_listen(address: str) -> tuple[str, int]:
    """Host without brackets, and port, of a checked "host:port"."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def make_config(
    name: str,
    listen: str,
    announce: tuple[str, ...],
    consortium: str,
    *,
    dial_only: bool = False,
) -> Config:
    """Check what a person typed. dial_only: it announces no address. Raises OperatorError."""
    document: dict[str, object] = {"name": name, "listen": listen, "consortium": consortium}
    if announce or dial_only:
        document["announce"] = list(announce)
    try:
        return _config(Table(document, "", _KEYS))
    except ManifestError as error:
        raise OperatorError(
            as_sentence(f"The option --{error}"),
            fix="Correct the option; `p2pfl init --help` shows an example.",
            exit_code=EXIT_USAGE,
        ) from error


def render_config(config: Config) -> bytes:
    """The TOML of a configuration."""
    document: dict[str, object] = {
        "name": config.name,
        "listen": config.listen,
        "announce": list(config.announce),
        "consortium": config.consortium,
    }
    if config.metrics:
        document["metrics"] = config.metrics
    if config.mdns:
        document["mdns"] = True
    if config.network_key:
        document["network_key"] = True
    for name in _LIMITS:
        if value := getattr(config, name):
            document[name] = value
    return tomli_w.dumps(document).encode()


def read_config(path: Path) -> Config:
    """Read config.toml strictly. Raises OperatorError that names the nearest key."""
    try:
        return _config(
            Table(
                parse_toml(read_own(path, CONFIG_BYTES_MAX), bytes_max=CONFIG_BYTES_MAX), "", _KEYS
            )
        )
    except ManifestError as error:
        raise OperatorError(
            as_sentence(f"{path}: {error}"),
            fix="Correct the file; nothing was started or changed.",
            exit_code=EXIT_CONFIG,
        ) from error


def _config(table: Table) -> Config:
    listen = table.text("listen", _ADDRESS, "host:port")
    announce = (
        table.texts("announce", _ADDRESS, "host:port", count_max=ADDRESSES_MAX)
        if table.has("announce")
        else (listen,)
    )
    _check_listen(table.at("listen"), listen)
    host = listen.rpartition(":")[0]
    if host in _ANYWHERE and not table.has("announce"):
        raise OutOfRange(
            table.at("listen"),
            expected="an announce address beside it, one that other sites can dial",
            actual=listen,
        )
    for address in announce:
        _check_announced(table.at("announce"), address)
    metrics = table.text("metrics", _ADDRESS, "host:port") if table.has("metrics") else ""
    if metrics:
        _check_listen(table.at("metrics"), metrics)
    return Config(
        name=table.text("name", _NAME, "1 to 40 of a-z, 0-9, _ . and -"),
        listen=listen,
        announce=announce,
        consortium=table.text("consortium", _CONSORTIUM, "1 to 63 of a-z, 0-9, . and -"),
        metrics=metrics,
        mdns=table.has("mdns") and table.boolean("mdns"),
        network_key=table.has("network_key") and table.boolean("network_key"),
        upload_mbit_s=_limit(table, "upload_mbit_s", 0.1),
        models_gb=_limit(table, "models_gb", 0.001),
    )


def _limit(table: Table, key: str, low: float) -> float:
    """A limit, where there is one."""
    return table.number(key, low, 1e6) if table.has(key) else 0.0


def _check_listen(place: str, listen: str) -> None:
    host, _, port = listen.rpartition(":")
    # A wildcard can be listened on though nobody can dial it.
    probe = f"localhost:{port}" if host in _ANYWHERE else listen
    try:
        split_address(probe)
    except PeerError:
        raise OutOfRange(
            place, expected="host:port, like 192.0.2.7:7100 or 0.0.0.0:7100", actual=listen
        ) from None


def _check_announced(place: str, address: str) -> None:
    try:
        split_address(address)
    except PeerError:
        raise OutOfRange(
            place,
            expected="host:port that other sites can dial (give --announce with a wildcard)",
            actual=address,
        ) from None
