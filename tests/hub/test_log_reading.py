"""What the hub serves of its log, to the letter of C2SP tlog-tiles: 600 entries, read over HTTP like a stranger's log.

Trees are computed here once more, as RFC 6962 defines them, from nothing but the bytes that came.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Callable, Iterator

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub.database.connections import make_engine
from hub.directory import Directory
from hub.identity import HubIdentity
from hub.intake import open_envelope
from hub.log_keys import LogKeys
from hub.rollback import RollBackGuard
from hub.sequencer import Sequencer
from sharing_protocol import wire
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.tiles import decode_bundle
from sharing_protocol.trust import check_receipt, open_checkpoint
from tests.forum import ForumInABox, RunningHub, code_of, key, pattern_body, running_hub, sighting_body, sql
from tests.hub.exact_requests import ask

SIZE = 600
IMMUTABLE = "private, max-age=31536000, immutable"
PATHS_AT_256 = (
    *("/tile/0/000", "/tile/0/000.p/255", "/tile/0/001", "/tile/0/001.p/1", "/tile/1/000", "/tile/1/000.p/1"),
    *("/tile/1/000.p/2", "/tile/2/000", "/tile/2/000.p/1", "/tile/entries/000", "/tile/entries/001.p/1"),
)


# -- the tree, by the book -----------------------------------------------------------------------------------------


def tree_hash(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, over leaf hashes."""
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:half]) + tree_hash(leaves[half:])).digest()


def cut(items: list[bytes], prefix: str) -> dict[str, list[bytes]]:
    """Runs of 256 items, by the paths of tiles (for fewer than 256,000 items)."""
    runs = {}
    for start in range(0, len(items), 256):
        run = items[start : start + 256]
        runs[f"{prefix}/{start // 256:03d}{'' if len(run) == 256 else f'.p/{len(run)}'}"] = run
    return runs


def tiles_of(leaves: list[bytes]) -> dict[str, bytes]:
    """The tiles of a log with these leaf hashes, by path."""
    tiles: dict[str, bytes] = {}
    level, hashes = 0, leaves
    while hashes:
        tiles |= {path: b"".join(run) for path, run in cut(hashes, f"/tile/{level}").items()}
        full = range(0, len(hashes) - 255, 256)
        level, hashes = level + 1, [tree_hash(hashes[start : start + 256]) for start in full]
    return tiles


def bundles_of(entries: list[bytes]) -> dict[str, bytes]:
    """The entry bundles of a log, by path."""
    return {
        path: b"".join(len(entry).to_bytes(2, "big") + entry for entry in run)
        for path, run in cut(entries, "/tile/entries").items()
    }


# -- a long log ----------------------------------------------------------------------------------------------------


class LongLog:
    """A hub whose log has `SIZE` entries.

    Attributes:
        sent: the envelopes, by index.
        at_256: what some paths answered when the log had 256 entries.
    """

    def __init__(self, box: ForumInABox, analyst: str, client: httpx.Client) -> None:
        self.box = box
        self.analyst = analyst
        self.client = client
        self.sent: dict[int, bytes] = {}
        self.at_256: dict[str, httpx.Response] = {}

    def get(self, path: str, accepted: str = "identity") -> httpx.Response:
        """A GET that asks for no content coding unless told to."""
        return self.client.get(path, headers={"accept-encoding": accepted})

    def good(self, path: str) -> bytes:
        """The bytes at a path, which must be there."""
        response = self.get(path)
        assert response.status_code == 200, f"{path}: {response.text}"
        return response.content

    @property
    def entries(self) -> list[bytes]:
        """What was sent, in log order."""
        return [self.sent[index] for index in range(SIZE)]

    @property
    def leaves(self) -> list[bytes]:
        """The leaf hashes of what was sent."""
        return [leaf_hash(entry) for entry in self.entries]


