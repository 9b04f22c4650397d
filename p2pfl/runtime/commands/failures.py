"""From the named errors of every package to one sentence and one thing to do.

The only place that knows all of them; what is not listed here is our bug.
"""

from __future__ import annotations

import errno

from gossip.errors import KeyFileError, PeerError
from ledger.log import ExitCode, LedgerError
from ledger.provenance.kinds import KindError
from p2pfl.averaging import AveragingError
from p2pfl.core.errors import ManifestError
from p2pfl.privacy.errors import PrivacyError
from p2pfl.runtime.errors import (
    EXIT_CONFIG,
    EXIT_DATA,
    EXIT_IO,
    EXIT_REFUSED,
    BlobError,
    OperatorError,
)
from p2pfl.runtime.jsonable import NotThisShape

_DISK = {
    errno.ENOSPC: "Free disk space, then run the command again; nothing was half-written.",
    errno.EDQUOT: "Free disk space, then run the command again; nothing was half-written.",
    errno.EROFS: "Make the disk writable, or choose another home.",
    errno.EACCES: "Check the owner and permissions of the file.",
    errno.EPERM: "Check the owner and permissions of the file.",
    errno.ENOENT: "Check the path.",
}


def as_operator_error(error: Exception) -> OperatorError | None:
    """What a person should be told about an expected failure; None if it is our bug."""
    match error:
        case OperatorError():
            return error
        case LedgerError():
            fix = error.next_step or "Run `p2pfl ledger verify` to see the state of the ledger."
            return OperatorError(
                _sentence(str(error).removesuffix(". " + error.next_step)),
                fix=fix,
                exit_code=int(error.exit_code),
            )
        case KindError():
            return OperatorError(
                _sentence(f"The ledger holds what this version cannot read: {error}"),
                fix="Use the version that wrote it, or run `p2pfl ledger audit`.",
                exit_code=int(ExitCode.INTEGRITY_BROKEN),
            )
        case KeyFileError():
            return OperatorError(
                _sentence(str(error)),
                fix="Restore the key files of this home from its backup.",
                exit_code=EXIT_CONFIG,
            )
        case ManifestError():
            return OperatorError(
                _sentence(f"The manifest is refused: {error}"),
                fix="Correct the file and run `p2pfl study validate` on it.",
                exit_code=EXIT_DATA,
            )
        case PeerError():
            return OperatorError(
                _sentence(f"What the other site handed over is refused: {error}"),
                fix="Ask that site for the file again, and compare its SHA-256 by telephone.",
                exit_code=EXIT_DATA,
            )
        case PrivacyError() | AveragingError():
            return OperatorError(
                _sentence(str(error)),
                fix="Change the study's terms and run the command again.",
                exit_code=EXIT_REFUSED,
            )
        case BlobError():
            return OperatorError(
                _sentence(str(error)),
                fix="Import the study again, or start the node so that it fetches the file.",
                exit_code=EXIT_IO,
            )
        case NotThisShape():
            return OperatorError(
                _sentence(f"The node and this command speak different versions: {error}"),
                fix="Restart the node with the installed version.",
                exit_code=EXIT_CONFIG,
            )
        case OSError(errno=int(code)) if code in _DISK:
            return OperatorError(
                f"{error.filename or 'A file'} cannot be used: {error.strerror}.",
                fix=_DISK[code],
                exit_code=EXIT_IO,
            )
        case _:
            return None


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else text + "."
