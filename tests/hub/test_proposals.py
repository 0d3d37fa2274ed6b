"""`/proposals`: a membership statement goes from admin to admin until enough of them have signed; then it is logged."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from itertools import count
from uuid import uuid4

import httpx
import pytest

from hub.app import utc_now
from hub.database.proposal_store import MAX_PENDING
from hub.identity import HubIdentity
from hub.proposals import Proposals
from sharing_protocol import envelope, wire
from sharing_protocol.envelope import Envelope
from sharing_protocol.statements import new_id
from sharing_protocol.statements.header import format_timestamp
from sharing_protocol.trust import check_receipt
from tests.forum import Document, Lab, admin, pattern_body, registration, signed, sql
from tests.hub.documented_forum import DocumentedForum, documented_forum
from tests.hub.refusals import contents, problem_of, refused
from tests.hub.stored_log import differences, held, number, wait_until

_numbers = count(1)


@pytest.fixture(scope="module")
def box(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[DocumentedForum]:
    """A forum of Ada, Ben and Cleo, two of whom decide."""
    with documented_forum(new_database(), hub_identity) as made:
        yield made
        assert differences(made.hub.database_url) == []


@pytest.fixture
def lab(box: DocumentedForum) -> Lab:
    """A lab that no other test knows."""
    return box.admit(f"Lab {next(_numbers)}")


def decision(box: DocumentedForum, lab: Lab, kind: str = "suspend", reason: str = "Asked for it") -> Document:
    """A statement about a lab, for the state in which it is."""
    return box.statement(f"membership.{kind}", lab.id, box.id, {"reason": reason})


def send(box: DocumentedForum, document: Document, *signers: str, sender: str = "") -> httpx.Response:
    """Send it as these have signed it, in the first one's name."""
    return box.post(wire.PROPOSALS, signed(document, *signers).encode(), sender or signers[0])


def accepted(box: DocumentedForum, response: httpx.Response, status: int) -> wire.Proposal:
    """What the hub answered; a receipt must prove that very envelope."""
    assert response.status_code == status, response.text
    proposal = wire.Proposal.model_validate_json(response.content)
    assert (proposal.receipt is not None) == (proposal.missing == "")
    if proposal.receipt is not None:
        check_receipt(proposal.receipt, proposal.envelope.encode(), box.hub.identity.public)
        box.remember(envelope.parse(proposal.envelope.encode()))
    return proposal


def one(box: DocumentedForum, proposal_id: str, reader: str = "Ben") -> httpx.Response:
    """Ask for a proposal."""
    return box.get(f"{wire.PROPOSALS}/{proposal_id}", reader)


def pending(box: DocumentedForum, reader: str = "Ben") -> list[str]:
    """Ids of the proposals that wait."""
    page = wire.ProposalPage.model_validate_json(box.get(wire.PROPOSALS, reader).content)
    assert all(proposal.receipt is None and proposal.missing for proposal in page.proposals)
    return [proposal.id for proposal in page.proposals]


# -- gathering -----------------------------------------------------------------------------------------------------


def test_second_signature_logs_what_the_first_proposed(box: DocumentedForum, lab: Lab) -> None:
    document = decision(box, lab)
    size = box.size()
    begun = accepted(box, send(box, document, "Ada"), 202)
    assert begun.signed_by == ["Ada"]
    assert "2" in begun.missing
    assert box.size() == size
    for reader in ("Ada", "Cleo", lab.sync):
        assert begun.id in pending(box, reader)
        assert accepted(box, one(box, begun.id, reader), 200) == begun

    logged = accepted(box, send(box, document, "Ben"), 201)
    assert logged.id == begun.id
    assert sorted(logged.signed_by) == ["Ada", "Ben"]
    assert logged.receipt is not None
    assert logged.receipt.index == size == box.size() - 1
    assert begun.id not in pending(box)
    assert accepted(box, one(box, begun.id), 200).envelope == logged.envelope
    problem_of(box.get(wire.MEMBERS, lab.sync), 403, "member_suspended")


def test_enough_signatures_at_once_are_logged_at_once(box: DocumentedForum, lab: Lab) -> None:
    logged = accepted(box, send(box, decision(box, lab), "Ada", "Cleo"), 201)
    assert sorted(logged.signed_by) == ["Ada", "Cleo"]


