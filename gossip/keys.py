"""A site's four secret keys and the files that hold them.

`I` identity (can live offline), `T` transport, `L` log, `W` witness: Ed25519 seeds of 32 bytes.
One file each, `keys/<role>.key`, mode 0600, one line of text:
  p2pfl-key-v1 <role> plain <seed hex>
  p2pfl-key-v1 <role> argon2id-secretbox <ops> <memory bytes> <salt hex> <nonce ‖ box hex>
The role is inside the box too, so that two files cannot be exchanged.
This is the only file of the package that touches the disk, apart from the transports.
"""

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from nacl.bindings import crypto_pwhash_argon2id_OPSLIMIT_MODERATE
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.secret import SecretBox

from gossip import ed25519
from gossip.errors import (
    KeyFileError,
    KeyFileExists,
    KeyFileExposed,
    KeyFileGarbled,
    KeyFileMissing,
    PassphraseNeeded,
    PassphraseWrong,
)
from gossip.identifiers import SiteId, site_id_of

RandomBytes = Callable[[int], bytes]

_FORMAT = "p2pfl-key-v1"
_FILE_BYTES_MAX = 1024
# A changed file must not make its reader use all memory or hang.
_OPS_MAX = 16
_MEMORY_BYTES_MAX = 1024 * 1024 * 1024


class Role(Enum):
    """What a key is for; also its file's name."""

    IDENTITY = "identity"
    TRANSPORT = "transport"
    LOG = "log"
    WITNESS = "witness"


@dataclass(frozen=True, slots=True)
class SiteKeys:
    """The seeds of a site's keys, 32 bytes each; never shown by repr."""

    identity: bytes = field(repr=False)
    transport: bytes = field(repr=False)
    log: bytes = field(repr=False)
    witness: bytes = field(repr=False)

    def __post_init__(self) -> None:
        for role in Role:
            if len(self.seed(role)) != ed25519.SEED_BYTES:
                raise ValueError(f"{role.value} seed must have {ed25519.SEED_BYTES} bytes")

    @property
    def site(self) -> SiteId:
        """The site that these keys make."""
        return site_id_of(ed25519.public_key_of(self.identity))

    def seed(self, role: Role) -> bytes:
        """The seed for one purpose."""
        return {
            Role.IDENTITY: self.identity,
            Role.TRANSPORT: self.transport,
            Role.LOG: self.log,
            Role.WITNESS: self.witness,
        }[role]


@dataclass(frozen=True, slots=True)
class PassphraseCost:
    """What one guess of a passphrase costs (argon2id). The default takes about half a second."""

    operations: int = crypto_pwhash_argon2id_OPSLIMIT_MODERATE
    memory_bytes: int = 128 * 1024 * 1024


DEFAULT_COST = PassphraseCost()


def generate(random_bytes: RandomBytes) -> SiteKeys:
    """Fresh keys. random_bytes: `os.urandom` in production."""
    seeds = [random_bytes(ed25519.SEED_BYTES) for _ in Role]
    return SiteKeys(*seeds)


def key_path(folder: Path, role: Role) -> Path:
    """Where a key's file lies."""
    return folder / f"{role.value}.key"


def write_keys(
    folder: Path,
    keys: SiteKeys,
    passphrase: str | None,
    *,
    random_bytes: RandomBytes = os.urandom,
    cost: PassphraseCost = DEFAULT_COST,
) -> None:
    """Write all four key files, or none. Never overwrites.

    folder: made with mode 0700 if missing. passphrase: None leaves the files in plain text.
    Raises KeyFileExists; OSError from the disk.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for role in Role:
        if os.path.lexists(key_path(folder, role)):
            raise KeyFileExists(key_path(folder, role), "exists and is not overwritten")
    lines = _sealed_lines(keys, passphrase, random_bytes, cost)
    written: list[Path] = []
    try:
        for role, line in lines.items():
            path = key_path(folder, role)
            _write_new(path, line.encode("ascii"), written)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    _sync_folder(folder)


def read_keys(folder: Path, passphrase: str | None = None) -> SiteKeys:
    """All four keys. Raises KeyFileError, one subclass per cause."""
    derived: dict[tuple[bytes, PassphraseCost], bytes] = {}
    seeds = [_read_seed(key_path(folder, role), role, passphrase, derived) for role in Role]
    return SiteKeys(*seeds)


def read_key(folder: Path, role: Role, passphrase: str | None = None) -> bytes:
    """One key's seed, for homes whose identity key is kept elsewhere. Raises KeyFileError."""
    return _read_seed(key_path(folder, role), role, passphrase, {})


