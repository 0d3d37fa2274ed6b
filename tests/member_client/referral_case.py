"""An incident of three labs, told from its pattern to its acts, in a log; and a home that has read it."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path
from typing import Any

from member_client.home import Home
from member_client.referral.archive import pack
from member_client.referral.building import Claims, assess, build
from member_client.referral.criteria import find
from member_client.referral.custody import first_entry, write_chain
from member_client.referral.manifest import (
    CUSTODY,
    MANIFEST,
    SIGNATURE,
    LocalEvidence,
    decode_manifest,
    entry_for,
    sign,
)
from member_client.referral.selecting import select
from member_client.session import Session
from sharing_protocol.statements import voice_id
from tests.member_client.command import settle
from tests.member_client.follower import Lab, entries_of
from tests.member_client.lab_homes import keep_key
from tests.member_client.lying_hub import LyingHub
from tests.member_client.witness_forum import cosign, forum_of_witnesses
from tests.protocol.forum_log import AURORA, BOREAL, CIRRUS, ForumLog, handling, identifier, key, pattern_body
from tests.protocol.forum_log import record_reference as reference
from tests.protocol.forum_log import sighting_body as seen
from tests.protocol.response_bodies import (
    action_body,
    criteria_body,
    endorsement_body,
    incident_body,
    opinion_body,
    playbook_body,
)

Document = dict[str, Any]

PATTERN = identifier("pattern", 0x100)
SIGHTINGS = [identifier("sighting", 0x200 + number) for number in range(3)]
PROTOCOL = identifier("playbook", 0x400)
CRITERIA = identifier("referral-criteria", 0x500)
INCIDENT = identifier("incident", 0x600)
NOW = 1_795_000_000.0
FAR = "2029-06-01T00:00:00Z"
TITLE = "A pool of accounts <b>at several labs</b> | 多个实验室"


def eventful_case(**changes: Any) -> ForumLog:
    """The log; `changes` are to the criteria."""
    log = forum_of_witnesses()
    marked = handling(valid_until=FAR)

    def say(kind: str, record: str, lab: str, body: Document) -> None:
        name = {AURORA: "Aurora", BOREAL: "Boreal", CIRRUS: "Cirrus"}[lab]
        log.say(kind, record, lab, body, [f"{name} analyst"])

    say("pattern", PATTERN, AURORA, pattern_body(valid_until=FAR))
    pattern = reference(log.head(PATTERN))
    for number, lab in enumerate((AURORA, BOREAL, BOREAL)):
        start = ["2026-02-01", "2026-02-03", "2026-02-20"][number]
        end = ["2026-02-05", "2026-02-10", "2026-02-22"][number]
        days = {"period_start": f"{start}T00:00:00Z", "period_end": f"{end}T00:00:00Z"}
        say("sighting", SIGHTINGS[number], lab, seen(pattern, valid_until=FAR, **days))
    say("playbook", PROTOCOL, CIRRUS, playbook_body(marked))
    say("referral_criteria", CRITERIA, CIRRUS, criteria_body(marked, **changes))
    protocol = reference(log.head(PROTOCOL))
    body = incident_body(marked, title=TITLE, patterns=[pattern], protocol=protocol)
    say("incident", INCIDENT, AURORA, body)
    first = reference(log.head(INCIDENT))
    seen_here = {"sightings": [reference(log.head(one)) for one in SIGHTINGS], "note": "# Not a heading"}
    acts: list[tuple[str, str, Document]] = [
        (BOREAL, "join", {}),
        (BOREAL, "update", seen_here),
        (BOREAL, "escalate", {"level": "Act"}),
        (AURORA, "escalate", {"level": "Act"}),
        (CIRRUS, "update", {"note": "Cirrus did not join."}),
    ]
    for number, (lab, action, more) in enumerate(acts):
        act = action_body(marked, first, action, **more)
        say("incident_action", identifier("incident-action", 0x700 + number), lab, act)
    voice = voice_id("endorsement", BOREAL, str(pattern["entry"]))
    say("endorsement", voice, BOREAL, endorsement_body(marked, pattern))
    voice = voice_id("opinion", CIRRUS, str(pattern["entry"]))
    say("opinion", voice, CIRRUS, opinion_body(marked, pattern))
    for number in range(2):  # nobody who is shown the incident has any business with these
        other = pattern_body(title=f"Something else {number}", valid_until=FAR)
        say("pattern", identifier("pattern", 0x900 + number), CIRRUS, other)
    return log


def built(home: Path, evidence: tuple[LocalEvidence, ...] = (), **claims: Any) -> bytes:
    """A package of the incident, by Aurora's analyst at `NOW`."""
    session = Session(Home(home), clock=lambda: NOW)
    attested = {"counsel agreed": "General counsel, by memo of 1 March"}
    said = Claims(**{"built_by": "Ana Lyst", "attested": attested, "despite": "", "evidence": evidence, **claims})
    selection = select(session, INCIDENT, find(session, CRITERIA))
    made = build(session, selection, assess(session, selection, said))
    session.store.close()
    return made.data


def resigned(
    data: bytes, changes: dict[str, bytes | None] | None = None, signer: str = "Aurora analyst", **claims: Any
) -> bytes:
    """What a dishonest lab could make of a package: other files or claims, signed anew by the key of this name."""
    files = with_files(contents(data), changes or {})
    manifest = decode_manifest(files[MANIFEST])
    held = {name: content for name, content in files.items() if name not in (MANIFEST, SIGNATURE, CUSTODY)}
    listed = [entry_for(name, content) for name, content in held.items()]
    manifest = manifest.model_copy(update={"files": listed, **claims})
    written = manifest.encode()
    custody = write_chain([first_entry(manifest)])
    return pack({MANIFEST: written, SIGNATURE: sign(written, key(signer)), CUSTODY: custody, **held})


def with_files(files: dict[str, bytes], changes: dict[str, bytes | None]) -> dict[str, bytes]:
    """Files changed, added at the end, or taken out (None)."""
    merged: dict[str, bytes | None] = {**files, **changes}
    return {name: content for name, content in merged.items() if content is not None}


def read_home(folder: Path, hub: LyingHub, log: ForumLog) -> Path:
    """Aurora's home, which has read the log, and has its analyst's and sync key; Boreal has cosigned it."""
    lab = Lab(folder, hub, log.fingerprint)
    hub.clock = lambda: min(NOW, time.time())  # a package is not built before the log vouched for what is in it
    lab.sync(clock=hub.clock)
    hub.clock = time.time
    lab.store.close()
    home = settle(lab)
    (home / "keys").mkdir(mode=0o700, exist_ok=True)
    for role in ("analyst", "sync"):
        keep_key(home, role, f"Aurora {role}")
    cosign(hub, "Boreal", entries_of(log))
    return home


def contents(data: bytes) -> dict[str, bytes]:
    """The files of a package, read by another program's ZIP reader."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_changes(data: bytes, changes: dict[str, bytes | None]) -> bytes:
    """The package with files changed, added at the end, or taken out (None), in the one form of an archive."""
    return pack(with_files(contents(data), changes))
