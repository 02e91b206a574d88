"""Writes into a description what the rules add to its operations: the header that carries the key, and the answers that the proxy gives
in its own name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from idemproxy.config.settings import Settings
from idemproxy.documents.answers import DO, WHEN, Possible, by_status, possible
from idemproxy.documents.description import Description, Operation
from idemproxy.documents.emitting import TooLarge, Value, says, value_of
from idemproxy.documents.protected import Protected, enforced, protected
from idemproxy.documents.splicing import Edits
from idemproxy.documents.terms import duration, header_name
from idemproxy.documents.tree import Branch, Node, Row, Scalar
from idemproxy.idempotency.problems import Retry
from idemproxy.idempotency.routes import Rule

_PROBLEM: Final = "application/problem+json"
_SCHEMA: Final = "IdempotencyProblem"
_KEY: Final = "IdempotencyKey"


_Members: TypeAlias = dict[str, Value]


def with_rules(description: Description, settings: Settings) -> tuple[bytes, list[str]]:
    """The description with the rules in it, and what was noticed, in sentences. What they already are in stays as it is. Raises
    DescriptionError."""
    found = list(protected(description, settings.rules))
    _check_shared(description, found)
    writing = _Writing(description, settings)
    done: set[int] = set()
    for each in found:
        if id(each.operation.node) not in done:
            done.add(id(each.operation.node))
            writing.write(each)
    met = {each.rule.name for each in found}
    idle = [
        f"rule {rule.name} protects no operation that is described"
        for rule in enforced(settings.rules)
        if rule.name not in met
    ]
    return writing.finish(), [*writing.notes, *idle]


def _check_shared(description: Description, found: list[Protected]) -> None:
    """One description of several operations cannot be written for one of them."""
    rules: dict[int, set[str]] = {}
    by_operation = {(each.operation.path, each.operation.method): each.rule.name for each in found}
    for operation in description.operations():
        said = rules.setdefault(id(operation.node), set())
        said.add(by_operation.get((operation.path, operation.method), ""))
        if len(said) > 1:
            raise description.wrong(
                operation.node,
                f"stands for several paths ({operation.path} is one) that meet different rules; write it out for each",
            )


class _Components:
    """A section of the components: what is needed is added once, under a name that is free."""

    def __init__(self, root: Branch, section: str) -> None:
        self.section = section
        self.there = root.get("components", section)
        self.added: _Members = {}

    def reference(self, name: str, value: Value) -> Value:
        """A reference to a component that says this."""
        number, free = 2, name
        known = self.there.members if isinstance(self.there, Branch) else {}
        while free in known or free in self.added:
            if says(known.get(free), value) or self.added.get(free) == value:
                break
            free, number = f"{name}{'_' if name[-1].isdigit() else ''}{number}", number + 1
        else:
            self.added[free] = value
        return {"$ref": f"#/components/{self.section}/{free}"}


class _Writing:
    """The edits to one description."""

    def __init__(self, description: Description, settings: Settings) -> None:
        self.notes: list[str] = []
        self._description = description
        self._edits = Edits(description.document)
        self._docs_url = settings.docs_url
        self._schemas, self._parameters, self._responses = (
            _Components(description.root, section) for section in ("schemas", "parameters", "responses")
        )

    def write(self, each: Protected) -> None:
        operation, rule = each.operation, each.rule
        if rule.key.headers:
            self._add_key(operation, rule)
        responses = operation.node.get("responses")
        missing: _Members = {}
        for status, answers in by_status(possible(rule)).items():
            self._add_answer(operation, responses, str(status), answers, missing)
        if missing:
            self._put(operation.node, "responses", missing)

    def finish(self) -> bytes:
        document = self._description.document
        added = [each for each in (self._schemas, self._parameters, self._responses) if each.added]
        root = self._description.root
        components = root.get("components")
        if isinstance(components, Branch):
            for each in added:
                self._put(components, each.section, each.added)
        elif added:
            self._put(root, "components", {each.section: each.added for each in added})
        if not self._edits:
            return (b"\xef\xbb\xbf" if document.mark else b"") + document.text.encode()
        return self._edits.result()

    def _put(self, holder: Branch, name: str, members: _Members) -> None:
        """Add members to the mapping that `holder` has under a name, or will have."""
        node = holder.get(name)
        match node:
            case None:
                self._edits.add(holder, name, members)
            case Branch() if name in [entry.name for entry in holder.entries]:
                for member, value in members.items():
                    self._edits.add(node, member, value)
            case Scalar(plain=True, text="" | "~" | "null"):
                self._edits.replace(node, members)
            case _:
                raise self._description.wrong(node, f"`{name}` is no mapping; OpenAPI wants one")

    # --------------------------------------------------------------------------------------------------------------------- key

    def _add_key(self, operation: Operation, rule: Rule) -> None:
        instead = rule.key.natural or rule.key.marker is not None
        needed = rule.key.required and not instead and not rule.match.headers
        for parameter in self._description.parameters(operation):
            name = (parameter.text("name") or "").lower().encode()
            if parameter.text("in") == "header" and name in rule.key.headers:
                if parameter.true("required") is not needed:
                    said = "required" if needed else "not required"
                    self.notes.append(
                        f"{operation.method} {operation.path}: {header_name(name)} is {said} by the rules, and described otherwise"
                    )
                return
        reference = self._parameters.reference(_KEY, _key_parameter(rule, needed))
        listed = operation.node.get("parameters")
        match listed:
            case None:
                self._edits.add(operation.node, "parameters", [reference])
            case Row():
                self._edits.append(listed, reference)
            case Scalar(plain=True, text="" | "~" | "null"):
                self._edits.replace(listed, [reference])
            case _:
                raise self._description.wrong(listed, "`parameters` is no list; OpenAPI wants one")

    # ----------------------------------------------------------------------------------------------------------------- answers

    def _add_answer(
        self,
        operation: Operation,
        responses: Node | None,
        status: str,
        answers: tuple[Possible, ...],
        missing: _Members,
    ) -> None:
        """Add to what is described for the status; what `4XX` or `default` says counts too where the status has nothing of its own."""
        known = responses.members if isinstance(responses, Branch) else {}
        media: Value = {"schema": self._schemas.reference(_SCHEMA, _problem_schema(self._docs_url))}
        exact = known.get(status)
        own = _response(answers, media)
        if exact is not None:
            self._add_to_exact(operation, status, exact, own, media)
            return
        fallback = next(
            (known[name] for name in (f"{status[0]}XX", f"{status[0]}xx", "default") if name in known), None
        )
        if fallback is not None:
            resolved = self._description.resolve(fallback)
            if not isinstance(resolved, Branch):
                self._leave(operation, status)
                return
            own = _both(self._copied(resolved), own)
        missing[status] = self._responses.reference(f"Idempotency{status}", own)

    def _add_to_exact(self, operation: Operation, status: str, exact: Node, own: _Members, media: Value) -> None:
        resolved = self._description.resolve(exact)
        if not isinstance(resolved, Branch):
            self._leave(operation, status)
            return
        content = resolved.get("content")
        if isinstance(content, Branch) and _PROBLEM in content.members:
            schema = content.get(_PROBLEM, "schema")
            if not (
                isinstance(schema, Branch) and (schema.text("$ref") or "").startswith(f"#/components/schemas/{_SCHEMA}")
            ):
                self.notes.append(
                    f"{operation.method} {operation.path}: its own {_PROBLEM} for {status} is left as it is"
                )
        elif resolved is exact:
            self._put(resolved, "content", {_PROBLEM: media})
        else:
            both = _both(self._copied(resolved), own)
            self._edits.replace(exact, self._responses.reference(f"Idempotency{status}", both))

    def _leave(self, operation: Operation, status: str) -> None:
        self.notes.append(
            f"{operation.method} {operation.path}: {status} is described in another file, and is left as it is"
        )

    def _copied(self, node: Branch) -> _Members:
        try:
            return {name: value_of(member) for name, member in node.members.items()}
        except TooLarge:
            raise self._description.wrong(
                node, "the answer is too large to be copied; write less of it by aliases"
            ) from None


def _response(answers: tuple[Possible, ...], media: Value) -> _Members:
    response: _Members = {"description": _described(answers)}
    if any(Retry.SAME_KEY in each.retries for each in answers):
        response["headers"] = {
            "Retry-After": {"description": "Seconds, with `retry: same_key`.", "schema": {"type": "integer"}}
        }
    return {**response, "content": {_PROBLEM: media}}


def _both(theirs: _Members, ours: _Members) -> _Members:
    """What the service says for a status, and what the proxy says for it."""
    both = {**theirs}
    for name in ("headers", "content"):
        inner, more = theirs.get(name), ours.get(name)
        if isinstance(more, dict):
            both[name] = {**more, **(inner if isinstance(inner, dict) else {})}
    said = theirs.get("description")
    before = f"{said.rstrip('. ')}. " if isinstance(said, str) and said.strip(". ") else ""
    return {**both, "description": f"{before}{ours['description']}"}


def _described(answers: Iterable[Possible]) -> str:
    said = []
    for answer in answers:
        advice = " Or: ".join(DO[retry] for retry in answer.retries)
        said.append(f"`{answer.slug.value}`: {WHEN[answer.slug]} {advice}")
    return " ".join(said)


def _key_parameter(rule: Rule, required: bool) -> Value:
    schema: _Members = {"type": "string", "minLength": 1, "maxLength": rule.key.max_length}
    if rule.key.form in ("uuid", "uuid4", "uuid7"):
        schema["format"] = "uuid"
    form = {"uuid4": " A UUID of version 4.", "uuid7": " A UUID of version 7.", "ulid": " A ULID."}.get(
        rule.key.form, ""
    )
    only = "".join(
        f" Only with {header_name(name)}: {value.decode('utf-8', 'replace')}." for name, value in rule.match.headers
    )
    said = (
        "Names what is meant: a new key for each intent, made before the first attempt, and the same one in each retry of it. Retries get "
        f"the first one's answer for {duration(rule.ttl)}.{form}{only}"
    )
    return {
        "name": header_name(rule.key.headers[0]),
        "in": "header",
        "required": required,
        "description": said,
        "schema": schema,
    }


def _problem_schema(docs_url: str) -> Value:
    base = docs_url or "urn:idemproxy:problem"
    return {
        "type": "object",
        "description": f"What became of a request with an idempotency key (RFC 9457). Types begin with {base}.",
        "required": ["type", "title", "status", "detail", "retry"],
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "retry": {
                "type": "string",
                "enum": [each.value for each in Retry],
                "description": "What helps: the same request with the same key; a new key; another request; asking support.",
            },
            "retry_after": {"type": "integer", "description": "Seconds to wait before a retry with the same key."},
        },
    }
