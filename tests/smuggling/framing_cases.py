"""Where a body ends: Content-Length, Transfer-Encoding, both, and neither (RFC 9112, section 6)."""

from __future__ import annotations

from typing import Final

from tests.smuggling.cases import (
    BEHIND,
    GET,
    HIDDEN,
    HOST,
    LAST,
    POST,
    SECOND,
    SMUGGLED,
    Case,
    begun,
    chunk,
    chunked,
    counted,
    get,
    head,
    passes,
    refused,
)

_SIZE: Final = b"%d" % len(HIDDEN)
_TE: Final = b"Transfer-Encoding: chunked\r\n"


def _both(name: str, lines: bytes, body: bytes) -> Case:
    return refused(name, head(lines) + body)


BOTH: Final = (
    _both("cl-te", b"Content-Length: %d\r\n" % len(LAST + HIDDEN) + _TE, LAST + HIDDEN),
    _both("te-cl", _TE + b"Content-Length: 4\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
    _both("cl-te-that-agree", b"Content-Length: 5\r\n" + _TE, LAST),
    _both("cl-0-te", b"Content-Length: 0\r\n" + _TE, LAST + HIDDEN),
    _both("te-cl-0", _TE + b"Content-Length: 0\r\n", LAST + HIDDEN),
    _both("cl-te-identity", b"Content-Length: %b\r\nTransfer-Encoding: identity\r\n" % _SIZE, HIDDEN),
    _both("cl-te-unknown", b"Content-Length: %b\r\nTransfer-Encoding: cow\r\n" % _SIZE, HIDDEN),
    _both("cl-te-empty", b"Content-Length: %b\r\nTransfer-Encoding:\r\n" % _SIZE, HIDDEN),
    _both("cl-te-upper-case", b"CONTENT-LENGTH: %b\r\nTRANSFER-ENCODING: CHUNKED\r\n" % _SIZE, LAST + HIDDEN),
    _both("cl-empty-te", b"Content-Length:\r\n" + _TE, LAST + HIDDEN),
    _both("cl-malformed-te", b"Content-Length: x\r\n" + _TE, LAST + HIDDEN),
    _both("cl-cl-te", b"Content-Length: 5\r\nContent-Length: 5\r\n" + _TE, LAST + HIDDEN),
    _both("cl-te-te", b"Content-Length: 5\r\n" + _TE + _TE, LAST + HIDDEN),
    _both("cl-te-hidden-by-connection", b"Connection: Transfer-Encoding\r\nContent-Length: 5\r\n" + _TE, LAST + HIDDEN),
    _both("te-cl-hidden-by-connection", b"Connection: Content-Length\r\nContent-Length: 5\r\n" + _TE, LAST + HIDDEN),
    refused("cl-te-on-get", get(b"Content-Length: 5\r\n" + _TE) + LAST + HIDDEN),
    refused("cl-te-on-head", get(b"Content-Length: 5\r\n" + _TE, b"HEAD") + LAST + HIDDEN),
    refused("cl-te-in-1.0", head(b"Content-Length: 5\r\n" + _TE, POST + b" HTTP/1.0\r\n") + LAST + HIDDEN),
    refused("te-in-1.0", head(_TE, POST + b" HTTP/1.0\r\n") + LAST + HIDDEN),
    refused("te-in-1.0-kept-alive", head(b"Connection: keep-alive\r\n" + _TE, POST + b" HTTP/1.0\r\n") + LAST + HIDDEN),
    _both("cl-te-behind-a-bare-lf", b"Content-Length: 5\r\nX: y\nTransfer-Encoding: chunked\r\n", LAST + HIDDEN),
    _both("cl-te-behind-a-bare-cr", b"Content-Length: 5\r\nX: y\rTransfer-Encoding: chunked\r\n", LAST + HIDDEN),
    _both("cl-te-in-a-fold", b"Content-Length: 5\r\nX: y\r\n Transfer-Encoding: chunked\r\n", LAST + HIDDEN),
    _both("cl-te-space-before-colon", b"Content-Length: 5\r\nTransfer-Encoding : chunked\r\n", LAST + HIDDEN),
    passes("cl-te-underscore", counted(HIDDEN, b"Transfer_Encoding: chunked\r\n"), POST),
    passes("te-cl-underscore", chunked(chunk(HIDDEN) + LAST, b"Content_Length: 5\r\n"), POST),
)


def _length(name: str, value: bytes) -> Case:
    return refused(name, counted(HIDDEN, length=value))


def _length_line(name: str, line: bytes) -> Case:
    return refused(name, head(line) + HIDDEN)


LENGTHS: Final = (
    _length_line("twice-and-equal", b"Content-Length: %b\r\nContent-Length: %b\r\n" % (_SIZE, _SIZE)),
    _length_line("twice-and-different", b"Content-Length: 0\r\nContent-Length: %b\r\n" % _SIZE),
    _length_line("twice-the-other-way", b"Content-Length: %b\r\ncontent-length: 0\r\n" % _SIZE),
    _length_line("twice-one-empty", b"Content-Length:\r\nContent-Length: %b\r\n" % _SIZE),
    _length("list-of-equal", _SIZE + b", " + _SIZE),
    _length("list-of-different", b"0, " + _SIZE),
    _length("list-with-an-empty-member", _SIZE + b","),
    _length("plus", b"+" + _SIZE),
    _length("minus", b"-" + _SIZE),
    _length("minus-zero", b"-0"),
    _length("hexadecimal", b"0x0"),
    _length("hexadecimal-digits", b"3c"),
    _length("fraction", b"0.0"),
    _length("exponent", b"0e1"),
    _length("underscore", b"0_0"),
    _length("two-numbers", b"0 " + _SIZE),
    _length("number-and-word", b"0 x"),
    _length("semicolon", b"0;"),
    _length("quoted", b'"0"'),
    _length("empty", b""),
    _length("blanks", b" \t "),
    _length("nul-behind", b"0\0"),
    _length("nul-before", b"\x000"),
    _length("vertical-tab", b"\x0b0"),
    _length("form-feed-behind", b"0\x0c"),
    _length("no-break-space", b"\xa00"),
    _length("digits-of-another-script", "٠".encode()),
    _length("superscript", b"\xb2"),
    _length("full-width-digit", "０".encode()),
    _length("past-63-bits", b"9223372036854775808"),
    _length("past-64-bits", b"18446744073709551616"),
    _length("wraps-to-small", b"18446744073709551621"),
    _length("many-zeros", b"0" * 40 + _SIZE),
    _length("folded", b"\r\n " + _SIZE),
    _length("continued", b"0\r\n 1"),
    _length("bare-lf-inside", b"0\nX: y"),
    _length("bare-cr-inside", b"0\rX: y"),
    _length_line("space-before-colon", b"Content-Length : %b\r\n" % _SIZE),
    _length_line("tab-before-colon", b"Content-Length\t: %b\r\n" % _SIZE),
    _length_line("nul-in-name", b"Content-Length\0: %b\r\n" % _SIZE),
    _length_line("obs-text-in-name", b"Content-Length\xa0: %b\r\n" % _SIZE),
    _length_line("space-in-name", b"Content Length: %b\r\n" % _SIZE),
    _length_line("no-colon", b"Content-Length %b\r\n" % _SIZE),
    _length_line("behind-a-bare-lf", b"X: y\nContent-Length: %b\r\n" % _SIZE),
    _length_line("behind-a-bare-cr", b"X: y\rContent-Length: %b\r\n" % _SIZE),
    refused("first-line-folded", b"%b HTTP/1.1\r\n Content-Length: %b\r\n%b\r\n" % (POST, _SIZE, HOST) + HIDDEN),
    passes("leading-zeros", counted(HIDDEN, length=b"0000" + _SIZE), POST),
    passes("blanks-around", counted(HIDDEN, length=b"\t %b \t" % _SIZE), POST),
    passes("no-blank-before", head(b"Content-Length:%b\r\n" % _SIZE) + HIDDEN, POST),
    passes("odd-case", head(b"cOnTeNt-LeNgTh: %b\r\n" % _SIZE) + HIDDEN, POST),
    passes("underscore-in-name", head(b"Content_Length: %b\r\n" % _SIZE) + HIDDEN, POST, SMUGGLED),
    passes("prefix-of-the-name", head(b"Content-Lengt: %b\r\n" % _SIZE) + HIDDEN, POST, SMUGGLED),
    passes("x-in-front-of-the-name", head(b"X-Content-Length: %b\r\n" % _SIZE) + HIDDEN, POST, SMUGGLED),
    begun("larger-than-32-bits", counted(HIDDEN, length=b"4294967301"), protected=413),
    begun("largest", counted(HIDDEN, length=b"9223372036854775807"), protected=413),
)


def _coding(name: str, value: bytes) -> Case:
    return refused(name, chunked(LAST + HIDDEN, coding=value))


def _coding_line(name: str, line: bytes) -> Case:
    return refused(name, head(line) + LAST + HIDDEN)


CODINGS: Final = (
    _coding("identity", b"identity"),
    _coding("chunked-identity", b"chunked, identity"),
    _coding("identity-chunked", b"identity, chunked"),
    _coding("gzip-chunked", b"gzip, chunked"),
    _coding("chunked-gzip", b"chunked, gzip"),
    _coding("chunked-chunked", b"chunked, chunked"),
    _coding("trailing-comma", b"chunked,"),
    _coding("leading-comma", b",chunked"),
    _coding("empty", b""),
    _coding("quoted", b'"chunked"'),
    _coding("single-quoted", b"'chunked'"),
    _coding("parameter", b"chunked;q=1"),
    _coding("semicolon", b"chunked;"),
    _coding("more-letters", b"chunkedx"),
    _coding("letters-before", b"xchunked"),
    _coding("fewer-letters", b"chunke"),
    _coding("unknown", b"cow"),
    _coding("vertical-tab-before", b"\x0bchunked"),
    _coding("vertical-tab-behind", b"chunked\x0b"),
    _coding("form-feed-before", b"\x0cchunked"),
    _coding("nul-before", b"\0chunked"),
    _coding("nul-behind", b"chunked\0"),
    _coding("delete-behind", b"chunked\x7f"),
    _coding("obs-text-behind", b"chunked\xff"),
    _coding("no-break-space-before", b"\xa0chunked"),
    _coding("no-break-space-utf-8", b"\xc2\xa0chunked"),
    _coding("letter-of-another-script", "сhunked".encode()),
    _coding("kelvin-sign", "chun\u212aed".encode()),
    _coding("two-words", b"chunked x"),
    _coding("folded", b"\r\n chunked"),
    _coding("continued", b"chunked\r\n , identity"),
    _coding("folded-by-tab", b"\r\n\tchunked"),
    _coding("bare-lf-before", b"\nchunked"),
    _coding("bare-cr-before", b"\rchunked"),
    _coding("bare-cr-behind", b"chunked\r"),
    _coding_line("twice", _TE + _TE),
    _coding_line("twice-and-different", _TE + b"Transfer-Encoding: identity\r\n"),
    _coding_line("twice-the-other-way", b"Transfer-Encoding: cow\r\n" + _TE),
    _coding_line("twice-in-another-case", _TE + b"transfer-encoding: x\r\n"),
    _coding_line("twice-one-empty", b"Transfer-Encoding:\r\n" + _TE),
    _coding_line("space-before-colon", b"Transfer-Encoding : chunked\r\n"),
    _coding_line("tab-before-colon", b"Transfer-Encoding\t: chunked\r\n"),
    _coding_line("line-end-before-colon", b"Transfer-Encoding\r\n : chunked\r\n"),
    _coding_line("space-before-name", b" Transfer-Encoding: chunked\r\n"),
    _coding_line("behind-a-fold", b"X: y\r\n Transfer-Encoding: chunked\r\n"),
    _coding_line("behind-a-bare-lf", b"X: y\nTransfer-Encoding: chunked\r\n"),
    _coding_line("behind-a-bare-cr", b"X: y\rTransfer-Encoding: chunked\r\n"),
    _coding_line("nul-in-name", b"Transfer\0-Encoding: chunked\r\n"),
    _coding_line("space-in-name", b"Transfer Encoding: chunked\r\n"),
    _coding_line("bracketed-name", b"[Transfer-Encoding]: chunked\r\n"),
    _coding_line("obs-text-in-name", b"Transfer-Encodi\xf1g: chunked\r\n"),
    _coding_line("no-colon", b"Transfer-Encoding chunked\r\n"),
    passes("upper-case", chunked(chunk(HIDDEN) + LAST, coding=b"CHUNKED"), POST),
    passes("blanks-around", chunked(chunk(HIDDEN) + LAST, coding=b" \t chunked\t "), POST),
    passes("no-blank-before", head(b"Transfer-Encoding:chunked\r\n") + chunk(HIDDEN) + LAST, POST),
    passes("underscore-in-name", head(b"Transfer_Encoding: chunked\r\n") + HIDDEN, POST, SMUGGLED),
    passes("only-te", head(b"TE: chunked\r\n") + HIDDEN, POST, SMUGGLED),
    passes("content-encoding", head(b"Content-Encoding: chunked\r\n") + HIDDEN, POST, SMUGGLED),
    passes("listed-in-connection", chunked(chunk(HIDDEN) + LAST, b"Connection: Transfer-Encoding\r\n"), POST),
    passes("listed-in-trailer", chunked(chunk(HIDDEN) + LAST, b"Trailer: Transfer-Encoding\r\n"), POST),
)


def _with_body(method: bytes) -> tuple[Case, Case]:
    """A body that looks like a request, behind a method that mostly has none (CL.0, TE.0)."""
    line, name = method + b" /case/NNNN", method.decode().lower()
    length = get(b"Content-Length: %b\r\n" % _SIZE, method) + HIDDEN
    return (
        passes(f"cl-0-{name}", length, line),
        passes(f"te-0-{name}", get(_TE, method) + chunk(HIDDEN) + LAST, line),
    )


BODIES: Final = (
    *_with_body(b"GET"),
    *_with_body(b"HEAD"),
    *_with_body(b"OPTIONS"),
    *_with_body(b"DELETE"),
    *_with_body(b"POST"),
    *_with_body(b"PUT"),
    *_with_body(b"PATCH"),
    *_with_body(b"TRACE"),
    passes("no-length-at-all", head(b"") + HIDDEN, POST, SMUGGLED),
    passes("length-0", counted(b"", length=b"0") + HIDDEN, POST, SMUGGLED),
    passes("only-the-last-chunk", chunked(LAST + HIDDEN), POST, SMUGGLED),
    passes("body-and-another-behind", counted(HIDDEN) + BEHIND, POST, SECOND),
    passes("chunked-body-and-another-behind", chunked(chunk(HIDDEN) + LAST + BEHIND), POST, SECOND),
    passes("get-body-and-another-behind", get(b"Content-Length: %b\r\n" % _SIZE) + HIDDEN + BEHIND, GET, SECOND),
    passes("length-takes-half-of-the-next", counted(b"x" + HIDDEN[:10]) + HIDDEN[10:], POST, then=400),
)
