"""What came of the tumour demonstration: Dice beside its references, time, pictures."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from p2pfl.cli.demo_result import say
from p2pfl.cli.demo_stage import DATASET, DemoSite
from p2pfl.cli.demo_tumour_stage import StudyDone, TumourTerms
from p2pfl.runtime.children import output_of, run_module
from p2pfl.runtime.home import Home

REFERENCE_S: Final = 600.0
OPEN: Final = "together"
PRIVATE: Final = "with DP"


def compare(
    folder: Path, sites: Sequence[DemoSite], done: Sequence[StudyDone], pictures: Path
) -> dict[str, Any]:
    """Score every model on the same hold-outs, and draw; it needs all data in one place."""
    request = {
        "manifest": str(done[0].manifest),
        "out": str(pictures),
        "sites": [
            {
                "name": site.name,
                "dataset": str(_index(site)),
                "models": {name_of(one): str(_model(site, one)) for one in done},
            }
            for site in sites
        ],
        "curves": {
            name_of(one): {
                site: [line["accuracy"] for line in lines] for site, lines in one.rounds.items()
            }
            for one in done
        },
    }
    purpose = "Comparing with own-data-only and pooled models"
    finished = run_module(
        "p2pfl.learning.reference_images",
        [],
        given=json.dumps(request).encode(),
        deadline_s=REFERENCE_S,
        purpose=purpose,
    )
    compared: dict[str, Any] = json.loads(output_of(finished, purpose))
    return compared


def name_of(done: StudyDone) -> str:
    """What the table calls a study's model."""
    return OPEN if done.study.epsilon is None else PRIVATE


def outside_training(done: StudyDone) -> float:
    """The share of the rounds' time that was not training, over all hospitals and rounds."""
    lines = [line for rounds in done.rounds.values() for line in rounds if line["train_s"] > 0]
    total = sum(line["round_s"] for line in lines)
    return 1.0 - sum(line["train_s"] for line in lines) / total if total else 0.0


def result_json(
    terms: TumourTerms,
    sites: Sequence[DemoSite],
    done: Sequence[StudyDone],
    compared: Mapping[str, Any],
    *,
    wall_s: float,
) -> dict[str, Any]:
    """The machine-readable result."""
    names = list(compared["sites"][0]["own"])
    return {
        "seed": terms.seed,
        "patients": [site.patients for site in sites],
        "side": terms.side,
        "wall_s": round(wall_s, 1),
        "dice": {name: _mean(compared, "own", name) for name in names},
        "dice_union": {name: _mean(compared, "union", name) for name in names},
        "sites": compared["sites"],
        "studies": [
            {
                "name": one.study.name,
                "study_id": one.study_id,
                "epsilon": one.study.epsilon,
                "rounds": one.study.rounds,
                "round_s": statistics.median(
                    line["round_s"] for lines in one.rounds.values() for line in lines
                ),
                "outside_training": round(outside_training(one), 4),
            }
            for one in done
        ],
        "pictures": compared["pictures"],
    }


def tell(done: Sequence[StudyDone], compared: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """The end of the demonstration, for people."""
    names = list(compared["sites"][0]["own"])
    say()
    say("Dice on the own hold-out (mean of whole tumour, core, enhancing tumour)")
    say(f"{'hospital':<14}{'patients':>9}" + "".join(f"{name:>11}" for name in names))
    for site in compared["sites"]:
        scores = "".join(f"{site['own'][name]['dice']:>11.3f}" for name in names)
        patients = site["patients_train"] + site["patients_holdout"]
        say(f"{site['name']:<14}{patients:>9}{scores}")
    say(f"{'mean':<23}" + "".join(f"{result['dice'][name]:>11.3f}" for name in names))
    union = "".join(f"{result['dice_union'][name]:>11.3f}" for name in names)
    say(f"{'on all hold-outs':<23}{union}")
    say("alone: own data only, same work · pooled: all data together; both without privacy")
    for one in done:
        epsilon = "no DP" if one.study.epsilon is None else f"ε = {one.study.epsilon:g}"
        seconds = next(s for s in result["studies"] if s["study_id"] == one.study_id)
        say(
            f"{one.study.name}: {epsilon}, {one.study.rounds} rounds of {seconds['round_s']:.1f} s "
            f"(median), {seconds['outside_training']:.1%} of it outside training"
        )
    say(f"Everything took {result['wall_s']:.0f} s. Look at:")
    for picture in result["pictures"]:
        say(f"  {picture}")


def _mean(compared: Mapping[str, Any], where: str, name: str) -> float:
    return round(statistics.fmean(site[where][name]["dice"] for site in compared["sites"]), 4)


def _index(site: DemoSite) -> Path:
    return Home(site.home).dataset(DATASET) / "images.json"


def _model(site: DemoSite, done: StudyDone) -> Path:
    return site.home / "models" / done.study_id / "final.vector.safetensors"
