"""An audit as JSON, the authoritative form: stable names, digests in hexadecimal.

Schema "p2pfl-audit/1". Fields may be added under the same name of the schema, never changed or
removed. ε in micro-units (`*_u`) are integers; recomputed ε are numbers, or null where they could
not be computed; times are microseconds UTC; a `seq` is an entry's number in the log, or null.

    schema, exit_code, exit_name, verdict, audited_us
    log          {origin, log_id, size, root (null: not computable), entries, first_us, last_us}
    site         {id, name}
    findings     [{code, seq, sentence, action, exit_code}]
    checks       [{id, title, verdict, count, unit, findings, notes}]      findings: how many
    datasets     [{ds, name, delta, cap_u, declared_u, reserved_u, left_u, epsilon_recomputed,
                   trainings, unreleased, unprotected, recomputed_at: [{seq, declared_u, epsilon}],
                   studies: [{study, name, trainings, planned, declared_u, epsilon_recomputed,
                              mechanism, sigma, q, steps, clip, delta,
                              by_code (no node enforced its terms)}]}]
    decisions    [{seq, time_us, actor, sentence, kind, study, ds}]       "": concerns none
    releases     [{seq, time_us, study, name, round, hash, distance,
                   contributors: [{site, name, kept, clipped, dropped,
                                   data: null (that site's entries were not seen) or
                                   [{ds, trainings, eps_u, approved_seq (−1), approved_us}]}],
                   averages: [{seq, time_us, round, out_hash, own_hash, own_weight_u, train_seq,
                               ds, eps_u (−1: nothing trained),
                               inputs: [{site, log_id, seq, hash, weight_u, verdict}]}]}]
    rejections   [{study, name, sender, sender_name, verdict, reason, count, round_first,
                   round_last}]
    incidents    [{seq, time_us, actor, sentence, kind, study, ds}]
    not_detectable  [sentence]
    not_covered  sentence
    scope        {study, model (hex; "": all), since_us (0: all), left_out}   left_out: findings
    witnesses    null (not looked at) or {size, cosigned: [{witness, time_us}],
                  peers: [{name, size, seen_us, cosigned_us}], forks}          0 µs: never

verdict of a check: "passed", "failed", "incomplete" or "not checked". cap_u is −1 where no cap is
on record."""

import json
import math
from collections.abc import Iterable

from ledger.provenance.audit import AuditReport
from ledger.provenance.fields import MICRO
from ledger.provenance.findings import AuditContext
from ledger.provenance.lineage import their_data
from ledger.provenance.sections import Happening, Rejection, Release, Step
from ledger.provenance.spending import DatasetSpending, StudySpending
from ledger.provenance.witnessing import Witnessing

SCHEMA = "p2pfl-audit/1"
Json = dict[str, object]


def to_json(report: AuditReport) -> str:
    """The report as JSON text, the same for the same report."""
    return json.dumps(document_of(report), ensure_ascii=False, indent=2, allow_nan=False)


def document_of(report: AuditReport) -> Json:
    """The report as what JSON can hold."""
    context, root = report.context, report.context.verification.root
    return {
        "schema": SCHEMA,
        "exit_code": int(report.exit_code),
        "exit_name": report.exit_code.name.lower(),
        "verdict": report.verdict,
        "audited_us": context.now_us,
        "log": {
            "origin": context.origin,
            "log_id": report.log_id.hex(),
            "size": context.verification.size,
            "root": root.hex() if root is not None else None,
            "entries": report.entries,
            "first_us": report.first_us,
            "last_us": report.last_us,
        },
        "site": {"id": context.site.hex(), "name": context.site_name(context.site)},
        "findings": [
            {
                "code": found.code,
                "seq": found.seq,
                "sentence": found.sentence,
                "action": found.action,
                "exit_code": int(found.exit_code),
            }
            for found in report.findings
        ],
        "checks": [
            {
                "id": check.id,
                "title": check.title,
                "verdict": check.verdict.value,
                "count": check.count,
                "unit": check.unit,
                "findings": len(check.findings),
                "notes": list(check.notes),
            }
            for check in report.checks
        ],
        "datasets": [_dataset(budget, context) for budget in report.budgets],
        "decisions": _happenings(report.decisions),
        "releases": [_release(release, context) for release in report.releases],
        "rejections": [_rejection(rejection, context) for rejection in report.rejections],
        "incidents": _happenings(report.incidents),
        "not_detectable": list(report.limits),
        "not_covered": report.not_covered,
        "scope": {
            "study": context.scope.study.hex(),
            "model": context.scope.model.hex(),
            "since_us": context.scope.since_us,
            "left_out": report.left_out,
        },
        "witnesses": _witnesses(context.witnessing),
    }


