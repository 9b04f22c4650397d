"""Models of other sites: what a neighbour announces never costs us a file, a disk or another's."""

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from node_homes import Consortium
from node_in_process import until

from gossip.errors import FetchInterrupted, Unreachable
from gossip.identifiers import Digest, SiteId, digest_of
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.encoding import blob_size_bytes
from p2pfl.core.names import ModelHash, Round, StudyId
from p2pfl.runtime.blobs import BlobStore, bytes_of_vector
from p2pfl.runtime.home import Home
from p2pfl.runtime.keeping import EVERYTHING, Keep
from p2pfl.runtime.model_jobs import PARTS_PER_SITE_MAX, ModelJobs

D = 9
STUDY, OTHER_STUDY = StudyId(b"\x01" * 32), StudyId(b"\x02" * 32)
SENDER, SLOW = SiteId(b"\x0a" * 32), SiteId(b"\x0b" * 32)


class Shelf:
    """A transport that has only `fetch`: files by site, and sites that stall in the middle."""

    def __init__(self) -> None:
        self.files: dict[tuple[SiteId, bytes], bytes] = {}
        self.stalls: set[SiteId] = set()
        self.trickles: set[SiteId] = set()
        self.asked: list[SiteId] = []

    async def fetch(
        self,
        site: SiteId,
        digest: Digest,
        size_bytes: int,
        into: Path,
        progress: Callable[[int], None],
    ) -> None:
        self.asked.append(site)
        if site in self.trickles:
            into.with_name(into.name + ".part").write_bytes(b"half")
            for have_bytes in range(1, size_bytes):
                progress(have_bytes)
                await asyncio.sleep(60)
        if site in self.stalls:
            into.with_name(into.name + ".part").write_bytes(b"half")
            await asyncio.sleep(3600)
        data = self.files.get((site, digest))
        if data is None:
            raise Unreachable(site, "not connected")
        if len(data) != size_bytes:
            raise FetchInterrupted(site, digest, "another size")
        into.write_bytes(data)  # noqa: ASYNC240 - a few bytes


class Desk:
    """Model jobs in a folder of their own."""

    def __init__(
        self, folder: Path, keep: Keep = EVERYTHING, blobs: type[BlobStore] = BlobStore
    ) -> None:
        home = Home(folder)
        self.notices: list[fx.Notice] = []
        home.blobs.mkdir()
        self.blobs, self.shelf, self.events = blobs(home.blobs), Shelf(), list[ev.Event]()
        self.jobs = ModelJobs(
            home=home,
            blobs=self.blobs,
            transport=self.shelf,  # type: ignore[arg-type]  # only fetching is needed
            submit=self.events.append,
            keep=keep,
            show=lambda _study, notice: self.notices.append(notice),
            look_s=0.5,
        )

    async def obtain(self, data: bytes, *, inline: bytes = b"", d: int = D) -> ev.Event:
        model = ModelHash(digest_of(data))
        self.shelf.files[SENDER, model] = data
        self.events.clear()
        await self.jobs.obtain(obtaining(model, inline=inline, d=d))
        (event,) = self.events
        return event


def obtaining(
    model: ModelHash, *, inline: bytes = b"", d: int = D, site: SiteId = SENDER
) -> fx.Obtain:
    return fx.Obtain(STUDY, Round(1), site, model, blob_size_bytes(d), d, inline)


def model_of(value: float, d: int = D) -> bytes:
    return bytes_of_vector(np.full(d, value, dtype=np.float32))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_a_fetched_update_is_filed_and_nothing_else_stays(desk: Desk, tmp_path: Path) -> None:
    data = model_of(1.0)
    assert isinstance(await desk.obtain(data), ev.Obtained)
    assert desk.blobs.read_bytes(digest_of(data)) == data
    assert not [path for path in (tmp_path / "incoming").rglob("*") if path.is_file()]


