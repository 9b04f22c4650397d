"""How many rounds a study has: as every site approved, or fewer once its proposer stopped it."""

from dataclasses import dataclass

from gossip.pause_messages import Pause
from p2pfl.core.history import StudyHistory
from p2pfl.core.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Planned:
    """trained: rounds with training; total: with those that only average, at the end."""

    trained: int
    total: int


def rounds_planned(manifest: Manifest, past: StudyHistory) -> Planned:
    """What lies before this site, by its own ledger.

    A study that was stopped trains no more; as many rounds without training follow as approved,
    never more than there would have been, and one at least: who began none has no model.
    Where the proposer takes part, its word names the round, and all end alike; else each goes by
    the round in which it heard."""
    terms, word = manifest.study, past.pause
    if word is None or word.state is not Pause.STOPPED:
        return Planned(terms.rounds, terms.rounds_total)
    trained = min(word.round, terms.rounds)
    return Planned(trained, max(1, trained + terms.consensus_rounds))
