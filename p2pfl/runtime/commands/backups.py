"""A backup of a site's keys under a passphrase, and a new home from it.

Keys are what a site is; the ledger is what it did. This backs up the first alone: four secret
keys, the key of patient hashes, the network key if there is one, card, roster, configuration,
policy, and the ledger's newest head
(so that a later recovery knows how long the ledger has to be at least). A home restored from it has
no ledger, and a site that published from a shorter ledger than its neighbours have seen would
prove itself a fork. So restoring leaves a marker, and whoever starts the node has to heed it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from gossip.card import decode_card
from gossip.errors import PeerError
from gossip.identifiers import fingerprint
from gossip.keys import SiteKeys, write_keys
from ledger.log import LedgerError, LogReader, OnDamage
from ledger.provenance.moments import day_of
from p2pfl.runtime.commands.log_keys import newest_keys
from p2pfl.runtime.config import Config, read_config
from p2pfl.runtime.datasets import data_key, write_data_key
from p2pfl.runtime.errors import EXIT_CANNOT_CREATE, EXIT_DATA, EXIT_IO, EXIT_REFUSED, OperatorError
from p2pfl.runtime.home import Home, create_directories, read_bounded, sync_directory, write_durably
from p2pfl.runtime.jsonable import NotThisShape, from_json, to_json
from p2pfl.runtime.network_key import keep_network_key, network_key_file, read_network_key
from p2pfl.runtime.sealed_file import seal, unseal

PURPOSE: Final = "key-backup"
BACKUP_BYTES_MAX: Final = 8 << 20
PART_BYTES_MAX: Final = 2 << 20
MARKER: Final = "RESTORED"
FORMAT: Final = 1
KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Contents:
    """What lies in the box, as JSON with bytes in hex; secrets are never shown by repr."""

    format: int
    created_us: int
    identity: bytes = field(repr=False)
    transport: bytes = field(repr=False)
    log: bytes = field(repr=False)
    witness: bytes = field(repr=False)
    data_key: bytes = field(repr=False)
    name: str
    card: bytes
    roster: bytes
    """Empty if no roster was installed."""
    config: bytes
    policy: bytes
    head_size: int
    """Entries of the ledger when the backup was made."""
    head_note: bytes
    network_key: bytes = field(default=b"", repr=False)
    """Empty if there is none, and in backups of versions that left it out."""


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A backup that was written, or a home that was made of one."""

    path: Path
    name: str
    site: bytes
    fingerprint: str
    head_size: int
    """The ledger had this many entries when the backup was made."""
    created_us: int
    network_key: bool = False
    """Whether the consortium's network key is in it."""
    network_key_missing: bool = False
    """Whether config.toml asks for a network key that is not in it."""


def keys_backup(
    home: Home,
    out: Path,
    passphrase: str,
    *,
    now_us: int,
    random_bytes: Callable[[int], bytes],
) -> BackedUp:
    """Write the backup, mode 0600; never overwrites. Reads only, so it works beside a node.

    Raises OperatorError, KeyFileError, LedgerError.
    """
    _refuse_existing(out)
    contents = _collect(home, now_us)
    content = _packed(contents)
    line = seal(content, passphrase, purpose=PURPOSE, random_bytes=random_bytes)
    _write_new(out, line)
    return _told(out, contents)


def keys_restore(
    home: Home, backup: Path, passphrase: str, *, now_us: int, random_bytes: Callable[[int], bytes]
) -> BackedUp:
    """Make a new home with the keys of a backup, without a ledger. Raises OperatorError.

    `config.toml` is written last: until then the directory is not a home.
    """
    line = read_bounded(backup, BACKUP_BYTES_MAX)
    contents, keys = _parsed(unseal(line, passphrase, purpose=PURPOSE))
    _check_belongs_together(contents, keys)
    create_directories(home)
    # The marker comes before the keys: no moment in which they could be used without it.
    write_durably(home.keys / MARKER, _marker(contents, now_us))
    write_keys(home.keys, keys, None, random_bytes=random_bytes)
    write_data_key(home, contents.data_key)
    if contents.network_key:
        keep_network_key(home, contents.network_key)
    write_durably(home.policy, contents.policy)
    write_durably(home.card(contents.name), contents.card, mode=0o644)
    if contents.roster:
        write_durably(home.roster, contents.roster)
    write_durably(home.config, contents.config)
    told = _told(home.path, contents)
    is_wanted = read_config(home.config).network_key
    return replace(told, network_key_missing=is_wanted and not contents.network_key)


def require_not_restored(home: Home) -> None:
    """Raises OperatorError in a home whose keys came from a backup without their ledger.

    For whoever is about to publish under these keys.
    """
    if (home.keys / MARKER).exists():
        raise OperatorError(
            "The keys of this home were restored from a backup without their ledger; publishing "
            "now could contradict what the other sites have already seen of it.",
            fix="Put the newest copy of the whole old home in place instead. If there is none: "
            "`p2pfl ledger recover` fetches the ledger from the other sites.",
            exit_code=EXIT_REFUSED,
        )


