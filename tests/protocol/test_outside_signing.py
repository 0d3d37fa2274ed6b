"""Ed25519, DSSE and RFC 9421 by other people's vectors."""

from __future__ import annotations

import base64
from collections import Counter
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver

from sharing_protocol import envelope, request_signing
from sharing_protocol.errors import InvalidKey, Malformed
from sharing_protocol.keys import PrivateKey, PublicKey, verify_strictly
from tests.protocol.outside_vectors import json_vectors, vectors
from tests.protocol.refusals import code_of

# -- Ed25519 edge cases (C2SP CCTV) ------------------------------------------------------------------------------


def registrable(raw: bytes) -> bool:
    try:
        PublicKey(raw)
    except InvalidKey:
        return False
    return True


def decided(vector: dict[str, Any]) -> tuple[bool, bool]:
    """Whether the signature is accepted, and whether its key could ever be registered."""
    raw = bytes.fromhex(vector["key"])
    return verify_strictly(raw, vector["msg"].encode(), bytes.fromhex(vector["sig"])), registrable(raw)


def test_ed25519_edge_cases_are_decided_as_libsodium_decides_them() -> None:
    read = json_vectors("cctv-ed25519", "ed25519", "ed25519vectors.json")
    assert len(read) == 914
    accepted = Counter(tuple(vector["flags"] or ()) for vector in read if decided(vector)[0])
    # libsodium refuses a low-order or non-canonical A, a low-order R, and compares R's bytes with the R it computes
    # without the cofactor. What is left: the ordinary signature, and keys with a low-order *component* whose
    # contribution cancels. A build that multiplies by the cofactor would accept `low_order_residue` as well and so
    # read another history out of the same log: this test fails on it.
    assert accepted == {
        (): 1,
        ("low_order_component_A",): 7,
        ("low_order_component_R", "low_order_component_A"): 35,
    }


def test_only_the_ordinary_edge_case_is_by_a_key_that_can_be_registered() -> None:
    read = json_vectors("cctv-ed25519", "ed25519", "ed25519vectors.json")
    both = [vector for vector in read if all(decided(vector))]
    assert [vector["flags"] for vector in both] == [None]


def test_keys_of_low_or_mixed_order_cannot_be_registered() -> None:
    unfit = {"low_order_A", "non_canonical_A", "low_order_component_A"}
    seen = Counter[bool]()
    for vector in json_vectors("cctv-ed25519", "ed25519", "ed25519vectors.json"):
        fit = not unfit & set(vector["flags"] or ())
        seen[fit] += 1
        assert registrable(bytes.fromhex(vector["key"])) is fit
    assert seen[True]
    assert seen[False]


