"""JSON, keys and envelopes: one form in, every other refused."""

from __future__ import annotations

import base64
import json
import struct
from typing import NoReturn

import hypothesis.strategies as st
import pytest
from hypothesis import given
from pydantic_core import from_json

from sharing_protocol import envelope, strict_json
from sharing_protocol.envelope import MAX_ENVELOPE_BYTES, STATEMENT_TYPE, Envelope, Signature
from sharing_protocol.errors import InvalidKey, Malformed
from sharing_protocol.keys import PrivateKey, PublicKey, decode_base64, encode_base64, verify_strictly
from sharing_protocol.strict_json import MAX_DEPTH, Json
from tests.protocol.forum_log import key
from tests.protocol.refusals import code_of

# -- JSON --------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


ODD_PIECES = (
    *(b"", b",", b'"', b"{", b"}", b"[", b"]", b":", b"9", b"-", b"-0", b"1e9", b"1e999", b"1.0", b"NaN", b"Infinity"),
    *(b"\\", b"\\u0000", b"\\ud83d", b"\\n", b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"null", b'"a":1,"a":2'),
    *(b"9007199254740992", b"18446744073709551616", b"[" * 40, b"[" * 2000, b"]" * 40),
)


def not_json(data: bytes) -> str:
    with pytest.raises(Malformed) as refused:
        strict_json.loads(data)
    assert code_of(refused.value) == "malformed_json"
    return refused.value.detail


def same(left: object, right: object) -> bool:
    """Equal to the bit, member order included: 1 is not 1.0, and 0.0 is not -0.0."""
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return struct.pack(">d", left) == struct.pack(">d", right)
    return type(left) is type(right) and left == right


@given(values)
def test_json_gives_back_what_was_written(value: Json) -> None:
    assert same(strict_json.loads(strict_json.dumps(value)), value)


def read_or_refused(data: bytes) -> object:
    try:
        return strict_json.loads(data)
    except Malformed:
        return "refused"


@given(values, st.data())
def test_compact_json_is_read_like_all_other(value: Json, data: st.DataObject) -> None:
    # What nobody would write so, here with a space behind it, is read by another parser.
    written = bytearray(strict_json.dumps([value, value, 2**53 - 1, "\\", -0.0]))
    for _ in range(data.draw(st.integers(0, 2))):
        place = data.draw(st.integers(0, len(written) - 1))
        written[place : place + data.draw(st.integers(0, 2))] = data.draw(st.sampled_from(ODD_PIECES))
    assert same([read_or_refused(bytes(written))], [read_or_refused(bytes(written) + b" ")])


@given(values, st.booleans())
def test_the_other_parser_reads_the_same(value: Json, ascii_only: bool) -> None:
    # Statements are checked by `strict_json` and then read by pydantic's own parser: they must agree on everything
    # the first one lets through.
    data = json.dumps(value, ensure_ascii=ascii_only, indent=1).encode()
    assert same(strict_json.loads(data), from_json(data))


@given(st.lists(st.sampled_from(['"', "\\", "u00", "1", "0", "e", "E+", "-", ".", ",", ":", "[", "]", "{", "}", " ",
                                 "\t", "\n", "true", "null", "\\u0041", "\\ud83d\\ude00", "\u00e9", "\x7f"]),
                max_size=10).map("".join))  # fmt: skip
