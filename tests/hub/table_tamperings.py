"""The same as `tamperings`, done to what can be derived from the log, and to what cannot but has to go with it."""

from __future__ import annotations

from tests.hub.tamperings import OTHER_SIGNATURE, UNKNOWN, WITHOUT_SIGNATURE, Tampering, flipped

UNCOMPUTED = "ALTER TABLE records ALTER COLUMN search DROP EXPRESSION"
OTHER_SIGNER = "envelope = convert_to(replace(convert_from(envelope, 'UTF8'), '<ada>', repeat('0', 64)), 'UTF8')"
PROPOSAL = "WHERE payload_sha256 = '\\x<pending>'"


def altered(table: str, where: str, row: str, changes: dict[str, str]) -> dict[str, Tampering]:
    """One column at a time, which the check has to name."""
    return {
        f"{table}: {column}": (
            f"UPDATE {table} SET {column} = {value} WHERE {where}",
            [f"{table} {row}: {column}: not what the log says"],
        )
        for column, value in changes.items()
    }


PROJECTIONS: dict[str, Tampering] = {
    **altered(
        "records",
        "entry = 5",
        "5",
        {
            "leaf_hash": "set_byte(leaf_hash, 0, get_byte(leaf_hash, 0) # 1)",
            "type": "'sighting'",
            "version": "3",
            "author": "'<boreal>'",
            "created": "created - interval '1 second'",
            "kind": "'detection_method'",
            "title": "'Bootstrapped'",
            "techniques": "'{}'",
            "severity": "NULL",
            "marking": "'clear'",
            "valid_until": "valid_until + interval '1 year'",
            "refers_to": "'<pattern>'",
            "signer": "'<witness>'",
            "statement": "jsonb_set(statement, '{body,description}', '\"Nothing.\"')",
        },
    ),
    "records: statement, true made 1": (
        "UPDATE records SET statement = jsonb_set(statement, '{body,tests,0,synthetic}', '1') WHERE entry = 5",
        ["records 5: statement: not what the log says"],
    ),
    "records: id": ("UPDATE records SET id = '<pattern>x' WHERE entry = 5", ["records 5: id: not what the log says"]),
    "records: search": (
        f"{UNCOMPUTED}; UPDATE records SET search = to_tsvector('english', 'nothing') WHERE entry = 5",
        ["records 5: search: not made of the record's own text"],
    ),
    "records: gone": ("DELETE FROM records WHERE entry = 5", ["records 5: is missing"]),
    "records: filed under another entry": (
        "UPDATE records SET entry = 10 WHERE entry = 5",
        ["records 5: is missing", f"records 10: {UNKNOWN}"],
    ),
    "records: beyond the log": (
        "UPDATE records SET entry = 11 WHERE entry = 5",
        ["records 5: is missing", "records 11: belongs to no entry"],
    ),
    **altered(
        "record_heads",
        "id = '<other>'",
        "<other>",
        {
            "type": "'sighting'",
            "version": "2",
            "entry": "5",
            "leaf_hash": "set_byte(leaf_hash, 0, get_byte(leaf_hash, 0) # 1)",
            "author": "'<aurora>'",
            "withdrawn_at": "NULL",
        },
    ),
    "record_heads: of a lab": (
        "UPDATE record_heads SET version = 9 WHERE id = '<cirrus>'",
        ["record_heads <cirrus>: version: not what the log says"],
    ),
    "record_heads: gone": ("DELETE FROM record_heads WHERE id = '<sighting>'", ["record_heads <sighting>: is missing"]),
    "record_heads: the last gone": (
        "DELETE FROM record_heads WHERE id = '<withdrawal>'",
        ["record_heads <withdrawal>: is missing"],
    ),
    "record_heads: one too many": (
        "INSERT INTO record_heads SELECT 'zzz', type, version, entry, leaf_hash, author FROM record_heads LIMIT 1",
        [f"record_heads zzz: {UNKNOWN}"],
    ),
    **altered(
        "forum",
        "true",
        "<forum>",
        {
            "name": "'Another'",
            "fingerprint": "set_byte(fingerprint, 0, get_byte(fingerprint, 0) # 1)",
            "origin": "'other.example/log'",
            "log_key": "timestamp_key",
            "timestamp_key": "log_key",
            "admins": "admins[1:2]",
            "threshold": "1",
        },
    ),
    "forum: id": ("UPDATE forum SET id = 'forum--x'", [f"forum forum--x: {UNKNOWN}", "forum <forum>: is missing"]),
    "forum: a second one": (
        "INSERT INTO forum SELECT 'x', name, fingerprint, origin, log_key, timestamp_key, admins, threshold FROM forum",
        [f"forum x: {UNKNOWN}"],
    ),
    "forum: gone": ("DELETE FROM forum", ["forum <forum>: is missing"]),
    **altered("members", "id = '<cirrus>'", "<cirrus>", {"name": "'Cirrus Ltd'", "status": "'active'", "since": "2"}),
    "members: gone": ("DELETE FROM members WHERE id = '<cirrus>'", ["members <cirrus>: is missing"]),
    "members: one too many": (
        "INSERT INTO members VALUES ('member--x', 'Intruder', 'active', 3)",
        [f"members member--x: {UNKNOWN}"],
    ),
    **altered(
        "member_keys",
        "key_id = '<revoked>'",
        "<revoked>",
        {
            "public_key": "set_byte(public_key, 0, get_byte(public_key, 0) # 1)",
            "holder": "'<aurora>'",
            "role": "'owner'",
            "name": "'Ada'",
            "since": "1",
            "revoked_at": "NULL",
            "suspect_from": "NULL",
        },
    ),
    "member_keys: an admin's": (
        "UPDATE member_keys SET revoked_at = 10 WHERE key_id = '<ada>'",
        ["member_keys <ada>: revoked_at: not what the log says"],
    ),
    "member_keys: gone": ("DELETE FROM member_keys WHERE key_id = '<analyst>'", ["member_keys <analyst>: is missing"]),
    "member_keys: one too many": (
        "INSERT INTO member_keys VALUES (repeat('0', 64), '\\x00', '<aurora>', 'analyst', '', 1)",
        [f"member_keys {'0' * 64}: {UNKNOWN}"],
    ),
}

