"""The whole log as static files that any tlog-tiles reader understands.

`checkpoint`, `tile/<L>/<N>[.p/<W>]` with hashes and `tile/entries/<N>[.p/<W>]` with the entries,
each behind its length as a big-endian uint16. Source: c2sp.org/tlog-tiles."""

from pathlib import Path

from ledger.log import LogView
from ledger.log.tree import Frontier
from ledger.provenance.exports.heads import Exported, ExportError, ExportHead

WIDTH = 256
LEVELS_PER_TILE = 8
ENTRY_BYTES_MAX = 0xFFFF


def export_tiles(log: LogView, head: ExportHead, folder: Path) -> Exported:
    """Write the tree's tiles and all entries. Raises ExportError for an entry above 65,535 B."""
    checkpoint = folder / "checkpoint"
    checkpoint.write_bytes(head.note)
    files = [checkpoint]
    rows = {"entries": _Row(folder / "tile" / "entries", files)}
    frontier = Frontier()
    for entry in log.entries(0, head.size):
        if len(entry.raw) > ENTRY_BYTES_MAX:
            raise ExportError(
                f"entry {entry.seq} does not fit a tile; use `p2pfl ledger export proofs` or csv",
                expected=f"at most {ENTRY_BYTES_MAX} bytes",
                actual=len(entry.raw),
            )
        rows["entries"].add(len(entry.raw).to_bytes(2, "big") + entry.raw)
        for level, _, node in ((0, entry.seq, entry.leaf), *frontier.append(entry.leaf)):
            if level % LEVELS_PER_TILE == 0:
                name = str(level // LEVELS_PER_TILE)
                if name not in rows:
                    rows[name] = _Row(folder / "tile" / name, files)
                rows[name].add(node)
    for row in rows.values():
        row.end()
    sentence = (
        f"All {head.size} entries, also those that only this site may read: give the folder to "
        "nobody but an auditor whom you trust with them."
    )
    return Exported(tuple(files), (sentence,))


def tile_path(tile: int, width: int) -> str:
    """`x001/x234/067`, with `.p/<width>` for a tile that is not full."""
    digits = f"{tile % 1000:03d}"
    while tile := tile // 1000:
        digits = f"x{tile % 1000:03d}/{digits}"
    return digits if width == WIDTH else f"{digits}.p/{width}"


class _Row:
    """The tiles of one level, written as soon as each is full."""

    def __init__(self, folder: Path, files: list[Path]) -> None:
        self.folder = folder
        self.files = files
        self.parts: list[bytes] = []
        self.tile = 0

    def add(self, part: bytes) -> None:
        self.parts.append(part)
        if len(self.parts) == WIDTH:
            self.end()

    def end(self) -> None:
        """Write what there is: an empty tile must not exist."""
        if not self.parts:
            return
        path = self.folder / tile_path(self.tile, len(self.parts))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(self.parts))
        self.files.append(path)
        self.tile += 1
        self.parts = []
