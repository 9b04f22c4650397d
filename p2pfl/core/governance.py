"""Studies and decisions: what was proposed, who approves, and what this site tells of its own.

Responsible for proposals and decisions alone; it starts and stops nothing."""

from gossip.identifiers import SiteId
from gossip.messages import Decision, StudyDecision, StudyProposal, StudySteered
from gossip.pause_messages import Pause, StudyPaused
from gossip.roster import Roster
from ledger.provenance import kinds
from p2pfl.core import drafts, pausing, steering
from p2pfl.core import effects as fx
from p2pfl.core.conduct import name_of
from p2pfl.core.ending import AWAY, LEFT
from p2pfl.core.errors import ManifestError
from p2pfl.core.history import DatasetHistory, History, Standing, StudyHistory
from p2pfl.core.manifest import Manifest, parse_manifest
from p2pfl.core.names import DatasetId, StudyId
from p2pfl.core.participants import Decisions, Proposal
from p2pfl.core.proposers import NewestWords
from p2pfl.core.refusals import (
    BadManifest,
    ExpiredProposal,
    NotInvited,
    TooManyProposals,
    TooManyWords,
)

PROPOSALS_PER_SITE_MAX = 64
"""Proposals of one site that wait for a decision here; deciding makes room."""
ONE_DAY_S = 86_400.0

_DECISION_OF = {
    Standing.APPROVED: Decision.APPROVED,
    Standing.AWAY: Decision.AWAY,
    Standing.REFUSED: Decision.REFUSED,
    Standing.REVOKED: Decision.REVOKED,
    Standing.CLOSED: Decision.CLOSED,
}


