"""The doctor's look at the home: files, lock, configuration, keys, ledger, blobs, datasets."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from gossip import ed25519
from gossip.card import decode_card
from gossip.keys import read_keys
from ledger.log import LogReader, OnDamage, SigCheck, verify_log
from ledger.provenance import kinds
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.commands.doctoring import Checks, fail, failed, ok, warn
from p2pfl.runtime.config import read_config
from p2pfl.runtime.control_call import node_is_running
from p2pfl.runtime.datasets import check_unchanged, data_key, local_datasets
from p2pfl.runtime.errors import BlobError, OperatorError
from p2pfl.runtime.home import Home, read_bounded
from p2pfl.runtime.policy import CONFINEMENT_MIN, read_policy
from p2pfl.runtime.training_usage import Allowance

BLOBS_SAMPLED: Final = 32
SAMPLED_BYTES_MAX: Final = 256 << 20
FILES_NAMED: Final = 3
CARD_BYTES_MAX: Final = 8192


def level_asked(home: Home) -> str:
    """The weakest confinement that this site's policy allows, or the default without a policy."""
    try:
        return read_policy(home.policy)[0].confinement_min
    except OperatorError:
        return CONFINEMENT_MIN  # another check says what is wrong with the policy


def allowance_asked(home: Home) -> Allowance:
    """What this site's policy lets training use up, or the default without a policy."""
    try:
        return read_policy(home.policy)[0].allowance
    except OperatorError:
        return Allowance()


def newest_entry_us(home: Home) -> int | None:
    """When the last entry of the ledger says it was written; None without a readable ledger."""
    if not home.ledger_db.is_file():
        return None
    reader = LogReader.open(home.path, on_damage=OnDamage.SHOW)
    try:
        newest = None
        for entry in reader.entries(max(0, reader.checkpoint.size - 1)):
            newest = entry.time_us
        return newest
    finally:
        reader.close()


def check_permissions(home: Home) -> Checks:
    """Nobody but the owner may read keys and patients' files; and the owner is us."""
    open_to_others: list[Path] = []
    not_ours: list[Path] = []
    for path in _guarded(home):
        found = path.lstat()
        if stat.S_IMODE(found.st_mode) & 0o077:
            open_to_others.append(path)
        if found.st_uid != os.geteuid():
            not_ours.append(path)
    if open_to_others:
        yield fail(
            "permissions",
            f"Others may use {_named(open_to_others, home)}.",
            f"chmod 700 {home.path} and its directories, chmod 600 the files in {home.keys}.",
        )
    if not_ours:
        yield fail(
            "permissions",
            f"{_named(not_ours, home)} belong to another user.",
            "Run p2pfl as the user who owns the home, or chown the home.",
        )
    if not open_to_others and not not_ours:
        yield ok("permissions", "the home and its keys are its owner's alone")


def _guarded(home: Home) -> Iterator[Path]:
    directories = (
        *(home.path, home.keys, home.blobs, home.models, home.roster.parent),
        *(home.data, home.studies, home.logs),
    )
    for directory in directories:
        if directory.exists():
            yield directory
    yield from sorted(home.keys.glob("*.key"))
    for file in (home.config, home.policy, home.ledger_db, home.heads_log):
        if file.exists():
            yield file


def _named(paths: Sequence[Path], home: Home) -> str:
    shown = [
        "the home itself" if path == home.path else str(path.relative_to(home.path))
        for path in paths[:FILES_NAMED]
    ]
    more = len(paths) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def check_lock(home: Home) -> Checks:
    """Whether a node runs, and whether anything else holds the home."""
    if node_is_running(home):
        yield ok("node", "runs and answers on its control socket")
    elif not _is_held(home.lock):
        yield ok("node", "does not run; the home is free")
    else:
        yield warn(
            "node",
            f"The home is in use ({_holder(home.lock)}), but no node answers.",
            "Wait a moment; if it stays, look at logs/node.jsonl and end that process.",
        )


def _is_held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # A shared lock, given back at once: nothing is written, nobody is kept waiting.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _holder(lock: Path) -> str:
    pid, _, purpose = read_bounded(lock, 4096).decode("utf-8", "replace").strip().partition(" ")
    return f"`p2pfl {purpose}`, process {pid}" if pid.isdigit() else "by another process"


