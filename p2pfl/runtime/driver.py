"""The asyncio driver: it feeds events to the core and performs the effects the core asks for.

Effects of one study are performed in list order in that study's lane, and an append is durable
before the next effect of the lane starts: no release without its spend on disk, no model without
its inputs on record. Long effects only start; their end comes back as an event."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from gossip.identifiers import Digest, SiteId
from gossip.limits import INLINE_BYTES_MAX
from gossip.messages import Message, StudyProposal, UpdateAnnounced
from ledger.log import Committed, Draft, LedgerError, Log
from ledger.log.errors import LogFrozen
from ledger.provenance import kinds
from p2pfl.core import drafts
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core import witnessing_gate as gate
from p2pfl.core import witnessing_terms as terms
from p2pfl.core.history import History
from p2pfl.core.manifest import Manifest, parse_manifest
from p2pfl.core.names import ModelHash, StudyId
from p2pfl.core.node import NodeCore
from p2pfl.runtime.core_timing import CoreTiming
from p2pfl.runtime.errors import EXIT_REFUSED, BlobError, OperatorError
from p2pfl.runtime.exchange import Exchange
from p2pfl.runtime.home import write_durably
from p2pfl.runtime.ledger_writer import Approval, LedgerWriter, Recorded, Unless, in_force_of
from p2pfl.runtime.membership import MembershipRunner
from p2pfl.runtime.membership_surface import NodeSurface
from p2pfl.runtime.node_clock import NodeClock
from p2pfl.runtime.study_jobs import StudyJobs
from p2pfl.runtime.surroundings import Surroundings
from p2pfl.runtime.witnessing import WitnessGiven, WitnessThread

FORK_TOLD_S = 86_400.0
"""How long a proof of a fork is offered to members that were away; then again at each start."""

EVENTS_AT_ONCE = 8
"""After so many the rest of the node has a turn, however many wait: a full queue gives none."""


class Driver:
    """Runs one node until it is stopped."""

    def __init__(self, given: Surroundings) -> None:
        self._given = given
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[ev.Event] = asyncio.Queue()
        self._lanes: dict[StudyId | None, asyncio.Queue[fx.Effect]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._timers: dict[ev.TimerKey, asyncio.TimerHandle] = {}
        self._failure: asyncio.Future[None] = self._loop.create_future()
        self.clock = NodeClock(given.clock_s)
        self._timing = CoreTiming(given.clock_s)
        members = given.membership.members
        self.core = NodeCore(given.site, members, History(given.log.entries()))
        self.writer = LedgerWriter(
            given.log, self.clock, self._recorded, in_force_of(self.core.history)
        )
        self.witness = WitnessThread(self._witness_given(), self._perform_witness, self._fail)
        self.membership = MembershipRunner(
            given.home,
            given.membership,
            NodeSurface(self, given.membership, given.observer),
            clock_s=self.clock.now_s,
            may_speak=lambda: self.core.own_log is ev.OwnLog.CONFIRMED,
        )
        self.exchange = Exchange(
            site=given.site,
            transport_seed=given.transport_seed,
            roster=members,
            transport=given.transport,
            clock=self._timing.timing_s,
            random=given.random,
            submit=self.submit,
            may_read=self.core.may_read,
            blob_path=self._blob_path,
            on_refused=given.observer.refused,
            about_logs=self.witness.give,
            about_members=self.membership.give,
        )
        self.jobs = StudyJobs(
            home=given.home,
            blobs=given.blobs,
            transport=given.transport,
            dataset_file=given.dataset_file,
            training_program=given.training_program,
            confinement=given.confinement,
            allowance=given.allowance,
            submit=self.submit,
            show=given.observer.show,
            report_bug=given.observer.bug,
            fail=self._fail,
            keep=given.keep,
        )

    async def start(self, manifests: Sequence[Manifest]) -> None:
        """Resume every study from the ledger, listen and dial.

        Raises TransportError when the address cannot be had."""
        # A crash may have left a manifest whose proposal never came on record: it comes again.
        manifests = [m for m in manifests if self.core.history.study(StudyId(m.study_id)).proposer]
        models = frozenset(ModelHash(digest) for digest in self._given.blobs.digests())
        self._tasks.append(asyncio.create_task(self._run(), name="driver"))
        self._tasks.append(asyncio.create_task(self._follow_members(), name="membership"))
        watching = self.writer.watch_clock(lambda: self.core.own_log is ev.OwnLog.CONFIRMED)
        self._tasks.append(asyncio.create_task(watching, name="clock"))
        self.submit(ev.Begin(tuple(manifests), models, self._given.log.note, self._given.own_log))
        self.witness.start()
        await self.exchange.start()
        self.exchange.set_farewells(self._given.membership.farewells())

    async def wait(self) -> None:
        """Returns never; raises what made the node unable to go on."""
        await self._failure

    async def stop(self) -> None:
        """Release nothing more, kill the training processes, finish the ledger's last commit."""
        for timer in self._timers.values():
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(self.exchange.stop(), self.jobs.stop(), self.witness.stop())
        await self.writer.close()

    @property
    def events_waiting(self) -> int:
        """Events that the core has not looked at yet."""
        return self._events.qsize()

    @property
    def effects_waiting(self) -> int:
        """Effects of all studies that have not begun."""
        return sum(lane.qsize() for lane in self._lanes.values())

    def submit(self, event: ev.Event) -> None:
        """Tell the core that something happened. Called on the loop's thread."""
        self._events.put_nowait(event)

    async def append(self, drafts: Sequence[Draft]) -> Recorded:
        """Append entries for a person's command; the core learns of them like of its own.

        Raises OperatorError where the site is read-only."""
        self.require_writable()
        return await self.writer.append(drafts)

    async def append_unless(self, drafts: Sequence[Draft], unless: Unless) -> Recorded | None:
        """Like `append`, unless something on record by then spoils it: then None."""
        self.require_writable()
        return await self.writer.append_unless(drafts, unless)

    async def change_log(self, work: Callable[[Log, int], Committed | None]) -> Recorded | None:
        """A new log key or an erased value, for a person's command: see `LedgerWriter.perform`."""
        self.require_writable()
        return await self.writer.perform(work)

    # -- events in, effects out ------------------------------------------------------------------

    async def _run(self) -> None:
        for number in itertools.count(1):
            event = await self._events.get()
            try:
                effects = self._timing.handled(self.core, event)
            except Exception as error:
                self._fail(error)
                raise
            for site, rule in self.core.conduct.fresh():
                self.exchange.blame(site, rule)
            for effect in effects:
                self._lane(effect.study).put_nowait(effect)
            if number % EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _follow_members(self) -> None:
        try:
            await self.membership.run()
        except Exception as error:
            self._fail(error)
            raise

    def _lane(self, study: StudyId | None) -> asyncio.Queue[fx.Effect]:
        """It ends when it is empty: members choose which studies they speak of."""
        lane = self._lanes.get(study)
        if lane is None:
            lane = self._lanes[study] = asyncio.Queue()
            task = asyncio.create_task(self._perform_lane(study, lane), name="lane")
            self._tasks.append(task)
            task.add_done_callback(self._tasks.remove)
        return lane

    async def _perform_lane(self, study: StudyId | None, lane: asyncio.Queue[fx.Effect]) -> None:
        while not lane.empty():
            try:
                await self._perform(lane.get_nowait())
            except Exception as error:
                self._fail(error)
                raise
        del self._lanes[study]

    def _fail(self, error: Exception) -> None:
        """A ledger that cannot be written, or our bug: the node stops rather than guess."""
        if not self._failure.done():
            self._failure.set_exception(error)
            self._failure.exception()  # whoever waits is told; nobody may be waiting any more
        if not isinstance(error, LedgerError | OperatorError):
            self._given.observer.bug(error)

    async def _perform(self, effect: fx.Effect) -> None:
        if self.core.own_log is ev.OwnLog.READ_ONLY and isinstance(effect, gate.Held):
            return  # it was on its way when the log turned out to be forked, or too short
        match effect:
            case fx.Append():
                await self._append(effect)
            case fx.Freeze():
                await self._freeze(effect)
            case fx.Offer():
                await self._offer(effect)
            case fx.Withdraw(key=key):
                self.exchange.withdraw(key)
            case fx.KeepProposal():
                await asyncio.to_thread(self._keep_proposal, effect)
            case fx.HeadHeard(log_id=log_id, note=note):
                self.witness.give(terms.HeadSeen(log_id, note))
            case fx.CloseTraining():
                await self.jobs.close_training(effect)
            case fx.SetTimer():
                self._set_timer(effect)
            case fx.Show(study=study, notice=notice):
                self._given.observer.show(study, notice)
            case (
                fx.OpenTraining()
                | fx.Train()
                | fx.Score()
                | fx.ReleaseModel()
                | fx.Obtain()
                | fx.FetchModel()
                | fx.Average()
            ):
                self.jobs.start(effect)
            case _:
                assert_never(effect)

    # -- the small effects -----------------------------------------------------------------------

    def _recorded(self, recorded: Recorded) -> None:
        self.submit(ev.Appended(recorded.entries, recorded.note))
        self.witness.give(terms.OwnGrew())

    async def _append(self, effect: fx.Append) -> None:
        with contextlib.suppress(LogFrozen):  # the proof came while this was waiting
            if effect.under is None:
                await self.writer.append(effect.drafts, effect.links)
            else:
                approval = Approval(effect.under, effect.approved_seq)
                await self.writer.append_under(approval, effect.drafts, effect.links)

    async def _freeze(self, effect: fx.Freeze) -> None:
        """The last entry: whatever was queued before it is written, nothing after it is."""
        found = kinds.ForkFound(self._given.log.log_id, effect.form, effect.proof)
        with contextlib.suppress(LogFrozen):
            await self.writer.append([found.draft(drafts.NODE_ACTOR)])

    async def _offer(self, effect: fx.Offer) -> None:
        try:
            message = await asyncio.to_thread(self._with_payload, effect.message)
        except BlobError as error:  # damaged by our own disk: nobody can be given it any more
            sentence = f"a model that was to be sent is not what it was: {error}"
            self._given.observer.show(effect.study, fx.Happened("blob_damaged", sentence, ()))
            return
        self.exchange.offer(effect.key, message, effect.sites, effect.expires_s)

    def _with_payload(self, message: Message) -> Message:
        """Put a small model inline: one message then is all a neighbour needs. In a thread.

        Raises BlobError."""
        blobs = self._given.blobs
        if isinstance(message, UpdateAnnounced) and message.size <= INLINE_BYTES_MAX:
            return replace(message, inline=blobs.read_bytes(message.hash))
        if isinstance(message, StudyProposal):
            initial = parse_manifest(message.manifest).study.initial_model
            if blobs.has(initial) and blobs.size_bytes(initial) <= INLINE_BYTES_MAX:
                return replace(message, initial=blobs.read_bytes(initial))
        return message

    def _keep_proposal(self, effect: fx.KeepProposal) -> None:
        write_durably(self._given.home.study(effect.study), effect.manifest.raw)
        self.jobs.keep_initial(effect)

    # -- witnessing ------------------------------------------------------------------------------

    def _witness_given(self) -> WitnessGiven:
        given = self._given
        return WitnessGiven(
            home=given.home.path,
            site=given.site,
            roster=given.membership.members,
            own=given.log,
            witness=given.witness,
            identity_pk=given.log.identity.identity_pk,
            study_sites=self._study_sites,
            clock_s=self.clock.now_s,
            must_ask=given.own_log is ev.OwnLog.UNCONFIRMED,
            offline_ok=given.offline_ok,
            faulty=given.faulty_witnesses,
        )

    def _study_sites(self, study: bytes) -> Sequence[SiteId]:
        """Called in the witness's thread: one look into a dictionary."""
        proposal = self.core.proposals.get(StudyId(study))
        return () if proposal is None else proposal.manifest.study.sites

    def _perform_witness(self, outputs: Sequence[terms.WitnessOutput]) -> None:
        for output in outputs:
            match output:
                case terms.Tell(site=site, message=message):
                    self.exchange.tell(site, message)
                case terms.TellEveryone(message=message):
                    key = f"fork/{message.digest.hex()}/{message.part}"
                    self.exchange.offer(key, message, None, self._timing.timing_s() + FORK_TOLD_S)
                case terms.Learned(event=event):
                    self.submit(event)
                case terms.ForkKept():
                    pass  # written by the witness's own thread
                case _:
                    assert_never(output)

    def require_writable(self) -> None:
        """Raises OperatorError where this site records nothing more, and says why."""
        if self.core.read_only_reason:
            raise OperatorError(
                self.core.read_only_reason,
                fix="`p2pfl ledger status` shows what the other sites hold.",
                exit_code=EXIT_REFUSED,
            )

    def _set_timer(self, effect: fx.SetTimer) -> None:
        earlier = self._timers.pop(effect.key, None)
        if earlier is not None:
            earlier.cancel()
        delay_s = max(0.0, effect.at_s - self._timing.timing_s())
        self._timers[effect.key] = self._loop.call_later(delay_s, self._fire, effect.key)

    def _fire(self, key: ev.TimerKey) -> None:
        self._timers.pop(key, None)
        self.submit(ev.TimerFired(key))

    def _blob_path(self, digest: Digest) -> Path | None:
        return self._given.blobs.path(digest) if self._given.blobs.has(digest) else None
