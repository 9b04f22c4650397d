"""The home directory: where everything one site owns lies.

Names of files are decided here and nowhere else. Copying the directory while the node is stopped
is the backup.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from p2pfl.runtime.errors import (
    EXIT_CANNOT_CREATE,
    EXIT_DATA,
    EXIT_IO,
    EXIT_NO_INPUT,
    OperatorError,
)

HOME_VARIABLE = "P2PFL_HOME"


@dataclass(frozen=True, slots=True)
class Home:
    """Paths of one site's home. Being constructed says nothing about their existence."""

    path: Path

    @property
    def keys(self) -> Path:
        """Directory of identity, transport, log and witness key (0600 each)."""
        return self.path / "keys"

    @property
    def config(self) -> Path:
        """config.toml: address, name, consortium."""
        return self.path / "config.toml"

    @property
    def policy(self) -> Path:
        """policy.toml: what this site allows."""
        return self.path / "policy.toml"

    @property
    def ledger_db(self) -> Path:
        """The ledger's database."""
        return self.path / "ledger.db"

    @property
    def heads_log(self) -> Path:
        """Every head that was ever released."""
        return self.path / "heads.log"

    @property
    def blobs(self) -> Path:
        """Artefacts under their SHA-256."""
        return self.path / "blobs"

    @property
    def incoming(self) -> Path:
        """Models that are being fetched, by study and neighbour."""
        return self.path / "incoming"

    @property
    def models(self) -> Path:
        """Readable copies of results, one directory per study."""
        return self.path / "models"

    @property
    def roster(self) -> Path:
        """The installed roster."""
        return self.path / "roster" / "current.roster"

    @property
    def first_roster(self) -> Path:
        """The roster that the links begin with; absent while there are none."""
        return self.path / "roster" / "first.roster"

    @property
    def roster_links(self) -> Path:
        """What put each later version into force, `<version>.link`."""
        return self.path / "roster" / "links"

    @property
    def roster_votes(self) -> Path:
        """What is known of the vote on the next roster."""
        return self.path / "roster" / "votes"

    @property
    def roster_cards(self) -> Path:
        """Members' cards that are newer than the roster's."""
        return self.path / "roster" / "cards"

    @property
    def roster_conflicts(self) -> Path:
        """Proofs that a member said two things in one vote."""
        return self.path / "roster" / "conflicts"

    @property
    def invitations(self) -> Path:
        """What this site invited others with and is not done with; each holds a secret (0600)."""
        return self.path / "invitations"

    @property
    def invited(self) -> Path:
        """The invitation that this site answered and waits upon (0600)."""
        return self.path / "invited"

    @property
    def data(self) -> Path:
        """One directory per registered dataset."""
        return self.path / "data"

    @property
    def bundles(self) -> Path:
        """MONAI bundles that people here added, each under its digest; absent without any."""
        return self.path / "bundles"

    @property
    def studies(self) -> Path:
        """Manifests, `<study hex>.toml`."""
        return self.path / "studies"

    @property
    def node_pid(self) -> Path:
        """Process id of the running node."""
        return self.path / "node.pid"

    @property
    def control_socket(self) -> Path:
        """Unix socket of the running node (0600)."""
        return self.path / "control.sock"

    @property
    def lock(self) -> Path:
        """Whoever changes the home holds a lock on this file."""
        return self.path / "node.lock"

    @property
    def forks(self) -> Path:
        """Proofs that a log has two histories, or that a witness vouched for both."""
        return self.path / "forks"

    @property
    def logs(self) -> Path:
        """Directory of log files."""
        return self.path / "logs"

    @property
    def node_log(self) -> Path:
        """The node's JSON lines."""
        return self.logs / "node.jsonl"

    @property
    def cli_log(self) -> Path:
        """Tracebacks of bugs met by commands."""
        return self.logs / "cli.log"

    def card(self, name: str) -> Path:
        """The site's self-signed card, to be handed to the consortium."""
        return self.path / f"{name}.card"

    def study(self, study_id: bytes) -> Path:
        """The manifest of a study."""
        return self.studies / f"{study_id.hex()}.toml"

    def study_models(self, study_id: bytes) -> Path:
        """The directory of a study's results."""
        return self.models / study_id.hex()

    def home_layers(self, study_id: bytes) -> Path:
        """The layers of a study's model that stay at this site, where the study says so."""
        return self.study_models(study_id) / "home-layers.safetensors"

    def dataset(self, name: str) -> Path:
        """The directory of a registered dataset's local particulars."""
        return self.data / name