def test_the_other_parser_reads_whatever_we_read(text: str) -> None:
    try:
        value = strict_json.loads(text.encode())
    except Malformed:
        return
    assert same(value, from_json(text))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"a":1,"a":1}', "twice"),
        (b'{"a":1,"b":{"c":2,"\\u0063":3}}', "twice"),
        (b"[NaN]", "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"[-Infinity]", "Infinity"),
        (b"[1e999]", "too large"),
        (b"[-1e999]", "too large"),
        (b"[1." + b"0" * 70 + b"]", "too long"),
        (b"[9007199254740992]", "2^53"),
        (b"[-9007199254740992]", "2^53"),
        (b"[" + b"9" * 5000 + b"]", "2^53"),
        (b'["\\ud800"]', "surrogate"),
        (b'["\\ude00\\ud83d"]', "surrogate"),
        (b'{"\\udfff":1}', "surrogate"),
        (b'["\\u0000"]', "U+0000"),
        ('["é\\u0000"]'.encode(), "U+0000"),
        (b'{"\\u0000":1}', "U+0000"),
        (b'["\0"]', "not JSON"),
        (b"\xef\xbb\xbf[]", "byte order mark"),
        (b'["\xff"]', "UTF-8"),
        (b'["\xed\xa0\x80"]', "UTF-8"),
        (b'["\xc0\x80"]', "UTF-8"),
        (b"", "not JSON"),
        (b"[1] 2", "not JSON"),
        (b"[1,]", "not JSON"),
        (b"[01]", "not JSON"),
        (b"[+1]", "not JSON"),
        (b"[.5]", "not JSON"),
        (b"[0x1]", "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b'["\t"]', "not JSON"),
        (b"[1] // comment", "not JSON"),
    ],
)
def test_json_that_could_be_read_in_two_ways(data: bytes, why: str) -> None:
    assert why in not_json(data)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_json_is_at_most_32_levels_deep(opening: bytes, closing: bytes) -> None:
    assert strict_json.loads(opening * MAX_DEPTH + b"1" + closing * MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 500, 100_000):
        assert "nested" in not_json(opening * depth + b"1" + closing * depth)
        not_json(opening * depth)


def test_integers_up_to_the_safe_bound() -> None:
    assert strict_json.loads(b"[9007199254740991,-9007199254740991,-0]") == [2**53 - 1, -(2**53) + 1, 0]


def test_compact_json_takes_no_second_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> NoReturn:
        raise AssertionError("the slower reader was asked")

    monkeypatch.setattr(json.JSONDecoder, "decode", asked)
    assert strict_json.loads('{"a":[1,-2.5,"\u00e9",null]}'.encode()) == {"a": [1, -2.5, "\u00e9", None]}


def test_a_fraction_has_at_most_64_characters() -> None:
    assert strict_json.loads(b"[-1." + b"5" * 61 + b"]") == [-1.5555555555555556]
    assert "too long" in not_json(b"[-1." + b"5" * 62 + b"]")


def test_a_duplicate_is_found_among_thousands() -> None:
    members = ",".join(f'"{number}":0' for number in range(7000))
    assert "'6999'" in not_json(f'{{{members},"6999":1}}'.encode())


# -- base64 and keys ---------------------------------------------------------------------------------------------


@given(st.binary(max_size=80))
def test_base64_has_one_form(data: bytes) -> None:
    text = encode_base64(data)
    assert decode_base64(text, "it") == data
    for other in (text.rstrip("="), text + "=", text + "\n", " " + text, base64.urlsafe_b64encode(data).decode()):
        if other != text:
            with pytest.raises(Malformed) as refused:
                decode_base64(other, "it")
            assert code_of(refused.value) == "bad_base64"


@pytest.mark.parametrize("text", ["AB==", "AAB=", "A", "A===", "====", "é", "AA=A", "AA\nAA", "AA AA", "\ud800"])
def test_base64_with_stray_bits_or_characters(text: str) -> None:
    with pytest.raises(Malformed):
        decode_base64(text, "it")


@given(st.text("AQgw/+9=\n-", max_size=9))
def test_base64_is_what_an_encoder_would_write(text: str) -> None:
    try:
        expected = base64.b64decode(text, validate=True)
    except ValueError:
        expected = None
    if expected is not None and base64.b64encode(expected).decode() == text:
        assert decode_base64(text, "it") == expected
    else:
        with pytest.raises(Malformed):
            decode_base64(text, "it")


def test_a_key_id_is_always_derived() -> None:
    public = key("Ada").public_key
    parsed = PublicKey.parse(str(public))
    assert parsed == public
    assert parsed is PublicKey.parse(str(public))
    assert len(public.key_id) == 64


@pytest.mark.parametrize("raw", [b"", bytes(31), bytes(33), bytes(32), b"\xff" * 32, b"\x01" + bytes(31)])
def test_unfit_keys_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidKey) as refused:
        PublicKey(raw)
    assert code_of(refused.value) == "invalid_key"


