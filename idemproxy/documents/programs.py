"""A loop that retries as it should, in three languages, for an API's users to copy. The key is made before the first attempt and kept until
a final answer; a failing network and `retry: same_key` are retried with it; whatever else is answered is final."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Program:
    """`language` is the name for people, `fence` the one for Markdown."""

    language: str
    fence: str
    text: str


def programs(header: str, form: str) -> tuple[Program, ...]:
    """The loops, with keys of that `format` in that header. A format that is a regular expression gets UUIDs, and a comment."""
    kind = form if form in ("uuid7", "ulid") else "uuid4"
    note = "  # adapt it: keys must match the pattern above" if form == "regex" else ""
    return tuple(
        Program(language, fence, _filled(text, header, _KEYS[fence][kind], note))
        for language, fence, text in (("curl", "sh", _SH), ("Python", "python", _PYTHON), ("JavaScript", "js", _JS))
    )


def _filled(text: str, header: str, make: tuple[str, str], note: str) -> str:
    before, expression = make
    return (
        text.replace("@HEADER@", header)
        .replace("@BEFORE@\n", before)
        .replace("@KEY@", expression)
        .replace("@NOTE@", note)
        .replace("@SLASHES@", note.replace("#", "//"))
    )


_SH_UUID7: Final = """\
hex=$(od -An -N10 -tx1 /dev/urandom | tr -d ' \\n')
time=$(printf '%012x' $(($(date +%s) * 1000)))
new=$(echo "$time$hex" | sed -E 's/^(.{8})(.{4}).(.{3}).(.{3})(.{12})$/\\1-\\2-7\\3-8\\4-\\5/')
"""
_SH_ULID: Final = """\
new=$({ date +%s; od -An -N16 -tu1 /dev/urandom; } | awk -v set=0123456789ABCDEFGHJKMNPQRSTVWXYZ '
    NR == 1 { for (time = $1 * 1000; i++ < 10; time = int(time / 32)) text = substr(set, time % 32 + 1, 1) text }
    NR > 1 { for (i = 1; i <= NF; i++) text = text substr(set, $i % 32 + 1, 1) }
    END { print text }')
"""
_PYTHON_UUID7: Final = """\
def uuid7():
    bits = (time.time_ns() // 1_000_000) << 80 | random.SystemRandom().getrandbits(80)
    return str(uuid.UUID(int=bits & ~(0xF << 76) & ~(0x3 << 62) | 7 << 76 | 2 << 62))


"""
_PYTHON_ULID: Final = """\
def ulid():
    bits = (time.time_ns() // 1_000_000) << 80 | random.SystemRandom().getrandbits(80)
    return "".join("0123456789ABCDEFGHJKMNPQRSTVWXYZ"[bits >> shift & 31] for shift in range(125, -1, -5))


"""
_JS_UUID7: Final = """\
function uuid7() {
  const time = Date.now().toString(16).padStart(12, "0");
  return `${time.slice(0, 8)}-${time.slice(8)}-7${crypto.randomUUID().slice(15)}`;
}

"""
_JS_ULID: Final = """\
function ulid() {
  const set = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
  let text = "";
  for (let time = Date.now(), i = 0; i < 10; i++, time = Math.floor(time / 32)) text = set[time % 32] + text;
  for (const byte of crypto.getRandomValues(new Uint8Array(16))) text += set[byte % 32];
  return text;
}

"""

_KEYS: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "sh": {
        "uuid4": ("", "$(uuidgen 2>/dev/null || cat /proc/sys/kernel/random/uuid)"),
        "uuid7": (_SH_UUID7, "$new"),
        "ulid": (_SH_ULID, "$new"),
    },
    "python": {
        "uuid4": ("", "str(uuid.uuid4())"),
        "uuid7": (_PYTHON_UUID7, "uuid7()"),
        "ulid": (_PYTHON_ULID, "ulid()"),
    },
    "js": {
        "uuid4": ("", "crypto.randomUUID()"),
        "uuid7": (_JS_UUID7, "uuid7()"),
        "ulid": (_JS_ULID, "ulid()"),
    },
}
"""For each language and format: lines before the loop, and the expression that makes a key."""

_SH: Final = """\
#!/bin/sh
# Usage: sh send.sh URL BODY [options of curl, such as -H 'Authorization: Bearer ...']
# KEY=... in the environment goes on with an operation that was begun before.
url=$1 body=$2
shift 2
@BEFORE@
# Once for each intent, before the first attempt. Keep it with what it is for: it is needed until a final answer.
key=${KEY:-@KEY@}@NOTE@
head=$(mktemp) answer=$(mktemp)
trap 'rm -f "$head" "$answer"' EXIT
pause=1
for attempt in 1 2 3 4 5 6 7 8; do
    : >"$head"
    : >"$answer"
    status=$(curl -sS --max-time 60 -X POST "$url" -H '@HEADER@: '"$key" -H 'Content-Type: application/json' "$@" \\
        --data-binary "$body" -D "$head" -o "$answer" -w '%{http_code}') || status=000   # no whole answer
    retry=
    if grep -qi '^content-type: *application/problem+json' "$head"; then
        retry=$(sed -n 's/.*"retry": *"\\([a-z_]*\\)".*/\\1/p' "$answer")
    fi
    case $status/$retry in
    2*) cat "$answer"; exit 0 ;;
    000/* | */same_key | 425/ | 429/) ;;   # the same request again, with the same key
    *)
        echo "final: $status, retry: ${retry:-none}" >&2
        cat "$answer" >&2
        exit 1
        ;;
    esac
    wait=$(tr -d '\\r' <"$head" | sed -n 's/^[Rr]etry-[Aa]fter: *\\([0-9][0-9]*\\)$/\\1/p' | tail -n 1)
    [ "$attempt" -lt 8 ] && sleep "$((${wait:-0} > pause ? ${wait:-0} : pause))"
    pause=$((pause < 32 ? pause * 2 : 32))