def existing_home(path: Path) -> Home:
    """The home at `path`. Raises OperatorError where there is none."""
    home = Home(path)
    if not home.config.is_file():
        if path.is_dir():
            what = f"There is no home at {path}: the directory has no config.toml."
        elif path.exists():
            what = f"There is no home at {path}: it is a file, not a directory."
        else:
            what = f"There is no home at {path}."
        raise OperatorError(
            what,
            fix=f"Create one with `p2pfl --home {path} init --name NAME --listen HOST:PORT "
            f"--consortium NAME`, or name another with --home or {HOME_VARIABLE}.",
            exit_code=EXIT_NO_INPUT,
        )
    return home


def create_directories(home: Home) -> None:
    """Make the home's directories, readable by the owner only.

    Raises OperatorError if something else is there or the place is not writable.
    """
    if home.config.is_file():
        raise OperatorError(
            f"{home.path} is a home already.",
            fix="Use it as it is, or name another --home: keys and ledger are never overwritten.",
            exit_code=EXIT_CANNOT_CREATE,
        )
    if home.path.exists() and (not home.path.is_dir() or any(home.path.iterdir())):
        raise OperatorError(
            f"{home.path} exists and is not an empty directory.",
            fix="Name another --home, or remove what a killed `init` left there; nothing is ever "
            "overwritten.",
            exit_code=EXIT_CANNOT_CREATE,
        )
    try:
        home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.path.chmod(0o700)
        for directory in (
            home.keys,
            home.blobs,
            home.models,
            home.roster.parent,
            home.data,
            home.studies,
            home.logs,
        ):
            directory.mkdir(mode=0o700)
    except OSError as error:
        raise OperatorError(
            f"The home {home.path} cannot be created: {error.strerror}.",
            fix="Check the path, its owner and free space, or choose another --home.",
            exit_code=EXIT_CANNOT_CREATE,
        ) from error


def remove_unfinished(home: Home) -> None:
    """Take away what an `init` that failed has made: nobody has seen its keys yet.

    For directories that `create_directories` found empty or made itself, and nothing else.
    """
    shutil.rmtree(home.path, ignore_errors=True)


def write_durably(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put `data` at `path` so that a crash leaves the old bytes or the new ones, never a half.

    Raises OperatorError if the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OperatorError(
            f"{path} cannot be written: {error.strerror}.",
            fix="Check free space and permissions; nothing was changed.",
            exit_code=EXIT_IO,
        ) from error


def read_own(path: Path, bytes_max: int) -> bytes:
    """A file of a home, or its first `bytes_max` + 1 bytes. Raises OSError.

    Somebody may have put a pipe or a device in its place, which would never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not an ordinary file", str(path))
        return file.read(bytes_max + 1)


def read_bounded(path: Path, bytes_max: int) -> bytes:
    """The bytes of a file that somebody handed over. Raises OperatorError.

    Bounded, and a regular file only: a pipe or a device would never end.
    """
    try:
        # O_NONBLOCK: opening a pipe must not hang before it is recognised as one.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            is_file = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            raw = file.read(bytes_max + 1) if is_file else b""
    except OSError as error:
        raise OperatorError(
            f"{path} cannot be read: {error.strerror}.",
            fix="Check the path and its permissions.",
            exit_code=EXIT_NO_INPUT,
        ) from error
    if not is_file or len(raw) > bytes_max:
        what = f"is larger than {bytes_max} bytes" if is_file else "is not a file"
        raise OperatorError(
            f"{path} {what}.",
            fix="It is nothing that this command reads; check the path.",
            exit_code=EXIT_DATA,
        )
    return raw


def sync_directory(path: Path) -> None:
    """Make renames inside `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
