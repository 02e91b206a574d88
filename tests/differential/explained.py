"""The table of explained differences between the direct bytes and the product's: each row a point of FORWARDING.md, the places where
it applies, and a predicate that is true of the one change that the point asks for and of no other."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from tests.differential.corpus import Client
from tests.differential.differences import Difference, Where, own_status
from tests.differential.reading import Head, name, value, values
from tests.differential.setting import HOP_BY_HOP, NEVER_LISTED, NO_TRAILER, Explanation, Setting, made

# ------------------------------------------------------------------------------------------------------------------------ requests


def _blanks(_: Setting, found: Difference) -> bool:
    """RFC 9110, section 5.5: white space around a value is no part of it."""
    before, after = found.before, found.after
    if before is None or after is None or b"\n" in before:
        return False
    return after == before.partition(b":")[0] + b": " + value(before)


def _members(listed: bytes) -> set[bytes]:
    return {each.strip(b" \t").lower() for each in listed.split(b",")}


def _listed(head: Head) -> set[bytes]:
    return _members(b",".join(values(head.fields, b"connection"))) - NEVER_LISTED


def _ended_by_hop(head: Head, line: bytes) -> bool:
    return name(line) in HOP_BY_HOP or name(line) in _listed(head)


def _hop_request(at: Setting, found: Difference) -> bool:
    return found.before is not None and found.after is None and _ended_by_hop(at.asked(found.index), found.before)


def _te(at: Setting, found: Difference) -> bool:
    """Each TE that accepts trailers goes on, for trailers alone."""
    asked = [
        line for line in at.asked(found.index).fields if name(line) == b"te" and b"trailers" in _members(value(line))
    ]
    sent = [line for line in at.other.requests[found.index].head.fields if name(line) == b"te"]
    return found.after in sent and sent == [line.partition(b":")[0] + b": trailers" for line in asked]


def _coding_request(at: Setting, found: Difference) -> bool:
    head = at.asked(found.index)
    same = [each.lower() for each in values(head.fields, b"transfer-encoding")] == [b"chunked"]
    return same and made(at, found, b"Transfer-Encoding: chunked")


_ABSOLUTE: Final = re.compile(rb"([^ ]+) (?i:https?)://([^/? ]+)([^ ]*) HTTP/1\.[01]")


def _origin_form(_: Setting, found: Difference) -> bool:
    absolute = _ABSOLUTE.fullmatch(found.before or b"")
    if absolute is None:
        return False
    method, _host, path = absolute.groups()
    if not path.startswith(b"/"):
        path = b"*" if method == b"OPTIONS" and not path else b"/" + path
    return found.after == b"%b %b HTTP/1.1" % (method, path)


def _host_of_target(at: Setting, found: Difference) -> bool:
    absolute = _ABSOLUTE.fullmatch(at.asked(found.index).line)
    if absolute is None or found.after is None:
        return False
    kept = b"Host" if found.before is None else found.before.partition(b":")[0]
    return kept.lower() == b"host" and found.after == kept + b": " + absolute[2]


def _host_of_old(at: Setting, found: Difference) -> bool:
    none = not values(at.asked(found.index).fields, b"host")
    return at.old(found.index) and none and found.before is None and found.after == b"Host: " + at.other.authority


def _request_version(_: Setting, found: Difference) -> bool:
    return found.before is not None and found.after == found.before.removesuffix(b"1.0") + b"1.1"


def _empty_line(_: Setting, found: Difference) -> bool:
    """RFC 9112, section 2.2."""
    return found.before == b"\r\n" and found.after == b""


def _extension(_: Setting, found: Difference) -> bool:
    return found.before is not None and found.after is None


def _trailer(_: Setting, found: Difference) -> bool:
    return found.before is not None and found.after is None and name(found.before) in NO_TRAILER


def _client_gone(at: Setting, found: Difference) -> bool:
    cut = not at.direct.requests[found.index].body.whole and not at.other.requests[found.index].body.whole
    return at.case.client is Client.HALF_CLOSES and cut and (found.before or b"").startswith(found.after or b"")


def _sent_again(at: Setting, found: Difference) -> bool:
    if found.after is None or len(at.other.requests) != 2 or len(at.case.exchanges) != 1:
        return False
    first, again = at.other.requests
    allowed = first.head.line.split(b" ")[0] in (b"GET", b"HEAD", b"OPTIONS", b"TRACE") and not first.body.data
    return allowed and again == first and not at.script(0).answer


# ------------------------------------------------------------------------------------------------------------------------ refusals


def _refused(at: Setting, found: Difference) -> bool:
    """A request that is refused: no request from that one on reached the upstream whole, and no answer follows."""
    if at.case.refused is None or (at.case.refused >= 500 and at.case.refused not in (501, 505)):
        return False
    owned = len(at.other.answers) - 1
    if owned < 0 or own_status(at.other.answers[owned]) != b"%d" % at.case.refused or at.other.rest:
        return False
    if any(request.body.whole for request in at.other.requests[owned:]):
        return False
    match found.where:
        case Where.OWN | Where.REQUEST:
            return found.index >= owned and (found.where is Where.OWN or found.after is None)
        case Where.REQUEST_BODY:
            return found.index == owned and (found.before or b"").startswith(found.after or b"")
        case Where.REQUEST_EXTENSION | Where.REQUEST_TRAILER:
            return found.index == owned and found.after is None
        case Where.REQUEST_END:
            return found.index == owned
        case Where.ANSWER:
            return found.index > owned and found.after is None
        case Where.REST:
            return True
        case _:
            return False


def _failed(at: Setting, found: Difference) -> bool:
    """An answer that is none: the request went on as it came, and its client is told 502."""
    return at.case.refused == 502 and found.after == b"502" and len(at.other.requests) > found.index


# ------------------------------------------------------------------------------------------------------------------------- answers


def _answer_version(_: Setting, found: Difference) -> bool:
    before = re.fullmatch(rb"HTTP/1\.[02-9]( .*)", found.before or b"", re.DOTALL)
    return before is not None and found.after == b"HTTP/1.1" + before[1]


def _hop_answer(at: Setting, found: Difference) -> bool:
    head = at.direct.answers[found.index].head
    return found.before is not None and found.after is None and _ended_by_hop(head, found.before)


def _coding_answer(at: Setting, found: Difference) -> bool:
    codings = values(at.direct.answers[found.index].head.fields, b"transfer-encoding")
    same = [each.lower() for each in codings] == [b"chunked"] and not at.old(found.index)
    return same and made(at, found, b"Transfer-Encoding: chunked")


def _until_close(at: Setting, found: Difference) -> bool:
    head = at.direct.answers[found.index].head
    framed = values(head.fields, b"transfer-encoding") or values(head.fields, b"content-length")
    return made(at, found, b"Transfer-Encoding: chunked") and not framed and not at.old(found.index)


def _asked_to_close(at: Setting, index: int) -> bool:
    listed = _members(b",".join(values(at.asked(index).fields, b"connection")))
    return b"close" in listed or (at.old(index) and b"keep-alive" not in listed)


def _closes(at: Setting, found: Difference) -> bool:
    return made(at, found, b"Connection: close") and _asked_to_close(at, found.index)


def _old_close(at: Setting, found: Difference) -> bool:
    """An HTTP/1.0 client that asked for keep-alive knows no framing but a length: without one the end is the close."""
    unlimited = not values(at.direct.answers[found.index].head.fields, b"content-length")
    return made(at, found, b"Connection: close") and at.old(found.index) and unlimited


def _old_keeps(at: Setting, found: Difference) -> bool:
    kept = at.old(found.index) and not _asked_to_close(at, found.index)
    return made(at, found, b"Connection: keep-alive") and kept


def _old_trailer(at: Setting, found: Difference) -> bool:
    return at.old(found.index) and found.before is not None and found.after is None


def _early_close(at: Setting, found: Difference) -> bool:
    return made(at, found, b"Connection: close") and at.script(found.index).early


def _half_closed(at: Setting, found: Difference) -> bool:
    last = found.index == len(at.case.exchanges) - 1
    told = at.case.client is Client.HALF_CLOSES and last
    return made(at, found, b"Connection: close") and told


def _unasked_100(at: Setting, found: Difference) -> bool:
    gone = found.after is None and (found.before or b"").startswith(b"HTTP/1.1 100")
    waits = bool(values(at.asked(found.index).fields, b"expect")) and bool(at.case.exchanges[found.index].held)
    return gone and not waits


def _old_interim(at: Setting, found: Difference) -> bool:
    return found.after is None and at.old(found.index)


def _cut(at: Setting, found: Difference) -> bool:
    return at.bodies_cut(found.index) and (found.before or b"").startswith(found.after or b"")


def _cut_trailer(at: Setting, found: Difference) -> bool:
    return at.bodies_cut(found.index) and found.after is None


def _cut_at_once(at: Setting, found: Difference) -> bool:
    cut = not at.direct.answers[found.index].body.whole and not at.other.rest
    if found.where is Where.ANSWER:
        return cut and found.after is None
    return cut and not at.other.answers[found.index].head.line


def _line_ends(_: Setting, found: Difference) -> bool:
    return (found.before, found.after) == (b"LF", b"CRLF")


def _unfolded(_: Setting, found: Difference) -> bool:
    if found.before is None or not re.search(rb"\r?\n[ \t]", found.before):
        return False
    line = re.sub(rb"[ \t]*(?:\r?\n[ \t]+)+", b" ", found.before)
    return found.after == line.partition(b":")[0].rstrip(b" \t") + b": " + value(line)


def _blank_before_colon(_: Setting, found: Difference) -> bool:
    called, _colon, rest = (found.before or b"").partition(b":")
    return called != called.rstrip(b" \t") and found.after == called.rstrip(b" \t") + b": " + rest.strip(b" \t")


def _one_length(at: Setting, found: Difference) -> bool:
    lengths = values(at.direct.answers[found.index].head.fields, b"content-length")
    numbers = {each.strip(b" \t") for length in lengths for each in length.split(b",")}
    repeated = len(numbers) == 1 and (len(lengths) > 1 or b"," in lengths[0])
    if not repeated or found.before is None or name(found.before) != b"content-length":
        return False
    return found.after in (None, found.before.partition(b":")[0] + b": " + numbers.pop())


def _behind(at: Setting, found: Difference) -> bool:
    return found.after == b"" and any((found.before or b"") in each.script.answer for each in at.case.exchanges)


# -------------------------------------------------------------------------------------------------------------------------- tunnels


def _switch_request(at: Setting, found: Difference) -> bool:
    """Connection and Upgrade made anew, for the protocols that were asked for, without h2c."""
    fields = at.asked(found.index).fields
    if b"upgrade" not in _listed(at.asked(found.index)):
        return False
    asked = [each.strip(b" \t") for each in b",".join(values(fields, b"upgrade")).split(b",")]
    protocols = b", ".join(each for each in asked if each.lower() != b"h2c")
    return bool(protocols) and (made(at, found, b"Connection: Upgrade") or made(at, found, b"Upgrade: " + protocols))


def _switch_answer(at: Setting, found: Difference) -> bool:
    head = at.direct.answers[found.index].head
    switched = b" 101" in head.line[:12]
    lines = [b"Connection: Upgrade", *(line for line in head.fields if name(line) == b"upgrade")]
    return switched and any(made(at, found, line) for line in lines)


_LINES: Final = frozenset({Where.REQUEST_FIELD, Where.REQUEST_TRAILER, Where.ANSWER_FIELD, Where.ANSWER_TRAILER})


def _row(
    called: str, point: int, where: frozenset[Where] | Where, holds: Callable[[Setting, Difference], bool]
) -> Explanation:
    return Explanation(called, point, where if isinstance(where, frozenset) else frozenset({where}), holds)


_ANSWER: Final = frozenset(
    {
        Where.STATUS_LINE,
        Where.LINE_ENDS,
        Where.ANSWER_FIELD,
        Where.ANSWER_BODY,
        Where.ANSWER_EXTENSION,
        Where.ANSWER_TRAILER,
    }
)

TABLE: Final = (
    _row("absolute-form becomes origin-form", 1, Where.REQUEST_LINE, _origin_form),
    _row("Host is the absolute target's", 1, Where.REQUEST_FIELD, _host_of_target),
    _row("blanks around a value", 3, _LINES, _blanks),
    _row("a request's hop-by-hop field", 4, Where.REQUEST_FIELD, _hop_request),
    _row("TE without its codings", 4, Where.REQUEST_FIELD, _te),
    _row("a request's Transfer-Encoding made anew", 4, Where.REQUEST_FIELD, _coding_request),
    _row("an answer's hop-by-hop field", 4, Where.ANSWER_FIELD, _hop_answer),
    _row("Host where HTTP/1.0 has none", 5, Where.REQUEST_FIELD, _host_of_old),
    _row("a chunk's extension", 6, frozenset({Where.REQUEST_EXTENSION, Where.ANSWER_EXTENSION}), _extension),
    _row("a field that no trailer may be", 6, frozenset({Where.REQUEST_TRAILER, Where.ANSWER_TRAILER}), _trailer),
    _row("the connection ends with an early answer", 8, Where.ANSWER_FIELD, _early_close),
    _row("an empty line before a request", 9, Where.EMPTY_LINES, _empty_line),
    _row("a request's version is the hop's", 9, Where.REQUEST_LINE, _request_version),
    _row("an answer's version is the hop's", 9, Where.STATUS_LINE, _answer_version),
    _row("the client asked for the close", 9, Where.ANSWER_FIELD, _closes),
    _row("HTTP/1.0 without a length ends by the close", 9, Where.ANSWER_FIELD, _old_close),
    _row("HTTP/1.0 asked for keep-alive", 9, Where.ANSWER_FIELD, _old_keeps),
    _row("HTTP/1.0 has no trailers", 9, Where.ANSWER_TRAILER, _old_trailer),
    _row("ambiguity is refused", 10, frozenset(Where), _refused),
    _row("a 100 that nobody waits for", 12, Where.INTERIM, _unasked_100),
    _row("HTTP/1.0 has no interim answers", 12, Where.INTERIM, _old_interim),
    _row("an answer's Transfer-Encoding made anew", 14, Where.ANSWER_FIELD, _coding_answer),
    _row("until the close becomes chunked", 14, Where.ANSWER_FIELD, _until_close),
    _row("cut short, by a reset", 14, Where.ANSWER_BODY, _cut),
    _row("cut short in its trailers", 14, Where.ANSWER_TRAILER, _cut_trailer),
    _row("cut short before its head went on", 14, _ANSWER | {Where.ANSWER}, _cut_at_once),
    _row("a malformed answer is 502", 16, Where.OWN, _failed),
    _row("bare LF is repaired", 16, Where.LINE_ENDS, _line_ends),
    _row("obs-fold is repaired", 16, Where.ANSWER_FIELD, _unfolded),
    _row("a blank before a colon is repaired", 16, Where.ANSWER_FIELD, _blank_before_colon),
    _row("one length of several equal ones", 16, Where.ANSWER_FIELD, _one_length),
    _row("bytes behind an answer", 16, Where.REST, _behind),
    _row("sent once more", 18, Where.REQUEST, _sent_again),
    _row("Connection and Upgrade of a tunnel's request", 19, Where.REQUEST_FIELD, _switch_request),
    _row("Connection and Upgrade of a tunnel's answer", 19, Where.ANSWER_FIELD, _switch_answer),
    _row("a client that leaves cuts its request", 20, Where.REQUEST_BODY, _client_gone),
    _row("the last answer to a client that half-closed", 20, Where.ANSWER_FIELD, _half_closed),
)


BY_CHANCE: Final = frozenset(
    {"cut short, by a reset", "cut short in its trailers", "a client that leaves cuts its request"}
)
"""Rows that apply only where the two sides of a cut were read at different moments."""


def explanation(at: Setting, found: Difference) -> Explanation | None:
    """The row that explains a difference, None where there is none."""
    return next((row for row in TABLE if found.where in row.where and row.holds(at, found)), None)
