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


def beyond_slowest(done: StudyDone) -> float:
    """The share of the rounds' time in which not even the slowest hospital was training."""
    rounds: dict[int, list[dict[str, Any]]] = {}
    for lines in done.rounds.values():
        for line in lines:
            if line["train_s"] > 0:
                rounds.setdefault(line["round"], []).append(line)
    total = sum(max(line["round_s"] for line in lines) for lines in rounds.values())
    trained = sum(max(line["train_s"] for line in lines) for lines in rounds.values())
    return 1.0 - trained / total if total else 0.0


def result_json(
    terms: TumourTerms,
    sites: Sequence[DemoSite],
    done: Sequence[StudyDone],
    compared: Mapping[str, Any] | None,
    *,
    wall_s: float,
) -> dict[str, Any]:
    """The machine-readable result. compared: what `compare` found, if it was asked."""
    result: dict[str, Any] = {
        "seed": terms.seed,
        "patients": [site.patients for site in sites],
        "side": terms.side,
        "wall_s": round(wall_s, 1),
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
                "beyond_slowest": round(beyond_slowest(one), 4),
            }
            for one in done
        ],
    }
    if compared is not None:
        names = list(compared["sites"][0]["own"])
        result |= {
            "dice": {name: _mean(compared, "own", name) for name in names},
            "dice_union": {name: _mean(compared, "union", name) for name in names},
            "sites": compared["sites"],
            "pictures": compared["pictures"],
        }
    return result


def tell(
    done: Sequence[StudyDone], compared: Mapping[str, Any] | None, result: Mapping[str, Any]
) -> None:
    """The end of the demonstration, for people."""
    say()
    if compared is not None:
        _tell_scores(compared, result)
    for one in done:
        epsilon = "no DP" if one.study.epsilon is None else f"ε = {one.study.epsilon:g}"
        seconds = next(s for s in result["studies"] if s["study_id"] == one.study_id)
        say(
            f"{one.study.name}: {epsilon}, {one.study.rounds} rounds of {seconds['round_s']:.1f} s "
            "(median)"
        )
        say(
            f"  not training: {seconds['outside_training']:.1%} of it, "
            f"{seconds['beyond_slowest']:.1%} beyond the slowest hospital"
        )
    say(f"Everything took {result['wall_s']:.0f} s.")
    if compared is not None:
        say("Look at:")
        for picture in compared["pictures"]:
            say(f"  {picture}")
    say()
    for line in _NEXT:
        say(line)


_NEXT: Final = (
    "What next:",
    "  other patients and scanners     --seed 8",
    "  weaker or stronger privacy      --epsilon 2, or --private-rounds 0 for none",
    "  larger volumes                  --side 32 --rounds 12",
    "  look into the homes afterwards  --home tumour-homes --keep",
    "  your own images                 docs/data.md, then docs/plans.md",
)


def _tell_scores(compared: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    names = list(compared["sites"][0]["own"])
    say("Dice on the own hold-out (mean of whole tumour, core, enhancing tumour)")
    say(f"{'hospital':<14}{'patients':>9}" + "".join(f"{name:>11}" for name in names))
    for site in compared["sites"]:
        scores = "".join(f"{site['own'][name]['dice']:>11.3f}" for name in names)
        patients = site["patients_train"] + site["patients_holdout"]
        say(f"{site['name']:<14}{patients:>9}{scores}")
    say(f"{'mean':<23}" + "".join(f"{result['dice'][name]:>11.3f}" for name in names))
    union = "".join(f"{result['dice_union'][name]:>11.3f}" for name in names)
    say(f"{'on all hold-outs':<23}{union}")
    say(f"{'distance (HD95), voxels':<23}" + "".join(f"{_hd95(compared, n):>11}" for n in names))
    say("alone: own data only, same work · pooled: all data together; both without privacy")


def _hd95(compared: Mapping[str, Any], name: str) -> str:
    """Mean over hospitals, of those where the model marks anything."""
    found = [site["own"][name]["hd95"] for site in compared["sites"]]
    known = [distance for distance in found if distance is not None]
    return f"{statistics.fmean(known):.2f}" if known else "–"


def _mean(compared: Mapping[str, Any], where: str, name: str) -> float:
    return round(statistics.fmean(site[where][name]["dice"] for site in compared["sites"]), 4)


def _index(site: DemoSite) -> Path:
    return Home(site.home).dataset(DATASET) / "images.json"


def _model(site: DemoSite, done: StudyDone) -> Path:
    return site.home / "models" / done.study_id / "final.vector.safetensors"
