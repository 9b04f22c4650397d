"""The node as a state machine: `handle(now, event) -> [effect]`.

No I/O, no clock, no threads, no randomness: the same events give the same effects. It decides;
the driver performs. Everything durable is a fold over the ledger (`History`); everything else is
rebuilt after a restart from what neighbours say."""

from collections import Counter
from collections.abc import Mapping
from typing import assert_never

from gossip.errors import PeerError
from gossip.identifiers import SiteId
from gossip.messages import (
    HeadAdvertised,
    StudyDecision,
    StudyProposal,
    StudySteered,
    UpdateAnnounced,
)
from gossip.pause_messages import StudyPaused
from gossip.roster import Roster
from ledger.log import Entry
from ledger.provenance import kinds
from p2pfl.core import drafts
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.conduct import Conduct, name_of
from p2pfl.core.governance import Governance, reason_to_stop
from p2pfl.core.heads import HeadCheck, OwnHead, PeerHeads, check_head
from p2pfl.core.hearing import heard_of
from p2pfl.core.history import DECIDING, History, Standing
from p2pfl.core.inbox import Heard
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import DatasetId, ModelHash, StudyId
from p2pfl.core.participants import Decisions, Proposal
from p2pfl.core.pause_words import PAUSING
from p2pfl.core.phases import Phase
from p2pfl.core.proposers import NewestWords
from p2pfl.core.refusals import ForkedHead, ForkedLog, NotTakingPart, ReusedEntry, UnknownStudy
from p2pfl.core.rounds import StudyRun
from p2pfl.core.study_events import lept, react
from p2pfl.core.witnessing_reactions import LogWatch, WitnessEvent


