"""Canonical tags: one cost centre, team, owner … out of the many ways in which people spell tag keys.

A key matches an alias when both are equal without case and separators (``-_ .:/``), with or without the prefix that a
provider puts before users' keys. Of several matching keys that a row carries, the first alias wins, then the
alphabetically first key; an empty value counts as missing. The row's own tags are never changed.

Matching is done once per delivery, on its distinct keys: the query that reads the rows only looks up exact keys.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from gpuledger.core.contracts import Connection
from gpuledger.errors import ConfigError

# Canonical name -> column of the ledger.
COLUMNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "cost_center": "x_CostCenter",
        "team": "x_Team",
        "owner": "x_Owner",
        "project": "x_Project",
        "environment": "x_Environment",
        "model": "x_Model",
        "experiment": "x_Experiment",
        "job": "x_Job",
    }
)
CANONICAL: Final = tuple(COLUMNS)

# Aliases in order of precedence. Spellings that differ only in case or separators are one alias.
DEFAULT_ALIASES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "cost_center": (
            *(
                "cost_center",
                "cost_centre",
                "cost_center_code",
                "cost_center_id",
                "cost_code",
                "billing_code",
            ),
            *("charge_code", "chargeback", "cc", "cost_allocation", "kostenstelle"),
        ),
        "team": (
            *("team", "team_name", "owning_team", "owner_team", "squad", "app.kubernetes.io/team"),
            "kueue.x-k8s.io/queue-name",  # a queue is a team's share of the cluster: the weakest sign of one
        ),
        "owner": (
            *("owner", "owner_email", "owned_by", "technical_owner", "contact", "maintainer", "responsible"),
            *("app.kubernetes.io/owner", "creator"),
        ),
        "project": (
            *(
                "project",
                "project_name",
                "project_id",
                "project_code",
                "proj",
                "application",
                "application_name",
            ),
            *("app", "app_name", "app.kubernetes.io/part-of"),
        ),
        "environment": (
            *(
                "environment",
                "env",
                "environment_name",
                "environment_type",
                "env_name",
                "deployment_environment",
            ),
            *("stage", "enviroment", "enviornment", "umgebung"),
        ),
        "model": (
            "model",
            "model_name",
            "model_id",
            "ai_model",
            "ml_model",
            "llm",
            "served_model",
            "base_model",
        ),
        "experiment": (
            "experiment",
            "experiment_name",
            "experiment_id",
            "exp",
            "sweep",
            "sweep_id",
            "trial",
            "study",
        ),
        "job": (
            *(
                "job",
                "job_name",
                "job_id",
                "run_name",
                "run_id",
                "pipeline_run",
                "batch.kubernetes.io/job-name",
            ),
            *(
                "training.kubeflow.org/job-name",
                "jobset.sigs.k8s.io/jobset-name",
                "workflows.argoproj.io/workflow",
            ),
            *("ray.io/cluster", "aws:eks:workload-name", "aws:batch:job-name", "k8s-workload-name"),
        ),
    }
)

# What providers write before the key that their user chose. All are tried on every key: none is ambiguous.
PREFIXES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "AWS": (
            "resourceTags/user:",
            "resource_tags/user_",
            "resource_tags_user_",
            "user:",
            "user_",
            "iamPrincipal/",
        ),
        "Google Cloud": ("k8s-label/", "labels/", "labels."),
        "Oracle": ("*.",),  # a defined tag is Namespace.Key
        "Kubernetes": ("label_", "labels.", "k8s-label/"),
    }
)

_SEPARATORS: Final = re.compile(r"[-_ .:/]+")
# Keys that a provider sets by itself: no alias of theirs is missing when they are unmapped.
_SYSTEM: Final = re.compile(
    r"^(?:aws:|goog-|k8s-(?!label)|kubernetes\.io/|oracle-tags\.|x_iam|databricks-instance|vendor$)",
    re.IGNORECASE,
)


def normalized(key: str) -> str:
    """Return the key without case and separators: 'Cost-Centre ' and 'cost_centre' are one key."""
    return _SEPARATORS.sub("", key.strip()).casefold()


def is_system_key(key: str) -> bool:
    """Say whether a provider sets this key by itself."""
    return _SYSTEM.match(key) is not None


@dataclass(
    frozen=True, slots=True, eq=False
)  # one per configuration: told apart as such, and quick to look up
class TagAliases:
    """Aliases per canonical name in order of precedence, normalised, and the prefixes that keys may have."""

    by_name: Mapping[str, tuple[str, ...]]
    prefixes: tuple[str, ...]

    def resolve(self, keys: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return the exact keys to look up for each canonical name, best first; names without a key are absent.

        `keys` are keys as delivered. A key may serve several names, if aliases say so.
        """
        forms = {key: self._forms(key) for key in sorted(set(keys))}
        found: dict[str, tuple[str, ...]] = {}
        for name, aliases in self.by_name.items():
            ranked: dict[str, int] = {}
            for key, spellings in forms.items():
                ranks = [rank for rank, alias in enumerate(aliases) if alias in spellings]
                if ranks:
                    ranked[key] = ranks[0]
            if ranked:
                found[name] = tuple(sorted(ranked, key=lambda key: (ranked[key], key)))
        return found

    def _forms(self, key: str) -> frozenset[str]:
        lower = key.strip().casefold()
        bare = [lower[len(prefix) :] for prefix in self.prefixes if lower.startswith(prefix)]
        if "*." in self.prefixes:
            bare.append(lower.partition(".")[2])
        return frozenset({normalized(lower), *(normalized(rest) for rest in bare)}) - {""}


