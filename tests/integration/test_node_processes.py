"""Real nodes on loopback: a private study, signals, kills, mistakes, and what a node costs."""

import contextlib
import re
import resource
import signal
import subprocess
from pathlib import Path

import pytest
from node_homes import Consortium, audit_code, entries, with_study
from node_processes import RunningNode, is_alive, poll, running, sentence_of, start, start_in_vain

from p2pfl.cli.demo_nodes import program
from p2pfl.runtime.confinement.errors import ConfinementError
from p2pfl.runtime.confinement.terms import terms_here

MEMORY_MB_MAX = 250
FILE_BYTES_MAX = 4096


@pytest.fixture
def private(founded: Consortium, tmp_path: Path) -> Consortium:
    """Three sites that approved a study with differential privacy."""
    terms = ("--rounds", "100", "--consensus-rounds", "2", "--round-deadline", "20")
    return with_study(founded.copied(tmp_path / "c"), *terms, "--epsilon", "4")


def test_a_private_study_survives_signals_and_kills_and_ends_with_clean_audits(
    private: Consortium, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(private.homes) as nodes:
        for node in nodes:
            node.wait("round_done")
        told = _costs(nodes)
        # At once: rounds take 50 ms here, and what is killed says no farewell, so the others wait
        # for it and the study is still under way for all that follows.
        _takes_its_training_process_along(nodes[0])
        _refuses_a_second_node(nodes[2])
        _stops_cleanly(nodes[1], signal.SIGTERM)
        nodes += [start(nodes[0].home), start(nodes[1].home)]
        for node in nodes[2:]:
            node.wait("study_complete")
            assert not node.said("internal_error")
            assert node.memory_peak_mb() <= MEMORY_MB_MAX
        assert nodes[2].stop(signal.SIGINT)[0] == 0
        assert nodes[3].stop(signal.SIGHUP)[0] == 0  # the terminal was closed
        assert nodes[4].stop()[0] == 0
    with capfd.disabled():
        print(f"\n[{told}]")
    for home in private.homes:
        rounds = [entry.body["round"] for entry in entries(home, "train.done")]
        assert len(rounds) == len(set(rounds)) <= 100  # nothing was trained, or paid for, twice
        (closed,) = entries(home, "study.closed")
        assert closed.body["reason"] == "complete"
        assert audit_code(home) == 0
        assert (home.study_models(bytes.fromhex(private.study)) / "model.safetensors").is_file()
        _is_only_for_its_owner(home.path)


def _costs(nodes: list[RunningNode]) -> str:
    for node in nodes:
        assert not re.search(r"torch|monai|opacus|pandas", node.maps())
    ready = [float(_ready_s(node)) for node in nodes]
    peak = max(node.memory_peak_mb() for node in nodes)
    return f"three nodes at once: ready after {min(ready)} to {max(ready)} s, {peak:.0f} MB each"


def _refuses_a_second_node(node: RunningNode) -> None:
    code, said = start_in_vain(node.home)
    assert code == 75
    assert str(node.pid) in sentence_of(said)


def _stops_cleanly(node: RunningNode, number: signal.Signals) -> None:
    children = node.training_pids()
    assert children
    _are_confined(children)
    code, took_s = node.stop(number)
    assert (code, took_s < 5.0) == (0, True)
    assert not any(map(is_alive, children))
    assert not node.home.node_pid.exists()
    assert not node.home.control_socket.exists()


def _are_confined(children: list[int]) -> None:
    """As the kernel tells it, where this machine can confine at all."""
    with contextlib.suppress(ConfinementError):
        terms_here()
        for child in map(_innermost, children):
            told = Path(f"/proc/{child}/status").read_text()
            assert re.search(r"^Seccomp:\t2$", told, re.MULTILINE)
            assert re.search(r"^NoNewPrivs:\t1$", told, re.MULTILINE)


def _innermost(pid: int) -> int:
    """Behind bubblewrap's own processes, where it has any."""
    below = _descendants(pid)
    return _innermost(int(below[0])) if below else pid


def _takes_its_training_process_along(node: RunningNode) -> None:
    children = node.training_pids()
    assert children
    node.process.kill()
    node.process.wait()
    poll(lambda: not any(map(is_alive, children)), lambda: None, "the orphans die", 2.0)


def test_a_taken_port_is_one_sentence(consortium: Consortium, tmp_path: Path) -> None:
    other = consortium.copied(tmp_path / "other")
    with running([consortium.home(0)]) as (node,):
        node.wait("node_ready")
        code, said = start_in_vain(other.home(0))  # the same address, another home
        assert code == 69
        assert "cannot listen" in said
        assert "Traceback" not in said
        assert node.stop()[0] == 0


def test_a_command_under_way_does_not_hold_up_the_end(founded: Consortium, tmp_path: Path) -> None:
    long = ("--rounds", "900", "--epsilon", "4", "--sampling-rate", "0.3")
    made = with_study(founded.copied(tmp_path / "c"), *long, approving=0)
    home = made.home(0)
    with running([home]) as (node,):
        node.wait("node_ready")
        approving = subprocess.Popen(
            [
                *program(),
                "--home",
                str(home.path),
                "study",
                "approve",
                made.study,
                "--data",
                "patients",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        node.until(lambda: _descendants(node.pid), "the table of ε is being made")
        code, took_s = node.stop()
        _, said = approving.communicate(timeout=80)
    assert (code, took_s < 5.0) == (0, True)
    assert approving.returncode == 69
    assert "stopped before the command had ended" in sentence_of(said)
    assert entries(home, "study.approved") == []


@pytest.mark.nodes
def test_a_disk_that_takes_no_more_ends_a_node_with_one_sentence(consortium: Consortium) -> None:
    with running(consortium.homes[:1]) as (node,):
        node.wait("node_ready")
        node.wait("study_waits")
        # From now on its database cannot grow; the terminal's file still can.
        resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, resource.RLIM_INFINITY))
        with running(consortium.homes[1:2]):  # an approval comes, training starts, an entry is due
            assert node.process.wait(120) == 74
        assert "Traceback" not in node.console()
        assert sentence_of("\n".join(node.console().splitlines()[-2:]))
    with running(consortium.homes[:2]) as nodes:  # with room again, the study goes on
        for again in nodes:
            again.wait("study_complete")
        assert [again.stop()[0] for again in nodes] == [0, 0]
    assert audit_code(consortium.home(0)) == 0


def _ready_s(node: RunningNode) -> str:
    found = re.search(r"ready in ([0-9.]+) s", node.console())
    assert found is not None
    return found[1]


def _is_only_for_its_owner(home: Path) -> None:
    """Whatever lies in a home is nobody else's business; the card and the roster are public."""
    for path in home.rglob("*"):
        is_public = path.suffix in (".card", ".roster")
        assert is_public or path.stat().st_mode & 0o077 == 0 or not path.is_file(), path


def _descendants(pid: int) -> list[str]:
    """Children of any thread of a process."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [child for task in tasks for child in task.read_text().split()]
