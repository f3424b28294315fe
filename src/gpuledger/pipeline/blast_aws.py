"""What AWS' quotas let a mistake start: pools of a region's headroom, and quotas of pools that were typed.

Asks ServiceQuotas for the quota, EC2 for what runs and for the sizes of instance types. Needs servicequotas:GetServiceQuota,
ec2:DescribeInstances and ec2:DescribeInstanceTypes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from gpuledger.core.aws_quotas import QUOTAS, Headroom, Kind, Quota, used_vcpus, worst_kind
from gpuledger.errors import ConfigError, SourceError
from gpuledger.pipeline.aws import AwsClient, AwsError, items, parse_region
from gpuledger.pipeline.aws_login import login
from gpuledger.pipeline.blast_live import Found, Live
from gpuledger.pipeline.blast_radius import Written
from gpuledger.prices import gpu_type, gpu_types, price_at

_PAGE: Final = 100  # instance types by name in one request
_MISSING: Final = ("NoSuchResourceException",)


def quotas(live: Live, typed: Sequence[Written], found: Found) -> list[Written]:
    """Return the typed pools, those of AWS with their quota; add a pool for each quota that no typed pool is of.

    Raises ConfigError without keys or region, SourceError when AWS can't be asked.
    """
    me = login(live.environ)
    regions = [parse_region(one, "--aws-region") for one in live.regions] or [me.region or ""]
    if not regions[0]:
        raise ConfigError("no region", where="AWS", hint="Give --aws-region us-east-1, or set AWS_REGION.")
    given = list(typed)
    for region in regions:
        clients = {
            service: AwsClient(service, region, me.credentials, live.environ)
            for service in ("ec2", "servicequotas")
        }
        running = _running(clients["ec2"])
        wanted = {one.values["instance_type"].lower() for one in typed if _is_of(one, region)}
        kinds = _kinds(clients["ec2"], region, {*running, *wanted}, live)
        for quota in QUOTAS:
            given = _quota(
                quota, _limit(clients["servicequotas"], quota), running, kinds, region, given, found
            )
    return given


def _quota(
    quota: Quota,
    limit: int,
    running: Sequence[str],
    kinds: Mapping[str, Kind],
    region: str,
    given: list[Written],
    found: Found,
) -> list[Written]:
    source = f"AWS Service Quotas, {region}"
    used, unknown = used_vcpus(quota, running, kinds)
    if unknown:
        found.tell(
            "blast-radius-unknown-size",
            "warning",
            source,
            f"the vCPUs of {', '.join(unknown)} aren't known: what runs is more",
            "",
        )
    mine = [one for one in given if _is_of(one, region) and quota.counts(one.values["instance_type"])]
    if mine:
        known = {id(one): _filled(one, quota, limit, used, kinds, source) for one in mine}
        return [known.get(id(one), one) for one in given]
    chosen = worst_kind(quota, limit - used, running, kinds)
    if chosen is None:
        left = max(limit - used, 0)
        found.tell(
            "blast-radius-no-headroom", "info", source,
            f"{quota.code} {quota.name}: {left:,} of {limit:,} vCPUs are left, too few for any GPU instance with a known price",
            "",
        )  # fmt: skip
        return given
    room = Headroom(quota, limit, used, *chosen)
    values = {
        "name": f"AWS {room.kind.instance_type} {region}"[:60],
        "gpus": str(room.gpus),
        "quota": str(room.gpus),
        "instance_type": room.kind.instance_type,
        "region": region,
    }
    origins = dict.fromkeys(values, source) | {
        "gpus": f"{source}: as many as the quota lets through",
        "quota": f"{source}: {room.told}",
        "instance_type": f"{source}: {room.why}",
    }
    found.written.append(Written(values, origins))
    return given


def _is_of(one: Written, region: str) -> bool:
    kind = gpu_type(one.values.get("instance_type", ""))
    return one.values.get("region", "").lower() == region and kind is not None and kind.cloud == "aws" and (
        one.values.get("pricing", "on-demand") != "spot"
    )  # fmt: skip


def _filled(
    one: Written, quota: Quota, limit: int, used: int, kinds: Mapping[str, Kind], source: str
) -> Written:
    """A typed pool with its quota; without a number of its own it asks for as many GPUs as that lets through."""
    kind = kinds.get(one.values["instance_type"].lower())
    if kind is None or "quota" in one.values:
        return one
    room = Headroom(quota, limit, used, kind, "")
    values, origins = dict(one.values), dict(one.origins)
    values["quota"], origins["quota"] = str(room.gpus), f"{source}: {room.told}"
    if "gpus" not in values and "instances" not in values and room.gpus:
        values["gpus"], origins["gpus"] = str(room.gpus), f"{source}: as many as the quota lets through"
    return replace(one, values=values, origins=origins)


def _limit(client: AwsClient, quota: Quota) -> int:
    asked = {"ServiceCode": "ec2", "QuotaCode": quota.code}
    try:
        answer = client.json("GetServiceQuota", asked)
    except AwsError as error:
        if error.code not in _MISSING:
            raise
        answer = client.json("GetAWSDefaultServiceQuota", asked)  # the account never had another
    told = answer.get("Quota")
    value = told.get("Value") if isinstance(told, Mapping) else None
    if not isinstance(value, int | Decimal):
        raise SourceError(f"no value of {quota.code}", where=client.where, hint="Try again later.")
    return int(value)


def _running(client: AwsClient) -> list[str]:
    """Types of the instances that are pending or running on demand."""
    params = {
        "Filter.1.Name": "instance-state-name",
        "Filter.1.Value.1": "pending",
        "Filter.1.Value.2": "running",
    }
    return [
        str(one["instanceType"]).lower()
        for reservation in client.queried("DescribeInstances", ("reservationSet",), params)
        for one in items(reservation, "instancesSet")
        if one.get("instanceType") and not one.get("instanceLifecycle")
    ]


def _kinds(client: AwsClient, region: str, more: Iterable[str], live: Live) -> dict[str, Kind]:
    """Sizes and prices of the types that run or are typed, and of all GPU types with a price in the region."""
    names = {
        one.instance_type
        for one in gpu_types()
        if one.cloud == "aws" and _price(one.instance_type, region, live) is not None
    }
    names = {
        name
        for name in {*names, *more}
        if not name.startswith("ml.") and any(quota.counts(name) for quota in QUOTAS)
    }
    found: dict[str, Kind] = {}
    ordered = sorted(names)
    for start in range(0, len(ordered), _PAGE):
        # As a filter, names that the region doesn't know are no error.
        part = ordered[start : start + _PAGE]
        params = {
            "Filter.1.Name": "instance-type",
            **{f"Filter.1.Value.{place}": name for place, name in enumerate(part, 1)},
        }
        for one in client.queried("DescribeInstanceTypes", ("instanceTypeSet",), params):
            kind = _kind(one, region, live)
            if kind is not None:
                found[kind.instance_type] = kind
    return found


def _kind(one: Mapping[str, Any], region: str, live: Live) -> Kind | None:
    name, cpu = str(one.get("instanceType", "")).lower(), one.get("vCpuInfo")
    vcpus = str(cpu.get("defaultVCpus", "")) if isinstance(cpu, Mapping) else ""
    if not name or not vcpus.isdecimal() or not int(vcpus):
        return None
    known = gpu_type(name)
    gpus = sum(
        int(gpu["count"]) for gpu in items(one, "gpuInfo", "gpus") if str(gpu.get("count", "")).isdecimal()
    )
    count = int(known.gpu_count) if known is not None and known.gpu_count else gpus
    return Kind(name, int(vcpus), count, _price(name, region, live))


def _price(name: str, region: str, live: Live) -> Decimal | None:
    point = price_at(name, region, live.today)
    return None if point is None else point.on_demand
