"""MONAI bundles of this site: copied into its home when somebody here adds them, and never changed.

Responsible for what may be part of a bundle, for its digest, and for looking again before it is
used. Bundles come from a folder on this machine, never from another site.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pfl.core.manifest_bundle import (
    EVALUATE_CONFIG,
    NAME,
    NAME_WORDS,
    TRAIN_CONFIG,
    bundle_digest,
)
from p2pfl.runtime.errors import EXIT_DATA, EXIT_NO_INPUT, EXIT_USAGE, OperatorError
from p2pfl.runtime.home import Home, read_bounded, read_own, sync_directory, write_durably

FILES_MAX: Final = 500
FILE_BYTES_MAX: Final = 8 << 20
BUNDLE_BYTES_MAX: Final = 32 << 20
LEFT_OUT: Final = frozenset({".pt", ".pth", ".ts", ".pkl", ".pickle", ".onnx", ".pyc"})
"""Pickled models, which a study does not start from, and what Python makes itself."""
FOLDERS_LEFT_OUT: Final = frozenset({".git", "__pycache__"})
_PATH: Final = re.compile(r"[A-Za-z0-9_.+ -]{1,80}(/[A-Za-z0-9_.+ -]{1,80}){0,7}")
_NAME_FILE: Final = "name"
_FILES: Final = "files"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle of this site. files: path below `folder` → SHA-256 of its bytes."""

    name: str
    digest: bytes
    folder: Path
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class BundleAdded:
    """A bundle was copied. left_out: files that are no part of it."""

    bundle: Bundle
    left_out: tuple[str, ...]


def add_bundle(home: Home, source: Path, name: str) -> BundleAdded:
    """Copy a bundle's folder into the home, under its digest. Raises OperatorError."""
    if NAME.fullmatch(name) is None:
        raise OperatorError(
            f'"{name}" is no name for a bundle.',
            fix=f"Give --name with {NAME_WORDS}.",
            exit_code=EXIT_USAGE,
        )
    if not source.is_dir():
        raise OperatorError(
            f"{source} is no folder.",
            fix="Give the folder of a MONAI bundle: the one that holds configs/.",
            exit_code=EXIT_NO_INPUT,
        )
    left_out: list[str] = []
    contents = dict(_contents(source, left_out))
    for needed in (TRAIN_CONFIG, EVALUATE_CONFIG):
        if needed not in contents:
            raise OperatorError(
                f"{source} has no {needed}.",
                fix="A bundle needs configs/train.json and configs/evaluate.json; "
                "docs/bundles.md says what has to stand in them.",
                exit_code=EXIT_DATA,
            )
    files = {path: hashlib.sha256(raw).digest() for path, raw in contents.items()}
    digest = bundle_digest(files)
    _put(home, digest, name, contents)
    return BundleAdded(
        Bundle(name, digest, _folder(home, digest) / _FILES, files), tuple(sorted(left_out))
    )


def remove_bundle(home: Home, bundle: Bundle) -> None:
    """Take a bundle away; studies with it do not start here any more."""
    shutil.rmtree(_folder(home, bundle.digest), ignore_errors=True)


def bundles_of(home: Home) -> tuple[Bundle, ...]:
    """All bundles of this site that are as they were added, sorted by name and digest."""
    found = []
    for entry in sorted(home.bundles.glob("*/" + _NAME_FILE)):
        try:
            found.append(bundle_with(home, bytes.fromhex(entry.parent.name)))
        except (ValueError, OperatorError):
            continue
    return tuple(sorted(found, key=lambda one: (one.name, one.digest)))


def find_bundle(home: Home, given: str) -> Bundle:
    """A bundle by its name or the beginning of its digest. Raises OperatorError."""
    named = [
        one for one in bundles_of(home) if one.name == given or one.digest.hex().startswith(given)
    ]
    if len(named) == 1:
        return named[0]
    if not named:
        raise OperatorError(
            f'No bundle "{given}" is installed here.',
            fix="`p2pfl bundle list` names those that are; `p2pfl bundle add FOLDER` installs one.",
            exit_code=EXIT_NO_INPUT,
        )
    listed = ", ".join(one.digest.hex()[:12] for one in named)
    raise OperatorError(
        f'"{given}" may mean {len(named)} bundles: {listed}.',
        fix="Give the beginning of the digest.",
        exit_code=EXIT_USAGE,
    )


