"""Named errors of what is held about other sites' logs.

Responsible for: naming what a mirror refuses, and what a damaged file of it means.
Must not know: how anything is stored.
"""

from ledger.log.errors import ExitCode, LedgerError, StoreError
from ledger.log.fork_proofs import ForkProof


class MirrorError(LedgerError):
    rule = "the mirror of another site's log refuses this"
    exit_code = ExitCode.EVIDENCE_INCOMPLETE


class LogUnknown(MirrorError):
    rule = "only logs of the roster are mirrored"


class HeadImpossible(MirrorError):
    rule = "an empty log has the root of an empty tree, and a log's head names that log"


class KeySuperseded(MirrorError):
    rule = "a head is signed by the log key in force at its size"


class KeyDisowned(MirrorError):
    rule = (
        "what a log key signed that was declared compromised accuses nobody, "
        "unless more witnesses than may lie cosigned it before that time"
    )


class WitnessKeyEnded(MirrorError):
    rule = (
        "two cosignatures accuse a witness unless their key was disowned, or replaced before the "
        "time that one of them states"
    )


class RotationRefused(MirrorError):
    rule = "a log's keys follow from its own genesis, `key.rotated` and `key.compromised` entries"


class MirrorGap(MirrorError):
    rule = "mirrored leaves continue where the mirror ends"


class MirrorBeyondHead(MirrorError):
    rule = "leaves are mirrored up to the newest signed head that is held, each of 32 bytes"


class MirrorFull(MirrorError):
    rule = "what is kept of one log has a limit"
    next_step = "Raise the limit in the code, or archive the file and start a new one."


class MirrorMismatch(MirrorError):
    """`fork`: the proof that came to light with it, if any."""

    rule = "what a peer sent does not lead to the log's signed head"
    next_step = "Ask another site for it."

    def __init__(
        self,
        detail: str = "",
        *,
        expected: object = None,
        actual: object = None,
        fork: ForkProof | None = None,
    ) -> None:
        super().__init__(detail, expected=expected, actual=actual)
        self.fork = fork


class LogHasForked(MirrorError):
    rule = "a log that was proven to tell two histories is not mirrored any further"
    exit_code = ExitCode.FORK_PROVEN


class ForkOfStranger(MirrorError):
    rule = "proofs are kept of logs and witnesses that we know, under keys that we know"


class WitnessStoreDamaged(StoreError):
    rule = "the file of what is held about other sites cannot be trusted"
    next_step = (
        "Keep a copy of witness.db, move it away and restart: the other sites send everything in "
        "it again. Tell them, because this site no longer knows which heads it cosigned."
    )
    exit_code = ExitCode.INTEGRITY_BROKEN