@given(st.binary(max_size=40), st.integers(0, 511))
def test_a_signature_holds_for_its_message_alone(message: bytes, bit: int) -> None:
    signer = key("Ada")
    signature = signer.sign(message)
    assert signer.public_key.verifies(message, signature)
    assert not signer.public_key.verifies(message + b"\0", signature)
    assert not key("Ben").public_key.verifies(message, signature)
    flipped = (int.from_bytes(signature, "big") ^ (1 << bit)).to_bytes(64, "big")
    assert not signer.public_key.verifies(message, flipped)


def test_a_private_key_is_what_its_seed_makes_it() -> None:
    made = PrivateKey.from_seed(bytes(range(32)))
    assert PrivateKey(made.private_key).public_key == made.public_key


@pytest.mark.parametrize(("public_key", "signature"), [(bytes(31), bytes(64)), (bytes(32), bytes(63)), (b"", b"")])
def test_what_is_no_key_or_no_signature_verifies_nothing(public_key: bytes, signature: bytes) -> None:
    assert not verify_strictly(public_key, b"message", signature)


# -- envelopes ---------------------------------------------------------------------------------------------------

signer_names = st.sets(st.sampled_from(["Ada", "Ben", "Cleo", "Dora"]), min_size=1)
envelopes = st.builds(
    lambda payload, names: envelope.sign(payload, [key(name) for name in names]), st.binary(max_size=60), signer_names
)
SIGNED = envelope.sign(b'{"type":"pattern"}', [key("Ada"), key("Ben")])
PLAIN = json.loads(SIGNED.encode())


def not_strict(data: bytes | str, code: str = "malformed_envelope") -> None:
    with pytest.raises(Malformed) as refused:
        envelope.parse(data if isinstance(data, bytes) else data.encode())
    assert code_of(refused.value) == code


def compact(document: object) -> str:
    return json.dumps(document, separators=(",", ":"))


@given(envelopes)
def test_an_envelope_gives_back_what_was_signed(made: Envelope) -> None:
    data = made.encode()
    parsed = envelope.parse(data)
    assert parsed == made
    assert parsed.encode() == data
    assert list(json.loads(data)) == ["payload", "payloadType", "signatures"]
    assert [s.key_id for s in parsed.signatures] == sorted(s.key_id for s in parsed.signatures)
    keys = {key(name).public_key.key_id: key(name).public_key for name in ("Ada", "Ben", "Cleo", "Dora")}
    assert all(keys[s.key_id].verifies(parsed.signed_message, s.value) for s in parsed.signatures)


@given(envelopes, st.data())
def test_every_byte_of_an_envelope_says_something(made: Envelope, data: st.DataObject) -> None:
    encoded = made.encode()
    position = data.draw(st.integers(0, len(encoded) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda value: value != encoded[position]))
    for altered in (
        encoded[:position] + bytes([other]) + encoded[position + 1 :],
        encoded[:position] + encoded[position + 1 :],
        encoded[:position] + bytes([other]) + encoded[position:],
    ):
        try:
            parsed = envelope.parse(altered)
        except Malformed:
            continue
        assert parsed != made
        assert parsed.encode() == altered
        # Whatever still parses is another payload, another key or another signature, and none of them holds.
        keys = {key(name).public_key.key_id: key(name).public_key for name in ("Ada", "Ben", "Cleo", "Dora")}
        holds = [
            s.key_id in keys and keys[s.key_id].verifies(parsed.signed_message, s.value) for s in parsed.signatures
        ]
        assert not all(holds)


def test_other_spellings_of_the_same_envelope() -> None:
    payload, kind, signatures = PLAIN["payload"], PLAIN["payloadType"], PLAIN["signatures"]
    first = signatures[0]
    not_strict(json.dumps(PLAIN))
    not_strict(compact(PLAIN) + "\n")
    not_strict(" " + compact(PLAIN))
    not_strict(compact({"payloadType": kind, "payload": payload, "signatures": signatures}))
    not_strict(compact({**PLAIN, "signatures": signatures[::-1]}))
    not_strict(compact({**PLAIN, "signatures": [{"sig": first["sig"], "keyid": first["keyid"]}]}))
    not_strict(compact({**PLAIN, "signatures": [{**first, "keyid": first["keyid"].upper()}]}))
    not_strict(compact(PLAIN).replace("payloadType", "payload\\u0054ype"))
    not_strict(compact(PLAIN).replace("application/vnd", "application\\/vnd"))
    not_strict(compact({**PLAIN, "extra": None}))
    not_strict(compact({**PLAIN, "signatures": [{**first, "cert": "x"}]}))
    not_strict(compact(PLAIN).replace('"payload"', '"payload":"","payload"', 1), "malformed_json")


