"""From the named errors of every package to one sentence and one thing to do.

The only place that knows all of them; what is not listed here is our bug.
"""

from __future__ import annotations

import errno

from gossip.errors import KeyFileError, KeyFileExposed, PeerError
from ledger.log import ExitCode, LedgerError
from ledger.log.errors import Corrupt, HeadsCut, LogKeyWrong, NoLedger, Rollback, StoreError
from ledger.provenance.kinds import KindError
from p2pfl.averaging import AveragingError
from p2pfl.core.errors import ManifestError
from p2pfl.privacy.errors import PrivacyError
from p2pfl.runtime.errors import (
    EXIT_CONFIG,
    EXIT_DATA,
    EXIT_IO,
    EXIT_REFUSED,
    BlobDamaged,
    BlobError,
    OperatorError,
    as_sentence,
)
from p2pfl.runtime.jsonable import NotThisShape

_FULL = {
    errno.ENOSPC: "The disk is full",
    errno.EDQUOT: "This user's share of the disk is full",
    errno.EFBIG: "A file may not grow further: this user's limit is reached",
}
_DISK = {
    errno.EROFS: "Make the disk writable, or choose another home.",
    errno.EACCES: "Check the owner and permissions of the file.",
    errno.EPERM: "Check the owner and permissions of the file.",
    errno.ENOENT: "Check the path.",
    errno.ENOTDIR: "Check the path.",
    errno.EISDIR: "Check the path.",
    errno.ELOOP: "Look at what is in its place; it is a link that leads nowhere.",
    errno.EINVAL: "Look at what is in its place, and restore the file from a backup.",
    errno.ENAMETOOLONG: "Choose a shorter path.",
    errno.EIO: "The disk reports an error: look at the system's log before you go on.",
}


def as_operator_error(error: Exception) -> OperatorError | None:
    """What a person should be told about an expected failure; None if it is our bug."""
    match error:
        case OperatorError():
            return error
        case LedgerError():
            return _ledger_error(error)
        case KindError():
            return OperatorError(
                as_sentence(f"The ledger holds what this version cannot read: {error}"),
                fix="Use the version that wrote it, or run `p2pfl ledger audit`.",
                exit_code=int(ExitCode.INTEGRITY_BROKEN),
            )
        case KeyFileError():
            return _key_error(error)
        case ManifestError():
            return OperatorError(
                as_sentence(f"The manifest is refused: {error}"),
                fix="Correct the file and run `p2pfl study validate` on it.",
                exit_code=EXIT_DATA,
            )
        case PeerError():
            return OperatorError(
                as_sentence(f"What the other site handed over is refused: {error}"),
                fix="Ask that site for the file again, and compare its SHA-256 by telephone.",
                exit_code=EXIT_DATA,
            )
        case PrivacyError() | AveragingError():
            return OperatorError(
                as_sentence(str(error)),
                fix="Change the study's terms and run the command again.",
                exit_code=EXIT_REFUSED,
            )
        case BlobDamaged():
            return OperatorError(
                as_sentence(f"The disk changed a stored file: {error}"),
                fix=f"Delete blobs/{error.expected.hex()} in the home and run the command again: "
                "it is made or fetched anew. Check the disk.",
                exit_code=EXIT_IO,
            )
        case BlobError():
            return OperatorError(
                as_sentence(str(error)),
                fix="Import the study again, or start the node so that it fetches the file.",
                exit_code=EXIT_IO,
            )
        case NotThisShape():
            return OperatorError(
                as_sentence(f"The node and this command speak different versions: {error}"),
                fix="Restart the node with the installed version.",
                exit_code=EXIT_CONFIG,
            )
        case OSError():
            return _disk_error(error)
        case _:
            return None


def _ledger_error(error: LedgerError) -> OperatorError:
    """The log's own words, but for what somebody with a home at hand can do better."""
    text = str(error).removesuffix(". " + error.next_step)
    message = as_sentence(text[:1].upper() + text[1:])
    fix = error.next_step or "Run `p2pfl ledger verify` to see the state of the ledger."
    code = int(error.exit_code)
    match error:
        case LogKeyWrong():
            message = "The file keys/log.key is not the key of this home's ledger."
            fix = "Restore the key files of this home from its backup."
            code = EXIT_CONFIG
        case NoLedger():
            message = f"The ledger of this home is missing: {error.detail}."
            fix = (
                "`p2pfl ledger recover` fetches it from the other sites, whose heads a restored "
                "backup has to reach, too. Do not start over: an empty ledger would forget what "
                "was spent."
            )
        case Corrupt() | Rollback() | HeadsCut():
            fix = (
                "Do not write to it: keep a copy of the home. `p2pfl ledger verify` says what is "
                "damaged, `p2pfl ledger recover` fetches it whole from the other sites; what "
                "nobody holds, `p2pfl ledger new-incarnation` declares as lost."
            )
        case StoreError() if not error.next_step:
            fix = (
                "Free disk space and check disk and permissions, then run the command again; "
                "nothing of it was released."
            )
        case _:
            pass
    return OperatorError(message, fix=fix, exit_code=code)


def _key_error(error: KeyFileError) -> OperatorError:
    if isinstance(error, KeyFileExposed):
        return OperatorError(
            f"{error.path} may be read or changed by other users of this machine.",
            fix=f"Run `chmod 600 {error.path}`. If a stranger may have read it, found a new home: "
            "whoever has the keys is this site.",
            exit_code=EXIT_CONFIG,
        )
    return OperatorError(
        as_sentence(str(error)),
        fix="Restore the key files of this home from its backup.",
        exit_code=EXIT_CONFIG,
    )


def _disk_error(error: OSError) -> OperatorError | None:
    code = error.errno or 0
    if code in _FULL:
        place = f" (writing {error.filename})" if error.filename else ""
        return OperatorError(
            f"{_FULL[code]}{place}.",
            fix="Free disk space or raise the limit, then run the command again; nothing was "
            "half-written.",
            exit_code=EXIT_IO,
        )
    if code in _DISK:
        return OperatorError(
            f"{error.filename or 'A file'} cannot be used: {error.strerror}.",
            fix=_DISK[code],
            exit_code=EXIT_IO,
        )
    return None