class NodeCore:
    """One hospital's node."""

    def __init__(
        self,
        me: SiteId,
        roster: Roster,
        history: History,
        check_head: HeadCheck = check_head,
    ) -> None:
        """check_head: how a member's signed head is verified; large simulations only count it."""
        self.me = me
        self.history = history
        self.runs: dict[StudyId, StudyRun] = {}
        self.connected: frozenset[SiteId] = frozenset()
        self._roster = roster
        self._governance = Governance(me, history)
        self.conduct = Conduct(history)
        self._own_head = OwnHead()
        self._peer_heads = PeerHeads(check_head)
        self._models: set[ModelHash] = set()
        self._has_begun = False
        self._logs = LogWatch(me, history)

    @property
    def roster(self) -> Roster:
        """The members. Who is no member any longer takes part in no study."""
        return self._roster

    @roster.setter
    def roster(self, roster: Roster) -> None:
        self._governance.members_changed(self._roster, roster)
        self._roster = roster

    @property
    def own_log(self) -> ev.OwnLog:
        """Whether this site may release anything."""
        return self._logs.gate.state

    @property
    def read_only_reason(self) -> str:
        """Why nothing is recorded or released any more, and what helps; empty if all is well."""
        return self._logs.gate.reason

    @property
    def accused(self) -> frozenset[SiteId]:
        """Members whose logs are proved to have two histories: on record here."""
        return self._logs.accused(self._roster)

    @property
    def proposals(self) -> Mapping[StudyId, Proposal]:
        """Every study whose manifest is kept here."""
        return self._governance.proposals

    @property
    def decisions(self) -> Decisions:
        """What other sites decided."""
        return self._governance.decisions

    @property
    def steerings(self) -> NewestWords[StudySteered]:
        """What proposers said of their studies."""
        return self._governance.steerings

    @property
    def refused(self) -> Counter[tuple[SiteId, str]]:
        """What was refused, by sender and violated rule."""
        return self.conduct.refused

    def may_read(self, site: SiteId, model: bytes) -> bool:
        """Whether a member may fetch a blob: see `Governance.may_read`."""
        return self._governance.may_read(site, model)

    # -- dispatch --------------------------------------------------------------------------------

    def handle(self, now_s: float, event: ev.Event) -> list[fx.Effect]:
        """Everything the node does. Never raises because of what a peer sent."""
        effects = self._react(now_s, event)
        for study in self.runs if len(self.runs) < 2 else sorted(self.runs):
            effects += self.runs[study].advance(now_s)
        return self._logs.gate.passed(effects)

    def _react(self, now_s: float, event: ev.Event) -> list[fx.Effect]:
        match event:
            case ev.Delivered():
                return self._deliver(now_s, event)
            case ev.Begin():
                return self._begin(now_s, event)
            case ev.Met(site=site):
                return self._set_connected(now_s, self.connected | {site})
            case ev.Lost(site=site):
                return self._set_connected(now_s, self.connected - {site})
            case ev.PeerRefused(site=site, rule=rule):
                return self.conduct.count(self.roster, site, rule, "")
            case ev.Appended():
                return self._appended(now_s, event)
            case ev.LogKeys():
                return self._peer_heads.learn(event)
            case (
                ev.OwnLogConfirmed()
                | ev.OwnLogWords()
                | ev.OfflineStart()
                | ev.OwnLogBehind()
                | ev.ForkFound()
            ):
                return self._witnessed(event)
            case ev.MembersChanged(roster=roster):
                return self._members_changed(roster)
            case ev.ManifestKept(manifest=manifest, proposer=proposer):
                return self._keep(now_s, manifest, proposer)
            case ev.TimerFired() | ev.ClockLept():
                return self._of_time(now_s, event)
            case _:
                run = self.runs.get(event.study)
                return [] if run is None else react(run, now_s, event)

    def _of_time(self, now_s: float, event: ev.TimerFired | ev.ClockLept) -> list[fx.Effect]:
        if isinstance(event, ev.TimerFired):
            return self._timer(now_s, event.key)
        for run in self.runs.values():
            lept(run, event.by_s)
        return []

    def _timer(self, now_s: float, key: ev.TimerKey) -> list[fx.Effect]:
        match key:
            case ev.HeadDue():
                return self._own_head.due(now_s, len(self.roster.members))
            case ev.RoundDeadline(study=study, round=round_):
                return self.runs[study].deadline(now_s, round_) if study in self.runs else []
            case ev.Retry(study=study):
                return self.runs[study].retry() if study in self.runs else []
            case ev.Expiry():
                return []  # `advance` looks at the time
            case _:
                assert_never(key)

    # -- life ------------------------------------------------------------------------------------

    def _begin(self, now_s: float, event: ev.Begin) -> list[fx.Effect]:
        self._models, self._has_begun = set(event.models), True
        self._own_head.note = event.note
        self.decisions.remember(event.decisions)
        effects = self._logs.begin(self.roster, event.own_log)
        for manifest in event.manifests:
            proposer = SiteId(self.history.study(StudyId(manifest.study_id)).proposer)
            effects += self._keep(now_s, manifest, proposer)
        return effects + self._own_head.offer(now_s, len(self.roster.members))

    def _keep(self, now_s: float, manifest: Manifest, proposer: SiteId) -> list[fx.Effect]:
        """A manifest is stored: run the study if it is approved here."""
        kept = self._governance.keep(now_s, manifest, proposer)
        return kept + self._run_if_approved(now_s, StudyId(manifest.study_id))

    def _set_connected(self, now_s: float, connected: frozenset[SiteId]) -> list[fx.Effect]:
        self.connected = connected
        return [e for s in sorted(self.runs) for e in self.runs[s].connected(now_s, connected)]

    def _members_changed(self, roster: Roster) -> list[fx.Effect]:
        """Who left takes part in nothing any more, perhaps this site itself."""
        self.roster = roster
        if self.me in roster:
            return [e for study in sorted(self.runs) for e in self._sites_changed(self.runs[study])]
        return [e for s in sorted(self.runs) for e in self.runs.pop(s).stop("no member any more")]

    # -- the own log, and proofs against others ---------------------------------------------------

    def _witnessed(self, event: WitnessEvent) -> list[fx.Effect]:
        effects = self._logs.react(self.roster, event, len(self.connected))
        if self._logs.is_closed:
            for study in sorted(self.runs):
                effects += self.runs.pop(study).stop("this site is read-only")
        elif isinstance(event, ev.ForkFound):
            effects += [e for run in self.runs.values() for e in self._sites_changed(run)]
        return effects

    def _approving(self, study: StudyId) -> dict[SiteId, int]:
        """Other sites that take part, without those whose logs have two histories."""
        approving, accused = self._governance.approving(self.roster, study), self.accused
        return {site: bucket for site, bucket in approving.items() if site not in accused}

    def _sites_changed(self, run: StudyRun) -> list[fx.Effect]:
        return run.sites_changed(self._approving(run.id), self._roster.dial_only)

    # -- own decisions ---------------------------------------------------------------------------

    def _appended(self, now_s: float, event: ev.Appended) -> list[fx.Effect]:
        self._own_head.note = event.note
        effects: list[fx.Effect] = []
        for entry in event.entries:
            self.history.apply(entry)
        # Only now: what an approval read of a study's code stands beside it in the same commit.
        for entry in event.entries:
            effects += self._decided(now_s, entry)
        for study in sorted(self.runs):
            effects += self.runs[study].appended(now_s, event.note)
        return effects + self._own_head.offer(now_s, len(self.roster.members))

    def _decided(self, now_s: float, entry: Entry) -> list[fx.Effect]:
        """What follows from an own decision that has just become durable."""
        if entry.kind == kinds.DatasetRevoked.KIND:
            return self._dataset_revoked(DatasetId(_digest(entry, "ds")))
        if entry.kind == kinds.StudySteered.KIND:
            return self._governance.offer_steering(StudyId(_digest(entry, "study")))
        if entry.kind in PAUSING:
            return self._governance.offer_pause(StudyId(_digest(entry, "study")))
        if entry.kind not in DECIDING:
            return []
        study = StudyId(_digest(entry, "study"))
        effects = self._governance.offer_decision(study)
        standing = self.history.study(study).standing
        if standing is not Standing.CLOSED and study in self.runs:
            # Also on a second approval: it may name other data, and the process reads the old.
            effects = self.runs.pop(study).stop(*reason_to_stop(study, standing)) + effects
        return effects + self._run_if_approved(now_s, study)

    def _dataset_revoked(self, dataset: DatasetId) -> list[fx.Effect]:
        """Every study on the dataset is over at once; one that was not finished, on record."""
        effects: list[fx.Effect] = []
        for study in sorted(self.runs):
            run = self.runs[study]
            if run.dataset.terms.ds != dataset:
                continue
            gone = [] if run.phase is Phase.ENDED else [self._dataset_gone(study)]
            effects += [*run.stop("the dataset was revoked"), *gone]
            del self.runs[study]
        return effects

    def _dataset_gone(self, study: StudyId) -> fx.Effect:
        draft = kinds.StudyRevoked(study, "dataset-revoked").draft(drafts.NODE_ACTOR)
        return fx.Mandate(study, self.history.study(study).approved_seq).append(draft)

    def _run_if_approved(self, now_s: float, study: StudyId) -> list[fx.Effect]:
        """Start a study that this site approves, or offer the last updates of a finished one."""
        past, proposal = self.history.study(study), self.proposals.get(study)
        is_wanted = past.standing is Standing.APPROVED or past.is_complete
        is_up = self._has_begun and not self._logs.is_closed
        if not is_up or study in self.runs or proposal is None or not is_wanted:
            return []
        dataset, manifest = self._governance.dataset(past), proposal.manifest
        if past.standing is Standing.APPROVED and (dataset is None or dataset.revoked):
            # Revoked while the node was down, or before the study's own revocation was written.
            return [self._dataset_gone(study)]
        if dataset is None or dataset.revoked or self.me not in manifest.study.sites:
            return []
        bucket = max(1, dataset.terms.patients_bucket)
        run = self.runs[study] = StudyRun(self.me, manifest, self.history, bucket, self._models)
        self._follow()
        run.gathering.connected = self.connected
        run.waits.name_of = lambda site: name_of(self._roster, site)
        run.gathering.sites_changed(run.round, self._approving(study), self._roster.dial_only)
        return run.begin(now_s, self._own_head.note)

    # -- what others say -------------------------------------------------------------------------

    def _deliver(self, now_s: float, event: ev.Delivered) -> list[fx.Effect]:
        sender, message = event.sender, event.message
        if sender not in self.roster or sender == self.me:
            return []  # left the roster while the message was on its way
        try:
            match message:
                case UpdateAnnounced():
                    return self._update_announced(now_s, sender, message)
                case StudyProposal():
                    effects = self._governance.propose(now_s, self.roster, sender, message)
                    self._follow()  # its proposer may be known only now
                    return effects
                case StudyDecision():
                    return self._decision(sender, message)
                case StudySteered() | StudyPaused():
                    return self._said_by_proposer(sender, message)
                case HeadAdvertised(note=note):
                    return self._peer_heads.take(self.roster, sender, note, 0)
                case _:
                    return []  # reconciliation is dissemination's own business
        except ForkedHead as error:
            return [error.evidence, *self.conduct.refuse(self.roster, sender, error)]
        except PeerError as error:
            return self.conduct.refuse(self.roster, sender, error)

    def _decision(self, sender: SiteId, message: StudyDecision) -> list[fx.Effect]:
        effects = self._governance.decide(self.roster, sender, message)
        run = self.runs.get(StudyId(message.study))
        if run is None or not effects:
            return effects
        return effects + self._sites_changed(run)

    def _said_by_proposer(
        self, sender: SiteId, message: StudySteered | StudyPaused
    ) -> list[fx.Effect]:
        told, roster = self._governance, self.roster
        if isinstance(message, StudyPaused):
            effects = told.pause(roster, sender, message)
        else:
            effects = told.steer(roster, sender, message)
        self._follow()
        return effects

    def _follow(self) -> None:
        """Running studies look at what their proposers said last before each training."""
        for study, run in self.runs.items():
            proposal = self.proposals[study]
            run.steering.heard = self.steerings.of(proposal)
            run.pausing.heard = self._governance.pauses.of(proposal)

    def _update_announced(
        self, now_s: float, sender: SiteId, message: UpdateAnnounced
    ) -> list[fx.Effect]:
        study = StudyId(message.study)
        run = self.runs.get(study)
        if run is None:
            raise self._why_not(study)
        if sender in self.accused:
            raise ForkedLog("a proof that its log has two histories is on record")
        run.hearing.check_receipt(run.round, sender, message)
        run.boxed.check(sender, message)
        kept = self._peer_heads.take(self.roster, sender, message.head, message.entry_seq)
        heard = heard_of(self.roster.member(sender), message)
        self._check_leaf(study, heard)
        try:
            return [*kept, *run.announced(now_s, heard)]
        except PeerError as error:
            return [*kept, *self.conduct.refuse(self.roster, sender, error)]

    def _why_not(self, study: StudyId) -> PeerError:
        if study in self.proposals and self.history.study(study).approval is not None:
            return NotTakingPart("this site takes no part in the study any longer")
        return UnknownStudy("this site does not take part in the study")

    def _check_leaf(self, study: StudyId, heard: Heard) -> None:
        """One entry stands for one update: not for two rounds, nor for two studies."""
        meant = (study, heard.round, heard.sender)
        others = [run for other, run in self.runs.items() if other != study]
        is_known = self.history.received_leaves.get(heard.leaf, meant) == meant
        if not is_known or any(run.gathering.holds_leaf(heard.leaf) for run in others):
            raise ReusedEntry(f"round {heard.round}: its entry stands for another update")


def _digest(entry: Entry, field: str) -> bytes:
    value = entry.body[field]
    assert isinstance(value, bytes), "the fold has parsed this entry before"
    return value
