"""A paused study: its proposer halts it for everybody at a round's boundary, and lets it go on; or
ends it there before its time.

Whether a study is paused is a fold over the own ledger (`StudyHistory.pause`): what the proposer
said is put on record before anything follows from it, so a restart changes nothing. The round
under way is finished and released; no later one is trained, so no ε is spent, and a neighbour that
stopped earlier is waited for without a deadline. The study's expiry stays where it was approved."""

from collections.abc import Callable

from gossip.identifiers import SiteId
from gossip.pause_messages import Pause, StudyPaused
from ledger.log import Draft
from ledger.provenance.moments import minute_of
from p2pfl.core import drafts
from p2pfl.core import effects as fx
from p2pfl.core.history import StudyHistory
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import Round, StudyId
from p2pfl.core.pause_words import KIND_OF
from p2pfl.core.refusals import OutsideRange
from p2pfl.core.steering import OWN_ENTRY
from p2pfl.core.waits import Waits
from p2pfl.core.watch import Telling

WORDS_MAX = 256
"""Pauses and resumptions of one study that a site puts on record: its log must not grow by more."""


class Pausing:
    """How one running study heeds its proposer's word. `heard`: what the proposer said last."""

    def __init__(
        self, past: StudyHistory, mandate: fx.Mandate, waits: Waits, tell: Telling
    ) -> None:
        self.heard: StudyPaused | None = None
        self._study = mandate.study
        self._past = past
        self._mandate = mandate
        self._waits = waits
        self._tell = tell
        self._asked_seq = -1
        self._has_no_deadline = False

    def before_round(self, round_: Round) -> list[fx.Effect] | None:
        """What is done instead of starting a round; None if nothing keeps it."""
        recorded = self._record(round_)
        if recorded is not None:
            return recorded
        return self._told() if self._past.is_paused_at(round_) else None

    def gathering(self, round_: Round, now_s: float, otherwise: list[fx.Effect]) -> list[fx.Effect]:
        """What is done about a round that is out and lacks neighbours, who may have stopped
        before it. After the pause its wait begins anew."""
        recorded = self._record(round_, is_out=True)
        if recorded is not None:
            return recorded
        if self._past.is_paused_at(round_):
            self._has_no_deadline = True
            return self._told()
        if not self._has_no_deadline:
            return otherwise
        self._has_no_deadline = False
        self._waits.begin(round_, now_s)
        return [self._waits.gather(round_, now_s)]

    def look(self, round_: Round, now_s: float) -> list[fx.Effect]:
        """The timer of a round that gathers fired: nobody is late while the study is paused.

        Unless neighbours went on: then this site catches up, for which it waits as ever."""
        if self._past.is_paused_at(round_) and not self._waits.is_left_behind(round_):
            return [self._waits.once_more(round_, now_s)]
        return self._waits.look(round_, now_s)

    def sentence(self, name_of: Callable[[SiteId], str]) -> str:
        """Who paused the study, since when and why; empty if it is not paused."""
        return paused_words(self._past, self._study, name_of)

    def _told(self) -> list[fx.Effect]:
        return self._tell.waits("paused", self.sentence(self._waits.name_of))

    def _record(self, round_: Round, *, is_out: bool = False) -> list[fx.Effect] | None:
        """The entry about the newest word; nothing while one is on its way, None if there is none
        to write. A resumption is recorded also where no pause was: an older word may come again.
        Nothing follows a stop. is_out: this round is trained already."""
        heard = self.heard
        known_seq = -1 if self._past.pause is None else self._past.pause.seq
        if self._asked_seq > known_seq:
            return []  # words that come meanwhile: the newest of them is recorded after it
        if heard is None or heard.entry_seq <= known_seq or self._past.is_stopped:
            return None
        is_stop = heard.state is Pause.STOPPED
        if self._past.pause_words >= WORDS_MAX and not is_stop:
            return None
        self._asked_seq = heard.entry_seq
        from_round, study = Round(max(round_, heard.from_round)), self._study
        if heard.state is Pause.PAUSED:
            sentence = f"paused by its proposer from round {from_round + 1} on"
            name = "study_paused"
        elif is_stop:
            # Whom the proposer names no round, for it takes no part, goes by its own.
            from_round = Round(heard.from_round or round_ + int(is_out))
            sentence = f"stopped by its proposer: {from_round} rounds are trained, and no more"
            name = "study_stopped"
        else:
            sentence = "resumed by its proposer"
            from_round, name = round_, "study_resumed"
        entry = word_draft(
            heard.state, study, from_round, heard.reason, heard.entry_seq, drafts.NODE_ACTOR
        )
        shown = self._tell.happened(name, f"{sentence}{_because(heard.reason)}", round=str(round_))
        self._tell.goes_on()
        return [self._mandate.append(entry), shown]


def paused_words(past: StudyHistory, study: StudyId, name_of: Callable[[SiteId], str]) -> str:
    """Who paused a study, since when and why, and what ends it; empty if nothing waits for that."""
    word = past.pause
    if word is None or not past.is_held_up:
        return ""
    since = f"{minute_of(word.since_us)} UTC"
    proposer = name_of(SiteId(past.proposer))
    reason = f": {word.reason}" if word.reason else ""
    return (
        f"paused by {proposer} since {since}{reason}; goes on when {proposer} says "
        f"`p2pfl study resume {study.hex()[:12]}`"
    )


def stopped_words(past: StudyHistory, name_of: Callable[[SiteId], str]) -> str:
    """Who ended the study early, when and why; empty if nobody did."""
    word = past.pause
    if word is None or not past.is_stopped:
        return ""
    reason = f": {word.reason}" if word.reason else ""
    proposer = name_of(SiteId(past.proposer))
    return f"by {proposer}, {minute_of(word.since_us)} UTC, before round {word.round + 1}{reason}"


def check_pause(manifest: Manifest, message: StudyPaused) -> None:
    """Raises OutsideRange for a round that the study does not have."""
    rounds = manifest.study.rounds_total
    if message.from_round >= rounds:
        raise OutsideRange("a pause's round", expected=f"below {rounds}", actual=message.from_round)


def word_draft(
    state: Pause,
    study: StudyId,
    round_: int,
    reason: str,
    from_seq: int = OWN_ENTRY,
    actor: str = "operator",
) -> Draft:
    """The entry that a study is paused from a round on, goes on, or ends early: round_ is then
    the first that is not trained."""
    return KIND_OF[state](study, round_, reason, from_seq).draft(actor)


def own_word(study: StudyId, past: StudyHistory) -> StudyPaused | None:
    """What a proposer that paused, resumed or stopped its study tells everyone."""
    word = past.pause
    if word is None:
        return None
    return StudyPaused(study, word.state, word.reason, word.round, word.seq, word.leaf)


def said_words(message: StudyPaused) -> str:
    """What a proposer does by its word."""
    verb = {Pause.PAUSED: "pauses", Pause.RESUMED: "resumes", Pause.STOPPED: "stops"}
    return f"{verb[message.state]} study {message.study.hex()[:12]}{_because(message.reason)}"


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""
