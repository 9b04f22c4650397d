"""Proofs that an outsider checks with standard tools: `proofs.json` and `.tlog-proof` files.

proofs.json holds a head as `note` with its `vkey` (and `wvkey`, `wvkeys` of witnesses), inclusion
proofs `inc` [{i, n, root, leaf, data, proof}] and consistency proofs `con` [{m, n, r1, r2,
proof}], all bytes in base64. A `.tlog-proof` file is one inclusion proof together with the head.
Source: c2sp.org/tlog-proof, RFC 6962 sections 2.1.1 and 2.1.2."""

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from ledger.log import LogView
from ledger.log.check_proof import inclusion_file
from ledger.provenance.exports.heads import Exported, ExportHead, shared_entries, write_text

PROOFS_MIN = 10
"""How many proofs of each sort are given where the log has as many."""
PROOFS_MAX = 24
TLOG_PROOFS_MAX = 12
Json = dict[str, object]


def export_proofs(log: LogView, head: ExportHead, folder: Path) -> Exported:
    """Write `proofs.json` and one `.tlog-proof` for each entry proved under the head."""
    readable = {entry.seq: entry.raw for entry in shared_entries(log, head.size)}
    inclusions = list(islice(_inclusion_pairs(sorted(readable), head.size), PROOFS_MAX))
    consistencies = list(islice(_consistency_pairs(head.size), PROOFS_MAX))
    document: Json = {"vkey": str(head.log_key)}
    if head.witnesses:
        document["wvkey"] = str(head.witnesses[0])
        document["wvkeys"] = [str(key) for key in head.witnesses]
    document["note"] = head.note.decode()
    document["inc"] = [_inclusion(log, i, n, readable[i]) for i, n in inclusions]
    document["con"] = [_consistency(log, m, n) for m, n in consistencies]
    files = [write_text(folder / "proofs.json", json.dumps(document, ensure_ascii=False, indent=1))]
    for i, n in inclusions:
        if n == head.size and len(files) <= TLOG_PROOFS_MAX:
            data = inclusion_file(i, log.prove_inclusion(i, n), head.note)
            files.append(write_text(folder / f"entry-{i}.tlog-proof", data.decode()))
    return Exported(tuple(files), tuple(_sentences(head, len(inclusions), len(consistencies))))


def _sentences(head: ExportHead, inclusions: int, consistencies: int) -> Iterator[str]:
    yield (
        f"{inclusions} inclusion and {consistencies} consistency proofs under the head of "
        f"{head.size} entries, cosigned by {len(head.witnesses)} witnesses."
    )
    yield "Entries that only this site may read are not among them."
    if min(inclusions, consistencies) < PROOFS_MIN:
        yield (
            f"The log is too small for {PROOFS_MIN} of each: these are all that {head.size} "
            f"{'entry' if head.size == 1 else 'entries'} can give."
        )


def _inclusion_pairs(readable: Sequence[int], size: int) -> Iterator[tuple[int, int]]:
    """(entry, size of the tree): under the head first, then under ever smaller trees."""
    for n in (size, *_spread(range(size - 1, 0, -1), PROOFS_MAX)):
        under = [seq for seq in readable if seq < n]
        yield from ((seq, n) for seq in _spread(under, PROOFS_MIN if n == size else PROOFS_MAX))


def _consistency_pairs(size: int) -> Iterator[tuple[int, int]]:
    """(smaller, larger size): to the head first, then to ever smaller trees."""
    for n in (size, *_spread(range(size - 1, 0, -1), PROOFS_MAX)):
        count = PROOFS_MIN if n == size else PROOFS_MAX
        yield from ((m, n) for m in _spread(range(1, n), count))


def _spread(places: Sequence[int], count: int) -> list[int]:
    """At most `count` of the places, evenly spread, the first and the last among them."""
    if len(places) <= count:
        return list(places)
    return [places[at * (len(places) - 1) // (count - 1)] for at in range(count)]


def _inclusion(log: LogView, i: int, n: int, raw: bytes) -> Json:
    return {
        "i": i,
        "n": n,
        "root": _base64(log.root_at(n)),
        "leaf": _base64(log.entry(i).leaf),
        "data": _base64(raw),
        "proof": [_base64(node) for node in log.prove_inclusion(i, n)],
    }


def _consistency(log: LogView, m: int, n: int) -> Json:
    return {
        "m": m,
        "n": n,
        "r1": _base64(log.root_at(m)),
        "r2": _base64(log.root_at(n)),
        "proof": [_base64(node) for node in log.prove_consistency(m, n)],
    }


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
