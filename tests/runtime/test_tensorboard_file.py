"""What TensorBoard itself reads from the files that are written without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.runtime.tensorboard_file import Scalar, crc32c, event_file


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


def test_tensorboards_own_reader_finds_every_number(tmp_path: Path) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    path = tmp_path / "events.out.tfevents.p2pfl"
    told = [Scalar("score/auc", step, 0.5 + step / 100, 1.8e9 + step) for step in (0, 7, 300)]
    path.write_bytes(event_file(told, time_s=1.8e9))
    first, *events = loader.LegacyEventFileLoader(str(path)).Load()
    assert first.file_version == "brain.Event:2"
    found = [(e.summary.value[0].tag, e.step, e.wall_time) for e in events]
    assert found == [(s.tag, s.step, s.time_s) for s in told]
    values = [event.summary.value[0].simple_value for event in events]
    assert values == pytest.approx([s.value for s in told])
