"""What an attacker does to the files of the three homes: one function per way."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from prov_attacks import (
    Written,
    append,
    changed,
    copy_of,
    instead,
    place_of,
    raw_of,
    records,
    rehash,
    rewrite,
    signed_by,
    statements,
    write_raw,
)
from prov_books import SiteSigners
from prov_homes import NOW_US, STUDY, site_id, witness, witness_all
from prov_site import HOUR_US
from prov_stories import DAY_US, MICRO, START_US, digest

from ledger.log import Signer
from ledger.log.entries import split_raw
from ledger.provenance.kinds import (
    AggDone,
    AggInput,
    ClockAnomaly,
    PolicyChanged,
    StudyApproved,
    TrainDone,
    UpdatePublished,
    UpdateReceived,
)

ME = "Basel"
OTHERS = ("Bern", "Chur")
NOBODY = digest("nobody")


def run_sql(*commands: str) -> Callable[[Path], None]:
    return lambda root: void(statements(root / ME, *commands))


def told_anew(change: Callable[[list[Written]], list[Written]]) -> Callable[[Path], None]:
    return lambda root: rewrite(root / ME, ME, change)


def void(_: object) -> None:
    """A function for its effect."""


def swap_entries(root: Path) -> None:
    first, second = raw_of(root / ME, 7), raw_of(root / ME, 8)
    write_raw(root / ME, 7, second)
    write_raw(root / ME, 8, first)


def duplicate(root: Path) -> None:
    statements(
        root / ME,
        "ALTER TABLE entry RENAME TO old",
        "CREATE TABLE entry(seq INTEGER, leaf BLOB, kind TEXT, study BLOB, raw BLOB)",
        "INSERT INTO entry SELECT * FROM old",
        "INSERT INTO entry SELECT * FROM old WHERE seq = 7",
    )


def swap_signature(root: Path) -> None:
    raw, other = raw_of(root / ME, 7), raw_of(root / ME, 8)
    write_raw(root / ME, 7, raw[:-64] + other[-64:])
    rehash(root / ME)


def strip_signature(root: Path) -> None:
    write_raw(root / ME, 7, raw_of(root / ME, 7)[:-64])
    rehash(root / ME)


def roll_back(root: Path) -> None:
    """The database of yesterday beside the heads of today."""
    old = copy_of(root / ME, root / "old")
    append(root / ME, ME, PolicyChanged(NOBODY), PolicyChanged(STUDY), now_us=NOW_US)
    for path in (root / ME).glob("ledger.db*"):
        path.unlink()
    (root / ME / "ledger.db").write_bytes((old / "ledger.db").read_bytes())


def restore_backup(root: Path) -> None:
    """A whole home of yesterday: nothing in it contradicts itself."""
    old = copy_of(root / ME, root / "old")
    append(root / ME, ME, PolicyChanged(NOBODY), now_us=NOW_US - HOUR_US)
    witness_all(root, NOW_US - HOUR_US + MICRO)
    for name in ("ledger.db", "heads.log", "witness.db"):
        for path in (root / ME).glob(f"{name}*"):
            path.unlink()
        (root / ME / name).write_bytes((old / name).read_bytes())


def replay_foreign(root: Path) -> None:
    write_raw(root / ME, 7, raw_of(root / "Bern", 7))
    rehash(root / ME)


def not_canonical(root: Path) -> None:
    signer = SiteSigners.of(ME).log
    signed_by(root / ME, 21, signer, lambda body: body[:-1] + b"\xcc\x01")


def tear(root: Path) -> None:
    with (root / ME / "heads.log").open("ab") as heads:
        heads.write(b"torn")


def other_file(root: Path) -> None:
    published = records(root / ME, UpdatePublished)[1]
    path = root / ME / "blobs" / published.hash.hex()
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


def leave_out(told: list[Written]) -> list[Written]:
    return average_with(
        told, lambda agg: replace(agg, inputs=agg.inputs[:1], verdicts=agg.verdicts[:1])
    )


def average_with(told: list[Written], change: Callable[[AggDone], AggDone]) -> list[Written]:
    place = place_of(told, AggDone, 1)
    record = change(AggDone.from_body(told[place].draft.body))
    other = replace(told[place], draft=record.draft("node"))
    return [*told[:place], other, *told[place + 1 :]]


def understate(told: list[Written]) -> list[Written]:
    """Table and trainings agree with each other, and both say a tenth of the truth."""
    approved = StudyApproved.from_body(told[place_of(told, StudyApproved, 0)].draft.body)
    table = tuple(value // 10 for value in approved.eps_table_u)
    told = approval_with(told, eps_table_u=table)
    for nth in range(3):
        told = changed(TrainDone, nth, eps_u=table[nth + 1], eps_total_u=table[nth + 1])(told)
    return told


def approval_with(told: list[Written], **values: object) -> list[Written]:
    return changed(StudyApproved, 0, **values)(told)


def approve_afterwards(told: list[Written]) -> list[Written]:
    """The approval and the first training trade places; numbers of later entries stay."""
    first, second = place_of(told, StudyApproved, 0), place_of(told, TrainDone, 0)
    approval = replace(told[first], time_us=told[second].time_us)
    training = replace(told[second], time_us=told[first].time_us)
    told = [*told]
    told[first], told[second] = training, approval
    published = UpdatePublished.from_body(told[second + 1].draft.body)
    moved = replace(published, train_seq=first + 1).draft("node")
    told[second + 1] = replace(told[second + 1], draft=moved)
    return told


def average_another(told: list[Written]) -> list[Written]:
    """The average's result is another model of which the file is there, too."""
    trained = TrainDone.from_body(told[place_of(told, TrainDone, 2)].draft.body)
    return average_with(told, lambda agg: replace(agg, out_hash=trained.out_hash))


