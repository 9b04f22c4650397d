"""The page that people read: safe with hostile names, whole, and the JSON behind it as promised."""

import json
import re
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from prov_crowd import crowd_names, crowd_story
from prov_stories import DAY_US, ME, MICRO, PEERS, START_US, Story, audited, digest, write
from prov_teller import NO_PRIVACY, plain_story
from prov_wrongs import coded
from test_prov_report import eventful_story

from ledger.log import ExitCode, Finding, FindingCode, LogReader, Verification
from ledger.provenance.audit import LIMITS, AuditReport
from ledger.provenance.kinds import (
    KeyRotated,
    ModelReleased,
    RoundSkipped,
    StudyApproved,
    StudyProposed,
    StudyRevoked,
    TrainDone,
)
from ledger.provenance.lineage import COLUMNS_MAX, ROWS_MAX, TheirData, lineage_of
from ledger.provenance.lineage_drawing import draw_graph, draw_rounds
from ledger.provenance.peers import PeerEvidence
from ledger.provenance.peers import PeerLog as PeerCopy
from ledger.provenance.report import to_html, to_json
from ledger.provenance.timeline import Timeline
from ledger.provenance.timeline_drawing import draw_budget, draw_timeline
from ledger.provenance.witnessing import Cosigned, PeerLog, Witnessing

ROOT = Path(__file__).resolve().parents[3]
STUDY, DS = digest("study", 1), digest("dataset", 1)
HOSTILE = "<script>alert(1)</script>\"'&<img src=x>"


class Tags(HTMLParser):
    """Which elements a page has, and whether each is closed."""

    VOID = ("meta", "link", "br", "img")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> AuditReport:
    names = crowd_names(ROWS_MAX + 5)
    return audited(tmp_path_factory.mktemp("crowd"), crowd_story(ROWS_MAX + 5, 8), names=names)


def reports(folder: Path) -> Iterator[AuditReport]:
    """Reports of all sorts: eventful, empty, broken, without privacy."""
    broken = Verification((Finding(FindingCode.ROLLBACK, None, ""),), 4, None)
    stories: tuple[tuple[Story, dict[str, object]], ...] = (
        (eventful_story(), {}),
        (Story(plain_story().told[:1]), {}),
        (Story(()), {}),
        (plain_story(), {"verification": broken, "names": {}}),
        (plain_story(dp=NO_PRIVACY), {}),
        (plain_story(), {"epsilon_of": lambda events, delta: float("inf")}),
    )
    for at, (story, changes) in enumerate(stories):
        (folder / str(at)).mkdir()
        yield audited(folder / str(at), story, **changes)


