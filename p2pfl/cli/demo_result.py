"""What came of the demonstration: scores beside their references, ε, audits, as tables and JSON."""

from __future__ import annotations

import json
import math
import statistics
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger.log import LogReader
from ledger.provenance import kinds
from p2pfl.cli.demo_nodes import Watched
from p2pfl.cli.demo_stage import DATASET, DemoSite, DemoTerms, Stage, typed_program
from p2pfl.core.history import History
from p2pfl.runtime.children import output_of, run_module
from p2pfl.runtime.home import Home

REFERENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Spending:
    """Privacy of one hospital's dataset, and what its node received."""

    spent: float
    cap: float
    delta: str
    received: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Audited:
    """One hospital's audit: exit code and the sentence on top of its report."""

    exit_code: int
    verdict: str


def compare_models(stage: Stage) -> list[dict[str, Any]]:
    """Score own, collaborative and pooled models; the reference needs all data in one place."""
    request = {
        "manifest": str(stage.manifest),
        "sites": [
            {
                "name": site.name,
                "dataset": str(site.csv),
                "patient_column": site.patient_column,
                "denominator": _bucket(site),
                "models": {"collaborative": str(_model_vector(site, stage))},
            }
            for site in stage.sites
        ],
    }
    purpose = "Comparing with own-data-only and pooled models"
    finished = run_module(
        "p2pfl.learning.reference",
        [],
        given=json.dumps(request).encode(),
        deadline_s=REFERENCE_S,
        purpose=purpose,
    )
    compared: list[dict[str, Any]] = json.loads(output_of(finished, purpose))["sites"]
    return compared


def audit_sites(stage: Stage) -> list[Audited]:
    """Run `p2pfl ledger audit` at every site."""
    from p2pfl.cli.context import now_us
    from p2pfl.runtime.commands.ledger_reading import run_audit

    reports = [run_audit(Home(site.home), replay=True, now_us=now_us()) for site in stage.sites]
    return [Audited(int(report.exit_code), report.verdict) for report in reports]


def spending_of(site: DemoSite) -> Spending:
    """What the site's own ledger says about privacy and received updates."""
    reader = LogReader.open(site.home)
    try:
        entries = list(reader.entries())
    finally:
        reader.close()
    dataset = next(iter(History(entries).datasets.values()))
    verdicts = [
        record.verdict
        for record in (kinds.parse(e) for e in entries if e.kind == kinds.UpdateReceived.KIND)
        if isinstance(record, kinds.UpdateReceived)
    ]
    return Spending(
        dataset.spent_u / 1e6,
        dataset.terms.cap_u / 1e6,
        dataset.terms.delta,
        verdicts.count("accepted"),
        verdicts.count("rejected"),
    )


def score_table(stage: Stage, compared: Sequence[Mapping[str, Any]]) -> list[str]:
    """Own-data-only, collaborative and pooled model, per site: AUC on own and on all patients."""
    lines = [
        "AUC                  own hold-out                 hold-outs of all hospitals",
        "hospital       alone  together  pooled          alone  together  pooled",
    ]
    for site, scores in zip(stage.sites, compared, strict=True):
        own = [_shown(scores["own"][name]["auc"]) for name in _MODELS]
        union = [_shown(scores["union"][name]["auc"]) for name in _MODELS]
        lines.append(
            f"{site.name:<14}{own[0]:>6}{own[1]:>10}{own[2]:>8}"
            f"{union[0]:>15}{union[1]:>10}{union[2]:>8}"
        )
    return lines


def result_json(
    terms: DemoTerms,
    stage: Stage,
    watched: Sequence[Watched],
    compared: Sequence[Mapping[str, Any]],
    spent: Sequence[Spending],
    audited: Sequence[Audited],
    wall_s: float,
) -> dict[str, Any]:
    """The machine-readable result; its fields are described in docs/benchmarks.md."""
    rounds_s = [line["round_s"] for node in watched for line in node.rounds]
    return {
        "study_id": stage.study,
        "seed": terms.seed,
        "rule": terms.rule,
        "plan": terms.plan,
        "privacy": "none" if terms.epsilon is None else f"eps={terms.epsilon:g}",
        "wall_s": round(wall_s, 2),
        "round_s": {
            "median": round(statistics.median(rounds_s), 4),
            "p95": round(_percentile(rounds_s, 0.95), 4),
        },
        "phases_s": {
            name: round(statistics.median(line[name] for n in watched for line in n.rounds), 4)
            for name in ("train_s", "record_s", "gather_s", "average_s", "close_s")
        },
        "sites": [
            _site_json(stage, node, scores, privacy, audit)
            for node, scores, privacy, audit in zip(watched, compared, spent, audited, strict=True)
        ],
    }


