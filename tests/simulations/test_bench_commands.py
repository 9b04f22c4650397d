"""Benchmarks' command lines, their tables from known runs, and small real runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from simulations.benchmarks import (
    arguments_bench,
    averaging_bench,
    heart_bench,
    ledger_bench,
    noise_bench,
    round_bench,
    simulators_bench,
    skew_bench,
    startup_bench,
    transfer_bench,
    witness_bench,
)
from simulations.benchmarks.demo_run import DemoRun
from simulations.benchmarks.report import Measured


def round_line(round_s: float, phase: str = "training") -> dict[str, Any]:
    fifth = round_s / 5
    parts = {f"{name}_s": fifth for name in ("train", "record", "gather", "average", "close")}
    return {"phase": phase, "round_s": round_s, **parts}


def values(lines: list[Measured]) -> dict[str, float]:
    return {line.what.strip(): line.value for line in lines}


def test_every_benchmark_explains_its_options() -> None:
    benches = (averaging_bench, ledger_bench, round_bench, startup_bench, heart_bench)
    simulated = (simulators_bench, skew_bench)
    others = (arguments_bench, noise_bench, transfer_bench, witness_bench)
    for bench in (*benches, *others, *simulated):
        with pytest.raises(SystemExit) as ended:
            bench.parse(["--help"])
        assert ended.value.code == 0


def test_the_rounds_options_become_the_demonstrations() -> None:
    options = round_bench.parse(["--rounds", "5", "--seed", "3", "--sites", "3"])
    given = round_bench.demo_options("eps=1", 2, options)
    assert given[:4] == ["--plan", "tabular-mlp", "--privacy", "eps=1"]
    assert given[given.index("--seed") + 1] == "5"
    assert given[given.index("--sites") + 1] == "3"


def test_rounds_are_put_beside_plain_torch() -> None:
    rounds = tuple(round_line(taken) for taken in (0.1, 0.2, 0.3))
    mixing = (round_line(0.05, "consensus"),)
    run = DemoRun({}, rounds + mixing, (1.0, 2.0), (120.0, 260.0), (300.0,))
    shown = round_bench.lines_of([run, run], [0.01, 0.02, 0.03])
    found = values(shown)
    assert found["round, median of 6"] == 0.2
    assert found["gather, median"] == pytest.approx(0.04)
    assert found["round without training, median"] == 0.05
    assert found["round / plain torch"] == pytest.approx(10)
    assert [line.what for line in shown if line.met is False] == ["main process, peak memory"]


def test_without_proc_nothing_is_said_about_processes() -> None:
    run = DemoRun({}, (round_line(0.1), round_line(0.1, "consensus")), (), (), ())
    assert not [what for what in values(round_bench.lines_of([run], [0.1])) if "memory" in what]


def demo_result(privacy: str, seed: int, together: float, audit: int = 0) -> dict[str, Any]:
    sites = [
        {
            "name": name,
            "union": {"own_auc": own, "collaborative_auc": together, "pooled_auc": 0.87},
            "epsilon_spent": 0.0 if privacy == "none" else 2.9,
            "audit_exit": audit,
        }
        for name, own in (("north", 0.85), ("south", 0.8))
    ]
    return {"privacy": privacy, "seed": seed, "sites": sites, "wall_s": 12.0}


def test_hospitals_are_compared_with_pooled_data_themselves_and_no_privacy() -> None:
    results = [demo_result("none", 0, 0.86), demo_result("none", 1, 0.88)]
    results += [demo_result("eps=3", 0, 0.84, audit=20), demo_result("eps=3", 1, 0.84)]
    outcomes = [heart_bench.outcome_of(result) for result in results]
    plain = heart_bench.lines_of(outcomes, "none")
    assert values(plain)["together"] == pytest.approx(0.87)
    assert values(plain)["together − best hospital alone"] == pytest.approx(0.02)
    assert all(line.met is not False for line in plain)
    private = heart_bench.lines_of(outcomes, "eps=3")
    assert values(private)["no DP − together"] == pytest.approx(0.03)
    assert values(private)["the same, each against its own pooled"] == pytest.approx(0.03)
    assert values(private)["ε spent, largest"] == 2.9
    missed = [line.what for line in private if line.met is False]
    assert missed == ["no DP − together", "audits of 4 that did not pass"]


def test_a_run_of_hospitals_is_one_line_of_progress() -> None:
    line = heart_bench.progress(heart_bench.outcome_of(demo_result("none", 3, 0.86)), 4, 15)
    assert line.startswith(" 4/15 none   seed 3: together 0.8600 pooled 0.8700")


def test_hospitals_need_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        heart_bench.parse(["--data", str(tmp_path / "missing")])
    assert heart_bench.parse(["--data", str(tmp_path)]).privacy == ["none", "eps=3", "eps=1"]


def test_a_small_averaging_benchmark_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "averaging.json"
    arguments = ["--models", "3", "--parameters", "10", "--json", str(written)]
    assert averaging_bench.main(arguments) == 0
    assert "gm_clip" in capsys.readouterr().out
    assert len(json.loads(written.read_text("utf-8"))["measured"]["averaging"]) > 6


def test_a_small_ledger_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    ended = ledger_bench.main(["--entries", "300", "--batch", "50"])
    assert ended in (0, 1)  # a busy machine may miss a goal; the table is what is tested
    assert "verify" in capsys.readouterr().out


@pytest.mark.nodes
def test_a_small_benchmark_of_rounds_runs_real_nodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "rounds.json"
    arguments = [
        "--runs",
        "1",
        "--rounds",
        "2",
        "--sites",
        "2",
        "--only",
        "none",
        "--json",
        str(written),
    ]
    assert round_bench.main(arguments) in (0, 1)  # as above
    (lines,) = json.loads(written.read_text("utf-8"))["measured"].values()
    assert lines[0]["what"] == "round, median of 4"
    assert all(line["value"] > 0 for line in lines)
    assert "round / plain torch" in capsys.readouterr().out
