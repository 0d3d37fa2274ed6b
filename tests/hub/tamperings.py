"""What somebody may do to a hub's database behind its back, and what the check has to say of it.

The log is that of `test_check`: `<aurora>` stands for the lab's id, and so on.

    0 founding, 1 to 3 admissions of Aurora, Boreal and Cirrus, 4 and 5 <pattern> of Aurora in two versions,
    6 <other> pattern of Boreal, 7 its <withdrawal>, 8 a <sighting> by Boreal, 9 a key of Boreal <revoked>, 10 Cirrus
    suspended. An <unsent> sighting was never sent. Proposals: <pending>, to reinstate Cirrus; <dropped>, to suspend
    it. Aurora has shown checkpoint 11.
"""

from __future__ import annotations

Tampering = tuple[str, list[str]]
"""SQL, and how each line begins that the check has to say, and no other."""


def flipped(column: str, byte: int = 5) -> str:
    """SQL for a value with one bit changed."""
    return f"{column} = set_byte({column}, {byte}, get_byte({column}, {byte}) # 1)"


NEITHER = "the envelope does not hash to leaf_hash: one of them was altered"
UNKNOWN = "says something that the log does not"
OTHER_NOTE = "UPDATE checkpoints SET note = (SELECT note FROM checkpoints WHERE tree_size = 6) WHERE tree_size = 7"
OTHER_SIGNATURE = (
    "envelope = convert_to(regexp_replace(convert_from(envelope, 'UTF8'), '\"sig\":\"....', '\"sig\":\"AAAA'), 'UTF8')"
)
WITHOUT_SIGNATURE = "note = substr(note, 1, strpos(note, E'\\n\\n') + 1)"
COPY = "INSERT INTO log_entries SELECT {}, '\\x01', '\\x02', type, envelope FROM log_entries WHERE index = 8"
REWRITTEN = (
    "UPDATE log_entries SET envelope = '\\x<unsent envelope>', leaf_hash = sha256('\\x00<unsent envelope>'), "
    "payload_sha256 = '\\x<unsent payload>' WHERE index = 8; "
    "UPDATE tiles SET hashes = overlay(hashes placing sha256('\\x00<unsent envelope>') from 257)"
)

