"""GPUs that an AWS account pays by the hour: EC2 instances, SageMaker endpoints and notebook instances, by CloudWatch.

EC2 measures no card itself: where CloudWatch's agent publishes `nvidia_smi_utilization_gpu` its cards are judged, and
else CPU and network can make a candidate, never a verdict. Endpoints tell their cards' utilisation and invocations.
SageMaker publishes nothing about a notebook instance: unknown, unless an agent in it does. Sources: AWS, "Metrics
collected by the CloudWatch agent", "Amazon SageMaker AI metrics in CloudWatch", "CloudWatch metrics for EC2".
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, NamedTuple

from gpuledger.core.exposition import number
from gpuledger.core.zombies import KEEP_UNTIL, PROTECTED, Holding, HostLoad, Limits, Observation, history
from gpuledger.errors import ConfigError
from gpuledger.pipeline.aws import AwsClient, items, parse_region
from gpuledger.pipeline.aws_login import login
from gpuledger.pipeline.zombie_holders import Machine
from gpuledger.prices import gpu_type

PERIOD: Final = timedelta(minutes=5)
_GAP: Final = timedelta(minutes=16)
_AGENT: Final = "nvidia_smi_utilization_gpu"
_MEMORY: Final = "nvidia_smi_memory_used"
_AT_ONCE: Final = 100  # of 500: a day of five minutes is 288 points each, and 100,800 fit into an answer
_TYPES_AT_ONCE: Final = 100
_FAMILY: Final = re.compile(r"(?:p|g|gr)\d")
_REGION: Final = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+")
_OWNERS: Final = ("owner", "team", "user", "created-by", "createdby", "creator")
_KUBERNETES: Final = re.compile(r"(?:aws:)?eks:cluster-name|kubernetes\.io/cluster/(.+)")
_GROUP: Final = "aws:autoscaling:groupName"
_UNPUBLISHED: Final = f"no GPU metric: let CloudWatch's agent publish {_AGENT}"
_NOTEBOOK: Final = f"SageMaker publishes no metric of notebook instances; an agent in it can publish {_AGENT}"

Samples = list[tuple[datetime, Decimal]]


class Question(NamedTuple):
    """One series of CloudWatch."""

    namespace: str
    metric: str
    dimensions: tuple[tuple[str, str], ...]
    statistic: str


class Cards(NamedTuple):
    """The cards of one machine (an instance, an endpoint's variant, a notebook), and what its price depends on.

    `aliases` are names that other tools call its node by.
    """

    cards: list[Observation]
    machine: Machine
    aliases: frozenset[str]


@dataclass(slots=True)
class Account:
    """One account in one region, asked about [now − look_back, now]."""

    region: str
    profile: str | None
    clients: Mapping[str, AwsClient]
    now: datetime
    look_back: timedelta
    limits: Limits
    _agent: list[tuple[str, dict[str, str]]] | None = field(default=None)

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"AWS {self.region}" + (f", profile {self.profile}" if self.profile else "")

    def instances(self) -> Iterator[Cards]:
        """Yield the cards of running EC2 instances. Raises SourceError when EC2 or CloudWatch refuses."""
        asked = {"Filter.1.Name": "instance-state-name", "Filter.1.Value.1": "running", "MaxResults": "1000"}
        found = [
            one
            for reservation in self.clients["ec2"].queried("DescribeInstances", ("reservationSet",), asked)
            for one in items(reservation, "instancesSet")
        ]
        sizes = self._sizes({str(one.get("instanceType")) for one in found})
        found = [one for one in found if sizes.get(str(one.get("instanceType")))]
        if not found:
            return
        cards = self._measured({str(one["instanceId"]): _aliases(one) for one in found})
        bare = [str(one["instanceId"]) for one in found if str(one["instanceId"]) not in cards]
        hosts = self._hosts(bare)
        for one in found:
            name, kind = str(one["instanceId"]), str(one["instanceType"])
            model, count = sizes[kind]
            base = Observation(
                gpu=name,
                now=self.now,
                node=name,
                gpu_model=model,
                share=share_of(kind),
                holdings=(self._instance(one),),
                why_unknown=_UNPUBLISHED,
                host=hosts.get(name),
            )
            spot = one.get("instanceLifecycle") == "spot"
            machine = Machine(Decimal(count), kind, self.region, spot, model, resource=name)
            yield Cards(self._observed(base, count, cards.get(name, {})), machine, _aliases(one))

    def endpoints(self) -> Iterator[Cards]:
        """Yield the cards of SageMaker endpoints in service, by variant."""
        sagemaker = self.clients["sagemaker"]
        variants = []
        for listed in sagemaker.listed("ListEndpoints", "Endpoints", {"StatusEquals": "InService"}):
            told = sagemaker.json("DescribeEndpoint", {"EndpointName": listed["EndpointName"]})
            config = sagemaker.json(
                "DescribeEndpointConfig", {"EndpointConfigName": told["EndpointConfigName"]}
            )
            kinds = {one.get("VariantName"): one for one in config.get("ProductionVariants") or ()}
            for variant in told.get("ProductionVariants") or ():
                kind = kinds.get(variant.get("VariantName"), {}).get("InstanceType")
                if kind and gpu_type(kind) is not None:
                    variants.append((told, variant, str(kind)))
        names = [(str(told["EndpointName"]), str(variant["VariantName"])) for told, variant, _ in variants]
        series = self._asked([question for name in names for question in _of_endpoint(*name)])
        for (told, variant, kind), (name, part) in zip(variants, names, strict=True):
            yield self._endpoint(told, variant, kind, [series[one] for one in _of_endpoint(name, part)])

    def notebooks(self) -> Iterator[Cards]:
        """Yield the cards of SageMaker notebook instances that run."""
        listed = [
            one
            for one in self.clients["sagemaker"].listed("ListNotebookInstances", "NotebookInstances")
            if one.get("NotebookInstanceStatus") == "InService" and gpu_type(str(one.get("InstanceType")))
        ]
        if not listed:
            return
        cards = self._measured({str(one["NotebookInstanceName"]): frozenset() for one in listed})
        for one in listed:
            name, kind = str(one["NotebookInstanceName"]), str(one["InstanceType"])
            model, count = _size(kind) or ("", 1)
            tags = self._tags(one.get("NotebookInstanceArn"))
            stop = self._command("sagemaker", "stop-notebook-instance", "--notebook-instance-name", name)
            held = _holding("SageMaker notebook", name, tags, _moment(one.get("LastModifiedTime")), stop)
            base = Observation(
                gpu=f"notebook/{name}",
                now=self.now,
                node=f"notebook/{name}",
                gpu_model=model,
                holdings=(replace(held, notebook=True),),
                why_unknown=_NOTEBOOK,
            )
            machine = Machine(Decimal(count), kind, self.region, spot=False, gpu_model=model, resource=name)
            yield Cards(self._observed(base, count, cards.get(name, {})), machine, frozenset())

    def _endpoint(
        self, told: Mapping[str, Any], variant: Mapping[str, Any], kind: str, series: Sequence[Samples]
    ) -> Cards:
        """Judge a variant's instances together: CloudWatch doesn't tell them apart."""
        gpu, cpu, calls = series
        model, each = _size(kind) or ("", 1)
        name, part = str(told["EndpointName"]), str(variant["VariantName"])
        count = int(variant.get("CurrentInstanceCount") or 0)
        delete = self._command("sagemaker", "delete-endpoint", "--endpoint-name", name)
        held = _holding(
            "SageMaker endpoint",
            name,
            self._tags(told.get("EndpointArn")),
            _moment(told.get("CreationTime")),
            delete,
        )
        # Without a call there is no sample of calls: that there were none is told by the others being there.
        served = sum((value for _, value in calls), Decimal(0)) if gpu or cpu or calls else None
        called = {when for when, value in calls if value > 0}
        samples = [(when, min(Decimal(1), value / 100 / each)) for when, value in gpu]
        if not gpu:
            moments = sorted({when for when, _ in (*cpu, *calls)})
            samples = [(when, Decimal(when in called)) for when in moments]
        place = f"{name}/{part}"
        base = Observation(
            gpu=place,
            now=self.now,
            node=place,
            gpu_model=model,
            measure="engine" if gpu else "requests",
            holdings=(replace(held, requests=served),),
            why_unknown="its metrics aren't in CloudWatch",
        )
        seen = {str(index): (samples, None) for index in range(count * each)} if samples else {}
        machine = Machine(Decimal(each), kind, self.region, spot=False, gpu_model=model, resource=name)
        return Cards(self._observed(base, count * each, seen), machine, frozenset())

    def _observed(
        self, base: Observation, count: int, series: Mapping[str, tuple[Samples, Samples | None]]
    ) -> list[Observation]:
        """Return a machine's cards. Those that nobody publishes are there, unmeasured."""
        places = sorted(
            {*series, *(str(index) for index in range(count))}, key=lambda text: (len(text), text)
        )
        found = []
        for place in places[: max(count, len(series))]:
            one = replace(base, gpu=f"{base.gpu}#{place}")
            samples, memory = series.get(place, ([], None))
            told = history(samples, self.limits.idle, _GAP)
            if told is not None:
                recent = told.end - self.limits.warn
                one = replace(
                    one,
                    activity=max(value for when, value in samples if when >= recent),
                    measured_from=told.start,
                    measured_to=min(self.now, told.end + PERIOD),
                    last_busy=None if told.last_busy is None else told.last_busy + PERIOD,
                    idle_share=told.idle_share,
                    memory_used_mib=memory[-1][1] if memory else None,
                    host=None,
                )
            found.append(one)
        return found

    def _instance(self, one: Mapping[str, Any]) -> Holding:
        name = str(one["instanceId"])
        tags = {str(tag.get("key")): str(tag.get("value")) for tag in items(one, "tagSet")}
        cluster = next((found for key in tags if (found := _KUBERNETES.fullmatch(key))), None)
        group, spot = tags.get(_GROUP), one.get("instanceLifecycle") == "spot"
        command: tuple[str, ...] | None
        if cluster is not None:
            command = None  # it is drained by its cluster, which would make another one
        elif group:
            command = self._command(
                "autoscaling", "terminate-instance-in-auto-scaling-group", "--instance-id", name,
                "--should-decrement-desired-capacity",
            )  # fmt: skip
        else:
            verb = "terminate-instances" if spot else "stop-instances"
            command = self._command("ec2", verb, "--instance-ids", name)
        about = [tags.get("Name")]
        if cluster is not None:
            about.append(f"node of {cluster[1] or tags[cluster[0]]}")
        elif group:
            about.append(f"group {group}")
        said = ", ".join(part for part in about if part)
        return _holding(
            "EC2", f"{name} ({said})" if said else name, tags, _moment(one.get("launchTime")), command
        )

    def _command(self, *words: str) -> tuple[str, ...]:
        more = ("--profile", self.profile) if self.profile else ()
        return ("aws", *words, "--region", self.region, *more)

    def _tags(self, arn: object) -> dict[str, str]:
        if not isinstance(arn, str):
            return {}
        listed = self.clients["sagemaker"].listed("ListTags", "Tags", {"ResourceArn": arn})
        return {str(tag.get("Key")): str(tag.get("Value")) for tag in listed}

    def _sizes(self, kinds: set[str]) -> dict[str, tuple[str, int]]:
        """Return model and number of cards by instance type; newer types than we know are asked for."""
        found = {kind: size for kind in kinds if (size := _size(kind)) is not None}
        asked = sorted(kind for kind in kinds - set(found) if _FAMILY.match(kind))
        for start in range(0, len(asked), _TYPES_AT_ONCE):
            some = asked[start : start + _TYPES_AT_ONCE]
            params = {f"InstanceType.{place}": kind for place, kind in enumerate(some, 1)}
            for one in self.clients["ec2"].queried("DescribeInstanceTypes", ("instanceTypeSet",), params):
                cards = items(one, "gpuInfo", "gpus")
                count = sum(int(card.get("count") or 0) for card in cards)
                if count:
                    found[str(one["instanceType"])] = (str(cards[0].get("name")), count)
        return found

    def _measured(
        self, machines: Mapping[str, frozenset[str]]
    ) -> dict[str, dict[str, tuple[Samples, Samples | None]]]:
        """Return utilisation (0 to 1) and memory used (MiB) by machine and index, as CloudWatch's agent publishes them."""
        if self._agent is None:
            listed = self.clients["monitoring"].queried("ListMetrics", ("Metrics",), {"MetricName": _AGENT})
            self._agent = [
                (
                    str(one.get("Namespace")),
                    {str(part["Name"]): str(part["Value"]) for part in items(one, "Dimensions")},
                )
                for one in listed
            ]
        owners = {alias: name for name, aliases in machines.items() for alias in (name, *aliases)}
        wanted: dict[tuple[str, str], tuple[str, tuple[tuple[str, str], ...]]] = {}
        for namespace, dimensions in self._agent:
            name = next((owners[value] for value in dimensions.values() if value in owners), None)
            if name is not None and "index" in dimensions:
                wanted[name, dimensions["index"]] = (namespace, tuple(sorted(dimensions.items())))
        found: dict[str, dict[str, tuple[Samples, Samples | None]]] = defaultdict(dict)
        series = self._asked(
            [
                Question(space, metric, parts, "Maximum")
                for space, parts in wanted.values()
                for metric in (_AGENT, _MEMORY)
            ]
        )
        for (name, index), (space, parts) in wanted.items():
            used = series[Question(space, _AGENT, parts, "Maximum")]
            memory = series[Question(space, _MEMORY, parts, "Maximum")]
            if used:
                shares = [(when, value / 100) for when, value in used if 0 <= value <= 100]  # noqa: PLR2004
                found[name][index] = (shares, memory or None)
        return found

    def _hosts(self, names: Sequence[str]) -> dict[str, HostLoad]:
        """Return what CPU and network did at most, where no card is measured."""
        questions = {
            name: [
                Question("AWS/EC2", metric, (("InstanceId", name),), statistic)
                for metric, statistic in (
                    ("CPUUtilization", "Maximum"),
                    ("NetworkIn", "Sum"),
                    ("NetworkOut", "Sum"),
                )
            ]
            for name in names
        }
        series = self._asked([one for some in questions.values() for one in some])
        found = {}
        for name, asked in questions.items():
            cpu, received, sent = (series[one] for one in asked)
            if not cpu or self.now - (cpu[-1][0] + PERIOD) > self.limits.fresh + PERIOD:
                continue
            # How far back both were quiet: what came before doesn't count.
            moved = {when: Decimal(0) for when, _ in (*received, *sent)}
            for when, value in (*received, *sent):
                moved[when] += value / int(PERIOD.total_seconds())
            since, highest, most = self.now, Decimal(0), Decimal(0)
            for when, value in reversed(cpu):
                busy = (
                    value / 100 > self.limits.host_cpu or moved.get(when, Decimal(0)) > self.limits.host_bytes
                )
                if busy or since - when > _GAP:
                    break
                since, highest, most = when, max(highest, value / 100), max(most, moved.get(when, Decimal(0)))
            seconds = int((self.now - since).total_seconds())
            if seconds:
                found[name] = HostLoad(seconds, highest, most if moved else None)
        return found

    def _asked(self, questions: Sequence[Question]) -> dict[Question, Samples]:
        """Return each series' samples of five minutes, oldest first; one that isn't there is empty."""
        found: dict[Question, Samples] = {one: [] for one in questions}
        listed = list(found)
        for start in range(0, len(listed), _AT_ONCE):
            some = listed[start : start + _AT_ONCE]
            asked = self.clients["monitoring"].queried(
                "GetMetricData", ("MetricDataResults",), self._params(some)
            )
            for answer in asked:
                place = str(answer.get("Id"))[1:]
                moments, values = answer.get("Timestamps") or [], answer.get("Values") or []
                if not place.isdigit() or int(place) >= len(some):
                    continue
                for when, value in zip(moments, values, strict=False):
                    moment, amount = _moment(when), number(str(value))
                    if moment is not None and amount is not None:
                        found[some[int(place)]].append((moment, amount))
        return {one: sorted(samples) for one, samples in found.items()}

    def _params(self, some: Sequence[Question]) -> dict[str, str]:
        seconds = int(PERIOD.total_seconds())
        begin = int((self.now - self.look_back).timestamp()) // seconds * seconds
        params = {
            "StartTime": f"{datetime.fromtimestamp(begin, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "EndTime": f"{self.now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "ScanBy": "TimestampAscending",
        }
        for place, one in enumerate(some):
            here = f"MetricDataQueries.member.{place + 1}"
            params |= {
                f"{here}.Id": f"q{place}",
                f"{here}.MetricStat.Stat": one.statistic,
                f"{here}.MetricStat.Period": str(seconds),
                f"{here}.MetricStat.Metric.Namespace": one.namespace,
                f"{here}.MetricStat.Metric.MetricName": one.metric,
            }
            for index, (name, value) in enumerate(one.dimensions, 1):
                there = f"{here}.MetricStat.Metric.Dimensions.member.{index}"
                params |= {f"{there}.Name": name, f"{there}.Value": value}
        return params


def account(
    where: str, environ: Mapping[str, str], now: datetime, look_back: timedelta, limits: Limits
) -> Account:
    """Return the account that `[PROFILE][/REGION]` names. Raises ConfigError when keys or region aren't known."""
    profile, _, region = where.partition("/")
    if not region and _REGION.fullmatch(profile):
        profile, region = "", profile
    found = login(environ, profile or None)
    chosen = region or found.region
    if not chosen:
        raise ConfigError("no AWS region", where="--aws", hint="Give --aws /us-east-1, or set AWS_REGION.")
    chosen = parse_region(chosen, "--aws")
    services = ("ec2", "monitoring", "sagemaker")
    clients = {
        name: AwsClient(name, chosen, found.credentials, environ, timeout=8.0, tries=3) for name in services
    }
    return Account(chosen, profile or None, clients, now, look_back, limits)


def _size(kind: str) -> tuple[str, int] | None:
    """Return model and number of cards of an instance type that we know; a shared card counts as one."""
    known = gpu_type(kind)
    return (
        None if known is None or known.gpu_count is None else (known.gpu_model, max(1, int(known.gpu_count)))
    )


def share_of(kind: str) -> Fraction:
    """Return the part of a card that an instance type has: some have an eighth of one."""
    known = gpu_type(kind)
    return Fraction(1) if known is None or known.gpu_count is None else min(Fraction(1), known.gpu_count)


def _of_endpoint(name: str, part: str) -> list[Question]:
    dimensions = (("EndpointName", name), ("VariantName", part))
    return [
        Question("/aws/sagemaker/Endpoints", "GPUUtilization", dimensions, "Maximum"),
        Question("/aws/sagemaker/Endpoints", "CPUUtilization", dimensions, "Maximum"),
        Question("AWS/SageMaker", "Invocations", dimensions, "Sum"),
    ]


def _aliases(one: Mapping[str, Any]) -> frozenset[str]:
    """Return the names by which a cluster or an agent calls an instance."""
    names = [str(one.get(key) or "") for key in ("privateDnsName", "privateIpAddress", "instanceId")]
    return frozenset({*names, *(name.partition(".")[0] for name in names[:1])} - {""})


def _holding(
    kind: str, name: str, tags: Mapping[str, str], started: datetime | None, command: tuple[str, ...] | None
) -> Holding:
    lower = {key.lower(): value for key, value in tags.items()}
    return Holding(
        job=name,
        kind=kind,
        owner=next((lower[key] for key in _OWNERS if lower.get(key)), None),
        started=started,
        marks={key: tags[key] for key in (PROTECTED, KEEP_UNTIL) if key in tags},
        live=True,
        command=command,
    )


def _moment(value: object) -> datetime | None:
    """Read a time as either protocol writes it."""
    if isinstance(value, int | Decimal):
        return datetime.fromtimestamp(float(value), UTC)
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