def _sealed_lines(
    keys: SiteKeys, passphrase: str | None, random_bytes: RandomBytes, cost: PassphraseCost
) -> dict[Role, str]:
    if passphrase is None:
        return {role: f"{_FORMAT} {role.value} plain {keys.seed(role).hex()}\n" for role in Role}
    # One salt for the four files of a site: a start derives the key once.
    salt = random_bytes(argon2id.SALTBYTES)
    box = SecretBox(_derive(passphrase, salt, cost))
    settings = f"argon2id-secretbox {cost.operations} {cost.memory_bytes} {salt.hex()}"
    lines = {}
    for role in Role:
        nonce = random_bytes(SecretBox.NONCE_SIZE)
        sealed = bytes(box.encrypt(_boxed(role, keys.seed(role)), nonce))
        lines[role] = f"{_FORMAT} {role.value} {settings} {sealed.hex()}\n"
    return lines


def _boxed(role: Role, seed: bytes) -> bytes:
    return role.value.encode("ascii") + b"\0" + seed


def _derive(passphrase: str, salt: bytes, cost: PassphraseCost) -> bytes:
    return argon2id.kdf(
        SecretBox.KEY_SIZE,
        passphrase.encode("utf-8"),
        salt,
        opslimit=cost.operations,
        memlimit=cost.memory_bytes,
    )


def _write_new(path: Path, content: bytes, written: list[Path]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError as error:
        raise KeyFileExists(path, "exists and is not overwritten") from error
    written.append(path)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_seed(
    path: Path,
    role: Role,
    passphrase: str | None,
    derived: dict[tuple[bytes, PassphraseCost], bytes],
) -> bytes:
    line = read_private(path)
    plain = re.fullmatch(rf"{_FORMAT} {role.value} plain ([0-9a-f]{{64}})\n", line)
    if plain:
        return bytes.fromhex(plain[1])
    sealed = re.fullmatch(
        rf"{_FORMAT} {role.value} argon2id-secretbox ([1-9][0-9]{{0,9}}) ([1-9][0-9]{{0,11}}) "
        rf"([0-9a-f]{{{2 * argon2id.SALTBYTES}}}) ((?:[0-9a-f]{{2}})+)\n",
        line,
    )
    if not sealed:
        raise KeyFileGarbled(path, f"is not a {role.value} key file")
    cost = PassphraseCost(int(sealed[1]), int(sealed[2]))
    salt = bytes.fromhex(sealed[3])
    if cost.operations > _OPS_MAX or not (
        argon2id.MEMLIMIT_MIN <= cost.memory_bytes <= _MEMORY_BYTES_MAX
    ):
        raise KeyFileGarbled(path, "asks for an unreasonable passphrase cost")
    if passphrase is None:
        raise PassphraseNeeded(path, "is encrypted: give its passphrase")
    if (salt, cost) not in derived:
        derived[salt, cost] = _derive(passphrase, salt, cost)
    return _unsealed(path, role, SecretBox(derived[salt, cost]), bytes.fromhex(sealed[4]))


def _unsealed(path: Path, role: Role, box: SecretBox, sealed: bytes) -> bytes:
    try:
        opened = box.decrypt(sealed)
    except (CryptoError, ValueError) as error:
        raise PassphraseWrong(path, "does not open: wrong passphrase or changed file") from error
    prefix = _boxed(role, b"")
    if not opened.startswith(prefix) or len(opened) != len(prefix) + ed25519.SEED_BYTES:
        raise KeyFileGarbled(path, f"holds another key than {role.value}")
    return opened[len(prefix) :]


def read_private(path: Path) -> str:
    """The text of a file that only its owner may use. Raises KeyFileError."""
    try:
        # O_NONBLOCK: opening a pipe that somebody put here must not hang.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise KeyFileMissing(path, "does not exist") from error
    except OSError as error:
        raise KeyFileError(path, f"cannot be opened: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise KeyFileGarbled(path, "is not a regular file")
        if mode & 0o077:
            raise KeyFileExposed(
                path, f"has mode {stat.S_IMODE(mode):04o}, others may use it: chmod 600 it"
            )
        content = file.read(_FILE_BYTES_MAX + 1)
    try:
        return content.decode("ascii")
    except UnicodeDecodeError as error:
        raise KeyFileGarbled(path, "is not a key file") from error
