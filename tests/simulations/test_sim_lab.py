"""Simulated studies: the node's own core and training, to their end, the same each time."""

import hashlib
import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2pfl.learning.datasets.tabular import Prepared
from p2pfl.learning.plans.arguments import Arguments
from p2pfl.learning.training import Trainer
from simulations.lab.benches import benches_for
from simulations.lab.parts import parts_for
from simulations.lab.play import play
from simulations.lab.results import SUMMARY, finished, write_results
from simulations.lab.setting import setting_of
from simulations.lab.shares import Pool, by_label, by_property, by_quantity, shares_of, spread
from simulations.lab.staging import manifest_of
from simulations.lab.terms import (
    AttackTerms,
    Averaging,
    DataSource,
    Fault,
    Network,
    Partition,
    Scenario,
)
from simulations.lab.workshop import Trained, TrainTask, Workshop

TRAINING = Arguments(learning_rate=0.3, local_steps=4, hidden=8, outputs=2)
SMALL = Scenario(
    "small",
    sites=6,
    rounds=4,
    hidden=8,
    training=TRAINING,
    data=DataSource(rows=40, features=5),
    averaging=Averaging(topology="complete"),
)


def rng() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(3))


# -- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"proximal": 0.4},
        {"correction": "quasi-global"},
        {"correction": "control", "momentum": 0.0},
        {"at_home": "norm", "input_norm": True},
        {"optimiser": "adam", "schedule": "cosine"},
    ],
    ids=str,
)
def test_sites_that_train_together_learn_what_the_node_s_own_trainer_learns(
    options: dict[str, object],
) -> None:
    scenario = replace(SMALL, training=replace(TRAINING, **options))  # type: ignore[arg-type]
    workshop = Workshop(scenario)
    sites = [bytes([n]) * 32 for n in range(scenario.sites)]
    manifest = manifest_of(scenario, sites, workshop.initial, 5)  # type: ignore[arg-type]
    written = {
        name: getattr(scenario.training, name)
        for name in ("learning_rate", "local_steps", "hidden", "outputs", "momentum", *options)
    }
    manifest = replace(manifest, plan=replace(manifest.plan, arguments=written))
    alone = []
    for share in workshop.shares:
        keys = tuple(hashlib.sha256(bytes([n])).digest() for n in range(len(share.y)))
        labels = share.y.astype(np.float32)
        data = Prepared(share.x, labels, tuple("abcde"), keys, ())
        alone.append(Trainer(manifest, data, denominator=1, random_bytes=os.urandom))
    bases = np.repeat(workshop.initial[None], scenario.sites, axis=0)
    for round_ in range(3):
        rounds = np.full(scenario.sites, round_)
        task = TrainTask(np.arange(scenario.sites), rounds, bases, ())
        together = workshop.do(task)
        for site, (found, trainer) in enumerate(zip(together, alone, strict=True)):
            assert isinstance(found, Trained)
            expected = trainer.train(bases[site], round_, {}).vector
            assert found.model == pytest.approx(expected, abs=2e-5)
        mean = np.mean([t.model for t in together if isinstance(t, Trained)], axis=0)
        bases = np.repeat(mean[None].astype(np.float32), scenario.sites, axis=0)


# -- partitioners ------------------------------------------------------------------------------


def test_small_alpha_leaves_sites_with_few_classes() -> None:
    labels = np.repeat(np.arange(10), 100)
    skewed = [len(np.unique(labels[r])) for r in by_label(labels, 0.05, 10, rng()) if len(r)]
    even = [len(np.unique(labels[r])) for r in by_label(labels, 1000.0, 10, rng())]
    assert np.mean(skewed) < 6
    assert even == [10] * 10


def test_quantity_skew_gives_sites_of_different_size() -> None:
    sizes = sorted(len(rows) for rows in by_quantity(1000, 0.5, 10, rng()))
    assert sum(sizes) == 1000
    assert sizes[-1] > 5 * max(1, sizes[0])


