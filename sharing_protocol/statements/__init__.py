"""Statements: what the log's envelopes say, and the only shapes they may have.

A statement is a JSON object: a header that all types share (`schema`, `forum`, `type`, `id`, `version`, `previous`,
`author`, `created`) and a `body` of its type. Unknown members are refused; a later `schema`, or a type this version
does not know, parses as `Unknown`, so that an old client keeps what it cannot read. There is no type, and no field,
for anything but detecting and defending.
"""

from sharing_protocol.statements.header import Unknown, new_id
from sharing_protocol.statements.membership import (
    AddKey,
    Admin,
    Admit,
    ChangeAdmins,
    ChangeLog,
    Expel,
    Found,
    KeyRegistration,
    MembershipStatement,
    Reinstate,
    RevokeKey,
    Role,
    Suspend,
    possession_message,
    prove_possession,
)
from sharing_protocol.statements.parsing import Statement, encode, parse, understanding
from sharing_protocol.statements.records import (
    Bucket,
    Marking,
    Pattern,
    PatternBody,
    PatternKind,
    RecordReference,
    RecordStatement,
    Sighting,
    SightingBody,
    Withdrawal,
    WithdrawalBody,
    bucket_of,
)

__all__ = [
    "AddKey",
    "Admin",
    "Admit",
    "Bucket",
    "ChangeAdmins",
    "ChangeLog",
    "Expel",
    "Found",
    "KeyRegistration",
    "Marking",
    "MembershipStatement",
    "Pattern",
    "PatternBody",
    "PatternKind",
    "RecordReference",
    "RecordStatement",
    "Reinstate",
    "RevokeKey",
    "Role",
    "Sighting",
    "SightingBody",
    "Statement",
    "Suspend",
    "Unknown",
    "Withdrawal",
    "WithdrawalBody",
    "bucket_of",
    "encode",
    "new_id",
    "parse",
    "possession_message",
    "prove_possession",
    "understanding",
]
