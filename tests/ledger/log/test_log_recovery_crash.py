"""A recovery stopped anywhere while it exchanges the files: doing it again gives the whole log."""

import os
import shutil
from pathlib import Path

from log_samples import LOG_KEY, NOW_US, closed_log, draft

from ledger.log import Log, LogReader, recovery_files, verify_log
from ledger.log.recovery import recover_tail


class Stopped(BaseException):
    """The process is gone."""


class Exchange:
    """Copies the home before one of the calls that change names or make them durable."""

    def __init__(self, home: Path, copy: Path, stop_at: int) -> None:
        self.home, self.copy, self.stop_at = home, copy, stop_at
        self.calls = 0

    def watched(self, call):
        def maybe(*arguments, **options):
            if self.calls == self.stop_at:
                # What is in the folder now is what a kill leaves; the exception cleans up.
                shutil.copytree(self.home, self.copy)
                raise Stopped
            self.calls += 1
            return call(*arguments, **options)

        return maybe


def stopped_copy(original: Path, folder: Path, stop_at: int, monkeypatch) -> Path | None:
    """What a recovery leaves that was killed before call number `stop_at`; None: it ended."""
    home = shutil.copytree(original, folder / f"home{stop_at}")
    exchange = Exchange(home, folder / f"copy{stop_at}", stop_at)
    with monkeypatch.context() as patched:
        patched.setattr(os, "link", exchange.watched(os.link))
        patched.setattr(os, "replace", exchange.watched(os.replace))
        patched.setattr(Path, "unlink", exchange.watched(Path.unlink))
        patched.setattr(recovery_files, "_sync", exchange.watched(recovery_files._sync))
        try:
            recover(home, original)
        except Stopped:
            return exchange.copy
    return None


def recover(home: Path, original: Path) -> None:
    reader = LogReader.open(original)
    try:
        raws, note = [entry.raw for entry in reader.entries()], reader.note
        recover_tail(home, log_id=reader.log_id, log=LOG_KEY, source=raws, witnessed=[note])
    finally:
        reader.close()


def test_an_exchange_killed_anywhere_is_done_again(tmp_path, monkeypatch):
    original = tmp_path / "original"
    closed_log(original)
    stop_at = 0
    while (left := stopped_copy(original, tmp_path, stop_at, monkeypatch)) is not None:
        recover(left, original)
        assert not verify_log(left).findings
        log = Log.open(left, log=LOG_KEY)
        assert log.checkpoint.size == 10
        log.append([draft(1)], NOW_US)
        log.close()
        stop_at += 1
    # Two links, two syncs, a write-ahead log and its index, two renames: all of them were stops.
    assert stop_at >= 8
