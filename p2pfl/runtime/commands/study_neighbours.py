"""Each neighbour's history of evidence in a study: what averaging did with its updates, all rounds.

From the own ledger alone. It is evidence for people and never a verdict: a site with unusual
patients is clipped more often than others, and an attacker that knows the rule is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ledger.log import Entry
from ledger.provenance import kinds

_RECENT_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class NeighbourSeen:
    """One neighbour. The counts are rounds.

    kept, clipped, dropped: by the rule; rejected: not what was announced; late: after the round.
    bent_recently: share of its last ten averaged updates that were not kept whole.
    """

    site: bytes
    name: str
    averaged: int
    kept: int
    clipped: int
    dropped: int
    rejected: int
    late: int
    bent_recently: float


def neighbours_of(
    study: bytes, entries: Iterable[Entry], names: Mapping[bytes, str]
) -> tuple[NeighbourSeen, ...]:
    """Every site whose updates came here, by name. names: site → name of its card."""
    verdicts: dict[bytes, list[str]] = {}
    refused: dict[bytes, Counter[str]] = {}
    judged: set[tuple[int, bytes]] = set()
    for entry in entries:
        if entry.body.get("study") != study:
            continue
        match kinds.parse(entry):
            case kinds.AggDone(inputs=inputs, verdicts=found):
                for used, verdict in zip(inputs, found, strict=True):
                    verdicts.setdefault(used.site, []).append(verdict)
            case kinds.UpdateReceived(round=round_, sender=sender, verdict=verdict):
                if (round_, sender) not in judged:
                    refused.setdefault(sender, Counter())[verdict] += 1
                judged.add((round_, sender))
            case _:
                pass  # no other kind judges a neighbour's update
    seen = [
        _seen(site, names, verdicts.get(site, []), refused.get(site, Counter()))
        for site in verdicts.keys() | refused.keys()
    ]
    return tuple(sorted(seen, key=lambda one: (one.name, one.site)))


def _seen(
    site: bytes, names: Mapping[bytes, str], verdicts: list[str], received: Counter[str]
) -> NeighbourSeen:
    counted, recent = Counter(verdicts), verdicts[-_RECENT_ROUNDS:]
    bent = sum(verdict != "kept" for verdict in recent)
    return NeighbourSeen(
        site=site,
        name=names.get(site, site.hex()[:12]),
        averaged=len(verdicts),
        kept=counted["kept"],
        clipped=counted["clipped"],
        dropped=counted["dropped"],
        rejected=received["rejected"],
        late=received["late"],
        bent_recently=bent / len(recent) if recent else 0.0,
    )