def _collect(home: Home, now_us: int) -> Contents:
    keys, config = newest_keys(home), read_config(home.config)
    size, note = _head(home)
    return Contents(
        format=FORMAT,
        created_us=now_us,
        identity=keys.identity,
        transport=keys.transport,
        log=keys.log,
        witness=keys.witness,
        data_key=data_key(home),
        name=config.name,
        card=read_bounded(home.card(config.name), PART_BYTES_MAX),
        roster=read_bounded(home.roster, PART_BYTES_MAX) if home.roster.is_file() else b"",
        config=read_bounded(home.config, PART_BYTES_MAX),
        policy=read_bounded(home.policy, PART_BYTES_MAX),
        head_size=size,
        head_note=note,
        network_key=_network_key(home, config),
    )


def _network_key(home: Home, config: Config) -> bytes:
    """The network key if one is in force or lies ready. Raises OperatorError."""
    is_there = config.network_key or network_key_file(home).exists()
    return read_network_key(home) if is_there else b""


def _packed(contents: Contents) -> bytes:
    """As JSON; what older versions do not know is left out where it is empty."""
    packed = to_json(contents)
    assert isinstance(packed, dict), "a dataclass"
    if not contents.network_key:
        del packed["network_key"]
    return json.dumps(packed).encode()


def _head(home: Home) -> tuple[int, bytes]:
    """Size and note of the newest head; keys are worth saving also where there is none."""
    try:
        reader = LogReader.open(home.path, on_damage=OnDamage.SHOW)
    except LedgerError:
        return 0, b""
    try:
        return reader.checkpoint.size, reader.note
    finally:
        reader.close()


def _parsed(content: bytes) -> tuple[Contents, SiteKeys]:
    """What the box held. An error never quotes it: it is made of secrets."""
    try:
        found = json.loads(content)
        if isinstance(found, dict):
            found.setdefault("network_key", "")
        contents = from_json(Contents, found)
        keys = SiteKeys(contents.identity, contents.transport, contents.log, contents.witness)
    except (ValueError, RecursionError, NotThisShape):
        contents = None
    is_ours = contents is not None and (
        contents.format == FORMAT
        and len(contents.data_key) == KEY_BYTES
        and len(contents.network_key) in (0, KEY_BYTES)
    )
    if contents is None or not is_ours:
        raise OperatorError(
            "The backup was written by another version.",
            fix="Restore it with the version of p2pfl that wrote it.",
            exit_code=EXIT_DATA,
        )
    return contents, keys


def _check_belongs_together(contents: Contents, keys: SiteKeys) -> None:
    try:
        card = decode_card(contents.card)
    except PeerError:
        card = None
    is_ours = card is not None and card.site == keys.site and card.name == contents.name
    # The name becomes a file's name.
    if not is_ours or "/" in contents.name or contents.name.startswith("."):
        raise OperatorError(
            "The card in the backup is not that of its keys.",
            fix="Take another copy of the backup.",
            exit_code=EXIT_DATA,
        )


def _marker(contents: Contents, now_us: int) -> bytes:
    return (
        f"Restored {day_of(now_us)} from a key backup of {day_of(contents.created_us)}, when the "
        f"ledger had {contents.head_size} entries.\n"
        "The ledger is not in a key backup: nothing may be published under these keys before it\n"
        "is back. The last head this backup knows:\n\n"
    ).encode() + contents.head_note


def _refuse_existing(out: Path) -> None:
    if os.path.lexists(out):
        raise OperatorError(
            f"{out} exists.",
            fix="Name another file; a backup is never overwritten.",
            exit_code=EXIT_CANNOT_CREATE,
        )


def _write_new(out: Path, content: bytes) -> None:
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(out, flags, 0o600)
    except FileExistsError:
        _refuse_existing(out)
        raise
    except OSError as error:
        raise _unwritable(out, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(out.parent)
    except OSError as error:
        out.unlink(missing_ok=True)
        raise _unwritable(out, error) from error


def _unwritable(out: Path, error: OSError) -> OperatorError:
    return OperatorError(
        f"{out} cannot be written: {error.strerror}.",
        fix="Check the path, its owner and free space.",
        exit_code=EXIT_IO,
    )


def _told(path: Path, contents: Contents) -> BackedUp:
    site = SiteKeys(contents.identity, contents.transport, contents.log, contents.witness).site
    return BackedUp(
        path=path,
        name=contents.name,
        site=site,
        fingerprint=fingerprint(site),
        head_size=contents.head_size,
        created_us=contents.created_us,
        network_key=bool(contents.network_key),
    )
