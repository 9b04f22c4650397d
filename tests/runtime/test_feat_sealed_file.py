"""Bytes under a passphrase come back unchanged or not at all."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.pwhash import argon2id

from gossip.keys import PassphraseCost
from p2pfl.runtime.errors import EXIT_DATA, EXIT_REFUSED, OperatorError
from p2pfl.runtime.sealed_file import seal, unseal

CHEAP = PassphraseCost(argon2id.OPSLIMIT_MIN, argon2id.MEMLIMIT_MIN)
PASSPHRASE = "seven wet horses sing"


def sealed(content: bytes, purpose: str = "key-backup") -> bytes:
    return seal(content, PASSPHRASE, purpose=purpose, random_bytes=os.urandom, cost=CHEAP)


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=300))
def test_what_is_sealed_opens_again(content: bytes) -> None:
    assert unseal(sealed(content), PASSPHRASE, purpose="key-backup") == content


def test_equal_contents_are_sealed_differently() -> None:
    assert sealed(b"x") != sealed(b"x")


def test_a_box_for_another_purpose_is_refused_even_with_a_changed_label() -> None:
    line = sealed(b"x", "other-thing")
    with pytest.raises(OperatorError) as refused:
        unseal(line, PASSPHRASE, purpose="key-backup")
    assert refused.value.exit_code == EXIT_DATA
    relabelled = line.replace(b"other-thing", b"key-backup")
    with pytest.raises(OperatorError) as refused:
        unseal(relabelled, PASSPHRASE, purpose="key-backup")
    assert refused.value.exit_code == EXIT_REFUSED


@settings(max_examples=30, deadline=None)
@given(at=st.integers(min_value=0), bit=st.integers(0, 7))
def test_no_changed_bit_opens(at: int, bit: int) -> None:
    line = bytearray(sealed(b"content"))
    # The cost is left alone: a changed one may take minutes before it fails.
    start = line.index(b" ", len(b"p2pfl-sealed-v1 key-backup argon2id-secretbox 0 0000"))
    where = start + 1 + at % (len(line) - start - 2)
    line[where] ^= 1 << bit
    with pytest.raises(OperatorError):
        unseal(bytes(line), PASSPHRASE, purpose="key-backup")


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(OperatorError, match="at least 12"):
        seal(b"x", "short", purpose="key-backup", random_bytes=os.urandom, cost=CHEAP)