def test_the_same_admin_counts_once(box: DocumentedForum, lab: Lab) -> None:
    document = decision(box, lab)
    first = accepted(box, send(box, document, "Ada"), 202)
    size = box.size()
    assert accepted(box, send(box, document, "Ada"), 202) == first
    assert first.signed_by == ["Ada"]
    assert box.size() == size


def test_signatures_that_were_gathered_may_be_sent_again_with_one_more(box: DocumentedForum, lab: Lab) -> None:
    document = decision(box, lab)
    accepted(box, send(box, document, "Ada"), 202)
    accepted(box, send(box, document, "Ada", "Ben", sender="Ben"), 201)


def test_who_signs_too_late_gets_the_receipt_of_what_was_logged(box: DocumentedForum, lab: Lab) -> None:
    document = decision(box, lab)
    logged = accepted(box, send(box, document, "Ada", "Ben"), 201)
    late = accepted(box, send(box, document, "Cleo"), 201)
    assert (late.envelope, sorted(late.signed_by)) == (logged.envelope, ["Ada", "Ben"])
    assert late.receipt is not None
    assert logged.receipt is not None
    assert late.receipt.index == logged.receipt.index
    assert late.receipt.already_logged


def test_two_who_complete_it_at_once_get_one_entry_and_its_receipt(box: DocumentedForum, lab: Lab) -> None:
    document = decision(box, lab)
    begun = accepted(box, send(box, document, "Ada"), 202)
    size = box.size()
    database = box.hub.database_url
    with ThreadPoolExecutor(2) as threads:
        with held(database):
            late = [threads.submit(send, box, document, name) for name in ("Ben", "Cleo")]
            wait_until(lambda: all_signed(database, begun.id), "both signatures are stored")
        answers = [accepted(box, answer.result(), 201) for answer in late]
    assert {answer.envelope for answer in answers} == {accepted(box, one(box, begun.id), 200).envelope}
    assert box.size() == size + 1


def all_signed(database_url: str, proposal_id: str) -> bool:
    """Whether three admins' signatures are stored."""
    signatures = "regexp_count(convert_from(envelope, 'UTF8'), '\"sig\"') FROM proposals WHERE payload_sha256 = "
    return number(database_url, f"SELECT {signatures}'\\x{proposal_id}'") == 3


def test_what_was_logged_without_the_proposal_is_no_proposal_any_more(box: DocumentedForum, lab: Lab) -> None:
    document = decision(box, lab)
    begun = accepted(box, send(box, document, "Ben"), 202)
    made = signed(document, "Ada", "Cleo")
    receipt = box.log(made, "Ada")
    assert begun.id not in pending(box)
    found = accepted(box, one(box, begun.id), 200)
    assert found.envelope == made.encode().decode()
    assert found.receipt is not None
    assert found.receipt.index == receipt.index


