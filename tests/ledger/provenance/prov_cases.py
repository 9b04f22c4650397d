"""The tamper list: what an attacker does to real files, and what the audit must say of it.

One row per way to tamper; the numbers are those of the list. `docs/audit.md` shows the same table,
and a test compares the two."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prov_attacks import changed, cut_heads, flip, instead
from prov_homes import STUDY
from prov_stories import DAY_US, MICRO, START_US, digest
from prov_tampering import (
    ME,
    OTHERS,
    approve_afterwards,
    average_another,
    average_unreceived,
    back_date,
    cosign_both,
    date_ahead,
    deny,
    duplicate,
    hand_over_old,
    invent_receipt,
    leave_out,
    new_log,
    not_canonical,
    offline,
    other_file,
    other_received,
    replay_foreign,
    restore_backup,
    rewrite_all,
    roll_back,
    run_sql,
    show_two,
    strange_key,
    strip_signature,
    swap_entries,
    swap_signature,
    tear,
    told_anew,
    understate,
)

from ledger.log import ExitCode
from ledger.provenance.kinds import (
    DatasetRegistered,
    DatasetRevoked,
    StudyApproved,
    StudyRevoked,
    TrainDone,
    UpdateReceived,
)


@dataclass(frozen=True, slots=True)
class Case:
    """One way to tamper. keys: whether the attacker holds the site's keys. peers: whose homes the
    audit is given; None: it compares with nothing. exit_code: of the whole audit."""

    number: int
    what: str
    tamper: Callable[[Path], None]
    code: str
    exit_code: ExitCode
    keys: bool = False
    peers: tuple[str, ...] | None = None
    whose: str = ME


BROKEN, ROLLED, FORKED = ExitCode.INTEGRITY_BROKEN, ExitCode.ROLLBACK, ExitCode.FORK_PROVEN
RULE, MISSING, CLEAN = ExitCode.RULE_VIOLATED, ExitCode.EVIDENCE_INCOMPLETE, ExitCode.CLEAN

CASES: tuple[Case, ...] = (
    Case(
        1, "a bit of an entry flipped", lambda r: flip(r / ME, 7, 60), "log.entry-altered", BROKEN
    ),
    Case(
        2,
        "a leaf changed",
        run_sql("UPDATE entry SET leaf = zeroblob(32) WHERE seq = 7"),
        "log.index-altered",
        BROKEN,
    ),
    Case(
        2,
        "a kind column changed",
        run_sql("UPDATE entry SET kind = 'policy.changed' WHERE seq = 7"),
        "log.index-altered",
        BROKEN,
    ),
    Case(
        2,
        "a tree node changed",
        run_sql("UPDATE node SET h = zeroblob(32) WHERE lvl = 2 AND idx = 1"),
        "log.node-altered",
        BROKEN,
    ),
    Case(
        3,
        "the last entries deleted",
        run_sql("DELETE FROM entry WHERE seq >= 20"),
        "log.tail-missing",
        ROLLED,
    ),
    Case(
        4,
        "an entry in the middle deleted",
        run_sql("DELETE FROM entry WHERE seq = 9"),
        "log.entry-missing",
        BROKEN,
    ),
    Case(5, "two entries swapped", swap_entries, "log.entry-misplaced", BROKEN),
    Case(6, "a number used twice", duplicate, "log.entry-duplicate", BROKEN),
    Case(7, "a signature swapped", swap_signature, "log.signature-invalid", BROKEN),
    Case(7, "a signature cut off", strip_signature, "log.entry-malformed", BROKEN),
    Case(
        8, "the first entry damaged", lambda r: flip(r / ME, 0, 100), "log.genesis-invalid", BROKEN
    ),
    Case(
        8,
        "a new log under the same identity",
        new_log,
        "log.replaced",
        BROKEN,
        keys=True,
        peers=OTHERS,
    ),
    Case(9, "the database set back", roll_back, "log.rollback", ROLLED),
    Case(9, "the whole home set back", restore_backup, "log.behind", ROLLED, peers=OTHERS),
    Case(10, "a write torn by a crash", tear, "log.torn-head", CLEAN),
    Case(11, "heads cut from heads.log", lambda r: cut_heads(r / ME, 3), "log.heads-cut", ROLLED),
    Case(
        12,
        "the whole log written anew and signed",
        rewrite_all,
        "log.rewritten",
        FORKED,
        keys=True,
        peers=OTHERS,
    ),
    Case(
        13,
        "two histories shown to two sites",
        show_two,
        "fork.two_heads",
        FORKED,
        keys=True,
        peers=OTHERS,
    ),
    Case(14, "an old ledger handed over", hand_over_old, "peer.stale", MISSING, peers=OTHERS),
    Case(15, "an entry dated back", back_date, "clock.backdated", RULE, keys=True, peers=OTHERS),
    Case(16, "an entry dated ahead", date_ahead, "clock.future", RULE, keys=True, peers=OTHERS),
    Case(17, "an entry of another log put in", replay_foreign, "log.foreign-entry", BROKEN),
    Case(
        18,
        "an entry in another encoding, signed",
        not_canonical,
        "log.not-canonical",
        BROKEN,
        keys=True,
    ),
    Case(19, "a model file changed", other_file, "artefact.differs", BROKEN),
    Case(
        20,
        "averaged what was never received",
        told_anew(average_unreceived),
        "average.never_received",
        RULE,
        keys=True,
    ),
    Case(
        20,
        "averaged what was rejected",
        told_anew(changed(UpdateReceived, 2, verdict="rejected")),
        "average.refused_input",
        RULE,
        keys=True,
    ),
    Case(
        21, "left an accepted update out", told_anew(leave_out), "average.left_out", RULE, keys=True
    ),
    Case(
        22,
        "the sender denies a publication",
        deny,
        "receipt.denied",
        RULE,
        keys=True,
        peers=OTHERS,
    ),
    Case(
        23,
        "another model recorded than was sent",
        other_received,
        "receipt.other_hash",
        FORKED,
        keys=True,
        peers=OTHERS,
    ),
    Case(
        24,
        "ε declared below its true value",
        told_anew(understate),
        "budget.understated",
        RULE,
        keys=True,
    ),
    Case(
        25,
        "ε over the cap",
        told_anew(changed(DatasetRegistered, 0, cap_u=MICRO // 4)),
        "budget.over_cap",
        RULE,
        keys=True,
    ),
    Case(
        25,
        "a total of ε that falls",
        told_anew(changed(TrainDone, 1, eps_total_u=1)),
        "budget.falling",
        RULE,
        keys=True,
    ),
    Case(
        26,
        "trained before the approval",
        told_anew(approve_afterwards),
        "approval.missing",
        RULE,
        keys=True,
    ),
    Case(
        26,
        "trained after the revocation",
        told_anew(instead(UpdateReceived, 0, StudyRevoked(STUDY, "owner"))),
        "approval.revoked",
        RULE,
        keys=True,
    ),
    Case(
        26,
        "trained after the approval expired",
        told_anew(changed(StudyApproved, 0, expires_us=START_US + DAY_US)),
        "approval.expired",
        RULE,
        keys=True,
    ),
    Case(
        27,
        "trained on revoked data",
        told_anew(instead(UpdateReceived, 0, DatasetRevoked(digest("dataset", 0), "owner"))),
        "dataset.revoked",
        RULE,
        keys=True,
    ),
    Case(
        28,
        "approved in the wrong role",
        told_anew(changed(StudyApproved, 0, role="nurse")),
        "approval.role",
        RULE,
        keys=True,
    ),
    Case(
        29,
        "an average that its inputs do not give",
        told_anew(average_another),
        "average.not_reproduced",
        RULE,
        keys=True,
    ),
    Case(
        30,
        "a witness cosigned both histories",
        cosign_both,
        "fork.witness",
        FORKED,
        keys=True,
        peers=(*OTHERS, "other"),
    ),
    Case(
        31,
        "an entry under a key nobody announced",
        strange_key,
        "log.key-unknown",
        BROKEN,
        keys=True,
    ),
    Case(
        32,
        "a secret erased without an entry",
        run_sql("DELETE FROM secret"),
        "log.redaction-unlogged",
        RULE,
    ),
    Case(
        32,
        "a secret that does not open its commitment",
        run_sql("UPDATE secret SET value = x'00'"),
        "log.commitment-broken",
        BROKEN,
    ),
    Case(
        33,
        "a receipt of what was not published",
        invent_receipt,
        "receipt.unpublished",
        FORKED,
        keys=True,
        peers=OTHERS,
    ),
    Case(
        34,
        "an offline start that is not on record",
        offline,
        "start.unconfirmed",
        MISSING,
        keys=True,
        peers=OTHERS,
    ),
)
