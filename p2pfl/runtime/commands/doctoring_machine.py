"""The doctor's look at the machine: interpreter, libraries, memory, disk, clock."""

from __future__ import annotations

import datetime
import importlib
import json
import os
import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final

from ledger.provenance.moments import moment_of
from p2pfl.runtime.children import output_of, run_module
from p2pfl.runtime.commands.clock import BEHIND_US_MAX
from p2pfl.runtime.commands.doctoring import Checks, fail, ok, warn
from p2pfl.runtime.commands.doctoring_home import allowance_asked
from p2pfl.runtime.confinement import landlock
from p2pfl.runtime.confinement.probing import standing_here
from p2pfl.runtime.confinement.terms import Level
from p2pfl.runtime.home import Home
from p2pfl.runtime.policy import CONFINEMENT_MIN
from p2pfl.runtime.training_usage import GIB, MEMORY_KEY, is_memory_seen
from p2pfl.runtime.training_watch import bounds_here

DISTRIBUTION: Final = "p2pfl-node"
PYTHON: Final = ((3, 11), (3, 14))
"""The first that works, and the first that is not known to."""
DISK_BYTES_MIN: Final = 256 << 20
DISK_BYTES_GOOD: Final = 2 << 30
MEMORY_BYTES_GOOD: Final = 1 << 30
TORCH_S_MAX: Final = 180.0
YEAR_MIN: Final = 2025
DAY_US: Final = 86_400_000_000
CLOCK_TOLERANCE_US: Final = 5_000_000

_GROUP_FILES: Final = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)
"""Control groups, version 2 and 1: most, used, particulars, and what of them can be had back."""

_REINSTALL: Final = "Install again into a fresh environment: `make setup` in the sources."


def check_python() -> Checks:
    """The interpreter this program runs in."""
    found, (low, high) = sys.version_info[:2], PYTHON
    sentence = f"Python {platform.python_version()}"
    if low <= found < high:
        yield ok("python", sentence)
        return
    wanted = f"{low[0]}.{low[1]} to {high[0]}.{high[1] - 1}"
    yield fail("python", f"{sentence}, supported are {wanted}.", f"Install Python {wanted}.")


def check_confinement(least: str = CONFINEMENT_MIN) -> Checks:
    """Whether training processes can be kept from what they do not need.

    least: the level that the site's policy asks for."""
    standing = standing_here()
    level, reason, name = standing.level.value, standing.reason, "confinement"
    if standing.level is Level.D:
        sentence = f"Training cannot be confined (level D): {reason}."
        fix = "Use Linux 5.13 or newer with Landlock, and install libseccomp2."
        if least == Level.D.value:
            yield warn(name, f"{sentence} It runs unconfined, as policy.toml allows.", fix)
            return
        fix += ' Or let shipped plans train unconfined: confinement_min = "D" in policy.toml.'
        yield fail(name, f"{sentence} No node starts.", fix)
        return
    sentence = f"level {level}: Landlock {landlock.abi()}, filter, probed"
    fix = "Install bubblewrap and let this user make namespaces; docs/confinement.md says how."
    if level > least:
        yield fail(name, f"{sentence}; policy.toml asks for {least}: {reason}.", fix)
    elif standing.is_below_what_is_installed:
        yield warn(name, f"{sentence}; {reason}.", fix)
    else:
        yield ok(name, f"{sentence}; {reason}" if reason else f"{sentence}, bubblewrap")


def check_torch() -> Checks:
    """Whether a training process would start, with the torch this release was tested with."""
    purpose = "Loading torch"
    finished = run_module(
        "p2pfl.learning.self_test", (), given=b"", deadline_s=TORCH_S_MAX, purpose=purpose
    )
    if finished.code != 0:
        yield fail("torch", f"Training cannot start: {finished.complaint}", _REINSTALL)
        return
    found = json.loads(output_of(finished, purpose))
    installed, wanted = str(found["torch"]).partition("+")[0], required_version("torch")
    sentence = f"torch {found['torch']}, opacus {found['opacus']}, {found['load_s']:.1f} s to load"
    if wanted and installed != wanted:
        yield fail("torch", f"{sentence}; tested with torch {wanted}.", _REINSTALL)
    elif found["step_ok"] is not True:
        yield fail("torch", f"{sentence}; a gradient comes out wrong.", _REINSTALL)
    else:
        yield ok("torch", sentence)


def check_libp2p() -> Checks:
    """Whether the network library loads, in the version this release was tested with."""
    try:
        importlib.import_module("gossip.libp2p_transport")
        installed = version("libp2p")
    except (ImportError, OSError, PackageNotFoundError) as error:
        yield fail("libp2p", f"libp2p does not load: {error}", _REINSTALL)
        return
    wanted = required_version("libp2p")
    if wanted and installed != wanted:
        yield fail("libp2p", f"libp2p {installed}; tested with {wanted}.", _REINSTALL)
    else:
        yield ok("libp2p", f"libp2p {installed}")


