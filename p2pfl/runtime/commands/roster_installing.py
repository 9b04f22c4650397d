"""Signing a roster's file and putting a roster into force: the way of founders, of members whose
site has a new ledger, and of newcomers that were given the chain of rosters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gossip.limits import CHAIN_BYTES_MAX
from gossip.roster import (
    Roster,
    encode_roster,
    merge_signatures,
    sign_roster,
    verify_founding,
    verify_succession,
)
from gossip.roster_chain import (
    Chain,
    Voted,
    certificate_of,
    decode_chain,
    is_chain,
    unanimous_link,
)
from ledger.provenance import kinds
from p2pfl.core import membership_terms as terms
from p2pfl.runtime.commands.founding import (
    RosterSeen,
    check_own_card,
    missing_in,
    read_roster,
    seen_of,
)
from p2pfl.runtime.commands.opening import Site, required_version, version_in_force
from p2pfl.runtime.errors import EXIT_CANNOT_CREATE, EXIT_DATA, OperatorError
from p2pfl.runtime.home import read_bounded, write_durably
from p2pfl.runtime.membership_files import install_chain


@dataclass(frozen=True, slots=True)
class RosterFile:
    """A roster file to sign."""

    file: Path


@dataclass(frozen=True, slots=True)
class RosterCopies:
    """Copies of one roster, each with some of the signatures."""

    files: tuple[Path, ...]


def roster_sign(site: Site, request: RosterFile) -> RosterSeen:
    """Add this site's signature to the file; install the roster if that completes it.

    Raises OperatorError if the roster is another consortium's or holds another card of this site.
    """
    roster = read_roster(request.file)
    check_own_card(site, roster)
    current = version_in_force(site.home)
    if current is not None and roster.previous == current.digest:
        site.votes.act(terms.FileSigned(roster))
    signed = sign_roster(roster, site.keys.identity)
    write_durably(request.file, encode_roster(signed), mode=0o644)
    if not missing_in(signed):
        _install(site, signed)
    return seen_of(site.home, request.file, signed)


def roster_install(site: Site, request: RosterCopies) -> RosterSeen:
    """Put a roster that every founder signed into force, and on record.

    Signatures of several copies are put together. A chain, as `roster export` writes it, leads
    over later versions. Raises OperatorError naming who has not signed, PeerError if the copies
    are of different rosters.
    """
    raw = read_bounded(request.files[0], CHAIN_BYTES_MAX)
    if is_chain(raw):
        return _install_chain(site, request.files[0], raw)
    roster, *others = [read_roster(file) for file in request.files]
    for other in others:
        roster = merge_signatures(roster, other)
    check_own_card(site, roster)
    missing = missing_in(roster)
    if missing:
        name = request.files[0].name
        raise OperatorError(
            f"The roster is not signed by {', '.join(missing)}.",
            fix=f"Have each of them run `p2pfl roster sign {name}`, then install it.",
            exit_code=EXIT_DATA,
        )
    _install(site, roster)
    return seen_of(site.home, request.files[0], roster)


def _install(site: Site, roster: Roster) -> None:
    current = version_in_force(site.home)
    if current is not None and current.digest == roster.digest:
        write_durably(
            site.home.roster, encode_roster(merge_signatures(current, roster)), mode=0o644
        )
        return
    if current is not None and roster.version > 1:
        verify_succession(roster, current)
        site.votes.act(terms.RosterGiven(unanimous_link(current, roster)))
        return
    verify_founding(roster)
    _require_first(site, roster.digest)
    # On record before it is in force: a roster that nobody recorded never decides anything.
    if roster.digest not in _recorded(site):
        changed = kinds.RosterChanged(roster.version, roster.digest, len(roster.members))
        site.record(changed.draft("operator"))
    write_durably(site.home.roster, encode_roster(roster), mode=0o644)


def _require_first(site: Site, digest: bytes) -> None:
    """No other roster was ever in force. The record counts, too: files may be moved away."""
    current = version_in_force(site.home)
    if _recorded(site) - {digest} or (current is not None and current.digest != digest):
        raise OperatorError(
            f"Another roster of {site.config.consortium} is already in force at this site.",
            fix="A founding roster cannot replace it; use a new home for a new consortium.",
            exit_code=EXIT_CANNOT_CREATE,
        )


def _install_chain(site: Site, path: Path, raw: bytes) -> RosterSeen:
    """A newcomer's first roster, or what a member slept through.

    Raises OperatorError, PeerError."""
    chain = decode_chain(raw)
    current = version_in_force(site.home)
    if current is not None:
        _follow(site, chain, current)
        return seen_of(site.home, path, required_version(site.home))
    check_own_card(site, chain.in_force)
    known = {roster.digest for roster in chain.rosters}
    if _recorded(site) - known:
        _require_first(site, chain.in_force.digest)
    if chain.in_force.digest not in _recorded(site):
        last = chain.links[-1] if chain.links else None
        certificate = certificate_of(last) if isinstance(last, Voted) else b""
        version, members = chain.in_force.version, len(chain.in_force.members)
        changed = kinds.RosterChanged(version, chain.in_force.digest, members, certificate)
        site.record(changed.draft("operator"))
    install_chain(site.home, chain)
    return seen_of(site.home, path, chain.in_force)


def _follow(site: Site, chain: Chain, current: Roster) -> None:
    """Go on from the version in force here along a chain that another member exported."""
    digests = [roster.digest for roster in chain.rosters]
    if current.digest not in digests:
        raise OperatorError(
            f"The chain does not contain the roster in force here, {current.digest.hex()[:12]}.",
            fix="It is another consortium's, or older than this site's; compare `p2pfl roster "
            "history` by telephone.",
            exit_code=EXIT_DATA,
        )
    for link in chain.links[digests.index(current.digest) :]:
        site.votes.act(terms.RosterGiven(link))


def _recorded(site: Site) -> set[object]:
    """Digests of every roster that was ever in force, as the ledger says."""
    changed = kinds.RosterChanged.KIND
    return {e.body.get("hash") for e in site.ledger.entries() if e.kind == changed}
