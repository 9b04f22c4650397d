"""Steering: the proposer changes training arguments while a study runs, inside approved ranges.

Responsible for what may be steered, and for the entry that each site writes before it trains with
it; `proposers` knows who said what last. What is in force at a round is a fold over the
own ledger (`StudyHistory.steering_at`)."""

import hashlib
from decimal import Decimal

from gossip.messages import STEERED_DECIMAL, StudySteered
from gossip.wire import pack
from ledger.log import Draft
from ledger.provenance import kinds
from p2pfl.core import drafts
from p2pfl.core import effects as fx
from p2pfl.core.history import StudyHistory
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import Round, StudyId
from p2pfl.core.refusals import OutsideRange
from p2pfl.core.watch import Telling

Changes = tuple[tuple[str, str], ...]
"""(argument, number as text), names ascending."""

OWN_ENTRY = -1


class Following:
    """How one running study follows its proposer. `heard`: what the proposer said last."""

    def __init__(self, past: StudyHistory) -> None:
        self.heard: StudySteered | None = None
        self.arguments: Changes = ()
        """What differs from the manifest in the round under way."""
        self._past = past
        self._asked_seq = -1

    def begin(self, tell: Telling, mandate: fx.Mandate, round_: Round) -> list[fx.Effect]:
        """Settle the arguments of a round that is about to be trained, and record what is new.

        A site behind the proposer still trains the rounds before `from_round` as they were."""
        heard, newest_seq = self.heard, max(self._past.steered_seq, self._asked_seq)
        if heard is None or heard.entry_seq <= newest_seq or heard.from_round > round_:
            if self._asked_seq <= self._past.steered_seq:
                self.arguments = self._past.steering_at(round_)
            return []
        self.arguments, self._asked_seq = heard.changes, heard.entry_seq
        study = StudyId(heard.study)
        draft = _record(study, heard.changes, round_, heard.entry_seq).draft(drafts.NODE_ACTOR)
        values = ", ".join(f"{name} = {value}" for name, value in heard.changes)
        sentence = f"steered by its proposer: from round {round_ + 1} on {values}"
        shown = tell.happened("study_steered", sentence, round=str(round_))
        return [mandate.append(draft), shown]


def check_steering(manifest: Manifest, message: StudySteered) -> None:
    """Raises OutsideRange."""
    check_changes(manifest, message.changes)


def check_changes(manifest: Manifest, changes: Changes) -> None:
    """Raises OutsideRange for a change that the sites did not approve in advance."""
    for name, text in changes:
        given = manifest.plan.ranges.get(name)
        if given is None:
            raise OutsideRange(f'argument "{name}" has no approved range in the manifest')
        low, high = given
        if not STEERED_DECIMAL.fullmatch(text) or not low <= float(text) <= high:
            raise OutsideRange(
                f'argument "{name}" is outside its approved range',
                expected=f"{low:g} to {high:g}",
                actual=text,
            )
        if is_whole(manifest, name) and Decimal(text) % 1:
            raise OutsideRange(f'argument "{name}"', expected="a whole number", actual=text)


def is_whole(manifest: Manifest, name: str) -> bool:
    """Whether an argument counts something: it and its range are written as whole numbers."""
    low, high = manifest.plan.ranges[name]
    return isinstance(manifest.plan.arguments[name], int) and low.is_integer() and high.is_integer()


def digest_of_changes(study: bytes, changes: Changes) -> bytes:
    """SHA-256 over the study's id and the changes as they stand in the message."""
    return hashlib.sha256(study + pack(changes)).digest()


def own_draft(study: StudyId, changes: Changes, from_round: int, actor: str) -> Draft:
    """The proposer's own entry, from which the message to the others is made."""
    return _record(study, changes, from_round, OWN_ENTRY).draft(actor)


def own_message(study: StudyId, past: StudyHistory) -> StudySteered:
    """What a proposer that steered tells everyone."""
    newest = past.steerings[-1]
    return StudySteered(study, newest.changes, newest.round, past.steered_seq, past.steered_leaf)


def _record(study: StudyId, changes: Changes, round_: int, from_seq: int) -> kinds.StudySteered:
    digest = digest_of_changes(study, changes)
    return kinds.StudySteered(study, round_, digest, dict(changes), from_seq)
