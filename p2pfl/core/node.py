"""The node as a state machine: `handle(now, event) -> [effect]`.

No I/O, no clock, no threads, no randomness: the same events give the same effects. It decides;
the driver performs. Everything durable is a fold over the ledger (`History`); everything else is
rebuilt after a restart from what neighbours say."""

import hashlib
from collections import Counter
from typing import assert_never

from gossip.errors import PeerError
from gossip.identifiers import SiteId
from gossip.messages import (
    Decision,
    HeadAdvertised,
    StudyDecision,
    StudyProposal,
    UpdateAnnounced,
)
from gossip.roster import Roster
from ledger.log import Entry
from ledger.provenance import kinds
from p2pfl.core import drafts
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.errors import ManifestError
from p2pfl.core.heads import check_head
from p2pfl.core.history import History, Standing
from p2pfl.core.inbox import Heard, Holding
from p2pfl.core.manifest import Manifest, parse_manifest
from p2pfl.core.names import DatasetId, ModelHash, Round, StudyId
from p2pfl.core.participants import Decisions, Proposal
from p2pfl.core.refusals import Replayed, StaleRound, UnknownStudy
from p2pfl.core.rounds import Phase, StudyRun

PROPOSALS_PER_SITE_MAX = 64
HEAD_INTERVAL_S = 1.0
HEAD_VALID_S = 1_200.0
ONE_DAY_S = 86_400.0

_DECISION_OF = {
    Standing.APPROVED: Decision.APPROVED,
    Standing.REFUSED: Decision.REFUSED,
    Standing.REVOKED: Decision.REVOKED,
    Standing.CLOSED: Decision.CLOSED,
}


