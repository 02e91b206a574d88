"""What a configuration means to the users of an API, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import yaml

from idemproxy.config.presets import PRESETS, set_by
from idemproxy.config.settings import Settings
from idemproxy.documents.answers import BELOW_THE_RULES, DO, WHEN, Possible, possible
from idemproxy.documents.programs import programs
from idemproxy.documents.protected import enforced
from idemproxy.documents.terms import code, equal_terms, header_name, key_place, key_terms, promises, scope_terms
from idemproxy.idempotency.problems import DEFAULT_BASE, TABLE, Retry, Slug
from idemproxy.idempotency.routes import Rule

_MOST_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Terms:
    """What rules that are alike to a client have in common."""

    sentences: tuple[str, ...]
    answers: tuple[Possible, ...]


def markdown(settings: Settings) -> str:
    """The page. It names no rule, no upstream and no secret."""
    groups: dict[Terms, list[Rule]] = {}
    for rule in enforced(settings.rules):
        groups.setdefault(_terms(rule), []).append(rule)
    return "\n".join(_page(settings, groups)) + "\n"


def _terms(rule: Rule) -> Terms:
    sentences = [*key_terms(rule), equal_terms(rule), scope_terms(rule), *promises(rule)]
    return Terms(tuple(sentences), possible(rule))


def _page(settings: Settings, groups: dict[Terms, list[Rule]]) -> Iterator[str]:
    yield "# Sending a request again"
    yield ""
    if not groups:
        yield "No endpoint of this API is protected: a request that is sent twice is executed twice."
        return
    yield "When an answer does not arrive, a client cannot know whether its request was executed. At the endpoints below it may send the"
    yield "same request again: an **idempotency key** names what is meant, and an operation with one key is executed once. Each retry gets"
    yield "the answer of the first."
    yield ""
    yield "1. Make a key for each intent, before the first attempt, and keep it with what it is for."
    yield "2. Send the same request with the same key until an answer is final: also when the network fails or the client starts anew."
    yield "3. A new intent has a new key, however alike it looks."
    yield ""
    yield "## Endpoints"
    yield ""
    if any("{" in rule.match.path or rule.match.path.endswith("**") for rules in groups.values() for rule in rules):
        yield "In a path, `{name}` stands for any one segment, and `**` for any rest."
        yield ""
    for terms, rules in groups.items():
        if len(groups) > 1:
            yield f"### {_heading(rules)}"
            yield ""
        yield from _endpoints(rules)
        yield ""
        yield from (f"- {sentence}" for sentence in terms.sentences)
        yield ""
        if len(groups) > 1:
            yield f"Answers: {_listed(terms.answers)}."
            yield ""
    yield from _answers(settings, groups)
    yield ""
    every = [rule for rules in groups.values() for rule in rules]
    yield from _loops(every)
    yield from _presets(every)


def _heading(rules: list[Rule]) -> str:
    named = [f"{_methods(rule)} {rule.match.path}" for rule in rules[:_MOST_NAMED]]
    more = len(rules) - len(named)
    return ", ".join(code(each) for each in named) + (f" and {more} more" if more else "")


def _methods(rule: Rule) -> str:
    order = {b"POST": 0, b"PUT": 1, b"PATCH": 2, b"DELETE": 3}
    methods = sorted(rule.match.methods, key=lambda method: (order.get(method, 4), method))
    return " ".join(method.decode("ascii") for method in methods) or "any method"


def _endpoints(rules: list[Rule]) -> Iterator[str]:
    limits = any(rule.match.hosts or rule.match.headers for rule in rules)
    yield "| Method | Path | Key |" + (" Only |" if limits else "")
    yield "|---|---|---|" + ("---|" if limits else "")
    for rule in rules:
        only = f" {_only(rule)} |" if limits else ""
        yield f"| {_methods(rule)} | {code(rule.match.path)} | {key_place(rule)} |{only}"


def _only(rule: Rule) -> str:
    hosts = [f"at {code(host.decode('ascii'))}" for host in sorted(rule.match.hosts)]
    headers = [
        f"with {code(f'{header_name(name)}: ' + value.decode('utf-8', 'replace'))}"
        for name, value in rule.match.headers
    ]
    return ", ".join([" or ".join(hosts), *headers] if hosts else headers)


def _listed(answers: Iterable[Possible]) -> str:
    return ", ".join(f"{'/'.join(map(str, each.statuses))} {code(each.slug.value)}" for each in answers)


# -------------------------------------------------------------------------------------------------------------------- answers


def _answers(settings: Settings, groups: dict[Terms, list[Rule]]) -> Iterator[str]:
    base = f"{settings.docs_url}#" if settings.docs_url else DEFAULT_BASE
    yield "## Answers, and what to do on each"
    yield ""
    yield "An answer of the service itself is the operation's outcome, whatever its status: but for those after which nothing was"
    yield "executed, each retry gets it again. The answers here are not the service's: they are `application/problem+json` (RFC 9457),"
    yield "and their `type` is"
    yield f"{code(base)} and the name below. The member `retry` says what to do:"
    yield ""
    met = [each for terms in groups for each in terms.answers]
    used = {retry for each in met for retry in each.retries} | {Retry.FIX_REQUEST}
    yield "| `retry` | What to do |"
    yield "|---|---|"
    yield from (f"| {code(retry.value)} | {DO[retry]} |" for retry in Retry if retry in used)
    yield ""
    yield "| Status | Problem | When | `retry` |"
    yield "|---|---|---|---|"
    for slug in TABLE:
        found = [each for each in met if each.slug is slug]
        if slug is Slug.NOT_HTTP:
            found = [Possible(slug, BELOW_THE_RULES, (Retry.FIX_REQUEST,))]
        if found:
            statuses = sorted({status for each in found for status in each.statuses})
            retries = [retry for retry in Retry if any(retry in each.retries for each in found)]
            said = " or ".join(code(retry.value) for retry in retries)
            yield f"| {', '.join(map(str, statuses))} | {code(slug.value)} | {WHEN[slug]} | {said} |"


# -------------------------------------------------------------------------------------------------------------------- presets


def _presets(rules: list[Rule]) -> Iterator[str]:
    """What presets set, before what a rule says itself."""
    used: dict[str, list[Rule]] = {}
    for rule in rules:
        if rule.preset is not None:
            used.setdefault(rule.preset, []).append(rule)
    if used:
        yield ""
        yield "## Presets"
        yield ""
        yield "These endpoints are set up for a client or a sender that is well known, which sets what follows. What was written beside"
        yield "it goes before it, and is in what is said above."
    for name, found in used.items():
        yield ""
        yield f"### {code(name)}: {_heading(found)}"
        yield ""
        yield f"{PRESETS[name].about} By: {PRESETS[name].source}."
        yield ""
        yield "```yaml"
        yield yaml.safe_dump(dict(set_by(name)), sort_keys=False, default_flow_style=None, width=120).rstrip("\n")
        yield "```"


# ---------------------------------------------------------------------------------------------------------------------- loops


def _loops(rules: list[Rule]) -> Iterator[str]:
    yield "## A loop that retries"
    yield ""
    named = Counter((rule.key.headers[0], rule.key.form) for rule in rules if rule.key.headers)
    if not named:
        yield "No key is sent here: the request itself says which operation is meant. Send the same request again, after `Retry-After`"
        yield "seconds, for as long as the network fails or `retry` is `same_key`."
        return
    (header, form), _ = named.most_common(1)[0]
    yield "Each makes the key before the first attempt and keeps it until a final answer: the network may fail, or the answer may say"
    yield "`same_key`. Whatever else comes is final."
    for program in programs(header_name(header), form):
        yield ""
        yield f"### {program.language}"
        yield ""
        yield f"```{program.fence}"
        yield program.text.rstrip("\n")
        yield "```"