def _witnesses(witnessing: Witnessing | None) -> Json | None:
    if witnessing is None:
        return None
    return {
        "size": witnessing.size,
        "cosigned": [
            {"witness": by.witness, "time_us": by.time_s * MICRO} for by in witnessing.cosigned
        ],
        "peers": [
            {
                "name": peer.name,
                "size": peer.size,
                "seen_us": peer.seen_us,
                "cosigned_us": peer.cosigned_us,
            }
            for peer in witnessing.peers
        ],
        "forks": witnessing.forks,
    }


def _number(value: float | None) -> float | None:
    """JSON knows no infinity: what has no finite ε counts as not computed."""
    return value if value is not None and math.isfinite(value) else None


def _dataset(budget: DatasetSpending, context: AuditContext) -> Json:
    return {
        "ds": budget.ds.hex(),
        "name": context.dataset_name(budget.ds),
        "delta": budget.delta,
        "cap_u": budget.cap_u,
        "declared_u": budget.declared_u,
        "reserved_u": budget.reserved_u,
        "left_u": budget.left_u,
        "epsilon_recomputed": _number(budget.epsilon),
        "trainings": budget.trainings,
        "unreleased": budget.unreleased,
        "unprotected": budget.unprotected,
        "recomputed_at": [
            {"seq": at.seq, "declared_u": at.declared_u, "epsilon": _number(at.epsilon)}
            for at in budget.recomputed
        ],
        "studies": [_study(spending, context) for spending in budget.studies],
    }


def _study(spending: StudySpending, context: AuditContext) -> Json:
    terms = spending.terms
    return {
        "study": spending.study.hex(),
        "name": context.study_name(spending.study),
        "trainings": spending.trainings,
        "planned": spending.planned,
        "declared_u": spending.declared_u,
        "epsilon_recomputed": _number(spending.epsilon),
        "mechanism": terms.mech,
        "sigma": terms.sigma,
        "q": terms.q,
        "steps": terms.steps,
        "clip": terms.clip,
        "delta": terms.delta,
        "by_code": spending.by_code,
    }


def _happenings(happenings: Iterable[Happening]) -> list[Json]:
    return [
        {
            "seq": at.seq,
            "time_us": at.time_us,
            "actor": at.actor,
            "sentence": at.sentence,
            "kind": at.kind,
            "study": at.study.hex(),
            "ds": at.ds.hex(),
        }
        for at in happenings
    ]


def _rejection(rejection: Rejection, context: AuditContext) -> Json:
    return {
        "study": rejection.study.hex(),
        "name": context.study_name(rejection.study),
        "sender": rejection.sender.hex(),
        "sender_name": context.site_name(rejection.sender),
        "verdict": rejection.verdict,
        "reason": rejection.reason,
        "count": rejection.count,
        "round_first": rejection.round_first,
        "round_last": rejection.round_last,
    }


def _release(release: Release, context: AuditContext) -> Json:
    return {
        "seq": release.seq,
        "time_us": release.time_us,
        "study": release.study.hex(),
        "name": context.study_name(release.study),
        "round": release.round,
        "hash": release.hash.hex(),
        "distance": release.distance,
        "contributors": [
            {
                "site": by.site.hex(),
                "name": context.site_name(by.site),
                "kept": by.kept,
                "clipped": by.clipped,
                "dropped": by.dropped,
                "data": _their_data(context, by.site, release.study),
            }
            for by in release.contributors
        ],
        "averages": [_step(step) for step in release.steps],
    }


def _their_data(context: AuditContext, site: bytes, study: bytes) -> list[Json] | None:
    seen = their_data(context.peers, site, study)
    if seen is None:
        return None
    return [
        {
            "ds": one.ds.hex(),
            "trainings": one.trainings,
            "eps_u": one.eps_u,
            "approved_seq": one.approved_seq,
            "approved_us": one.approved_us,
        }
        for one in seen
    ]


def _step(step: Step) -> Json:
    return {
        "seq": step.seq,
        "time_us": step.time_us,
        "round": step.round,
        "out_hash": step.out_hash.hex(),
        "own_hash": step.own_hash.hex(),
        "own_weight_u": step.own_weight_u,
        "train_seq": step.train_seq,
        "ds": step.ds.hex(),
        "eps_u": step.eps_u,
        "inputs": [
            {
                "site": used.site.hex(),
                "log_id": used.log_id.hex(),
                "seq": used.seq,
                "hash": used.hash.hex(),
                "weight_u": used.weight_u,
                "verdict": used.verdict,
            }
            for used in step.inputs
        ],
    }
