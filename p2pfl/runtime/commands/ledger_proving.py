"""Single proofs as files that anybody checks: an entry is in the log, the log only grew."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.log import (
    LedgerError,
    LogId,
    LogIdentity,
    LogReader,
    OnDamage,
    VerifierKey,
    identity_from,
)
from ledger.log.check_proof import (
    PROOF_BYTES_MAX,
    InclusionVerdict,
    check_proof,
    consistency_file,
    inclusion_file,
)
from ledger.log.entries import RAW_BYTES_MAX
from ledger.log.heads_file import HEADS_NAME, read_tail_of, scan_records
from ledger.log.notes import NoteSignature
from ledger.log.witness_store import WITNESS_NAME, WitnessDatabase
from ledger.provenance import exports
from ledger.provenance.readers import Readers, readers_of
from p2pfl.core.witnessing_epochs import Epochs
from p2pfl.core.witnessing_terms import log_key
from p2pfl.runtime.commands.ledger_vouching import cosigned_head, note_at
from p2pfl.runtime.commands.opening import installed_roster
from p2pfl.runtime.errors import EXIT_DATA, EXIT_NO_INPUT, EXIT_USAGE, OperatorError
from p2pfl.runtime.home import Home, read_bounded
from p2pfl.runtime.log_lineage import keys_of_lineage

SIZES_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class ProofMade:
    """What was written. `key`: the log's, as `check-proof --key` takes it; `older_key`: the one
    that signed the older of two heads, if another did. `is_private`: the entry is one that only
    this site may read."""

    file: str
    entry: str
    key: str
    size: int
    is_private: bool
    older_key: str = ""


@dataclass(frozen=True, slots=True)
class ProofSeen:
    """A proof that holds. signed_by: the names of the given keys that signed its head."""

    sentence: str
    origin: str
    size: int
    root: bytes
    signed_by: tuple[str, ...]


def inclusion_proof(home: Home, seq: int, folder: Path) -> ProofMade:
    """Write `entry-<seq>.tlog-proof` and `entry-<seq>.entry` into an existing folder.

    Under the newest head that others cosigned, or the newest one where it has to be.
    Raises OperatorError, LedgerError."""
    reader = LogReader.open(home.path)
    try:
        head = exports.head_of(reader, *cosigned_head(home, reader))
        if seq >= head.size:
            head = exports.head_of(reader)
        if seq >= head.size:
            raise OperatorError(
                f"The ledger has no entry {seq}.",
                fix=f"Give a number from 0 to {head.size - 1}.",
                exit_code=EXIT_USAGE,
            )
        entry = reader.entry(seq)
        proof = inclusion_file(seq, reader.prove_inclusion(seq, head.size), head.note)
    finally:
        reader.close()
    proof_path, entry_path = folder / f"entry-{seq}.tlog-proof", folder / f"entry-{seq}.entry"
    write_new(proof_path, proof)
    write_new(entry_path, entry.raw)
    is_private = readers_of(entry.kind) is Readers.SELF
    return ProofMade(str(proof_path), str(entry_path), str(head.log_key), head.size, is_private)


def consistency_proof(home: Home, older: int, newer: int, folder: Path) -> ProofMade:
    """Write `<older>-<newer>.consistency-proof` between two released heads of these sizes.

    Raises OperatorError, LedgerError."""
    reader = LogReader.open(home.path)
    try:
        notes = [note_at(home, reader, size) for size in (older, newer)]
        for size, note in zip((older, newer), notes, strict=True):
            if not note:
                raise OperatorError(
                    f"No head over {size} entries was ever released.",
                    fix=f"Give sizes of released heads; the nearest: {_nearest(home, size)}.",
                    exit_code=EXIT_NO_INPUT,
                )
        if older > newer:
            raise OperatorError(
                "The first size is the larger one.",
                fix=f"p2pfl ledger prove consistency {newer} {older}",
                exit_code=EXIT_USAGE,
            )
        data = consistency_file(reader.prove_consistency(older, newer), *notes)
        keys = [str(reader.identity.verifier_key_at(size)) for size in (older, newer)]
    finally:
        reader.close()
    path = folder / f"{older}-{newer}.consistency-proof"
    write_new(path, data)
    other = keys[0] if keys[0] != keys[1] else ""
    return ProofMade(str(path), "", keys[1], newer, is_private=False, older_key=other)


@dataclass(frozen=True, slots=True)
class KeysAsked:
    """What to check with. epochs: until when members' witness keys count, if this home knows."""

    keys: tuple[VerifierKey, ...]
    epochs: Epochs

    def count(self, signature: NoteSignature) -> bool:
        """Whether a signature is of a time when its key was in force."""
        known = self.epochs.known(signature.key)
        return known is None or known.vouched(signature.time_s)


