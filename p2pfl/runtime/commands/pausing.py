"""The proposer's commands to pause a study for everybody, to let it go on and to end it early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gossip.pause_messages import Pause
from p2pfl.core.history import StudyHistory
from p2pfl.core.pausing import WORDS_MAX, word_draft
from p2pfl.runtime.commands.codes import check_reason
from p2pfl.runtime.commands.opening import Site
from p2pfl.runtime.commands.steering import (
    ATTEMPTS_MAX,
    check_proposer,
    first_round,
    has_begun,
)
from p2pfl.runtime.commands.study_lookup import find_study, read_manifest
from p2pfl.runtime.errors import EXIT_REFUSED, EXIT_UNAVAILABLE, OperatorError
from p2pfl.runtime.ledger_writer import Unless


@dataclass(frozen=True, slots=True)
class StudyPause:
    """Pause, resume or stop a study. reason: a code without spaces, or nothing."""

    study: str
    reason: str


@dataclass(frozen=True, slots=True)
class PauseSeen:
    """A pause, a resumption or a stop on record. state: paused, resumed or stopped."""

    study: bytes
    name: str
    state: str
    from_round: int
    """The first round that is not trained, or with which it goes on; rounds count from 0."""
    seq: int


def study_pause(site: Site, request: StudyPause) -> PauseSeen:
    """Record study.paused; every site that takes part stops at that round's beginning.

    Raises OperatorError unless this site proposed the study, it is not paused, and a round is
    left that has not begun."""
    return _in_time(site, request, PAUSED)


def study_stop(site: Site, request: StudyPause) -> PauseSeen:
    """Record study.stopped; every site that takes part trains no more, averages as often as
    approved without training, and releases its model.

    Raises OperatorError unless this site proposed the study, and a round is left that has not
    begun."""
    return _in_time(site, request, STOPPED)


def study_resume(site: Site, request: StudyPause) -> PauseSeen:
    """Record study.resumed; every site that takes part goes on.

    Raises OperatorError unless this site proposed the study, and it is paused."""
    check_reason(request.reason)
    history = site.history()
    study = find_study(site.home, history, request.study)
    manifest, past = read_manifest(site.home, study), history.study(study)
    check_proposer(site, study, past, "resumes")
    if past.pause is None or not past.is_paused:
        raise OperatorError(
            f"{manifest.study.name} is not paused.",
            fix=f"`p2pfl study show {study.hex()[:12]}` says how it stands here.",
            exit_code=EXIT_REFUSED,
        )
    round_ = past.pause.round
    entries = site.record(word_draft(Pause.RESUMED, study, round_, request.reason))
    return PauseSeen(study, manifest.study.name, "resumed", round_, entries[-1].seq)


def _in_time(site: Site, request: StudyPause, word: _Word) -> PauseSeen:
    """The node goes on while a person's command is prepared: try until it was early enough."""
    check_reason(request.reason)
    for ahead in range(ATTEMPTS_MAX):
        seen = _say_from(site, request, word, ahead**2)
        if seen is not None:
            return seen
    raise OperatorError(
        f"The study's rounds went by faster than it could be recorded that it is {word.state}.",
        fix="Nothing was changed. Run the command again.",
        exit_code=EXIT_UNAVAILABLE,
    )


def _say_from(site: Site, request: StudyPause, word: _Word, ahead: int) -> PauseSeen | None:
    """Record the word `ahead` rounds later than possible; None if its first round has begun."""
    history = site.history()
    study = find_study(site.home, history, request.study)
    manifest, past = read_manifest(site.home, study), history.study(study)
    check_proposer(site, study, past, word.verb)
    word.check(manifest.study.name, past)
    rounds = manifest.study.rounds if word is STOPPED else manifest.study.rounds_total
    from_round = first_round(site, manifest, past, ahead, rounds, word.state)
    unless = Unless(history.size, lambda kind, body: has_begun(kind, body, study, from_round))
    draft = word_draft(word.pause, study, from_round, request.reason)
    entries = site.record_unless(unless, draft)
    if entries is None:
        return None
    return PauseSeen(study, manifest.study.name, word.state, from_round, entries[-1].seq)


def _check_may_stop(name: str, past: StudyHistory) -> None:
    if past.is_stopped:
        raise OperatorError(
            f"{name} was stopped already.",
            fix="Where more is to be done, propose a new study; `--continue` builds on its model.",
            exit_code=EXIT_REFUSED,
        )


def _check_may_pause(name: str, past: StudyHistory) -> None:
    _check_may_stop(name, past)
    if past.is_paused:
        raise OperatorError(
            f"{name} is paused already.",
            fix="`p2pfl study resume` lets it go on.",
            exit_code=EXIT_REFUSED,
        )
    if past.pause_words + 2 > WORDS_MAX:  # every pause leaves room for its end
        raise OperatorError(
            f"{name} was paused and resumed {past.pause_words} times; sites heed {WORDS_MAX}.",
            fix="Let it run to its end, or propose a new study.",
            exit_code=EXIT_REFUSED,
        )


@dataclass(frozen=True, slots=True)
class _Word:
    """What a proposer says of its study from a round on. state, verb: to people.

    check: whether it may be said now. Raises OperatorError."""

    pause: Pause
    state: str
    verb: str
    check: Callable[[str, StudyHistory], None]


PAUSED: Final = _Word(Pause.PAUSED, "paused", "pauses", _check_may_pause)
STOPPED: Final = _Word(Pause.STOPPED, "stopped", "stops", _check_may_stop)