def test_wycheproof_ed25519() -> None:
    data = json_vectors("wycheproof", "ed25519_test.json")
    decisions = Counter[str]()
    for group in data["testGroups"]:
        key = bytes.fromhex(group["publicKey"]["pk"])
        for case in group["tests"]:
            holds = verify_strictly(key, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
            # No exceptions: on these vectors the strict rules and RFC 8032 agree.
            assert holds is (case["result"] == "valid"), (case["tcId"], case["flags"])
            decisions[case["result"]] += 1
    assert decisions.total() == data["numberOfTests"]
    assert set(decisions) == {"valid", "invalid"}


def test_the_original_ed25519_signatures() -> None:
    lines = vectors("cryptography-ed25519", "sign.input").read_text().splitlines()
    assert len(lines) == 1024
    for line in lines:
        secret, public, message, signed = (bytes.fromhex(part) for part in line.split(":")[:4])
        signer = PrivateKey.from_seed(secret[:32])
        assert signer.public_key.raw == public
        assert signer.sign(message) + message == signed
        assert signer.public_key.verifies(message, signed[:64])
        assert not signer.public_key.verifies(message + b"\0", signed[:64])


# -- DSSE --------------------------------------------------------------------------------------------------------


def test_dsse_pre_authentication_encoding() -> None:
    vector = json_vectors("dsse", "protocol_vector.json")
    message = envelope.pre_authentication_encoding(vector["payloadType"], vector["payload"].encode())
    assert message == vector["pae"].encode()
    # The vector's signature is ECDSA, which the log never takes; it shows that these are the bytes to sign.
    public = ec.EllipticCurvePublicNumbers(int(vector["X"]), int(vector["Y"]), ec.SECP256R1()).public_key()
    raw = base64.b64decode(vector["envelope"]["signatures"][0]["sig"])
    signature = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    public.verify(signature, message, ec.ECDSA(hashes.SHA256()))


def test_the_dsse_vectors_envelope_is_not_in_the_strict_form() -> None:
    vector = json_vectors("dsse", "protocol_vector.json")
    data = str(vector["envelope"]).replace("'", '"').encode()
    # It has no keyid, and an ECDSA signature: DSSE allows both, the log neither.
    with pytest.raises(Malformed) as refused:
        envelope.parse(data, vector["payloadType"])
    assert code_of(refused.value) == "malformed_envelope"


# -- RFC 9421, appendix B.2.6 ------------------------------------------------------------------------------------


def rfc9421_section(title: str) -> list[str]:
    data = json_vectors("rfc9421-appendix-b", "appendix_b.json")
    (section,) = (section for section in data if section["section"].startswith(title))
    return [block["text"] for block in section["blocks"]]


class Message:
    """The request of appendix B.2, as far as B.2.6 signs it."""

    method = "POST"
    url = "https://example.com/foo?param=Value&Pet=dog"

    def __init__(self, signature_headers: str) -> None:
        fields = dict(line.split(": ", 1) for line in signature_headers.strip().splitlines())
        self.headers = {
            "Date": "Tue, 20 Apr 2021 02:07:55 GMT",
            "Content-Type": "application/json",
            "Content-Length": "18",
            **fields,
        }


class OneKey(HTTPSignatureKeyResolver):
    def __init__(self, key: PublicKey) -> None:
        self.key = key

    def resolve_public_key(self, key_id: str) -> PublicKey | None:
        return self.key if key_id == "test-key-ed25519" else None


def rfc9421_signer() -> PrivateKey:
    pem = rfc9421_section("Example Ed25519 Test Key")[0]
    private = load_pem_private_key(pem[pem.index("-----BEGIN PRIVATE") :].encode(), None)
    assert isinstance(private, Ed25519PrivateKey)
    return PrivateKey(private)


class AnyAge(HTTPMessageVerifier):
    """The example is of 2021."""

    def validate_created_and_expires(self, sig_input: Any, max_age: Any = None) -> None:
        pass


def test_rfc9421_ed25519_example_holds_under_our_algorithm() -> None:
    # Our profile alone would refuse the example (below), so this drives the library with our algorithm and the
    # library's rules about age, tag and target out of the way.
    base, headers = rfc9421_section("Signing a Request using ed25519")
    directory = OneKey(rfc9421_signer().public_key)
    verifier = AnyAge(signature_algorithm=request_signing._StrictEd25519, key_resolver=directory)
    (result,) = verifier.verify(Message(headers), max_age=None)
    covered = "\n".join(f"{name}: {value}" for name, value in result.covered_components.items())
    assert covered == base.strip()
    signature = base64.b64decode(headers.split("Signature: sig-b26=:")[1].strip().rstrip(":"))
    assert rfc9421_signer().sign(base.strip().encode()) == signature


def test_rfc9421_example_is_refused_by_our_profile() -> None:
    # It has no tag, no nonce, does not cover the query, and covers no digest of its content. Each is needed: the tag
    # so that a signature for another application is worth nothing here, the nonce against replay, the rest so that
    # nothing of the request can be changed.
    _, headers = rfc9421_section("Signing a Request using ed25519")
    message = Message(headers)
    with pytest.raises(Malformed) as refused:
        request_signing.verify_request(
            message.method,
            message.url,
            message.headers.items(),
            b'{"hello": "world"}',
            lambda _: rfc9421_signer().public_key,
            1618884473,
        )
    assert code_of(refused.value) == "bad_request_signature"
