"""The membership machine at work: in a running node, and in a home whose node is stopped.

One event after the other, and of each the effects in order: an entry is durable before the
statement that it records leaves the site."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar, assert_never

from gossip.errors import PeerError
from gossip.identifiers import SiteId
from gossip.roster import Roster
from gossip.roster_messages import RosterMessage
from ledger.log import Draft
from ledger.log.errors import LogFrozen
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core import membership_terms as terms
from p2pfl.core.membership import Membership
from p2pfl.core.membership_terms import VoteRefused
from p2pfl.runtime import membership_files as files
from p2pfl.runtime.errors import EXIT_REFUSED, OperatorError, as_sentence
from p2pfl.runtime.home import Home

WAITING_MAX: Final = 1_024
"""What members said and was not looked at yet; more is dropped, because they repeat themselves."""

T = TypeVar("T")


class Surface(Protocol):
    """What the machine of a running node needs of it. Used from the loop."""

    def tell_member(self, site: SiteId | None, message: RosterMessage) -> None:
        """Send it to one member, or to all that are connected."""

    async def say_farewell(self, sites: Sequence[SiteId], message: RosterMessage) -> None:
        """Tell members that left why, before they are cut off."""

    def set_roster(self, roster: Roster) -> None:
        """Talk to these from now on."""

    async def record_for_members(self, drafts: Sequence[Draft]) -> None:
        """Durable when it returns. Raises LedgerError."""

    def submit(self, event: ev.Event) -> None:
        """Tell the core."""

    def show(self, notice: fx.Notice) -> None:
        """Tell people."""


class MembershipRunner:
    """Runs the machine inside a node's loop."""

    def __init__(
        self,
        home: Home,
        machine: Membership,
        surface: Surface,
        *,
        clock_s: Callable[[], float],
        may_speak: Callable[[], bool],
    ) -> None:
        self.machine = machine
        self._home = home
        self._surface = surface
        self._clock_s = clock_s
        self._may_speak = may_speak
        self._waiting: asyncio.Queue[terms.MembershipEvent] = asyncio.Queue(WAITING_MAX)
        self._one_at_a_time = asyncio.Lock()

    def give(self, event: terms.MembershipEvent) -> None:
        """Have something looked at. Returns at once."""
        with contextlib.suppress(asyncio.QueueFull):
            self._waiting.put_nowait(event)

    async def run(self) -> None:
        """Until cancelled. Raises what makes the node unable to go on."""
        ticked_s = self._clock_s()
        while True:
            due_s = ticked_s + terms.RECONCILE_S - self._clock_s()
            wait_s = min(terms.RECONCILE_S, max(0.0, due_s))
            try:
                async with asyncio.timeout(wait_s):
                    event = await self._waiting.get()
            except TimeoutError:
                ticked_s, event = self._clock_s(), terms.Tick()
            await self.act(event)

    async def act(self, event: terms.MembershipEvent) -> None:
        """Handle an event and perform what follows. Raises VoteRefused, PeerError for a person's;
        LedgerError or OperatorError if the home cannot be written."""
        async with self._one_at_a_time:
            is_frozen = False
            self.machine.may_speak = self._may_speak()
            for effect in self.machine.handle(self._clock_s(), event):
                if is_frozen and isinstance(effect, terms.Tell):
                    continue
                try:
                    await self._perform(effect)
                except LogFrozen:
                    # A log with two histories records nothing more, and its site says nothing
                    # more; who is a member still counts.
                    is_frozen = True

    async def _perform(self, effect: terms.MembershipEffect) -> None:
        match effect:
            case terms.Keep():
                await asyncio.to_thread(files.keep, self._home, files.kept_of(self.machine))
            case terms.KeepLink(version=version, link=link):
                await asyncio.to_thread(files.keep_link, self._home, version, link)
            case terms.KeepConflict(first=first, second=second):
                await asyncio.to_thread(files.keep_conflict, self._home, first, second)
            case terms.Record(drafts=drafts):
                await self._surface.record_for_members(drafts)
            case terms.CutOff(roster=roster):
                # At once for the node itself; the connection a moment later, after the reason.
                self._surface.submit(ev.MembersChanged(roster))
            case terms.Tell(site=site, message=message):
                self._surface.tell_member(site, message)
            case terms.Install(roster=roster, removed=removed, farewell=farewell):
                await asyncio.to_thread(files.install, self._home, roster)
                await self._surface.say_farewell(removed, farewell)
            case terms.Members(roster=roster):
                self._surface.set_roster(roster)
            case terms.Refused(site=site, rule=rule):
                self._surface.submit(ev.PeerRefused(site, rule))
            case terms.Show(event=name, sentence=sentence, fields=fields):
                self._surface.show(fx.Happened(name, sentence, fields))
            case _:
                assert_never(effect)


