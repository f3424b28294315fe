"""The rules as data: complete, consistent, every clause of every version understood and able to fail."""

import duckdb
import pytest

from gpuledger.errors import UsageError
from gpuledger.focus.cells import Cells, literal
from gpuledger.focus.model import DATASETS, VERSIONS, Model, Rule, document, model, subcategory_parents
from gpuledger.focus.schema import LEDGER_CONTRACT_COMMITMENT, LEDGER_COST_AND_USAGE, quoted
from gpuledger.focus.validate import RowRule, Run, _plan

COLUMN_COUNTS = {"1.0": 43, "1.1": 50, "1.2": 57, "1.3": 65, "1.4": 65}
DATASET_VERSIONS = [
    (dataset, version)
    for dataset, since in {"CostAndUsage": "1.0", "ContractCommitment": "1.3", "BillingPeriod": "1.4",
                           "InvoiceDetail": "1.4"}.items()
    for version in VERSIONS
    if version >= since
]  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_column_counts_are_the_specifications(version: str) -> None:
    assert len(model("CostAndUsage", version).columns) == COLUMN_COUNTS[version]


def test_counts_of_other_datasets() -> None:
    counts = {pair: len(model(*pair).columns) for pair in DATASET_VERSIONS if pair[0] != "CostAndUsage"}
    assert counts == {
        ("ContractCommitment", "1.3"): 13, ("ContractCommitment", "1.4"): 30,
        ("BillingPeriod", "1.4"): 6, ("InvoiceDetail", "1.4"): 22,
    }  # fmt: skip


def test_the_ledger_has_every_focus_column() -> None:
    for dataset, columns in (
        ("CostAndUsage", LEDGER_COST_AND_USAGE),
        ("ContractCommitment", LEDGER_CONTRACT_COMMITMENT),
    ):
        names = {column.name for column in columns if not column.name.startswith("x_")}
        assert names == {name for version in ("1.3", "1.4") for name in model(dataset, version).columns}


def test_an_unknown_version_or_dataset_says_what_there_is() -> None:
    for dataset, version in (("CostAndUsage", "2.0"), ("Costs", "1.3"), ("ContractCommitment", "1.2")):
        with pytest.raises(UsageError) as raised:
            model(dataset, version)
        assert raised.value.hint


@pytest.mark.parametrize("name", DATASETS.values())
def test_data_files_credit_their_source_and_name_each_rule_once(name: str) -> None:
    content = document(name)
    assert "CC BY 4.0" in content["credit"]
    assert "FinOps Foundation" in content["credit"]
    ids = [rule["id"] for rule in content["rules"]]
    assert len(ids) == len(set(ids))
    names = {column["name"] for column in content["columns"]} | {"*"}
    assert {rule["column"] for rule in content["rules"]} <= names


def test_subcategories_have_one_parent_each() -> None:
    categories = next(c for c in document("cost_and_usage")["columns"] if c["name"] == "ServiceCategory")
    assert set(subcategory_parents().values()) == set(categories["allowed"])
    assert len(subcategory_parents()) == 82


def test_changes_between_versions() -> None:
    assert model("CostAndUsage", "1.3").columns["InvoiceId"].level == "Recommended"
    assert model("CostAndUsage", "1.4").columns["InvoiceId"].level == "Conditional"
    assert model("CostAndUsage", "1.3").columns["PricingCurrency"].nulls
    assert not model("CostAndUsage", "1.4").columns["PricingCurrency"].nulls
    assert "ProviderName" not in model("CostAndUsage", "1.4").columns


def row_rules(dataset: str, version: str, types: dict[str, str]) -> list[RowRule]:
    """All row rules of a version, compiled for a table that has every column."""
    con = duckdb.connect()
    run = Run(con, Cells("t", types), model(dataset, version), {}, {})
    return _plan(run, None).rows


def text_types(rules: Model) -> dict[str, str]:
    # One more column, not text: else null words would be resolved inside the relation.
    return dict.fromkeys(rules.columns, "VARCHAR") | {"x_n": "BIGINT"}


@pytest.mark.parametrize(("dataset", "version"), DATASET_VERSIONS)
def test_every_rule_is_understood_and_run_by_one_pass(dataset: str, version: str) -> None:
    rules = model(dataset, version)
    con = duckdb.connect()
    types = text_types(rules)
    plan = _plan(Run(con, Cells("t", types), rules, {}, {}), Cells("t", types))
    passes = [
        *plan.columns, *(one.rule for one in plan.rows), *plan.objects, *(pair[0] for pair in plan.across.values())
    ]  # fmt: skip
    assert plan.skipped == []
    assert sorted(rule.id for rule in passes) == sorted(rule.id for rule in rules.rules)