def test_images_are_spread_by_their_brightness() -> None:
    features = rng().uniform(-1, 1, (200, 16)).astype(np.float32)
    parts = by_property(features, "brightness", 4)
    means = [features[rows].mean(axis=1) for rows in parts]
    assert all(low.max() <= high.min() for low, high in itertools.pairwise(means))


def test_every_patient_goes_to_one_site_and_no_site_is_empty() -> None:
    labels = np.zeros(60, dtype=np.int64)
    pool = Pool(np.zeros((60, 2), dtype=np.float32), labels, np.full(60, -1))
    for kind in ("iid", "dirichlet", "quantity"):
        rows = spread(pool, Partition(kind, 0.05), 12, rng())
        assert sorted(np.concatenate(rows).tolist()) == list(range(60))
        assert min(len(part) for part in rows) >= 4


def test_real_sites_keep_their_own_patients(tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    lines = [f"{n},{n % 7},{n % 2},{'north' if n < 30 else 'south'}" for n in range(60)]
    path.write_text("\n".join(["a,b,sick,hospital", *lines]) + "\n", encoding="utf-8")
    data = DataSource("csv", str(path), target="sick", site_column="hospital")
    scenario = replace(SMALL, sites=2, data=data, partition=Partition("column"))
    north, south = shares_of(scenario)
    assert north.x[:, 0].max() < south.x[:, 0].min()


# -- whole studies -----------------------------------------------------------------------------


def test_a_study_comes_to_its_end_and_learns() -> None:
    played = play(SMALL)
    assert played.is_complete
    assert played.records.rounds_done == SMALL.sites * SMALL.rounds_total
    assert played.final["accuracy_mean"] > 0.6
    # Everybody hears everybody, so everybody finds the same average.
    assert played.records.consensus_distance(SMALL.rounds) < 1e-6


def test_rounds_that_only_mix_bring_sites_of_a_sparse_graph_together() -> None:
    sparse = replace(SMALL, averaging=Averaging("gossip", "ring"), consensus_rounds=3)
    records = play(sparse).records
    distances = [records.consensus_distance(round_) for round_ in records.rounds]
    assert distances[-1] < 0.5 * distances[SMALL.rounds - 1]


def test_counted_and_executed_sites_learn_the_same() -> None:
    """Delays differ, so who is heard in time might; in a quiet world everybody is."""
    counted = play(SMALL)
    executed = play(replace(SMALL, signatures="executed"))
    assert executed.is_complete
    assert executed.counts["entries"] > counted.counts["entries"]
    assert executed.final == pytest.approx(counted.final, rel=1e-4, nan_ok=True)


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    faulty = replace(SMALL, network=Network(loss=0.2, deadline_s=2.0))
    first, again = play(faulty), play(faulty)
    assert first.digest == again.digest
    assert first.records.rows == again.records.rows
    assert play(replace(faulty, seed=2)).digest != first.digest


def test_faults_do_not_stop_a_study() -> None:
    faults = (
        Fault("crash", (1,), 1.0, 2.0),
        Fault("cut", (2,), 1.5, 4.0),
        Fault("join", (5,), 2.0),
        Fault("leave", (0,), 1.8),
    )
    network = Network(deadline_s=2.0, loss=0.05)
    played = play(replace(SMALL, rounds=8, network=network, faults=faults))
    assert played.is_complete
    assert {row.site for row in played.records.rows} >= {1, 2, 3, 4, 5}


@pytest.mark.parametrize("kind", ["sign-flip", "not-finite", "label-flip", "adaptive"])
def test_attackers_are_played_and_not_counted_among_the_results(kind: str) -> None:
    played = play(replace(SMALL, attack=AttackTerms(kind, 1)))
    assert played.is_complete
    assert {row.site for row in played.records.rows} == set(range(5))
    assert played.final["accuracy_worst"] > 0.3


def test_results_are_complete_and_say_what_they_belong_to(tmp_path: Path) -> None:
    from pyarrow import parquet

    played = play(SMALL)
    write_results(tmp_path, played)
    table = parquet.read_table(tmp_path / "sites_by_round.parquet")
    assert table.num_rows == SMALL.sites * SMALL.rounds_total
    assert set(table.column_names) >= {"round", "site", "accuracy", "clipped"}
    assert (tmp_path / "traffic.csv").read_text().startswith("site,bytes_out,bytes_in\n")
    assert finished(tmp_path, SMALL) is not None
    assert finished(tmp_path, replace(SMALL, seed=9)) is None
    (tmp_path / SUMMARY).write_text("{", encoding="utf-8")
    assert finished(tmp_path, SMALL) is None


SEVERAL = replace(SMALL, sites=40, averaging=Averaging(degree=4))
"""Enough sites for three benches."""


def test_a_world_in_one_piece_and_in_two_play_the_same() -> None:
    network = Network(0.02, 0.08, loss=0.1, deadline_s=3.0)
    lossy = replace(SEVERAL, rounds=2, network=network)
    assert parts_for(setting_of(lossy), 2) == 2
    whole, split = play(lossy, places=1), play(lossy, places=2)
    assert whole.is_complete
    assert split.digest == whole.digest
    assert split.counts == whole.counts
    assert split.bytes_in == whole.bytes_in
    assert sorted(split.records.rows) == sorted(whole.records.rows)
    of_rounds = [[p.records.consensus_distance(r) for r in range(3)] for p in (whole, split)]
    assert of_rounds[0] == of_rounds[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"attack": AttackTerms("sign-flip", 1)},
        {"faults": (Fault("crash", (1,), 1.0, 2.0),)},
        {"signatures": "executed"},
        {"network": Network(delay_min_s=0.0)},
        {"hidden": 4000, "training": replace(TRAINING, hidden=4000)},
    ],
    ids=str,
)
def test_a_world_whose_sites_see_more_than_messages_stays_in_one_piece(
    changes: dict[str, object],
) -> None:
    assert parts_for(setting_of(replace(SEVERAL, **changes)), 2) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(("sites", "parameters"), [(1000, 210), (40, 210), (12, 100_000), (2, 1)])
