"""Bytes under a passphrase: argon2id makes a key of it, a secretbox hides and protects the bytes.

One line of text, so that it survives mail and printing:
  p2pfl-sealed-v1 <purpose> argon2id-secretbox <ops> <memory bytes> <salt hex> <nonce ‖ box hex>
The purpose is inside the box too, so that one kind of file cannot be passed off as another.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.secret import SecretBox

from gossip.keys import DEFAULT_COST, PassphraseCost
from p2pfl.runtime.errors import EXIT_DATA, EXIT_REFUSED, OperatorError

FORMAT: Final = "p2pfl-sealed-v1"
PASSPHRASE_CHARACTERS_MIN: Final = 12
# A changed file must not make its reader use all memory or hang.
_OPERATIONS_MAX: Final = 16
_MEMORY_BYTES_MAX: Final = 1 << 30

_LINE: Final = re.compile(
    rf"{FORMAT} ([a-z-]+) argon2id-secretbox ([1-9][0-9]{{0,9}}) ([1-9][0-9]{{0,11}}) "
    rf"([0-9a-f]{{{2 * argon2id.SALTBYTES}}}) ((?:[0-9a-f]{{2}})+)\n"
)


def seal(
    content: bytes,
    passphrase: str,
    *,
    purpose: str,
    random_bytes: Callable[[int], bytes],
    cost: PassphraseCost = DEFAULT_COST,
) -> bytes:
    """The line. purpose: a-z and -. Raises OperatorError for a passphrase that is too short."""
    if len(passphrase) < PASSPHRASE_CHARACTERS_MIN:
        raise OperatorError(
            f"The passphrase has {len(passphrase)} characters, at least "
            f"{PASSPHRASE_CHARACTERS_MIN} are needed.",
            fix="Take four or five random words: whoever opens the file is this site.",
            exit_code=EXIT_REFUSED,
        )
    salt = random_bytes(argon2id.SALTBYTES)
    box = SecretBox(_key(passphrase, salt, cost))
    sealed = bytes(box.encrypt(_inside(purpose) + content, random_bytes(SecretBox.NONCE_SIZE)))
    settings = f"{cost.operations} {cost.memory_bytes} {salt.hex()}"
    return f"{FORMAT} {purpose} argon2id-secretbox {settings} {sealed.hex()}\n".encode("ascii")


def unseal(line: bytes, passphrase: str, *, purpose: str) -> bytes:
    """The content. Raises OperatorError for another file, a changed one, or a wrong passphrase."""
    found = _LINE.fullmatch(line.decode("ascii", "replace"))
    if found is None or found[1] != purpose:
        raise OperatorError(
            f"The file is no {purpose}.",
            fix="Check the path; such a file is one long line that begins with its format.",
            exit_code=EXIT_DATA,
        )
    cost = PassphraseCost(int(found[2]), int(found[3]))
    if cost.operations > _OPERATIONS_MAX or not (
        argon2id.MEMLIMIT_MIN <= cost.memory_bytes <= _MEMORY_BYTES_MAX
    ):
        raise OperatorError(
            "The file asks for an unreasonable effort to open it.",
            fix="It was changed; take another copy.",
            exit_code=EXIT_DATA,
        )
    box = SecretBox(_key(passphrase, bytes.fromhex(found[4]), cost))
    try:
        opened = box.decrypt(bytes.fromhex(found[5]))
    except (CryptoError, ValueError):
        opened = b""
    if not opened.startswith(_inside(purpose)):
        raise OperatorError(
            "The file does not open: wrong passphrase, or the file was changed.",
            fix="Type the passphrase again, or take another copy of the file.",
            exit_code=EXIT_REFUSED,
        )
    return opened[len(_inside(purpose)) :]


def _inside(purpose: str) -> bytes:
    return purpose.encode("ascii") + b"\0"


def _key(passphrase: str, salt: bytes, cost: PassphraseCost) -> bytes:
    return argon2id.kdf(
        SecretBox.KEY_SIZE,
        passphrase.encode("utf-8"),
        salt,
        opslimit=cost.operations,
        memlimit=cost.memory_bytes,
    )
