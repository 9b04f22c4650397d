"""One hospital's node: opens the home, wires transport, driver and control socket, runs until told.

Everything it holds it gives back, in the order that keeps promises: first nothing more is
released, then training processes die, then the ledger's last commit ends."""

import asyncio
import contextlib
import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from gossip.errors import TransportError
from gossip.keys import SiteKeys
from gossip.limits import MANIFEST_BYTES_MAX
from ledger.log import Log, Signer
from p2pfl.core.errors import ManifestError
from p2pfl.core.events import OwnLog
from p2pfl.core.manifest import Manifest, parse_manifest
from p2pfl.core.membership import Membership
from p2pfl.core.names import DatasetId
from p2pfl.runtime.admission import Admission
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.commands.failures import as_operator_error
from p2pfl.runtime.commands.log_keys import opened_log
from p2pfl.runtime.commands.opening import required_version
from p2pfl.runtime.commands.starting import check_own_log
from p2pfl.runtime.commands.witness_keys import require_witness_key
from p2pfl.runtime.config import Config, read_config
from p2pfl.runtime.confinement.probing import Standing, probed
from p2pfl.runtime.confinement.terms import Level
from p2pfl.runtime.control import ControlServer
from p2pfl.runtime.datasets import check_unchanged, dataset_of, reached_by_training
from p2pfl.runtime.driver import Driver
from p2pfl.runtime.errors import EXIT_REFUSED, EXIT_UNAVAILABLE, OperatorError, as_sentence
from p2pfl.runtime.foreign_folder import remove_folder
from p2pfl.runtime.home import Home, read_own, write_durably
from p2pfl.runtime.jsonable import Json
from p2pfl.runtime.keeping import Keeper
from p2pfl.runtime.keeping_terms import keep_of
from p2pfl.runtime.leftovers import Parts
from p2pfl.runtime.lock import hold_home
from p2pfl.runtime.membership_files import load_membership, settle_roster
from p2pfl.runtime.network_key import network_key_of
from p2pfl.runtime.node_commands import NodeCommands
from p2pfl.runtime.node_status import status
from p2pfl.runtime.observer import NodeObserver, open_log
from p2pfl.runtime.own_memory import close_own_memory, share_own_memory
from p2pfl.runtime.policy import read_policy
from p2pfl.runtime.study_jobs import DatasetFile
from p2pfl.runtime.surroundings import Surroundings

if TYPE_CHECKING:
    from gossip.libp2p_transport import Libp2pTransport
    from gossip.roster import Roster
    from p2pfl.runtime.lan import LanDiscovery, Learn
    from p2pfl.runtime.metrics_page import Measured

__all__ = ["run_node"]

PRIVATE_UMASK = 0o077
"""Whatever the node, its libraries and its training processes create is for its owner only."""


def now_s() -> float:
    """The wall clock: the only place where the node reads it."""
    return time.time()  # noqa: TID251 - the driver's clock, handed in from here as an argument


async def run_node(home: Home, echo: Callable[[str], None], *, offline_ok: bool = False) -> None:
    """Run until SIGINT or SIGTERM.

    echo: prints one line for the person at the terminal.
    offline_ok: go on, on record, if no other site can be asked about the own log.
    Raises OperatorError, LedgerError or KeyFileError when the node cannot start or go on."""
    os.umask(PRIVATE_UMASK)
    close_own_memory()
    share_own_memory()
    config = read_config(home.config)
    with hold_home(home, purpose="node start"):
        keys, log = opened_log(home)
        try:
            settle_roster(home, log.entries())
            agreed = required_version(home)
            membership = load_membership(home, keys, agreed, log.entries())
            roster = membership.members
            _check_membership(keys, membership, config)
            require_witness_key(keys, log.identity)
            check_own_log(roster, keys.site, log.log_id, config.name)
            observer = NodeObserver(open_log(home.node_log), echo, home.logs / "bugs.log")
            _remove_leftovers(home)
            with _pid_file(home):
                await _serve(home, config, keys, membership, log, observer, offline_ok=offline_ok)
        finally:
            log.close()