class Disk(BlobStore):
    """A store whose disk takes as long as it is held, and fails where it is broken."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.held, self.is_broken = threading.Event(), False
        self.held.set()

    def sync(self, digest: bytes) -> None:
        self.held.wait()
        if self.is_broken:
            raise OSError(errno.EIO, "the disk is broken")
        super().sync(digest)


async def test_an_update_is_told_of_before_the_disk_keeps_it_and_awaited_when_it_is_needed(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, blobs=Disk)
    assert isinstance(desk.blobs, Disk)
    desk.blobs.held.clear()
    data = model_of(1.0)
    assert isinstance(await desk.obtain(data), ev.Obtained)
    needed = asyncio.create_task(desk.jobs.settled([ModelHash(digest_of(data))]))
    other = ModelHash(digest_of(b"never fetched"))
    await desk.jobs.settled([other])
    assert not needed.done()
    desk.blobs.held.set()
    await needed


async def test_what_the_disk_refuses_to_keep_is_told_to_whoever_needs_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, blobs=Disk)
    assert isinstance(desk.blobs, Disk)
    desk.blobs.is_broken = True
    data = model_of(1.0)
    assert isinstance(await desk.obtain(data), ev.Obtained)
    with pytest.raises(OSError, match="the disk is broken"):
        await desk.jobs.settled([ModelHash(digest_of(data))])
    desk.blobs.is_broken = False
    assert isinstance(await desk.obtain(data), ev.Obtained)  # found on disk, and synced again
    await desk.jobs.settled([ModelHash(digest_of(data))])
    await desk.jobs.stop()


@pytest.mark.parametrize("is_inline", [True, False])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            model_of(1.0).replace(np.float32(1.0).tobytes(), np.float32("nan").tobytes()),
            "not-finite",
        ),
        (b"\0" * blob_size_bytes(D), "wrong-shape"),
        (model_of(1.0)[:8] + model_of(1.0)[8:].replace(b"F32", b"I32"), "wrong-shape"),
    ],
)
async def test_an_unusable_update_is_refused_by_name_and_not_kept(
    desk: Desk, data: bytes, reason: str, is_inline: bool
) -> None:
    event = await desk.obtain(data, inline=data if is_inline else b"")
    assert isinstance(event, ev.ObtainFailed)
    assert (event.reason, event.hostile) == (reason, True)
    assert desk.blobs.digests() == frozenset()


async def test_an_update_beyond_what_its_study_allows_is_refused_by_name(desk: Desk) -> None:
    data = model_of(3.0)
    model = ModelHash(digest_of(data))
    desk.shelf.files[SENDER, model] = data
    for limit, expected in ((2.5, "out-of-range"), (3.0, "")):
        desk.events.clear()
        await desk.jobs.obtain(replace(obtaining(model), value_max=limit))
        (event,) = desk.events
        if expected:
            assert isinstance(event, ev.ObtainFailed)
            assert (event.reason, event.hostile) == (expected, True)
        else:
            assert isinstance(event, ev.Obtained)


async def test_announcing_a_model_of_ours_in_another_study_does_not_delete_it(desk: Desk) -> None:
    ours = model_of(0.5, d=4)
    digest = desk.blobs.put_bytes(ours)
    event = await desk.obtain(ours, d=D)  # a study whose models have another length
    assert isinstance(event, ev.ObtainFailed)
    assert event.hostile
    assert desk.blobs.read_bytes(digest) == ours


async def test_a_blob_that_our_disk_garbled_is_fetched_again_and_nobody_is_blamed(
    desk: Desk,
) -> None:
    data = model_of(2.0)
    path = desk.blobs.path(digest_of(data))
    path.write_bytes(data[:-1] + b"\x00")
    assert isinstance(await desk.obtain(data), ev.Obtained)
    assert path.read_bytes() == data


async def test_a_slow_site_that_announces_anothers_model_holds_up_nobody(desk: Desk) -> None:
    data = model_of(3.0)
    model = ModelHash(digest_of(data))
    desk.shelf.stalls.add(SLOW)
    stalled = asyncio.create_task(desk.jobs.obtain(obtaining(model, site=SLOW)))
    await until(lambda: SLOW in desk.shelf.asked)
    assert isinstance(await desk.obtain(data), ev.Obtained)
    stalled.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await stalled


async def test_transfers_that_stall_again_and_again_do_not_fill_the_disk(
    desk: Desk, tmp_path: Path
) -> None:
    desk.shelf.stalls.add(SLOW)
    for number in range(20):
        model = ModelHash(digest_of(os.urandom(8)))
        stalled = asyncio.create_task(desk.jobs.obtain(obtaining(model, site=SLOW)))
        await until(lambda number=number: len(desk.shelf.asked) > number)
        stalled.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await stalled
    assert len(list((tmp_path / "incoming").rglob("*.part"))) <= PARTS_PER_SITE_MAX
    desk.jobs.forget_parts(STUDY)
    assert not list((tmp_path / "incoming").rglob("*.part"))


async def test_asking_twice_for_a_model_looks_for_it_once(desk: Desk) -> None:
    data = model_of(4.0)
    model = ModelHash(digest_of(data))
    wanted = fx.FetchModel(STUDY, model, D, (SENDER,))
    searches = [asyncio.create_task(desk.jobs.fetch_model(wanted)) for _ in range(10)]
    await until(lambda: desk.shelf.asked)
    assert len(desk.shelf.asked) == 1
    desk.shelf.files[SENDER, model] = data
    await asyncio.gather(*searches)
    assert desk.events == [ev.ModelReady(STUDY, model)]
    desk.events.clear()
    await desk.jobs.fetch_model(replace(wanted, study=OTHER_STUDY))
    assert desk.events == [ev.ModelReady(OTHER_STUDY, model)]


@pytest.mark.parametrize("how", ["stalls", "trickles"])
async def test_a_holder_that_serves_next_to_nothing_keeps_a_model_from_nobody(
    desk: Desk, tmp_path: Path, how: str
) -> None:
    data = model_of(4.0, 300)
    model = ModelHash(digest_of(data))
    getattr(desk.shelf, how).add(SLOW)
    desk.shelf.files[SENDER, model] = data
    async with asyncio.timeout(20):
        await desk.jobs.fetch_model(fx.FetchModel(STUDY, model, 300, (SLOW, SENDER)))
    assert desk.events == [ev.ModelReady(STUDY, model)]
    assert set(desk.shelf.asked) == {SLOW, SENDER}
    assert not [path for path in (tmp_path / "incoming").rglob("*") if path.is_file()]
    assert not desk.jobs.transfers()


async def test_a_model_that_nobody_gives_is_asked_for_again_of_everybody(desk: Desk) -> None:
    data = model_of(4.0, 300)
    model = ModelHash(digest_of(data))
    desk.shelf.stalls.add(SLOW)
    wanted = fx.FetchModel(STUDY, model, 300, (SLOW, SENDER))
    search = asyncio.create_task(desk.jobs.fetch_model(wanted))
    await until(lambda: desk.shelf.asked.count(SENDER) > 1 and desk.shelf.asked.count(SLOW) > 1)
    desk.shelf.stalls.clear()
    desk.shelf.files[SLOW, model] = data
    await search
    assert desk.events == [ev.ModelReady(STUDY, model)]


async def test_an_initial_model_is_kept_only_if_the_manifest_names_it(
    consortium: Consortium, desk: Desk
) -> None:
    manifest, study = consortium.manifest, StudyId(bytes.fromhex(consortium.study))
    named = consortium.home(0).blobs / manifest.study.initial_model.hex()
    proposal = fx.KeepProposal(study, manifest, SENDER, b"something else")
    desk.jobs.keep_initial(proposal)
    assert desk.blobs.digests() == frozenset()
    desk.jobs.keep_initial(replace(proposal, initial=named.read_bytes()))
    assert desk.blobs.digests() == {manifest.study.initial_model}


async def test_a_model_beyond_the_budget_is_not_asked_for_and_people_are_told(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, Keep(bytes_max=1000))
    small = bytes_of_vector(np.zeros(D, dtype=np.float32))
    assert isinstance(await desk.obtain(small), ev.Obtained)
    large = bytes_of_vector(np.ones(300, dtype=np.float32))
    failed = await desk.obtain(large, d=300)
    assert isinstance(failed, ev.ObtainFailed)
    assert (failed.reason, failed.hostile) == ("no-room", False)
    assert "models_gb" in desk.notices[0].sentence  # type: ignore[union-attr]  # it happened
    assert len(desk.shelf.asked) == 1
    assert not desk.jobs.transfers()
