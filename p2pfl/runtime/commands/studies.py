"""Studies as one site sees them: checking, proposing, importing, listing, reading."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path

from gossip.envelope import open_envelope, seal
from gossip.identifiers import SiteId
from gossip.limits import ENVELOPE_BYTES_MAX, INLINE_BYTES_MAX
from gossip.messages import StudyProposal
from gossip.roster import Roster
from ledger.provenance import kinds
from ledger.provenance.moments import moment_of
from p2pfl.core.history import History, Standing
from p2pfl.core.manifest import MANIFEST_BYTES_MAX, Manifest, StudyId, parse_manifest
from p2pfl.core.planned import rounds_planned
from p2pfl.runtime.blobs import vector_of
from p2pfl.runtime.commands.bundles import bundle_seen
from p2pfl.runtime.commands.code_seen import code_seen
from p2pfl.runtime.commands.opening import Site, installed_roster, read_history, required_roster
from p2pfl.runtime.commands.plan_texts import require_readable, try_text
from p2pfl.runtime.commands.study_bundle import check_bundle
from p2pfl.runtime.commands.study_drafting import hindrances, make_initial_model
from p2pfl.runtime.commands.study_lookup import find_study, kept_manifests, read_manifest
from p2pfl.runtime.commands.study_words import StudySummary, apart_words, summary
from p2pfl.runtime.errors import (
    EXIT_DATA,
    EXIT_NO_INPUT,
    EXIT_REFUSED,
    OperatorError,
    as_sentence,
)
from p2pfl.runtime.home import Home, read_bounded, write_durably
from p2pfl.runtime.policy import PLANS

_NEXT = {
    Standing.UNDECIDED: "There is no approval yet: `p2pfl study approve {study}` gives one, "
    "`p2pfl study refuse {study}` says no.",
    Standing.APPROVED: "Nothing is to be done; `p2pfl study revoke {study}` takes it back.",
    Standing.AWAY: "`p2pfl study back {study}` takes part again; `p2pfl study revoke` ends it.",
    Standing.REFUSED: "Nothing is to be done; `p2pfl study approve {study}` changes your mind.",
    Standing.REVOKED: "Nothing is to be done; `p2pfl study approve {study}` lets it go on.",
    Standing.CLOSED: "It is over here; ask the proposer for a new study.",
}


@dataclass(frozen=True, slots=True)
class StudyFile:
    """A manifest or proposal file."""

    file: Path


@dataclass(frozen=True, slots=True)
class StudyPropose:
    """Propose a manifest. out: where the proposal file for other sites is written."""

    file: Path
    out: Path


@dataclass(frozen=True, slots=True)
class StudyKept:
    """A study that is on record here now."""

    study: bytes
    name: str
    proposer: str
    proposal: Path | None
    """The file to hand to other sites, from `study propose` only."""
    warnings: tuple[str, ...] = ()
    """Why the proposer itself could not approve it on any of its datasets, and neighbours that
    cannot reach each other."""


@dataclass(frozen=True, slots=True)
class StudyLine:
    """One line of `study list`."""

    study: bytes
    name: str
    proposer: str
    standing: str
    rounds_done: int
    rounds: int
    expires_s: int
    is_paused: bool
    """Whether it would go on here but for its proposer's pause."""
    is_stopped: bool
    """Whether its proposer ended it early; what is under way here comes to its end."""


def study_validate(home: Home, request: StudyFile) -> StudySummary:
    """Everything that can be checked about a manifest before proposing it.

    The home need not exist; it gives the sites their names. Raises ManifestError, OperatorError.
    """
    manifest = parse_manifest(read_bounded(request.file, MANIFEST_BYTES_MAX))
    _check_plan(manifest)
    _check_text(home, manifest)
    check_bundle(home, manifest)
    seen, bundle = code_seen(None, None, manifest), bundle_seen(home, None, manifest)
    return summary(manifest, installed_roster(home), None, seen, bundle)


