"""Which operation a request is of, and whose: what is one key, what is none, and that no two callers are taken for one."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idemproxy.idempotency.framing import framed
from idemproxy.idempotency.identity import BadKey, Key, NoKey, read_key, record_id, scope_values, short_id
from idemproxy.idempotency.messages import Fields
from idemproxy.idempotency.patterns import Pattern
from idemproxy.idempotency.routes import HeaderScope, KeySource, LiteralScope, Match, Rule, ScopePart
from tests.unit.idempotency.examples import calmly

RULE = Rule("charges", Match(frozenset(), "/"))
TWO = replace(RULE, key=KeySource(headers=(b"idempotency-key", b"x-idempotency-key")))


def read(*sent: bytes, rule: Rule = RULE) -> Key | NoKey | BadKey:
    return read_key(rule, tuple((b"Idempotency-Key", value) for value in sent))


def refused(*sent: bytes, rule: Rule = RULE) -> str:
    bad = read(*sent, rule=rule)
    assert isinstance(bad, BadKey)
    assert bad.detail.endswith("Nothing was executed.")
    return bad.detail


def quoted(key: bytes) -> bytes:
    return b'"' + key.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b"order-7", b"order-7"),
        (b'"order-7"', b"order-7"),
        (b"0e1c5a1e-59a0-4d27-93ea-61b8f5aa79c7", b"0e1c5a1e-59a0-4d27-93ea-61b8f5aa79c7"),
        (b"Order-7", b"Order-7"),
        (b"a b", b"a b"),
        (b"a=b;c/d\\e'f", b"a=b;c/d\\e'f"),
        (b'"a, b"', b"a, b"),
        (b'" a "', b" a "),
        (b'"say \\"hi\\" \\\\o/"', b'say "hi" \\o/'),
        (b'"a";v=1', b"a"),
        (b'"a";v', b"a"),
        (b'"a"; v="x, \\"y";w=?1;u=:YQ==:', b"a"),
        (b"  a  ", b"a"),
        (b'  "a"  ', b"a"),
    ],
)
def test_one_key(value: bytes, key: bytes) -> None:
    assert read(value) == Key(key)


@pytest.mark.parametrize(
    "sent",
    [
        (b"K1", b"K1"),
        (b"K1", b'"K1"'),
        (b"K1, K1",),
        (b"K1,K1,K1",),
        (b'K1 , "K1";v=1',),
        (b"K1, K1", b"K1"),
    ],
)
def test_the_same_key_again_is_that_key(sent: tuple[bytes, ...]) -> None:
    """Repeated by its client, or joined by a hop (RFC 9110, section 5.3)."""
    assert read(*sent) == Key(b"K1")


@pytest.mark.parametrize(
    "sent",
    [
        (b"K1", b"K2"),
        (b"K1, K2",),
        (b"K1, K1, K2",),
        (b'"K1", "K2"',),
        (b"K1", b"k1"),
        (b"left,right",),
    ],
)
def test_different_keys_are_none(sent: tuple[bytes, ...]) -> None:
    assert "different" in refused(*sent)


@pytest.mark.parametrize(
    "value",
    [
        b'"',
        b'"K1',
        b'K1"',
        b'K"1',
        b'"K1"x',
        b'"K1" "K1"',
        b'"K1" ;v=1',
        b'"K1";',
        b'"K1";V=1',
        b'"K1";v=',
        b'"K1";v="',
        b'"K\\1"',
        b'"K1\\"',
        b"K1,",
        b",K1",
        b"K1,,K1",
        b",",
        b'"K1",',
    ],
)
def test_malformed_keys(value: bytes) -> None:
    assert "malformed" in refused(value)


@pytest.mark.parametrize("value", [b"", b"  ", b'""', b'"";v=1', b'"", ""'])
def test_an_empty_key_is_none(value: bytes) -> None:
    assert "empty" in refused(value)
    assert isinstance(read(b"K1", value), BadKey)


def test_only_printable_ascii() -> None:
    for octet in (*range(0x20), *range(0x7F, 0x100)):
        assert "printable ASCII" in refused(b"K" + bytes([octet]) + b"1")
        assert "printable ASCII" in refused(b'"K' + bytes([octet]) + b'1"')


def test_no_key() -> None:
    assert read_key(RULE, ()) == NoKey()
    assert read_key(RULE, ((b"X-Idempotency-Key", b"K1"), (b"Authorization", b"K2"))) == NoKey()


@pytest.mark.parametrize("name", [b"Idempotency-Key", b"idempotency-key", b"IDEMPOTENCY-KEY", b"X-Idempotency-KEY"])
def test_the_names_of_key_headers(name: bytes) -> None:
    assert read_key(TWO, ((b"Accept", b"x"), (name, b"K1"))) == Key(b"K1")


def test_a_key_in_two_headers() -> None:
    same: Fields = ((b"X-Idempotency-Key", b"K1"), (b"Idempotency-Key", b'"K1"'))
    other: Fields = ((b"X-Idempotency-Key", b"K1"), (b"Idempotency-Key", b"K2"))
    empty: Fields = ((b"X-Idempotency-Key", b"K1"), (b"Idempotency-Key", b""))
    assert read_key(TWO, same) == Key(b"K1")
    assert isinstance(read_key(TWO, other), BadKey)
    assert isinstance(read_key(TWO, empty), BadKey)


def test_the_longest_key_counts_what_is_in_the_quotes() -> None:
    rule = replace(RULE, key=KeySource(max_length=4))
    assert read(b"abcd", rule=rule) == Key(b"abcd")
    assert read(b'"abcd"', rule=rule) == Key(b"abcd")
    assert read(b'"\\"\\"\\"\\""', rule=rule) == Key(b'""""')
    assert "longer than 4 bytes" in refused(b"abcde", rule=rule)
    assert "longer than 4 bytes" in refused(b'"abcde"', rule=rule)


