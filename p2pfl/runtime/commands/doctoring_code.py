"""The doctor's look at what others wrote and this site approved: would it still start here?"""

from __future__ import annotations

from ledger.log import LogReader, OnDamage
from p2pfl.core.history import History
from p2pfl.runtime.commands.doctoring import Checks, failed, ok, warn
from p2pfl.runtime.commands.study_lookup import read_manifest
from p2pfl.runtime.errors import OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.plan_code import versions_changed


def check_code(home: Home) -> Checks:
    """The packages of each approved study with code or a bundle, then and now."""
    if not home.ledger_db.is_file():
        return  # another check says so
    reader = LogReader.open(home.path, on_damage=OnDamage.SHOW)
    try:
        history = History(reader.entries())
    finally:
        reader.close()
    for study, past in sorted(history.studies.items()):
        if past.code is None or not past.is_reserved:
            continue
        try:
            manifest = read_manifest(home, study)
        except OperatorError as error:
            yield failed("code", error)
            continue
        if manifest.foreign is None:
            continue
        name = f'The code of "{manifest.study.name}" ({study.hex()[:12]})'
        changed = versions_changed(manifest.foreign.packages, past.code)
        if changed:
            yield warn(
                "code",
                f"{name} does not start: {changed}.",
                "Install what was approved, or revoke the study and approve it again.",
            )
        else:
            yield ok("code", f"{name} finds its {len(past.code.versions)} packages as approved")