def study_propose(site: Site, request: StudyPropose) -> StudyKept:
    """Record a study as proposed by this site, and seal it for the others.

    Raises OperatorError if a site is not on the roster, the study expired, or the initial model
    is not the one the manifest names.
    """
    manifest = parse_manifest(read_bounded(request.file, MANIFEST_BYTES_MAX))
    roster = required_roster(site.home)
    _check_plan(manifest)
    _check_for_us(manifest, roster, site.keys.site, site.now_us())
    _ensure_initial_model(site, manifest)
    initial = site.blobs.read_bytes(manifest.study.initial_model)
    message = StudyProposal(manifest.raw, initial if len(initial) <= INLINE_BYTES_MAX else b"")
    raw = seal(site.keys.transport, site.keys.site, roster.consortium, message)
    _keep(site, manifest, site.keys.site)
    write_durably(request.out, raw, mode=0o644)
    kept = _kept(manifest, roster, site.keys.site, request.out)
    return replace(kept, warnings=(*_hindrances(site, manifest), *kept.warnings))


def study_import(site: Site, request: StudyFile) -> StudyKept:
    """Take over a study from a proposal file that another site sealed.

    Raises OperatorError, or PeerError if the file is not what a member of the roster sealed.
    """
    roster = required_roster(site.home)
    envelope = open_envelope(read_bounded(request.file, ENVELOPE_BYTES_MAX), roster)
    if not isinstance(envelope.message, StudyProposal):
        raise OperatorError(
            f"{request.file} holds a {type(envelope.message).__name__}, not a study.",
            fix="Ask the proposer for the file that `p2pfl study propose` wrote.",
            exit_code=EXIT_DATA,
        )
    manifest = parse_manifest(envelope.message.manifest)
    _check_for_us(manifest, roster, site.keys.site, site.now_us())
    if envelope.message.initial:
        # Looked at before it is kept: right shape, finite, and the digest the manifest names.
        vector_of(envelope.message.initial, manifest.study.parameters)
        digest = site.blobs.put_bytes(envelope.message.initial)
        if digest != manifest.study.initial_model:
            raise OperatorError(
                "The initial model in the file is not the one the manifest names.",
                fix="Ask the proposer for the file again.",
                exit_code=EXIT_DATA,
            )
    _keep(site, manifest, envelope.sender)
    return _kept(manifest, roster, envelope.sender, None)


def study_list(home: Home) -> tuple[StudyLine, ...]:
    """All studies known here."""
    history, roster = read_history(home), installed_roster(home)
    return tuple(_line(manifest, history, roster) for manifest in kept_manifests(home))


def study_show(home: Home, prefix: str) -> StudySummary:
    """One study in words. Raises OperatorError."""
    history = read_history(home)
    manifest = read_manifest(home, find_study(home, history, prefix))
    seen = code_seen(home, history, manifest)
    bundle = bundle_seen(home, history, manifest)
    past = history.study(manifest.study_id)
    return summary(manifest, installed_roster(home), past, seen, bundle)


def _check_for_us(manifest: Manifest, roster: Roster, me: SiteId, now_us: int) -> None:
    strangers = [site for site in manifest.study.sites if site not in roster]
    if strangers:
        raise OperatorError(
            f"{len(strangers)} of the study's sites are not on the roster, the first is "
            f"{strangers[0].hex()[:12]}.",
            fix="Take the sites from `p2pfl roster show`.",
            exit_code=EXIT_DATA,
        )
    if me not in manifest.study.sites:
        raise OperatorError(
            "This site is not among the study's sites.",
            fix="Only sites that the manifest names can take part.",
            exit_code=EXIT_REFUSED,
        )
    if now_us >= manifest.study.expires_us:
        raise OperatorError(
            f"The study expired at {moment_of(manifest.study.expires_us)}; this machine's clock "
            f"says {moment_of(now_us)}.",
            fix="Write a later `expires` (it is another study then), or set the clock if it is "
            "wrong.",
            exit_code=EXIT_REFUSED,
        )


def _check_plan(manifest: Manifest) -> None:
    """A plan that no node has would be approved and then fail everywhere."""
    name = manifest.plan.name
    if name not in PLANS and manifest.foreign is None:
        nearest = difflib.get_close_matches(name, PLANS, n=1)
        hint = f'; did you mean "{nearest[0]}"?' if nearest else ""
        raise OperatorError(
            as_sentence(
                f'The manifest is refused: plan.name is "{name}", no plan of this node{hint}'
            ),
            fix=f"Name one of {', '.join(PLANS)}.",
            exit_code=EXIT_DATA,
        )


