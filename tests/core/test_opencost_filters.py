"""The filter language against its grammar, and the SQL it becomes against a plain reading of the tree."""

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuledger.core.opencost import BadParameterError
from gpuledger.core.opencost.filter_sql import Lookup, Parameters, condition
from gpuledger.core.opencost.filters import (
    And,
    Comparison,
    Everything,
    Filter,
    Not,
    Or,
    both,
    parse,
    parse_v1,
)
from gpuledger.core.opencost.properties import (
    V1,
    VOCABULARY,
    label,
    label_names,
    parse_aggregate,
)

A = Comparison("namespace", "equals", "a")
B = Comparison("namespace", "equals", "b")
X = Comparison("label", "equals", "x", "app")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", Everything),
        ('namespace:"a"', A),
        ('namespace:"a","b"', Or([A, B])),
        ('namespace!:"a","b"', And([Not(A), Not(B)])),
        ('namespace:"a"+label[app]:"x"', And([A, X])),
        ('namespace:"a" | namespace:"b" | label[app]:"x"', Or([A, B, X])),
        ('(namespace:"a"|namespace:"b")+label[app]:"x"', And([Or([A, B]), X])),
        ('((namespace:"a"))', A),
        ('NAMESPACE:"a"', A),
        ('label:app:"x"', X),
        ('label["app"]:"x"', X),
        ('label:"app"', Comparison("label", "contains", "app")),
        ('label!:"app"', Not(Comparison("label", "contains", "app"))),
        ('service:"s"', Comparison("services", "contains", "s")),
        ('controller:"x"', Comparison("controllerName", "equals", "x")),
        ('pod~:"x"', Comparison("pod", "contains", "x")),
        ('pod<~:"x"', Comparison("pod", "prefix", "x")),
        ('pod~>:"x"', Comparison("pod", "suffix", "x")),
        ('pod!~:"x"', Not(Comparison("pod", "contains", "x"))),
        ('pod!<~:"x"', Not(Comparison("pod", "prefix", "x"))),
        ('pod!~>:"x"', Not(Comparison("pod", "suffix", "x"))),
        (r'pod:"say \"x\""', Comparison("pod", "equals", 'say "x"')),
        ('pod:"a+b|(c),:~é"', Comparison("pod", "equals", "a+b|(c),:~é")),
    ],
)
def test_what_filters_mean(text: str, tree: Filter) -> None:
    assert parse(text, VOCABULARY) == tree


@pytest.mark.parametrize(
    "text",
    [
        "namespace",
        "namespace:a",
        'namespace:"a',
        'namespace:"a"+',
        'namespace:"a"+pod:"b"|pod:"c"',
        '(namespace:"a"',
        'namespace:"a")',
        'color:"red"',
        'namespace>:"a"',
        'namespace:"a" pod:"b"',
        '"a"',
        "é",
        "(" * 60 + 'pod:"x"' + ")" * 60,
        'pod:"' + "x" * 20_000 + '"',
    ],
)
def test_what_is_no_filter_is_refused_with_the_parameters_name(text: str) -> None:
    with pytest.raises(BadParameterError) as caught:
        parse(text, VOCABULARY)
    assert caught.value.parameter == "filter"


def test_a_mistake_is_shown_where_it_is() -> None:
    with pytest.raises(BadParameterError, match=r"no field 'colour'.*character 17"):
        parse('namespace:"a" + colour:"red"', VOCABULARY)


def test_v1_filters() -> None:
    assert parse_v1({"filterNamespaces": "a,b"}, V1) == Or([A, B])
    assert parse_v1({"filterNamespaces": "a", "filterLabels": "app:x"}, V1) == And([A, X])
    assert parse_v1({"filterPods": "web-*"}, V1) == Comparison("pod", "prefix", "web-")
    assert parse_v1({"filterNamespaces": " , "}, V1) == Everything
    assert both(Everything, A) == A
    with pytest.raises(BadParameterError) as caught:
        parse_v1({"filterLabels": "app"}, V1)
    assert caught.value.parameter == "filterLabels"


def test_aggregations() -> None:
    assert parse_aggregate("Namespace, label:App") == ("namespace", "label:App")
    assert parse_aggregate("all") == ()
    assert parse_aggregate(None) == ("cluster", "node", "namespace", "pod", "container")
    with pytest.raises(BadParameterError) as caught:
        parse_aggregate("namespace,flavour")
    assert caught.value.parameter == "aggregate"


ROWS: list[dict[str, object]] = [
    {"namespace": "a", "pod": "web-1", "labels": {"app.kubernetes.io/name": "x", "team": "v"}},
    {"namespace": "b", "pod": "web", "labels": {"team": "w"}},
    {"namespace": "", "pod": "", "labels": {}},
]
FIELDS: dict[str, str | Lookup] = {
    "namespace": "namespace",
    "pod": "pod",
    "label": lambda name: label("labels", name),
}
WORDS = st.sampled_from(["a", "b", "", "web", "web-1", "1", "__unallocated__", "'", "%"])
OPERATORS = st.sampled_from(["equals", "contains", "prefix", "suffix"])
COMPARISONS = st.one_of(
    st.builds(Comparison, st.sampled_from(["namespace", "pod"]), OPERATORS, WORDS),
    st.builds(
        Comparison,
        st.just("label"),
        OPERATORS,
        st.sampled_from(["v", "x", ""]),
        st.sampled_from(["team", "app_kubernetes_io_name", "app.kubernetes.io/name", "none'"]),
    ),
)
TREES = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, max_size=3)),
        st.builds(Or, st.lists(inner, max_size=3)),
    ),
    max_leaves=8,
)


def holds(tree: Filter, row: dict[str, object]) -> bool:
    if isinstance(tree, Not):
        return not holds(tree.operand, row)
    if isinstance(tree, And):
        return all(holds(one, row) for one in tree.operands)
    if isinstance(tree, Or):
        return any(holds(one, row) for one in tree.operands)
    has = str(row[tree.field]) if tree.key is None else ""
    if tree.key is not None:
        labels = row["labels"]
        assert isinstance(labels, dict)
        clean = {name.translate(str.maketrans("./", "__")): value for name, value in labels.items()}
        has = labels.get(tree.key, clean.get(tree.key, ""))
    value = "" if tree.value == "__unallocated__" else tree.value
    return {
        "equals": has == value,
        "contains": value in has,
        "prefix": has.startswith(value),
        "suffix": has.endswith(value),
    }[tree.operator]


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_sql_lets_through_what_the_tree_says(tree: Filter) -> None:
    con = duckdb.connect()
    con.execute("CREATE TABLE r (namespace VARCHAR, pod VARCHAR, labels MAP(VARCHAR, VARCHAR))")
    con.executemany("INSERT INTO r VALUES (?, ?, ?)", [[r["namespace"], r["pod"], r["labels"]] for r in ROWS])
    parameters: Parameters = {}
    where = condition(tree, FIELDS, {}, parameters)
    found = con.execute(f"SELECT namespace FROM r WHERE {where}", parameters or None).fetchall()
    assert sorted(row[0] for row in found) == sorted(
        str(row["namespace"]) for row in ROWS if holds(tree, row)
    )
    con.close()


def test_a_map_without_a_name_is_compared_by_its_names() -> None:
    con = duckdb.connect()
    parameters: Parameters = {}
    tree = parse('label:"team"', VOCABULARY)
    where = condition(tree, FIELDS, {"label": label_names("labels")}, parameters)
    query = f"SELECT {where} FROM (SELECT MAP {{'team': 'v'}} AS labels)"
    assert con.execute(query, parameters).fetchone() == (True,)