def test_a_format_is_of_the_whole_key() -> None:
    rule = replace(RULE, key=KeySource(form="ulid", pattern=Pattern(b"[0-9A-Z]{3}")))
    assert read(b"A1B", rule=rule) == Key(b"A1B")
    assert read(b'"A1B"', rule=rule) == Key(b"A1B")
    for value in (b"A1Bx", b"xA1B", b"A1", b"a1b", b'"A1B\\\\"'):
        assert "format ulid" in refused(value, rule=rule)


@pytest.mark.parametrize(
    "value", [b"sk_secret, sk_other", b'"sk_secret', b"sk_secret\x00", b"sk_secret" * 40, b'sk_secret"']
)
def test_no_detail_holds_the_key(value: bytes) -> None:
    assert "sk_secret" not in refused(value)


@calmly
@given(st.binary(max_size=60) | st.text(st.sampled_from('",\\; =aA1'), max_size=20).map(str.encode))
def test_any_value_is_read(value: bytes) -> None:
    """What is a key stays one, and the same one, when it is quoted; the rest is refused in words."""
    match read(value):
        case Key(key):
            assert read(quoted(key)) == Key(key)
            assert read(quoted(key), value) == Key(key)
            assert read(quoted(key) + b", " + value) == Key(key)
        case BadKey(detail):
            assert detail
        case NoKey():
            pytest.fail("a field was there")


@calmly
@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=40).map(str.encode))
def test_every_printable_key_can_be_sent_quoted(key: bytes) -> None:
    assert read(quoted(key)) == Key(key)
    if not re.search(rb'[",]|^ | $', key):
        assert read(key) == Key(key)


# ------------------------------------------------------------------------------------------------------------------ whose it is


def scope(*parts: ScopePart, fields: Fields) -> tuple[bytes | None, ...]:
    return scope_values(replace(RULE, scope=parts), fields)


AUTH = HeaderScope(b"authorization")
USER = HeaderScope(b"authorization", Pattern(rb"user=([a-z]+)?"))


def auth(*sent: bytes) -> Fields:
    return tuple((b"AUTHORIZATION", value) for value in sent)


def test_no_two_callers_share_a_scope() -> None:
    different: tuple[Fields, ...] = (
        (),
        auth(b""),
        auth(b"Bearer a"),
        auth(b"Bearer A"),
        auth(b"Bearer a", b"Bearer b"),
        auth(b"Bearer b", b"Bearer a"),
        auth(b"Bearer a, Bearer b"),
        auth(b"Bearer a", b""),
        auth(b"Bearer a", b"Bearer a"),
    )
    assert len({scope(AUTH, fields=fields) for fields in different}) == len(different)


def test_the_same_caller_has_one_scope() -> None:
    first = scope(AUTH, fields=(*auth(b"Bearer a"), (b"Date", b"1")))
    assert first == scope(AUTH, fields=((b"Date", b"2"), (b"authorization", b"Bearer a")))


def test_callers_without_the_field_share_one() -> None:
    assert scope(AUTH, fields=()) == scope(AUTH, fields=((b"Cookie", b"x"),)) == (None,)