# For a clause: cells that make it hold, and cells that break it (text input). `{}` stands for the column.
HOLDS = {"null": None, "set": "x", "same": "a", "equals": "1", "zero": "0", "nonnegative": "1", "fraction": "0.5",
         "decimal": "1", "before": "2026-01-01T00:00:00Z", "placeholder": "name"}  # fmt: skip
BREAKS = {"null": "x", "set": None, "allowed": "no such value", "equals": "2", "zero": "1", "nonnegative": "-1",
          "fraction": "2", "decimal": "NaN", "before": "2027-01-01T00:00:00Z", "placeholder": "n/a", "same": "b"}  # fmt: skip
FORMATS = {"string": ("x", " "), "numeric": ("1", "1,0"), "datetime": ("2026-01-01T00:00:00Z", "2026-01-01"),
           "currency": ("USD", "XXZ"), "national_currency": ("USD", "Credits"), "unit": ("GB", "G_B")}  # fmt: skip
TYPES = {"decimal": ("1", "one"), "datetime": ("2026-01-01", "January")}


def witness(  # noqa: C901, PLR0911, PLR0912  # one case per test
    clause: str, rules: Model, *, holds: bool
) -> dict[str, str | None] | None:
    """Cells that make `clause` hold or break; None where text cannot (a text column is always text)."""
    name, test, *rest = clause.split(" ", 2)
    argument = rest[0] if rest else ""
    match test:
        case "in" | "only":
            return {name: argument.split("|")[0] if holds else "no such value"}
        case "not":
            return {name: "no such value" if holds else argument.split("|")[0]}
        case "allowed" if holds:
            return {name: rules.columns[name].allowed[0]}
        case "format":
            return {name: FORMATS[argument][0 if holds else 1]}
        case "type" if argument not in TYPES:
            return None
        case "type":
            return {name: TYPES[argument][0 if holds else 1]}
        case "differs":
            return {name: "a", argument: "b" if holds else "a"}
        case "same":
            return {name: "a" if holds else "b", argument: "a"}
        case "equals":
            return {name: "1" if holds else "2", argument: "1"}
        case "before":
            return {name: HOLDS[test] if holds else BREAKS[test], argument: "2026-06-01T00:00:00Z"}
        case "times":
            words = clause.split(" ")
            return {words[0]: "2", words[2]: "3", words[4]: "6" if holds else "7"}
        case "child":
            return {name: "Generative AI", "ServiceCategory": "AI and Machine Learning" if holds else "Web"}
        case _:
            return {name: (HOLDS if holds else BREAKS)[test]}


def cells_for(rule: Rule, rules: Model, *, holds: bool) -> dict[str, str | None] | None:
    cells: dict[str, str | None] = {}
    for entry in rule.when:
        cells |= witness(entry if isinstance(entry, str) else entry[0], rules, holds=True) or {}
    found = witness(rule.check, rules, holds=holds)
    return None if found is None else cells | found


@pytest.mark.parametrize(("dataset", "version"), [("CostAndUsage", "1.3"), ("CostAndUsage", "1.4"),
                                                  ("ContractCommitment", "1.4"), ("InvoiceDetail", "1.4"),
                                                  ("BillingPeriod", "1.4")])  # fmt: skip
def test_every_row_rule_can_fail_and_can_be_kept(dataset: str, version: str) -> None:
    """For each rule one row that breaks it and one that keeps it, in one table and one query."""
    rules = model(dataset, version)
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    types = text_types(rules)
    compiled = row_rules(dataset, version, types)
    rows, tested = [], []
    for one in compiled:
        bad = cells_for(one.rule, rules, holds=False)
        good = cells_for(one.rule, rules, holds=True)
        if bad is None or good is None:
            continue
        tested.append(one)
        rows += [bad, good]
    names = list(rules.columns)
    values = ", ".join(
        f"({', '.join('NULL' if row.get(name) is None else literal(str(row[name])) for name in names)}, {number})"
        for number, row in enumerate(rows)
    )
    listed = ", ".join(map(quoted, [*names, "x_n"]))
    con.execute(f"CREATE TABLE t ({', '.join(f'{quoted(name)} VARCHAR' for name in names)}, x_n BIGINT)")
    con.execute(f"INSERT INTO t ({listed}) VALUES {values}")
    source = Cells("t", types).rows(*{name for one in tested for name in one.columns}, "x_n")
    wrong = []
    for number, one in enumerate(tested):
        found = con.execute(
            f"SELECT x_n - {2 * number} FROM {source} WHERE x_n IN ({2 * number}, {2 * number + 1}) AND {one.violated()}"
        ).fetchall()
        if found != [(0,)]:
            wrong.append((one.rule.id, found))
    assert wrong == []
    assert len(tested) > 0.6 * len(compiled)
