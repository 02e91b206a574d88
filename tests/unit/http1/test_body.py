"""Bodies: the payload is the same wherever the bytes are cut, and no chunk that readers could take in two ways is read."""

from __future__ import annotations

import random
from itertools import pairwise

import h11
import pytest

from idemproxy.http1.body import MAX_SIZE_LINE, MAX_TRAILERS, AnswerBodyReader, BadBody, BodyReader, CutShort
from idemproxy.http1.heads import Chunked, Framing, Length, NoBody, UntilClose
from idemproxy.idempotency.messages import Fields

Read = tuple[bytes, bool, bytes, Fields]

READERS = [BodyReader, AnswerBodyReader]
BOTH = pytest.mark.parametrize("kind", READERS, ids=["request", "answer"])


def read(kind: type[BodyReader], framing: Framing, *pieces: bytes) -> Read:
    """The payload, whether it is complete, what came behind it, and the trailers."""
    reader = kind(framing)
    payload = [piece for data in pieces for piece in reader.feed(data)]
    assert all(payload)
    return b"".join(payload), reader.complete, reader.rest, reader.trailers


def outcome(kind: type[BodyReader], framing: Framing, *pieces: bytes) -> Read | None:
    try:
        return read(kind, framing, *pieces)
    except BadBody:
        return None


@BOTH
def test_length(kind: type[BodyReader]) -> None:
    data = b"hello" + b"GET /"
    for cut in range(len(data) + 1):
        assert read(kind, Length(5), data[:cut], data[cut:]) == (b"hello", True, b"GET /", ())
    assert read(kind, Length(0), b"GET /") == (b"", True, b"GET /", ())
    assert read(kind, Length(6), b"hello") == (b"hello", False, b"", ())


@BOTH
def test_no_body(kind: type[BodyReader]) -> None:
    assert kind(NoBody()).complete
    assert kind(Length(0)).complete
    assert read(kind, NoBody(), b"GE", b"T") == (b"", True, b"GET", ())


@BOTH
def test_until_close(kind: type[BodyReader]) -> None:
    reader = kind(UntilClose())
    assert reader.feed(b"a") + reader.feed(b"") + reader.feed(b"b\r\n\r\n") == [b"a", b"b\r\n\r\n"]
    assert not reader.complete
    reader.end()
    assert reader.complete


@BOTH
@pytest.mark.parametrize(
    ("framing", "data"),
    [(Length(5), b"hell"), (Length(1), b"")]
    + [(Chunked(), b"5\r\nhello\r\n0\r\nA: b\r\n\r\n"[:cut]) for cut in range(len(b"5\r\nhello\r\n0\r\nA: b\r\n\r"))],
)
def test_cut_short(kind: type[BodyReader], framing: Framing, data: bytes) -> None:
    reader = kind(framing)
    reader.feed(data)
    assert not reader.complete
    with pytest.raises(CutShort):
        reader.end()


@BOTH
def test_an_end_after_the_end_is_well(kind: type[BodyReader]) -> None:
    reader = kind(Chunked())
    reader.feed(b"0\r\n\r\n")
    reader.end()
    assert reader.complete


GOOD: list[tuple[bytes, bytes, Fields]] = [
    (b"0\r\n\r\n", b"", ()),
    (b"000\r\n\r\n", b"", ()),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello", ()),
    (b"5\r\nhello\r\n00a\r\n, \r\n0\r\n\r\n!\r\n0\r\n\r\n", b"hello, \r\n0\r\n\r\n!", ()),
    (b"0000000000000005\r\nhello\r\n0\r\n\r\n", b"hello", ()),
    (b"B\r\nhello hello\r\nb\r\nhello hello\r\n0\r\n\r\n", b"hello hello" * 2, ()),
    (b'5;a\r\nhello\r\n1;b=c;d="e f" \t\r\n!\r\n0;g\r\n\r\n', b"hello!", ()),
    (b"1\r\n!\r\n0\r\nA: b\r\nc:\t d \r\nE:\r\n\r\n", b"!", ((b"A", b"b"), (b"c", b"d"), (b"E", b""))),
]


