"""Key files: private, never overwritten, all or none."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from gossip_people import bytes_of, person
from nacl.bindings import crypto_pwhash_argon2id_MEMLIMIT_MIN, crypto_pwhash_argon2id_OPSLIMIT_MIN

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
from gossip.identifiers import fingerprint, site_id_of
from gossip.keys import (
    PassphraseCost,
    Role,
    SiteKeys,
    generate,
    key_path,
    read_key,
    read_keys,
    write_keys,
)

KEYS = person(0).keys
CHEAP = PassphraseCost(crypto_pwhash_argon2id_OPSLIMIT_MIN, crypto_pwhash_argon2id_MEMLIMIT_MIN)


def test_generated_keys_come_from_the_given_randomness() -> None:
    counter = iter(range(1, 5))
    keys = generate(lambda size: bytes([next(counter)]) * size)
    assert keys == SiteKeys(b"\1" * 32, b"\2" * 32, b"\3" * 32, b"\4" * 32)


def test_keys_are_never_shown() -> None:
    assert repr(KEYS) == "SiteKeys()"


def test_a_seed_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="log seed"):
        SiteKeys(bytes(32), bytes(32), bytes(31), bytes(32))


def test_the_site_is_the_hash_of_the_identity_key() -> None:
    assert KEYS.site == site_id_of(ed25519.public_key_of(KEYS.identity))


def test_a_fingerprint_is_grouped_hex() -> None:
    groups = fingerprint(KEYS.site).split(" ")
    assert len(groups) == 8
    assert "".join(groups) == KEYS.site.hex()[:32]


def test_written_keys_are_read_back_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "keys"
    write_keys(folder, KEYS, None)
    assert read_keys(folder) == KEYS
    assert read_key(folder, Role.LOG) == KEYS.log
    assert sorted(path.name for path in folder.iterdir()) == [
        "identity.key",
        "log.key",
        "transport.key",
        "witness.key",
    ]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_keys_are_never_overwritten_and_come_all_or_none(tmp_path: Path) -> None:
    key_path(tmp_path, Role.WITNESS).write_text("mine")
    with pytest.raises(KeyFileExists):
        write_keys(tmp_path, KEYS, None)
    assert [path.name for path in tmp_path.iterdir()] == ["witness.key"]
    assert key_path(tmp_path, Role.WITNESS).read_text() == "mine"


def test_a_dangling_link_counts_as_a_file(tmp_path: Path) -> None:
    key_path(tmp_path, Role.LOG).symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeyFileExists):
        write_keys(tmp_path, KEYS, None)


def test_a_race_for_the_same_file_leaves_no_half_set(tmp_path: Path) -> None:
    def plant_a_file(size: int) -> bytes:
        # The salt is drawn after the check and before the files are made.
        key_path(tmp_path, Role.LOG).write_text("somebody else's")
        return bytes(size)

    with pytest.raises(KeyFileExists):
        write_keys(tmp_path, KEYS, "secret", random_bytes=plant_a_file, cost=CHEAP)
    assert [path.name for path in tmp_path.iterdir()] == ["log.key"]


def test_encrypted_keys_need_the_passphrase(tmp_path: Path) -> None:
    write_keys(tmp_path, KEYS, "Käse und Brot", cost=CHEAP)
    for path in tmp_path.iterdir():
        assert KEYS.identity.hex() not in path.read_text()
    assert read_keys(tmp_path, "Käse und Brot") == KEYS
    with pytest.raises(PassphraseNeeded):
        read_keys(tmp_path)
    with pytest.raises(PassphraseWrong):
        read_keys(tmp_path, "Käse und Wein")


def test_exchanged_key_files_are_refused(tmp_path: Path) -> None:
    write_keys(tmp_path, KEYS, "secret", cost=CHEAP)
    log = key_path(tmp_path, Role.LOG)
    content = log.read_text()
    key_path(tmp_path, Role.WITNESS).write_text(content)
    with pytest.raises(KeyFileGarbled, match="not a witness key file"):
        read_key(tmp_path, Role.WITNESS, "secret")
    key_path(tmp_path, Role.WITNESS).write_text(content.replace(" log ", " witness "))
    with pytest.raises(KeyFileGarbled, match="another key"):
        read_key(tmp_path, Role.WITNESS, "secret")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    write_keys(tmp_path, KEYS, None)
    key_path(tmp_path, Role.IDENTITY).chmod(mode)
    with pytest.raises(KeyFileExposed, match="chmod 600"):
        read_keys(tmp_path)


def _missing(path: Path) -> None:
    path.unlink()


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")


def _endless(path: Path) -> None:
    path.write_text(path.read_text() * 40)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (_missing, KeyFileMissing),
        (_link, KeyFileError),
        (_pipe, KeyFileGarbled),
        (_binary, KeyFileGarbled),
        (_endless, KeyFileGarbled),
    ],
)
def test_what_is_no_key_file_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], error: type[KeyFileError]
) -> None:
    write_keys(tmp_path, KEYS, None)
    spoil(key_path(tmp_path, Role.TRANSPORT))
    with pytest.raises(error):
        read_keys(tmp_path)


@pytest.mark.parametrize(
    ("operations", "memory_bytes", "box_hex"),
    [(17, 8192, "00"), (1, 2**31, "00"), (1, 1024, "00")],
)
def test_an_unreasonable_passphrase_cost_is_refused(
    tmp_path: Path, operations: int, memory_bytes: int, box_hex: str
) -> None:
    path = key_path(tmp_path, Role.LOG)
    salt = bytes(16).hex()
    path.write_text(
        f"p2pfl-key-v1 log argon2id-secretbox {operations} {memory_bytes} {salt} {box_hex}\n"
    )
    path.chmod(0o600)
    with pytest.raises(KeyFileGarbled, match="cost"):
        read_key(tmp_path, Role.LOG, "secret")


def test_a_box_that_is_too_short_does_not_open(tmp_path: Path) -> None:
    path = key_path(tmp_path, Role.LOG)
    path.write_text(f"p2pfl-key-v1 log argon2id-secretbox 1 8192 {bytes(16).hex()} 00\n")
    path.chmod(0o600)
    with pytest.raises(PassphraseWrong):
        read_key(tmp_path, Role.LOG, "secret")


def test_signatures_of_another_length_do_not_verify() -> None:
    message = b"message"
    signature = ed25519.sign(KEYS.log, message)
    public_key = ed25519.public_key_of(KEYS.log)
    assert ed25519.verify(public_key, message, signature)
    assert not ed25519.verify(public_key, message, signature[:-1])
    assert not ed25519.verify(public_key[:-1], message, signature)
    assert not ed25519.verify(public_key, message + b"!", signature)


# Source: "Taming the many EdDSAs" (Chalkias et al. 2020), table of small-order points; the last
# four are non-canonical encodings.
UNSOUND_KEYS = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]


@pytest.mark.parametrize("encoded", UNSOUND_KEYS)
def test_low_order_and_non_canonical_keys_are_unsound(encoded: str) -> None:
    assert not ed25519.is_sound_public_key(bytes.fromhex(encoded))


def test_only_keys_of_32_bytes_are_sound() -> None:
    public_key = ed25519.public_key_of(bytes_of("seed"))
    assert ed25519.is_sound_public_key(public_key)
    assert not ed25519.is_sound_public_key(public_key + b"\0")
