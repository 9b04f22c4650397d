"""A node that cannot start, or starts and reaches nobody."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from free_ports import neighbouring_ports
from mistakes_stage import Stage
from mistakes_table import ROOT, Row, begins_like
from ops_sites import Ran, done, found, p2pfl

from ledger.provenance import kinds
from p2pfl.cli.context import now_us
from p2pfl.runtime.commands.opening import open_site
from p2pfl.runtime.home import Home
from p2pfl.runtime.lock import hold_home

DAY_US = 86_400_000_000


def approved(stage: Stage) -> None:
    done("study", "approve", stage.study, "--data", "patients", "--home", stage.home)


def test_port_in_use(row: Row, stage: Stage) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", stage.port))
        other.listen()
        stage.refused(row, "node", "start")


def test_address_of_another_machine(row: Row, stage: Stage) -> None:
    stage.edit(stage.home / "config.toml", "127.0.0.1", "192.0.2.7")
    stage.refused(row, "node", "start")


def test_second_node_on_one_home(row: Row, stage: Stage) -> None:
    with hold_home(Home(stage.home), purpose="node start"):
        stage.refused(row, "node", "start")


def test_no_node_runs(row: Row, stage: Stage) -> None:
    stage.refused(row, "node", "status")
    stage.refused(row, "node", "stop")


def test_clock_a_day_behind(row: Row, stage: Stage) -> None:
    tomorrow_us = now_us() + DAY_US
    with open_site(Home(stage.home), purpose="test", now_us=lambda: tomorrow_us) as site:
        site.record(kinds.ClockAnomaly(1).draft("operator"))
    stage.refused(row, "node", "start")
    stage.refused(row, "study", "approve", stage.study, "--data", "patients")
    # The way out that the sentence names, and only after somebody has said so.
    assert p2pfl("ledger", "accept-clock", "--home", stage.home).code == 1
    done("ledger", "accept-clock", "--yes", "--home", stage.home)
    approved(stage)
    assert p2pfl("ledger", "accept-clock", "--yes", "--home", stage.home).code == 1


def test_file_moved_before_the_start(row: Row, stage: Stage) -> None:
    approved(stage)
    stage.table.rename(stage.path / "elsewhere.csv")
    stage.refused(row, "node", "start")


def test_file_changed_before_the_start(row: Row, stage: Stage) -> None:
    approved(stage)
    stage.table.write_text(stage.table.read_text() + "50,1,1\n")
    stage.refused(row, "node", "start")


def test_no_neighbour_reachable(row: Row, stage: Stage) -> None:
    starts_and_dials(row, stage.home, f"127.0.0.1:{stage.port + 1}")


def test_names_cannot_be_looked_up(row: Row, tmp_path: Path) -> None:
    homes = found(tmp_path, sites=2, first_port=neighbouring_ports(2), announced="nowhere.invalid")
    starts_and_dials(row, homes[0], "nowhere.invalid:7101")


def starts_and_dials(row: Row, home: Path, address: str) -> None:
    """A node starts, says whom it dials and who is not reached, and ends when it is told to."""
    command = [sys.executable, "-m", "p2pfl.cli.main", "--home", str(home), "node", "start"]
    node = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert node.stdout is not None
        said = []
        for line in node.stdout:
            said.append(line)
            if "ready in" in line:
                break
        assert row.says.replace("…", f"site1 at {address}") in "".join(said)
        assert f"site1, tried at {address}" in done("node", "status", "--home", home).out
    finally:
        node.send_signal(signal.SIGTERM)
        assert node.wait(80) == 0


def test_wrong_torch(row: Row, stage: Stage, tmp_path: Path) -> None:
    """Another version is found first, as in an environment that somebody else keeps."""
    metadata = tmp_path / "site" / "torch-1.13.1.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.13.1\n")
    words = ("--home", str(stage.home), "node", "start")
    ran = subprocess.run(
        [sys.executable, "-m", "p2pfl.cli.main", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
    )
    row.check(Ran(ran.returncode, ran.stdout, ran.stderr))


def test_confinement_is_missing(row: Row, stage: Stage, tmp_path: Path) -> None:
    """Where the system's library is not installed, its Python module cannot be imported."""
    (tmp_path / "pyseccomp.py").write_text('raise RuntimeError("Unable to find libseccomp")')
    looks = (
        "from p2pfl.runtime.commands.doctoring_machine import check_confinement as look\n"
        "for seen in look(): print(seen.level.value, seen.sentence, seen.fix, sep='\\n')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", looks],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    level, sentence, fix = ran.stdout.splitlines()
    assert level == "fail"
    assert begins_like(row.says, sentence)
    assert begins_like(row.fix, fix)
    started = subprocess.run(
        [sys.executable, "-m", "p2pfl.cli.main", "--home", str(stage.home), "node", "start"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        timeout=120,
    )
    assert started.returncode == 1, started.stderr
    said = " ".join(started.stderr.split())
    assert "confined to level D on this machine, and policy.toml asks for C: libseccomp" in said
    assert 'write confinement_min = "D" into policy.toml' in said


def test_wrong_python(row: Row, tmp_path: Path) -> None:
    old = tmp_path / "python3.8"
    old.write_text("#!/bin/sh\nexit 1\n")  # what an old one answers when asked for 3.11 to 3.13
    old.chmod(0o755)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup.sh", tmp_path / "scripts")
    ran = subprocess.run(
        ["bash", "scripts/setup.sh"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHON": str(old)},
    )
    assert ran.returncode == int(row.code)
    assert row.says.replace("…", str(old)) in ran.stderr
    assert not (tmp_path / ".venv").exists()
