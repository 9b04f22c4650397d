"""Four real hospitals, with and without privacy, beside pooled data and every hospital alone.

    python -m simulations.benchmarks.heart_bench --data DIR [--seeds 5] [--privacy none eps=3 eps=1]

DIR holds the four processed UCI heart-disease files. Every line of the table is the mean over
seeds of `p2pfl demo --data DIR`: four node processes, logistic regression, gm_clip, weighted by
public patient buckets, δ = 1e-3. Scores are AUC on the union of all four hold-outs.

together: the collaborative model, mean over hospitals (each releases its own); pooled: all
training patients in one place, no privacy, to convergence; alone: a hospital that does the same
work with its own patients and, in a private study, the same ε.

Private studies hold out every patient by an independent draw, others stratify by label, so one
seed gives other hold-outs in each setting. "No DP − together" compares means over such splits;
"the same, each against its own pooled" takes out what only the split changed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from simulations.benchmarks.demo_run import run_demo
from simulations.benchmarks.report import (
    Measured,
    at_least,
    at_most,
    exit_status,
    machine,
    print_section,
)

GOAL_BELOW_POOLED: Final = 0.01
GOALS_BELOW_NO_DP: Final[Mapping[str, float]] = {"eps=3": 0.02, "eps=1": 0.04}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Union AUC of one run. alone: by hospital; audits: exit status of every audit."""

    privacy: str
    seed: int
    together: float
    pooled: float
    alone: Mapping[str, float]
    epsilon_spent: float
    audits: tuple[int, ...]
    wall_s: float


def outcome_of(result: Mapping[str, Any]) -> Outcome:
    """The few numbers needed of a demonstration's JSON."""
    sites = result["sites"]
    return Outcome(
        privacy=result["privacy"],
        seed=result["seed"],
        together=statistics.fmean(site["union"]["collaborative_auc"] for site in sites),
        pooled=sites[0]["union"]["pooled_auc"],
        alone={site["name"]: site["union"]["own_auc"] for site in sites},
        epsilon_spent=max(site["epsilon_spent"] for site in sites),
        audits=tuple(site["audit_exit"] for site in sites),
        wall_s=result["wall_s"],
    )


def run_all(options: argparse.Namespace) -> list[Outcome]:
    """Every seed with every privacy, one line of progress each."""
    outcomes = []
    count = len(options.privacy) * options.seeds
    for privacy in options.privacy:
        for seed in range(options.seeds):
            words = ["--data", str(options.data.absolute()), "--privacy", privacy]
            words += ["--seed", str(seed), "--rounds", str(options.rounds)]
            with tempfile.TemporaryDirectory(prefix="p2pfl-bench-") as folder:
                outcomes.append(outcome_of(run_demo(words, Path(folder)).result))
            print(progress(outcomes[-1], len(outcomes), count), flush=True)
    return outcomes


def progress(done: Outcome, number: int, count: int) -> str:
    """One run in one line."""
    alone = " ".join(f"{name} {auc:.4f}" for name, auc in done.alone.items())
    return (
        f"{number:>2}/{count} {done.privacy:<6} seed {done.seed}: together {done.together:.4f} "
        f"pooled {done.pooled:.4f} alone: {alone} audits {list(done.audits)} {done.wall_s:.0f} s"
    )


def means(outcomes: Sequence[Outcome], privacy: str) -> dict[str, float]:
    """Mean AUC over the seeds of one privacy setting: together, pooled, and alone by hospital."""
    chosen = [outcome for outcome in outcomes if outcome.privacy == privacy]
    return {
        "together": statistics.fmean(one.together for one in chosen),
        "pooled": statistics.fmean(one.pooled for one in chosen),
        **{
            f"alone: {name}": statistics.fmean(one.alone[name] for one in chosen)
            for name in chosen[0].alone
        },
    }


def lines_of(outcomes: Sequence[Outcome], privacy: str) -> list[Measured]:
    """The table of one privacy setting, with what the goals are about."""
    chosen = [outcome for outcome in outcomes if outcome.privacy == privacy]
    mean = means(outcomes, privacy)
    best = max(auc for name, auc in mean.items() if name.startswith("alone"))
    lines = [Measured(name, auc, "AUC") for name, auc in mean.items()]
    apart = [one.together for one in chosen]
    lines.append(Measured("together, worst seed", min(apart), "AUC"))
    lines.append(_against_best(privacy, mean["together"] - best))
    below = mean["pooled"] - mean["together"]
    if privacy == "none":
        lines.append(at_most("pooled − together", below, "AUC", GOAL_BELOW_POOLED))
    else:
        lines.append(Measured("pooled − together", below, "AUC"))
    if privacy != "none" and any(outcome.privacy == "none" for outcome in outcomes):
        cost = means(outcomes, "none")["together"] - mean["together"]
        goal = GOALS_BELOW_NO_DP.get(privacy)
        what = "no DP − together"
        lines.append(at_most(what, cost, "AUC", goal) if goal else Measured(what, cost, "AUC"))
        plain = means(outcomes, "none")
        behind = below - (plain["pooled"] - plain["together"])
        lines.append(Measured("the same, each against its own pooled", behind, "AUC"))
    lines.append(Measured("ε spent, largest", max(one.epsilon_spent for one in chosen), "ε"))
    failed = sum(code != 0 for one in chosen for code in one.audits)
    audits = sum(len(one.audits) for one in chosen)
    lines.append(at_most(f"audits of {audits} that did not pass", float(failed), "", 0))
    return lines


def _against_best(privacy: str, above: float) -> Measured:
    """Only without privacy is beating every hospital alone a goal; otherwise it is reported."""
    what = "together − best hospital alone"
    return at_least(what, above, "AUC", 0) if privacy == "none" else Measured(what, above, "AUC")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the four UCI files' folder")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 … N-1 [5]")
    parser.add_argument("--rounds", type=int, default=30, help="rounds with training [30]")
    settings = ["none", "eps=3", "eps=1"]
    parser.add_argument("--privacy", nargs="+", default=settings, help="settings to compare")
    parser.add_argument("--json", type=Path, help="write all outcomes to this file")
    options = parser.parse_args(arguments)
    if not options.data.is_dir():
        parser.error(f"{options.data} is not a folder")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and say by the exit status whether every goal was met."""
    options = parse(arguments)
    print(machine(), flush=True)
    outcomes = run_all(options)
    sections = {name: lines_of(outcomes, name) for name in dict.fromkeys(options.privacy)}
    for name, lines in sections.items():
        print_section(f"privacy {name}, mean of seeds 0–{options.seeds - 1}", lines)
    if options.json is not None:
        written = {
            "machine": machine(),
            "outcomes": [asdict(outcome) for outcome in outcomes],
            "measured": {name: [asdict(x) for x in lines] for name, lines in sections.items()},
        }
        options.json.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return exit_status(sections)


if __name__ == "__main__":
    sys.exit(main())
