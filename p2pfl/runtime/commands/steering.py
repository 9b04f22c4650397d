"""The proposer's command to steer a running study: an entry here, a message to everyone."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from gossip.limits import STEERED_ARGUMENTS_MAX, STEERED_DECIMAL_BYTES_MAX
from ledger.log import Value
from ledger.provenance import kinds
from ledger.provenance.moments import moment_of
from p2pfl.core.history import Standing, StudyHistory
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import Round, StudyId
from p2pfl.core.refusals import OutsideRange
from p2pfl.core.steering import Changes, check_changes, own_draft
from p2pfl.runtime.commands.opening import Site, installed_roster
from p2pfl.runtime.commands.study_lookup import find_study, read_manifest
from p2pfl.runtime.commands.study_words import range_words, steerable_words
from p2pfl.runtime.errors import EXIT_REFUSED, EXIT_UNAVAILABLE, EXIT_USAGE, OperatorError
from p2pfl.runtime.ledger_writer import Unless

ATTEMPTS_MAX = 8


@dataclass(frozen=True, slots=True)
class StudySteer:
    """Change training arguments. changes: each NAME=VALUE."""

    study: str
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Steered:
    """A steering on record."""

    study: bytes
    name: str
    steered: tuple[str, ...]
    """Every argument that differs from the manifest from now on, NAME = VALUE."""
    from_round: int
    """The first round that is trained with them; rounds count from 0."""
    seq: int


def study_steer(site: Site, request: StudySteer) -> Steered:
    """Record study.steered; every site that takes part follows it from its next round on.

    Raises OperatorError unless this site proposed the study, training rounds are left, and every
    value lies inside the range that the manifest names.
    """
    for ahead in range(ATTEMPTS_MAX):
        steered = _steer_from(site, request, ahead**2)
        if steered is not None:
            return steered
    raise OperatorError(
        "The study's rounds went by faster than the steering could be recorded.",
        fix="Nothing was changed. Run the command again.",
        exit_code=EXIT_UNAVAILABLE,
    )


def _steer_from(site: Site, request: StudySteer, ahead: int) -> Steered | None:
    """Record the steering `ahead` rounds later than possible; None if its first round has begun.

    A round is trained with what was in force when it began, so an entry that names a round must
    be on record before the round before it has ended: the node goes on while a person's command
    is prepared."""
    history = site.history()
    study = find_study(site.home, history, request.study)
    manifest, past = read_manifest(site.home, study), history.study(study)
    check_proposer(site, study, past, "steers")
    rounds = manifest.study.rounds
    from_round = first_round(site, manifest, past, ahead, rounds, "steered")
    changes = _merged(manifest, past, _parsed(manifest, request.changes))
    unless = Unless(history.size, lambda kind, body: has_begun(kind, body, study, from_round))
    entries = site.record_unless(unless, own_draft(study, changes, from_round, "operator"))
    if entries is None:
        return None
    steered = tuple(f"{name} = {value}" for name, value in changes)
    return Steered(study, manifest.study.name, steered, from_round, entries[-1].seq)


def has_begun(kind: str, body: Mapping[str, Value], study: StudyId, round_: int) -> bool:
    """Whether an entry ends the round before this one, or a later one, or lets a paused study go
    on, so that this round may have begun."""
    if kind == kinds.StudyResumed.KIND and body["study"] == study:
        return True
    ends = kind in (kinds.AggDone.KIND, kinds.RoundSkipped.KIND) and body["study"] == study
    ended = body["round"] if ends else -1
    assert isinstance(ended, int), "the ledger holds what its kinds wrote"
    return ended >= round_ - 1


def check_proposer(site: Site, study: StudyId, past: StudyHistory, does: str) -> None:
    """does: what only a proposer does to its study. Raises OperatorError."""
    if past.proposer == site.keys.site:
        return
    roster = installed_roster(site.home)
    names = {bytes(card.site): card.name for card in roster.members} if roster else {}
    proposer = names.get(past.proposer, past.proposer.hex()[:12])
    raise OperatorError(
        f"Only the site that proposed a study {does} it; {study.hex()[:12]} came from {proposer}.",
        fix=f"Ask {proposer}, or take this site out: `p2pfl study away {study.hex()[:12]}` for a "
        f"while, `p2pfl study revoke {study.hex()[:12]}` for good.",
        exit_code=EXIT_REFUSED,
    )


def first_round(
    site: Site, manifest: Manifest, past: StudyHistory, ahead: int, rounds: int, done: str
) -> int:
    """The round after the present one, which may be in training, and `ahead` more if there are.

    0 if none is trained here; the present one if a pause keeps it from beginning. rounds: how many
    can be meant. done: what is to be done to the study. Raises OperatorError if none is left."""
    behind = max(past.averaged.keys() | past.skipped, default=-1)
    is_kept = past.is_paused_at(behind + 1) and Round(behind + 1) not in past.trained
    first = behind + (1 if is_kept else 2) if past.standing is Standing.APPROVED else 0
    if past.is_complete or first >= rounds:
        why = f"no {'training ' if rounds == manifest.study.rounds else ''}round is left"
    elif site.now_us() >= manifest.study.expires_us:
        why = f"the study expired at {moment_of(manifest.study.expires_us)}"
    else:
        return min(first + ahead, rounds - 1) if first else 0
    raise OperatorError(
        f"{manifest.study.name} cannot be {done} any more: {why}.",
        fix="Where more is to be done, propose a new study.",
        exit_code=EXIT_REFUSED,
    )


def _parsed(manifest: Manifest, written: Sequence[str]) -> Changes:
    """NAME=VALUE, checked against the manifest. Raises OperatorError."""
    found: dict[str, str] = {}
    for one in written:
        name, equals, value = (part.strip() for part in one.partition("="))
        if not equals or name in found:
            raise OperatorError(
                f'"{one[:80]}" is not NAME=VALUE, or names an argument twice.',
                fix="For example: learning_rate=0.1",
                exit_code=EXIT_USAGE,
            )
        _check_steerable(manifest, name)
        found[name] = _decimal(value)
    if not found:
        raise OperatorError(
            "Nothing to steer was given.",
            fix=f"Give NAME=VALUE; {steerable_words(manifest)}",
            exit_code=EXIT_USAGE,
        )
    changes = tuple(sorted(found.items()))
    try:
        check_changes(manifest, changes)
    except OutsideRange as error:
        names = ", ".join(f"{name} {range_words(manifest, name)}" for name in found)
        raise OperatorError(
            f"The {error}; nothing was changed.",
            fix=f"Approved by every site: {names}.",
            exit_code=EXIT_REFUSED,
        ) from error
    return changes


def _check_steerable(manifest: Manifest, name: str) -> None:
    if name in manifest.plan.ranges:
        return
    nearest = difflib.get_close_matches(name, manifest.plan.ranges, n=1)
    hint = f' Did you mean "{nearest[0]}"?' if nearest else ""
    raise OperatorError(
        f'"{name[:40]}" cannot be steered in this study.',
        fix=f"{steerable_words(manifest)}{hint}",
        exit_code=EXIT_REFUSED,
    )


def _decimal(text: str) -> str:
    """A number as the message writes it. Raises OperatorError.

    >>> _decimal(".50"), _decimal("10")
    ('0.50', '10')
    """
    try:
        plain = str(Decimal(text))
    except InvalidOperation:
        plain = ""
    if not plain or len(plain) > STEERED_DECIMAL_BYTES_MAX:
        raise OperatorError(
            f'"{text[:40]}" is not a number of up to {STEERED_DECIMAL_BYTES_MAX} signs.',
            fix="For example: learning_rate=0.1",
            exit_code=EXIT_USAGE,
        )
    return plain


def _merged(manifest: Manifest, past: StudyHistory, changes: Changes) -> Changes:
    """A steering stands for all before it, so that a site needs the newest one only."""
    newest = past.steerings[-1].changes if past.steerings else ()
    merged = tuple(sorted({**dict(newest), **dict(changes)}.items()))
    if len(merged) > STEERED_ARGUMENTS_MAX:
        raise OperatorError(
            f"At most {STEERED_ARGUMENTS_MAX} arguments of {manifest.study.name} can be steered.",
            fix="Propose a new study with the values you want.",
            exit_code=EXIT_REFUSED,
        )
    return merged
