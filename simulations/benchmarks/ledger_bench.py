"""How fast the ledger is, beside its goals.

    python -m simulations.benchmarks.ledger_bench [--entries 100000] [--batch 500]

With `--entries 1000000` it takes some minutes and a gigabyte on disk.

Every number is measured here and now, on a log made for it in a temporary directory. On a busy
machine look at the ratios, which compare with SQLite's and PyNaCl's own speed in the same run,
and at the processor time, which the work of others disturbs least.
"""

import argparse
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ledger.log import (
    Draft,
    Log,
    LogReader,
    SigCheck,
    Signer,
    Value,
    verify,
    verify_inclusion,
    verify_log,
)
from simulations.benchmarks.report import (
    Measured,
    at_least,
    at_most,
    exit_status,
    machine,
    percentile,
    print_section,
    write_json,
)

_TIME_US = 1_800_000_000_000_000
SINGLES = 200
"""Appends that are measured one by one."""
SMALLER = 20
"""How many times smaller the log is when memory is measured first."""


def draft(number: int) -> Draft:
    """An entry of the usual size, about 500 bytes."""
    digest = number.to_bytes(32, "big")
    body: dict[str, Value] = {
        "env_hash": digest,
        "hash": digest,
        "out_hash": digest,
        "round": number,
        "size": 1_234,
        "study": bytes(32),
        "train_seq": number,
        "verdict": "accepted" * 4,
    }
    return Draft("update.published", "node", body)


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def processor_s() -> float:
    """Processor time of this process and of those it started that have ended.

    Finer than `os.times`, whose hundredths of a second can be none for a small log."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def new_log(home: Path) -> Log:
    """An empty log with fixed keys."""
    identity, log, witness = (Signer(bytes([number]) * 32) for number in (1, 2, 3))
    return Log.create(
        home,
        deployment="benchmark",
        identity=identity,
        log=log,
        witness_pk=witness.public_key,
        nonce=bytes(32),
        now_us=_TIME_US,
    )


def raw_sqlite_rate(directory: Path, batch: int, commits: int = 20) -> float:
    """Rows of an entry's size per second that SQLite takes by itself, as durably."""
    connection = sqlite3.connect(directory / "raw.db", isolation_level=None)
    for statement in (
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "CREATE TABLE entry(seq INTEGER PRIMARY KEY, raw BLOB)",
    ):
        connection.execute(statement)

    def insert() -> None:
        for _ in range(commits):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO entry(raw) VALUES (?)", [(bytes(500),) for _ in range(batch)]
            )
            connection.execute("COMMIT")

    rate = commits * batch / seconds(insert)
    connection.close()
    return rate


def raw_verify_s(count: int = 4_000) -> float:
    """Processor time that PyNaCl takes to verify one signature of an entry."""
    signer = Signer(bytes(32))
    message = bytes(450)
    signature = signer.sign(message)
    begun_s = processor_s()
    for _ in range(count):
        verify(signer.public_key, message, signature)
    return (processor_s() - begun_s) / count


