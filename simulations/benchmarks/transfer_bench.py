"""Bulk transfer and push latency of the libp2p transport, beside asyncio TLS in the same run.

    python -m simulations.benchmarks.transfer_bench [--megabytes 100] [--repetitions 3]

Two processes on loopback. Every way moves the same bytes to disk and hashes them; "TLS, moved
only" does neither and is what the machine can do at best. How much more memory each end had while
it moved them is what the kernel said every 20 ms. Then the time from sending a message of 3 kB to
having its echo back.
"""

import argparse
import asyncio
import datetime
import hashlib
import ipaddress
import json
import os
import resource
import socket
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gossip.blob_spool import Spool
from gossip.card import sign_card
from gossip.identifiers import Digest, SiteId
from gossip.keys import SiteKeys
from gossip.libp2p_transport import Libp2pTransport
from gossip.roster import Roster, draft_roster, sign_roster
from simulations.benchmarks.report import machine

_TLS_READ_BYTES = 256 * 1024
_PUSH_BYTES = 3000
_PUSHES = 300
_LOOK_S = 0.02
_TLS = "TLS, hashed and stored"
_LIBP2P = "libp2p, hashed and stored"


@dataclass(frozen=True, slots=True)
class Stage:
    """What both processes know."""

    folder: Path
    ports: tuple[int, int]
    tls_port: int
    megabytes: int
    is_covered: bool = False
    """Whether the nodes are in a private network."""

    @property
    def network_key(self) -> bytes | None:
        """The same at both ends."""
        return bytes(range(32)) if self.is_covered else None

    @property
    def blob(self) -> Path:
        """The file that is moved."""
        return self.folder / "blob"


def keys_of(index: int) -> SiteKeys:
    """Keys of one end; both processes derive them."""
    roles = ("identity", "transport", "log", "witness")
    return SiteKeys(*(hashlib.sha256(f"bench {role} {index}".encode()).digest() for role in roles))


def roster_of(stage: Stage) -> Roster:
    """Both ends, signed by both."""
    cards = [
        sign_card(
            keys_of(index),
            name=f"end {index}",
            log_id=bytes(31) + bytes([index]),
            addresses=[f"127.0.0.1:{port}"],
        )
        for index, port in enumerate(stage.ports)
    ]
    roster = draft_roster("bench", cards)
    for index in range(2):
        roster = sign_roster(roster, keys_of(index).identity)
    return roster


class Echo:
    """An inbox that serves one file and lets its owner wait for what comes."""

    def __init__(self, blob: Path | None = None) -> None:
        self.blob_path = blob
        self.arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self.met: asyncio.Queue[SiteId] = asyncio.Queue()

    def connected(self, site: SiteId) -> None:
        """Note it."""
        self.met.put_nowait(site)

    def disconnected(self, site: SiteId) -> None:
        """Of no interest here."""

    def received(self, source: SiteId, raw: bytes) -> None:
        """Note it."""
        self.arrived.put_nowait(raw)

    def refused(self, address_or_site: str, reason: str) -> None:
        """Of no interest here."""

    def blob(self, site: SiteId, digest: Digest) -> Path | None:
        """The one file."""
        return self.blob_path


def make_certificate(folder: Path) -> None:
    """A self-signed certificate for the TLS end."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )


async def serve(stage: Stage) -> None:
    """The far end: serves the blob over both ways and echoes pushes, until stdin closes."""
    inbox = Echo(stage.blob)
    transport = Libp2pTransport(
        keys_of(1).transport,
        roster_of(stage),
        f"127.0.0.1:{stage.ports[1]}",
        network_key=stage.network_key,
    )
    await transport.start(inbox)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(stage.folder / "tls.pem")
    data = stage.blob.read_bytes()

    async def give(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(data), _TLS_READ_BYTES):
            writer.write(data[start : start + _TLS_READ_BYTES])
            await writer.drain()
        writer.close()

    tls_end = await asyncio.start_server(give, "127.0.0.1", stage.tls_port, ssl=context)
    near = await inbox.met.get()

    async def echo() -> None:
        while True:
            await transport.send(near, await inbox.arrived.get())

    echoing = asyncio.create_task(echo())
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    echoing.cancel()
    tls_end.close()
    await transport.stop()


async def over_tls(stage: Stage, *, spool: Spool | None) -> None:
    """Read the whole blob from the TLS end; hash and store it if there is a spool."""
    context = ssl.create_default_context(cafile=str(stage.folder / "tls.pem"))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", stage.tls_port, ssl=context, limit=2 * _TLS_READ_BYTES
    )
    chunk = bytearray()
    if spool is not None:
        spool.open(reserve_bytes=0)
    while piece := await reader.read(_TLS_READ_BYTES):
        chunk += piece
        if len(chunk) >= 1024 * 1024:
            if spool is not None:
                await asyncio.to_thread(spool.append, bytes(chunk))
            chunk.clear()
    if spool is not None:
        spool.append(bytes(chunk))
        spool.finish()
    writer.close()


@dataclass(slots=True)
class Taken:
    """What moving the blob took, time after time: MB/s, the receiver's processor seconds, and MB
    that receiver and giver had more than before."""

    rates: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    more_mb: list[tuple[float, float]] = field(default_factory=list)


def resident_mb(pid: int) -> float:
    """What a process holds in memory, files that it maps included. Linux."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def most_mb(pid: int, highest: list[float]) -> None:
    """Keep the most that a process ever held in `highest`, until cancelled."""
    while True:
        highest[0] = max(highest[0], resident_mb(pid))
        await asyncio.sleep(_LOOK_S)


