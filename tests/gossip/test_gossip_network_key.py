"""The network key's file and cipher: go-libp2p's format, and libsodium as the oracle."""

import pytest
from nacl.bindings import crypto_secretbox

from gossip.network_key import (
    FILE_BYTES_MAX,
    NetworkKeyGarbled,
    hsalsa20,
    network_fingerprint,
    parse_network_key,
    render_network_key,
    salsa20_parts,
)

KEY = bytes(range(32))


def test_the_file_is_the_one_that_go_libp2p_reads() -> None:
    assert render_network_key(KEY) == (
        b"/key/swarm/psk/1.0.0/\n/base16/\n"
        b"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"
    )
    assert parse_network_key(render_network_key(KEY)) == KEY
    assert parse_network_key(render_network_key(KEY).replace(b"\n", b"\r\n")) == KEY


@pytest.mark.parametrize(
    "content",
    [
        b"",
        render_network_key(KEY)[:-3],
        render_network_key(KEY).replace(b"base16", b"base64"),
        render_network_key(KEY) + bytes(FILE_BYTES_MAX),
        "/key/swarm/psk/1.0.0/\n/base16/\nä".encode(),
    ],
)
def test_anything_else_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(NetworkKeyGarbled, match="expected three lines"):
        parse_network_key(content)


def test_only_32_bytes_are_a_key() -> None:
    with pytest.raises(ValueError, match="32 bytes, got 31"):
        render_network_key(KEY[1:])


def test_the_first_half_of_xsalsa20_is_the_published_one() -> None:
    # Source: Bernstein, Cryptography in NaCl, section 8: firstkey, nonceprefix, secondkey.
    first = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
    prefix = bytes.fromhex("69696ee955b62b73cd62bda875fc73d6")
    second = bytes.fromhex("dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4")
    assert hsalsa20(first, prefix) == second


def test_the_stream_is_libsodiums() -> None:
    from Crypto.Cipher import Salsa20

    nonce, message = bytes(range(100, 124)), bytes(500)
    key, rest = salsa20_parts(KEY, nonce)
    ours = Salsa20.new(key=key, nonce=rest).encrypt(bytes(32) + message)[32:]
    assert ours == crypto_secretbox(message, nonce, KEY)[16:]


def test_people_compare_a_fingerprint() -> None:
    assert len(network_fingerprint(KEY)) == 8
    assert network_fingerprint(KEY) != network_fingerprint(bytes(32))