def _site_json(
    stage: Stage,
    node: Watched,
    scores: Mapping[str, Any],
    privacy: Spending,
    audit: Audited,
) -> dict[str, Any]:
    models = node.site.home / "models" / stage.study
    return {
        "name": node.site.name,
        "site_id": _site_id(node.site),
        "home": str(node.site.home),
        "patients": node.site.patients,
        "rounds": len(node.rounds),
        **_scores_json(scores),
        "epsilon_spent": privacy.spent,
        "epsilon_left": round(privacy.cap - privacy.spent, 6),
        "delta": float(privacy.delta),
        "audit_exit": audit.exit_code,
        "updates_received": privacy.received,
        "updates_rejected": privacy.rejected,
        "model_path": str(models / "model.safetensors"),
        "holdout_path": str(models / "holdout.csv"),
    }


def _scores_json(scores: Mapping[str, Any]) -> dict[str, Any]:
    """How the models do, if they were compared."""
    if not scores:
        return {}
    return {
        "patients_train": scores["patients_train"],
        "patients_holdout": scores["patients_holdout"],
        **{name: scores["own"][name] for name in (*_MODELS, "own_converged")},
        "union": {f"{name}_auc": scores["union"][name]["auc"] for name in _MODELS},
    }


_MODELS = ("own", "collaborative", "pooled")


def _bucket(site: DemoSite) -> int:
    from p2pfl.runtime.commands.datasets import data_show

    return data_show(Home(site.home), DATASET).patients_bucket


def _site_id(site: DemoSite) -> str:
    from gossip.keys import read_keys

    return read_keys(site.home / "keys").site.hex()


def _model_vector(site: DemoSite, stage: Stage) -> Path:
    return site.home / "models" / stage.study / "final.vector.safetensors"


def _shown(auc: float | None) -> str:
    return "–" if auc is None else f"{auc:.3f}"


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def say_wrapped(text: str) -> None:
    """A sentence, in lines of at most 80 columns."""
    say(textwrap.fill(text, 80, subsequent_indent="  ", break_on_hyphens=False))


def say(text: str = "") -> None:
    """One line on standard output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tell(
    terms: DemoTerms,
    stage: Stage,
    compared: Sequence[Mapping[str, Any]],
    spent: Sequence[Spending],
    audited: Sequence[Audited],
    result: Mapping[str, Any],
    keep: bool,
) -> None:
    """The end of the demonstration, for people."""
    say()
    if any(compared):
        for line in score_table(stage, compared):
            say(line)
        say("alone: own data only, same work and ε · pooled: all data together, no privacy")
        say()
    say("hospital       ε spent   ε left   updates heard   rejected   audit")
    for site, privacy, audit in zip(stage.sites, spent, audited, strict=True):
        say(
            f"{site.name:<14}{privacy.spent:>8.3f}{privacy.cap - privacy.spent:>9.3f}"
            f"{privacy.received:>16}{privacy.rejected:>11}   exit {audit.exit_code}"
        )
    for site, audit in zip(stage.sites, audited, strict=True):
        say_wrapped(f"{site.name}: {audit.verdict}")
    say()
    times = result["round_s"]
    say(
        f"A round took {times['median']:.2f} s (median), {times['p95']:.2f} s (95th percentile); "
        f"everything {result['wall_s']:.0f} s."
    )
    _tell_where(terms, stage, keep)


def _tell_where(terms: DemoTerms, stage: Stage, keep: bool) -> None:
    if not keep:
        say("The homes were temporary. Keep them and look around:")
        say(f"  {typed_program()} demo --keep --home demo-homes")
        return
    home = _shortened(stage.sites[0].home)
    say(f"Everything lies in {_shortened(terms.folder)}: one home per hospital, with its keys,")
    say("ledger (ledger.db, heads.log), models/ and logs/. Three commands to try next:")
    p2pfl = typed_program()
    say(f"  {p2pfl} --home {home} ledger audit")
    say(f"  {p2pfl} --home {home} study show {stage.study[:12]}")
    say(f"  {p2pfl} --home {home} privacy status")


def _shortened(path: Path) -> str:
    return str(path).removeprefix(f"{Path.cwd()}/")


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """Write the results. Raises OSError."""
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    say(f"Results: {path}")