done
echo "no final answer yet; later, go on with KEY=$key" >&2
exit 2
"""

_PYTHON: Final = """\
import http.client
import json
import random
import time
import urllib.error
import urllib.request
import uuid


@BEFORE@
def new_key():
    \"\"\"Once for each intent, before the first attempt. Keep it with what it is for: it is needed until a final answer.\"\"\"
    return @KEY@@NOTE@


class Final(Exception):
    \"\"\"An answer that sending the same request again does not change.\"\"\"


def send(url, body, key, headers=None, attempts=8, pause=1.0, timeout=60):
    \"\"\"The answer's body. Raises Final, or TimeoutError: then go on later, with the same key.\"\"\"
    data = json.dumps(body).encode()
    fields = {"Content-Type": "application/json", "@HEADER@": key, **(headers or {})}
    for attempt in range(attempts):
        wait = 0
        try:
            try:
                with urllib.request.urlopen(urllib.request.Request(url, data, fields), timeout=timeout) as answer:
                    return answer.read()
            except urllib.error.HTTPError as error:
                status, said, content = error.code, error.headers, error.read()
        except (OSError, http.client.HTTPException):
            pass  # no whole answer: the same request again, with the same key
        else:
            problem = said.get_content_type() == "application/problem+json"
            retry = json.loads(content).get("retry") if problem else None
            if retry != "same_key" and not (retry is None and status in (425, 429)):
                raise Final(status, retry, content)
            after = said.get("Retry-After", "")
            wait = int(after) if after.isdecimal() else 0
        if attempt < attempts - 1:
            time.sleep(max(wait, pause * random.uniform(0.5, 1)))
        pause = min(pause * 2, 32)
    raise TimeoutError(f"no final answer yet; later, go on with the key {key}")
"""

_JS: Final = """\
@BEFORE@
// Once for each intent, before the first attempt. Keep it with what it is for: it is needed until a final answer.
export const newKey = () => @KEY@;@SLASHES@

export class Final extends Error {}   // an answer that sending the same request again does not change

// The answer's body. Throws Final, or another error: then go on later, with the same key.
export async function send(url, body, key, { headers = {}, attempts = 8, pause = 1000, timeout = 60_000 } = {}) {
  const request = {
    method: "POST",
    headers: { "Content-Type": "application/json", "@HEADER@": key, ...headers },
    body: JSON.stringify(body),
  };
  for (let attempt = 1; attempt <= attempts; attempt++) {
    let answer, content, wait = 0;
    try {
      answer = await fetch(url, { ...request, signal: AbortSignal.timeout(timeout) });
      content = await answer.text();
    } catch {
      answer = null;   // no whole answer: the same request again, with the same key
    }
    if (answer?.ok) return content;
    if (answer) {
      const problem = answer.headers.get("Content-Type")?.startsWith("application/problem+json");
      const retry = problem ? JSON.parse(content).retry : undefined;
      if (retry !== "same_key" && !(retry === undefined && [425, 429].includes(answer.status))) {
        throw new Final(`${answer.status}, retry: ${retry}: ${content}`);
      }
      wait = 1000 * (Number(answer.headers.get("Retry-After")) || 0);
    }
    if (attempt < attempts) {
      await new Promise((done) => setTimeout(done, Math.max(wait, pause * (0.5 + Math.random() / 2))));
    }
    pause = Math.min(pause * 2, 32_000);
  }
  throw new Error(`no final answer yet; later, go on with the key ${key}`);
}
"""
