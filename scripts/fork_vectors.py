"""Print test vectors of witnessing: a replaced key, what a witness answers, proofs of forks.

    .venv/bin/python scripts/fork_vectors.py > tests/vectors/ledger/forks.json

Everything follows from the seeds in it. The keys are well known: never use them."""

import json
import tempfile
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from practice_log import (
    IDENTITY,
    LOG_KEY,
    NEXT_LOG_KEY,
    SEEDS,
    START_US,
    WITNESS,
    practice_log,
    refuse,
)

from ledger.log import KeyType, LedgerError, Log, Signer, VerifierKey, Witness, WitnessDatabase
from ledger.log.fork_proofs import (
    CosignaturesThatDisagree,
    ForkProof,
    HeadsOfOneSize,
    HeadsThatDisagree,
)
from ledger.log.forks import (
    check_fork,
    encode_fork,
    fork_digest,
    fork_of_cosignatures,
    fork_of_entries,
    fork_of_heads,
    nodes_of,
)
from ledger.log.identity import LogIdentity
from ledger.log.notes import Checkpoint, cosign, note_sign
from ledger.log.own_kinds import sign_rotation
from ledger.log.tree import NodeAt, prove_consistency, root_at

NOW_S = START_US // 1_000_000 + 60
SIZE, ROTATED_AT, APART_FROM = 9, 6, 3
WITNESS_KEY = VerifierKey("witness-0011223344556677", KeyType.COSIGNATURE_V1, WITNESS.public_key)
Json = dict[str, object]


class Told:
    """One history of the practice log, whose key is replaced at entry `ROTATED_AT`."""

    def __init__(self, branch: int) -> None:
        with practice_log() as log:
            for at in range(1, SIZE):
                if at == ROTATED_AT:
                    self._rotate(log)
                else:
                    refuse(log, bytes([at + (100 * branch if at >= APART_FROM else 0)]) * 32)
            self.identity: LogIdentity = log.identity
            self.raws = [entry.raw for entry in log.entries()]
            self.leaves = [entry.leaf for entry in log.entries()]
            self.newest = log.note
        self.node_at: NodeAt = nodes_of(self.leaves)

    def _rotate(self, log: Log) -> None:
        statement = sign_rotation(
            log.log_id,
            old_pk=LOG_KEY.public_key,
            new_pk=NEXT_LOG_KEY.public_key,
            identity=IDENTITY,
        )
        log.rotate(NEXT_LOG_KEY, statement, START_US + ROTATED_AT * 1_000_000)

    def head(self, size: int) -> Checkpoint:
        """What its head of that size states."""
        return Checkpoint(self.identity.origin, size, root_at(size, self.node_at))

    def note(self, size: int) -> bytes:
        """The head of that size, signed by the key in force."""
        key = NEXT_LOG_KEY if size > ROTATED_AT else LOG_KEY
        return note_sign(self.head(size).text, self.identity.origin, key)

    def cosigned(self, size: int) -> bytes:
        """That note with a cosignature."""
        return self.note(size) + cosign(self.head(size).text, WITNESS_KEY.name, WITNESS, NOW_S)


def rotation_vectors(told: Told) -> Json:
    """The entries that prove the keys, and heads under each of them."""
    return {
        "entries": [told.raws[0].hex(), told.raws[ROTATED_AT].hex()],
        "rotated_at": ROTATED_AT,
        "vkeys": [str(told.identity.verifier_key_at(size)) for size in (0, SIZE)],
        "notes": [told.note(ROTATED_AT).decode(), told.newest.decode()],
    }


