"""What all exports share: the head they stand under, and what they say about themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ledger.log import Checkpoint, Entry, ExitCode, LedgerError, LogView, VerifierKey, note_verify
from ledger.log.notes import note_text
from ledger.provenance.readers import Readers, readers_of


class ExportError(LedgerError):
    """This log cannot be exported in this form."""

    rule: ClassVar[str] = "the export is not possible"
    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class ExportHead:
    """The signed head that an export stands under.

    note: the log's signature first, then the witnesses' lines; witnesses: whose those are, in the
    lines' order."""

    checkpoint: Checkpoint
    note: bytes
    log_key: VerifierKey
    witnesses: tuple[VerifierKey, ...] = ()

    @property
    def size(self) -> int:
        return self.checkpoint.size


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote, and what a person should know about it."""

    files: tuple[Path, ...]
    sentences: tuple[str, ...]


def head_of(
    log: LogView, cosigned: bytes = b"", witnesses: Sequence[VerifierKey] = ()
) -> ExportHead:
    """The newest head that witnesses cosigned, or the newest one where none did.

    cosigned: an older note of this log with cosignature lines, as the witness store keeps it.
    Only witnesses whose line is there and right are named.
    Raises: NoteError where a signature is wrong, ExportError where the log has another root."""
    note = cosigned or log.note
    checkpoint = Checkpoint.parse(note_text(note))
    # A cosigned head may be older than the log key in force now.
    key = log.identity.verifier_key_at(checkpoint.size)
    seen = note_verify(note, key, *witnesses)
    if checkpoint.size > log.checkpoint.size or log.root_at(checkpoint.size) != checkpoint.root:
        raise ExportError("the cosigned head is not one of this log's")
    signers = tuple(signed.key for signed in seen.signatures if signed.key != key)
    return ExportHead(checkpoint, note, key, signers)


def shared_entries(log: LogView, size: int) -> Iterator[Entry]:
    """The entries under a head that members of a study may read: not those of the site alone."""
    for entry in log.entries(0, size):
        if readers_of(entry.kind) is not Readers.SELF:
            yield entry


def write_text(path: Path, text: str) -> Path:
    """Write a file that did not exist."""
    with path.open("x", encoding="utf-8", newline="") as file:
        file.write(text)
    return path
