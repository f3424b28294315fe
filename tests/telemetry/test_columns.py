"""Records in columns are those that one gets step by step, whatever the series; answers in arrays are what JSON says."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.telemetry import stepwise
from tests.telemetry.prometheus_server import at
from tests.telemetry.stepwise_cards import Window

from gpuledger.core import metric_grid
from gpuledger.core.cluster_metrics import Batch, records
from gpuledger.core.metric_grid import Grid, Values, gib_units, in_units
from gpuledger.core.metric_series import Series
from gpuledger.core.usage import NodeInterval, UsageInterval
from gpuledger.core.usage_columns import UNKNOWN, decimal_of
from gpuledger.core.workload.nodes import NodeShape
from gpuledger.telemetry.prometheus import matrix

STEP = timedelta(minutes=5)
STEPS = 7


def in_columns(window: Window) -> metric_grid.Window:
    """Give a window of single values the form that a server's answers have."""
    series = {
        name: Grid.of(
            (
                (
                    one.labels,
                    {(when - window.start) // window.step: value for when, value in one.values.items()},
                )
                for one in told
            ),
            len(window.steps),
        )
        for name, told in window.series.items()
    }
    return metric_grid.Window(window.cluster, window.start, window.end, window.step, series)


# ---- Clusters of a few things that get into each other's way

_PODS = ("a", "b", "c")
_NODES = ("n1", "n2")
_SHAPES: tuple[dict[str, str], ...] = (
    {},
    {"label_nvidia_com_gpu_product": "Tesla-T4", "label_nvidia_com_gpu_replicas": "4"},
    {"label_nvidia_com_gpu_product": "NVIDIA-A100-SXM4-80GB", "label_nvidia_com_gpu_count": "8"},
)
_SLICES: tuple[dict[str, str], ...] = (
    {},
    {"GPU_I_ID": "1", "GPU_I_PROFILE": "1g.10gb"},
    {"GPU_I_ID": "2", "GPU_I_PROFILE": "1g.10gb"},
    {"GPU_I_ID": "3", "GPU_I_PROFILE": "3g.40gb"},
)
_ASKED = (
    "cpu", "memory", "nvidia_com_gpu", "nvidia_com_gpu_shared", "nvidia_com_gpucores", "nvidia_com_mig_1g_10gb",
    "nvidia_com_mig_3g_40gb", "ephemeral_storage",
)  # fmt: skip
_HOLDERS: tuple[dict[str, str], ...] = (
    {}, {"hpc_job": "7"}, {"dra_claim_name": "one"}, {"container": "other"}, {"pod_uid": "u1"},
)  # fmt: skip
_some = st.sampled_from


@st.composite
def steps(draw: st.DrawFn, values: st.SearchStrategy[Decimal]) -> dict[datetime, Decimal]:
    """Values for some of the steps; often the same for all."""
    known = draw(st.one_of(st.just(range(STEPS)), st.sets(st.integers(0, STEPS - 1))))
    if draw(st.booleans()):
        value = draw(values)
        return dict.fromkeys((at(5 * step) for step in known), value)
    return {at(5 * step): draw(values) for step in known}


def decimals(*choice: str) -> st.SearchStrategy[Decimal]:
    return _some([Decimal(one) for one in choice])


@st.composite
def places(draw: st.DrawFn) -> dict[str, str]:
    """Labels of a pod, as one or another exporter or scrape gives them."""
    pod = {"namespace": "ml", "pod": draw(_some(_PODS))}
    if uid := draw(_some(["", "u1", "u2"])):
        pod["uid"] = uid
    if draw(st.booleans()):
        return {**pod, "job": draw(_some(["one", "two"]))}
    return {f"exported_{key}": value for key, value in pod.items()} | {
        "job": "three", "namespace": "kube-system", "pod": "state-metrics-0",
    }  # fmt: skip


def _said(
    labels: st.SearchStrategy[dict[str, str]], values: st.SearchStrategy[Decimal], most: int = 4
) -> st.SearchStrategy[list[Series]]:
    one = st.builds(Series, labels, steps(values))
    return st.lists(one, max_size=most, unique_by=lambda series: json.dumps(series.labels, sort_keys=True))


def joined(*parts: st.SearchStrategy[dict[str, str]]) -> st.SearchStrategy[dict[str, str]]:
    return st.tuples(*parts).map(lambda found: {key: text for part in found for key, text in part.items()})


def labelled(name: str, *values: str) -> st.SearchStrategy[dict[str, str]]:
    return _some([{name: value} for value in values] + [{}] * ("" in values))


_CONTAINERS = joined(places(), labelled("container", "main", "other"))
_CARDS = joined(
    _some([{"namespace": "ml", "pod": pod} for pod in _PODS] + [{}]),
    labelled("container", "main", ""),
    labelled("UUID", "G1", "G2"),
    labelled("Hostname", *_NODES),
    labelled("modelName", "NVIDIA A100-SXM4-80GB", "Tesla T4"),
    labelled("job", "dcgm", "other"),
    _some(_SLICES),
    _some(_HOLDERS),
)
_RATIO = decimals("0", "0.5", "0.123456789012345", "1", "1.5", "0.00000000000005")
_PERCENT = decimals("0", "50", "33.333333333333336", "100", "101", "0.0000000000005")
_TIMES = st.integers(-4, STEPS * 5 + 4).map(lambda minute: Decimal(int(at(minute).timestamp())))
_ONE = decimals("1")
WINDOWS: Mapping[str, st.SearchStrategy[list[Series]]] = {
    "phase": _said(joined(places(), labelled("phase", "Pending", "Running")), decimals("0", "1", "0.4")),
    "running": _said(_CONTAINERS, decimals("0", "1", "0.2")),
    "requests": _said(
        joined(_CONTAINERS, labelled("resource", *_ASKED), labelled("node", "", *_NODES)),
        decimals("0", "1", "2", "0.25", "34359738368"),
        most=10,
    ),
    "restarts": _said(_CONTAINERS, decimals("0", "1", "2.5")),
    "pod_info": _said(joined(places(), labelled("node", *_NODES)), _ONE),
    "pod_start": _said(places(), _TIMES),
    "pod_end": _said(places(), _TIMES),
    "pod_labels": _said(joined(places(), labelled("label_team", "x", "y")), _ONE),
    "pod_owner": _said(joined(places(), _some([{"owner_kind": "Job", "owner_name": "j"}, {"owner_kind": "<none>"}])), _ONE),
    "node_info": _said(joined(labelled("node", *_NODES), labelled("provider_id", "", "aws:///z/i-1")), _ONE),
    "node_labels": _said(joined(labelled("node", *_NODES), _some(_SHAPES)), _ONE),
    "node_capacity": _said(
        joined(labelled("node", *_NODES), labelled("resource", "cpu", "nvidia_com_gpu", "memory")), decimals("8", "4", "1024")
    ),
    "cpu": _said(
        joined(_CONTAINERS, labelled("id", "/a", "/b")), decimals("0", "1.5", "0.33333333333333331", "0.000000000000005", "7e-9")
    ),
    "memory": _said(joined(_CONTAINERS, labelled("id", "/a", "/b")), decimals("1", "34359738368", "5368709120.4", "3e11")),
    "gpu_util": _said(_CARDS, _PERCENT, most=6),
    "gpu_engine": _said(_CARDS, _RATIO, most=6),
    "hami": _said(
        joined(_some([{"podname": pod, "podnamespace": "ml", "ctrname": "main"} for pod in _PODS]), labelled("deviceuuid", "G1", "G2")), _ONE, most=2
    ),
}  # fmt: skip


def plain(row: UsageInterval) -> tuple[Any, ...]:
    """A row's values, so that numbers count and not how they are written."""
    return (
        row.node, row.job_id, row.pod or "", row.container or "", row.namespace or "", row.pod_uid or "", row.resource,
        row.device or "", row.start, row.end, row.attempt, row.state, row.sharing or "",
        -1 if row.share is None else row.share, -1 if row.requested is None else row.requested, -1 if row.used is None else row.used,
    )  # fmt: skip


def machine(one: NodeInterval | NodeShape) -> tuple[Any, ...]:
    return (
        one.node,
        one.provider_id,
        one.instance_type,
        one.cpu_cores,
        one.memory_gib,
        sorted(one.labels.items()),
    )


def agree(window: Window) -> Batch:
    """Compare both ways; return what they say."""
    told, batch = stepwise.records(window), records(in_columns(window))
    assert sorted(map(plain, batch.usage)) == sorted(map(plain, told.usage))
    assert list(batch.gaps) == told.gaps
    assert list(batch.jobs) == told.jobs
    nodes = [(machine(one), one.start, one.end) for one in batch.nodes]
    expected = [(machine(shape), *span) for shape, spans in told.nodes for span in spans]
    assert sorted(nodes, key=repr) == sorted(expected, key=repr)
    return batch


@settings(max_examples=200, deadline=None)
@given(st.fixed_dictionaries(dict(WINDOWS)))
def test_columns_say_what_steps_say(series: dict[str, list[Series]]) -> None:
    agree(Window("c", at(0), at(5 * STEPS), STEP, series))


# ---- Numbers

_DIGITS = st.integers(-(10**18) + 1, 10**18 - 1)


def rows_of(numbers: list[tuple[int, int]]) -> Values:
    digits, powers = (np.array([column], np.int64) for column in zip(*numbers, strict=True))
    return Values(digits, powers)


@given(st.lists(st.tuples(_DIGITS, st.integers(-1, 30)), min_size=1), st.sampled_from([0, 2]))
def test_units_are_exact_and_halves_go_to_even(numbers: list[tuple[int, int]], less: int) -> None:
    for (digits, power), cores, size in zip(
        numbers,
        in_units(rows_of(numbers), less)[0].tolist(),
        gib_units(rows_of(numbers))[0].tolist(),
        strict=True,
    ):
        for found, by in ((cores, 10**less), (size, 2**30)):
            exact = round(Fraction(digits, by * 10 ** max(power, 0)) * 10**14)
            assert found == (
                UNKNOWN if power < 0 or (abs(exact) >= 2**63 - 2**50 and found == UNKNOWN) else exact
            )


def test_too_much_to_be_true_is_unknown() -> None:
    values = rows_of([(92_233, 0), (92_234, 0), (10**17, 0)])
    assert in_units(values).tolist() == [[92_233 * 10**14, UNKNOWN, UNKNOWN]]
    assert [decimal_of(units) for units in (5 * 10**13, 12 * 10**15, UNKNOWN)] == [
        Decimal("0.5"),
        Decimal(120),
        None,
    ]


# ---- Answers

_TEXTS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e17, max_value=1e17).map(lambda one: np.format_float_positional(one, trim="-")),
    st.floats(min_value=1e-30, max_value=1e-7).map(repr),
    st.sampled_from(["0", "1", "77.2", "NaN", "+Inf", "-Inf", "5e-07", "0.0012345678901234567", "123456789012345678", "1e+21"]),
)  # fmt: skip
_NAMES = st.text(st.sampled_from('ab",[]{}:\\1é'), min_size=1, max_size=8)