LOG: dict[str, Tampering] = {
    "an envelope": (
        f"UPDATE log_entries SET {flipped('envelope', 200)} WHERE index = 8",
        [
            f"log_entries 8: {NEITHER}",
            "log_entries 8: may not be in the log where it is: ",
            f"records 8: {UNKNOWN}",
            f"record_heads <sighting>: {UNKNOWN}",
        ],
    ),
    "an envelope replaced by another of the log": (
        "UPDATE log_entries SET envelope = (SELECT envelope FROM log_entries WHERE index = 4) WHERE index = 8",
        [
            f"log_entries 8: {NEITHER}",
            "log_entries 8: may not be in the log where it is: version 1 of <pattern> is in the log with other bytes",
            f"records 8: {UNKNOWN}",
            f"record_heads <sighting>: {UNKNOWN}",
        ],
    ),
    "a signature within an envelope": (
        f"UPDATE log_entries SET {OTHER_SIGNATURE} WHERE index = 8",
        [
            f"log_entries 8: {NEITHER}",
            "log_entries 8: may not be in the log where it is: the signature by ",
            f"records 8: {UNKNOWN}",
            f"record_heads <sighting>: {UNKNOWN}",
        ],
    ),
    "a leaf hash": (
        f"UPDATE log_entries SET {flipped('leaf_hash')} WHERE index = 8",
        ["log_entries 8: leaf_hash is not that of the envelope"],
    ),
    "a leaf hash cut short": (
        "UPDATE log_entries SET leaf_hash = substr(leaf_hash, 1, 31) WHERE index = 8",
        ["log_entries 8: leaf_hash is not that of the envelope"],
    ),
    "a payload's hash": (
        f"UPDATE log_entries SET {flipped('payload_sha256')} WHERE index = 8",
        ["log_entries 8: payload_sha256 is not that of the payload"],
    ),
    "an entry's type": (
        "UPDATE log_entries SET type = 'pattern' WHERE index = 8",
        ["log_entries 8: type is 'pattern', the statement says 'sighting'"],
    ),
    "an entry that is gone": (
        "DELETE FROM log_entries WHERE index = 8",
        ["log_entries 8: is missing", f"records 8: {UNKNOWN}", f"record_heads <sighting>: {UNKNOWN}"],
    ),
    "the last entries gone": (
        "DELETE FROM log_entries WHERE index >= 9",
        [
            "log_entries 9 to 10: are missing",
            "log_head: tree_size is 11, the log has 9 entries",
            "log_head: last_membership is 10, the newest membership entry is 3",
            "record_heads <boreal>: version, entry, leaf_hash: not what the log says",
            "record_heads <cirrus>: version, entry, leaf_hash: not what the log says",
            "members <cirrus>: status: not what the log says",
            "member_keys <revoked>: revoked_at, suspect_from: not what the log says",
            "proposals <dropped>: dropped_because: it can be logged still",
        ],
    ),
    "an entry too many": (
        COPY.format(11),
        [
            f"log_entries 11: {NEITHER}",
            "log_entries 11: may not be in the log where it is: version 1 of <sighting> is in the log with other bytes",
            "tiles 0/0: holds 11 hashes, the log has 12",
            "log_head: tree_size is 11, the log has 12 entries",
            "checkpoints 12: is missing: the newest entries are not signed for",
        ],
    ),
    "an entry far beyond the others": (
        COPY.format(4_000_000_000_000),
        [
            "log_entries 11 to 22: are missing",
            "log_entries 4000000000000: stands far beyond the others, where there is no tree",
            "tiles 0/0: holds 11 hashes, the log has 23",
            "log_head: tree_size is 11, the log has 4000000000001 entries",
            "checkpoints 23: is missing: the newest entries are not signed for",
        ],
    ),
    "an entry, its leaf hash and its tile": (
        REWRITTEN,
        [
            *(
                f"checkpoints {size}: {what}"
                for size in (9, 10, 11)
                for what in ("root is not that of the entries", "the note signs another origin, size or root than the")
            ),
            "records 8: leaf_hash, id, author",
            f"record_heads <sighting>: {UNKNOWN}",
            "record_heads <unsent>: is missing",
            "checkpoint_reports <aurora>: the log signed another history of 11 entries: it was rolled back",
            "member_usage <aurora>: bytes is ",
            "member_usage <boreal>: bytes is ",
        ],
    ),
    "a tile's hash": (f"UPDATE tiles SET {flipped('hashes', 100)}", ["tiles 0/0: hash 3 is not that of the entries"]),
    "a tile cut short": (
        "UPDATE tiles SET hashes = substr(hashes, 1, 320)",
        ["tiles 0/0: holds 10 hashes, the log has 11"],
    ),
    "a tile with a byte too many": (
        "UPDATE tiles SET hashes = hashes || '\\x00'",
        ["tiles 0/0: holds 11.0312 hashes, the log has 11"],
    ),
    "a tile with a hash too many": (
        "UPDATE tiles SET hashes = hashes || substr(hashes, 1, 32)",
        ["tiles 0/0: holds 12 hashes, the log has 11"],
    ),
    "a tile that is gone": ("DELETE FROM tiles", ["tiles 0/0: is missing"]),
    "a tile too many": (
        "INSERT INTO tiles VALUES (0, 1, '\\x00'), (1, 0, '\\x00'), (-1, 0, '\\x00'), (0, -1, '\\x00')",
        [f"tiles {place}: belongs to no part of the log" for place in ("0/1", "1/0", "-1/0", "0/-1")],
    ),
    "a checkpoint's root": (
        f"UPDATE checkpoints SET {flipped('root')} WHERE tree_size = 7",
        ["checkpoints 7: root is not that of the entries"],
    ),
    "a checkpoint with the note of another": (OTHER_NOTE, ["checkpoints 7: the note signs another origin, size or"]),
    "a checkpoint whose text was altered": (
        "UPDATE checkpoints SET note = replace(note, E'\\n7\\n', E'\\n8\\n') WHERE tree_size = 7",
        ["checkpoints 7: the note is refused: "],
    ),
    "a checkpoint without signature": (
        f"UPDATE checkpoints SET {WITHOUT_SIGNATURE} WHERE tree_size = 7",
        ["checkpoints 7: the note is refused: "],
    ),
    "a checkpoint with two signatures": (
        "UPDATE checkpoints SET note = note || substr(note, strpos(note, E'\\n\\n') + 2) WHERE tree_size = 7",
        ["checkpoints 7: the note is refused: it is not signed by the log's key alone"],
    ),
    "a checkpoint that is no note": (
        "UPDATE checkpoints SET note = 'no note' WHERE tree_size = 7",
        ["checkpoints 7: the note is refused: "],
    ),
    "the newest checkpoint gone": (
        "DELETE FROM checkpoints WHERE tree_size = 11",
        ["checkpoints 11: is missing: the newest entries are not signed for"],
    ),
    "a checkpoint of another size": (
        "UPDATE checkpoints SET tree_size = 12 WHERE tree_size = 11",
        [
            "checkpoints 11: is missing: the newest entries are not signed for",
            "checkpoints 12: covers entries that are not there",
        ],
    ),
    "a checkpoint of nothing": (
        "INSERT INTO checkpoints SELECT 0, root, note FROM checkpoints WHERE tree_size = 1",
        ["checkpoints 0: covers entries that are not there"],
    ),
    "the head set back": ("UPDATE log_head SET tree_size = 10", ["log_head: tree_size is 10, the log has 11 entries"]),
    "the head set far ahead": (
        "UPDATE log_head SET tree_size = 400000000000",
        ["log_head: tree_size is 400000000000, the log has 11 entries"],
    ),
    "the head gone": ("DELETE FROM log_head", ["log_head: its row is missing, the log has 11 entries"]),
    "the newest membership entry": (
        "UPDATE log_head SET last_membership = 9",
        ["log_head: last_membership is 9, the newest membership entry is 10"],
    ),
}

LONG: dict[str, Tampering] = {
    "a full tile's hash": (
        f"UPDATE tiles SET {flipped('hashes', 8191)} WHERE level = 0 AND index = 0",
        ["tiles 0/0: hash 255 is not that of the entries"],
    ),
    "a full tile gone": ("DELETE FROM tiles WHERE level = 0 AND index = 0", ["tiles 0/0: is missing"]),
    "the next level's hash": (
        f"UPDATE tiles SET {flipped('hashes')} WHERE level = 1",
        ["tiles 1/0: hash 0 is not that of the entries"],
    ),
    "the next level gone": ("DELETE FROM tiles WHERE level = 1", ["tiles 1/0: is missing"]),
    "the last tile gone": ("DELETE FROM tiles WHERE level = 0 AND index = 1", ["tiles 0/1: is missing"]),
    "entries across the tiles' border gone": (
        "; ".join(
            f"DELETE FROM {table} WHERE {column} BETWEEN 250 AND 257"
            for table, column in (("log_entries", "index"), ("records", "entry"), ("record_heads", "entry"))
        ),
        ["log_entries 250 to 257: are missing"],
    ),
}
