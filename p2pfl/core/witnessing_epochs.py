"""Under which keys members cosign, and under which they did before: their cards and logs say.

A card that lags behind the log, or runs ahead of it, changes nothing: what the log of the same
identity says of a key is newer than a card with a key that the log has replaced."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from gossip.card import Card
from gossip.identifiers import SiteId
from ledger.log import (
    KnownWitness,
    KnownWitnesses,
    LedgerError,
    LogId,
    LogIdentity,
    VerifierKey,
    identity_from,
    known_under,
)
from ledger.log.witness_store import Cosignature
from p2pfl.core.witnessing_terms import witness_key, witness_name


def epochs_of(card: Card, identity: LogIdentity | None) -> tuple[KnownWitness, ...]:
    """Every key under which a member cosigned, the one in force last.

    identity: of its log, as far as its entries prove it; None if nothing is known of them."""
    is_its = identity is not None and identity.identity_pk == card.identity_pk
    proven = identity.witnesses if identity is not None and is_its else ()
    known = known_under(witness_name(card.site), proven)
    if any(key.public_key == card.witness_pk for key in proven):
        return known
    return (*known, KnownWitness(witness_key(card)))


class Lineages(Protocol):
    """What `WitnessDatabase` holds of logs' keys."""

    def lineage(self, log_id: LogId) -> Sequence[bytes]: ...


def epochs_held(cards: Sequence[Card], book: Lineages) -> "Epochs":
    """Of these members, as far as a book knows."""
    identities = dict[bytes, LogIdentity]()
    for card in cards:
        try:
            identity = identity_from(book.lineage(LogId(card.log_id)))
        except LedgerError:
            continue  # never heard of: its card counts
        if identity is not None:
            identities[card.log_id] = identity
    return Epochs(cards, identities)


class Epochs:
    """Of all members."""

    def __init__(
        self, cards: Iterable[Card] = (), identities: Mapping[bytes, LogIdentity] | None = None
    ) -> None:
        """identities: by log id, of those logs whose site replaced keys."""
        known = identities or {}
        self._by_site = {card.site: epochs_of(card, known.get(card.log_id)) for card in cards}
        self._sites = {
            epoch.key: site for site, epochs in self._by_site.items() for epoch in epochs
        }
        self.witnesses = KnownWitnesses(self._all())

    def _all(self) -> Iterable[KnownWitness]:
        return (epoch for epochs in self._by_site.values() for epoch in epochs)

    @property
    def in_force(self) -> tuple[VerifierKey, ...]:
        """The key under which each member cosigns now."""
        return tuple(epochs[-1].key for epochs in self._by_site.values())

    @property
    def earlier(self) -> tuple[KnownWitness, ...]:
        """The keys that they had before."""
        return tuple(epoch for epochs in self._by_site.values() for epoch in epochs[:-1])

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """All of them."""
        return tuple(epoch.key for epoch in self._all())

    @property
    def believed(self) -> tuple[VerifierKey, ...]:
        """All of them that nobody disowned."""
        return self.witnesses.accusable

    def count(self, line: Cosignature) -> bool:
        """Whether a cosignature that was verified when it came still counts: not if its key had
        been replaced by then, or may have been stolen."""
        its = (epoch for epoch in self._all() if epoch.has_signed(line.line))
        return all(epoch.vouched(line.time_s) for epoch in its)

    def key_of(self, site: SiteId) -> VerifierKey:
        """The key under which a member cosigns now."""
        return self._by_site[site][-1].key

    def site_of(self, key: VerifierKey) -> SiteId | None:
        """Whose key it is or was."""
        return self._sites.get(key)

    def known(self, key: VerifierKey) -> KnownWitness | None:
        """What a key is still worth."""
        site = self._sites.get(key)
        epochs = () if site is None else self._by_site[site]
        return next((epoch for epoch in epochs if epoch.key == key), None)
