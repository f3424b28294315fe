"""Runs the rules of a FOCUS version over a relation, in a few passes of SQL.

1. One scan turns every row into bit masks: a bit per clause that the rules use (a cell is null, a value is
   in a set, a product is right …). Real data has few different masks, so counting by mask leaves a small
   table, on which a rule is a test of bits and a sum. Rules that every cell of a column should keep, such as
   its format, share a bit by kind; only where that bit fails does a second scan tell them apart.
2. JSON columns are grouped by value first; what is inside is judged once per distinct value.
3. A rule across rows is one aggregation over the columns it names.
4. For rules that failed, one more scan fetches an example row.

Nothing is kept per row, so memory is the engine's own scan and hash tables.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gpuledger.focus.cells import DERIVED, Cells, describe, literal
from gpuledger.focus.columnrules import column_result
from gpuledger.focus.contracts import Connection
from gpuledger.focus.crossrows import CrossRow, cross_row
from gpuledger.focus.model import Model, Rule, model
from gpuledger.focus.objects import is_object_clause, judgement, object_clause
from gpuledger.focus.predicates import FALSE, TRUE, Predicate, predicate
from gpuledger.focus.report import RuleResult, Skipped, ValidationReport
from gpuledger.focus.schema import quoted

# Bits of one BIGINT mask; the sign bit stays free.
_MASK_BITS: Final = 60
_NULL: Final = " IS NULL"
_SET: Final = " IS NOT NULL"
# A price in another currency may be in a national one, so prices alone do not show virtual currency.
_NOT_SHOWN: Final = frozenset({"VIRTUAL_CURRENCY_SUPPORTED"})
# Columns that tell whose row it is; shown with every example.
_WHOSE: Final = ("ProviderName", "ServiceProviderName", "InvoiceIssuerName")


class Masks:
    """The clauses of the first pass, a bit each; equal SQL shares its bit."""

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}

    def test(self, sql: str) -> str:
        """SQL over a mask row that tells whether the clause `sql` holds."""
        if sql in {TRUE, FALSE}:
            return sql
        if sql.endswith(_NULL) and sql.count('"') == 2:  # noqa: PLR2004  # one column, nothing else
            return f"NOT ({self.test(sql.removesuffix(_NULL) + _SET)})"
        bit = self._bits.setdefault(sql, len(self._bits))
        return f"(m{bit // _MASK_BITS} & {1 << bit % _MASK_BITS}) <> 0"

    def columns(self) -> list[str]:
        """The mask columns `m0, m1, …` as SQL over a row."""
        masks: list[list[str]] = [[] for _ in range(-(-len(self._bits) // _MASK_BITS))]
        for sql, bit in self._bits.items():
            masks[bit // _MASK_BITS].append(f"({sql})::BIGINT * {1 << bit % _MASK_BITS}")
        return [f"{' + '.join(terms)} AS m{number}" for number, terms in enumerate(masks)]


@dataclass(frozen=True, slots=True)
class RowRule:
    """A rule of the first pass.

    `applies` is SQL over a row, entries all to hold, each as alternatives; `check` is SQL over a row. `subjects`
    are the cells that must be set for the rule to say anything.
    """

    rule: Rule
    applies: tuple[tuple[str, ...], ...]
    subjects: tuple[str, ...]
    check: str
    columns: tuple[str, ...]

    @property
    def family(self) -> str:
        """The kind of a rule that all cells of its column should keep; '' for others."""
        _, test, *_ = self.rule.check.split(" ")
        return "" if self.applies or len(self.subjects) != 1 else test

    def conditions(self) -> list[tuple[str, ...]]:
        """Where the rule says anything."""
        return [*self.applies, *((f"{subject} IS NOT NULL",) for subject in self.subjects)]

    def violated(self) -> str:
        """SQL over a row: the rule applies and is broken."""
        parts = [f"({' OR '.join(alternatives)})" for alternatives in self.conditions()]
        return " AND ".join([*parts, f"NOT ({self.check})"])


@dataclass(frozen=True, slots=True)
class Failure:
    """Where to find an example of a failed rule: SQL over a row, and the columns to show."""

    condition: str
    columns: tuple[str, ...]


@dataclass(slots=True)
class Run:
    """What a validation works on, and what it has found so far."""

    connection: Connection
    cells: Cells
    model: Model
    counts: dict[str, tuple[int, int]]
    failures: dict[str, Failure]

    def record(self, rule: Rule, checked: int, failed: int, failure: Failure) -> None:
        """Note the counts of a rule, and where an example is when it failed."""
        self.counts[rule.id] = (int(checked), int(failed))
        if failed:
            self.failures[rule.id] = failure


def _row_rule(rule: Rule, run: Run) -> RowRule:
    def compiled(clause: str) -> Predicate:
        return predicate(clause, run.cells, run.model)

    check = compiled(rule.check)
    conditions = [
        [compiled(clause) for clause in ((entry,) if isinstance(entry, str) else entry)]
        for entry in rule.when
    ]
    named = (name for entry in conditions for one in entry for name in one.columns)
    return RowRule(
        rule,
        tuple(tuple(one.sql for one in entry) for entry in conditions),
        tuple(map(run.cells.value, check.columns)) if check.skips_null else (),
        check.sql,
        tuple(dict.fromkeys([*check.columns, *named, *check.derived])),
    )


def _total(condition: str) -> str:
    return f"coalesce(sum(n) FILTER (WHERE {condition}), 0)"


def _count_rows(run: Run, rules: Sequence[RowRule]) -> tuple[int, frozenset[str]]:
    """First pass. Return the number of rows and the columns that hold at least one value."""
    masks, families = Masks(), _families(rules)
    single = [one for one in rules if not one.family]
    present = [name for name in run.model.columns if run.cells.actual(name)]
    results = ["coalesce(sum(n), 0)"]
    results += [_total(masks.test(f"{run.cells.value(name)} IS NOT NULL")) for name in present]
    results += [_total(f"NOT ({masks.test(_all_kept(members))})") for members in families.values()]
    for one in single:
        applies = " AND ".join(
            f"({' OR '.join(masks.test(sql) for sql in alternatives)})" for alternatives in one.conditions()
        )
        results += [_total(applies or TRUE), _total(f"{applies or TRUE} AND NOT ({masks.test(one.check)})")]
    names = dict.fromkeys([*present, *(name for one in rules for name in one.columns)])
    bits = f"SELECT {', '.join(masks.columns()) or '0 AS m0'} FROM {run.cells.rows(*names)}"
    shapes = f"SELECT *, count(*) AS n FROM ({bits}) GROUP BY ALL"
    counted = run.connection.execute(f"SELECT {', '.join(results)} FROM ({shapes})").fetchone()
    values = iter(map(int, counted or ()))
    rows = next(values)
    filled = {name: next(values) for name in present}
    broken = [members for members in families.values() if next(values)]
    for one in single:
        run.record(one.rule, next(values), next(values), Failure(one.violated(), one.columns))
    failed = _tell_apart(run, [one for members in broken for one in members])
    for one in (one for members in families.values() for one in members):
        count = failed.get(one.rule.id, 0)
        run.record(one.rule, filled[one.columns[0]], count, Failure(one.violated(), one.columns))
    return rows, frozenset(name for name, count in filled.items() if count)


def _families(rules: Sequence[RowRule]) -> dict[str, list[RowRule]]:
    families: dict[str, list[RowRule]] = {}
    for one in rules:
        if one.family:
            families.setdefault(one.family, []).append(one)
    return families


def _all_kept(rules: Sequence[RowRule]) -> str:
    checks = dict.fromkeys(one.check for one in rules if one.check != TRUE)
    return " AND ".join(checks) or TRUE


def _tell_apart(run: Run, rules: Sequence[RowRule]) -> dict[str, int]:
    """Count the failures of single rules among the rows that break any of them."""
    if not rules:
        return {}
    counts = ", ".join(f"count(*) FILTER (WHERE NOT ({one.check}))" for one in rules)
    names = dict.fromkeys(name for one in rules for name in one.columns)
    counted = run.connection.execute(
        f"SELECT {counts} FROM {run.cells.rows(*names)} WHERE NOT ({_all_kept(rules)})"
    ).fetchone()
    return dict(zip((one.rule.id for one in rules), counted or (), strict=True))


def _judge_objects(run: Run, rules: Iterable[Rule]) -> None:
    """Second pass: one query per JSON column."""
    by_column: dict[str, list[Rule]] = {}
    for rule in rules:
        by_column.setdefault(object_clause(rule.check).column, []).append(rule)
    for column, members in by_column.items():
        query = judgement(run.cells, column, [object_clause(rule.check) for rule in members])
        counted = run.connection.execute(query).fetchone() or (0,)
        for number, rule in enumerate(members):
            failed, value = counted[1 + 2 * number : 3 + 2 * number]
            condition = f"{run.cells.text(column)} = {literal(value or '')}"
            run.record(rule, counted[0], failed, Failure(condition, (column,)))


def _count_across(run: Run, clauses: Mapping[str, tuple[Rule, CrossRow]]) -> None:
    """Third pass: one query per rule."""
    for rule, clause in clauses.values():
        checked, failed, value = run.connection.execute(clause.sql).fetchone() or (0, 0, None)
        condition = f"{clause.key} = {literal(value or '')}"
        run.record(rule, checked, failed, Failure(condition, clause.columns))


def _examples(run: Run) -> dict[str, dict[str, Any]]:
    """Fourth pass: the first row that breaks each failed rule."""
    if not run.failures:
        return {}
    whose = [name for name in _WHOSE if run.cells.actual(name)]
    shown = {
        rule_id: list(
            dict.fromkeys(name for name in [*failure.columns, *whose] if run.cells.actual(name) is not None)
        )
        for rule_id, failure in run.failures.items()
    }
    picks = []
    for rule_id, failure in run.failures.items():
        fields = ", ".join(f"{literal(name)}: {quoted(name)}" for name in shown[rule_id])
        row = f"{{'file': _at_file, 'row': _at_row, 'values': {{{fields}}}}}"
        picks.append(f"min_by({row}, _at_row) FILTER (WHERE {failure.condition})")
    derived = [
        name for failure in run.failures.values() for name in failure.columns if name.startswith(DERIVED)
    ]
    names = dict.fromkeys([*(name for names in shown.values() for name in names), *derived])
    found = run.connection.execute(
        f"SELECT {', '.join(picks)} FROM {run.cells.rows(*names, numbered=True)}"
    ).fetchone()
    return {
        rule_id: {
            "file": example["file"],
            "row": example["row"],
            "values": {
                name: None if value is None else str(value) for name, value in example["values"].items()
            },
        }
        for rule_id, example in zip(run.failures, found or (), strict=False)
        if example is not None
    }


def _capabilities(rules: Model, filled: frozenset[str]) -> frozenset[str]:
    """The capabilities that the data shows: a column that only they bring holds values."""
    return frozenset[str]().union(*(rules.columns[name].needs for name in filled)) - _NOT_SHOWN


@dataclass(frozen=True, slots=True)
class Plan:
    """The rules by the pass that runs them, and those that cannot run on this input."""

    columns: list[Rule]
    rows: list[RowRule]
    objects: list[Rule]
    across: dict[str, tuple[Rule, CrossRow]]
    skipped: list[Skipped]


def _plan(run: Run, commitments: Cells | None) -> Plan:
    plan = Plan([], [], [], {}, [])
    for rule in run.model.rules:
        if rule.column == "*" or rule.check == f"{rule.column} present":
            plan.columns.append(rule)
            continue
        across = cross_row(rule.check, run.cells, commitments)
        if across is not None:
            needed: tuple[str, ...] = across.columns
        elif is_object_clause(rule.check):
            needed = (rule.column,)
        else:
            needed = predicate(rule.check, run.cells, run.model).columns
        missing = [name for name in needed if run.cells.actual(name) is None]
        if missing:
            plan.skipped.append(Skipped(rule, "column", f"the input has no {', '.join(missing)}"))
        elif across is not None and not across.sql:
            plan.skipped.append(Skipped(rule, "input", "no ContractCommitment dataset was given"))
        elif across is not None:
            plan.across[rule.id] = (rule, across)
        elif is_object_clause(rule.check):
            plan.objects.append(rule)
        else:
            plan.rows.append(_row_rule(rule, run))
    return plan


def validate(  # the inputs of a validation
    con: Connection,
    relation_sql: str,
    *,
    focus_version: str,
    dataset: str = "CostAndUsage",
    capabilities: Iterable[str] | None = None,
    commitments: str | None = None,
    quick: bool = False,
) -> ValidationReport:
    """Check a relation against every machine-checkable rule of `dataset` in FOCUS `focus_version`.

    `relation_sql` is what can follow FROM: a table, `read_parquet(…)`, `read_csv(…, all_varchar = true)`, or a
    SELECT. Columns named `_file`/`_row`, `x_SourceFile`/`x_SourceRow` or `filename`/`file_row_number` locate
    examples; else rows are numbered as they come.

    `capabilities` names what the provider supports; rules that need another one are skipped. None means
    undeclared: then a capability counts when a column that belongs to it holds values. `commitments` is the
    ContractCommitment relation that the charges refer to. `quick` leaves out what a check on the way in doesn't need:
    SHOULD rules, rules that a person has to judge, and examples.

    Raises UsageError for an unknown version or dataset; errors of the engine pass through.
    """
    rules = model(dataset, focus_version)
    if quick:
        firm = tuple(rule for rule in rules.rules if rule.level == "MUST" and not rule.heuristic)
        rules = replace(rules, rules=firm)
    run = Run(con, describe(con, relation_sql), rules, {}, {})
    plan = _plan(run, describe(con, commitments) if commitments else None)
    rows, filled = _count_rows(run, plan.rows)
    declared = _capabilities(rules, filled) if capabilities is None else frozenset(capabilities)

    def applies(rule: Rule) -> bool:
        return rule.needs <= declared

    _judge_objects(run, filter(applies, plan.objects))
    _count_across(run, {key: pair for key, pair in plan.across.items() if applies(pair[0])})
    for rule in rules.rules:
        if not applies(rule):
            run.failures.pop(rule.id, None)
    shown = {} if quick else _examples(run)
    results = [
        RuleResult(rule, *run.counts[rule.id], shown.get(rule.id))
        for rule in rules.rules
        if applies(rule) and rule.id in run.counts
    ]
    results += [column_result(rule, run.cells, rules) for rule in plan.columns if applies(rule)]
    undeclared = [
        Skipped(rule, "capability", f"not declared: {', '.join(sorted(rule.needs - declared))}")
        for rule in rules.rules
        if not applies(rule)
    ]
    missing = [skipped for skipped in plan.skipped if applies(skipped.rule)]
    return ValidationReport(
        dataset,
        focus_version,
        rows,
        results,
        [*undeclared, *missing],
        declared,
        inferred=capabilities is None,
    )
