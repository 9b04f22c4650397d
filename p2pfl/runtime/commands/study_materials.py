"""Released models that a new study builds on: named by the proposer, looked up by who approves.

Responsible for where a model comes from. That its bytes are the named ones follows from its digest.
"""

from __future__ import annotations

from collections.abc import Iterator

from gossip.identifiers import Digest, SiteId
from gossip.limits import MANIFEST_BYTES_MAX
from ledger.log import Draft, Entry
from ledger.provenance import kinds
from p2pfl.core.errors import ManifestError
from p2pfl.core.manifest import Manifest, Material, StudyId, parse_manifest
from p2pfl.core.manifest_terms import Use
from p2pfl.runtime.commands.counts import CountsSeen, released_counts
from p2pfl.runtime.commands.models import Released, released_model
from p2pfl.runtime.commands.opening import Site, installed_roster
from p2pfl.runtime.errors import EXIT_DATA, EXIT_REFUSED, EXIT_USAGE, OperatorError
from p2pfl.runtime.home import Home, read_own


def material_of(home: Home, me: SiteId, prefix: str, use: Use) -> tuple[Material, Released]:
    """The model that a study released here, to be named in a manifest. Raises OperatorError."""
    found = released_model(home, prefix)
    manifest = found.manifest
    if (manifest.plan.name == "statistics") != (use == "standardise"):
        wanted = "statistics" if use == "standardise" else "a model"
        raise OperatorError(
            f"{manifest.study.name} released {_released_what(manifest)}, not {wanted}.",
            fix="Name another study: `p2pfl model list` shows what was released here.",
            exit_code=EXIT_USAGE,
        )
    if manifest.plan.name == "evaluation":
        raise OperatorError(
            f"{manifest.study.name} released metrics, which no study can build on.",
            fix="Name the study whose model was tried: `p2pfl study show` names it.",
            exit_code=EXIT_USAGE,
        )
    if use == "standardise":
        _check_usable(released_counts(home, prefix))
    material = Material(
        use=use,
        model=Digest(found.seen.hash),
        study=StudyId(found.seen.study),
        site=me,
        entry=found.seen.seq,
        parameters=manifest.study.parameters,
    )
    return material, found


def _check_usable(counts: CountsSeen) -> None:
    """Raises OperatorError where noise has left nothing of a column: no site could train on it."""
    columns = counts.report["columns"] if isinstance(counts.report, dict) else None
    unusable = [
        column["unusable"]
        for column in (columns if isinstance(columns, list) else [])
        if isinstance(column, dict) and "unusable" in column
    ]
    if unusable:
        raise OperatorError(
            f"The statistics of {counts.name} cannot scale {len(unusable)} of the columns; the "
            f"first: {unusable[0]}.",
            fix="Count again with a larger --epsilon, fewer columns or more patients, or leave "
            "--standardise out: columns are then scaled by their agreed ranges.",
            exit_code=EXIT_DATA,
        )


def _released_what(manifest: Manifest) -> str:
    return {"statistics": "statistics", "evaluation": "metrics"}.get(manifest.plan.name, "a model")


def check_materials(site: Site, manifest: Manifest, entries: tuple[Entry, ...]) -> None:
    """Look up where a study's materials come from, as far as this site can.

    Raises OperatorError where what is known here contradicts the manifest.
    """
    roster = installed_roster(site.home)
    for material in manifest.materials:
        if material.site == site.keys.site:
            _check_own(material, entries)
        elif roster is not None and material.site not in roster:
            raise OperatorError(
                f"[{material.use}] names a model of {material.site.hex()[:12]}, which is no member "
                "of the consortium.",
                fix="Refuse the study; its proposer can name a member's release.",
                exit_code=EXIT_REFUSED,
            )
        _check_source(site.home, manifest, material)


def _check_own(material: Material, entries: tuple[Entry, ...]) -> None:
    entry = next((found for found in entries if found.seq == material.entry), None)
    record = (
        kinds.parse(entry) if entry is not None and entry.kind == kinds.ModelReleased.KIND else None
    )
    wanted = (material.study, material.model)
    if not isinstance(record, kinds.ModelReleased) or (record.study, record.hash) != wanted:
        raise OperatorError(
            f"[{material.use}] names entry {material.entry} of this site's ledger, which released "
            "no such model.",
            fix="Refuse the study, and tell its proposer.",
            exit_code=EXIT_REFUSED,
        )


def _check_source(home: Home, manifest: Manifest, material: Material) -> None:
    """Statistics describe the very columns they scale; a model sees what it was trained on."""
    source = source_of(home, material.study)
    if source is None:
        return  # a study this site knows nothing of; its digest still holds
    if source.study.parameters != material.parameters:
        raise OperatorError(
            f"[{material.use}] says {material.parameters} numbers, its study has "
            f"{source.study.parameters}.",
            fix="Refuse the study, and tell its proposer.",
            exit_code=EXIT_REFUSED,
        )
    if source.data.columns != manifest.data.columns:
        raise OperatorError(
            f"[{material.use}] comes from study {source.study.name}, whose columns or agreed "
            "ranges are others than this study's: the numbers would mean something else.",
            fix="Make the manifest anew with `p2pfl study new`, with the same [data] section.",
            exit_code=EXIT_REFUSED,
        )


def source_of(home: Home, study: StudyId) -> Manifest | None:
    """The manifest of the study a material comes from, if it is kept here."""
    path = home.study(study)
    try:
        return parse_manifest(read_own(path, MANIFEST_BYTES_MAX))
    except (OSError, ManifestError):
        return None


def adoptions(manifest: Manifest) -> Iterator[Draft]:
    """What goes on record together with an approval."""
    for found in manifest.materials:
        adopted = kinds.ModelAdopted(
            study=manifest.study_id,
            use=found.use,
            hash=found.model,
            of_study=found.study,
            of_site=found.site,
            of_seq=found.entry,
        )
        yield adopted.draft("node")
