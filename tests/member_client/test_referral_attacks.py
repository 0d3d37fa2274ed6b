"""Packages that were changed on their way, made up by strangers, or built by a lab that lies."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from member_client.errors import InvalidInput
from member_client.home import Home
from member_client.referral import selecting
from member_client.referral.archive import MAX_FILES, pack, unpack
from member_client.referral.building import Claims, assess, build
from member_client.referral.criteria import find
from member_client.referral.custody import first_entry, next_entry, read_chain, write_chain
from member_client.referral.manifest import CUSTODY, MANIFEST, decode_manifest, entry_for, read_evidence
from member_client.referral.reporting import report
from member_client.referral.selecting import cosigned_notes, select
from member_client.referral.verifying import verify
from member_client.session import Session
from sharing_protocol.errors import Malformed, ProtocolError, Unproven
from sharing_protocol.incidents import SHOWN_WITHOUT_EFFECT
from sharing_protocol.referral import unmet
from sharing_protocol.statements import voice_id
from tests.member_client.follower import entries_of
from tests.member_client.lab_homes import keep_key
from tests.member_client.lying_hub import LyingHub
from tests.member_client.referral_case import (
    CRITERIA,
    FAR,
    INCIDENT,
    NOW,
    PATTERN,
    built,
    contents,
    eventful_case,
    read_home,
    resigned,
    with_changes,
)
from tests.member_client.witness_forum import cosign
from tests.protocol.forum_log import (
    AURORA,
    BOREAL,
    CIRRUS,
    ForumLog,
    add_key_body,
    handling,
    identifier,
    record_reference,
    revoke_body,
)
from tests.protocol.response_bodies import action_body, opinion_body

LOG = eventful_case()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with LyingHub(entries_of(LOG)) as hub:
        return built(read_home(tmp_path_factory.mktemp("attacks") / "lab", hub, LOG))


def refused(data: bytes) -> str:
    """Why it does not hold."""
    with pytest.raises(ProtocolError) as caught:
        verify(data, LOG.fingerprint)
    assert isinstance(caught.value, Malformed | Unproven)
    return caught.value.detail


def flipped(data: bytes, place: int, bit: int = 0) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    return bytes(changed)


# -- bytes -----------------------------------------------------------------------------------------------------------


def test_the_first_and_the_last_byte_of_every_file_count_and_the_file_is_named(package: bytes) -> None:
    for info in zipfile.ZipFile(io.BytesIO(package)).infolist():
        start = info.header_offset + 30 + len(info.filename)
        for place in (start, start + info.file_size - 1):
            assert info.filename in refused(flipped(package, place))


def test_every_byte_of_headers_and_directory_counts(package: bytes) -> None:
    archive = zipfile.ZipFile(io.BytesIO(package))
    header = archive.infolist()[3].header_offset
    for place in [
        *range(0, 43, 3),
        *range(header, header + 30, 4),
        *range(archive.start_dir, archive.start_dir + 60, 3),
    ]:
        refused(flipped(package, place))
    for place in range(1, 23, 2):
        refused(flipped(package, len(package) - place))


@given(st.data())
def test_no_byte_is_free(package: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(package) - 1))
    refused(flipped(package, place, data.draw(st.integers(0, 7))))


def test_a_file_changed_added_or_taken_out_is_named_whatever_its_checksum_says(package: bytes) -> None:
    for name, content in contents(package).items():
        if content and name != CUSTODY:
            assert name in refused(with_changes(package, {name: flipped(content, len(content) // 2)}))
            assert name in refused(with_changes(package, {name: content + b" "}))
        assert name in refused(with_changes(package, {name: None}))
    assert "added: notes.txt" in refused(with_changes(package, {"notes.txt": b"Pay me."}))


def test_bytes_around_the_archive_are_found(package: bytes) -> None:
    assert "follow the end" in refused(package + b"\0")
    assert "begin as a ZIP" in refused(b"\0" + package)
    assert "begin as a ZIP" in refused(b"")
    for end in (1, 10, 22, 100, len(package) // 2, len(package) - 40):
        refused(package[:-end])
    refused(package + package)


def test_files_in_another_order_are_another_package(package: bytes) -> None:
    files = contents(package)
    assert "in the order" in refused(pack(dict(reversed(files.items()))))


# -- archives that other programs would make -------------------------------------------------------------------------


def rezipped(package: bytes, change: Callable[[zipfile.ZipInfo], None] = lambda info: None, **named: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", **named) as archive:  # type: ignore[call-overload] # compression only
        for name, content in contents(package).items():
            info = zipfile.ZipInfo(name)
            info.compress_type = named.get("compression", zipfile.ZIP_STORED)
            change(info)
            archive.writestr(info, content)
    return made.getvalue()


def test_what_another_program_packed_is_refused(package: bytes) -> None:
    assert "compressed" in refused(rezipped(package, compression=zipfile.ZIP_DEFLATED))

    def link(info: zipfile.ZipInfo) -> None:
        info.external_attr = 0o120777 << 16

    def comment(info: zipfile.ZipInfo) -> None:
        info.comment = b"hello"

    def extra(info: zipfile.ZipInfo) -> None:
        info.extra = b"\x01\x00\x00\x00"

    for change in (link, comment, extra):
        refused(rezipped(package, change))


def test_names_that_leave_the_folder_come_twice_or_are_hidden_are_refused(package: bytes) -> None:
    for name in (
        "../summary.md",
        "/etc/passwd",
        "statements/../../x",
        "C:\\x",
        "statements/",
        ".hidden",
        "x" * 200,
    ):
        made = io.BytesIO(package)
        with zipfile.ZipFile(made, "a") as archive:
            archive.writestr(zipfile.ZipInfo(name), b"x")
        refused(made.getvalue())
        with pytest.raises(Malformed):
            pack({name: b""})
    twice = io.BytesIO(package)
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(zipfile.ZipInfo("summary.md"), b"Another summary")
    refused(twice.getvalue())
    # And one whose files, not only its directory, come twice.
    first = pack({"summary.md": b"one"})
    local = first[: 30 + len("summary.md") + 3]
    with pytest.raises(Unproven, match=r"two files named summary\.md"):
        unpack(local + first)


def test_encrypted_and_bombs_and_lies_about_sizes_are_refused_within_bounds(package: bytes) -> None:
    assert "encrypted" in refused(flipped(package, 6))
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, bytes(50_000_000))
    assert "compressed" in refused(bomb.getvalue())
    sized = bytearray(package)
    struct.pack_into("<II", sized, 18, 2**32 - 1, 2**32 - 1)
    assert "breaks off" in refused(bytes(sized))
    with pytest.raises(Malformed, match="at most"):
        pack({f"statements/{number:06d}.json": b"" for number in range(MAX_FILES + 1)})
    many = b"".join(pack({f"statements/{number:06d}.json": b""})[: 30 + 22] for number in range(MAX_FILES + 1))
    assert "more than" in refused(many)


def test_json_that_would_fill_the_memory_is_not_read(package: bytes) -> None:
    files = contents(package)
    many = b"[" + b"[]," * (1024 * 1024) + b"[]]"
    for name in (MANIFEST, CUSTODY):
        changed = with_changes(package, {name: many + b"\n"})
        tracemalloc.start()
        assert name in refused(changed)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 8 * len(changed)
    with pytest.raises(Unproven, match="not a list"):
        read_evidence(many)
    widest = decode_manifest(files[MANIFEST]).model_copy(
        update={
            "despite": "\U0001f916" * 8000,
            "attested": {f"{number:03d}" + "\U0001f916" * 197: "\U0001f916" * 200 for number in range(32)},
            "files": [entry_for(f"{number:04d}".ljust(100, "x"), b"") for number in range(MAX_FILES)],
        }
    )
    assert decode_manifest(widest.encode()) == widest


@given(st.binary(max_size=400), st.integers(0, 3))
def test_any_bytes_are_refused_in_words(data: bytes, kind: int) -> None:
    start = [
        b"",
        b"PK\x03\x04",
        pack({MANIFEST: b"{}"}),
        pack({MANIFEST: data, "manifest.dsse.json": data, CUSTODY: data}),
    ]
    refused(start[kind] + (data if kind < 3 else b""))


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_the_archive_gives_back_what_went_in_and_others_can_read_it(held: list[bytes]) -> None:
    files = {f"folder/{number}.json": content for number, content in enumerate(held)}
    data = pack(files)
    assert contents(data) == files
    if files:
        assert list(unpack(data).items()) == list(files.items())


# -- a lab that lies -------------------------------------------------------------------------------------------------


def test_a_lab_cannot_sign_for_a_summary_that_its_statements_do_not_give(package: bytes) -> None:
    files = contents(package)
    for name in ("summary.md", "timeline.md"):
        assert f"{name} is not what the statements give" in refused(resigned(package, {name: files[name] + b"More.\n"}))
    changed = files["summary.md"].replace(b"disputed by Cirrus", b"disputed by nobody")
    assert changed != files["summary.md"]
    assert "summary.md" in refused(resigned(package, {"summary.md": changed}))


def test_a_lab_cannot_claim_what_the_criteria_do_not_ask_or_hide_that_one_is_not_met(package: bytes) -> None:
    assert "the criteria do not ask" in refused(resigned(package, attested={"several labs": "me"}))
    assert "summary.md" in refused(resigned(package, attested={}))
    assert "is required and not met" in refused(resigned(short_of_labs(package)))
    assert "summary.md" in refused(resigned(package, built_by="Somebody else"))


def test_a_lab_cannot_choose_as_of_when_its_package_is_read(package: bytes) -> None:
    before = datetime.fromtimestamp(NOW, UTC) - timedelta(days=30)
    assert "before the log signed" in refused(resigned(package, built_at=before))
    # After the pattern's dispute, the sightings or the criteria have expired, the summary is another, or there is none.
    assert "are expired" in refused(resigned(package, built_at=datetime(2029, 7, 1, tzinfo=UTC)))


def test_a_package_of_old_news_says_so_and_a_labs_own_cosignature_is_no_evidence(tmp_path: Path) -> None:
    log = eventful_case(evidence=["cosignatures"])
    with LyingHub(entries_of(log)) as hub:
        home = read_home(tmp_path / "lab", hub, log)
        hub.cosigned = []
        cosign(hub, "Aurora", entries_of(log))
        session = Session(Home(home))
        session.catch_up()
        selection = select(session, INCIDENT, find(session, CRITERIA), cosigned_notes(session))
        telling = assess(session, selection, Claims("", {"counsel agreed": "Counsel"}, "", ()))
        assert list(telling.proven.cosigned) == [AURORA]
        assert [one.name for one in unmet(telling.findings)] == ["cosignatures"]
        session.store.close()
        session = Session(Home(home), clock=lambda: time.time() + 30 * 86400)
        made = build(session, selection, assess(session, selection, Claims("", {}, "We know", ())))
        session.store.close()
    warnings = report(verify(made.data, log.fingerprint)).warnings
    assert any("days after the log vouched" in one for one in warnings)


def test_an_opening_by_a_stolen_key_is_told(tmp_path: Path) -> None:
    log = eventful_case()
    incident = next(at for at, made in enumerate(log.entries) if INCIDENT.encode() in made.payload)
    revoked = revoke_body("Aurora analyst", incident)
    log.say("membership.revoke_key", AURORA, AURORA, revoked, ["Aurora owner"])
    second = add_key_body("Aurora second", "analyst", AURORA)
    log.say("membership.add_key", AURORA, AURORA, second, ["Aurora owner"])
    with LyingHub(entries_of(log)) as hub:
        home = read_home(tmp_path / "lab", hub, log)
        keep_key(home, "analyst", "Aurora second")
        warnings = report(verify(built(home, despite="Urgent"), log.fingerprint)).warnings
    assert any("opening was reported compromised" in one for one in warnings)


def much_said(log: ForumLog, updates: int) -> None:
    """Cirrus, which did not join, and Boreal, which did, say so much more."""
    marked = handling(valid_until=FAR)
    pattern = record_reference(log.head(PATTERN))
    first = {"id": INCIDENT, "version": 1, "entry": log.versions[INCIDENT, 1]}
    for number in range(updates):
        voice = voice_id("opinion", CIRRUS, str(pattern["entry"]))
        log.say("opinion", voice, CIRRUS, opinion_body(marked, pattern), ["Cirrus analyst"])
        for lab, name in ((CIRRUS, "Cirrus"), (BOREAL, "Boreal")):
            act = action_body(marked, first, "update", note=f"Number {number}")
            log.say("incident_action", identifier("incident-action", log.size << 8), lab, act, [f"{name} analyst"])


def test_a_lab_that_says_much_does_not_make_every_package_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = eventful_case()
    much_said(log, 20)
    with LyingHub(entries_of(log)) as hub:
        home = read_home(tmp_path / "lab", hub, log)
        package = built(home)
        monkeypatch.setattr(selecting, "MAX_ENTRIES", LOG.size + 10)
        smaller = built(home)
        monkeypatch.setattr(selecting, "MAX_ENTRIES", LOG.size - 12)
        with pytest.raises(InvalidInput, match="this takes at least"):
            built(home)
    verified = verify(package, log.fingerprint)
    assert [one.feedback.disputed_by for one in verified.telling.proven.case.patterns] == [{CIRRUS}]
    case = verified.telling.proven.case
    assert [step.lab for step in case.timeline.steps if step.without_effect] == [CIRRUS] * SHOWN_WITHOUT_EFFECT
    assert verified.telling.manifest.left_out == {CIRRUS: 21 - SHOWN_WITHOUT_EFFECT}
    assert sum(step.lab == BOREAL and step.action == "update" for step in case.timeline.steps) == 21
    assert b"13 further acts by Cirrus are left out" in contents(package)["timeline.md"]
    assert any("--all" in one for one in report(verified).warnings)

    # Where even that is too much, the others' updates are counted instead, and what changes the state is all there.
    less = verify(smaller, log.fingerprint).telling
    timeline = less.proven.case.timeline
    assert less.manifest.left_out == {BOREAL: 13, CIRRUS: 21}
    assert (timeline.level, timeline.labs, timeline.state) == ("Act", (AURORA, BOREAL), "open")
    assert [(one.name, one.found) for one in less.findings] == [
        (one.name, one.found) for one in verified.telling.findings
    ]


def short_of_labs(package: bytes) -> bytes:
    """Without the act by which Boreal joined, and everything after it."""
    changes: dict[str, bytes | None] = {}
    for name in contents(package):
        folder, _, rest = name.partition("/")
        if folder in ("statements", "proofs") and 11 <= int(rest[:6]) <= 15:
            changes[name] = None
    return with_changes(package, changes)


def test_a_statement_that_the_case_needs_cannot_be_left_out(package: bytes) -> None:
    def without(index: int) -> bytes:
        return resigned(package, {f"statements/{index:06d}.json": None, f"proofs/{index:06d}.tlog-proof": None})

    assert "does not found" in refused(without(0))
    assert "no key with id" in refused(without(2))  # Boreal's admission
    for index in (4, 5, 8, 9, 10):  # the pattern, a sighting, the protocol, the criteria, the incident
        assert "not there" in refused(without(index))
    assert "summary.md" in refused(without(17))  # the dispute


def test_a_statement_that_is_not_in_the_log_cannot_be_put_in(package: bytes) -> None:
    files = contents(package)
    other = files["statements/000013.json"]
    assert "inclusion proof of entry 12" in refused(resigned(package, {"statements/000012.json": other}))
    swapped = files["proofs/000013.tlog-proof"]
    assert "another entry" in refused(resigned(package, {"proofs/000012.tlog-proof": swapped}))
    assert "is not there" in refused(resigned(package, {"proofs/000012.tlog-proof": None}))
    assert "no place" in refused(resigned(package, {"statements/12.json": other}))
    assert "no place" in refused(resigned(package, {"proofs/000099.tlog-proof": swapped}))
    note = files["checkpoint"].replace(b"\n20\n", b"\n19\n")
    assert note != files["checkpoint"]
    refused(resigned(package, {"checkpoint": note}))


def test_only_an_analyst_of_the_lab_signs_it(package: bytes) -> None:
    for stranger in ("Aurora sync", "Boreal analyst", "Ada", "nobody"):
        assert "no analyst's key" in refused(resigned(package, signer=stranger))
    assert "no analyst's key" in refused(resigned(package, lab=BOREAL))
    files = contents(package)
    signature = bytearray(files["manifest.dsse.json"])
    place = signature.index(b'"sig":"') + 10
    signature[place] = ord("A") if signature[place] != ord("A") else ord("B")
    assert "not by the key" in refused(with_changes(package, {"manifest.dsse.json": bytes(signature)}))


def test_a_log_that_another_wrote_is_another_forum(package: bytes, tmp_path: Path) -> None:
    twin: ForumLog = eventful_case(title="Other criteria")
    with LyingHub(entries_of(twin)) as hub:
        other = built(read_home(tmp_path / "lab", hub, twin))
    # The same members and keys, and a history that forks from the other's at the criteria: both are signed.
    verify(other, LOG.fingerprint)
    mixed = contents(other)["statements/000009.json"]
    assert "entry 9" in refused(resigned(package, {"statements/000009.json": mixed}))


# -- custody ---------------------------------------------------------------------------------------------------------


def test_a_chain_of_custody_is_whole_or_refused(package: bytes) -> None:
    files = contents(package)
    manifest = decode_manifest(files[MANIFEST])
    chain = read_chain(files[CUSTODY], manifest)
    chain.append(next_entry(chain, "2026-12-01T00:00:00Z", "Ana Lyst", "Officer One", None))
    chain.append(next_entry(chain, "2026-12-02T00:00:00Z", "Officer One", "Officer Two", "By courier"))
    verify(with_changes(package, {CUSTODY: write_chain(chain)}), LOG.fingerprint)
    whole = write_chain(chain)
    for place in range(0, len(whole), 3):
        with pytest.raises(Unproven, match=r"custody\.jsonl was changed"):
            read_chain(flipped(whole, place), manifest)
    for lines in (chain[1:], [chain[0], chain[2]], [chain[0], chain[2], chain[1]], [*chain, chain[2]], []):
        assert CUSTODY in refused(with_changes(package, {CUSTODY: write_chain(lines)}))
    assert CUSTODY in refused(with_changes(package, {CUSTODY: whole[:-1]}))
    assert CUSTODY in refused(with_changes(package, {CUSTODY: whole + b"{}\n"}))
    elsewhere = first_entry(manifest.model_copy(update={"built_by": "Somebody"}))
    assert "line 1" in refused(with_changes(package, {CUSTODY: write_chain([elsewhere])}))
    with pytest.raises(Malformed, match="clock"):
        next_entry(chain, "2026-11-30T00:00:00Z", "A", "B", None)