def average_unreceived(told: list[Written]) -> list[Written]:
    return instead(UpdateReceived, 2, PolicyChanged(NOBODY))(told)


def strange_key(root: Path) -> None:
    stranger = Signer(digest("stranger"))
    body, _, _ = split_raw(raw_of(root / ME, 21))
    key_id = b"\x00\x01\x02\x03"
    signed = stranger.sign(b"dl-ledger/entry/v1\0" + body)
    write_raw(
        root / ME, 21, raw_of(root / ME, 21)[: -(2 + 4 + 2 + 64)] + entry_tail(key_id, signed)
    )
    rehash(root / ME)


def entry_tail(key_id: bytes, signature: bytes) -> bytes:
    return b"\xc4\x04" + key_id + b"\xc4\x40" + signature


def new_log(root: Path) -> None:
    """The same story under the same identity, in a log of another name."""
    rewrite(root / ME, ME, lambda told: told, nonce=digest("another nonce"))


def rewrite_all(root: Path) -> None:
    rewrite(root / ME, ME, changed(StudyApproved, 0, meaning="emergency"))


def show_two(root: Path) -> None:
    """Bern and Chur are shown different continuations of one log."""
    twin = copy_of(root / ME, root / "twin")
    append(root / ME, ME, PolicyChanged(NOBODY), now_us=NOW_US - HOUR_US)
    append(twin, ME, PolicyChanged(STUDY), now_us=NOW_US - HOUR_US)
    witness(root, ME, "Bern", NOW_US - HOUR_US)
    witness(root, ME, "Chur", NOW_US - HOUR_US, twin)


def hand_over_old(root: Path) -> None:
    """Bern hands over the ledger that it had before its last entries."""
    old = copy_of(root / "Bern", root / "old")
    append(root / "Bern", "Bern", PolicyChanged(NOBODY), now_us=NOW_US - HOUR_US)
    witness_all(root, NOW_US - HOUR_US)
    for name in ("ledger.db", "heads.log"):
        for path in (root / "Bern").glob(f"{name}*"):
            path.unlink()
        (root / "Bern" / name).write_bytes((old / name).read_bytes())


def back_date(root: Path) -> None:
    """A decision is made today and dated yesterday, right after the last entry."""
    append(root / ME, ME, PolicyChanged(NOBODY), now_us=START_US + DAY_US + 5 * HOUR_US)


