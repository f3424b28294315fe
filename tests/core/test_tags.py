"""Canonical tags: spellings, precedence, the query, and the coverage report."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuledger.core import tags
from gpuledger.engines import duckdb
from gpuledger.errors import ConfigError
from gpuledger.focus.schema import LEDGER_COST_AND_USAGE, create_columns

ALL = tags.aliases()


@pytest.fixture
def con() -> Iterator[duckdb.Connection]:
    con = duckdb.connect()
    con.execute(f"CREATE TABLE ledger ({create_columns(LEDGER_COST_AND_USAGE)})")
    yield con
    con.close()


def add(
    con: duckdb.Connection,
    pairs: dict[str, str | None] | None,
    *,
    allocated: dict[str, str | None] | None = None,
    provider: str = "AWS",
    cost: int = 1,
    team: str | None = None,
) -> None:
    con.execute(
        """INSERT INTO ledger (x_SourceRow, Tags, AllocatedTags, ServiceProviderName, BillingCurrency, EffectiveCost,
                               x_Team)
           SELECT (SELECT count(*) FROM ledger), map_from_entries(CAST(? AS STRUCT(key VARCHAR, value VARCHAR)[])),
                  map_from_entries(CAST(? AS STRUCT(key VARCHAR, value VARCHAR)[])), ?, 'USD', ?, ?""",
        [
            *(
                None if one is None else [{"key": k, "value": v} for k, v in one.items()]
                for one in (pairs, allocated)
            ),
            provider,
            cost,
            team,
        ],
    )


def canonical(con: duckdb.Connection, column: str, known: tags.TagAliases = ALL) -> list[str | None]:
    keys = tags.tag_keys(con, "ledger", ("AllocatedTags", "Tags"))
    query = tags.tagged_sql("ledger", known, keys)
    return [row[0] for row in con.execute(f"SELECT {column} FROM ({query}) ORDER BY x_SourceRow").fetchall()]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("cost_center", "cost_center"),
        ("CostCenter", "cost_center"),
        ("Cost Centre", "cost_center"),
        ("cost-centre", "cost_center"),
        ("COST.CENTER", "cost_center"),
        ("cc", "cost_center"),
        ("user:CostCenter", "cost_center"),
        ("resourceTags/user:cost_center", "cost_center"),
        ("resource_tags_user_cost_center", "cost_center"),
        ("iamPrincipal/team", "team"),
        ("k8s-label/team", "team"),
        ("label_team", "team"),
        ("app.kubernetes.io/team", "team"),
        ("kueue.x-k8s.io/queue-name", "team"),
        ("app.kubernetes.io/part-of", "project"),
        ("batch.kubernetes.io/job-name", "job"),
        ("k8s-workload-name", "job"),
        ("Enviroment", "environment"),
        ("Env", "environment"),
        ("Creator", "owner"),
        ("model-name", "model"),
        ("experiment id", "experiment"),
    ],
)
def test_spellings(key: str, name: str) -> None:
    assert ALL.resolve([key]) == {name: (key,)}


@pytest.mark.parametrize(
    "key", ["aws:createdBy", "Name", "costs", "ccc", "user:", "steam", "application-owner-group", "team.lead"]
)
def test_keys_that_mean_something_else(key: str) -> None:
    assert ALL.resolve([key]) == {}


@given(st.sampled_from(["cost_center", "team", "owner_email", "project"]), st.data())
def test_case_and_separators_never_matter(alias: str, data: st.DataObject) -> None:
    letters = [data.draw(st.sampled_from([c.lower(), c.upper()])) for c in alias if c != "_"]
    gaps = [data.draw(st.sampled_from(["", "-", "_", " ", ".", ":", "/", "__"])) for _ in letters]
    key = "".join(a + b for a, b in zip(letters, [*gaps[1:], ""], strict=True))
    assert list(ALL.resolve([key])) == list(ALL.resolve([alias]))


def test_alias_order_then_key_order() -> None:
    keys = ["cc", "CostCenter", "user:cost_center", "cost_centre", "COST_CENTER"]
    assert ALL.resolve(keys)["cost_center"] == (
        "COST_CENTER",
        "CostCenter",
        "user:cost_center",
        "cost_centre",
        "cc",
    )
    assert ALL.resolve(reversed(keys)) == ALL.resolve(keys)


def test_the_users_aliases_come_first() -> None:
    known = tags.aliases(
        "AWS", {"team": ["group"]}, {"AWS": {"team": ["Squad-Name"]}, "Azure": {"team": ["abteilung"]}}
    )
    keys = ["team", "group", "squad name", "abteilung"]
    assert known.resolve(keys)["team"] == ("squad name", "group", "team")
    assert "abteilung" in tags.aliases(None, None, {"Azure": {"team": ["Abteilung"]}}).resolve(keys)["team"]
    assert tags.aliases("aws", {"owner": ["aws:createdBy"]}).resolve(["aws:createdBy"]) == {
        "owner": ("aws:createdBy",)
    }


def test_a_wrong_canonical_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="no such canonical tag: teem\nHint: "):
        tags.aliases(None, {"teem": ["squad"]})
    with pytest.raises(ConfigError, match="teem"):
        tags.aliases("AWS", None, {"Azure": {"teem": ["squad"]}})


def test_values(con: duckdb.Connection) -> None:
    add(con, {"team": "ml", "Name": "x"})
    add(con, {"team": "", "user:Team": "vision"})  # empty is missing: the next key counts
    add(con, {"team": "  "})
    add(con, {"team": None})
    add(con, None)
    add(con, {"Name": "x"})
    add(con, {"team": " nlp "})
    add(con, {"team": "platform"}, allocated={"team": "tenant"})
    add(con, {"team": "platform"}, allocated={"app": "x"})
    add(con, {"team": "from tags"}, team="from the source")
    assert canonical(con, "x_Team") == [
        *("ml", "vision", None, None, None, None, "nlp", "tenant", "platform", "from the source"),
    ]  # fmt: skip
    before = con.execute("SELECT Tags FROM ledger ORDER BY x_SourceRow").fetchall()
    query = tags.tagged_sql("ledger", ALL, tags.tag_keys(con, "ledger"))
    assert con.execute(f"SELECT Tags FROM ({query}) ORDER BY x_SourceRow").fetchall() == before
    assert duckdb.columns(con, f"({query})") == duckdb.columns(con, "ledger")


def test_hostile_keys_are_only_keys(con: duckdb.Connection) -> None:
    known = tags.aliases(None, {"team": ["o'team", '"); DROP TABLE ledger; --']})
    add(con, {"O'Team": "quoted"})
    add(con, {'"); DROP TABLE ledger; --': "dropped"})
    assert canonical(con, "x_Team", known) == ["quoted", "dropped"]


def test_no_known_key_changes_nothing(con: duckdb.Connection) -> None:
    add(con, {"Name": "x"})
    assert tags.tagged_sql("ledger", ALL, ["Name"]) == "SELECT * FROM ledger"


def test_keys_of_the_first_rows_and_what_they_miss(con: duckdb.Connection) -> None:
    add(con, {"team": "a", "Name": "x"})
    add(con, {"owner": "b", "Note": "y"}, allocated={"team": "c"})
    some = tags.tag_keys(con, "ledger", first=1)
    assert some == ["Name", "team"]
    every = tags.tag_keys(con, "ledger", ("AllocatedTags", "Tags"))
    assert every == ["Name", "Note", "owner", "team"]
    assert tags.missed_keys(ALL, some, every) == ["owner"]  # Note has no canonical name: nothing is lost
    assert tags.missed_keys(ALL, every, every) == []


def test_coverage_is_sums_over_sums(con: duckdb.Connection) -> None:
    add(con, {"team": "a"}, cost=90)
    add(con, {"Name": "x"}, cost=10)
    add(con, None, provider="OpenAI", cost=0)
    con.execute(f"CREATE VIEW tagged AS {tags.tagged_sql('ledger', ALL, tags.tag_keys(con, 'ledger'))}")
    found = {(c.provider, c.name): c for c in tags.coverage(con, "tagged")}
    assert set(found) == {(provider, name) for provider in ("AWS", "OpenAI") for name in tags.CANONICAL}
    team = found["AWS", "team"]
    assert (team.rows, team.rows_tagged, team.cost, team.cost_tagged) == (2, 1, Decimal(100), Decimal(90))
    assert (team.row_share, team.cost_share, team.currency) == (Decimal("0.5"), Decimal("0.9"), "USD")
    assert found["AWS", "owner"].cost_share == 0
    assert found["OpenAI", "team"].cost_share is None  # a share of nothing is unknown


def test_unmapped_keys_are_listed_costliest_first(con: duckdb.Connection) -> None:
    add(con, {"team": "a", "Abteilung": "b", "aws:createdBy": "c"}, cost=90)
    add(con, {"Name": "x", "Abteilung": "d"}, cost=10)
    found = tags.unmapped_keys(con, "ledger", ALL)
    assert [(key.key, key.rows, key.cost, key.system) for key in found] == [
        ("Abteilung", 2, Decimal(100), False),
        ("aws:createdBy", 1, Decimal(90), True),
        ("Name", 1, Decimal(10), False),
    ]
    mine = tags.aliases(None, {"team": ["abteilung"]})
    assert [key.key for key in tags.unmapped_keys(con, "ledger", mine)] == ["aws:createdBy", "Name"]


def test_aliases_of_two_names_never_collide() -> None:
    seen: dict[str, str] = {}
    for name, spellings in ALL.by_name.items():
        for alias in spellings:
            assert seen.setdefault(alias, name) == name, alias
