"""Proofs and evidence of forks, kept for good and in bounded number.

Responsible for: making proofs from what is held of a log, and keeping each once.
Must not know: when heads are compared.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ledger.log.entries import Digest
from ledger.log.fork_errors import ForkRefused
from ledger.log.fork_proofs import ForkProof, decode_fork, encode_fork, fork_digest
from ledger.log.forks import (
    CosignaturesThatDisagree,
    ForkKind,
    HeadsOfOneSize,
    HeadsThatDisagree,
    check_proven,
)
from ledger.log.mirror_heads import HeldHead
from ledger.log.mirror_tables import MirrorTables
from ledger.log.notes import Checkpoint, NoteSignature, VerifierKey, note_with


@dataclass(frozen=True, slots=True)
class HeardHead:
    """A head that somebody told: verified, with the cosignatures of known witnesses."""

    checkpoint: Checkpoint
    key: VerifierKey
    line: bytes
    cosignatures: tuple[NoteSignature, ...]

    @property
    def note(self) -> bytes:
        """The note with the log's own signature only."""
        return note_with(self.checkpoint.text, self.line)


def proof_of_heads(
    held: HeldHead, heard: HeardHead, path: tuple[bytes, ...], lineage: tuple[bytes, ...]
) -> ForkProof:
    """The proof that two heads contradict each other. path: as in K2, empty for one size.

    The smaller head comes first, the order of equal sizes is that of their bytes, so that every
    site makes the same file.
    """
    keys = tuple(sorted({held.key, heard.key}, key=str))
    size_a, size_b = held.size, heard.checkpoint.size
    first, second = sorted([(size_a, held.note), (size_b, heard.note)])
    if size_a == size_b:
        return HeadsOfOneSize(keys, first[1], second[1], lineage)
    return HeadsThatDisagree(keys, first[1], second[1], path, lineage)


def proofs_of_cosignatures(
    held: HeldHead, heard: HeardHead, path: tuple[bytes, ...], witnesses: Iterable[VerifierKey]
) -> list[CosignaturesThatDisagree]:
    """The witnesses that cosigned both of two heads that contradict each other."""
    told = {signature.key: signature.line for signature in heard.cosignatures}
    found = []
    for witness in witnesses:
        start = f"— {witness.name} ".encode()
        for line in held.cosignatures:
            if witness not in told or not line.startswith(start):
                continue
            sides = sorted(
                [
                    (held.size, note_with(held.checkpoint.text, line)),
                    (heard.checkpoint.size, note_with(heard.checkpoint.text, told[witness])),
                ]
            )
            found.append(CosignaturesThatDisagree(witness, sides[0][1], sides[1][1], path))
    return found


class MirrorForks:
    """The tables `fork` and `evidence`."""

    __slots__ = ("_tables",)

    def __init__(self, tables: MirrorTables) -> None:
        self._tables = tables

    def keep(self, log: int, proof: ForkProof, per_log_max: int) -> bool:
        """Keep a proof that holds; True if it is new and there was room for it.

        Of each witness one K4 is kept: whoever makes many must not take the log's own places.
        """
        try:
            verdict = check_proven(proof)
        except ForkRefused:
            return False
        data = encode_fork(proof)
        with self._tables.transaction():
            if verdict.witness is not None:
                if verdict.witness.name in {key.name for key in self.accused()}:
                    return False
            elif len(self._of(log)) >= per_log_max:
                return False
            return bool(
                self._tables.write(
                    "INSERT OR IGNORE INTO fork(digest, log, kind, proof) VALUES (?, ?, ?, ?)",
                    fork_digest(data),
                    log,
                    verdict.kind.value,
                    data,
                )
            )

    def has(self, proof: ForkProof) -> bool:
        """True if exactly this proof is held."""
        digest = fork_digest(encode_fork(proof))
        return self._tables.one("SELECT 1 FROM fork WHERE digest = ?", digest) is not None

    def all(self) -> tuple[bytes, ...]:
        """Every proof's file, oldest first."""
        return tuple(row[0] for row in self._tables.all("SELECT proof FROM fork ORDER BY rowid"))

    def digests(self) -> frozenset[Digest]:
        """The digests of every proof held."""
        return frozenset(Digest(row[0]) for row in self._tables.all("SELECT digest FROM fork"))

    def of(self, log: int) -> ForkProof | None:
        """The first proof that a log itself told two histories (a K4 is about a witness)."""
        proofs = self._of(log)
        return decode_fork(proofs[0]) if proofs else None

    def _of(self, log: int) -> list[bytes]:
        rows = self._tables.all(
            "SELECT proof FROM fork WHERE log = ? AND kind <> ? ORDER BY rowid",
            log,
            ForkKind.COSIGNATURES_THAT_DISAGREE.value,
        )
        return [proof for (proof,) in rows]

    def accused(self) -> frozenset[VerifierKey]:
        """Witnesses that are proven to have cosigned two histories of a log."""
        rows = self._tables.all(
            "SELECT proof FROM fork WHERE kind = ?", ForkKind.COSIGNATURES_THAT_DISAGREE.value
        )
        proofs = (decode_fork(proof) for (proof,) in rows)
        return frozenset(p.witness for p in proofs if isinstance(p, CosignaturesThatDisagree))

    def keep_evidence(self, log: int, request: bytes, per_log_max: int) -> None:
        """Keep what a log asked to have cosigned although it does not extend its last head."""
        with self._tables.transaction():
            row = self._tables.one("SELECT count(*) FROM evidence WHERE log = ?", log)
            if row is not None and row[0] < per_log_max:
                statement = "INSERT OR IGNORE INTO evidence(log, request) VALUES (?, ?)"
                self._tables.write(statement, log, request)

    def evidence(self, log: int) -> tuple[bytes, ...]:
        """What is kept of a log's refused requests, oldest first."""
        rows = self._tables.all("SELECT request FROM evidence WHERE log = ? ORDER BY id", log)
        return tuple(request for (request,) in rows)
