"""What the texts in a configuration mean: addresses, URLs, header names, path patterns, statuses, regular expressions."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from idemproxy.config.kinds import WrongError
from idemproxy.config.later import NOT_YET, VALUES
from idemproxy.config.settings import Address, TcpAddress, UnixAddress, UpstreamSettings
from idemproxy.idempotency.patterns import BadPattern, Pattern
from idemproxy.idempotency.template import BadTemplate, Template, parse_template

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"proxy-authenticate", "proxy-authorization"}
)
FRAMING = HOP_BY_HOP | {"content-length", "expect"}
"""What belongs to a connection or to a message's framing, not to the operation (RFC 9110, section 7.6.1)."""

ADDRESS = 'write host:port ("[::1]:port", in quotes, for IPv6) or unix:/path'
UPSTREAM = "write http://host:port, https://host or unix:/path"
STORE = "write redis://host:6379/0, rediss://.., unix:///path/redis.sock or sqlite:PATH"
HEADER = "write a header's name, such as Idempotency-Key"
PATH = "write a path such as /v1/charges, /v1/charges/{id} or /hooks/**"
METHOD = "write a method such as POST"
HOST = "write a host without port or wildcard, such as api.example.com"
DOCS = "write an http(s) URL without a fragment"
FILE = "write the path of a file"
MEDIA_TYPE = "write a media type without parameters, such as application/cloudevents-batch+json"
ON_UNKNOWN = "write block, retry or {probe: {url: PATH}}"
PROBE = "write a path of the upstream, such as /v1/charges/by-key/{header:Idempotency-Key}"
RETRY_ON = "write unreachable, unknown, a status from 400 to 599 or a class such as 5xx"
STATUS = "write a status from 200 to 599 or a class such as 4xx"
REGEX = "write a regular expression as RE2 has them (no look-around, no back references), in ASCII"
SCOPE = 'write "header:NAME", "cookie:NAME", "path:NAME", client_cert, "jwt:CLAIM", "literal:TEXT" or {header: NAME, pattern: REGEX}'

Parse = Callable[[str], bytes]
"""How a name is read. Raises WrongError."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.(?!-)[A-Za-z0-9_-]{1,63})*\.?")
_LONGEST_UNIX_PATH = 107
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"})


def _host(text: str, right: str) -> str:
    """A host without brackets."""
    if text.startswith("["):
        try:
            return str(ipaddress.IPv6Address(text.removeprefix("[").removesuffix("]")))
        except ValueError:
            raise WrongError("not an IPv6 address in its brackets", right) from None
    if not text:
        raise WrongError("without a host", right)
    if re.fullmatch(r"[0-9.]+", text):
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            raise WrongError("not an IPv4 address", right) from None
    if not _NAME.fullmatch(text) or len(text) > 253:
        raise WrongError("not a host's name", right)
    return text


def _port(text: str, least: int, right: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not least <= int(text) <= 65535:
        raise WrongError(f"without a port from {least} to 65535", right)
    return int(text)


def _unix(path: str, right: str) -> UnixAddress:
    path = path.removeprefix("//") if path.startswith("///") else path
    if not re.fullmatch(r"/[^/\0][^\0]*(?<!/)", path):
        raise WrongError("without the absolute path of a socket", right)
    if len(path.encode()) > _LONGEST_UNIX_PATH:
        raise WrongError(f"a path of more than {_LONGEST_UNIX_PATH} bytes, which no socket can have", right)
    return UnixAddress(path)


def _authority(text: str) -> tuple[str, str | None]:
    """Host and port of `host[:port]` as written."""
    found = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::([^:]*))?", text)
    if found is None:
        raise WrongError("with several colons; an IPv6 address stands in brackets", "write [::1]:8080")
    return found[1], found[2]


def address(text: str) -> Address:
    """`host:port` or `unix:/path`. Port 0 takes a free one."""
    if text.startswith("unix:"):
        return _unix(text.removeprefix("unix:"), ADDRESS)
    if "://" in text:
        raise WrongError("a URL, not an address", ADDRESS)
    host, port = _authority(text)
    if port is None:
        raise WrongError("without a port", ADDRESS, f"did you mean 127.0.0.1:{text}?" if text.isdecimal() else "")
    return TcpAddress(_host(host, ADDRESS), _port(port, 0, ADDRESS))


def upstream(text: str) -> UpstreamSettings:
    """`http(s)://host[:port][/base]` or `unix:/path`."""
    if text.startswith("unix:"):
        return UpstreamSettings(
            _unix(text.removeprefix("unix:"), UPSTREAM), tls=False, base=b"", authority=b"localhost", url=text
        )
    found = re.fullmatch(r"(https?)://([^/?#]*)(/[^?#]*)?", text, re.IGNORECASE)
    if "@" in text:
        raise WrongError("with credentials, which are never sent", UPSTREAM)
    if found is None:
        scheme = re.match(r"(https?:)?//", text, re.IGNORECASE)
        hint = "" if scheme or "://" in text else f"did you mean http://{text}?"
        reason = "with a query or fragment" if scheme and re.search(r"[?#]", text) else "without http:// or https://"
        raise WrongError(reason, UPSTREAM, hint)
    tls = found[1].lower() == "https"
    host, port = _authority(found[2])
    bare = _host(host, UPSTREAM)
    number = (443 if tls else 80) if port is None else _port(port, 1, UPSTREAM)
    base = (found[3] or "").rstrip("/")
    if not re.fullmatch(r"(?:[!$&-;=@A-Z_a-z~]|%[0-9A-Fa-f]{2})*", base) or "//" in base:
        raise WrongError("with a base path that is not one", "percent-encode what a path cannot hold")
    written = host if number == (443 if tls else 80) else f"{host}:{number}"
    return UpstreamSettings(TcpAddress(bare, number), tls, base.encode(), written.encode(), text)


def store(text: str) -> str:
    """A store's URL, as written."""
    scheme, colon, rest = text.partition(":")
    if colon and scheme in VALUES["store"]:
        raise WrongError(NOT_YET, STORE)
    match scheme:
        case "sqlite" if colon:
            if not rest or rest.startswith((":", "//")) or rest.endswith("/") or "\0" in rest:
                raise WrongError(
                    "without the path of a file", "write sqlite:PATH, such as sqlite:/var/lib/idemproxy/records.db"
                )
        case "unix":
            if not rest.startswith("//"):
                raise WrongError("without the // of a URL", STORE)
            _unix(rest.removeprefix("//").partition("?")[0].rpartition("@")[2], STORE)
        case "redis" | "rediss":
            _redis(rest)
        case _:
            raise WrongError("not a store that is known", STORE)
    return text


