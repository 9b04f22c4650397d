"""The witness rule: cosign a log's head only if it extends the last one cosigned.

Responsible for: parsing a request and answering it, in the order the protocol prescribes, and
saying when enough witnesses have cosigned a head.
Must not know: HTTP, files, or the clock. The store makes compare-and-persist atomic and durable.
Source: c2sp.org/tlog-witness; LEDGER.md, Witness rule.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

from ledger.log.ed25519 import Signer
from ledger.log.errors import (
    LedgerError,
    NoteError,
    ProofLengthWrong,
    ProofRefused,
    RootMismatch,
    WitnessRequestMalformed,
)
from ledger.log.fork_proofs import ForkProof
from ledger.log.notes import (
    NOTE_BYTES_MAX,
    Checkpoint,
    NoteSignature,
    VerifierKey,
    cosign,
    cosignatures_of,
    decode_base64,
    note_verify,
)
from ledger.log.tree import EMPTY_ROOT, HASH_BYTES, verify_consistency

PROOF_HASHES_MAX = 63
REQUEST_BYTES_MAX = NOTE_BYTES_MAX + 4_096
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})", re.ASCII)


class Status(IntEnum):
    """The answers of a witness, by their HTTP status."""

    COSIGNED = 200
    MALFORMED = 400
    BAD_SIGNATURE = 403
    UNKNOWN_LOG = 404
    OTHER_SIZE = 409
    BAD_PROOF = 422


@dataclass(frozen=True, slots=True)
class Request:
    """Please cosign `note`, which extends the head of `old_size` by `proof`."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """`body`: cosignature lines for 200, the size last cosigned for 409, else a reason.

    fork: a proof that the log in question told two histories, if the store holds one.
    """

    status: Status
    body: bytes
    fork: ForkProof | None = None


class WitnessStore(Protocol):
    """What a witness must remember. Every method may be called from one thread at a time."""

    def log_key(self, origin: str, size: int) -> VerifierKey | None:
        """The key that signs this log's head of `size`; None for a log we do not witness."""

    def cosigned(self, origin: str) -> Checkpoint | None:
        """The last head cosigned for this log."""

    def advance(
        self, old: Checkpoint | None, new: Checkpoint, note: bytes, line: bytes, now_s: int
    ) -> bool:
        """Durably replace `old` by `new`, atomically, and keep our cosignature `line` of it.

        False, and nothing is replaced, if something else than `old` is stored now or the log
        has forked.
        """

    def keep_refused(
        self, old: Checkpoint | None, request: Request, data: bytes, now_s: int
    ) -> None:
        """A signed head that does not extend `old`: see what it proves, keep it if anything."""

    def note_other(self, request: Request, now_s: int) -> None:
        """A signed head that was asked for with another size than the one stored."""

    def fork_of(self, origin: str) -> ForkProof | None:
        """A proof that this log told two histories, if one is held."""


def parse_request(data: bytes) -> Request:
    """Read `old N`, proof lines, an empty line and a note. Raises WitnessRequestMalformed."""
    if len(data) > REQUEST_BYTES_MAX:
        raise WitnessRequestMalformed(
            expected=f"at most {REQUEST_BYTES_MAX} bytes", actual=len(data)
        )
    head, separator, note = data.partition(b"\n\n")
    lines = head.decode(errors="replace").split("\n")
    old = _OLD.fullmatch(lines[0])
    if not separator or not old:
        raise WitnessRequestMalformed(expected="old <size>", actual=lines[0][:80])
    if len(lines) - 1 > PROOF_HASHES_MAX:
        raise WitnessRequestMalformed(
            expected=f"at most {PROOF_HASHES_MAX} hashes", actual=len(lines) - 1
        )
    proof = []
    for line in lines[1:]:
        node = decode_base64(line)
        if node is None or len(node) != HASH_BYTES:
            raise WitnessRequestMalformed(expected="base64 of 32 bytes", actual=line[:80])
        proof.append(node)
    return Request(int(old[1]), tuple(proof), note)


