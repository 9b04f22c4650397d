"""Results on disk: tables for programs (Parquet), for people (CSV), and one page of numbers (JSON).

A folder whose `summary.json` names the same scenario is done: nothing is simulated twice."""

import csv
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from simulations.lab.play import Played
from simulations.lab.records import Row
from simulations.lab.terms import Scenario

SUMMARY: Final = "summary.json"
FORMAT: Final = 1


def scenario_id(scenario: Scenario) -> str:
    """Names everything that decides the outcome."""
    return hashlib.sha256(f"{FORMAT}/{scenario!r}".encode()).hexdigest()


def summary_of(played: Played) -> dict[str, object]:
    """One page of numbers. NaN becomes null."""
    honest = played.scenario.sites - played.scenario.attack.sites
    return {
        "scenario": played.scenario.name,
        "scenario_id": scenario_id(played.scenario),
        "sites": played.scenario.sites,
        "hostile": played.scenario.attack.sites,
        "rounds": played.scenario.rounds_total,
        "complete": played.is_complete,
        "digest": played.digest,
        "virtual_s": round(played.virtual_s, 3),
        "wall_s": round(played.wall_s, 3),
        "cpu_s": round(played.cpu_s, 3),
        "site_rounds": played.records.rounds_done,
        "site_rounds_per_s": round(played.site_rounds_per_s, 1),
        "bytes_out_mean": sum(played.bytes_out[:honest]) / max(1, honest),
        "counts": played.counts,
        "final": {k: None if math.isnan(v) else v for k, v in played.final.items()},
    }


def write_results(folder: Path, played: Played) -> None:
    """Write everything into a folder; the summary, which says that all is there, last."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = sorted(played.records.rows, key=lambda row: row[:2])
    _write_table(folder / "sites_by_round", Row._fields, rows)
    rounds = [
        (round_, played.records.consensus_distance(round_)) for round_ in played.records.rounds
    ]
    _write_table(folder / "rounds", ("round", "consensus_distance"), rounds)
    traffic = list(
        zip(range(len(played.bytes_out)), played.bytes_out, played.bytes_in, strict=True)
    )
    _write_table(folder / "traffic", ("site", "bytes_out", "bytes_in"), traffic)
    text = json.dumps(summary_of(played), indent=1, sort_keys=True)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")


def finished(folder: Path, scenario: Scenario) -> dict[str, object] | None:
    """The summary of an earlier run of the same scenario, if its results are here."""
    try:
        found = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_same = isinstance(found, dict) and found.get("scenario_id") == scenario_id(scenario)
    return found if is_same else None


def write_sweep(folder: Path, axes: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """One row per cell: its values on the axes, then its numbers."""
    numbers = (
        "accuracy_mean",
        "accuracy_worst",
        "auc_mean",
        "consensus_distance",
        "bytes_out_mean",
    )
    _write_table(folder / "sweep", (*axes, *numbers), rows)


def _write_table(path: Path, names: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    table = arrow.table({n: list(values) for n, values in zip(names, columns, strict=True)})
    parquet.write_table(table, path.with_suffix(".parquet"))
