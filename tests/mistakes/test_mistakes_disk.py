"""Disks that are full, read-only or lie, and what is in the home besides the ledger."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mistakes_stage import Stage
from mistakes_table import ROOT, Row
from ops_sites import Ran, done, p2pfl


def apart(
    *words: object, before: Callable[[], None] | None = None, under: tuple[str, ...] = ()
) -> Ran:
    """Run a command in a process of its own, with limits of its own."""
    ran = subprocess.run(
        [*under, sys.executable, "-m", "p2pfl.cli.main", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        preexec_fn=before,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def no_file_grows() -> None:
    """The kernel refuses every byte, as on a full disk (Python turns the signal into an error)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def test_disk_is_full(row: Row, stage: Stage) -> None:
    """A small disk of its own, filled to the last byte; needs a mount namespace."""
    disk = stage.path / "disk"
    script = (
        'mount -t tmpfs -o size=1m none "$0" 2>/dev/null || exit 99; cp -a "$1" "$0/home";'
        ' dd if=/dev/zero of="$0/fill" bs=1k 2>/dev/null; shift; "$@"; code=$?;'
        f' {sys.executable} -m p2pfl.cli.main ledger verify --home "$0/home" || exit 98; exit $code'
    )
    disk.mkdir()
    isolated = ("unshare", "--map-root-user", "--mount", "bash", "-c", script, disk, stage.home)
    words = ("study", "approve", stage.study, "--data", "patients", "--home", disk / "home")
    ran = apart(*words, under=tuple(map(str, isolated)))
    if (ran.code in (1, 99) and "unshare" in ran.err) or ran.code == 99:
        pytest.skip("no mount namespace can be had here")
    assert ", 0 findings" in ran.out
    row.check(ran)


def test_models_do_not_fit_the_budget(row: Row, stage: Stage) -> None:
    config = stage.home / "config.toml"
    config.write_text(f"models_gb = 0.001\n{config.read_text('utf-8')}", "utf-8")
    (stage.home / "blobs" / ("0" * 64)).write_bytes(bytes(1_000_000))
    stage.refused(row, "study", "approve", stage.study, "--data", "patients")


def test_file_limit_is_reached(row: Row, stage: Stage) -> None:
    words = ("study", "approve", stage.study, "--data", "patients", "--home", stage.home)
    before = stage.entries()
    row.check(apart(*words, before=no_file_grows))
    assert stage.entries() == before
    done("ledger", "verify", "--home", stage.home)
    done(*words)


def test_disk_is_full_at_init(row: Row, tmp_path: Path) -> None:
    options = ("--name", "south", "--listen", "127.0.0.1:7100", "--consortium", "heart")
    words = ("init", *options, "--home", tmp_path / "south")
    row.check(apart(*words, before=no_file_grows))
    assert not (tmp_path / "south").exists()
    done(*words)


def test_disk_is_read_only(row: Row, stage: Stage) -> None:
    """As after an error of the disk; needs a mount namespace."""
    mounted = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    under = ("unshare", "--mount", "--map-root-user", "sh", "-c", mounted, str(stage.home))
    tried = shutil.which("unshare") and subprocess.run([*under, "true"], check=False)
    if not tried or tried.returncode != 0:
        pytest.skip("nobody may make a mount namespace here")
    for words in (("data", "revoke", "patients"), ("node", "start")):
        row.check(apart(*words, "--home", stage.home, under=under))
    assert apart("ledger", "verify", "--home", stage.home, under=under).code == 0
    done("data", "revoke", "patients", "--home", stage.home)


def test_home_may_not_be_written(row: Row, stage: Stage) -> None:
    # Root writes where it may not, unless it has left that power behind.
    under = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
    if under and shutil.which("setpriv") is None:
        pytest.skip("root without setpriv may write everywhere")
    words = ("data", "revoke", "patients", "--home", stage.home)
    (stage.home / "node.lock").unlink()
    stage.home.chmod(0o500)
    row.check(apart(*words, under=under))
    assert apart("study", "list", "--home", stage.home, under=under).code == 0
    stage.home.chmod(0o700)
    done(*words)


def test_ledger_was_altered(row: Row, stage: Stage) -> None:
    with sqlite3.connect(stage.home / "ledger.db") as database:
        (raw,) = database.execute("SELECT raw FROM entry WHERE seq = 3").fetchone()
        altered = raw[:80] + bytes([raw[80] ^ 1]) + raw[81:]
        database.execute("UPDATE entry SET raw = ? WHERE seq = 3", (altered,))
    words = ("study", "approve", stage.study, "--data", "patients", "--home", stage.home)
    row.check(p2pfl(*words))
    row.check(p2pfl("node", "start", "--home", stage.home))
    assert p2pfl("ledger", "verify", "--home", stage.home).code == int(row.code)


def test_ledger_file_is_garbage(row: Row, stage: Stage) -> None:
    raw = bytearray((stage.home / "ledger.db").read_bytes())
    raw[:4096] = os.urandom(4096)
    (stage.home / "ledger.db").write_bytes(raw)
    row.check(p2pfl("node", "start", "--home", stage.home))
    row.check(p2pfl("data", "list", "--home", stage.home))


def test_older_ledger_was_put_back(row: Row, stage: Stage) -> None:
    shutil.copy(stage.home / "ledger.db", stage.path / "older.db")
    done("data", "revoke", "patients", "--home", stage.home)
    for leftover in stage.home.glob("ledger.db*"):
        leftover.unlink()
    shutil.copy(stage.path / "older.db", stage.home / "ledger.db")
    row.check(p2pfl("node", "start", "--home", stage.home))


def test_ledger_is_gone(row: Row, stage: Stage) -> None:
    for file in stage.home.glob("ledger.db*"):
        file.unlink()
    row.check(p2pfl("node", "start", "--home", stage.home))
    row.check(p2pfl("study", "approve", stage.study, "--data", "patients", "--home", stage.home))


def test_initial_model_was_altered(row: Row, stage: Stage) -> None:
    (blob,) = (stage.home / "blobs").iterdir()
    raw = bytearray(blob.read_bytes())
    raw[-1] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(raw)
    words = ("study", "propose", stage.manifest, "-o", stage.path / "x.study")
    stage.refused(row, *words)
    # What the sentence advises works.
    blob.unlink()
    done(*words, "--home", stage.home)


def test_dataset_particulars_are_damaged(row: Row, stage: Stage) -> None:
    stage.edit(stage.home / "data" / "patients" / "dataset.toml", "fingerprint", "finger")
    stage.refused(row, "study", "approve", stage.study, "--data", "patients")


def test_patient_hashes_are_gone(row: Row, stage: Stage) -> None:
    (stage.home / "data" / "patients" / "rows.keyed").unlink()
    table = stage.path / "more.csv"
    table.write_text(stage.table.read_text().replace("\n", "\n\n"))
    stage.refused(row, "data", "add", table, "--name", "more")


def test_data_key_is_missing(row: Row, stage: Stage) -> None:
    (stage.home / "keys" / "data.key").unlink()
    stage.refused(row, "study", "approve", stage.study, "--data", "patients")