def memory_mib() -> float:
    """The most memory that this process, or one that it started, has had so far."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in whose) / 1024


def grown(log: Log, entries: int, batch: int) -> None:
    """Append batches until the log holds nearly `entries`."""
    drafts = [draft(number) for number in range(batch)]
    while log.checkpoint.size + batch <= entries:
        log.append(drafts, _TIME_US)


def memory_of_small(log: Log, home: Path, entries: int, batch: int) -> float:
    """The memory that all of this needs while the log is small: append, prove, verify."""
    grown(log, entries, batch)
    measure_proofs(home)
    for sigs in (SigCheck.HEADS, SigCheck.ALL):
        verify_log(home, sigs=sigs)
    return memory_mib()


def measure_appends(log: Log, directory: Path, entries: int, batch: int) -> list[Measured]:
    """Single durable appends, then batches until the log holds `entries`."""
    singles = [seconds(lambda: log.append([draft(1)], _TIME_US)) for _ in range(SINGLES)]
    p50_ms = statistics.median(singles) * 1e3
    p95_ms = percentile(singles, 0.95) * 1e3
    begun, begun_s = log.checkpoint.size, processor_s()
    took_s = seconds(lambda: grown(log, entries, batch))
    used_s = processor_s() - begun_s
    count = log.checkpoint.size - begun
    rate = count / took_s
    return [
        at_most("one durable append, median", p50_ms, "ms", 10),
        Measured("one durable append, 95th percentile", p95_ms, "ms"),
        at_least(f"appends in batches of {batch}", rate, "1/s", 8000),
        at_least("… per second of processor time", count / used_s, "1/s", 8000),
        Measured("… raw SQLite rows, as a multiple", raw_sqlite_rate(directory, batch) / rate, "×"),
    ]


def measure_proofs(home: Path) -> list[Measured]:
    """Inclusion proofs, made and verified, spread over the whole log."""
    reader = LogReader.open(home)
    try:
        head = reader.checkpoint
        numbers = range(0, head.size, max(1, head.size // 500))
        leaves = {number: reader.entry(number).leaf for number in numbers}
        proofs, times_s, begun_s = {}, [], processor_s()
        for number in numbers:
            started = time.perf_counter()
            proofs[number] = reader.prove_inclusion(number, head.size)
            times_s.append(time.perf_counter() - started)
        prove_ms = (processor_s() - begun_s) / len(numbers) * 1e3
        begun_s = processor_s()
        for number, proof in proofs.items():
            verify_inclusion(leaves[number], number, head.size, proof, head.root)
        verify_ms = (processor_s() - begun_s) / len(numbers) * 1e3
    finally:
        reader.close()
    median_ms = statistics.median(times_s) * 1e3
    return [
        at_most(f"inclusion proof at {head.size}, median", median_ms, "ms", 0.3),
        at_most("… in processor time, mean", prove_ms, "ms", 0.3),
        Measured("its verification, in processor time", verify_ms, "ms"),
    ]


def measure_verification(home: Path) -> list[Measured]:
    """The whole log by heads, and by every signature; goals are for a million entries."""
    lines = []
    one_s = raw_verify_s()
    for sigs, goal_s in ((SigCheck.HEADS, 5.0), (SigCheck.ALL, 45.0)):
        started, begun_s = time.perf_counter(), processor_s()
        result = verify_log(home, sigs=sigs)
        took_s, used_s = time.perf_counter() - started, processor_s() - begun_s
        if result.findings:
            raise SystemExit(f"the log just made is not clean: {result.findings[:3]}")
        size = result.size
        allowed_s = goal_s * size / 1_000_000
        lines.append(
            at_most(f"verify {size} entries, signatures: {sigs.value}", took_s, "s", allowed_s)
        )
        lines.append(at_most("… in processor time of two cores", used_s, "s", 2 * allowed_s))
    raw_s = one_s * size
    lines += [
        Measured("… raw PyNaCl, in processor time", raw_s, "s"),
        Measured("… all signatures, as a multiple of that", used_s / raw_s, "×"),
    ]
    return lines


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=100_000, help="size of the log [100000]")
    parser.add_argument("--batch", type=int, default=500, help="entries per commit [500]")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args(arguments)
    least = SINGLES + 1 + options.batch
    if options.entries < least:
        parser.error(f"--entries must be at least {least}, one batch after the single appends")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status says whether every goal was met."""
    options = parse(arguments)
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "home"
        log = new_log(home)
        small = options.entries // SMALLER
        small_mib = memory_of_small(log, home, small, options.batch)
        measured = measure_appends(log, Path(directory), options.entries, options.batch)
        measured.append(Measured("closing", seconds(log.close), "s"))
        measured += measure_proofs(home)
        measured += measure_verification(home)
        measured += [
            Measured(f"most memory of a process, at {small:,} entries", small_mib, "MiB"),
            at_most("… and at the end, as a multiple", memory_mib() / small_mib, "×", 1.25),
        ]
    sections = {"ledger": measured}
    print_section(f"a log of {options.entries:,} entries", measured)
    write_json(options.json, sections)
    return exit_status(sections)


if __name__ == "__main__":
    sys.exit(main())