@pytest.fixture(scope="module")
def log(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[LongLog]:
    with running_hub(new_database(), hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        lab = box.admit("Aurora")
        pattern, _ = box.publish(lab, pattern_body())
        body = sighting_body(box.reference(pattern))
        with box.client("Ada") as client:
            long_log = LongLog(box, lab.analyst, client)
            long_log.sent.update(enumerate(decode_bundle(long_log.good("/tile/entries/000.p/3"), 3)))
            asyncio.run(
                extend(hub, lab.analyst, [box.record(lab, body).encode() for _ in range(3, 256)], long_log.sent)
            )
            long_log.at_256.update((path, long_log.get(path)) for path in PATHS_AT_256)
            asyncio.run(
                extend(hub, lab.analyst, [box.record(lab, body).encode() for _ in range(256, SIZE)], long_log.sent)
            )
            yield long_log


async def extend(hub: RunningHub, analyst: str, entries: list[bytes], sent: dict[int, bytes]) -> None:
    """Append as another process of the hub would, in batches of many sizes, without the cost of an HTTP request each.

    The running hub is told nothing: it has to serve what is in the database.
    """
    engine = make_engine(hub.database_url, size=2)
    directory = Directory(engine)
    keys = LogKeys(hub.identity)
    sequencer = Sequencer(engine, keys, directory, RollBackGuard(engine, keys, directory), hub.clock)
    await sequencer.start()
    sizes = itertools.cycle((1, 2, 3, 5, 8, 13, 21, 34))
    remaining = iter(entries)
    while batch := list(itertools.islice(remaining, next(sizes))):
        opened = [open_envelope(entry, key(analyst).public_key.key_id, directory.membership) for entry in batch]
        answers = await asyncio.gather(*(sequencer.submit(submission.candidate) for submission in opened))
        sent.update((answer.index, entry) for answer, entry in zip(answers, batch, strict=True))
    await sequencer.stop()
    await engine.dispose()


def test_tree_rebuilt_from_tiles_alone_has_the_root_of_the_checkpoint(log: LongLog) -> None:
    checkpoint = open_checkpoint(log.good("/checkpoint"), log.box.hub.identity.public).checkpoint
    assert checkpoint.size == SIZE
    served = {path: log.good(path) for path in ("/tile/0/000", "/tile/0/001", "/tile/0/002.p/88", "/tile/1/000.p/2")}
    hashes = b"".join(served[path] for path in served if path.startswith("/tile/0/"))
    leaves = [hashes[start : start + 32] for start in range(0, len(hashes), 32)]
    assert len(leaves) == SIZE
    assert tree_hash(leaves) == checkpoint.root
    assert served == tiles_of(leaves)


def test_bundles_hold_the_entries_as_they_were_sent_and_hash_to_the_tiles(log: LongLog) -> None:
    assert sorted(log.sent) == list(range(SIZE))
    expected = bundles_of(log.entries)
    assert {path: log.good(path) for path in expected} == expected
    assert log.good("/tile/0/002.p/88") == b"".join(log.leaves[512:])


def test_every_tile_and_bundle_of_every_checkpoint_ever_published_is_still_served(log: LongLog) -> None:
    with sql(log.box.hub.database_url) as connection:
        published = connection.execute("SELECT tree_size, root, note FROM checkpoints ORDER BY tree_size").fetchall()
    assert len(published) > 10
    expected: dict[str, bytes] = {}
    for size, root, _ in published:
        assert tree_hash(log.leaves[:size]) == root
        expected |= tiles_of(log.leaves[:size]) | bundles_of(log.entries[:size])
    assert {path: log.good(path) for path in expected} == expected


def test_log_of_256_entries_has_a_full_tile_and_the_first_hash_of_the_next_level(log: LongLog) -> None:
    leaves = log.leaves[:256]
    assert log.at_256["/tile/1/000.p/1"].content == tree_hash(leaves)
    expected = tiles_of(leaves) | bundles_of(log.entries[:256])
    # Narrower ones had been published, or would have been with smaller batches: they may be served as well.
    expected["/tile/0/000.p/255"] = b"".join(leaves[:255])
    served = {path: answer.content for path, answer in log.at_256.items() if answer.status_code == 200}
    assert served == expected
    assert {code_of(answer) for answer in log.at_256.values() if answer.status_code != 200} == {"unknown_tile"}


def test_old_entries_receipts_prove_them_against_the_newest_checkpoint(log: LongLog) -> None:
    for index in (*range(3, SIZE, 67), 255, 256, 511, 512, SIZE - 1):
        response = log.box.post(wire.ENTRIES, log.sent[index], log.analyst)
        assert response.status_code == 200
        receipt = wire.Receipt.model_validate_json(response.content)
        assert (receipt.index, receipt.already_logged) == (index, True)
        proven = check_receipt(receipt, log.sent[index], log.box.hub.identity.public).checkpoint
        assert (proven.size, proven.root) == (SIZE, tree_hash(log.leaves))


# -- paths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/tile/0/002",
        "/tile/0/002.p/89",
        "/tile/0/003",
        "/tile/0/003.p/1",
        "/tile/1/000",
        "/tile/1/000.p/3",
        "/tile/1/001.p/1",
        "/tile/2/000.p/1",
        "/tile/63/000.p/1",
        "/tile/entries/002",
        "/tile/entries/002.p/89",
        "/tile/entries/003.p/1",
        "/tile/0/x001/000",
        "/tile/entries/x123/x456/789",
        # Around 2**63, where a database's integers end, and far beyond.
        "/tile/0/x009/x223/x372/x036/x854/x775/807",
        "/tile/0/x009/x223/x372/x036/x854/x775/808",
        "/tile/entries/x036/x028/x797/x018/x963/967",
        "/tile/entries/x036/x028/x797/x018/x963/968",
        "/tile/63/x999/x999/x999/x999/x999/x999/x999/x999/999",
        "/tile/entries/x999/x999/x999/x999/x999/x999/x999/x999/x999/999.p/255",
    ],
)
def test_tile_beyond_the_log_is_unknown(log: LongLog, path: str) -> None:
    response = ask(log.box, path)
    assert response.status_code == 404
    assert code_of(response) == "unknown_tile"
    assert response.headers["cache-control"] == "no-store", "it may exist tomorrow"