def check_memory(
    meminfo: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")
) -> Checks:
    """Room for a training process beside the node, on the machine and in this container."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text("ascii"), re.MULTILINE)
    except OSError:
        return  # another system than Linux: nothing to say
    if found is None:
        return
    available = int(found[1]) << 10
    fix = "Stop other programs, or give the machine more memory."
    within = _free_in_group(group)
    if within is not None and within < available:
        available, fix = within, "Give the container or service more memory (`--memory`)."
    sentence = f"{available / (1 << 30):.1f} GiB of memory are free"
    if available >= MEMORY_BYTES_GOOD:
        yield ok("memory", sentence)
    else:
        yield warn("memory", f"Only {sentence}; a training process needs about 0.5 GiB.", fix)


def check_limits(home: Home) -> Checks:
    """What training may use up before the node ends it, and whether that can be seen here."""
    allowance, place = allowance_asked(home), home.path
    while not place.exists():
        place = place.parent
    bounds, name = bounds_here(allowance, place), "limits"
    disk = f"{_gib(bounds.disk_bytes)} of disk"
    if bounds.memory_bytes is None or not is_memory_seen():
        yield warn(
            name,
            f"Training of one study may take {disk}; its memory is not watched: this system does "
            "not show this user what a confined process holds.",
            f"Run nodes on Linux with /proc mounted without hidepid; until then {MEMORY_KEY} in "
            "policy.toml limits nothing.",
        )
        return
    yield ok(name, f"training of one study may take {_gib(bounds.memory_bytes)} of memory, {disk}")


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"


def _free_in_group(group: Path) -> int | None:
    """Bytes that a container's own limit leaves, None where there is none.

    Inside a container the mount shows its own control group: version 2, or version 1 below
    `memory/`. Pages of files that were not read lately are as good as free.
    """
    for limit, used, stat, cache in _GROUP_FILES:
        try:
            words = (group / limit).read_text("ascii"), (group / used).read_text("ascii")
            most, taken = map(int, words)
            kept = re.search(rf"^{cache} (\d+)$", (group / stat).read_text("ascii"), re.MULTILINE)
        except (OSError, ValueError):  # not this version, or the word "max"
            continue
        return max(0, most - taken + (int(kept[1]) if kept else 0))
    return None


def check_disk(place: Path) -> Checks:
    """Space and the right to write where the home lies, or would lie."""
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    sentence = f"{free / (1 << 30):.1f} GiB are free at {place}"
    fix = "Free space, or move the home to a larger disk while the node is stopped."
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        yield fail("disk", f"{place} is on a read-only disk.", "Mount it writable.")
    elif not os.access(place, os.W_OK):
        yield fail("disk", f"{place} may not be written by this user.", "Check owner and mode.")
    elif free < DISK_BYTES_MIN:
        yield fail("disk", f"Only {sentence}.", fix)
    elif free < DISK_BYTES_GOOD:
        yield warn("disk", f"Only {sentence}.", fix)
    else:
        yield ok("disk", sentence)


def check_clock(now_us: int, newest_us: int | None) -> Checks:
    """The clock against reason, and against the newest entry of the ledger where there is one."""
    fix = "Set the clock (`timedatectl set-ntp true`), before anything is put on record."
    behind_us = 0 if newest_us is None else newest_us - now_us
    if now_us < _year_us(YEAR_MIN):
        yield fail("clock", f"The clock says {moment_of(now_us)}.", fix)
    elif behind_us > BEHIND_US_MAX:
        yield fail(
            "clock",
            f"The clock says {moment_of(now_us)}, which is {_span(behind_us)} before the newest "
            "ledger entry: it is off, or was off when that entry was written.",
            f"{fix} If it is right now: `p2pfl ledger accept-clock`.",
        )
    elif behind_us > CLOCK_TOLERANCE_US:
        yield warn("clock", f"The clock is {_span(behind_us)} behind the newest ledger entry.", fix)
    else:
        after = ", after the newest ledger entry" if newest_us is not None else ""
        yield ok("clock", f"{moment_of(now_us)}{after}")


def _span(time_us: int) -> str:
    for unit_us, name in ((DAY_US, "days"), (DAY_US // 24, "hours"), (60_000_000, "minutes")):
        if time_us >= unit_us:
            return f"{time_us / unit_us:.1f} {name}"
    return f"{time_us / 1_000_000:.0f} s"


def required_version(library: str) -> str:
    """The exact version our own distribution asks for; "" where it asks for none."""
    try:
        wanted = requires(DISTRIBUTION) or ()
    except PackageNotFoundError:
        return ""
    for requirement in wanted:
        found = re.fullmatch(rf"{library}==([0-9A-Za-z.]+)", requirement)
        if found:
            return found[1]
    return ""


def _year_us(year: int) -> int:
    return int(datetime.datetime(year, 1, 1, tzinfo=datetime.UTC).timestamp()) * 1_000_000
