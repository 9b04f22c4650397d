"""What came of a study at this site: round by round from the ledger, with the log's local scores.

What is on record (who was heard, verdicts, ε, the model) comes from the ledger alone. Hold-out
scores are not on record on purpose, they are computed from patients: the node's log has them as
long as it is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gossip.identifiers import SiteId
from ledger.log import Entry, LogReader
from ledger.provenance import kinds
from p2pfl.core.drafts import GUARD_STEP
from p2pfl.core.history import History
from p2pfl.core.names import StudyId
from p2pfl.core.pausing import paused_words, stopped_words
from p2pfl.core.planned import rounds_planned
from p2pfl.runtime.commands.models import ModelSeen, models_on_record
from p2pfl.runtime.commands.opening import installed_roster
from p2pfl.runtime.commands.study_lookup import find_study, read_manifest
from p2pfl.runtime.commands.study_neighbours import NeighbourSeen, neighbours_of
from p2pfl.runtime.commands.study_words import steered_words
from p2pfl.runtime.home import Home
from p2pfl.runtime.node_log import LogLine, log_lines

MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class RoundSeen:
    """One round at this site. Rounds count from 0 here, as on record."""

    round: int
    phase: str
    """training | consensus | skipped"""
    accepted: int
    rejected: int
    late: int
    verdicts: Mapping[str, int]
    """What averaging did with the accepted ones: kept, clipped, dropped."""
    epsilon: float | None
    """This study's ε after the round; None where nothing was trained."""
    auc: float | None
    """Of the new model on the own hold-out; None if the log no longer has it."""
    accuracy: float | None
    seconds: float | None
    guard_step: float | None
    """How much of the averaging step the hold-out guard took; None: it did not look."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """What the study's own code measured of the new model on the own hold-out."""
    steps: int | None = None
    """Local steps that were made, where the study boxes them in time."""


@dataclass(frozen=True, slots=True)
class ResultsSeen:
    """A study's results at this site."""

    study: bytes
    name: str
    standing: str
    rounds_done: int
    rounds: int
    epsilon: float
    delta: str
    steered: tuple[str, ...]
    """Training arguments that differ from the manifest, and from which round on."""
    rounds_seen: tuple[RoundSeen, ...]
    neighbours: tuple[NeighbourSeen, ...]
    model: ModelSeen | None
    folder: Path | None
    """Where model and hold-out lie."""
    paused: str = ""
    """By whom, since when and why; empty if it is not paused."""
    stopped: str = ""
    """By whom, when and why it ended early; empty if it did not."""
    kept_round: int | None = None
    """Whose average is the best on the own hold-out so far, where the study keeps that one."""


@dataclass(slots=True)
class _Tally:
    """What the ledger says about one round, while it is read."""

    received: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    eps_u: int | None = None
    steps: int | None = None
    guard_step: float | None = None
    is_skipped: bool = False


def study_results(home: Home, prefix: str) -> ResultsSeen:
    """Fold ledger and log. Works beside a running node. Raises OperatorError."""
    reader = LogReader.open(home.path)
    try:
        entries = tuple(reader.entries())
    finally:
        reader.close()
    history = History(entries)
    study = find_study(home, history, prefix)
    manifest, past = read_manifest(home, study), history.study(study)
    scores, planned = _scores(study, log_lines(home)), rounds_planned(manifest, past)
    rounds = tuple(
        _round(number, tally, planned.trained, scores.get(number))
        for number, tally in sorted(_tallies(study, entries).items())
    )
    roster = installed_roster(home)
    names = {bytes(card.site): card.name for card in roster.members} if roster else {}

    def name_of(site: SiteId) -> str:
        return names.get(bytes(site), site.hex()[:12])

    model = next((m for m in models_on_record(home, entries) if m.study == study), None)
    return ResultsSeen(
        study=study,
        name=manifest.study.name,
        standing=past.standing.value,
        rounds_done=len(past.averaged),
        rounds=planned.total,
        epsilon=past.eps_u / MICRO,
        delta=past.approval.dp.delta if past.approval is not None else "0",
        steered=steered_words(past),
        paused=paused_words(past, study, name_of),
        stopped=stopped_words(past, name_of),
        rounds_seen=rounds,
        neighbours=neighbours_of(study, entries, names),
        model=model,
        kept_round=past.kept.round if past.kept is not None else None,
        folder=model.path.parent if model is not None and model.path is not None else None,
    )


def _tallies(study: StudyId, entries: Iterable[Entry]) -> dict[int, _Tally]:
    found: dict[int, _Tally] = {}

    def of(round_: int) -> _Tally:
        return found.setdefault(round_, _Tally())

    seen: set[tuple[int, bytes]] = set()
    for entry in entries:
        if entry.body.get("study") != study:
            continue
        match kinds.parse(entry):
            case kinds.TrainDone(round=round_, eps_u=eps_u, steps=steps):
                of(round_).eps_u, of(round_).steps = eps_u, steps or None
            case kinds.UpdateReceived(round=round_, sender=sender, verdict=verdict):
                # The same update may be on record twice after a catch-up; it is one neighbour.
                if (round_, sender) not in seen:
                    of(round_).received[verdict] += 1
                seen.add((round_, sender))
            case kinds.AggDone(round=round_, verdicts=verdicts, rule_params=parameters):
                of(round_).verdicts = Counter(verdicts)
                if GUARD_STEP in parameters:
                    of(round_).guard_step = float(parameters[GUARD_STEP])
            case kinds.RoundSkipped(round=round_):
                of(round_).is_skipped = True
            case _:
                pass  # decisions and releases are no part of a round
    return found


def _round(number: int, tally: _Tally, training: int, score: LogLine | None) -> RoundSeen:
    phase = "training" if number < training else "consensus"
    return RoundSeen(
        round=number,
        phase="skipped" if tally.is_skipped else phase,
        accepted=tally.received["accepted"],
        rejected=tally.received["rejected"],
        late=tally.received["late"],
        verdicts=dict(sorted(tally.verdicts.items())),
        epsilon=None if tally.eps_u is None else tally.eps_u / MICRO,
        auc=None if score is None else score.number("auc"),
        accuracy=None if score is None else score.number("accuracy"),
        seconds=None if score is None else score.number("round_s"),
        guard_step=tally.guard_step,
        measures={} if score is None else _measures(score),
        steps=tally.steps,
    )


def _measures(line: LogLine) -> dict[str, float]:
    said = line.fields.get("measures")
    found = said.items() if isinstance(said, dict) else ()
    return {name: float(value) for name, value in found if isinstance(value, int | float)}


def _scores(study: StudyId, lines: Iterable[LogLine]) -> dict[int, LogLine]:
    """The newest line of each round."""
    found: dict[int, LogLine] = {}
    for line in lines:
        number = line.number("round")
        if line.event == "round_done" and line.text("study") == study.hex() and number is not None:
            found[int(number)] = line
    return found
