"""The key of a private network in a home: keys/swarm.key, in force where config.toml says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gossip.errors import KeyFileError, KeyFileMissing
from gossip.keys import read_private
from gossip.network_key import (
    FILE_BYTES_MAX,
    KEY_BYTES,
    NetworkKeyGarbled,
    parse_network_key,
    render_network_key,
)
from p2pfl.runtime.config import Config
from p2pfl.runtime.errors import EXIT_CONFIG, EXIT_DATA, EXIT_REFUSED, OperatorError
from p2pfl.runtime.home import Home, read_bounded, write_durably

_SAME = "All members need the same key: `p2pfl keys network take FILE` puts it here."


def network_key_file(home: Home) -> Path:
    """Where the key lies, whether or not there is one."""
    return home.keys / "swarm.key"


def network_key_of(home: Home, config: Config) -> bytes | None:
    """The key that covers every connection of this home's node; None where there is none.

    Raises OperatorError."""
    return read_network_key(home) if config.network_key else None


def read_network_key(home: Home) -> bytes:
    """The 32 bytes of the home's network key. Raises OperatorError."""
    path = network_key_file(home)
    try:
        return parse_network_key(read_private(path).encode("ascii"))
    except KeyFileMissing as error:
        raise OperatorError(
            f"config.toml says network_key = true, and {path} does not exist.",
            fix=f"{_SAME} Without a network key take the line out of config.toml.",
            exit_code=EXIT_CONFIG,
        ) from error
    except KeyFileError as error:
        raise OperatorError(f"{error}.", fix=f"chmod 600 {path}", exit_code=EXIT_CONFIG) from error
    except NetworkKeyGarbled as error:
        raise OperatorError(
            f"{path} is no network key: {error}.", fix=_SAME, exit_code=EXIT_CONFIG
        ) from error


def make_network_key(home: Home, random_bytes: Callable[[int], bytes]) -> bytes:
    """A new key for the whole consortium, made at one site. Raises OperatorError."""
    return keep_network_key(home, random_bytes(KEY_BYTES))


def take_network_key(home: Home, file: Path) -> bytes:
    """The key that another member made. Raises OperatorError."""
    try:
        key = parse_network_key(read_bounded(file, FILE_BYTES_MAX))
    except NetworkKeyGarbled as error:
        raise OperatorError(
            f"{file} is no network key: {error}.",
            fix="Ask the member who made it for its keys/swarm.key.",
            exit_code=EXIT_DATA,
        ) from error
    return keep_network_key(home, key)


def keep_network_key(home: Home, key: bytes) -> bytes:
    """Never over another key: members that have it would be lost. Raises OperatorError."""
    path = network_key_file(home)
    if path.exists() and read_network_key(home) != key:
        raise OperatorError(
            f"{path} holds another network key, which is not overwritten.",
            fix="To change it, all members move that file away, take the new one, and restart "
            "their nodes together.",
            exit_code=EXIT_REFUSED,
        )
    write_durably(path, render_network_key(key))
    return key