UNLOGGED: dict[str, Tampering] = {
    "hub_binding: fingerprint": (
        f"UPDATE hub_binding SET {flipped('fingerprint')}",
        ["hub_binding: fingerprint: not that of the forum that is founded here"],
    ),
    "hub_binding: gone": ("DELETE FROM hub_binding", ["hub_binding: is missing"]),
    "checkpoint_reports: tree_size": (
        "UPDATE checkpoint_reports SET tree_size = 300",
        ["checkpoint_reports <aurora>: tree_size is 300, the note says 11"],
    ),
    "checkpoint_reports: tree_size made 0": (
        "UPDATE checkpoint_reports SET tree_size = 0",
        ["checkpoint_reports <aurora>: tree_size is 0, the note says 11"],
    ),
    "checkpoint_reports: note": (
        f"UPDATE checkpoint_reports SET {WITHOUT_SIGNATURE}",
        ["checkpoint_reports <aurora>: the note is refused: "],
    ),
    "checkpoint_reports: note of another size": (
        "UPDATE checkpoint_reports SET note = (SELECT note FROM checkpoints WHERE tree_size = 7)",
        ["checkpoint_reports <aurora>: tree_size is 11, the note says 7"],
    ),
    "unproven_checkpoints: tree_size": (
        "INSERT INTO unproven_checkpoints SELECT reporter, 300, note FROM checkpoint_reports",
        ["unproven_checkpoints <aurora>: tree_size is 300, the note says 11"],
    ),
    "unproven_checkpoints: note": (
        "INSERT INTO unproven_checkpoints SELECT reporter, tree_size, 'nothing' FROM checkpoint_reports",
        ["unproven_checkpoints <aurora>: the note is refused: "],
    ),
    "cosignatures: tree_size": (
        "UPDATE cosignatures SET tree_size = 7",
        ["cosignatures 7/<witness>: the line is refused: the signature line of <aurora> does not hold"],
    ),
    "cosignatures: tree_size of nothing": (
        "UPDATE cosignatures SET tree_size = 12",
        ["cosignatures 12/<witness>: there is no such checkpoint"],
    ),
    "cosignatures: key_id": (
        "UPDATE cosignatures SET key_id = '<analyst>'",
        ["cosignatures 4/<analyst>: no witness's key has this id"],
    ),
    "cosignatures: timestamp": (
        "UPDATE cosignatures SET timestamp = timestamp + 1",
        ["cosignatures 4/<witness>: the line is not a cosignature by that key of that time"],
    ),
    "cosignatures: line cut short": (
        "UPDATE cosignatures SET line = substr(line, 1, 40)",
        ["cosignatures 4/<witness>: the line is refused: "],
    ),
    "cosignatures: line of another": (
        "UPDATE cosignatures SET line = replace(line, '<aurora>', '<boreal>')",
        ["cosignatures 4/<witness>: the line is not a cosignature by that key of that time"],
    ),
    "member_usage: bytes": (
        "UPDATE member_usage SET bytes = 1 WHERE member = '<aurora>'",
        ["member_usage <aurora>: bytes is 1, the log has "],
    ),
    "member_usage: gone": ("DELETE FROM member_usage WHERE member = '<aurora>'", ["member_usage <aurora>: is missing"]),
    "member_usage: one too many": (
        "INSERT INTO member_usage VALUES ('<cirrus>', now(), 7)",
        ["member_usage <cirrus>: bytes is 7, the log has 0 bytes of its entries"],
    ),
    "proposals: payload_sha256": (
        f"UPDATE proposals SET payload_sha256 = decode(repeat('00', 32), 'hex') {PROPOSAL}",
        [f"proposals {'0' * 64}: payload_sha256 is not that of the payload"],
    ),
    "proposals: envelope": (
        f"UPDATE proposals SET envelope = substr(envelope, 1, 99) {PROPOSAL}",
        ["proposals <pending>: the envelope is refused: "],
    ),
    "proposals: envelope of a record": (
        f"UPDATE proposals SET envelope = (SELECT envelope FROM log_entries WHERE index = 4) {PROPOSAL}",
        ["proposals <pending>: the envelope is refused: it is not a membership statement"],
    ),
    "proposals: signature": (
        f"UPDATE proposals SET {OTHER_SIGNATURE} {PROPOSAL}",
        ["proposals <pending>: the signature by <ada> does not hold"],
    ),
    "proposals: signer": (
        f"UPDATE proposals SET {OTHER_SIGNER} {PROPOSAL}",
        [f"proposals <pending>: is signed by {'0' * 64}, which nobody registered"],
    ),
    "proposals: dropped_because": (
        f"UPDATE proposals SET dropped_because = 'we do not like it' {PROPOSAL}",
        ["proposals <pending>: dropped_because: it can be logged still"],
    ),
}
