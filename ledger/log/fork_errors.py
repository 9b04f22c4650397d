"""Named errors of fork proofs: why a file proves no fork.

Responsible for: naming what a proof lacks.
Must not know: how proofs are made or checked.
"""

from ledger.log.errors import ExitCode, LedgerError


class ForkRefused(LedgerError):
    rule = "this file proves no fork"
    next_step = "Ask whoever sent it for the original file; it says nothing against anybody."
    exit_code = ExitCode.EVIDENCE_INCOMPLETE


class ForkMalformed(ForkRefused):
    rule = "a fork proof is one dm1 map {first, keys, kind, lineage, path, second, v}"


class ForkUnsigned(ForkRefused):
    rule = "both sides of a fork are signed by the key that the proof names"


class ForkOfOtherLog(ForkRefused):
    rule = "both sides of a fork, and the keys that signed them, belong to one log"


class ForkKeyUnproven(ForkRefused):
    rule = "a proof under several keys shows that the log's identity key put them in force"


class ForkConsistent(ForkRefused):
    rule = "the two sides of a fork contradict each other; these may be one history"
