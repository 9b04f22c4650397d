"""What a downloader asks for is read from one open file, and nothing waits for a disk unasked."""

from pathlib import Path

from gossip.blob_source import Source


def test_a_source_reads_what_is_there_and_says_what_is_not(tmp_path: Path) -> None:
    path, other = tmp_path / "one", tmp_path / "other"
    path.write_bytes(bytes(range(200)))
    other.write_bytes(b"x" * 200)
    source, room = Source(), memoryview(bytearray(50))
    assert not source.read_now(path, 100, room)  # opening it may wait
    assert source.read(path, 100, room) == 50
    assert bytes(room) == bytes(range(100, 150))
    assert source.read(path, 180, room) == 20
    assert not source.read_now(path, 180, room)
    if source.read_now(path, 0, room):  # where the file system can say
        assert bytes(room) == bytes(range(50))
    assert not source.read_now(other, 0, room)
    assert source.read(other, 0, room) == 50
    assert bytes(room) == b"x" * 50
    assert source.read(tmp_path / "none", 0, room) is None
    assert not source.read_now(tmp_path / "none", 0, room)
    source.close()
    source.close()