async def _serve(
    home: Home,
    config: Config,
    keys: SiteKeys,
    membership: Membership,
    log: Log,
    observer: NodeObserver,
    *,
    offline_ok: bool,
) -> None:
    started_s, stop = time.perf_counter(), _stop_signals()
    roster, policy = membership.members, read_policy(home.policy)[0]
    keep, transport = keep_of(home), _transport(home, config, keys, roster)
    blobs = BlobStore(home.blobs)
    measured, standing = _measured(config, observer), await _confinement(home, observer)
    driver = Driver(
        Surroundings(
            home=home,
            site=keys.site,
            transport_seed=keys.transport,
            membership=membership,
            log=log,
            blobs=blobs,
            transport=transport,
            dataset_file=lambda ds: _dataset_file(home, ds),
            clock_s=now_s,
            random=np.random.default_rng().random,
            observer=observer if measured is None else measured.times,
            witness=Signer(keys.witness),
            own_log=OwnLog.UNCONFIRMED,
            offline_ok=offline_ok,
            faulty_witnesses=policy.faulty_witnesses,
            confinement=standing.terms,
            allowance=policy.allowance,
            keep=keep,
        )
    )
    parts = Parts(home.incoming)
    keeper = Keeper(driver.core, blobs, keep, observer.show, parts, driver.jobs.fetching, now_s)

    async def told() -> Json:
        links = await transport.links()
        return _leveled(status(driver, keeper, transport.counts, links, now_s()), standing)

    admission = _admission(home, config, driver, observer)
    commands = NodeCommands(home, keys, log, driver, admission, now_us=_now_us, status=told)
    page = None if measured is None else measured.page(driver, transport)
    control = ControlServer(home, commands.dispatch, observer.bug)
    lan = _lan(config, driver, transport.learn)
    try:
        await control.start()
        if page is not None:
            await page.start()
        await _started(driver, _manifests(home, observer))
        # What was loaded stays until the end: looking through it for garbage again and again was a
        # fifteenth of a busy node's processor time.
        gc.freeze()
        ready_s = time.perf_counter() - started_s
        observer.log.info("node_ready", site=keys.site.hex(), listen=config.listen)
        observer.started(config.name, config.listen, len(roster.members) - 1, ready_s)
        await _open_doors(admission, lan, observer)
        await _until_stopped(stop, driver, keeper, observer)
    finally:
        commands.stop()
        await admission.stop()
        for extra in (lan, page):
            if extra is not None:
                await extra.stop()
        await asyncio.gather(control.stop(), driver.stop())
        observer.log.info("node_stopped")


def _transport(home: Home, config: Config, keys: SiteKeys, roster: "Roster") -> "Libp2pTransport":
    """What carries everything between sites. Raises OperatorError."""
    from gossip.libp2p_limits import NetLimits
    from gossip.libp2p_transport import Libp2pTransport

    limits = NetLimits(upload_bytes_per_s=config.upload_bytes_per_s)
    network_key = network_key_of(home, config)
    return Libp2pTransport(
        keys.transport, roster, config.listen, limits=limits, network_key=network_key
    )


def _admission(home: Home, config: Config, driver: Driver, observer: NodeObserver) -> Admission:
    return Admission(
        home,
        config.listen_host,
        lambda: driver.membership.machine,
        clock_s=now_s,
        random_bytes=os.urandom,
        show=lambda notice: observer.show(None, notice),
    )


async def _open_doors(
    admission: Admission, lan: "LanDiscovery | None", observer: NodeObserver
) -> None:
    """Answer invited sites again, and look for members near by. A node works without either."""
    try:
        await admission.refresh()
    except OperatorError as error:
        observer.log.warning("admission_failed", sentence=error.message, fix=error.fix)
    try:
        if lan is not None:
            await lan.start()
            observer.log.info("mdns_started")
    except OSError as error:
        sentence = f"mdns = true, but this machine has no multicast: {error}"
        observer.log.warning("mdns_failed", sentence=sentence)


def _lan(config: Config, driver: Driver, learn: "Learn") -> "LanDiscovery | None":
    """Who looks for members on the local network, if config.toml asks for it."""
    if not config.mdns:
        return None
    from p2pfl.runtime.lan import LanDiscovery

    return LanDiscovery(config, driver.core.me, lambda: driver.core.roster.sites, learn)


async def _started(driver: Driver, manifests: list[Manifest]) -> None:
    """Raises OperatorError when the address cannot be had."""
    try:
        await driver.start(manifests)
    except TransportError as error:
        raise OperatorError(
            as_sentence(f"The node's network did not start: {error}"),
            fix="Free the address, or change `listen` in config.toml; is another node running?",
            exit_code=EXIT_UNAVAILABLE,
        ) from error


def _measured(config: Config, observer: NodeObserver) -> "Measured | None":
    """What monitoring reads, if config.toml says where: else nothing of it is even loaded."""
    if not config.metrics:
        return None
    from p2pfl.runtime.metrics_page import Measured

    return Measured(config.metrics, observer)


def _leveled(shown: Json, standing: Standing) -> Json:
    assert isinstance(shown, dict), "a status has fields"
    return {**shown, "confinement": standing.level.value, "confinement_reason": standing.reason}