@BOTH
@pytest.mark.parametrize(("data", "payload", "trailers"), GOOD)
def test_chunks(kind: type[BodyReader], data: bytes, payload: bytes, trailers: Fields) -> None:
    whole = data + b"GET / HTTP/1.1\r\n"
    expected = (payload, True, b"GET / HTTP/1.1\r\n", trailers)
    assert read(kind, Chunked(), whole) == expected
    assert read(kind, Chunked(), *(bytes([octet]) for octet in whole)) == expected
    for cut in range(len(whole)):
        assert read(kind, Chunked(), whole[:cut], whole[cut:]) == expected


def test_each_piece_is_there_as_soon_as_its_bytes_are() -> None:
    reader = BodyReader(Chunked())
    assert reader.feed(b"5\r\nhe") == [b"he"]
    assert reader.feed(b"llo") == [b"llo"]
    assert not reader.complete
    assert reader.feed(b"\r\n0\r\n\r\n") == []
    assert reader.complete


BAD = [
    pytest.param(data, id=what)
    for what, data in [
        ("hexadecimal prefix", b"0x5\r\nhello\r\n0\r\n\r\n"),
        ("sign", b"+5\r\nhello\r\n0\r\n\r\n"),
        ("negative", b"-5\r\nhello\r\n0\r\n\r\n"),
        ("underscore", b"1_0\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n"),
        ("blank before", b" 5\r\nhello\r\n0\r\n\r\n"),
        ("no size", b"\r\nhello\r\n0\r\n\r\n"),
        ("no size but an extension", b";5\r\nhello\r\n0\r\n\r\n"),
        ("no hexadecimal digit", b"g\r\nhello\r\n0\r\n\r\n"),
        ("other digits", b"\xb2\r\nhello\r\n0\r\n\r\n"),
        ("seventeen digits", b"00000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("bare LF behind the size", b"5\nhello\r\n0\r\n\r\n"),
        ("bare LF behind two digits", b"05\nhello\r\n0\r\n\r\n"),
        ("bare LF and no CRLF at all", b"5\nhello\n0\n\n"),
        ("bare CR behind the size", b"5\rhello\r\n0\r\n\r\n"),
        ("a CR too many", b"5\r\r\nhello\r\n0\r\n\r\n"),
        ("bare LF in an extension", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("bare CR in an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("NUL in an extension", b"5;a\0\r\nhello\r\n0\r\n\r\n"),
        ("comma for a semicolon", b"5,a\r\nhello\r\n0\r\n\r\n"),
        ("chunk longer than its size", b"4\r\nhello\r\n0\r\n\r\n"),
        ("chunk shorter than its size", b"6\r\nhello\r\n0\r\n\r\n"),
        ("bare LF behind a chunk", b"5\r\nhello\n0\r\n\r\n"),
        ("bare CR behind a chunk", b"5\r\nhello\r0\r\n\r\n"),
        ("two bytes of anything behind a chunk", b"5\r\nhelloXX0\r\n\r\n"),
        ("bare LF behind the last chunk", b"0\n\r\n"),
        ("bare LF at the end", b"0\r\n\n"),
        ("bare LF behind a trailer", b"0\r\nA: b\n\r\n"),
        ("bare LF at the trailers' end", b"0\r\nA: b\r\n\n"),
        ("trailer without a colon", b"0\r\nA\r\n\r\n"),
        ("trailer with a blank before its colon", b"0\r\nA : b\r\n\r\n"),
        ("trailer folded", b"0\r\nA: b\r\n c\r\n\r\n"),
        ("trailer that begins folded", b"0\r\n A: b\r\n\r\n"),
        ("trailer with a NUL", b"0\r\nA: \0\r\n\r\n"),
        ("trailer with a CR", b"0\r\nA: b\rc\r\n\r\n"),
        ("a request behind the last size", b"0\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    ]
]


@BOTH
@pytest.mark.parametrize("data", BAD)
def test_smuggling(kind: type[BodyReader], data: bytes) -> None:
    for cut in range(len(data)):
        with pytest.raises(BadBody) as caught:
            read(kind, Chunked(), data[:cut], data[cut:])
        assert "hello" not in str(caught.value)


@pytest.mark.parametrize("size", [b"5 ", b"5\t", b"5   \t", b"5 ;a", b"5\t;a=b "])
def test_blanks_behind_a_size_are_an_upstreams_privilege(size: bytes) -> None:
    data = size + b"\r\nhello\r\n0\r\n\r\n"
    assert outcome(BodyReader, Chunked(), data) is None
    assert outcome(AnswerBodyReader, Chunked(), data) == (b"hello", True, b"", ())


@BOTH
def test_what_is_held_is_bounded(kind: type[BodyReader]) -> None:
    room = MAX_SIZE_LINE - len(b"5;\r\n")
    assert read(kind, Chunked(), b"5;" + b"x" * room + b"\r\nhello\r\n0\r\n\r\n")[0] == b"hello"
    for data in (
        b"5;" + b"x" * (room + 1) + b"\r\nhello\r\n0\r\n\r\n",
        b"5;" + b"x" * (room + 2),
        b"0" * MAX_SIZE_LINE,
    ):
        assert outcome(kind, Chunked(), data) is None
        assert outcome(kind, Chunked(), data[:100], data[100:]) is None
    room = MAX_TRAILERS - len(b"A: \r\n\r\n")
    trailers = b"0\r\nA: " + b"x" * room + b"\r\n\r\n"
    assert len(read(kind, Chunked(), trailers)[3][0][1]) == room
    for data in (trailers.replace(b"A:", b"AA:"), trailers[:-4] + b"xxxxx"):
        assert outcome(kind, Chunked(), data) is None
        assert outcome(kind, Chunked(), data[:100], data[100:]) is None


def test_a_huge_chunk_is_not_gathered() -> None:
    reader = BodyReader(Chunked())
    assert reader.feed(b"ffffffffffffffff\r\n") == []
    piece = b"x" * 65_536
    assert [reader.feed(piece) for _ in range(4)] == [[piece]] * 4


def mutated(rng: random.Random, data: bytes) -> bytes:
    octets = bytearray(data)
    for _ in range(rng.randint(0, 2)):
        at = rng.randrange(len(octets))
        match rng.randrange(3):
            case 0:
                octets[at] = rng.choice(b"\r\n\t 0159afAF;:,x\0\xff")
            case 1:
                del octets[at]
            case _:
                octets.insert(at, rng.choice(b"\r\n\t 0159afAF;:,x\0\xff"))
    return bytes(octets)


def generated(rng: random.Random) -> bytes:
    chunks = [rng.randbytes(rng.choice((1, 2, 9, 10, 16, 17, 40))) for _ in range(rng.randint(0, 3))]
    extension = rng.choice((b"", b"", b";a", b";a=b"))
    trailers = rng.choice((b"", b"", b"A: b\r\n", b"A: b\r\nC:d\r\n"))
    return (
        b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks) + b"0\r\n" + trailers + b"\r\n"
    )


def h11_reads(data: bytes) -> tuple[bytes, Fields] | None:
    """The payload and the trailers (names in lower case), or None where the body is refused or not whole."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection.receive_data(data)
    payload = b""
    try:
        while True:
            match connection.next_event():
                case h11.Request():
                    pass
                case h11.Data(data=piece):
                    payload += bytes(piece)
                case h11.EndOfMessage(headers=trailers):
                    return payload, tuple((bytes(name), bytes(value)) for name, value in trailers)
                case _:
                    return None
    except h11.RemoteProtocolError:
        return None


@BOTH
def test_what_is_read_from_broken_chunks_is_what_h11_reads_and_no_cut_changes_it(kind: type[BodyReader]) -> None:
    rng = random.Random(20_26)
    alike = 0
    for _ in range(1_500):
        data = mutated(rng, generated(rng))
        whole = outcome(kind, Chunked(), data)
        cuts = sorted(rng.sample(range(len(data) + 1), min(3, len(data))))
        assert outcome(kind, Chunked(), *(data[a:b] for a, b in pairwise([0, *cuts, len(data)]))) == whole
        if whole is not None and whole[1]:
            theirs = h11_reads(data[: len(data) - len(whole[2])])
            if theirs is not None:
                alike += 1
                assert theirs == (whole[0], tuple((name.lower(), value) for name, value in whole[3]))
    assert alike > 500
