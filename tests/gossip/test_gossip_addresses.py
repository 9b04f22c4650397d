"""Addresses have one spelling each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.addresses import split_address
from gossip.errors import CardInvalid


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.1:1", "127.0.0.1", 1),
        ("node-1.hospital.example:65535", "node-1.hospital.example", 65535),
        ("localhost:4001", "localhost", 4001),
        ("1and1.de:80", "1and1.de", 80),
        ("[2001:db8::1]:4001", "2001:db8::1", 4001),
    ],
)
def test_a_sound_address_is_split(address: str, host: str, port: int) -> None:
    assert split_address(address) == (host, port)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost",
        ":80",
        "localhost:",
        "localhost:0",
        "localhost:080",
        "localhost:65536",
        "localhost:٣",
        "LOCALHOST:80",
        "local host:80",
        "-host:80",
        "a..b:80",
        "klinik-köln.de:80",
        "1.2.3:80",
        "01.2.3.4:80",
        "1.2.3.256:80",
        "0.0.0.0:80",
        "224.0.0.1:80",
        "[::]:80",
        "[2001:DB8::1]:80",
        "[2001:db8:0::1]:80",
        "[fe80::1%eth0]:80",
        "[localhost]:80",
        "2001:db8::1:80",
        f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 62}:80",
        f"{'a.' * 130}a:4000",
        "http://localhost:80",
        "localhost:80/",
        "/ip4/127.0.0.1/tcp/80",
        "localhost:80\n",
    ],
)
def test_an_unsound_address_is_refused(address: str) -> None:
    with pytest.raises(CardInvalid):
        split_address(address)


@given(st.text(max_size=40))
def test_no_text_makes_it_raise_anything_else(address: str) -> None:
    try:
        host, port = split_address(address)
    except CardInvalid:
        return
    assert address == (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
