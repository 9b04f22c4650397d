"""The study manifest: what is written comes back, and nothing that is wrong gets through."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ops_manifests import AVERAGING, DATA, PLAN, PRIVACY, SITES, STUDY, rendered

from p2pfl.core import errors
from p2pfl.core.manifest import (
    MANIFEST_BYTES_MAX,
    NO_PRIVACY,
    CategoryColumn,
    NumberColumn,
    PlanTerms,
    PrivacyTerms,
    parse_data_section,
    parse_manifest,
)
from p2pfl.core.manifest_writing import render_data

EXPIRES = "expires = 2030-03-17 17:46:40+00:00"


def with_line(old: str, new: str) -> bytes:
    raw = rendered()
    assert raw.count(old.encode()) == 1, f"{old!r} is not exactly once in the manifest"
    return raw.replace(old.encode(), new.encode())


def test_what_is_written_comes_back() -> None:
    manifest = parse_manifest(rendered())
    assert manifest.study == STUDY
    assert manifest.plan == PLAN
    assert manifest.data == DATA
    assert manifest.privacy == PRIVACY
    assert manifest.averaging == AVERAGING


def test_study_id_is_the_sha256_of_the_bytes_as_proposed() -> None:
    raw = rendered() + b"\n# a comment changes the id, because it is part of what is approved\n"
    assert parse_manifest(raw).study_id == hashlib.sha256(raw).digest()


def test_one_study_has_one_canonical_form() -> None:
    shuffled = replace(PLAN, arguments=dict(reversed(PLAN.arguments.items())))
    assert rendered(plan=shuffled) == rendered()


def test_derived_numbers() -> None:
    manifest = parse_manifest(rendered())
    assert manifest.study.rounds_total == 33
    assert manifest.study.expires_us == 1_900_000_000_000_000
    assert manifest.data.features == 5
    assert manifest.privacy.is_private
    assert manifest.privacy.accounted == "gaussian"


def test_sampled_study_is_accounted_as_poisson() -> None:
    sampled = replace(PRIVACY, sampling="poisson", sampling_rate=0.1)
    assert parse_manifest(rendered(privacy=sampled)).privacy.accounted == "poisson"


def test_no_privacy_is_possible_when_it_is_written_out() -> None:
    manifest = parse_manifest(rendered(privacy=NO_PRIVACY))
    assert not manifest.privacy.is_private
    assert manifest.privacy.accounted == "none"


def test_missing_privacy_section_says_that_privacy_has_to_be_written() -> None:
    raw = rendered().split(b"[privacy]")[0] + b"[averaging]" + rendered().split(b"[averaging]")[1]
    with pytest.raises(errors.MissingKey, match='write \\[privacy\\] mechanism = "none"'):
        parse_manifest(raw)


def test_numbers_beside_mechanism_none_are_refused() -> None:
    raw = rendered(privacy=NO_PRIVACY).replace(
        b'mechanism = "none"', b'mechanism = "none"\nepsilon = 3.0'
    )
    with pytest.raises(errors.Inconsistent, match=r"privacy\.epsilon means nothing"):
        parse_manifest(raw)


@pytest.mark.parametrize(
    ("old", "new", "nearest"),
    [
        ("rounds = 30", "rouns = 30", "rounds"),
        ("[privacy]", "[privcy]", "privacy"),
        ("clip_norm", "clipnorm", "clip_norm"),
        ("byzantine", "byzantin", "byzantine"),
        ("holdout", "hold_out", "holdout"),
        ("typical", "typicl", "typical"),
    ],
)
def test_unknown_key_names_the_nearest(old: str, new: str, nearest: str) -> None:
    with pytest.raises(errors.UnknownKey) as caught:
        parse_manifest(with_line(old, new))
    assert caught.value.nearest == nearest
    assert f'did you mean "{nearest}"?' in str(caught.value)


def test_unknown_key_that_resembles_nothing_is_refused_without_a_guess() -> None:
    with pytest.raises(errors.UnknownKey) as caught:
        parse_manifest(rendered() + b"\n[zzzzzz]\n")
    assert caught.value.nearest == ""
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("\nrounds = 30", "\nrounds = 0", "study.rounds"),
        ("\nrounds = 30", "\nrounds = 1001", "study.rounds"),
        ("consensus_rounds = 3", "consensus_rounds = -1", "study.consensus_rounds"),
        ("sites_min = 4", "sites_min = 6", "study.sites_min"),
        ("neighbours_min = 2", "neighbours_min = 5", "study.neighbours_min"),
        ("round_deadline_s = 30.0", "round_deadline_s = 0.0", "study.round_deadline_s"),
        ("round_deadline_s = 30.0", "round_deadline_s = inf", "study.round_deadline_s"),
        ("seed = 7", "seed = -7", "study.seed"),
        ("parameters = 17", "parameters = 0", "study.parameters"),
        ('name = "heart-disease"', 'name = "Heart Disease"', "study.name"),
        ("holdout = 0.34", "holdout = 34", "data.holdout"),
        ("patients_min = 20", "patients_min = 0", "data.patients_min"),
        ("typical = 55.0", "typical = 155.0", "data.columns[0].typical"),
        ("epsilon = 3.0", "epsilon = 0.0", "privacy.epsilon"),
        ('delta = "1e-3"', 'delta = "0.5"', "privacy.delta"),
        ('delta = "1e-3"', 'delta = "-1e-3"', "privacy.delta"),
        ('delta = "1e-3"', 'delta = "1e-11"', "privacy.delta"),
        ("noise_multiplier = 9.1", "noise_multiplier = 0.2", "privacy.noise_multiplier"),
        ("noise_multiplier = 9.1", "noise_multiplier = nan", "privacy.noise_multiplier"),
        ("clip_norm = 2.0", "clip_norm = 0.0", "privacy.clip_norm"),
        ("steps_per_round = 1", "steps_per_round = 0", "privacy.steps_per_round"),
        ('unit = "patient"', 'unit = "slice"', "privacy.unit"),
        ('rule = "gm_clip"', 'rule = "crumb"', "averaging.rule"),
        ('topology = "complete"', 'topology = "star"', "averaging.topology"),
        ("byzantine = 0.2", "byzantine = 0.5", "averaging.byzantine"),
        ('kind = "tabular"', 'kind = "imaging"', "data.kind"),
        ('type = "number"', 'type = "text"', "data.columns[0].type"),
        (EXPIRES, "expires = 2030-03-17 17:46:40", "study.expires"),
        (EXPIRES, "expires = 2130-03-17T00:00:00Z", "study.expires"),
        (
            "expires = 2030-03-17 17:46:40+00:00",
            "expires = 2030-03-17T00:00:00.5Z",
            "study.expires",
        ),
        ("learning_rate = 0.5", "learning_rate = 1e10", "plan.arguments.learning_rate"),
        ("local_steps = 10", 'local_steps = "' + "x" * 65 + '"', "plan.arguments.local_steps"),
        ("local_steps = 10", '"Local Steps" = 10', "plan.arguments"),
        ("    2.0,\n]", "    0.001,\n]", "plan.ranges.learning_rate"),
        ("    20.0,\n    90.0,\n", "    90.0,\n    20.0,\n", "data.columns[0].range"),
        ("    20.0,\n    90.0,\n", "    20.0,\n", "data.columns[0].range"),
    ],
)
def test_value_out_of_range_names_its_key(old: str, new: str, key: str) -> None:
    with pytest.raises(errors.OutOfRange) as caught:
        parse_manifest(with_line(old, new))
    assert caught.value.key == key
    assert "expected" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("\nrounds = 30", "\nrounds = 30.5", "study.rounds"),
        ("\nrounds = 30", "\nrounds = true", "study.rounds"),
        ("round_deadline_s = 30.0", 'round_deadline_s = "30"', "study.round_deadline_s"),
        ('name = "heart-disease"', "name = 3", "study.name"),
        ('delta = "1e-3"', "delta = 1e-3", "privacy.delta"),
        ('rule = "gm_clip"', "rule = 1", "averaging.rule"),
        (EXPIRES, 'expires = "2030"', "study.expires"),
        ("[averaging.parameters]", "parameters = 3", "averaging.parameters"),
        (
            "[plan.ranges]\nlearning_rate = [",
            "[plan.ranges]\nlearning_rate = [1.0,",
            "plan.ranges.learning_rate",
        ),
        ("[data.target]", "[data.target.deep]", "data.target.column"),
    ],
)
def test_value_of_another_type_names_its_key(old: str, new: str, key: str) -> None:
    with pytest.raises((errors.WrongType, errors.UnknownKey, errors.MissingKey)) as caught:
        parse_manifest(with_line(old, new))
    assert caught.value.key.startswith(key.rsplit(".", 1)[0])


def test_sections_have_to_be_tables() -> None:
    with pytest.raises(errors.WrongType, match="a table"):
        parse_manifest(b"study = 3")


def test_sites_have_to_be_sorted_and_distinct() -> None:
    for sites in (tuple(reversed(SITES)), (*SITES, SITES[-1])):
        with pytest.raises(errors.Inconsistent, match=r"study\.sites"):
            parse_manifest(rendered(study=replace(STUDY, sites=sites)))


def test_site_ids_have_to_be_hex_digests() -> None:
    with pytest.raises(errors.OutOfRange, match=r"study\.sites\[0\]"):
        parse_manifest(rendered().replace(b'"' + b"00" * 32 + b'"', b'"00"'))
    with pytest.raises(errors.WrongType, match=r"study\.sites\[0\]"):
        parse_manifest(rendered().replace(b'"' + b"00" * 32 + b'"', b"3"))


def test_a_study_needs_two_sites() -> None:
    with pytest.raises(errors.OutOfRange, match="2 entries or more"):
        parse_manifest(rendered(study=replace(STUDY, sites=SITES[:1], sites_min=1)))


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ((*DATA.columns, DATA.columns[0]), "a second time"),
        ((NumberColumn("num", 0.0, 1.0, 0.5, ()),), "which is the target"),
        ((CategoryColumn("cp", (1.0, 1.0), ()),), "has a value twice"),
        ((CategoryColumn("cp", (1.0, 2.0), (2.0,)),), "also a category"),
    ],
)
def test_contradicting_columns_are_refused(columns: tuple[NumberColumn, ...], what: str) -> None:
    with pytest.raises(errors.Inconsistent, match=what):
        parse_manifest(rendered(data=replace(DATA, columns=columns)))


@pytest.mark.parametrize(
    "privacy",
    [
        replace(PRIVACY, sampling="full", sampling_rate=0.5),
        replace(PRIVACY, sampling="poisson", sampling_rate=1.0),
    ],
)
def test_sampling_and_its_rate_have_to_agree(privacy: PrivacyTerms) -> None:
    with pytest.raises(errors.Inconsistent, match=r"privacy\.sampling_rate"):
        parse_manifest(rendered(privacy=privacy))


@pytest.mark.parametrize(
    "plan",
    [
        replace(PLAN, ranges={"momentum": (0.0, 1.0)}),
        replace(PLAN, ranges={"learning_rate": (1.0, 2.0)}),
        replace(PLAN, ranges={"momentum_reset": (0.0, 1.0)}),
    ],
)
def test_ranges_have_to_hold_the_argument_they_steer(plan: PlanTerms) -> None:
    with pytest.raises(errors.Inconsistent, match=r"plan\.ranges"):
        parse_manifest(rendered(plan=plan))


def test_ranges_may_be_left_out() -> None:
    raw = rendered(plan=replace(PLAN, ranges={})).replace(b"[plan.ranges]\n", b"")
    assert parse_manifest(raw).plan.ranges == {}


def test_rule_parameters_may_be_left_out() -> None:
    raw = rendered().replace(b"[averaging.parameters]\n", b"")
    assert parse_manifest(raw).averaging.parameters == {}


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"x" * (MANIFEST_BYTES_MAX + 1), "at most 49152 are allowed"),
        (b"\xff", "is not UTF-8"),
        (b"x = [" + b"[" * 2000, "nested too deeply"),
        (b"x = ", "is not TOML"),
        (b"x = " + b"9" * 1000 + b"\ny = 3\nx = 2", "is not TOML"),
        (b"a." * 2000 + b"a = 1", "line 1 has 4005 bytes"),
    ],
)
def test_hostile_bytes_are_refused_quickly(raw: bytes, what: str) -> None:
    with pytest.raises(errors.NotToml, match=what):
        parse_manifest(raw)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_manifest_error(noise: bytes) -> None:
    with pytest.raises(errors.ManifestError):
        parse_manifest(noise)


@given(st.integers(0, 3000), st.binary(min_size=1, max_size=3))
def test_no_change_to_a_manifest_raises_anything_but_a_manifest_error(at: int, by: bytes) -> None:
    raw = rendered()
    at %= len(raw)
    changed = raw[:at] + by + raw[at + len(by) :]
    with contextlib.suppress(errors.ManifestError):
        assert parse_manifest(changed).study_id == hashlib.sha256(changed).digest()


def test_data_section_alone_can_be_read_and_written() -> None:
    assert parse_data_section(render_data(DATA)) == DATA
    assert parse_data_section(rendered()) == DATA


def test_whole_updates_are_protected_once_a_round() -> None:
    """unit = "site" accounts one release a round, so several noisy steps would say too little."""
    found = parse_manifest(with_line('unit = "patient"', 'unit = "site"')).privacy
    assert (found.is_by_update, found.accounted) == (True, "gaussian")
    assert found.update_deviation == 2 * found.noise_multiplier * found.clip_norm
    twice = rendered().replace(b'unit = "patient"', b'unit = "site"')
    twice = twice.replace(b"steps_per_round = 1", b"steps_per_round = 2")
    with pytest.raises(errors.Inconsistent, match=r"privacy\.unit.*protected once"):
        parse_manifest(twice)