def _check_text(home: Home, manifest: Manifest) -> None:
    """A researcher's text is read, then tried on patients who do not exist, confined.

    Raises OperatorError with the line of a mistake."""
    code = manifest.code
    if code is None:
        return
    unnamed = sorted(set(require_readable(code.text).packages) - code.packages.keys())
    if unnamed:
        raise OperatorError(
            f"plan.py imports {unnamed[0]}, which [code] packages does not name.",
            fix="Make the manifest anew with `p2pfl study new --from`.",
            exit_code=EXIT_DATA,
        )
    tried = try_text(home, manifest)
    if tried.parameters != manifest.study.parameters:
        raise OperatorError(
            f"The plan's model has {tried.parameters} parameters, the manifest says "
            f"{manifest.study.parameters}.",
            fix="Make the manifest anew with `p2pfl study new --from`.",
            exit_code=EXIT_DATA,
        )
    if dict(tried.measures) != dict(code.metrics):
        raise OperatorError(
            "The plan measures other things than [code] metrics says.",
            fix="Make the manifest anew with `p2pfl study new --from`.",
            exit_code=EXIT_DATA,
        )


def _ensure_initial_model(site: Site, manifest: Manifest) -> None:
    wanted = manifest.study.initial_model
    start = manifest.material("start")
    if start is not None and not site.blobs.has(wanted):
        raise OperatorError(
            f"The model that the study goes on from, {wanted.hex()[:12]}, is not kept here.",
            fix="Propose the study at the site that released the model.",
            exit_code=EXIT_NO_INPUT,
        )
    if not site.blobs.has(wanted):
        made = make_initial_model(site.home, manifest)
        digest, parameters = made.digest, made.parameters
        if digest != wanted or parameters != manifest.study.parameters:
            raise OperatorError(
                f"The manifest's initial model is {wanted.hex()[:12]} with "
                f"{manifest.study.parameters} parameters; its plan, data and seed give "
                f"{digest.hex()[:12]} with {parameters}.",
                fix=f'Write initial_model = "{digest.hex()}" and parameters = {parameters}, or '
                "make the manifest with `p2pfl study new`.",
                exit_code=EXIT_DATA,
            )
    site.blobs.read_vector(wanted, manifest.study.parameters)


def _keep(site: Site, manifest: Manifest, proposer: SiteId) -> None:
    write_durably(site.home.study(manifest.study_id), manifest.raw)
    if not site.history().study(manifest.study_id).proposer:
        site.record(kinds.StudyProposed(manifest.study_id, proposer).draft("operator"))
    site.audience.manifest_kept(manifest, proposer)


def _hindrances(site: Site, manifest: Manifest) -> tuple[str, ...]:
    """Of the dataset that the least speaks against; nothing where none is registered."""
    usable = [known.terms for known in site.history().datasets.values() if not known.revoked]
    against = [hindrances(site.policy, manifest, terms) for terms in usable]
    fewest: list[str] = min(against, key=len, default=[])
    return tuple(fewest)


def _kept(manifest: Manifest, roster: Roster, proposer: SiteId, out: Path | None) -> StudyKept:
    return StudyKept(
        study=manifest.study_id,
        name=manifest.study.name,
        proposer=roster.member(proposer).name,
        proposal=out,
        warnings=tuple(filter(None, [apart_words(manifest, roster).removesuffix(".")])),
    )


def _line(manifest: Manifest, history: History, roster: Roster | None) -> StudyLine:
    past = history.study(manifest.study_id)
    proposer = SiteId(past.proposer)
    known = roster is not None and proposer in roster
    return StudyLine(
        study=manifest.study_id,
        name=manifest.study.name,
        proposer=roster.member(proposer).name if roster and known else proposer.hex()[:12],
        standing=past.standing.value,
        rounds_done=len(past.averaged),
        rounds=rounds_planned(manifest, past).total,
        expires_s=manifest.study.expires_s,
        is_paused=past.is_held_up,
        is_stopped=past.is_stopped,
    )


def require_standing(history: History, study: StudyId, *allowed: Standing) -> None:
    """Raises OperatorError unless this site's decision about the study is one of `allowed`."""
    standing = history.study(study).standing
    if standing not in allowed:
        known = "already " if standing is not Standing.UNDECIDED else ""
        raise OperatorError(
            f"Study {study.hex()[:12]} is {known}{standing.value} here.",
            fix=_NEXT[standing].format(study=study.hex()[:12]),
            exit_code=EXIT_REFUSED,
        )
