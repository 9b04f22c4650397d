"""Finding a study by the beginning of its id, and its manifest, whose hash is the id."""

from __future__ import annotations

from collections.abc import Iterator

from p2pfl.core.history import History
from p2pfl.core.manifest import MANIFEST_BYTES_MAX, Manifest, StudyId, parse_manifest
from p2pfl.runtime.errors import EXIT_DATA, EXIT_NO_INPUT, EXIT_USAGE, OperatorError
from p2pfl.runtime.home import Home, read_bounded

PREFIX_DIGITS_MIN = 6


def find_study(home: Home, history: History, prefix: str) -> StudyId:
    """The one study whose id starts with `prefix` (hex, 6 digits or more). Raises OperatorError."""
    text = prefix.strip().lower()
    if len(text) < PREFIX_DIGITS_MIN or set(text) - set("0123456789abcdef"):
        raise OperatorError(
            f'"{prefix}" is not the beginning of a study id.',
            fix="Give 6 hex digits or more of an id from `p2pfl study list`.",
            exit_code=EXIT_USAGE,
        )
    known = {study.hex() for study in history.studies}
    known |= {path.stem for path in home.studies.glob("*.toml")}
    found = sorted(name for name in known if name.startswith(text))
    if len(found) != 1:
        what = f"{len(found)} studies begin" if found else "No study begins"
        raise OperatorError(
            f'{what} with "{prefix}".',
            fix="Give more digits; `p2pfl study list` shows them."
            if found
            else "See `p2pfl study list`; a study from another site comes by `study import` or "
            "through the running node.",
            exit_code=EXIT_NO_INPUT,
        )
    return StudyId(bytes.fromhex(found[0]))


def read_manifest(home: Home, study: StudyId) -> Manifest:
    """The stored manifest, its hash verified. Raises OperatorError."""
    path = home.study(study)
    manifest = parse_manifest(read_bounded(path, MANIFEST_BYTES_MAX))
    if manifest.study_id != study:
        raise OperatorError(
            f"{path} was changed: its SHA-256 is {manifest.study_id.hex()}.",
            fix="Delete it and import the study again.",
            exit_code=EXIT_DATA,
        )
    return manifest


def kept_manifests(home: Home) -> Iterator[Manifest]:
    """Every study manifest in the home. Raises OperatorError for a changed one."""
    for path in sorted(home.studies.glob("*.toml")):
        if len(path.stem) == 64:
            yield read_manifest(home, StudyId(bytes.fromhex(path.stem)))