def is_installed(home: Home, digest: bytes) -> bool:
    """Whether somebody here added a bundle of this digest; says nothing about its bytes."""
    return (_folder(home, digest) / _NAME_FILE).is_file()


def bundle_with(home: Home, digest: bytes) -> Bundle:
    """The bundle of this digest, every byte of it looked at. Raises OperatorError."""
    folder = _folder(home, digest)
    try:
        name = read_own(folder / _NAME_FILE, 64).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise OperatorError(
            f"The bundle {digest.hex()[:12]} is not installed here.",
            fix="Bundles never come from other sites: get its folder as its author publishes it, "
            "and add it with `p2pfl bundle add FOLDER`.",
            exit_code=EXIT_NO_INPUT,
        ) from None
    left_out: list[str] = []
    contents = _contents(folder / _FILES, left_out)
    files = {path: hashlib.sha256(raw).digest() for path, raw in contents}
    if bundle_digest(files) != digest or left_out:
        raise OperatorError(
            f'The bundle "{name}" ({digest.hex()[:12]}) is not as it was when it was added.',
            fix=f"Find out who changed {folder}; remove that folder and add the bundle again.",
            exit_code=EXIT_DATA,
        )
    return Bundle(name, digest, folder / _FILES, files)


def text_of(bundle: Bundle, path: str) -> str | None:
    """A file of a bundle as text, None where it is none. The path is one of the bundle's."""
    try:
        return read_own(bundle.folder / path, FILE_BYTES_MAX).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _folder(home: Home, digest: bytes) -> Path:
    return home.bundles / digest.hex()


def _contents(root: Path, left_out: list[str]) -> Iterator[tuple[str, bytes]]:
    """Every file's path and bytes. Raises OperatorError for what a bundle may not hold."""
    size = count = 0
    for place, folders, names in os.walk(root):
        folders[:] = sorted(one for one in folders if one not in FOLDERS_LEFT_OUT)
        for name in [*names, *(one for one in folders if Path(place, one).is_symlink())]:
            file = Path(place, name)
            path = file.relative_to(root).as_posix()
            if file.suffix in LEFT_OUT:
                left_out.append(path)
                continue
            count += 1
            if count > FILES_MAX:
                raise _refused(root, f"has more than {FILES_MAX} files")
            _check_plain(root, file, path)
            raw = read_bounded(file, FILE_BYTES_MAX)
            size += len(raw)
            if size > BUNDLE_BYTES_MAX:
                raise _refused(root, f"has more than {BUNDLE_BYTES_MAX} bytes")
            yield path, raw


def _check_plain(root: Path, file: Path, path: str) -> None:
    if _PATH.fullmatch(path) is None:
        raise _refused(root, f"holds a file with an odd name, {path[:80]!r}")
    if not stat.S_ISREG(file.lstat().st_mode):
        raise _refused(root, f"holds {path}, which is a link or no plain file")
    if file.lstat().st_size > FILE_BYTES_MAX:
        raise _refused(root, f"holds {path}, which is larger than {FILE_BYTES_MAX} bytes")


def _refused(root: Path, what: str) -> OperatorError:
    return OperatorError(
        f"{root} {what}: it is no bundle that could be pinned.",
        fix="Copy the bundle's configs/, scripts/ and licence into a folder of its own, and add "
        "that.",
        exit_code=EXIT_DATA,
    )


def _put(home: Home, digest: bytes, name: str, contents: Mapping[str, bytes]) -> None:
    """Under its digest in one step: a bundle is there whole or not at all."""
    target = _folder(home, digest)
    home.bundles.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".adding-", dir=home.bundles) as directory:
        made = Path(directory) / "bundle"
        for path, raw in contents.items():
            file = made / _FILES / path
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(file, raw, mode=0o400)
        write_durably(made / _NAME_FILE, name.encode())
        if target.exists():
            shutil.rmtree(target)
        made.rename(target)
    sync_directory(home.bundles)