@pytest.mark.parametrize("step", ["_gather", "_review"])
def test_who_is_overtaken_by_the_last_signature_is_not_refused(
    box: DocumentedForum, lab: Lab, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Others complete the proposal between the hub's seeing that it is not logged, and its next step."""
    document = decision(box, lab)
    begun = accepted(box, send(box, document, "Cleo"), 202)
    made = signed(document, "Ada", "Ben")
    original = getattr(Proposals, step)

    async def overtaken(*arguments: object) -> object:
        await asyncio.to_thread(box.log, made, "Ada")
        return await original(*arguments)

    monkeypatch.setattr(Proposals, step, overtaken)
    answer = send(box, document, "Cleo") if step == "_gather" else one(box, begun.id)
    assert accepted(box, answer, 201 if step == "_gather" else 200).envelope == made.encode().decode()


# -- what can never be logged any more -----------------------------------------------------------------------------


def test_a_proposal_for_a_state_that_has_passed_is_dropped(box: DocumentedForum, lab: Lab) -> None:
    beaten = decision(box, lab, "suspend", "Asked for it")
    winner = decision(box, lab, "expel", "Sold our patterns")
    lost = accepted(box, send(box, beaten, "Ada"), 202)
    other = accepted(box, send(box, winner, "Cleo"), 202)
    assert {lost.id, other.id} <= set(pending(box))
    accepted(box, send(box, winner, "Ben"), 201)
    problem = problem_of(one(box, lost.id), 410, "proposal_dropped", "", f"version 2 of {lab.id} is in the log with")
    assert lost.id not in pending(box)
    for late in ("Ben", "Ada"):
        refused(box, partial(send, box, beaten, late), 409, "version_conflict", "version")
    assert one(box, lost.id).json()["detail"] == problem.detail


def test_whoever_is_no_admin_any_more_takes_their_signature_along(database: str, hub_identity: HubIdentity) -> None:
    with documented_forum(database, hub_identity) as box:
        lab = box.admit("Aurora")
        document = decision(box, lab)
        lost = accepted(box, send(box, document, "Cleo"), 202)
        change = box.statement("membership.change_admins", box.id, box.id, change_body("Ada", "Ben"))
        accepted(box, send(box, change, "Ada", "Ben"), 201)
        problem_of(one(box, lost.id), 410, "proposal_dropped", "", "was revoked")
        assert pending(box) == []
        problem_of(send(box, document, "Cleo"), 403, "revoked_key")
        # What Cleo signed cannot be rescued, but said once more in other words.
        accepted(box, send(box, decision(box, lab, reason="Asked again"), "Ada", "Ben"), 201)


def change_body(*names: str, threshold: int = 2) -> Document:
    """The forum's new admins."""
    return {"admins": [admin(name) for name in names], "threshold": threshold, "reason": "A new board"}


# -- who is still to become an admin -------------------------------------------------------------------------------


def test_a_future_admin_reads_and_signs_what_appoints_them_and_nothing_else(
    database: str, hub_identity: HubIdentity
) -> None:
    with documented_forum(database, hub_identity) as box:
        lab = box.admit("Aurora")
        other = accepted(box, send(box, decision(box, lab), "Ada"), 202)
        change = box.statement("membership.change_admins", box.id, box.id, change_body("Ada", "Dora"))
        problem_of(box.get(wire.PROPOSALS, "Dora"), 401, "unknown_key")
        problem_of(send(box, change, "Dora"), 401, "unknown_key")
        begun = accepted(box, send(box, change, "Ada"), 202)
        accepted(box, send(box, change, "Ben"), 202)

        assert pending(box, "Dora") == [begun.id]
        assert accepted(box, one(box, begun.id, "Dora"), 200).signed_by.count("Ada") == 1
        problem_of(one(box, other.id, "Dora"), 404, "not_found")
        for path in (wire.CHECKPOINT, wire.MEMBERS, wire.RECORDS, "/tile/0/000.p/1", "/tile/entries/000.p/1"):
            problem_of(box.get(path, "Dora"), 401, "unknown_key")
        problem_of(send(box, decision(box, lab, reason="Mine"), "Dora"), 401, "unknown_key")
        problem_of(box.submit(signed(change, "Dora"), "Dora"), 401, "unknown_key")

        logged = accepted(box, send(box, change, "Dora"), 201)
        assert sorted(logged.signed_by) == ["Ada", "Ben", "Dora"]
        assert box.get(wire.MEMBERS, "Dora").status_code == 200
        accepted(box, send(box, decision(box, lab, reason="Mine"), "Dora"), 202)


# -- what is no proposal -------------------------------------------------------------------------------------------


def test_only_admins_propose(box: DocumentedForum, lab: Lab) -> None:
    document = decision(box, lab)
    for name in (lab.owner, lab.analyst, lab.sync):
        refused(box, partial(send, box, document, name), 403, "unexpected_signature")
    added = {"key": registration("late", "sync", lab.id), "reason": "A second machine"}
    own = box.statement("membership.add_key", lab.id, lab.id, added)
    refused(box, lambda: send(box, own, lab.owner), 403, "wrong_role", says="only the forum's admins make proposals")
    assert box.submit(signed(own, lab.owner), lab.owner).status_code == 201


def test_what_needs_no_other_signatures_is_no_proposal(box: DocumentedForum, lab: Lab) -> None:
    made = box.record(lab, pattern_body())
    refused(box, lambda: box.post(wire.PROPOSALS, made.encode(), lab.analyst), 422, "not_a_proposal")
    box.log(made, lab.analyst)
    refused(box, lambda: box.post(wire.PROPOSALS, made.encode(), lab.analyst), 422, "not_a_proposal")


def test_what_could_never_be_logged_is_not_stored(box: DocumentedForum, lab: Lab) -> None:
    later = format_timestamp(utc_now() + timedelta(minutes=6))
    cases: list[tuple[Document, tuple[str, ...], int, str, str]] = [
        ({**decision(box, lab), "created": later}, ("Ada",), 422, "invalid_dates", "created"),
        ({**decision(box, lab), "version": 1, "previous": None}, ("Ada",), 409, "version_conflict", "version"),
        ({**decision(box, lab), "version": 3}, ("Ada",), 409, "version_gap", "version"),
        ({**decision(box, lab), "previous": "0" * 64}, ("Ada",), 409, "previous_mismatch", "previous"),
        ({**decision(box, lab), "forum": "0" * 64}, ("Ada",), 422, "wrong_forum", "forum"),
        ({**decision(box, lab), "author": lab.id}, ("Ada",), 403, "not_the_author", "author"),
        ({**decision(box, lab), "type": "membership.applaud"}, ("Ada",), 422, "unknown_statement_type", "type"),
        ({**decision(box, lab), "body": {}}, ("Ada",), 422, "invalid_statement", "body.reason"),
        (decision(box, lab, "reinstate"), ("Ada",), 409, "bad_transition", ""),
        (decision(box, Lab(new_id("member", uuid4()), "Nobody")), ("Ada",), 422, "unknown_member", "id"),
        (decision(box, lab), ("Ada", lab.owner), 403, "unexpected_signature", ""),
        (decision(box, lab), ("Ada", "nobody"), 401, "unknown_key", ""),
    ]
    for document, signers, status, code, where in cases:
        refused(box, partial(send, box, document, *signers), status, code, where)
    made = signed(decision(box, lab), "Ada")
    refused(box, lambda: box.post(wire.PROPOSALS, made.encode(), "Ben"), 403, "not_the_signer")
    forged = made.encode().replace(b'"sig":"', b'"sig":"AAAA', 1)[:-7] + b'"}]}'
    refused(box, lambda: box.post(wire.PROPOSALS, forged, "Ada"), 400, "bad_base64")
    refused(box, lambda: box.post(wire.PROPOSALS, b"{}", "Ada"), 400, "malformed_envelope")
    altered = signed({**decision(box, lab), "body": {"reason": "Another"}}, "Ada").signatures
    swapped = dataclasses.replace(made, signatures=altered).encode()
    refused(box, lambda: box.post(wire.PROPOSALS, swapped, "Ada"), 403, "bad_signature")


def test_unknown_proposals_are_not_found_and_odd_ids_refused(box: DocumentedForum) -> None:
    problem_of(one(box, "0" * 64), 404, "not_found")
    for odd in ("0" * 63, "0" * 65, "A" * 64, "0" * 63 + "g", "0" * 64 + "%0A"):
        problem_of(one(box, odd), 422, "invalid_parameter", "path.proposal_id", "proposal_id")
    problem_of(box.get(f"{wire.PROPOSALS}?state=pending"), 422, "invalid_parameter", "query.state", "state")


# -- how many ------------------------------------------------------------------------------------------------------


def test_so_many_may_wait_and_no_more(database: str, hub_identity: HubIdentity) -> None:
    with documented_forum(database, hub_identity) as box:
        labs = [box.admit(name) for name in ("Aurora", "Boreal")]
        accepted(box, send(box, decision(box, labs[1]), "Ada"), 202)
        waiting = [signed(decision(box, labs[0], reason=f"Reason {n}"), "Ada") for n in range(MAX_PENDING - 1)]

        def store(*made: Envelope) -> None:
            with sql(database) as connection:
                connection.cursor().executemany(
                    "INSERT INTO proposals (payload_sha256, envelope) VALUES (%s, %s)",
                    [(bytes.fromhex(one.payload_sha256), one.encode()) for one in made],
                )

        store(*waiting[1:])
        last = decision(box, labs[0], reason="The last")
        accepted(box, send(box, last, "Ada"), 202)
        assert len(pending(box)) == MAX_PENDING
        too_many = decision(box, labs[0], "expel")
        refused(box, lambda: send(box, too_many, "Ada"), 409, "too_many_proposals")
        # Those that wait can be signed all the same; one of them makes room, for all the others have lost by it.
        accepted(box, send(box, last, "Ben"), 201)
        store(waiting[0])
        again = accepted(box, send(box, decision(box, labs[0], "expel"), "Ada"), 202)
        left = pending(box)
        assert (len(left), left[-1]) == (2, again.id)
        assert contents(box).tables["proposals"][0] == MAX_PENDING + 2