def _redis(rest: str) -> None:
    found = re.fullmatch(r"//(?:.*@)?([^/?#@]*)(?:/([0-9]*))?(?:\?[^#]*)?", rest, re.DOTALL)
    if found is None:
        raise WrongError("not of the form redis://[user:password@]host[:port][/database]", STORE)
    host, port = _authority(found[1])
    _host(host, STORE)
    if port is not None:
        _port(port, 1, STORE)


def header(text: str) -> str:
    """A header's name as written: a token (RFC 9110, section 5.6.2) that is the message's, not the connection's."""
    if not _TOKEN.fullmatch(text) or len(text) > 256:
        raise WrongError("not a header's name", HEADER)
    if text.lower() in FRAMING:
        raise WrongError("a header of the connection or of the framing", HEADER)
    return text


def lower_header(text: str) -> bytes:
    """A header's name, in lower case."""
    return header(text).lower().encode()


def key_header(text: str) -> bytes:
    """The name of a header that a key can be read from, in lower case."""
    if text.lower() == "host":
        raise WrongError("a header that routes the request", HEADER)
    return lower_header(text)


def attempt_header(text: str) -> bytes:
    """The name of a header that the proxy can write to the upstream, as written."""
    if text.lower() in ("host", "authorization", "cookie", "content-type"):
        raise WrongError("a header that means something else", "write a name of your own, such as X-Attempt")
    return header(text).encode()


def media_type(text: str) -> bytes:
    """A media type without parameters (RFC 9110, section 8.3.1), in lower case."""
    kind, slash, subtype = text.partition("/")
    if not slash or not _TOKEN.fullmatch(kind) or not _TOKEN.fullmatch(subtype) or len(text) > 255:
        raise WrongError("not a media type", MEDIA_TYPE)
    return text.lower().encode()


def method(text: str) -> bytes:
    """A method: any token, since the case of methods counts."""
    if not _TOKEN.fullmatch(text):
        raise WrongError("not a method", METHOD)
    if text not in _METHODS and text.upper() in _METHODS:
        raise WrongError("not in upper case", METHOD, f"did you mean {text.upper()}?")
    if text == "CONNECT":
        raise WrongError("a method that is refused before the rules", METHOD)
    return text.encode()