def proof_checked(file: Path, entry: Path | None, asked: KeysAsked) -> ProofSeen:
    """Check a proof file. Raises OperatorError if it proves nothing."""
    data = read_bounded(file, PROOF_BYTES_MAX)
    raw = None if entry is None else read_bounded(entry, RAW_BYTES_MAX)
    try:
        verdict = check_proof(data, asked.keys, raw)
    except LedgerError as error:
        raise OperatorError(
            f"{file} proves nothing: {error}",
            fix="Give the log's key (--key) and, for an inclusion proof, the entry's file "
            "(--entry), both from whoever made the proof.",
            exit_code=EXIT_DATA,
        ) from error
    if isinstance(verdict, InclusionVerdict):
        head = verdict.head
        said = f"It is entry {verdict.index} of this log, under its head of {head.size} entries."
    else:
        head = verdict.newer
        said = (
            f"The log of {head.size} entries begins with the {verdict.older.size} that it had "
            "before, unchanged."
        )
    names = tuple(signed.key.name for signed in verdict.signatures if asked.count(signed))
    return ProofSeen(said, head.origin, head.size, head.root, names)


def keys_known(home: Home | None) -> KeysAsked:
    """Every member's log and witness keys: the roster's, and those that replaced them.

    Without a key that its own site disowned: what that signed may be anybody's."""
    roster = None if home is None else installed_roster(home)
    if home is None or roster is None:
        return KeysAsked((), Epochs())
    known, disowned = list[VerifierKey](), set[VerifierKey]()
    identities = dict[bytes, LogIdentity]()
    for card in roster.members:
        named = log_key(roster.consortium, card)
        held = _lineage_held(home, LogId(card.log_id))
        lineage = keys_of_lineage(LogId(card.log_id), named.name, held)
        known += [named, *lineage.keys]
        disowned |= lineage.disowned
        if (identity := identity_from(held)) is not None:
            identities[card.log_id] = identity
    epochs = Epochs(roster.members, identities)
    believed = tuple(key for key in dict.fromkeys(known) if key not in disowned)
    return KeysAsked((*believed, *epochs.believed), epochs)


def _lineage_held(home: Home, log_id: LogId) -> tuple[bytes, ...]:
    """What this home knows of the entries that changed a log's keys; its own log's, too."""
    try:
        with closing(LogReader.open(home.path, on_damage=OnDamage.SHOW)) as reader:
            if reader.log_id == log_id:
                return reader.lineage()
        with closing(WitnessDatabase.open(home.path / WITNESS_NAME)) as book:
            return book.lineage(log_id)
    except LedgerError:
        return ()  # never heard of, or damaged: the roster's key counts


def keys_asked(home: Home | None, given: Sequence[str]) -> KeysAsked:
    """The keys to check with: those given, else the members' of the home's roster.

    Raises OperatorError."""
    try:
        keys = tuple(VerifierKey.parse(text) for text in given)
    except LedgerError as error:
        raise OperatorError(
            f"--key: {error}",
            fix="Give a verifier key as `p2pfl ledger prove` prints it: name+hash+base64.",
            exit_code=EXIT_USAGE,
        ) from error
    asked = KeysAsked(keys, Epochs()) if keys else keys_known(home)
    if not asked.keys:
        raise OperatorError(
            "There is no key to check with.",
            fix="Give --key, or run this in a home with a roster.",
            exit_code=EXIT_USAGE,
        )
    return asked


def _nearest(home: Home, size: int) -> str:
    reader = LogReader.open(home.path)
    try:
        origin = reader.origin
    finally:
        reader.close()
    with (home.path / HEADS_NAME).open("rb") as file:
        records = scan_records(file, origin, read_tail_of(home.path, origin))
        sizes = {record.size for record in records if record is not None}
    near = sorted(sizes, key=lambda found: (abs(found - size), found))[:SIZES_SHOWN]
    return ", ".join(str(found) for found in sorted(near))


def write_new(path: Path, data: bytes) -> None:
    """Write a file that does not exist yet. Raises OperatorError."""
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise OperatorError(
            f"{path} cannot be written: {error.strerror}.",
            fix="Give --out a folder that can be written to and does not hold this proof yet.",
            exit_code=EXIT_NO_INPUT,
        ) from error