def aliases(
    provider: str | None = None,
    extra: Mapping[str, Sequence[str]] | None = None,
    extra_by_provider: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
) -> TagAliases:
    """Return the aliases for rows of `provider`; None (the rows come from several) means those of all providers.

    `extra` holds the user's own aliases per canonical name, `extra_by_provider` those of one provider; they take
    precedence over the defaults. Raises ConfigError for a canonical name that doesn't exist.
    """
    per_provider = extra_by_provider or {}
    own = [table for name, table in sorted(per_provider.items()) if provider is None or _same(name, provider)]
    tables: list[Mapping[str, Sequence[str]]] = [*own, extra or {}]
    for table in [extra or {}, *per_provider.values()]:
        _check(table)
    merged = {
        name: tuple(
            dict.fromkeys(
                normalized(alias) for table in [*tables, DEFAULT_ALIASES] for alias in table.get(name, ())
            )
        )
        for name in CANONICAL
    }
    prefixes = dict.fromkeys(prefix.casefold() for found in PREFIXES.values() for prefix in found)
    return TagAliases(merged, tuple(prefixes))


def _same(name: str, provider: str) -> bool:
    return normalized(name) == normalized(provider)


def _check(table: Mapping[str, Sequence[str]]) -> None:
    unknown = sorted(set(table) - set(CANONICAL))
    if unknown:
        raise ConfigError(
            f"no such canonical tag: {', '.join(unknown)}", hint=f"Canonical tags are {', '.join(CANONICAL)}."
        )


def tag_keys(
    con: Connection, relation: str, columns: Sequence[str] = ("Tags",), *, first: int | None = None
) -> list[str]:
    """Return the distinct keys of the MAP columns of a relation, sorted. One pass over these columns only.

    `first` looks at that many rows only: building a MAP from text is costly, and nearly all keys of a bill occur
    early. Whoever uses it must check what was written with `missed_keys`.
    """
    limit = "" if first is None else f" LIMIT {first:d}"
    listed = ", ".join(f'"{column}"' for column in columns)
    source = f"(SELECT {listed} FROM {relation}{limit})"
    parts = " UNION ALL ".join(
        f'SELECT unnest(map_keys("{column}")) AS key FROM {source}' for column in columns
    )
    rows = con.execute(f"SELECT DISTINCT key FROM ({parts}) WHERE key IS NOT NULL ORDER BY key").fetchall()
    return [str(row[0]) for row in rows]


def missed_keys(known: TagAliases, looked_up: Iterable[str], present: Iterable[str]) -> list[str]:
    """Return the keys among `present` that have a canonical name and weren't among those looked up, sorted."""
    mapped = {key for keys in known.resolve(present).values() for key in keys}
    return sorted(mapped - set(looked_up))