class Witness:
    """Answers requests for cosignatures under one name and key."""

    def __init__(self, name: str, signer: Signer, store: WitnessStore) -> None:
        self._name = name
        self._signer = signer
        self._store = store

    def answer(self, data: bytes, now_s: int) -> Answer:
        """What to answer the request `data` at `now_s` (unix time); never raises for its content.

        A cosignature is returned only after the store has persisted the head.
        """
        try:
            request = parse_request(data)
            # The same split as note_verify's, so that what is judged below is what was signed.
            text, _, _ = request.note.decode().rpartition("\n\n")
            new = Checkpoint.parse(text + "\n")
        except (LedgerError, UnicodeDecodeError) as error:
            return Answer(Status.MALFORMED, f"{error}\n".encode())
        key = self._store.log_key(new.origin, new.size)
        if key is None:
            return Answer(Status.UNKNOWN_LOG, b"unknown log\n")
        try:
            note_verify(request.note, key)
        except NoteError as error:
            return Answer(Status.BAD_SIGNATURE, f"invalid signature: {error}\n".encode())
        answer = self._judge(request, new, data, now_s)
        if answer.status is Status.COSIGNED:
            return answer
        return replace(answer, fork=self._store.fork_of(new.origin))

    def _judge(self, request: Request, new: Checkpoint, data: bytes, now_s: int) -> Answer:
        """The head is really the log's: does it extend what was cosigned?"""
        old = self._store.cosigned(new.origin)
        old_size = old.size if old else 0
        if request.old_size > new.size:
            self._store.note_other(request, now_s)
            return Answer(Status.MALFORMED, b"old size is larger than the checkpoint's\n")
        if request.old_size != old_size:
            self._store.note_other(request, now_s)
            return _other_size(old_size)
        try:
            _check_extends(old, new, request.proof)
        except ProofRefused as error:
            self._store.keep_refused(old, request, data, now_s)
            if old and old.size == new.size and not request.proof:
                # Two signed heads of one size: the protocol answers like any other conflict.
                return _other_size(old_size)
            return Answer(Status.BAD_PROOF, f"invalid consistency proof: {error}\n".encode())
        return self._cosign(old, new, request.note, now_s)

    def _cosign(self, old: Checkpoint | None, new: Checkpoint, note: bytes, now_s: int) -> Answer:
        """Persist the head together with our cosignature; only then is it told to anyone."""
        line = cosign(new.text, self._name, self._signer, now_s)
        if self._store.fork_of(new.origin) is None and self._store.advance(
            old, new, note, line, now_s
        ):
            return Answer(Status.COSIGNED, line)
        if self._store.fork_of(new.origin) is not None:
            # The protocol has no word for it: its key is no longer one that we trust.
            return Answer(Status.BAD_SIGNATURE, b"this log was proven to tell two histories\n")
        # Another request came first; the asker starts again from what is stored now.
        stored = self._store.cosigned(new.origin)
        return _other_size(stored.size if stored else 0)


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    """Whose cosignatures count, and how many of those witnesses may be bad at once."""

    witnesses: tuple[VerifierKey, ...]
    bad_max: int

    @property
    def needed(self) -> int:
        """How many of them must have cosigned a head."""
        return quorum(len(self.witnesses), self.bad_max)


def quorum(n: int, f: int) -> int:
    """⌊(n+f)/2⌋+1: two quorums of n witnesses share more than the f that may be bad.

    A site's witnesses are the other sites: n = 2 among 3 sites, 9 among 10.
    Raises ValueError unless 0 ≤ f < n. Source: LEDGER.md, Witness rule.

    >>> quorum(2, 0), quorum(9, 2)
    (2, 6)
    """
    if not 0 <= f < n:
        raise ValueError(f"a quorum needs 0 ≤ f < n; found n {n}, f {f}")
    return (n + f) // 2 + 1


def witnesses_of(
    head: Checkpoint, cosignatures: Iterable[bytes], policy: WitnessPolicy
) -> tuple[NoteSignature, ...]:
    """The valid cosignatures of `head` by witnesses of the policy, each witness once."""
    return tuple(cosignatures_of(head.text, cosignatures, *policy.witnesses))


def is_witnessed(head: Checkpoint, cosignatures: Iterable[bytes], policy: WitnessPolicy) -> bool:
    """True if so many witnesses cosigned `head` that no other history has as many."""
    return len(witnesses_of(head, cosignatures, policy)) >= policy.needed


def _other_size(size: int) -> Answer:
    return Answer(Status.OTHER_SIZE, f"{size}\n".encode())


def _check_extends(old: Checkpoint | None, new: Checkpoint, proof: tuple[bytes, ...]) -> None:
    """Raises a ProofRefused unless `proof` shows that `new` extends `old`."""
    if old and old.size:
        verify_consistency(old.size, new.size, old.root, new.root, proof)
    elif proof:
        raise ProofLengthWrong(expected=0, actual=len(proof))
    elif new.size == 0 and new.root != EMPTY_ROOT:
        raise RootMismatch(expected=EMPTY_ROOT, actual=new.root)