def test_a_pattern_takes_its_first_group() -> None:
    assert scope(USER, fields=auth(b"Token user=ada t=1")) == scope(USER, fields=auth(b"Token user=ada t=2"))
    assert scope(USER, fields=auth(b"Token user=ada t=1")) != scope(USER, fields=auth(b"Token user=bob t=1"))


@pytest.mark.parametrize(
    "sent",
    [
        (b"ada",),
        (b"Token user= t=1",),
        (b"user=",),
        (b"",),
        (b"Token user=ada t=1", b"x"),
        (),
    ],
)
def test_who_does_not_match_a_pattern_is_nobody_else(sent: tuple[bytes, ...]) -> None:
    own = scope(USER, fields=auth(*sent))
    assert own == scope(USER, fields=auth(*sent))
    assert own != scope(USER, fields=auth(b"Token user=ada t=1"))
    assert own != scope(USER, fields=auth(b"Token user=zoe t=1", b"y"))
    assert own != scope(USER, fields=auth(b"stranger"))


def test_a_literal_is_no_callers_value() -> None:
    assert scope(LiteralScope(b"shop"), fields=auth(b"x")) == scope(LiteralScope(b"shop"), fields=())
    assert scope(LiteralScope(b"shop"), fields=()) != scope(LiteralScope(b"other"), fields=())
    assert scope(LiteralScope(b"shop"), fields=()) != scope(AUTH, fields=auth(b"shop"))


def test_parts_keep_their_places() -> None:
    key = HeaderScope(b"x-api-key")
    one: Fields = ((b"Authorization", b"a"),)
    two: Fields = ((b"X-Api-Key", b"a"),)
    assert scope(AUTH, key, fields=one) != scope(AUTH, key, fields=two)
    assert scope(fields=one) == scope(fields=two) == ()


# ------------------------------------------------------------------------------------------------------------------------- the id


def test_an_id_is_pinned() -> None:
    """Records outlive the process that wrote them: a change here forgets all of them."""
    mine = record_id("default", scope_values(RULE, auth(b"Bearer sk_1")), b"order-7")
    assert mine == "e7855ed371c314a2fa9b7d5430498c5e475aa1ef2f0bdcf56483bee95220d45a"
    assert (
        record_id("default", (None,), b"order-7") == "67fdcb48493f6649a72e677863c69f73a88cb8812bf15075826b798b0b091fff"
    )
    assert short_id(mine) == mine[:12]


IDENTITIES = st.tuples(
    st.text(max_size=4),
    st.lists(st.none() | st.binary(max_size=4), max_size=3).map(tuple),
    st.binary(max_size=4),
)


@calmly
@given(IDENTITIES, IDENTITIES)
def test_ids_are_equal_only_where_all_is(
    one: tuple[str, tuple[bytes | None, ...], bytes], other: tuple[str, tuple[bytes | None, ...], bytes]
) -> None:
    assert (record_id(*one) == record_id(*other)) is (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", (b"b",), b"c"), ("ab", (), b"c")),
        (("n", (b"a", b"b"), b"k"), ("n", (b"ab",), b"k")),
        (("n", (b"a",), b"bk"), ("n", (b"ab",), b"k")),
        (("n", (None,), b"k"), ("n", (b"",), b"k")),
        (("n", (), b"k"), ("n", (None,), b"k")),
        (("n", (None, b"a"), b"k"), ("n", (b"a", None), b"k")),
        (("n", (b"absent",), b"k"), ("n", (None,), b"k")),
        (("n", (framed(b"a", b"b"),), b"k"), ("n", (b"a", b"b"), b"k")),
    ],
)
def test_what_looks_alike_has_another_id(
    one: tuple[str, tuple[bytes | None, ...], bytes], other: tuple[str, tuple[bytes | None, ...], bytes]
) -> None:
    assert record_id(*one) != record_id(*other)


def test_an_id_holds_nothing_of_the_key() -> None:
    assert re.fullmatch("[0-9a-f]{64}", record_id("default", (b"Bearer sk_1",), b"deadbeef"))


PARTS = st.lists(st.binary(max_size=10), max_size=4)


@calmly
@given(PARTS, PARTS)
def test_framing_is_injective(one: list[bytes], other: list[bytes]) -> None:
    assert (framed(*one) == framed(*other)) is (one == other)


@calmly
@given(PARTS)
def test_a_frame_can_be_taken_apart(parts: list[bytes]) -> None:
    rest, found = framed(*parts), []
    while rest:
        length = int.from_bytes(rest[:8], "big")
        found.append(rest[8 : 8 + length])
        rest = rest[8 + length :]
    assert found == parts