@given(st.lists(st.tuples(st.dictionaries(_NAMES, _NAMES, max_size=3), st.dictionaries(st.integers(0, 5), _TEXTS, min_size=1)), max_size=5))  # fmt: skip
def test_a_compact_answer_says_what_its_json_says(
    series: list[tuple[dict[str, str], dict[int, str]]],
) -> None:
    steps = matrix.Steps(first=1_759_744_800, step=300, count=6)
    result = [
        {
            "metric": labels,
            "values": [[steps.first + 300 * step, text] for step, text in sorted(values.items())],
        }
        for labels, values in series
    ]
    content = {"status": "success", "data": {"resultType": "matrix", "result": result}, "warnings": ["w"]}
    body = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    cut = matrix.cut(body)
    assert cut is not None
    assert json.loads(cut.envelope) == {**content, "data": {"resultType": "matrix", "result": []}}
    read, plain_ = matrix.read(cut, steps, matrix.LabelSets()), matrix.walk(result, steps)
    assert read is not None
    assert list(read.labels) == list(plain_.labels) == [labels for labels, _ in series]
    assert (read.values.known == plain_.values.known).all()
    for row, step in np.argwhere(read.values.known):
        assert read.values.number(row, step) == plain_.values.number(row, step)


@pytest.mark.parametrize(
    "samples",
    [
        '[1759744800,"1"],[1759744800.5,"2"]', '[175974480,"1"]', '[1759744800,"1"],"2"', '[1759744800,"1","2"]',
        '[1759744800, "1"]', "",
    ],
)  # fmt: skip
def test_what_is_not_compact_is_left_to_json(samples: str) -> None:
    body = f'{{"data":{{"resultType":"matrix","result":[{{"metric":{{"a":"b"}},"values":[{samples}]}}]}}}}'.encode()
    cut = matrix.cut(body)
    assert cut is None or matrix.read(cut, matrix.Steps(1_759_744_800, 300, 6), matrix.LabelSets()) is None


