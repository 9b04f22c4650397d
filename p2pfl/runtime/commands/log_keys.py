"""A key's file while the key is replaced: no stop in between leaves log or card without its key.

The new key is durable under another name before the log, or for a transport key the site's card,
names it, and takes its place after. The log names log and witness keys."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from typing import Final

from gossip import ed25519
from gossip.identifiers import site_id_of
from gossip.keys import Role, SiteKeys, key_path, read_key, read_keys
from ledger.log import Log, LogIdentity, LogReader, OnDamage, Signer
from ledger.log.errors import LedgerError
from p2pfl.runtime.home import Home, sync_directory, write_durably
from p2pfl.runtime.membership_files import members_of

NEXT: Final = "next"
"""Directory below keys/ that holds a key until log or card has taken it."""
_REPLACED: Final = (Role.TRANSPORT, Role.LOG, Role.WITNESS)
_NAMED_BY_LOG: Final[Mapping[Role, Callable[[LogIdentity], bytes]]] = {
    Role.LOG: lambda identity: identity.log_pk,
    Role.WITNESS: lambda identity: identity.witness_pk,
}


def keep_next_log_key(home: Home, seed: bytes) -> None:
    """Make the next log key durable. Raises OperatorError."""
    keep_next_key(home, Role.LOG, seed)


def keep_next_key(home: Home, role: Role, seed: bytes) -> None:
    """Make the next key for this purpose durable. Raises OperatorError."""
    folder = home.keys / NEXT
    folder.mkdir(mode=0o700, exist_ok=True)
    line = f"p2pfl-key-v1 {role.value} plain {seed.hex()}\n"
    write_durably(key_path(folder, role), line.encode("ascii"))


def settle_transport_key(home: Home) -> None:
    """Put the next transport key in its place if this site's card names it, else forget it.

    For whoever holds the home's lock. Raises KeyFileError, OperatorError."""
    waiting = key_path(home.keys / NEXT, Role.TRANSPORT)
    if not waiting.is_file():
        return
    if _transport_named(home) == ed25519.public_key_of(read_key(home.keys / NEXT, Role.TRANSPORT)):
        os.replace(waiting, key_path(home.keys, Role.TRANSPORT))
        sync_directory(home.keys)
    else:
        waiting.unlink()


def _transport_named(home: Home) -> bytes:
    """The transport key on this site's newest card; none if it is no member."""
    roster = members_of(home)
    me = site_id_of(ed25519.public_key_of(read_key(home.keys, Role.IDENTITY)))
    return roster.member(me).transport_pk if roster is not None and me in roster else b""


def newest_keys(home: Home) -> SiteKeys:
    """The keys that log and card name, also those that a stop kept from taking their place.

    Changes nothing, and needs no lock. Raises KeyFileError, OperatorError."""
    seeds = asdict(read_keys(home.keys))
    waiting = [role for role in _REPLACED if key_path(home.keys / NEXT, role).is_file()]
    identity = _log_identity(home) if waiting else None
    for role in waiting:
        seed = read_key(home.keys / NEXT, role)
        if role is Role.TRANSPORT:
            named = _transport_named(home)
        else:
            named = b"" if identity is None else _NAMED_BY_LOG[role](identity)
        if named == ed25519.public_key_of(seed):
            seeds[role.value] = seed
    return SiteKeys(**seeds)


def settle_log_key(home: Home) -> None:
    """Put the next log key in its place if the log has taken it, forget it if it has not.

    For whoever holds the home's lock and is about to open the log. Raises KeyFileError."""
    _settle(home, Role.LOG)


def settle_witness_key(home: Home) -> None:
    """As `settle_log_key`, for the key under which this site cosigns."""
    _settle(home, Role.WITNESS)


def _settle(home: Home, role: Role) -> None:
    waiting = key_path(home.keys / NEXT, role)
    if not waiting.is_file():
        return
    identity = _log_identity(home)
    if identity is None:
        return  # nobody can say which of the two is needed: both stay
    if _NAMED_BY_LOG[role](identity) == Signer(read_key(home.keys / NEXT, role)).public_key:
        os.replace(waiting, key_path(home.keys, role))
        sync_directory(home.keys)
    else:
        waiting.unlink()


def _log_identity(home: Home) -> LogIdentity | None:
    """Whose log it is, with the keys that it names; None if nobody can say."""
    try:
        with closing(LogReader.open(home.path, on_damage=OnDamage.SHOW)) as reader:
            return reader.identity
    except LedgerError:
        return None


def opened_log(home: Home) -> tuple[SiteKeys, Log]:
    """The keys and the log of a home whose lock is held. Raises LedgerError, KeyFileError."""
    settle_log_key(home)
    settle_witness_key(home)
    settle_transport_key(home)
    keys = read_keys(home.keys)
    return keys, Log.open(home.path, log=Signer(keys.log))
