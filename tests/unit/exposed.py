"""What Prometheus would read of a text that the proxy gives it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


class Exposed:
    """The samples of one text. None comes twice."""

    def __init__(self, text: str) -> None:
        self.labels: set[str] = set()
        self._samples: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found = self._samples.setdefault(sample.name, {})
                labels = frozenset(sample.labels.items())
                assert labels not in found, sample
                found[labels] = sample.value
                self.labels |= set(sample.labels)

    def value(self, name: str, **labels: str) -> float:
        """The sample's value. It must be there."""
        return self._samples[name][frozenset(labels.items())]

    def of(self, name: str, label: str) -> dict[str, float]:
        """The values of all samples of that name, by their only label."""
        return {dict(labels)[label]: value for labels, value in self._samples.get(name, {}).items()}

    def positive(self) -> dict[str, list[dict[str, str]]]:
        """The labels of every sample above zero."""
        return {
            name: [dict(labels) for labels, value in samples.items() if value > 0]
            for name, samples in self._samples.items()
            if any(value > 0 for value in samples.values())
        }