@pytest.mark.parametrize("sample", ['[1759744801,"1"]', '[1759746600,"1"]', '[1759744800,"seven"]', '[1759744800,"1.2.3"]', '[1759744800,""]', '[1759744800,"."]'])  # fmt: skip
def test_values_that_are_none_and_times_that_nobody_asked_for(sample: str) -> None:
    body = f'{{"data":{{"resultType":"matrix","result":[{{"metric":{{}},"values":[{sample}]}}]}}}}'.encode()
    cut, steps = matrix.cut(body), matrix.Steps(1_759_744_800, 300, 6)
    assert cut is not None
    with pytest.raises(ValueError, match=r"number|nobody"):
        matrix.read(cut, steps, matrix.LabelSets())
    with pytest.raises(ValueError, match=r"number|nobody"):
        matrix.walk(json.loads(body)["data"]["result"], steps)


# ---- Gaps


@given(
    st.fixed_dictionaries(dict(WINDOWS)),
    st.lists(st.tuples(st.integers(-5, 40), st.integers(1, 20)), max_size=3),
)
@settings(max_examples=50, deadline=None)
def test_gaps_are_cut_out(series: dict[str, list[Series]], cuts: list[tuple[int, int]]) -> None:
    held = records(in_columns(Window("c", at(0), at(5 * STEPS), STEP, series))).held
    gaps = [(at(begin), at(begin + length)) for begin, length in cuts]

    def minutes(rows: Iterable[UsageInterval]) -> list[tuple[Any, ...]]:
        return sorted(
            (*plain(replace(row, start=at(0), end=at(0))), minute)
            for row in rows
            for minute in range(40)
            if row.start <= at(minute) < row.end
        )

    kept = [one for one in minutes(held) if not any(begin <= at(one[-1]) < end for begin, end in gaps)]
    left = list(held.without(gaps))
    assert minutes(left) == kept
    assert all(row.start < row.end for row in left)