def check_configuration(home: Home) -> Checks:
    """config.toml and policy.toml, read as the node reads them."""
    try:
        config = read_config(home.config)
        yield ok("config", f"{config.name} of {config.consortium}, listens on {config.listen}")
    except OperatorError as error:
        yield failed("config", error)
    try:
        policy, _ = read_policy(home.policy)
    except OperatorError as error:
        yield failed("policy", error)
        return
    privacy = "studies without privacy allowed" if policy.allow_no_privacy else "privacy required"
    yield ok("policy", f"{privacy}, ε cap {policy.epsilon_cap:g}, δ = {policy.delta}")


def check_keys(home: Home) -> Checks:
    """All keys are there, and they are those of this home's card and ledger."""
    keys = read_keys(home.keys)
    data_key(home)
    ours = ed25519.public_key_of(keys.identity)
    restore = "Restore the keys of this home from its backup; never mix two homes."
    if home.ledger_db.is_file():
        reader = LogReader.open(home.path, on_damage=OnDamage.SHOW)
        try:
            recorded = reader.identity.identity_pk
        finally:
            reader.close()
        if recorded != ours:
            yield fail("keys", "The keys are not those the ledger was founded with.", restore)
            return
    card = decode_card(read_bounded(home.card(read_config(home.config).name), CARD_BYTES_MAX))
    if card.site != keys.site:
        yield fail("keys", "The card in the home is another site's.", restore)
        return
    if (home.keys / "RESTORED").exists():
        yield warn(
            "keys",
            "The keys were restored from a backup; a ledger that continues the old one is "
            "not known to be here.",
            "Put the newest copy of the whole home in place, or fetch the ledger from the other "
            "sites: `p2pfl ledger recover`.",
        )
        return
    yield ok("keys", f"complete; this is site {keys.site.hex()[:12]}")


def check_ledger(home: Home) -> Checks:
    """Bytes, chain, tree and the signatures of the heads."""
    checked = verify_log(home.path, sigs=SigCheck.HEADS)
    serious = [found for found in checked.findings if found.code.exit_code != 0]
    if serious:
        first = serious[0]
        place = "" if first.seq is None else f" at entry {first.seq}"
        yield fail(
            "ledger",
            f"{len(serious)} findings, the first: {first.code.value}{place}, {first.detail}.",
            "Stop the node, keep a copy of the home, and run `p2pfl ledger verify`; `p2pfl ledger "
            "recover` fetches it whole from the other sites.",
        )
    elif checked.findings:
        yield warn(
            "ledger",
            f"{checked.size} entries, and the last write was cut by a crash.",
            "Nothing to do: the next start of the node completes it.",
        )
    else:
        yield ok("ledger", f"{checked.size} entries, whole; every head signed")


def check_blobs(home: Home, random_bytes: Callable[[int], bytes]) -> Checks:
    """The released models and a random sample of everything stored still have their digests."""
    store = BlobStore(home.blobs)
    chosen = sorted(store.digests(), key=lambda digest: (random_bytes(8), digest))
    released = [digest for digest in _released(home) if store.has(digest)]
    damaged: list[str] = []
    read, read_bytes = 0, 0
    for digest in dict.fromkeys([*released, *chosen[:BLOBS_SAMPLED]]):
        size = store.size_bytes(digest)
        if read and read_bytes + size > SAMPLED_BYTES_MAX:
            continue
        try:
            store.read_bytes(digest)
        except BlobError:
            damaged.append(digest.hex()[:12])
        read, read_bytes = read + 1, read_bytes + size
    if damaged:
        yield fail(
            "blobs",
            f"{len(damaged)} of {read} stored models are damaged, the first is {damaged[0]}.",
            "Check the disk; delete damaged files from blobs/, neighbours still have theirs.",
        )
    else:
        yield ok("blobs", f"{read} of {len(chosen)} stored models read again, all whole")


def _released(home: Home) -> tuple[bytes, ...]:
    reader = LogReader.open(home.path, on_damage=OnDamage.SHOW)
    try:
        found = [kinds.parse(e) for e in reader.entries() if e.kind == kinds.ModelReleased.KIND]
    finally:
        reader.close()
    return tuple(record.hash for record in found if isinstance(record, kinds.ModelReleased))


def check_datasets(home: Home) -> Checks:
    """Every registered file is where it was and is still the same."""
    sound = 0
    for dataset in local_datasets(home):
        try:
            check_unchanged(home, dataset)
            sound += 1
        except OperatorError as error:
            yield failed("data", error)
        except OSError as error:
            yield fail(
                "data",
                f'The file of dataset "{dataset.name}" cannot be read: {error.strerror}.',
                "Put it back where it was registered, or revoke the dataset.",
            )
    if sound:
        yield ok("data", f"{sound} registered file(s) unchanged")