def tag_expressions(keys: Mapping[str, Sequence[str]], columns: Sequence[str] = ("Tags",)) -> dict[str, str]:
    """Return SQL per ledger column that is the canonical value of a row, or NULL.

    `keys` is what `TagAliases.resolve` returns; `columns` are MAP(VARCHAR, VARCHAR) columns, the first with a value
    winning. Surrounding white space is cut; what remains empty is missing.
    """
    return {
        COLUMNS[name]: "coalesce("
        + ", ".join(f"nullif(trim(\"{column}\"[{_literal(key)}]), '')" for column in columns for key in exact)
        + ")"
        for name, exact in keys.items()
    }


def tagged_sql(
    relation: str, known: TagAliases, keys: Iterable[str], columns: Sequence[str] = ("AllocatedTags", "Tags")
) -> str:
    """Return a SELECT over ledger columns with the canonical tag columns filled where they are null.

    `keys` are the distinct keys of `columns` (see `tag_keys`). The tags of whoever receives a split cost outrank those
    of the resource that was split. It streams, and costs about a map lookup per matching key and row.
    """
    found = tag_expressions(known.resolve(keys), columns)
    if not found:
        return f"SELECT * FROM {relation}"
    filled = ", ".join(f'coalesce("{column}", {value}) AS "{column}"' for column, value in found.items())
    return f"SELECT * REPLACE ({filled}) FROM {relation}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a provider's charges in one currency carries a canonical tag; cost is EffectiveCost."""

    provider: str | None
    currency: str | None
    name: str
    rows: int
    rows_tagged: int
    cost: Decimal
    cost_tagged: Decimal

    @property
    def row_share(self) -> Decimal | None:
        """Tagged rows ÷ rows, to four decimals; None without rows."""
        return _share(Decimal(self.rows_tagged), Decimal(self.rows))

    @property
    def cost_share(self) -> Decimal | None:
        """Tagged cost ÷ cost, to four decimals; None when the costs sum to zero."""
        return _share(self.cost_tagged, self.cost)


@dataclass(frozen=True, slots=True)
class UnmappedKey:
    """A tag key without alias, and the rows and EffectiveCost that carry it. `system`: set by the provider."""

    provider: str | None
    currency: str | None
    key: str
    rows: int
    cost: Decimal
    system: bool


def _share(part: Decimal, whole: Decimal) -> Decimal | None:
    return None if whole == 0 else (part / whole).quantize(Decimal("0.0001"))


_PROVIDER: Final = "coalesce(ServiceProviderName, ProviderName)"


def coverage(con: Connection, relation: str) -> list[Coverage]:
    """Return per provider, currency and canonical tag how many rows and how much cost carry it.

    `relation` has ledger columns, tags filled. A row's cost counts as a whole: never averaged over rows.
    """
    columns = ", ".join(
        f"count({column}), coalesce(sum(EffectiveCost) FILTER (WHERE {column} IS NOT NULL), 0)"
        for column in COLUMNS.values()
    )
    query = f"""SELECT {_PROVIDER} AS provider, BillingCurrency AS currency, count(*),
                       coalesce(sum(EffectiveCost), 0), {columns}
                FROM {relation} GROUP BY ALL ORDER BY provider, currency"""
    found = []
    for provider, currency, rows, cost, *pairs in con.execute(query).fetchall():
        for place, name in enumerate(CANONICAL):
            tagged, tagged_cost = pairs[2 * place], pairs[2 * place + 1]
            found.append(Coverage(provider, currency, name, rows, tagged, cost, tagged_cost))
    return found


def unmapped_keys(con: Connection, relation: str, known: TagAliases) -> list[UnmappedKey]:
    """Return the keys of `Tags` that no alias maps, costliest first: candidates for aliases of one's own."""
    query = f"""SELECT provider, currency, key, count(*), coalesce(sum(EffectiveCost), 0) AS cost
                FROM (SELECT {_PROVIDER} AS provider, BillingCurrency AS currency, EffectiveCost,
                             unnest(map_keys(Tags)) AS key
                      FROM {relation})
                WHERE key IS NOT NULL GROUP BY ALL ORDER BY cost DESC, key, provider, currency"""
    rows = con.execute(query).fetchall()
    mapped = {key for keys in known.resolve(str(row[2]) for row in rows).values() for key in keys}
    return [
        UnmappedKey(provider, currency, key, count, cost, is_system_key(key))
        for provider, currency, key, count, cost in rows
        if key not in mapped
    ]