class MemberVotes(Protocol):
    """The machine as a person's command reaches it, whether a node runs or not."""

    def act(self, event: terms.MembershipEvent) -> None:
        """Do it, durably. Raises OperatorError where the vote or the roster says no."""

    def look(self, at: Callable[[Membership], T]) -> T:
        """Read from the machine while nothing else happens to it."""


@dataclass(frozen=True, slots=True)
class NodeVotes:
    """Of a running node; used from a command's thread."""

    runner: MembershipRunner
    loop: asyncio.AbstractEventLoop
    require_writable: Callable[[], None]
    """Raises OperatorError where the site is read-only."""

    def act(self, event: terms.MembershipEvent) -> None:
        """Have the node do it."""
        self.require_writable()
        acting = asyncio.run_coroutine_threadsafe(self.runner.act(event), self.loop)
        with refusals_for_people():
            acting.result()

    def look(self, at: Callable[[Membership], T]) -> T:
        """Read on the node's loop."""

        async def read() -> T:
            return at(self.runner.machine)

        return asyncio.run_coroutine_threadsafe(read(), self.loop).result()


@dataclass(frozen=True, slots=True)
class HomeVotes:
    """Of a home that this process holds; what is to be told waits for the node's next start."""

    home: Home
    load: Callable[[], Membership]
    record: Callable[[Sequence[Draft]], object]
    clock_s: Callable[[], float]

    def act(self, event: terms.MembershipEvent) -> None:
        """Do it here and now."""
        machine = self.load()
        # What follows from what others said before: a running node would have done it by itself.
        machine.may_speak = True
        for each in (terms.Tick(), event):
            with refusals_for_people():
                effects = machine.handle(self.clock_s(), each)
            for effect in effects:
                self._perform(machine, effect)

    def look(self, at: Callable[[Membership], T]) -> T:
        """Read what the home holds."""
        return at(self.load())

    def _perform(self, machine: Membership, effect: terms.MembershipEffect) -> None:
        match effect:
            case terms.Keep():
                files.keep(self.home, files.kept_of(machine))
            case terms.KeepLink(version=version, link=link):
                files.keep_link(self.home, version, link)
            case terms.KeepConflict(first=first, second=second):
                files.keep_conflict(self.home, first, second)
            case terms.Record(drafts=drafts):
                self.record(drafts)
            case terms.Install(roster=roster):
                files.install(self.home, roster)
            case terms.CutOff() | terms.Tell() | terms.Members() | terms.Refused() | terms.Show():
                pass  # no node runs: the next start reads it from the home
            case _:
                assert_never(effect)


@contextlib.contextmanager
def refusals_for_people() -> Iterator[None]:
    """What the vote or the roster refuses, as a sentence with what helps."""
    try:
        yield
    except VoteRefused as refused:
        raise OperatorError(refused.message, fix=refused.fix, exit_code=EXIT_REFUSED) from refused
    except PeerError as error:
        raise OperatorError(
            as_sentence(f"That cannot be the next roster: {error}"),
            fix="`p2pfl roster show` says who is a member, under which card.",
            exit_code=EXIT_REFUSED,
        ) from error
