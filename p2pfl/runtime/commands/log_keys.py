"""A key's file while the key is replaced: no stop in between leaves log or card without its key.

The new key is durable under another name before the log, or for a transport key the site's card,
names it, and takes its place after."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Final

from gossip import ed25519
from gossip.identifiers import site_id_of
from gossip.keys import Role, SiteKeys, key_path, read_key, read_keys
from ledger.log import Log, LogReader, OnDamage, Signer
from ledger.log.errors import LedgerError
from p2pfl.runtime.home import Home, sync_directory, write_durably
from p2pfl.runtime.membership_files import members_of

NEXT: Final = "next"
"""Directory below keys/ that holds a key until log or card has taken it."""


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
    roster = members_of(home)
    me = site_id_of(ed25519.public_key_of(read_key(home.keys, Role.IDENTITY)))
    named = roster.member(me).transport_pk if roster is not None and me in roster else b""
    if named == ed25519.public_key_of(read_key(home.keys / NEXT, Role.TRANSPORT)):
        os.replace(waiting, key_path(home.keys, Role.TRANSPORT))
        sync_directory(home.keys)
    else:
        waiting.unlink()


def settle_log_key(home: Home) -> None:
    """Put the next log key in its place if the log has taken it, forget it if it has not.

    For whoever holds the home's lock and is about to open the log. Raises KeyFileError."""
    waiting = key_path(home.keys / NEXT, Role.LOG)
    if not waiting.is_file():
        return
    named = _log_pk(home)
    if named == Signer(read_key(home.keys / NEXT, Role.LOG)).public_key:
        os.replace(waiting, key_path(home.keys, Role.LOG))
        sync_directory(home.keys)
    elif named is not None:  # else nobody can say which of the two is needed: both stay
        waiting.unlink()


def _log_pk(home: Home) -> bytes | None:
    """The key that the log names last; None if nobody can say."""
    try:
        with closing(LogReader.open(home.path, on_damage=OnDamage.SHOW)) as reader:
            return reader.identity.log_pk
    except LedgerError:
        return None


def opened_log(home: Home) -> tuple[SiteKeys, Log]:
    """The keys and the log of a home whose lock is held. Raises LedgerError, KeyFileError."""
    settle_log_key(home)
    settle_transport_key(home)
    keys = read_keys(home.keys)
    return keys, Log.open(home.path, log=Signer(keys.log))