@pytest.mark.parametrize(
    "path",
    [
        "/tile/",
        "/tile/0",
        "/tile/0/",
        "/tile/0/0",
        "/tile/0/00",
        "/tile/0/0000",
        "/tile/00/000",
        "/tile/01/000",
        "/tile/64/000",
        "/tile/-1/000",
        "/tile/0/-01",
        "/tile/0/+00",
        "/tile/0/x000",
        "/tile/0/x000/000",
        "/tile/0/000/001",
        "/tile/0/x01/000",
        "/tile/0/X001/000",
        "/tile/0/000.p",
        "/tile/0/000.p/",
        "/tile/0/000.p/0",
        "/tile/0/000.p/00",
        "/tile/0/000.p/01",
        "/tile/0/000.p/256",
        "/tile/0/000.p/257",
        "/tile/0/000.p/1000",
        "/tile/0/000.p/-1",
        "/tile/0/000.P/1",
        "/tile/0/000.p/1.p/1",
        "/tile/0/000/",
        "/tile/0/000.p/1/",
        "/tile/0//000",
        "/tile//0/000",
        "/tile/entries",
        "/tile/entries/",
        "/tile/Entries/000",
        "/tile/data/000",
        "/tile/./0/000",
        "/tile/0/../0/000",
        "/tile/..%2f..%2fetc/passwd",
        "/tile/0/%30%30%30",
        "/tile/0%2f000",
        "/tile/0/000%2ep/1",
        "/tile/0/000%00",
        "/tile/0/000%ff",
        "/tile/0/000%3fx",
        "/tile/0/000%23x",
        "/tile/0/000;x=1",
        "/tile/0/%d9%a0%d9%a0%d9%a0",  # three zeros, in Arabic digits
        "/tile/0/" + "x999/" * 400 + "999",
    ],
)
def test_anything_but_the_one_form_of_a_path_is_refused(log: LongLog, path: str) -> None:
    response = ask(log.box, path)
    assert response.status_code == 400
    assert code_of(response) == "bad_tile_path"


@pytest.mark.parametrize("path", ["/tile", "//tile/0/000", "/Tile/0/000", "/checkpoint/", "/checkpoint.txt", "/"])
def test_path_of_nothing_is_not_found_and_never_redirected(log: LongLog, path: str) -> None:
    response = ask(log.box, path)
    assert response.status_code == 404
    assert code_of(response) == "not_found"


PLAUSIBLE = st.from_regex(r"(0|1|2|00|entries)/(x001/)?00[0-3](\.p/[0-9]{1,3})?", fullmatch=True)


@settings(deadline=None, max_examples=100)
@given(rest=PLAUSIBLE | st.text("0123456789x/.p-entris", max_size=24))
@example(rest="0/002.p/88")
@example(rest="0/002.p/89")
@example(rest="entries/001.p/255")
def test_exactly_the_paths_of_the_logs_own_tiles_are_served(log: LongLog, rest: str) -> None:
    widths = {"0/000": 256, "0/001": 256, "0/002": 88, "1/000": 2}
    widths |= {place.replace("0/", "entries/", 1): width for place, width in widths.items() if place[0] == "0"}
    served = {place for place, width in widths.items() if width == 256}
    served |= {f"{place}.p/{width}" for place, most in widths.items() for width in range(1, min(most, 255) + 1)}
    response = ask(log.box, f"/tile/{rest}")
    if rest in served:
        assert (response.status_code, response.headers["cache-control"]) == (200, IMMUTABLE)
    else:
        assert response.status_code in (400, 404)
        assert code_of(response) in ("bad_tile_path", "unknown_tile")