def date_ahead(root: Path) -> None:
    """An entry is dated a day ahead; the others see it now."""
    append(root / ME, ME, PolicyChanged(NOBODY), now_us=NOW_US - HOUR_US + DAY_US)
    witness_all(root, NOW_US - HOUR_US)


def deny(root: Path) -> None:
    """Bern tells its log anew without one publication, and forgets what it told before."""
    rewrite(root / "Bern", "Bern", instead(UpdatePublished, 1, ClockAnomaly(1)))
    forget(root)


def forget(root: Path) -> None:
    """Nobody kept a signed head: word stands against word."""
    for name in (ME, *OTHERS):
        for path in (root / name).glob("witness.db*"):
            path.unlink()


def other_received(root: Path) -> None:
    """Basel says it received another model than Bern published."""
    rewrite(root / ME, ME, with_other_model)


def with_other_model(told: list[Written]) -> list[Written]:
    received = UpdateReceived.from_body(told[place_of(told, UpdateReceived, 2)].draft.body)
    told = changed(UpdateReceived, 2, hash=NOBODY)(told)
    return average_with(told, lambda agg: replace(agg, inputs=with_hash(agg, received.hash)))


def with_hash(agg: AggDone, old: bytes) -> tuple[AggInput, ...]:
    return tuple(replace(x, hash=NOBODY) if x.hash == old else x for x in agg.inputs)


def invent_receipt(root: Path) -> None:
    """Basel cites a true head of Bern for an entry that published nothing."""
    rewrite(root / ME, ME, invented)


def invented(told: list[Written]) -> list[Written]:
    received = UpdateReceived.from_body(told[place_of(told, UpdateReceived, 2)].draft.body)
    told = changed(UpdateReceived, 2, from_seq=1, from_leaf=NOBODY)(told)

    def cite(agg: AggDone) -> AggDone:
        inputs = [replace(x, seq=1) if x.hash == received.hash else x for x in agg.inputs]
        return replace(agg, inputs=tuple(inputs))

    return average_with(told, cite)


def cosign_both(root: Path) -> None:
    """Chur forgets what it cosigned and vouches for the rewritten log, too."""
    kept = (root / "Chur" / "witness.db").read_bytes()
    rewrite(root / ME, ME, changed(StudyApproved, 0, meaning="emergency"))
    for path in (root / "Chur").glob("witness.db*"):
        path.unlink()
    (root / ME / "witness.db").unlink()
    witness(root, ME, "Chur", NOW_US - HOUR_US)
    (root / "other").mkdir()
    (root / "other" / "witness.db").write_bytes(kept)


def offline(root: Path) -> None:
    """Basel ran round 2 on its own hours before the others heard of it, and does not say so."""
    rewrite(root / ME, ME, alone)
    rewrite(root / "Bern", "Bern", without_us)
    rewrite(root / "Chur", "Chur", without_us)
    forget(root)


def alone(told: list[Written]) -> list[Written]:
    """Trained and published in round 2, received nothing and averaged nothing."""
    published = place_of(told, UpdatePublished, 2)
    return told[: published + 1]


def without_us(told: list[Written]) -> list[Written]:
    """In round 2 the other two had only each other."""
    me = site_id(ME)
    place = next(
        at
        for at in range(len(told) - 1, -1, -1)
        if told[at].draft.kind == UpdateReceived.KIND and told[at].draft.body["from"] == me
    )
    told = [*told]
    told[place] = replace(told[place], draft=PolicyChanged(NOBODY).draft("node"))
    at = place_of(told, AggDone, 2)
    agg = AggDone.from_body(told[at].draft.body)
    kept = [(x, v) for x, v in zip(agg.inputs, agg.verdicts, strict=True) if x.site != me]
    alone = replace(agg, inputs=tuple(x for x, _ in kept), verdicts=tuple(v for _, v in kept))
    # Only the record is of interest here, not what its files say.
    return [*told[:at], replace(told[at], draft=alone.draft("node")), *told[at + 1 :]]