async def _confinement(home: Home, observer: NodeObserver) -> Standing:
    """How well training is confined on this machine; a warning where less than it could be.

    Raises OperatorError where the policy asks for more."""
    standing = await asyncio.to_thread(probed, home.policy)
    least = read_policy(home.policy)[0].confinement_min
    level, reason = standing.level.value, standing.reason
    if level > least:
        raise OperatorError(
            f"Training processes are confined to level {level} on this machine, and policy.toml "
            f"asks for {least}: {reason}.",
            fix=f'`p2pfl doctor` says what to install; or write confinement_min = "{level}" into '
            f"policy.toml: {LEVELS_ALLOWED[standing.level]}.",
            exit_code=EXIT_REFUSED,
        )
    if standing.level is Level.D:
        sentence = f"training runs unconfined (level {level}): {reason}"
    elif standing.is_below_what_is_installed:
        sentence = f"training processes are confined at level {level} and no better: {reason}"
    else:
        sentence = f"training processes are confined (level {level}), as one of them found"
        observer.log.info("confinement", offered=level, sentence=sentence)
        return standing
    observer.log.warning("confinement", offered=level, reason=reason, sentence=sentence)
    return standing


LEVELS_ALLOWED: Final = {
    Level.B: "training has namespaces of its own",
    Level.C: "training is confined by Landlock and a filter, without namespaces of its own",
    Level.D: "plans shipped with the node then train unconfined, researchers' code does not run",
}
"""What a policy allows that asks for this level and no more."""


def _now_us() -> int:
    return int(now_s() * 1_000_000)


async def _until_stopped(
    stop: asyncio.Event, driver: Driver, keeper: Keeper, observer: NodeObserver
) -> None:
    """Return on a signal; raise what made the driver, or its keeper, unable to go on."""
    stopping = asyncio.create_task(stop.wait())
    failing = asyncio.create_task(driver.wait())
    keeping = asyncio.create_task(keeper.run())
    done, pending = await asyncio.wait(
        {stopping, failing, keeping}, return_when=asyncio.FIRST_COMPLETED
    )
    for task in pending:
        task.cancel()
    if keeping in done:
        await keeping
    if failing not in done:
        return
    try:
        await failing
    except Exception as error:
        known = as_operator_error(error)
        observer.failed(known.message if known is not None else f"{type(error).__name__}")
        raise


def _stop_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup` means: go on without it
        loop.add_signal_handler(signal.SIGHUP, stop.set)
    return stop


def _check_membership(keys: SiteKeys, membership: Membership, config: Config) -> None:
    roster, past = membership.roster, membership.chain.rosters
    if keys.site not in roster and any(keys.site in version for version in past):
        raise OperatorError(
            f"This site ({config.name}) is no member of {roster.consortium} any more; version "
            f"{roster.version} of the roster is in force.",
            fix="`p2pfl roster history` says since when; a member may propose this site again with "
            "`p2pfl roster propose-add`. Commands that read this home go on working.",
        )
    if keys.site not in roster:
        raise OperatorError(
            f"The roster of {roster.consortium} does not list this site ({config.name}).",
            fix="Ask the other sites to create and sign a roster with this site's card.",
        )


def _manifests(home: Home, observer: NodeObserver) -> list[Manifest]:
    manifests = []
    for path in sorted(home.studies.glob("*.toml")):
        try:
            manifest = parse_manifest(read_own(path, MANIFEST_BYTES_MAX))
            if manifest.study_id.hex() != path.stem:
                raise ManifestError("", f"was changed: its id is {manifest.study_id.hex()}")
            manifests.append(manifest)
        except (ManifestError, OSError) as error:
            observer.log.error("manifest_damaged", file=path.name, reason=str(error))
    return manifests


def _remove_leftovers(home: Home) -> None:
    """Half files of a node that was killed: what is whole has its proper name."""
    remove_folder(home.path / "work")
    for folder in (home.path, home.blobs, home.studies, home.roster.parent):
        for path in (*folder.glob(".part-*"), *folder.glob(".*.part")):
            path.unlink(missing_ok=True)


def _dataset_file(home: Home, dataset: DatasetId) -> DatasetFile:
    local = dataset_of(home, dataset)
    check_unchanged(home, local)
    return DatasetFile(local.file, local.patient_column, *reached_by_training(local))


@contextlib.contextmanager
def _pid_file(home: Home) -> Iterator[None]:
    write_durably(home.node_pid, f"{os.getpid()}\n".encode())
    try:
        yield
    finally:
        home.node_pid.unlink(missing_ok=True)
