"""policy.toml: what this site allows, whoever asks. The strictest reading is the default."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

import tomli_w

from p2pfl.core.errors import ManifestError
from p2pfl.core.manifest import RULES, Manifest, checked_delta
from p2pfl.core.manifest_bundle import BUNDLE_PLAN
from p2pfl.core.manifest_code import CODE_PLAN
from p2pfl.core.manifest_table import Table, parse_toml
from p2pfl.runtime.errors import EXIT_CONFIG, OperatorError, as_sentence
from p2pfl.runtime.home import Home, read_own
from p2pfl.runtime.training_usage import DISK_KEY, MEMORY_KEY, Allowance

POLICY_BYTES_MAX: Final = 64 * 1024
GIB_MIN: Final = 0.25
GIB_MAX: Final = 65_536.0
PLANS: Final = (
    "tabular-logistic",
    "tabular-mlp",
    "tabular-cox",
    "tabular-vae",
    "segmentation",
    "image-classification",
    "image-table-fusion",
    "statistics",
    "evaluation",
)

CONFINEMENT_MIN: Final = "C"
"""What a site asks for that says nothing about it."""
_KEYS: Final = (
    "allow_no_privacy",
    "allow_privacy_by_code",
    "confinement_min",
    "epsilon_cap",
    "delta",
    "patients_min",
    "units",
    "rules",
    "plans",
    "roles",
    "faulty_witnesses",
    "keep_rounds",
    MEMORY_KEY,
    DISK_KEY,
)
_CODE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules a study has to pass before a person is even asked."""

    allow_no_privacy: bool = False
    """Whether a study with mechanism "none" may be approved here."""
    allow_privacy_by_code: bool = False
    """Whether a researcher's own code may be what keeps a study's ε: no node could enforce it."""
    confinement_min: str = CONFINEMENT_MIN
    """The weakest level at which a node starts here. "D": the plans shipped with it train
    unconfined where this machine can do no better; researchers' code needs C in any case."""
    epsilon_cap: float = 8.0
    """Cap of a dataset over all studies, unless `data add --epsilon-cap` says less."""
    delta: str = "1e-3"
    """δ of a dataset, for good, unless `data add --delta` says less."""
    patients_min: int = 20
    units: tuple[str, ...] = ("patient",)
    """Units of privacy that are protection enough."""
    rules: tuple[str, ...] = RULES
    plans: tuple[str, ...] = PLANS
    """Training plans: those whose code was shipped with the node, and "code" where researchers'
    own may run, confined, once somebody here has approved its text."""
    roles: tuple[str, ...] = ("data-owner",)
    """Roles that may approve; the first is the default of `study approve`."""
    faulty_witnesses: int | None = None
    """How many of the other sites may lie about ledgers at once, as the consortium agreed; a third
    of them, rounded down, if it did not."""
    keep_rounds: int | None = None
    """Of each study, the newest rounds whose models stay for audits; None: all of them."""
    training_memory_gib: float | None = None
    """Memory of one study's training processes together; None: a share of the machine's."""
    training_disk_gib: float | None = None
    """What they may write to the study's folder; None: half of what is free as they start."""

    @property
    def allowance(self) -> Allowance:
        """What the training processes of one study may use up."""
        return Allowance.of_gib(self.training_memory_gib, self.training_disk_gib)


def render_policy(policy: Policy) -> bytes:
    """The TOML of a policy."""
    document: dict[str, object] = {
        "allow_no_privacy": policy.allow_no_privacy,
        "allow_privacy_by_code": policy.allow_privacy_by_code,
        "confinement_min": policy.confinement_min,
        "epsilon_cap": policy.epsilon_cap,
        "delta": policy.delta,
        "patients_min": policy.patients_min,
        "units": list(policy.units),
        "rules": list(policy.rules),
        "plans": list(policy.plans),
        "roles": list(policy.roles),
    }
    if policy.faulty_witnesses is not None:
        document["faulty_witnesses"] = policy.faulty_witnesses
    if policy.keep_rounds is not None:
        document["keep_rounds"] = policy.keep_rounds
    for key in (MEMORY_KEY, DISK_KEY):
        if (most := getattr(policy, key)) is not None:
            document[key] = most
    return tomli_w.dumps(document).encode()


def read_policy(path: Path) -> tuple[Policy, bytes]:
    """Read policy.toml strictly; returns it with the SHA-256 of its bytes.

    A file that is missing is an error: a policy never falls back to something nobody wrote.
    Raises OperatorError that names the nearest key.
    """
    try:
        raw = read_own(path, POLICY_BYTES_MAX)
        return _policy(Table(parse_toml(raw, bytes_max=POLICY_BYTES_MAX), "", _KEYS)), (
            hashlib.sha256(raw).digest()
        )
    except FileNotFoundError:
        raise OperatorError(
            f"{path} is missing.",
            fix="Restore it from the backup of this home.",
            exit_code=EXIT_CONFIG,
        ) from None
    except ManifestError as error:
        raise OperatorError(
            as_sentence(f"{path}: {error}"),
            fix="Correct the file; nothing was started or changed.",
            exit_code=EXIT_CONFIG,
        ) from error