def test_parts_are_whole_benches_and_every_site_is_in_one(sites: int, parameters: int) -> None:
    benches = benches_for(sites, parameters)
    for parts in range(1, benches.count + 1):
        found = [benches.sites_of_part(part, parts) for part in range(parts)]
        assert [site for own in found for site in own] == list(range(sites))
        of_benches = [{benches.of(site) for site in own} for own in found]
        assert sum(map(len, of_benches)) == benches.count


def _digest_of_a_thousand(hash_seed: str, workers: int, rounds: int) -> str:
    code = (
        "from dataclasses import replace\n"
        "from pathlib import Path\n"
        "from simulations.lab.play import play\n"
        "from simulations.lab.reading import read_scenario\n"
        "raw = Path('simulations/scenarios/thousand.toml').read_bytes()\n"
        f"scenario = replace(read_scenario(raw)[0], rounds={rounds})\n"
        f"print(play(scenario, places={workers}).digest)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=Path(__file__).parents[2],
        check=True,
    )
    return ran.stdout.strip()


@pytest.mark.long
def test_a_thousand_sites_repeat_themselves_under_another_hash_seed() -> None:
    assert _digest_of_a_thousand("1", 1, 4) == _digest_of_a_thousand("2", 2, 4)


@pytest.mark.long
def test_a_thousand_sites_and_a_hundred_rounds_repeat_themselves() -> None:
    assert _digest_of_a_thousand("1", 2, 99) == _digest_of_a_thousand("2", 2, 99)


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_a_local_ray_cluster_gives_the_same_numbers(workers: int) -> None:
    pytest.importorskip("ray")
    here, there = play(SEVERAL, places=1), play(SEVERAL, engine="ray", places=workers)
    assert there.digest == here.digest
    assert there.records.rows == here.records.rows


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_a_pool_of_processes_gives_the_same_numbers(workers: int) -> None:
    here, there = play(SEVERAL, places=1), play(SEVERAL, engine="pool", places=workers)
    assert there.digest == here.digest
    assert there.records.rows == here.records.rows