class Governance:
    """What is proposed to this site, and who has decided what."""

    def __init__(self, me: SiteId, history: History) -> None:
        self.me = me
        self.proposals: dict[StudyId, Proposal] = {}
        self.decisions = Decisions()
        self.steerings = NewestWords[StudySteered](steering.check_steering)
        self.pauses = NewestWords[StudyPaused](pausing.check_pause)
        self._history = history

    # -- proposals -------------------------------------------------------------------------------

    def keep(self, now_s: float, manifest: Manifest, proposer: SiteId) -> list[fx.Effect]:
        """A manifest is stored: offer it if it is ours, and tell our decision."""
        study = StudyId(manifest.study_id)
        self.proposals[study] = Proposal(manifest, proposer)
        effects: list[fx.Effect] = []
        standing = self._history.study(study).standing
        is_open = now_s < manifest.study.expires_s and standing is not Standing.REVOKED
        if proposer == self.me and is_open:
            message = StudyProposal(manifest=manifest.raw, initial=b"")
            expires_s = float(manifest.study.expires_s)
            effects.append(fx.Offer(study, f"proposal/{study.hex()}", message, None, expires_s))
        steered, paused = self.offer_steering(study), self.offer_pause(study)
        return [*effects, *steered, *paused, *self.offer_decision(study)]

    def propose(
        self, now_s: float, roster: Roster, sender: SiteId, message: StudyProposal
    ) -> list[fx.Effect]:
        """A member proposes a study. Nothing for one that is known or does not invite us.

        Raises BadManifest, ExpiredProposal, TooManyProposals."""
        try:
            manifest = parse_manifest(message.manifest)
        except ManifestError as error:
            raise BadManifest(str(error)) from error
        study = StudyId(manifest.study_id)
        known = self.proposals.get(study)
        if known is not None and not known.proposer:
            return self._name_proposer(known, sender)
        if known is not None or self.me not in manifest.study.sites:
            return []
        self._admit(now_s, sender, manifest)
        name, short = manifest.study.name, study.hex()[:12]
        sentence = (
            f"{name_of(roster, sender)} proposes the study {name}: read it with `p2pfl study show "
            f"{short}`, then approve or refuse it"
        )
        return [
            fx.KeepProposal(study, manifest, sender, message.initial),
            _proposed(study, sender),
            fx.Show(study, fx.Happened("study_proposed", sentence, (("study", study.hex()),))),
            *self.keep(now_s, manifest, sender),
        ]

    def _name_proposer(self, known: Proposal, sender: SiteId) -> list[fx.Effect]:
        """A crash came between the manifest and the entry that says who proposed it."""
        study = StudyId(known.manifest.study_id)
        self.proposals[study] = Proposal(known.manifest, sender)
        return [_proposed(study, sender)]

    def _admit(self, now_s: float, sender: SiteId, manifest: Manifest) -> None:
        if now_s >= manifest.study.expires_s:
            raise ExpiredProposal("the proposed study has expired")
        waiting = sum(
            1
            for study, proposal in self.proposals.items()
            if proposal.proposer == sender
            and self._history.study(study).standing is Standing.UNDECIDED
        )
        if waiting >= PROPOSALS_PER_SITE_MAX:
            raise TooManyProposals(
                "proposals without a decision", expected=PROPOSALS_PER_SITE_MAX, actual=waiting + 1
            )

    # -- steering --------------------------------------------------------------------------------

    def steer(self, roster: Roster, sender: SiteId, message: StudySteered) -> list[fx.Effect]:
        """A study's proposer steers it. Nothing if that is older than what is known.

        Raises NotTheProposer, OutsideRange, Equivocation."""
        study = StudyId(message.study)
        if not self.steerings.take(self.proposals, sender, message):
            return []
        values = ", ".join(f"{name} = {value}" for name, value in message.changes)
        sentence = f"{name_of(roster, sender)} steers study {study.hex()[:12]}: {values}"
        fields = (("site", sender.hex()), ("study", study.hex()))
        return [fx.Show(study, fx.Happened("study_steering", sentence, fields))]

    def offer_steering(self, study: StudyId) -> list[fx.Effect]:
        """Tell everyone how this site steers its own study."""
        past, proposal = self._history.study(study), self.proposals.get(study)
        if proposal is None or proposal.proposer != self.me or not past.steerings:
            return []
        message = steering.own_message(study, past)
        expires_s = float(proposal.manifest.study.expires_s)
        return [fx.Offer(study, f"steering/{study.hex()}", message, None, expires_s)]

    def pause(self, roster: Roster, sender: SiteId, message: StudyPaused) -> list[fx.Effect]:
        """A study's proposer pauses, resumes or stops it. Nothing if that is older than the last.

        Raises NotTheProposer, OutsideRange, Equivocation, TooManyWords."""
        study = StudyId(message.study)
        if not self.pauses.take(self.proposals, sender, message):
            return []
        past = self._history.studies.get(study)  # of a study that nobody proposed there is none
        is_one_more = message.state is not Pause.STOPPED
        if past is not None and is_one_more and past.pause_words >= pausing.WORDS_MAX:
            raise TooManyWords("pauses and resumptions on record", expected=pausing.WORDS_MAX)
        sentence = f"{name_of(roster, sender)} {pausing.said_words(message)}"
        fields = (("site", sender.hex()), ("study", study.hex()))
        return [fx.Show(study, fx.Happened("study_pausing", sentence, fields))]

    def offer_pause(self, study: StudyId) -> list[fx.Effect]:
        """Tell everyone whether this site lets its own study go on."""
        proposal = self.proposals.get(study)
        message = pausing.own_word(study, self._history.study(study))
        if proposal is None or proposal.proposer != self.me or message is None:
            return []
        expires_s = float(proposal.manifest.study.expires_s)
        return [fx.Offer(study, f"pause/{study.hex()}", message, None, expires_s)]

    def members_changed(self, before: Roster, after: Roster) -> None:
        """Forget what sites decided in a log that they do not go on with."""
        logs = {card.site: card.log_id for card in before.members}
        for card in after.members:
            if logs.get(card.site, card.log_id) != card.log_id:
                self.decisions.forget(card.site)

    # -- decisions -------------------------------------------------------------------------------

    def decide(self, roster: Roster, sender: SiteId, message: StudyDecision) -> list[fx.Effect]:
        """Another site's decision. Nothing if it is older than what is known.

        Raises NotInvited."""
        study = StudyId(message.study)
        proposal = self.proposals.get(study)
        if proposal is not None and sender not in proposal.manifest.study.sites:
            raise NotInvited("the study does not name the site")
        if not self.decisions.take(sender, message, frozenset(self.proposals)):
            return []
        word = message.decision.name.lower()
        sentence = f"{name_of(roster, sender)}: study {study.hex()[:12]} {word}"
        fields = (("decision", word), ("site", sender.hex()), ("study", study.hex()))
        return [fx.Show(study, fx.Happened("study_decision", sentence, fields))]

    def approving(self, roster: Roster, study: StudyId) -> dict[SiteId, int]:
        """The other members that approve a study, with their public patient buckets."""
        members = set(self.proposals[study].manifest.study.sites) & set(roster.sites)
        approved = self.decisions.approved(study)
        return {s: b for s, b in approved.items() if s in members and s != self.me and b > 0}

    def offer_decision(self, study: StudyId) -> list[fx.Effect]:
        """Tell everyone what this site decided.

        Who has finished still counts as approving: slower sites need its last updates."""
        past, proposal = self._history.study(study), self.proposals.get(study)
        decision = _DECISION_OF.get(past.standing)
        if decision is None or proposal is None:
            return []
        seq, leaf = past.decision_seq, past.decision_leaf
        if past.is_complete:
            decision, seq, leaf = Decision.APPROVED, past.approved_seq, past.approved_leaf
        dataset = self.dataset(past)
        message = StudyDecision(
            study=study,
            decision=decision,
            patients_bucket=0 if dataset is None else dataset.terms.patients_bucket,
            entry_seq=seq,
            entry_leaf=leaf,
            decided_us=past.approved_us if past.is_complete else past.decided_us,
        )
        expires_s = proposal.manifest.study.expires_s + ONE_DAY_S
        return [fx.Offer(study, f"decision/{study.hex()}", message, None, expires_s)]

    def dataset(self, past: StudyHistory) -> DatasetHistory | None:
        """The dataset that this site's approval names; None without approval or registration."""
        if past.approval is None:
            return None
        return self._history.datasets.get(DatasetId(past.approval.ds))

    # -- questions -------------------------------------------------------------------------------

    def may_read(self, site: SiteId, model: bytes) -> bool:
        """Whether a member may fetch a blob: initial models and materials of studies that name
        it, and own updates of those that this site takes part in, or finished. Nothing after a
        revocation."""
        for study, proposal in self.proposals.items():
            if site not in proposal.manifest.study.sites:
                continue
            past, manifest = self._history.study(study), proposal.manifest
            # Naming another study's model opens it only where somebody here stands behind that.
            is_ours = proposal.proposer == self.me or past.approval is not None
            is_made_anew = manifest.material("start") is None
            if model == manifest.study.initial_model and is_made_anew:
                return True
            if model in manifest.named_models and is_ours:
                return True
            dataset = self.dataset(past)
            is_released = past.is_reserved or past.is_complete
            if dataset is None or dataset.revoked or not is_released:
                continue
            if any(p.model == model for p in past.published.values()):
                return True
        return False


def _proposed(study: StudyId, proposer: SiteId) -> fx.Effect:
    draft = kinds.StudyProposed(study, proposer).draft(drafts.NODE_ACTOR)
    return fx.Append(study, (draft,))


def reason_to_stop(study: StudyId, standing: Standing) -> tuple[str, str]:
    """Why a study that runs here is stopped after an own decision, and as what people are told."""
    match standing:
        case Standing.APPROVED:
            return "approved anew", LEFT
        case Standing.AWAY:
            return f"this site is away until `p2pfl study back {study.hex()[:12]}`", AWAY
        case _:
            return standing.value, LEFT