class NodeCore:
    """One hospital's node."""

    def __init__(self, me: SiteId, roster: Roster, history: History) -> None:
        self.me = me
        self.roster = roster
        self.history = history
        self.runs: dict[StudyId, StudyRun] = {}
        self.proposals: dict[StudyId, Proposal] = {}
        self.decisions = Decisions()
        self.connected: frozenset[SiteId] = frozenset()
        self.refused: Counter[tuple[SiteId, str]] = Counter()
        """What was refused, by sender and violated rule."""
        self._models: set[ModelHash] = set()
        self._note = b""
        self._head_offered_s = float("-inf")
        self._is_head_due = False
        self._has_begun = False

    # -- dispatch --------------------------------------------------------------------------------

    def handle(self, now_s: float, event: ev.Event) -> list[fx.Effect]:
        """Everything the node does. Never raises because of what a peer sent."""
        effects = self._react(now_s, event)
        for study in sorted(self.runs):
            effects += self.runs[study].advance(now_s)
        return effects

    def _react(self, now_s: float, event: ev.Event) -> list[fx.Effect]:
        match event:
            case ev.Begin():
                return self._begin(now_s, event)
            case ev.Connected(site=site):
                return self._set_connected(self.connected | {site})
            case ev.Disconnected(site=site):
                return self._set_connected(self.connected - {site})
            case ev.Delivered():
                return self._deliver(now_s, event)
            case ev.PeerRefused(site=site, rule=rule):
                return self._count_refusal(site, rule)
            case ev.Appended():
                return self._appended(now_s, event)
            case ev.ManifestKept(manifest=manifest, proposer=proposer):
                return self._keep(now_s, manifest, proposer)
            case ev.TimerFired(key=key):
                return self._timer(now_s, key)
            case _:
                return self._react_in_study(now_s, event)

    def _react_in_study(self, now_s: float, event: ev.StudyEvent) -> list[fx.Effect]:
        run = self.runs.get(event.study)
        if run is None:
            return []
        match event:
            case ev.TrainingOpened():
                return run.opened(event)
            case ev.Trained():
                return run.trained(now_s, event)
            case ev.TrainingFailed():
                return run.training_failed(now_s, event)
            case ev.Obtained():
                run.obtained(event)
                return []
            case ev.ObtainFailed():
                return run.obtain_failed(now_s, event)
            case ev.ModelReady(model=model):
                self._models.add(model)
                run.model_ready(model)
                return []
            case ev.Averaged():
                log_ids = {bytes(card.site): card.log_id for card in self.roster.members}
                return run.averaged(now_s, event, log_ids)
            case ev.AveragingFailed():
                return run.averaging_failed(event)
            case ev.Scored():
                line = run.progress(event)
                return [line] if line is not None else []
            case ev.ModelReleased():
                return run.model_released()
            case _:
                assert_never(event)

    def _timer(self, now_s: float, key: ev.TimerKey) -> list[fx.Effect]:
        match key:
            case ev.HeadDue():
                self._is_head_due = False
                return self._offer_head(now_s)
            case ev.RoundDeadline(study=study, round=round_):
                if study in self.runs:
                    self.runs[study].deadline(round_)
                return []
            case ev.Retry(study=study):
                return self.runs[study].retry() if study in self.runs else []
            case _:
                assert_never(key)

    # -- life ------------------------------------------------------------------------------------

    def _begin(self, now_s: float, event: ev.Begin) -> list[fx.Effect]:
        self._models, self._note, self._has_begun = set(event.models), event.note, True
        effects: list[fx.Effect] = []
        for manifest in event.manifests:
            proposer = SiteId(self.history.study(StudyId(manifest.study_id)).proposer)
            effects += self._keep(now_s, manifest, proposer)
        return effects + self._offer_head(now_s)

    def _keep(self, now_s: float, manifest: Manifest, proposer: SiteId) -> list[fx.Effect]:
        """A manifest is stored: offer it if it is ours, tell our decision, run it if approved."""
        study = StudyId(manifest.study_id)
        self.proposals[study] = Proposal(manifest, proposer)
        effects: list[fx.Effect] = []
        if proposer == self.me and self._is_open(now_s, manifest):
            message = StudyProposal(manifest=manifest.raw, initial=b"")
            expires_s = float(manifest.study.expires_s)
            effects.append(fx.Offer(study, f"proposal/{study.hex()}", message, None, expires_s))
        return effects + self._offer_decision(study) + self._run_if_approved(study)

    def _is_open(self, now_s: float, manifest: Manifest) -> bool:
        standing = self.history.study(StudyId(manifest.study_id)).standing
        return now_s < manifest.study.expires_s and standing is not Standing.REVOKED

    def _set_connected(self, connected: frozenset[SiteId]) -> list[fx.Effect]:
        self.connected = connected
        for run in self.runs.values():
            run.gathering.connected = connected
        return []

    # -- own decisions ---------------------------------------------------------------------------

    def _appended(self, now_s: float, event: ev.Appended) -> list[fx.Effect]:
        self._note = event.note
        effects: list[fx.Effect] = []
        for entry in event.entries:
            self.history.apply(entry)
            effects += self._decided(entry)
        for study in sorted(self.runs):
            effects += self.runs[study].appended(now_s, event.note)
        return effects + self._offer_head(now_s)

    def _decided(self, entry: Entry) -> list[fx.Effect]:
        """What follows from an own decision that has just become durable."""
        if entry.kind == kinds.DatasetRevoked.KIND:
            return self._dataset_revoked(DatasetId(_digest(entry, "ds")))
        if entry.kind not in _DECIDING:
            return []
        study = StudyId(_digest(entry, "study"))
        effects = self._offer_decision(study)
        standing = self.history.study(study).standing
        if standing in (Standing.REVOKED, Standing.REFUSED) and study in self.runs:
            effects = self.runs.pop(study).stop(standing.value) + effects
        return effects + self._run_if_approved(study)

    def _dataset_revoked(self, dataset: DatasetId) -> list[fx.Effect]:
        effects: list[fx.Effect] = []
        for study in sorted(self.runs):
            run = self.runs[study]
            if run.dataset.terms.ds == dataset and run.phase is not Phase.ENDED:
                draft = kinds.StudyRevoked(study, "dataset-revoked").draft(drafts.NODE_ACTOR)
                effects += [*run.stop("the dataset was revoked"), fx.Append(study, (draft,))]
        return effects

    def _offer_decision(self, study: StudyId) -> list[fx.Effect]:
        past, proposal = self.history.study(study), self.proposals.get(study)
        decision = _DECISION_OF.get(past.standing)
        if decision is None or proposal is None or past.closed_reason == "complete":
            return []  # a finished study needs no farewell: its last update is still offered
        message = StudyDecision(
            study=study,
            decision=decision,
            patients_bucket=self._own_bucket(study),
            entry_seq=past.decision_seq,
            entry_leaf=past.decision_leaf,
            decided_us=past.decided_us,
        )
        expires_s = proposal.manifest.study.expires_s + ONE_DAY_S
        return [fx.Offer(study, f"decision/{study.hex()}", message, None, expires_s)]

    def _own_bucket(self, study: StudyId) -> int:
        approval = self.history.study(study).approval
        if approval is None:
            return 0
        return self.history.datasets[DatasetId(approval.ds)].terms.patients_bucket

    def _run_if_approved(self, study: StudyId) -> list[fx.Effect]:
        past, proposal = self.history.study(study), self.proposals.get(study)
        is_approved = past.standing is Standing.APPROVED and past.approval is not None
        if not self._has_begun or study in self.runs or proposal is None or not is_approved:
            return []
        run = StudyRun(self.me, proposal.manifest, self.history, self._own_bucket(study))
        self.runs[study] = run
        run.gathering.connected = self.connected
        run.gathering.sites_changed(self._others_approving(study))
        return run.begin(frozenset(self._models), self._note)

    def _others_approving(self, study: StudyId) -> dict[SiteId, int]:
        members = set(self.proposals[study].manifest.study.sites) & set(self.roster.sites)
        approved = self.decisions.approved(study)
        return {s: b for s, b in approved.items() if s in members and s != self.me and b > 0}

    # -- what others say -------------------------------------------------------------------------

    def _deliver(self, now_s: float, event: ev.Delivered) -> list[fx.Effect]:
        try:
            match event.message:
                case UpdateAnnounced():
                    return self._update_announced(event.sender, event.message)
                case StudyProposal():
                    return self._proposal(now_s, event.sender, event.message)
                case StudyDecision():
                    return self._decision(event.sender, event.message)
                case HeadAdvertised(note=note):
                    return self._head(event.sender, note)
                case _:
                    return []  # reconciliation is dissemination's own business
        except Replayed:
            self.refused[event.sender, "Replayed"] += 1
            return []  # repairs repeat messages by design: counted, not held against anybody
        except PeerError as error:
            return self._count_refusal(event.sender, error.rule, str(error))

    def _count_refusal(self, site: SiteId, rule: str, detail: str = "") -> list[fx.Effect]:
        """Count a broken rule; on record at 1, 10, 100, … so that nobody can fill the log."""
        self.refused[site, rule] += 1
        count = self.refused[site, rule]
        if count != 10 ** (len(str(count)) - 1):
            return []
        draft = kinds.PeerMisbehaved(site, rule, count).draft(drafts.NODE_ACTOR)
        fields = (("count", str(count)), ("rule", rule), ("site", site.hex()))
        sentence = f"refused what {self._name(site)} sent ({rule}): {detail}".rstrip(": ")
        shown = fx.Show(None, fx.Happened("peer_refused", sentence, fields))
        return [shown, fx.Append(None, (draft,))]

    def _name(self, site: SiteId) -> str:
        return self.roster.member(site).name if site in self.roster else site.hex()[:8]

    def _update_announced(self, sender: SiteId, message: UpdateAnnounced) -> list[fx.Effect]:
        study, round_ = StudyId(message.study), Round(message.round)
        run = self.runs.get(study)
        if run is None:
            raise UnknownStudy("this site does not take part in the study")
        if (round_, sender) in run.past.received:
            raise Replayed(f"round {round_}: its verdict is on record")
        checkpoint = check_head(
            self.roster.member(sender), self.roster.consortium, message.head, message.entry_seq
        )
        heard = Heard(
            sender,
            round_,
            ModelHash(message.hash),
            message.size,
            message.entry_seq,
            message.entry_leaf,
            hashlib.sha256(message.head).digest(),
            message.inline,
            Holding.ANNOUNCED,
        )
        kept = self._keep_head(sender, message.head, checkpoint.size, checkpoint.root)
        try:
            return [kept, *run.gathering.announce(run.round, message, heard)]
        except StaleRound:
            draft = drafts.received_draft(study, heard, "late", "after-the-round")
            return [kept, fx.Append(study, (draft,))]

    def _proposal(self, now_s: float, sender: SiteId, message: StudyProposal) -> list[fx.Effect]:
        try:
            manifest = parse_manifest(message.manifest)
        except ManifestError as error:
            return self._count_refusal(sender, "BadManifest", str(error))
        study = StudyId(manifest.study_id)
        others = sum(1 for p in self.proposals.values() if p.proposer == sender)
        if study in self.proposals or self.me not in manifest.study.sites:
            return []
        if others >= PROPOSALS_PER_SITE_MAX or now_s >= manifest.study.expires_s:
            return self._count_refusal(sender, "TooManyProposals" if others else "Expired")
        name, short = manifest.study.name, study.hex()[:12]
        sentence = (
            f"{self._name(sender)} proposes the study {name}: read it with `p2pfl study show "
            f"{short}`, then approve or refuse it"
        )
        proposed = kinds.StudyProposed(study, sender).draft(drafts.NODE_ACTOR)
        return [
            fx.KeepProposal(study, manifest, sender, message.initial),
            fx.Append(study, (proposed,)),
            fx.Show(study, fx.Happened("study_proposed", sentence, (("study", study.hex()),))),
            *self._keep(now_s, manifest, sender),
        ]

    def _decision(self, sender: SiteId, message: StudyDecision) -> list[fx.Effect]:
        study = StudyId(message.study)
        if not self.decisions.take(sender, message, frozenset(self.proposals)):
            return []
        word = message.decision.name.lower()
        sentence = f"{self._name(sender)}: study {study.hex()[:12]} {word}"
        fields = (("decision", word), ("site", sender.hex()), ("study", study.hex()))
        shown = fx.Show(study, fx.Happened("study_decision", sentence, fields))
        run = self.runs.get(study)
        if run is None:
            return [shown]
        run.gathering.sites_changed(self._others_approving(study))
        return [shown, *run.offer_update()]

    # -- heads -----------------------------------------------------------------------------------

    def _head(self, sender: SiteId, note: bytes) -> list[fx.Effect]:
        checkpoint = check_head(
            self.roster.member(sender), self.roster.consortium, note, entry_seq=0
        )
        return [self._keep_head(sender, note, checkpoint.size, checkpoint.root)]

    def _keep_head(self, sender: SiteId, note: bytes, size: int, root: bytes) -> fx.Effect:
        return fx.KeepPeerHead(None, self.roster.member(sender).log_id, note, size, root)

    def _offer_head(self, now_s: float) -> list[fx.Effect]:
        if not self._note or self._is_head_due:
            return []
        due_s = self._head_offered_s + HEAD_INTERVAL_S
        if now_s < due_s:
            self._is_head_due = True
            return [fx.SetTimer(None, ev.HeadDue(), due_s)]
        self._head_offered_s = now_s
        message = HeadAdvertised(note=self._note)
        return [fx.Offer(None, "head", message, None, now_s + HEAD_VALID_S)]

    # -- questions -------------------------------------------------------------------------------

    def may_read(self, site: SiteId, model: bytes) -> bool:
        """Whether a member may fetch a blob: initial models and own released updates of studies
        that name it, nothing else."""
        for study, proposal in self.proposals.items():
            if site not in proposal.manifest.study.sites:
                continue
            if model == proposal.manifest.study.initial_model:
                return True
            if any(p.model == model for p in self.history.study(study).published.values()):
                return True
        return False


def _digest(entry: Entry, field: str) -> bytes:
    value = entry.body[field]
    assert isinstance(value, bytes), "the fold has parsed this entry before"
    return value


_DECIDING = frozenset(
    kind.KIND
    for kind in (
        kinds.StudyApproved,
        kinds.StudyRefused,
        kinds.StudyRevoked,
        kinds.StudyClosed,
    )
)