async def take(stage: Stage, move: Callable[[], Awaitable[None]], taken: Taken, far: int) -> None:
    """Time one way of moving the blob once. far: the giver's process."""
    ends = (os.getpid(), far)
    before = [resident_mb(pid) for pid in ends]
    highest = [[mb] for mb in before]
    looking = [asyncio.create_task(most_mb(*end)) for end in zip(ends, highest, strict=True)]
    used = resource.getrusage(resource.RUSAGE_SELF)
    start_s = time.perf_counter()
    await move()
    taken.rates.append(stage.megabytes / (time.perf_counter() - start_s))
    after = resource.getrusage(resource.RUSAGE_SELF)
    taken.cpu_s.append(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime)
    for task in looking:
        task.cancel()
    taken.more_mb.append((highest[0][0] - before[0], highest[1][0] - before[1]))
    (stage.folder / "had").unlink(missing_ok=True)


def print_rates(ways: Mapping[str, Taken]) -> None:
    """One line for each way, then libp2p beside the TLS of the same minute."""
    for name, taken in ways.items():
        print(
            f"{name:<28} {statistics.median(taken.rates):7.0f} MB/s  (from "
            f"{min(taken.rates):.0f} to {max(taken.rates):.0f})   "
            f"receiver {statistics.median(taken.cpu_s):.2f} CPU s; more memory: "
            f"receiver {max(mb for mb, _ in taken.more_mb):.0f} MB, "
            f"giver {max(mb for _, mb in taken.more_mb):.0f} MB"
        )
    pairs = list(zip(ways[_LIBP2P].rates, ways[_TLS].rates, strict=True))
    ratios = sorted(ours / theirs for ours, theirs in pairs)
    best = max(ours for ours, _ in pairs) / max(theirs for _, theirs in pairs)
    print(
        f"libp2p / TLS, both hashed and stored: median {statistics.median(ratios):.2f} of "
        f"{len(ratios)} pairs (from {ratios[0]:.2f} to {ratios[-1]:.2f}); "
        f"of the fastest of each {best:.2f}"
    )


async def echo_times_ms(transport: Libp2pTransport, inbox: Echo, far: SiteId) -> list[float]:
    """Round trips of a pushed message, in milliseconds."""
    taken = []
    for _ in range(_PUSHES):
        raw = os.urandom(_PUSH_BYTES)
        start_s = time.perf_counter()
        await transport.send(far, raw)
        await inbox.arrived.get()
        taken.append((time.perf_counter() - start_s) * 1e3)
    return sorted(taken)


async def measure(stage: Stage, repetitions: int, child: asyncio.subprocess.Process) -> None:
    """The near end."""
    with stage.blob.open("rb") as blob:
        digest = Digest(hashlib.file_digest(blob, "sha256").digest())
    size = stage.blob.stat().st_size
    inbox = Echo()
    transport = Libp2pTransport(
        keys_of(0).transport,
        roster_of(stage),
        f"127.0.0.1:{stage.ports[0]}",
        network_key=stage.network_key,
    )
    await transport.start(inbox)
    far = await inbox.met.get()
    if child.stdout is not None:
        await child.stdout.readline()
    had = stage.folder / "had"

    ways = {name: Taken() for name in ("TLS, moved only", _TLS, _LIBP2P)}

    async def fetch() -> None:
        await transport.fetch(far, digest, size, had, lambda _: None)

    # In turns: what else the machine does then meets all of them.
    for _ in range(repetitions):
        await take(stage, lambda: over_tls(stage, spool=None), ways["TLS, moved only"], child.pid)
        stored = Spool(had, digest, size)
        await take(stage, partial(over_tls, stage, spool=stored), ways[_TLS], child.pid)
        await take(stage, fetch, ways[_LIBP2P], child.pid)
    print_rates(ways)
    taken = await echo_times_ms(transport, inbox, far)
    print(
        f"push of {_PUSH_BYTES} bytes, there and back: median {taken[_PUSHES // 2]:.2f} ms, "
        f"p99 {taken[int(_PUSHES * 0.99)]:.2f} ms"
    )
    await transport.stop()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


async def run(megabytes: int, repetitions: int, *, is_covered: bool) -> None:
    """Set the stage, start the far end, measure."""
    with tempfile.TemporaryDirectory() as name:
        one, other, tls = free_ports(3)
        stage = Stage(Path(name), (one, other), tls, megabytes, is_covered)
        with stage.blob.open("wb") as blob:  # nothing runs yet
            for _ in range(megabytes):
                blob.write(os.urandom(1_000_000))
        make_certificate(stage.folder)
        setting = json.dumps([name, one, other, tls, megabytes, is_covered])
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "simulations.benchmarks.transfer_bench",
            "--serve",
            setting,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            await measure(stage, repetitions, child)
        finally:
            if child.stdin is not None:
                child.stdin.close()
            await child.wait()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=100, help="size of the file [100]")
    parser.add_argument("--repetitions", type=int, default=3, help="of every way [3]")
    parser.add_argument(
        "--network-key", action="store_true", help="libp2p covered by a pre-shared key"
    )
    parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or be the far end of a measurement."""
    options = parse(arguments)
    if options.serve:
        folder, one, other, *rest = json.loads(options.serve)
        asyncio.run(serve(Stage(Path(folder), (one, other), *rest)))
    else:
        print(machine(), flush=True)
        is_covered = options.network_key
        asyncio.run(run(options.megabytes, options.repetitions, is_covered=is_covered))
    return 0


if __name__ == "__main__":
    sys.exit(main())