def test_every_report_fits_the_published_schema(tmp_path: Path, crowd: AuditReport) -> None:
    schema = json.loads((ROOT / "docs" / "audit-report-schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    seen = Witnessing(4, (Cosigned("Bern", 9),), (PeerLog("Chur", 0, 0, 0),), 1)
    for report in (*reports(tmp_path), crowd, witnessed(crowd, seen)):
        jsonschema.validate(json.loads(to_json(report)), schema)
    document = json.loads(to_json(crowd))
    del document["log"]["root"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


def test_every_page_is_whole_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    for report in reports(tmp_path):
        page = to_html(report)
        tags = Tags(page)
        assert tags.open == []
        assert not tags.names & {"script", "img", "iframe", "object", "form", "base"}
        assert "default-src 'none'" in page
        assert not re.search(r"(?:src|href)=\"(?!#|data:,)", page)
        assert "url(" not in page
        for picture in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
            xml.fromstring(picture)  # noqa: S314 -- drawn by us a moment ago
        assert report.verdict.split("(")[0].strip() in page.replace("&#39;", "'")
        assert all(limit in page for limit in LIMITS)


def test_code_that_was_approved_stands_among_the_decisions(tmp_path: Path) -> None:
    story = plain_story()
    approved = story.insert(story.place(StudyApproved) + 1, coded())
    page = to_html(audited(tmp_path, approved))
    said = f"runs approved code {digest('code').hex()[:16]} with torch 2.13.0, confined at level C"
    assert f"{said}; the node itself keeps its privacy terms" in page
    assert "code approved with it" in page


def test_names_from_a_ledger_cannot_become_markup(tmp_path: Path) -> None:
    names = dict.fromkeys([ME, *PEERS], HOSTILE)
    changes = {"study_names": {STUDY: HOSTILE}, "dataset_names": {DS: HOSTILE}}
    report = audited(tmp_path, eventful_story(), names=names, origin=HOSTILE, **changes)
    finding = replace(report.findings[0], action=f"Run `{HOSTILE}`", sentence=HOSTILE)
    page = to_html(replace(report, findings=(finding,), verdict=HOSTILE))
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert Tags(page).open == []


def test_the_reader_is_told_what_to_do_next(tmp_path: Path) -> None:
    told = {report.exit_code: to_html(report) for report in reports(tmp_path)}
    assert "Nothing has to be done" in told[ExitCode.CLEAN]
    assert "Check the proof with <code>p2pfl ledger check-fork</code>" in told[ExitCode.FORK_PROVEN]
    assert "Stop the node and keep a copy" in told[ExitCode.ROLLBACK]
    (tmp_path / "x").mkdir()
    report = audited(tmp_path / "x", plain_story())
    missing = replace(report, exit_code=ExitCode.EVIDENCE_INCOMPLETE)
    assert "p2pfl ledger verify" in to_html(missing)


def witnessed(report: AuditReport, seen: Witnessing) -> AuditReport:
    return replace(report, context=replace(report.context, witnessing=seen))


def test_witnesses_are_named_with_their_age(tmp_path: Path) -> None:
    report = audited(tmp_path, plain_story())
    now_s = report.context.now_us // MICRO
    cosigned = tuple(
        Cosigned(name, now_s - age_s)
        for name, age_s in (("Bern", 600), ("Chur", 10 * 3600), ("Zug", 9 * 86_400))
    )
    peers = (PeerLog("Bern", 12, START_US, 0), PeerLog("Chur", 0, 0, START_US))
    page = to_html(witnessed(report, Witnessing(10, cosigned, peers, 0)))
    for words in ("10 min before", "10 h before", "9 days before", "never", "not cosigned yet"):
        assert words in page
    page = to_html(witnessed(report, Witnessing(report.entries, cosigned[:1], (), 0)))
    assert "cosigned by 1\nsite." in page
    assert "not cosigned yet" not in page
    assert "No other site has cosigned" in to_html(witnessed(report, Witnessing(0, (), (), 1)))
    assert "did not look at what other sites hold" in to_html(report)


def test_long_lists_are_cut_on_the_page_and_say_so(tmp_path: Path) -> None:
    story = plain_story()
    for round_ in range(205):
        story = story.add(RoundSkipped(STUDY, 10 + round_, "waiting"))
    story = story.add(KeyRotated("transport", digest("old"), digest("new")))
    page = to_html(audited(tmp_path, story))
    assert "… and 5 more: the JSON report has all." in page
    assert "Keys that changed" in page
    assert "Not on record: forks; new incarnations; redactions; other events." not in page


# -- lineage --------------------------------------------------------------------------------------


def test_the_graph_counts_each_sites_part(tmp_path: Path) -> None:
    report = audited(tmp_path, plain_story(rounds=5), dataset_names={DS: "cardiology"})
    lineage = lineage_of(report, report.releases[0])
    own, *others = lineage.sites
    assert (own.own, own.kept, own.marks) == (True, 5, ("kept",) * 5 + ("",))
    assert [line.used for line in others] == sorted((x.used for x in others), reverse=True)
    assert sum(line.used + line.dropped for line in others) == 12
    (source,) = lineage.sources
    assert (source.ds, source.trainings) == (DS, 5)
    assert source.eps_u == report.budgets[0].declared_u
    picture = draw_graph(lineage, report.context)
    for words in ("cardiology", "6 averages", "rounds 0–5", "after round 5", "approved 2027-01-15"):
        assert words in picture


def test_many_sites_are_condensed_and_counted(crowd: AuditReport) -> None:
    lineage = lineage_of(crowd, crowd.releases[0])
    assert len(lineage.sites) == ROWS_MAX
    assert lineage.more_sites == 5
    assert lineage.more_used > 0
    assert "5 more sites, counted" in draw_graph(lineage, crowd.context)
    assert "5 more sites: the JSON" in to_html(crowd)


def test_many_rounds_share_columns_and_rare_news_wins(crowd: AuditReport) -> None:
    release = crowd.releases[0]
    verdicts = ["kept"] * COLUMNS_MAX + ["kept", "dropped", "clipped"]
    first = release.steps[0]
    steps = tuple(
        replace(first, round=at, inputs=(replace(first.inputs[0], verdict=verdict),))
        for at, verdict in enumerate(verdicts)
    )
    only = tuple(by for by in release.contributors if by.site == first.inputs[0].site)
    lineage = lineage_of(crowd, replace(release, steps=steps, contributors=only))
    assert lineage.columns[0] == (0, 1)
    assert len(lineage.columns) <= COLUMNS_MAX
    line = next(line for line in lineage.sites if any(line.marks) and not line.own)
    assert line.marks[COLUMNS_MAX // 2] == "dropped"
    assert "m-dropped" in draw_rounds(lineage, crowd.context)


def seen_by(report: AuditReport, folder: Path, sites: int, *, readable: int = 0) -> AuditReport:
    """The report, as if the ledgers of some other sites had been at hand.

    readable: how many of their first entries could be read; 0: all."""
    with closing(LogReader.open(write(folder, plain_story()))) as reader:
        entries = tuple(reader.entries())
    timeline = Timeline(entries[: readable or None])
    leaves = tuple(entry.leaf for entry in entries)
    logs = tuple(
        PeerCopy(by.site, digest("log", by.site), leaves, timeline, 0, frozenset(), None)
        for by in report.releases[0].contributors[:sites]
    )
    context = replace(report.context, peers=PeerEvidence(None, logs))
    return replace(report, context=context)


def test_other_sites_data_approvals_and_epsilon_are_shown_where_their_ledgers_were_seen(
    tmp_path: Path, crowd: AuditReport
) -> None:
    report = seen_by(crowd, tmp_path / "peer", 3)
    lineage = lineage_of(report, report.releases[0])
    data = [line.data[0] for line in lineage.sites if line.data]
    assert {one.ds for one in data} == {DS}
    assert [one.approved_seq for one in data] == [plain_story().place(StudyApproved) + 1] * 3
    picture = draw_graph(lineage, report.context)
    assert picture.count("not seen by this audit") == len(lineage.unseen) == ROWS_MAX - 4
    assert picture.count(f"ε {data[0].eps_u / MICRO:.3f}, approved ") == 2 * 3, "title and text"
    page = to_html(report)
    assert page.count(f"its entry {data[0].approved_seq}</td>") == 3
    assert f"what {ROWS_MAX - 4} other sites trained on" in page
    told = json.loads(to_json(report))["releases"][0]["contributors"]
    assert sum(by["data"] is not None for by in told) == 3


def test_a_site_that_gave_models_but_recorded_no_training_is_told_apart(
    tmp_path: Path, crowd: AuditReport
) -> None:
    for readable, said in ((3, "not seen by this audit"), (0, "no training on record there")):
        report = seen_by(crowd, tmp_path / str(readable), 1, readable=readable)
        release = report.releases[0]
        if not readable:  # all of that ledger was read, and nothing in it is of this study
            release = replace(release, study=digest("another study"))
        lineage = lineage_of(report, release)
        (line,) = [one for one in lineage.sites if one.site == release.contributors[0].site]
        assert line.data == (None if readable else ())
        assert said in draw_graph(lineage, report.context)


def test_several_datasets_of_one_site_are_counted(tmp_path: Path, crowd: AuditReport) -> None:
    report = crowd
    lineage = lineage_of(report, report.releases[0])
    two = tuple(TheirData(digest(n), 2, n * MICRO, 4 - 5 * n, 0) for n in (0, 1))
    for data, said in (
        (two, "2 datasets, ε up to 1.000"),
        (two[:1], "no privacy, approved"),
        (two[1:], "ε 1.000, not approved"),
    ):
        sites = (lineage.sites[0], replace(lineage.sites[1], data=data))
        assert said in draw_graph(replace(lineage, sites=sites), report.context)


def test_a_model_that_nobody_averaged_is_drawn_alone(tmp_path: Path) -> None:
    story = plain_story(rounds=1, consensus_rounds=0)
    trained = story.record(TrainDone)
    alone = Story(story.told[: story.place(TrainDone) + 2]).add(
        ModelReleased(STUDY, 0, trained.out_hash, "0", 0)
    )
    report = audited(tmp_path, alone)
    lineage = lineage_of(report, report.releases[0])
    assert lineage.columns == ()
    picture = draw_graph(lineage, report.context)
    assert "Nothing was trained here." in picture
    assert "averages</text>" not in picture
    assert "Round by round" not in to_html(report)


def test_training_without_approval_is_drawn_so(tmp_path: Path) -> None:
    story = plain_story().leave_out(StudyApproved)
    report = audited(tmp_path, story)
    lineage = lineage_of(report, report.releases[0])
    assert "no approval on record" in draw_graph(lineage, report.context)
    bare = replace(lineage, sources=tuple(replace(x, eps_u=0) for x in lineage.sources))
    assert "no privacy protection" in draw_graph(bare, report.context)


# -- decisions and budgets ------------------------------------------------------------------------


def test_decisions_stand_in_one_lane_per_study_or_dataset(tmp_path: Path) -> None:
    names = {"study_names": {STUDY: "a very long name of a study that no lane can show"}}
    story = eventful_story().add(StudyRevoked(STUDY, "over"))
    story = story.add(StudyProposed(STUDY, PEERS[0]))
    report = audited(tmp_path, story, **names)
    picture = draw_timeline(report)
    assert "the site&#x27;s policy" in picture
    assert "a very long name of a study t…" in picture
    assert picture.count('class="span"') == 1
    assert "2027-01-15 08:00" in picture


def test_an_approval_that_runs_on_reaches_the_end(tmp_path: Path) -> None:
    story = Story(plain_story().told[:8])
    assert draw_timeline(audited(tmp_path, story)).count('class="span"') == 1


def test_times_on_the_axis_fit_the_span(tmp_path: Path) -> None:
    for name, wait_us, shown in (("a", 0, "08:00:00"), ("b", 30 * DAY_US, ">2027-01-23<")):
        (tmp_path / name).mkdir()
        told = (
            plain_story().delay(TrainDone, 0, wait_us) if wait_us else Story(plain_story().told[:4])
        )
        assert shown in draw_timeline(audited(tmp_path / name, told))


def test_decisions_of_unknown_kinds_and_many_lanes_are_shown(tmp_path: Path) -> None:
    report = audited(tmp_path, plain_story())
    odd = replace(report.decisions[0], kind="study.pondered")
    many = tuple(replace(odd, study=digest("other", at)) for at in range(40))
    page = to_html(replace(report, decisions=many))
    assert "16 earlier studies or datasets are not drawn." in page


def test_a_budget_shows_what_is_over_its_cap(tmp_path: Path) -> None:
    (budget,) = audited(tmp_path, plain_story()).budgets
    assert "declared over" not in draw_budget(budget)
    assert 'class="mark"' in draw_budget(budget)
    over = replace(budget, declared_u=11 * MICRO, epsilon=None)
    assert "declared over" in draw_budget(over)
    assert 'class="mark"' not in draw_budget(over)
    bare = replace(budget, cap_u=-1, declared_u=0, reserved_u=0, epsilon=0.0)
    assert 'class="limit"' not in draw_budget(bare)