def hostname(text: str) -> bytes:
    """A request's host, in lower case, without port; an IPv6 address keeps its brackets."""
    host = _host(text, HOST)
    return (f"[{host}]" if text.startswith("[") else host.removesuffix(".")).lower().encode()


def match_value(text: str) -> bytes:
    """A header's value: no control characters, no white space around it, since none would ever match."""
    if text != text.strip(" \t") or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text):
        raise WrongError("with control characters or spaces around it", "write the value as the header has it")
    return text.encode()


def literal(text: str) -> bytes:
    """The text of a `literal:` scope."""
    return text.encode()


def path(text: str) -> str:
    """A path pattern, as written: `{name}` is one whole segment, `**` at the end is any rest."""
    if not text.startswith("/"):
        raise WrongError("not beginning with /", PATH)
    segments = text.split("/")[1:]
    names = [part for part in segments if part.startswith("{")]
    if len(set(names)) < len(names):
        raise WrongError("with the same {name} twice", PATH)
    for number, part in enumerate(segments, 1):
        last = number == len(segments)
        if part == "**" and not last:
            raise WrongError("with ** before its end", PATH)
        if not part and not last:
            raise WrongError("with // in it, which a normalised path has not", PATH)
        if part != "**" and not re.fullmatch(r"\{[A-Za-z_][A-Za-z0-9_]*\}", part):
            _segment(part)
    return text


def _segment(text: str) -> None:
    if "?" in text or "#" in text:
        raise WrongError("with a query or fragment, which no rule looks at", PATH)
    if re.search(r"[{}*]", text):
        raise WrongError("with a {name} or * that is not a whole segment", PATH)
    if text in (".", ".."):
        raise WrongError("with a dot segment, which a normalised path has not", PATH)
    if not re.fullmatch(r"(?:[!$&-;=@A-Z_a-z~]|%[0-9A-Fa-f]{2})*", text):
        raise WrongError("with a character that no path can hold", "percent-encode it as the request has it")
    if any(_TOKEN_DECODED.fullmatch(chr(int(code, 16))) for code in re.findall(r"%(..)", text)):
        raise WrongError("with an escape of a letter, digit, -, ., _ or ~", "write the character itself")


_TOKEN_DECODED = re.compile(r"[A-Za-z0-9._~-]")


def file(text: str) -> str:
    """A file's path."""
    if not text or "\0" in text:
        raise WrongError("no path", FILE)
    return text


def server_name(text: str) -> str:
    """A host's name, as text."""
    return hostname(text).decode("ascii")


def docs_url(text: str) -> str:
    """The base of problem types. The slug becomes its fragment."""
    if not re.fullmatch(r"https?://[!$%&'()*+,./0-9:;=?@A-Z_a-z~\[\]-]+", text) or "@" in text:
        raise WrongError("", DOCS)
    return text


def probe_target(text: str) -> Template:
    """What a probe asks for: always of the upstream itself, so that a probe can never come back to the proxy."""
    if "://" in text:
        raise WrongError("a whole URL", PROBE, "probes ask the upstream only: leave its address out")
    try:
        template = parse_template(text)
    except BadTemplate as error:
        raise WrongError(str(error), PROBE) from None
    literal = b"".join(piece for piece in template.pieces if isinstance(piece, bytes))
    if not text.startswith("/"):
        raise WrongError("no path", PROBE)
    if not re.fullmatch(rb"(?:[!$&-;=?@A-Z_a-z~]|%[0-9A-Fa-f]{2})*", literal):
        raise WrongError("with a character that no target can hold", PROBE)
    return template


def statuses(text: str) -> frozenset[int]:
    """A class of statuses."""
    if re.fullmatch(r"[2-5]xx", text, re.IGNORECASE):
        first = int(text[0]) * 100
        return frozenset(range(first, first + 100))
    raise WrongError("", STATUS)


def regex(text: str) -> Pattern:
    """A pattern over bytes: header values have no encoding."""
    if not text.isascii():
        raise WrongError("with characters outside ASCII", REGEX)
    try:
        return Pattern(text.encode())
    except BadPattern as error:
        raise WrongError("not a regular expression", REGEX, str(error)) from None


def grouped(text: str) -> Pattern:
    """A pattern whose first group is what counts."""
    pattern = regex(text)
    if pattern.groups < 1:
        raise WrongError("without a group", "put what counts in ( )")
    return pattern
