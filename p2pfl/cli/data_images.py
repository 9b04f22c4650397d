"""What people see of images before they register them."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfl.cli.context import say, say_fields, say_json, say_wrapped

if TYPE_CHECKING:
    from p2pfl.runtime.commands.data_images import ImagesLook, ImagesPreview
    from p2pfl.runtime.home import Home

KINDS_LISTED = 6


def is_images(given: Path) -> bool:
    """Whether a person names images: a folder, or a list of them in JSON."""
    return given.is_dir() or given.suffix == ".json"


def look_of(
    folder: Path,
    schema: Path | None,
    mapping: Path | None,
    table: Path | None,
    patient_column: str,
) -> ImagesLook:
    """The request, with absolute paths."""
    from p2pfl.runtime.commands.data_images import ImagesLook

    def absolute(path: Path | None) -> Path | None:
        return None if path is None else path.absolute()

    return ImagesLook(
        folder.absolute(), absolute(schema), absolute(mapping), absolute(table), patient_column
    )


@contextlib.contextmanager
def looked_at(home: Home, look: ImagesLook) -> Iterator[tuple[Path, ImagesPreview]]:
    """Look at images with a bar on a terminal; yields what `scan_images` yields."""
    from p2pfl.cli.progress import counted
    from p2pfl.runtime.commands.data_images import scan_images

    with contextlib.ExitStack() as stack:
        with counted("Looking at patients") as progress:
            found = stack.enter_context(scan_images(home, look, progress))
        yield found


def keep_contact(scan: Path, wanted: Path | None) -> Path | None:
    """Copy the picture to where a person wants it; never over another file."""
    from p2pfl.runtime.errors import EXIT_CANNOT_CREATE, OperatorError

    if wanted is None:
        return None
    try:
        descriptor = os.open(wanted, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise OperatorError(
            f"{wanted} cannot be written: {error.strerror}.",
            fix="Name another file with --contact; nothing is ever overwritten.",
            exit_code=EXIT_CANNOT_CREATE,
        ) from error
    with os.fdopen(descriptor, "wb") as file, (scan / "contact.png").open("rb") as picture:
        shutil.copyfileobj(picture, file)
    return wanted


def tell_preview(seen: ImagesPreview, contact: Path | None, *, as_json: bool) -> None:
    """Print what was found."""
    if as_json:
        say_json(seen)
        return
    complete = ", ".join(
        f"{name} {count}/{seen.patients}" for name, count in sorted(seen.modalities.items())
    )
    fields = [
        ("patients", f"{seen.patients}, {seen.volumes} volumes"),
        ("modalities", complete),
        ("voxels", _counted(seen.shapes)),
        ("spacing", f"{_counted(seen.spacings)} (mm)"),
        ("masks", f"{seen.masks} of {seen.patients} patients"),
    ]
    if seen.labels:
        each = ", ".join(f"{label}: {count}" for label, count in seen.labels.items())
        fields.append(("labels", f"{each} (patients with each, of {seen.looked_into} looked into)"))
    if contact is not None:
        fields.append(("picture", str(contact)))
    say_fields(fields)
    for warning in seen.warnings:
        say_wrapped(f"Warning: {warning}.")
    say("These numbers are for people at this site alone.")
    say()


def _counted(found: Mapping[str, int]) -> str:
    shown = [f"{name} ({count}×)" for name, count in list(found.items())[:KINDS_LISTED]]
    more = len(found) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