def witness_vectors(told: Told, other: Told) -> list[Json]:
    """Requests in this order, and what one witness answers, at `NOW_S`."""
    requests = [
        ("the first head", request(told, 0, 2)),
        ("it grew", request(told, 2, 5)),
        ("the same again", request(told, 5, 5)),
        ("another size than the one held", request(told, 2, 6)),
        ("older than itself", request(told, 6, 5)),
        ("no proof", request(told, 5, 6, proof=())),
        ("another log's", request(told, 5, 6).replace(b"practice/", b"somebody/")),
        ("signed by nobody known", request(told, 5, 6, signer=WITNESS)),
        ("no request", b"old five\n\n" + told.note(6)),
        ("another history", request(other, 5, 6)),
    ]
    with tempfile.TemporaryDirectory() as folder:
        database = WitnessDatabase.open(Path(folder) / "witness.db")
        database.set_logs({told.identity.log_id: told.identity.verifier_key_at(0)})
        database.set_witnesses([WITNESS_KEY])
        witness = Witness(WITNESS_KEY.name, WITNESS, database)
        answers = [(why, data, witness.answer(data, NOW_S)) for why, data in requests]
        database.close()
    return [
        {
            "why": why,
            "request": data.decode(),
            "status": int(answer.status),
            # Reasons are for people; what 200 and 409 say is for programs.
            "body": answer.body.decode() if answer.status in (200, 409) else None,
        }
        for why, data, answer in answers
    ]


def request(
    told: Told,
    old: int,
    size: int,
    *,
    proof: Sequence[bytes] | None = None,
    signer: Signer | None = None,
) -> bytes:
    """The body of a request to cosign the head of `size`."""
    if proof is None:
        proof = prove_consistency(old, size, told.node_at) if 0 < old <= size else ()
    note = told.note(size)
    if signer is not None:
        note = note_sign(told.head(size).text, told.identity.origin, signer)
    lines = [b"old %d" % old, *(b64encode(node) for node in proof)]
    return b"\n".join(lines) + b"\n\n" + note


def fork_vectors(told: Told, other: Told) -> Json:
    """Proofs that hold, and files that prove nothing, each with the rule it breaks."""
    old, new = (told.identity.verifier_key_at(size) for size in (0, SIZE))
    lineage = (told.raws[0], told.raws[ROTATED_AT])
    holds = {
        "K1": fork_of_heads(old, told.note(5), other.note(5)),
        "K2": fork_of_heads(old, told.note(4), other.note(6), other.node_at),
        "K2 over a replaced key": fork_of_heads(
            (old, new), told.note(4), other.note(9), other.node_at, lineage=lineage
        ),
        "K3": fork_of_entries(old, told.raws[4], other.raws[4], lineage=lineage[:1]),
        "K4": fork_of_cosignatures(WITNESS_KEY, told.cosigned(5), other.cosigned(5)),
    }
    path = prove_consistency(3, 6, told.node_at)
    fails: dict[str, ForkProof] = {
        "one head twice": HeadsOfOneSize((old,), told.note(5), told.note(5)),
        "sizes that agree": HeadsThatDisagree((old,), told.note(3), told.note(6), path),
        "signed by another key": HeadsOfOneSize((new,), told.note(5), other.note(5)),
        "two keys and nothing that shows whose": HeadsOfOneSize(
            (old, new), told.note(5), other.note(5)
        ),
        "never cosigned": CosignaturesThatDisagree(WITNESS_KEY, told.note(5), other.note(5)),
    }
    return {
        "holds": [_held(name, proof) for name, proof in holds.items()],
        "fails": [
            {"why": why, "file": encode_fork(proof).hex(), "rule": _rule(encode_fork(proof))}
            for why, proof in fails.items()
        ],
    }


def _held(name: str, proof: ForkProof | None) -> Json:
    assert proof is not None, name
    data = encode_fork(proof)
    verdict = check_fork(data)
    return {
        "name": name,
        "file": data.hex(),
        "digest": fork_digest(data).hex(),
        "log_id": verdict.log_id.hex(),
        "sizes": list(verdict.sizes),
        "bound": verdict.bound,
        "witness": str(verdict.witness) if verdict.witness else None,
    }


def _rule(data: bytes) -> str:
    try:
        check_fork(data)
    except LedgerError as error:
        return type(error).__name__
    raise AssertionError("a file that proves nothing was accepted")


def document() -> Json:
    """All vectors."""
    told, other = Told(0), Told(1)
    return {
        "about": f"seeds: {SEEDS}; next log key 04…; bytes in hexadecimal, notes as text",
        "witness": str(WITNESS_KEY),
        "now_s": NOW_S,
        "rotation": rotation_vectors(told),
        "cosigning": witness_vectors(told, other),
        "forks": fork_vectors(told, other),
    }


def main() -> None:
    """Print them."""
    print(json.dumps(document(), ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
