"""Everything that can be known to be wrong before a node starts, said before it starts.

The node itself meets most of this, too, but later, and then a study waits. Nothing is changed.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from gossip.identifiers import SiteId
from gossip.keys import read_keys
from gossip.roster import Roster
from ledger.log import LogReader
from ledger.provenance import kinds
from p2pfl.core.history import DECIDING, History, Standing
from p2pfl.runtime.commands.backups import require_not_restored
from p2pfl.runtime.commands.clock import check_clock
from p2pfl.runtime.commands.doctoring_machine import required_version as pinned_version
from p2pfl.runtime.commands.opening import required_roster, required_version
from p2pfl.runtime.config import Config, read_config
from p2pfl.runtime.datasets import check_unchanged, data_key, dataset_of
from p2pfl.runtime.errors import (
    EXIT_CONFIG,
    EXIT_REFUSED,
    EXIT_UNAVAILABLE,
    OperatorError,
)
from p2pfl.runtime.home import Home
from p2pfl.runtime.lock import hold_home
from p2pfl.runtime.membership_files import settle_roster
from p2pfl.runtime.policy import read_policy

PINNED: Final = ("torch", "libp2p")
"""Libraries that a release stands on in one exact version."""

_LISTEN = {
    errno.EADDRINUSE: "another program listens there",
    errno.EADDRNOTAVAIL: "it is not an address of this machine",
    errno.EACCES: "this user may not use that port",
}
_DECIDING = DECIDING.union((kinds.DatasetRegistered.KIND, kinds.DatasetRevoked.KIND))


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another member of the roster, and where it is dialled; no addresses: it dials us."""

    name: str
    site: bytes
    addresses: tuple[str, ...]


def check_start(home: Home, *, now_us: int) -> tuple[Neighbour, ...]:
    """Look at everything a node needs; returns whom it will try to reach.

    Raises OperatorError, LedgerError or KeyFileError with the first thing that is wrong.
    """
    config = read_config(home.config)
    with hold_home(home, purpose="node start"):
        read_policy(home.policy)
        require_not_restored(home)
        site = read_keys(home.keys).site
        data_key(home)
        _check_installation({name: _installed(name) for name in PINNED})
        with closing(LogReader.open(home.path)) as reader:
            settle_roster(home, reader.entries())
        _check_ledger(home, required_version(home), now_us)
        check_address(config)
        return others(required_roster(home), site)


def others(roster: Roster, site: bytes) -> tuple[Neighbour, ...]:
    """Every member but `site`, by name."""
    members = sorted(roster.members, key=lambda card: (card.name, card.site))
    return tuple(
        Neighbour(card.name, card.site, card.addresses) for card in members if card.site != site
    )


def _check_installation(installed: Mapping[str, str]) -> None:
    for name, found in installed.items():
        wanted = pinned_version(name)
        if wanted and found.partition("+")[0] != wanted:
            what = f"{name} {found} is installed" if found else f"{name} is not installed"
            raise OperatorError(
                f"{what}; this version of p2pfl works with {name} {wanted}.",
                fix="Run `make setup` in the sources, or install p2pfl into a fresh environment.",
                exit_code=EXIT_CONFIG,
            )


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _check_ledger(home: Home, roster: Roster, now_us: int) -> None:
    reader = LogReader.open(home.path)
    try:
        config = read_config(home.config)
        check_own_log(roster, read_keys(home.keys).site, reader.log_id, config.name)
        newest_us, recorded, deciding = 0, b"", []
        for entry in reader.entries():
            newest_us = entry.time_us
            if entry.kind == kinds.RosterChanged.KIND:
                recorded = bytes(entry.body["hash"])  # type: ignore[arg-type]  # a digest
            if entry.kind in _DECIDING:
                deciding.append(entry)
    finally:
        reader.close()
    check_clock(now_us, newest_us)
    if recorded != roster.digest:
        raise OperatorError(
            f"The roster in {home.roster} is not the one that the ledger has on record.",
            fix="Move it away and put the signed roster into force again with `p2pfl roster "
            "install FILE`.",
            exit_code=EXIT_REFUSED,
        )
    for past in History(deciding).studies.values():
        approval = past.approval
        if past.standing is not Standing.APPROVED or approval is None:
            continue
        if approval.expires_us > now_us:
            check_unchanged(home, dataset_of(home, approval.ds))


def check_own_log(roster: Roster, site: SiteId, log_id: bytes, name: str) -> None:
    """Nobody else would know the heads of another log. Raises OperatorError."""
    if site in roster and roster.member(site).log_id != log_id:
        raise newer_ledger(name)


def newer_ledger(name: str) -> OperatorError:
    """This site goes on in a ledger that the others have not agreed to yet."""
    return OperatorError(
        "The roster in force names an older ledger of this site.",
        fix=f"Have every member sign the next roster, made with `p2pfl roster renew {name}.card "
        "--out FILE`.",
        exit_code=EXIT_REFUSED,
    )


def check_address(config: Config) -> None:
    """Listening a moment on the address says in one word what is wrong with it."""
    try:
        found = socket.getaddrinfo(
            config.listen_host, config.listen_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)  # binding alone succeeds beside a listener that reuses addresses
    except OSError as error:
        why = _LISTEN.get(error.errno or 0) or error.strerror or os.strerror(error.errno or 0)
        raise OperatorError(
            f"The node cannot listen on {config.listen}: {why}.",
            fix="End the other program, or change `listen` in config.toml; what the others dial "
            "is the address in this site's card.",
            exit_code=EXIT_UNAVAILABLE,
        ) from error
