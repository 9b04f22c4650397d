"""Each neighbour's history of evidence, folded from the own ledger."""

from __future__ import annotations

from ledger.log import Entry
from ledger.provenance import kinds
from ledger.provenance.terms import Kind
from p2pfl.runtime.commands.study_neighbours import neighbours_of

STUDY, OTHER = b"s" * 32, b"t" * 32
NORTH, SOUTH, LATE = b"n" * 32, b"o" * 32, b"l" * 32


def entry(seq: int, record: Kind) -> Entry:
    draft = record.draft("node")
    none = bytes(32)
    return Entry(none, seq, none, 0, draft.kind, draft.actor, draft.body, none, b"", b"", none)


def averaged(round_: int, *verdicts: str, study: bytes = STUDY) -> kinds.AggDone:
    sites = (NORTH, SOUTH)[: len(verdicts)]
    return kinds.AggDone(
        study=study,
        round=round_,
        own=kinds.InputRef(1, b"m" * 32),
        inputs=tuple(kinds.AggInput(site, site, 1, site, 100_000) for site in sites),
        rule="gm_clip",
        rule_params={},
        verdicts=verdicts,
        env_hash=bytes(32),
        out_hash=b"o" * 32,
    )


def received(round_: int, sender: bytes, verdict: str) -> kinds.UpdateReceived:
    none = bytes(32)
    return kinds.UpdateReceived(STUDY, round_, sender, 1, none, none, none, verdict, "")


def test_counts_are_per_neighbour_and_the_last_ten_tell_of_late_changes() -> None:
    records: list[Kind] = [averaged(at, "kept", "clipped") for at in range(10)]
    records += [averaged(10, "clipped", "kept"), averaged(11, "dropped", "kept")]
    records.append(averaged(0, "dropped", study=OTHER))
    entries = [entry(seq, record) for seq, record in enumerate(records)]
    south, north = neighbours_of(STUDY, entries, {NORTH: "north", SOUTH: "a-south"})
    assert (north.name, north.averaged, north.kept, north.clipped, north.dropped) == (
        "north",
        12,
        10,
        1,
        1,
    )
    assert north.bent_recently == 0.2
    assert (south.name, south.clipped, south.bent_recently) == ("a-south", 10, 0.8)


def test_refused_updates_count_once_and_a_site_without_a_card_has_its_number() -> None:
    verdicts = (("accepted", 0), ("rejected", 1), ("late", 2), ("rejected", 1))
    entries = [entry(seq, received(at, LATE, what)) for seq, (what, at) in enumerate(verdicts)]
    (seen,) = neighbours_of(STUDY, entries, {})
    assert (seen.name, seen.rejected, seen.late) == (LATE.hex()[:12], 1, 1)
    assert (seen.averaged, seen.bent_recently) == (0, 0.0)


def test_nothing_heard_is_nobody_seen() -> None:
    assert neighbours_of(STUDY, [], {}) == ()
