"""What monitoring reads of real nodes: lines, refusals, queues and rounds as numbers."""

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from free_ports import free_ports
from node_homes import Consortium, p2pfl, with_study
from node_processes import running, start_in_vain
from prometheus_client.parser import text_string_to_metric_families

from p2pfl.runtime.home import Home


def _show_metrics(home: Home, address: str) -> None:
    with home.config.open("a") as config:
        config.write(f'metrics = "{address}"\n')


def _read(address: str) -> dict[str, dict[tuple[str, ...], float]]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


@pytest.fixture
def trained(
    founded: Consortium, tmp_path: Path
) -> Iterator[tuple[Consortium, dict[str, dict[tuple[str, ...], float]]]]:
    """Three sites and what the first one's page said after a private study."""
    terms = ("--rounds", "4", "--round-deadline", "20", "--epsilon", "4")
    made = with_study(founded.copied(tmp_path / "c"), *terms)
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    _show_metrics(made.home(0), address)
    with made.home(0).config.open("a") as config:
        config.write("mdns = true\n")
    with running(made.homes) as nodes:
        nodes[0].wait("mdns_started")
        for node in nodes:
            node.wait("study_complete")
        yield made, _read(address)
        told = p2pfl(made.home(0), "node", "status")
        assert "ms there and back" in told
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(f"http://{address}/metrics", data=b"x", timeout=30)


def test_a_page_shows_lines_rounds_and_privacy_spent(
    trained: tuple[Consortium, dict[str, dict[tuple[str, ...], float]]],
) -> None:
    made, seen = trained
    others = [(home.path.name,) for home in made.homes[1:]]
    names = set(seen["p2pfl_neighbour_connected"])
    assert len(names) == len(others)
    assert set(seen["p2pfl_neighbour_connected"].values()) == {1.0}
    for name in names:
        assert 0.0 < seen["p2pfl_neighbour_round_trip_seconds"][name] < 10.0
        assert seen["p2pfl_neighbour_sent_bytes_total"][name] > 1000
        assert seen["p2pfl_neighbour_received_bytes_total"][name] > 1000
    phases = {labels[0]: count for labels, count in seen["p2pfl_round_phase_seconds_count"].items()}
    assert set(phases) == {"train", "record", "gather", "average", "close"}
    assert set(phases.values()) == {7.0}  # four rounds with training, three that mix
    (spent,) = seen["p2pfl_privacy_epsilon_spent"].values()
    assert 0.0 < spent <= 4.0
    assert seen["p2pfl_members"][()] == 3.0
    assert seen["p2pfl_ledger_entries"][()] > 20.0
    assert seen["p2pfl_queue_length"][("events",)] == 0.0
    assert "process_resident_memory_bytes" in seen


def test_a_taken_address_for_metrics_is_one_sentence(founded: Consortium, tmp_path: Path) -> None:
    made = founded.copied(tmp_path / "c")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        _show_metrics(made.home(0), f"127.0.0.1:{taken.getsockname()[1]}")
        code, said = start_in_vain(made.home(0))
    assert code == 69
    assert "change `metrics` in config.toml" in said
    assert "Traceback" not in said
