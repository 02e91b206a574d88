"""The record's binary form: what is written is read again, and what is not known is an error."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from idemproxy.errors import RecordUnreadable
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import (
    FINGERPRINT_AT,
    HEAD_BYTES,
    MAGIC,
    MOST_MARKS,
    RULE_BYTES_AT,
    TOKEN_AT,
    OnUnknown,
    Reason,
    Record,
    State,
    Tombstone,
    decode,
    encode,
)

TIMES = st.integers(0, 2**64 - 1)
STATUSES = st.integers(100, 999)
ANSWERS = st.builds(Answer, STATUSES, st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=100))
RECORDS = st.builds(
    Record,
    state=st.sampled_from(State),
    fingerprint=st.binary(min_size=32, max_size=32 + MOST_MARKS),
    recipe=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
    rule=st.text(max_size=40),
    token=st.binary(min_size=16, max_size=16),
    version=TIMES,
    attempt=st.integers(0, 2**32 - 1),
    may_have_run=st.booleans(),
    on_unknown=st.sampled_from(OnUnknown),
    reason=st.sampled_from(Reason),
    created_at=TIMES,
    updated_at=TIMES,
    expires_at=TIMES,
    lease_until=TIMES,
    answer=st.none() | ANSWERS | st.builds(Tombstone, STATUSES),
    credential=st.sampled_from(["", "0123456789abcdef" * 2]),
)
EXAMPLE = Record(
    State.COMPLETED,
    bytes(range(32)),
    "recipe",
    "charges",
    bytes(range(16)),
    7,
    2,
    True,
    OnUnknown.RETRY,
    Reason.NONE,
    1,
    2,
    3,
    4,
    Answer(201, b"201 Created\r\n", b"\0body\xff", b"Sum: 1\r\n"),
)
quick = settings(max_examples=200, derandomize=True, deadline=None, database=None)


@quick
@given(RECORDS)
def test_what_is_written_is_read_again(record: Record) -> None:
    assert decode(encode(record)) == record


@quick
@given(RECORDS)
def test_a_records_parts_are_where_others_look_for_them(record: Record) -> None:
    value = encode(record)
    assert value[TOKEN_AT:RULE_BYTES_AT] == record.token + record.fingerprint[:32]
    assert value[FINGERPRINT_AT:RULE_BYTES_AT] == record.fingerprint[:32]
    size = int.from_bytes(value[RULE_BYTES_AT : RULE_BYTES_AT + 2], "big")
    assert value[HEAD_BYTES : HEAD_BYTES + size].decode() == record.rule


def test_a_credential_is_shown_to_nobody() -> None:
    secret = structs.replace(EXAMPLE, credential="c0ffee")
    assert decode(encode(secret)).credential == "c0ffee"
    assert "c0ffee" not in repr(secret)
    assert decode(encode(EXAMPLE)).credential == ""


@quick
@given(st.binary(max_size=2 * HEAD_BYTES))
def test_anything_else_is_a_record_or_an_error(value: bytes) -> None:
    for data in (value, MAGIC + value):
        try:
            record = decode(data)
        except RecordUnreadable:
            continue
        assert isinstance(record, Record)


@pytest.mark.parametrize("magic", [b"", b"I", b"I\x00", b"I\x01", b"I\x03", b"J\x02", b"\x02I", b"{}"])
def test_an_encoding_that_is_not_known_is_an_error_that_says_what_to_do(magic: bytes) -> None:
    with pytest.raises(RecordUnreadable, match=r"another version of idemproxy.*or delete the record"):
        decode(magic + encode(EXAMPLE)[2:] if len(magic) == 2 else magic)


def test_a_record_that_is_cut_short_is_an_error() -> None:
    whole = encode(EXAMPLE)
    body = b"\0body\xff"
    for length in range(len(whole) - len(body)):
        with pytest.raises(RecordUnreadable):
            decode(whole[:length])


@pytest.mark.parametrize(("at", "what"), [(2, "State"), (4, "OnUnknown"), (5, "Reason")])
def test_a_value_that_is_not_known_is_an_error(at: int, what: str) -> None:
    whole = bytearray(encode(EXAMPLE))
    whole[at] = 77
    with pytest.raises(RecordUnreadable, match=rf"77 is not a valid {what}.*delete the record"):
        decode(bytes(whole))


def test_text_that_is_no_text_is_an_error() -> None:
    whole = bytearray(encode(EXAMPLE))
    whole[HEAD_BYTES] = 0xFF
    with pytest.raises(RecordUnreadable, match="delete the record"):
        decode(bytes(whole))


def test_an_error_names_nothing_that_a_client_sent() -> None:
    secret = structs.replace(EXAMPLE, answer=Answer(200, b"X-Secret: hunter2\r\n", b"hunter2"))
    whole = bytearray(encode(secret))
    whole[2] = 77
    with pytest.raises(RecordUnreadable) as caught:
        decode(bytes(whole))
    assert "hunter2" not in str(caught.value)


def test_a_tombstone_is_not_an_empty_answer() -> None:
    empty = structs.replace(EXAMPLE, answer=Answer(204, b"", b""))
    buried = structs.replace(EXAMPLE, answer=Tombstone(204))
    assert decode(encode(empty)).answer == Answer(204, b"", b"")
    assert decode(encode(buried)).answer == Tombstone(204)


def test_a_fingerprint_of_very_many_parts_keeps_the_marks_of_the_first() -> None:
    many = structs.replace(EXAMPLE, fingerprint=bytes(32) + bytes(range(256)) * 2, credential="c" * 32)
    assert decode(encode(many)) == structs.replace(many, fingerprint=many.fingerprint[: 32 + MOST_MARKS])
