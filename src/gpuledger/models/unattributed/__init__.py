"""What nobody owns: incidents out of unowned resources, and what they share with owned ones.

    survey(con, Scope("EffectiveCost", inside, around))  # temporary tables un_resource, un_incident …
    top = largest(con, 20)             # un_top: the incidents to look at
    clues(con), neighbours(con), …     # what ties them to owners

The heavy sets stay in the engine: `un_resource` has one row per resource, job and owner, whatever the
number of charges.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

from gpuledger.core.contracts import Connection
from gpuledger.core.identities import identity
from gpuledger.core.tags import normalized, tag_keys

# Keys, without case and separators, by which providers and tools say such a thing; the first that a row has counts.
KEYS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "creator": (
            *("awscreatedby", "createdby", "oracletagscreatedby", "acstagcreatedby", "gpuledgeriorequestedby"),
            *("requestedby", "requestor", "requester", "submittedby", "launchedby", "startedby", "provisionedby"),
            *("createdbyuser", "creatoremail", "xrunas", "xiamprincipal"),
            *("workflowsargoprojiocreatoremail", "workflowsargoprojiocreator", "hubjupyterorgusername"),
        ),
        "service_account": (
            *("serviceaccount", "serviceaccountname", "googserviceaccount", "instanceprofile", "iaminstanceprofile"),
            "iamrole",
        ),
        "key_pair": ("keyname", "keypair", "keypairname", "sshkey", "sshkeyname"),
        "launch_group": (
            *("awsautoscalinggroupname", "awsec2launchtemplateid", "awsec2fleetid", "awsec2spotfleetrequestid"),
            *("awscloudformationstackname", "parallelclusterclustername", "awsbatchcomputeenvironment"),
            *("awselasticmapreducejobflowid", "alphaeksctlionodegroupname", "eksnodegroupname", "karpentershnodepool"),
            *("googk8snodepoolname", "googdataprocclustername", "azureclustername", "aksmanagedpoolname"),
            *("clusterid", "poolid", "launchtemplate"),
        ),
        "image": ("image", "imageid", "imagename", "imagerepository", "imagerepo", "containerimage", "ami", "amiid"),
        "namespace": ("awseksnamespace", "k8snamespace", "kubernetesnamespace", "namespace"),
        "cluster": ("awseksclustername", "googk8sclustername", "k8sclustername", "clustername", "cluster"),
    }
)  # fmt: skip

_SEP: Final = "chr(31)"
# Rule, the value that two resources share, and how it is shown. What a name means ends at its account or cluster, except
# for people, images and names.
_SPENT: Final = (
    (
        "same_resource",
        f"CASE WHEN resource_id IS NOT NULL THEN provider || {_SEP} || resource_key END",
        "resource_id",
    ),
    ("account", f"concat_ws({_SEP}, provider, account, currency)", "coalesce(account_name, account)"),
)
_SHOWN: Final = (
    ("creator", "creator_key", "creator"),
    ("service_account", f"coalesce(cluster || {_SEP}, '') || service_account", "service_account"),
    ("key_pair", f"account || {_SEP} || key_pair", "key_pair"),
    ("launch_group", f"account || {_SEP} || launch_group", "launch_group"),
    ("same_name", "nullif(stem, '')", "stem"),
    ("image", "image", "image"),
    ("namespace", f"coalesce(cluster, account) || {_SEP} || nullif(namespace, 'default')", "namespace"),
    ("resource_group", f"account || {_SEP} || resource_group", "resource_group"),
)  # fmt: skip
_NO_JOB: Final = (
    "NULL::VARCHAR AS job_name, NULL::VARCHAR AS job_kind, NULL::VARCHAR AS job_namespace, NULL::VARCHAR AS job_cluster, "
    "NULL::MAP(VARCHAR, VARCHAR) AS job_labels"
)
_WHOLE: Final = f"(SELECT *, NULL::VARCHAR AS x_JobId, {_NO_JOB} FROM cost_and_usage)"
# What a job says of its owner goes before what its machine's tags say.
_SPLIT: Final = """(
    SELECT
        a.* REPLACE (
            coalesce(j.team, a.x_Team) AS x_Team, coalesce(j.cost_center, a.x_CostCenter) AS x_CostCenter,
            coalesce(j.owner, a.x_Owner) AS x_Owner, coalesce(j.project, a.x_Project) AS x_Project
        ),
        j.name AS job_name, j.kind AS job_kind, j.namespace AS job_namespace, j.cluster AS job_cluster, j.labels AS job_labels
    FROM allocated AS a
    LEFT JOIN jobs AS j ON j.job_id = a.x_JobId
)"""


@dataclass(frozen=True, slots=True)
class Scope:
    """What to look at: a cost column, and SQL conditions over charges.

    `inside` keeps the charges of the window, `around` also those that evidence may come from. `split` says that charges
    were split among jobs. `each` makes every resource an incident by itself, else those that began within `gap` minutes
    of one another are one.
    """

    metric: str
    inside: str
    around: str
    split: bool = False
    each: bool = False
    gap: int = 15


def statement(name: str, **values: object) -> str:
    """Return the SQL of a file of this package with its places filled."""
    text = files(__name__).joinpath(f"{name}.sql").read_text("utf-8")
    for place, value in values.items():
        text = text.replace(f"{{{place}}}", str(value))
    return text


def survey(con: Connection, scope: Scope) -> None:
    """Make the tables `un_resource`, `un_host`, `un_identity`, `un_part`, `un_incident` and the view `un_own`.

    They are made of the views of a ledger: `allocated`, `jobs` and `cost_and_usage`.
    """
    within = f"(SELECT Tags, AllocatedTags FROM allocated WHERE ({scope.inside}) OR ({scope.around}))"
    keys = {*tag_keys(con, within, ("Tags", "AllocatedTags"))}
    if scope.split:
        keys |= {*tag_keys(con, "jobs", ("labels",))}
    found = _lookups(sorted(keys))
    _resources(
        con, "un_resource", _SPLIT if scope.split else f"(SELECT *, {_NO_JOB} FROM allocated)", scope, found
    )
    if scope.split:
        _resources(con, "un_host", _WHOLE, scope, found)
    else:
        con.execute("CREATE OR REPLACE TEMP TABLE un_host AS FROM un_resource LIMIT 0")
    _identities(con)
    con.execute(
        statement("incident", gap=scope.gap, each=str(scope.each).lower(), whole=str(not scope.split).lower())
    )


def _resources(con: Connection, table: str, relation: str, scope: Scope, found: Mapping[str, str]) -> None:
    text = statement(
        "resource",
        table=table,
        relation=relation,
        inside=scope.inside,
        around=scope.around,
        metric=scope.metric,
    )
    for clue, expression in found.items():
        text = text.replace(f"{{tag.{clue}}}", expression)
    con.execute(text)


def largest(con: Connection, limit: int) -> list[dict[str, Any]]:
    """Make `un_top` of the incidents that cost most, and return its rows, the largest first."""
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE un_top AS FROM un_incident ORDER BY cost DESC NULLS LAST, incident LIMIT {limit:d}"
    )
    return rows(con, "FROM un_top ORDER BY cost DESC NULLS LAST, incident")


def clues(con: Connection) -> list[dict[str, Any]]:
    """Return what the incidents of `un_top` share with owned resources, per rule, value and owner."""
    listed = ", ".join(
        f"{{rule: '{rule}', value: CASE WHEN {counts} THEN {value} END, shown: {shown}}}"
        for counts, found in (("spends", _SPENT), ("shows", _SHOWN))
        for rule, value, shown in found
    )
    return rows(con, statement("clue", clues=f"[{listed}]"))


def neighbours(con: Connection, minutes: int) -> list[dict[str, Any]]:
    """Return owned machines that began when the incidents of `un_top` did, by owner."""
    return rows(con, statement("neighbour", minutes=minutes))


def named(con: Connection, words: Mapping[str, Iterable[str]]) -> list[dict[str, Any]]:
    """Return owned resources whose names have words of incidents; `words` are those of each incident."""
    pairs = sorted((incident, word) for incident, found in words.items() for word in found)
    con.execute("CREATE OR REPLACE TEMP TABLE un_word (incident VARCHAR, word VARCHAR)")
    _insert(con, "un_word", pairs)
    return rows(con, statement("word"))


def rows(con: Connection, query: str) -> list[dict[str, Any]]:
    """Run a query; rows by column name."""
    done = con.execute(query)
    names = [column[0] for column in done.description]
    return [dict(zip(names, row, strict=True)) for row in done.fetchall()]


def _lookups(present: Sequence[str]) -> dict[str, str]:
    """Return SQL over `tags` for each clue, of the keys that there are."""
    folded: dict[str, list[str]] = {}
    for key in present:
        folded.setdefault(normalized(key), []).append(key)
    found = {}
    for clue, names in KEYS.items():
        exact = [key for name in names for key in folded.get(name, ())]
        looked = (f"nullif(trim(tags['{key.replace(chr(39), chr(39) * 2)}']), '')" for key in exact)
        found[clue] = f"coalesce({', '.join((*looked, 'NULL'))}, NULL)"
    return found


def _identities(con: Connection) -> None:
    """Fill `un_identity`: every creator text, and the key that all spellings of the same creator have."""
    con.execute("CREATE OR REPLACE TEMP TABLE un_identity (text VARCHAR, key VARCHAR)")
    texts = con.execute(
        "SELECT creator FROM un_resource UNION SELECT creator FROM un_host ORDER BY ALL"
    ).fetchall()
    read = ((text, identity(text)) for (text,) in texts if text is not None)
    # Root is the account's, not a person's.
    _insert(
        con, "un_identity", [(text, who.key) for text, who in read if who is not None and who.kind != "root"]
    )


def _insert(con: Connection, table: str, pairs: Sequence[tuple[str, str]]) -> None:
    if pairs:
        firsts, seconds = zip(*pairs, strict=True)
        con.execute(
            f"INSERT INTO {table} SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
            [list(firsts), list(seconds)],
        )
