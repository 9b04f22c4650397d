"""What the membership machine does to a running node: whom it talks to, and what it records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gossip.identifiers import SiteId
from gossip.roster import Roster
from gossip.roster_messages import RosterMessage
from ledger.log import Draft
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core import witnessing_terms as terms
from p2pfl.core.membership import Membership
from p2pfl.core.membership_cards import alone

if TYPE_CHECKING:
    from p2pfl.runtime.driver import Driver
    from p2pfl.runtime.surroundings import Observer


@dataclass(frozen=True, slots=True)
class NodeSurface:
    """Implements `membership.Surface` around a driver. Used from its loop."""

    driver: Driver
    membership: Membership
    observer: Observer

    def tell_member(self, site: SiteId | None, message: RosterMessage) -> None:
        """Send it to one member, or to all that are connected."""
        for each in sorted(self.driver.core.connected) if site is None else [site]:
            self.driver.exchange.tell(each, message)

    async def say_farewell(self, sites: Sequence[SiteId], message: RosterMessage) -> None:
        """Tell members that left why, before they are cut off."""
        connected = self.driver.core.connected
        await self.driver.exchange.tell_last([s for s in sites if s in connected], message)

    def set_roster(self, roster: Roster) -> None:
        """Talk to these from now on; connections with sites that left are closed.

        A site that is no member any more talks to nobody."""
        me = self.driver.core.me
        self.submit(ev.MembersChanged(roster))
        if me in roster:
            self.driver.exchange.set_roster(roster)
            self.driver.exchange.set_farewells(self.membership.farewells())
            self.driver.witness.give(terms.Members(roster))
        else:
            self.driver.exchange.set_roster(alone(self.membership.chain, me))

    async def record_for_members(self, drafts: Sequence[Draft]) -> None:
        """Append entries about members. Raises LedgerError."""
        await self.driver.writer.append(drafts)

    def submit(self, event: ev.Event) -> None:
        """Tell the core."""
        self.driver.submit(event)

    def show(self, notice: fx.Notice) -> None:
        """Tell people."""
        self.observer.show(None, notice)
