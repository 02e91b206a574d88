"""The metrics as text, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from typing import Final, assert_never

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from idemproxy.observe.families import BUILD, FAMILIES, WORKERS_CONFIGURED, Family, Type
from idemproxy.observe.metrics import Metrics

Labelled = tuple[tuple[str, ...], list[int]]
"""The values of a metric's labels, and its cells."""

_MICROS: Final = 1_000_000


def exposition(metrics: Metrics, accept: str) -> tuple[bytes, str]:
    """The text and its content type: the format that `accept`, the scraper's header field, asks for. Takes a while where there are many
    rules, and may run in any thread."""
    encode, content_type = choose_encoder(accept)
    return encode(_Sums(metrics)), content_type


class _Sums(Collector):
    """The sums at one moment."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Every metric of the table, in its order."""
        found: dict[str, list[Labelled]] = {family.name: [] for family in FAMILIES}
        for (name, *labels), cells in self._metrics.sums().items():
            found[name].append((tuple(labels), cells))
        found[BUILD.name].append(((_version(),), [1]))
        found[WORKERS_CONFIGURED.name].append(((), [self._metrics.workers]))
        for family in FAMILIES:
            yield _shown(family, sorted(found[family.name]))


def _shown(family: Family, samples: list[Labelled]) -> Metric:
    match family.type:
        case Type.COUNTER:
            counter = CounterMetricFamily(family.name, family.help, labels=family.labels)
            for labels, (value,) in samples:
                counter.add_metric(labels, value)
            return counter
        case Type.GAUGE:
            gauge = GaugeMetricFamily(family.name, family.help, labels=family.labels)
            for labels, (value,) in samples:
                gauge.add_metric(labels, value)
            return gauge
        case Type.HISTOGRAM:
            histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
            bounds = [*(str(bound / _MICROS) for bound in family.bounds), "+Inf"]
            for labels, (*buckets, micros) in samples:
                histogram.add_metric(labels, list(zip(bounds, accumulate(buckets), strict=True)), micros / _MICROS)
            return histogram
        case other:
            assert_never(other)


@cache
def _version() -> str:
    try:
        return version("idemproxy")
    except PackageNotFoundError:
        return "unknown"