def allowance_of(home: Home) -> Allowance:
    """What foreign code may use up in a command at this site; the default without a policy.

    Raises OperatorError for a policy that says something else than it means."""
    return read_policy(home.policy)[0].allowance if home.policy.exists() else Allowance()


def _policy(table: Table) -> Policy:
    default = Policy()
    delta = default.delta
    if table.has("delta"):
        delta = checked_delta(table.at("delta"), table.text("delta", _DELTA, 'like "1e-5"'))
    return Policy(
        allow_no_privacy=table.boolean("allow_no_privacy")
        if table.has("allow_no_privacy")
        else default.allow_no_privacy,
        allow_privacy_by_code=table.boolean("allow_privacy_by_code")
        if table.has("allow_privacy_by_code")
        else default.allow_privacy_by_code,
        confinement_min=table.choice("confinement_min", ("B", "C", "D"))
        if table.has("confinement_min")
        else default.confinement_min,
        epsilon_cap=table.number("epsilon_cap", 0.001, 100.0)
        if table.has("epsilon_cap")
        else default.epsilon_cap,
        delta=delta,
        patients_min=table.integer("patients_min", 1, 10_000_000)
        if table.has("patients_min")
        else default.patients_min,
        units=_codes(table, "units", default.units, ("patient", "record", "site")),
        rules=_codes(table, "rules", default.rules, RULES),
        plans=_codes(table, "plans", default.plans, (*PLANS, CODE_PLAN, BUNDLE_PLAN)),
        roles=_codes(table, "roles", default.roles, ()),
        faulty_witnesses=table.integer("faulty_witnesses", 0, 255)
        if table.has("faulty_witnesses")
        else None,
        keep_rounds=table.integer("keep_rounds", 0, 1_000_000)
        if table.has("keep_rounds")
        else None,
        training_memory_gib=_gib(table, MEMORY_KEY),
        training_disk_gib=_gib(table, DISK_KEY),
    )


def _gib(table: Table, key: str) -> float | None:
    return table.number(key, GIB_MIN, GIB_MAX) if table.has(key) else None


_DELTA: Final = re.compile(r"[0-9.e-]{1,32}")


def _codes(
    table: Table, key: str, default: tuple[str, ...], choices: tuple[str, ...]
) -> tuple[str, ...]:
    if not table.has(key):
        return default
    pattern = re.compile("|".join(re.escape(choice) for choice in choices)) if choices else _CODE
    expected = "one of " + ", ".join(choices) if choices else "a code of a-z, 0-9 and -"
    return table.texts(key, pattern, expected, count_max=64)


@dataclass(frozen=True, slots=True)
class Objection:
    """One reason why the policy refuses a study: a code for the ledger, a sentence for people."""

    code: str
    sentence: str


def objections(
    policy: Policy, manifest: Manifest, delta: str, patients: int
) -> Iterator[Objection]:
    """Everything the policy has against a study on a dataset.

    delta: the dataset's; patients: its public bucket.
    """
    privacy = manifest.privacy
    if not privacy.is_private:
        if not policy.allow_no_privacy:
            yield Objection(
                "no-privacy",
                "the study trains without differential privacy and policy.toml has "
                "allow_no_privacy = false",
            )
    else:
        # Who protects everything a site has protects each of its patients and records, too.
        if privacy.unit not in policy.units and privacy.unit != "site":
            yield Objection(
                "privacy-unit",
                f"the study protects one {privacy.unit}; policy.toml asks for {policy.units}",
            )
        if Decimal(privacy.delta) != Decimal(delta):
            yield Objection(
                "delta",
                f"the study counts ε at δ = {privacy.delta}, the dataset at δ = {delta}",
            )
    if manifest.averaging.rule not in policy.rules:
        yield Objection("rule", f"policy.toml does not allow the rule {manifest.averaging.rule}")
    yield from _against_plan(policy, manifest)
    needed = max(policy.patients_min, manifest.data.patients_min)
    if patients < needed:
        yield Objection(
            "patients", f"the dataset counts {patients} patients publicly, {needed} are needed"
        )


def _against_plan(policy: Policy, manifest: Manifest) -> Iterator[Objection]:
    code = manifest.code
    if manifest.bundle is not None:
        if BUNDLE_PLAN not in policy.plans:
            yield Objection(
                "bundle",
                "the study runs a MONAI bundle, and policy.toml does not name "
                f'"{BUNDLE_PLAN}" in plans',
            )
        return
    if manifest.plan.name not in policy.plans and code is None:
        yield Objection("plan", f"policy.toml does not allow the plan {manifest.plan.name}")
    if code is None:
        return
    if CODE_PLAN not in policy.plans:
        yield Objection(
            "code",
            "the study runs code that a researcher wrote, and policy.toml does not name "
            f'"{CODE_PLAN}" in plans',
        )
    if not code.is_enforced and not policy.allow_privacy_by_code:
        yield Objection(
            "privacy-by-code",
            'the study\'s ε would be by approved code ([code] gradients = "inside"): no node could '
            "enforce it, and policy.toml has allow_privacy_by_code = false",
        )