def test_other_spellings_of_base64() -> None:
    odd = compact({**PLAIN, "payload": "-_8="})
    not_strict(odd, "bad_base64")
    not_strict(compact({**PLAIN, "payload": PLAIN["payload"] + "="}), "bad_base64")
    not_strict(compact({**PLAIN, "payload": "QQ"}), "bad_base64")
    not_strict(compact({**PLAIN, "payload": "QR=="}), "bad_base64")
    signature = {**PLAIN["signatures"][0], "sig": PLAIN["signatures"][0]["sig"].rstrip("=")}
    not_strict(compact({**PLAIN, "signatures": [signature]}), "bad_base64")


def test_a_key_signs_once() -> None:
    twice = [PLAIN["signatures"][0]] * 2
    not_strict(compact({**PLAIN, "signatures": twice}), "duplicate_signature")


@pytest.mark.parametrize(
    "changes",
    [
        {"payload": None},
        {"payload": 7},
        {"signatures": {}},
        {"signatures": []},
        {"signatures": [None]},
        {"signatures": [[]]},
        {"signatures": [{}]},
        {"signatures": [{"keyid": None, "sig": ""}]},
        {"signatures": [{"keyid": "abc", "sig": ""}]},
        {"signatures": [{"keyid": "0" * 64, "sig": None}]},
        {"signatures": [{"keyid": "0" * 64, "sig": ""}]},
        {"signatures": [{"keyid": "0" * 64, "sig": "AAAA"}]},
        {"signatures": [{"keyid": "0" * 64 + "\n", "sig": encode_base64(bytes(64))}]},
        {"signatures": [{"keyid": f"{number:064x}", "sig": encode_base64(bytes(64))} for number in range(65)]},
    ],
)
def test_members_of_another_kind(changes: dict[str, object]) -> None:
    not_strict(compact({**PLAIN, **changes}))


@pytest.mark.parametrize("kind", [STATEMENT_TYPE, "text/\u00e9"])  # read without a JSON parser, and with one
def test_64_signatures_are_allowed_and_65_are_not(kind: str) -> None:
    made = [Signature(f"{number:064x}", bytes(64)) for number in range(65)]
    largest, larger = (Envelope(b"{}", kind, tuple(made[:count])) for count in (64, 65))
    assert envelope.parse(largest.encode(), kind) == largest
    with pytest.raises(Malformed, match="64 signatures"):
        envelope.parse(larger.encode(), kind)


@pytest.mark.parametrize("kind", ["application/json", "", None, 7, [], STATEMENT_TYPE.upper()])
def test_another_payload_type(kind: object) -> None:
    not_strict(compact({**PLAIN, "payloadType": kind}), "unsupported_payload_type")


def test_documents_that_are_no_object() -> None:
    for data in (b"[]", b"null", b'"text"', b"7", b"{}"):
        not_strict(data)


def test_the_largest_envelope() -> None:
    room = MAX_ENVELOPE_BYTES - len(Envelope(b"", "", SIGNED.signatures).encode())
    payload, kind = bytes(room // 4 * 3), "x" * (room % 4 + 4)
    largest = Envelope(payload[:-3], kind, SIGNED.signatures)
    assert len(largest.encode()) == MAX_ENVELOPE_BYTES
    assert envelope.parse(largest.encode(), kind) == largest
    with pytest.raises(Malformed) as refused:
        Envelope(payload[:-3], f"{kind}x", SIGNED.signatures).encode()
    assert code_of(refused.value) == "envelope_too_large"
    not_strict(b" " * (MAX_ENVELOPE_BYTES + 1), "envelope_too_large")


def test_signatures_gather_one_a_key() -> None:
    one = envelope.sign(b"payload", [key("Ada")])
    other = Signature(key("Ada").public_key.key_id, bytes(64))
    both = one.with_signatures([other, *envelope.sign(b"payload", [key("Ben")]).signatures])
    assert both == envelope.sign(b"payload", [key("Ada"), key("Ben")])
