"""Membership statements: who belongs to the forum, and with which keys.

The forum itself is a record (`forum--…`: founded, then each change of its admins or of its log's keys is the next
version), and so is each member (`member--…`: admitted, then each change is the next version). A statement signed for
one state of a member can therefore never be used in another.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from sharing_protocol.envelope import pre_authentication_encoding
from sharing_protocol.keys import PublicKey, Signer, encode_base64
from sharing_protocol.statements.header import Base64Text, Header, Line, Name, Sha256Hex, StrictModel

MAX_ADMINS = 32
MAX_KEYS_PER_MEMBER = 64
POSSESSION_TYPE = "application/vnd.stillwatch.key-possession"


class Role(StrEnum):
    """What a member's key may do: owners manage keys, analysts publish records, sync keys read, witness keys cosign.

    A witness key signs nothing else: a cosignature does not name its maker (C2SP tlog-cosignature), its key does.
    """

    OWNER = "owner"
    ANALYST = "analyst"
    SYNC = "sync"
    WITNESS = "witness"


class KeyRegistration(StrictModel):
    """A key to be registered, with proof that whoever registers it holds it.

    Attributes:
        key: base64 Ed25519 public key.
        proof: base64 signature by that key of `possession_message`: nobody can register a rival's key as its own.
    """

    key: Base64Text
    role: Annotated[Role, Field(strict=False)]
    proof: Base64Text


class Admin(StrictModel):
    """A forum admin: a name, one key, and proof of holding it (`possession_message` with role `admin`)."""

    name: Name
    key: Base64Text
    proof: Base64Text


class LogIdentity(StrictModel):
    """The log that the forum trusts to keep order: its origin and its two verifier keys (C2SP vkeys).

    Attributes:
        origin: first line of every checkpoint.
        log_key: signs checkpoints.
        timestamp_key: adds a timestamped cosignature, which tells how fresh a checkpoint is.
    """

    origin: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./:_-]{0,199}$")]
    log_key: Annotated[str, Field(max_length=400)]
    timestamp_key: Annotated[str, Field(max_length=400)]


class FoundBody(StrictModel):
    """The forum's constitution."""

    name: Line
    log: LogIdentity
    admins: Annotated[list[Admin], Field(min_length=1, max_length=MAX_ADMINS)]
    threshold: Annotated[int, Field(ge=1, le=MAX_ADMINS)]


class ChangeAdminsBody(StrictModel):
    """The whole new set of admins and its threshold."""

    admins: Annotated[list[Admin], Field(min_length=1, max_length=MAX_ADMINS)]
    threshold: Annotated[int, Field(ge=1, le=MAX_ADMINS)]
    reason: Line


class ChangeLogBody(StrictModel):
    """The log's next keys, under the origin that it has.

    Attributes:
        log_key, timestamp_key: as in `LogIdentity`; from this entry on they sign, and no other.
        log_key_proof, timestamp_key_proof: by these keys (`possession_message` with roles `log` and `timestamp`, and
            the origin as subject): nobody can bind the log to keys that its operator does not hold.
    """

    log_key: Annotated[str, Field(max_length=400)]
    log_key_proof: Base64Text
    timestamp_key: Annotated[str, Field(max_length=400)]
    timestamp_key_proof: Base64Text
    reason: Line

    def named(self, origin: str) -> LogIdentity:
        """The identity of the log with this origin and these keys."""
        return LogIdentity(origin=origin, log_key=self.log_key, timestamp_key=self.timestamp_key)


class AdmitBody(StrictModel):
    """A lab and its first keys, at least one of them an owner's."""

    name: Name
    keys: Annotated[list[KeyRegistration], Field(min_length=1, max_length=MAX_KEYS_PER_MEMBER)]
    reason: Line


class ReasonBody(StrictModel):
    """Why."""

    reason: Line


class AddKeyBody(StrictModel):
    """One more key for a member."""

    key: KeyRegistration
    reason: Line


class RevokeKeyBody(StrictModel):
    """A key that may sign nothing from here on.

    Attributes:
        suspect_from: log index from which records that the key signed are suspect, or null.
    """

    key_id: Sha256Hex
    reason: Line
    suspect_from: Annotated[int, Field(ge=0)] | None


class Found(Header):
    """Entry 0: founds the forum. Its payload's SHA-256 is the forum's fingerprint."""

    type: Literal["membership.found"]
    body: FoundBody


class ChangeAdmins(Header):
    """Replaces the admin set; needs the old threshold of the old admins and the new of the new."""

    type: Literal["membership.change_admins"]
    body: ChangeAdminsBody


class ChangeLog(Header):
    """Exchanges the log's keys; checkpoints of trees that contain it are signed by the new ones."""

    type: Literal["membership.change_log"]
    body: ChangeLogBody


class Admit(Header):
    """Admits a lab."""

    type: Literal["membership.admit"]
    body: AdmitBody


class Suspend(Header):
    """Takes a lab's rights for a time."""

    type: Literal["membership.suspend"]
    body: ReasonBody


class Reinstate(Header):
    """Gives a suspended lab its rights back."""

    type: Literal["membership.reinstate"]
    body: ReasonBody


class Expel(Header):
    """Ends a membership for good."""

    type: Literal["membership.expel"]
    body: ReasonBody


class AddKey(Header):
    """Registers one more key of a lab, by its owner or by the admins."""

    type: Literal["membership.add_key"]
    body: AddKeyBody


class RevokeKey(Header):
    """Revokes a key of a lab, by its owner or by the admins."""

    type: Literal["membership.revoke_key"]
    body: RevokeKeyBody


MembershipStatement = Found | ChangeAdmins | ChangeLog | Admit | Suspend | Reinstate | Expel | AddKey | RevokeKey


def possession_message(role: str, subject: str, key: PublicKey) -> bytes:
    """What a key signs to prove that its registrant holds it.

    Args:
        role: `owner`, `analyst`, `sync`, `witness`, `admin`, `log` or `timestamp`.
        subject: the member's id, the admin's name, or the log's origin.
        key: the key itself.
    """
    return pre_authentication_encoding(POSSESSION_TYPE, f"{role}\n{subject}\n{key}".encode())


def prove_possession(role: str, subject: str, signer: Signer) -> str:
    """Make the `proof` of a registration, in base64."""
    return encode_base64(signer.sign(possession_message(role, subject, signer.public_key)))
