"""Zombies of an AWS account, asked of moto's server over signed HTTP: EC2, SageMaker endpoints and notebooks."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from tests.pipeline.moto_server import client, measure, moto
from tests.surfaces.shell import gpuledger

from gpuledger.core.zombies import KEEP_UNTIL, PROTECTED
from gpuledger.errors import GpuledgerError
from gpuledger.pipeline.aws import AwsClient, items
from gpuledger.pipeline.zombie_aws import share_of
from gpuledger.pipeline.zombies import Inputs, Scan, Settings, scan

pytestmark = pytest.mark.server
NOW = datetime(2026, 1, 1, tzinfo=UTC)  # the fixtures set it
AGENT = "nvidia_smi_utilization_gpu"


def samples(value: float, hours: float = 6, until: float = 0) -> list[tuple[datetime, float]]:
    """Return one sample a five minutes; `until` is hours before now."""
    return [
        (NOW - timedelta(hours=until) - timedelta(minutes=5 * step), value)
        for step in range(1, int(hours * 12))
    ]


def launch(environ: dict[str, str], kind: str, name: str, **tags: str) -> str:
    params = {"ImageId": "ami-12c6146b", "MinCount": "1", "MaxCount": "1", "InstanceType": kind}
    params |= {"TagSpecification.1.ResourceType": "instance"}
    for place, (key, value) in enumerate({"Name": name, **tags}.items(), 1):
        params |= {
            f"TagSpecification.1.Tag.{place}.Key": key,
            f"TagSpecification.1.Tag.{place}.Value": value,
        }
    answer = client(environ, "ec2").query("RunInstances", params)
    return str(items(answer, "instancesSet")[0]["instanceId"])


def cards_of(environ: dict[str, str], instance: str, *values: float, until: float = 0) -> None:
    for index, value in enumerate(values):
        said = {"InstanceId": instance, "index": str(index), "name": "Tesla T4", "arch": "Turing"}
        measure(environ, "CWAgent", AGENT, samples(value, until=until), **said)
        measure(environ, "CWAgent", "nvidia_smi_memory_used", samples(9000, until=until), **said)


def host_of(environ: dict[str, str], instance: str, cpu: float, sent: float) -> None:
    measure(environ, "AWS/EC2", "CPUUtilization", samples(cpu), InstanceId=instance)
    measure(environ, "AWS/EC2", "NetworkIn", samples(sent), InstanceId=instance)


def endpoint(
    environ: dict[str, str], name: str, calls: float | None, gpu: float | None, cpu: float | None
) -> None:
    sagemaker = client(environ, "sagemaker")
    role = "arn:aws:iam::123456789012:role/Any"
    sagemaker.json(
        "CreateModel", {"ModelName": name, "ExecutionRoleArn": role, "PrimaryContainer": {"Image": "x"}}
    )
    variant = {
        "VariantName": "all", "ModelName": name, "InitialInstanceCount": 2, "InstanceType": "ml.g4dn.2xlarge",
    }  # fmt: skip
    sagemaker.json("CreateEndpointConfig", {"EndpointConfigName": name, "ProductionVariants": [variant]})
    tags = [{"Key": "Owner", "Value": "amy"}]
    sagemaker.json("CreateEndpoint", {"EndpointName": name, "EndpointConfigName": name, "Tags": tags})
    said = {"EndpointName": name, "VariantName": "all"}
    for space, metric, value in (
        ("AWS/SageMaker", "Invocations", calls),
        ("/aws/sagemaker/Endpoints", "GPUUtilization", gpu),
        ("/aws/sagemaker/Endpoints", "CPUUtilization", cpu),
    ):
        if value is not None:
            measure(environ, space, metric, samples(value), **said)


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with moto(tmp_path_factory.mktemp("aws")) as found:
        yield found


@pytest.fixture(scope="module")
def ids(environ: dict[str, str]) -> dict[str, str]:
    """Return the account's instances by name. Samples are dated from now on, however long ago this file was read."""
    global NOW  # noqa: PLW0603 - samples are dated by it
    NOW = datetime.now(UTC).replace(second=0, microsecond=0)
    found = {
        "idle": launch(environ, "g4dn.12xlarge", "idle", team="vision"),
        "half": launch(environ, "g4dn.12xlarge", "half"),
        "kept": launch(environ, "g4dn.xlarge", "kept", **{PROTECTED: "true"}),
        "expired": launch(environ, "g4dn.xlarge", "expired", **{KEEP_UNTIL: "2020-01-01"}),
        "silent": launch(environ, "g4dn.xlarge", "silent"),
        "quiet": launch(environ, "p3.2xlarge", "quiet"),
        "loud": launch(environ, "p3.2xlarge", "loud"),
        "blind": launch(environ, "p3.2xlarge", "blind"),
        "node": launch(environ, "g4dn.xlarge", "node", **{"eks:cluster-name": "prod"}),
        "scaled": launch(environ, "g4dn.xlarge", "scaled", **{"aws:autoscaling:groupName": "asg-1"}),
        "web": launch(environ, "m5.large", "web"),
    }
    cards_of(environ, found["idle"], 0, 0, 0, 0)
    cards_of(environ, found["half"], 0, 0, 80, 0)
    for name in ("kept", "expired", "node", "scaled"):
        cards_of(environ, found[name], 0)
    cards_of(environ, found["silent"], 0, until=2)
    host_of(environ, found["quiet"], 1.5, 1000)
    host_of(environ, found["loud"], 40, 10_000_000)
    endpoint(environ, "cold", None, 0, 2)
    endpoint(environ, "warm", 3, 0, 2)
    endpoint(environ, "works", 900, 60, 30)
    endpoint(environ, "plain", None, None, 2)
    endpoint(environ, "dark", None, None, None)
    client(environ, "sagemaker").json(
        "CreateNotebookInstance",
        {
            "NotebookInstanceName": "lab", "InstanceType": "ml.p3.2xlarge",
            "RoleArn": "arn:aws:iam::123456789012:role/Any",
        },
    )  # fmt: skip
    return found


def look(environ: dict[str, str], **more: Any) -> Scan:  # noqa: ANN401 - settings
    # moto says that instances were launched now: an hour later nothing is starting up any more.
    settings = Settings(environ=environ, show_all=True, look_back=timedelta(hours=7), **more)
    return scan(Inputs(aws=("",)), settings)


@pytest.fixture(scope="module")
def found(environ: dict[str, str], ids: dict[str, str]) -> Scan:
    assert ids
    return look(environ)


@pytest.fixture(scope="module")
def rows(found: Scan) -> dict[str, dict[str, Any]]:
    assert not found.failed, found.diagnostics
    return {row["gpu"]: row for row in found.rows}


def test_states_of_instances(rows: dict[str, dict[str, Any]], ids: dict[str, str]) -> None:
    def states(name: str) -> list[str]:
        return [row["state"] for gpu, row in rows.items() if gpu.startswith(f"{ids[name]}#")]

    assert states("silent") == ["unknown"]  # no measurement for two hours isn't idleness
    assert states("loud") == ["unknown"]
    assert states("blind") == ["unknown"]
    assert states("quiet") == ["held-idle"]
    assert not any(ids["web"] in gpu for gpu in rows)  # it has no GPU


def test_what_nobody_measures_is_never_a_verdict(
    rows: dict[str, dict[str, Any]], ids: dict[str, str]
) -> None:
    row = rows[f"{ids['quiet']}#0"]
    assert not row["verdict"]
    assert row["evidence"].startswith("no GPU metric; CPU ≤ 1.5 %, network ≤ 0.0 kB/s for ")
    assert AGENT in rows[f"{ids['blind']}#0"]["evidence"]
    assert (row["since"], row["wasted_usd"]) == (None, None)


def test_starting_instances_are_left_alone(rows: dict[str, dict[str, Any]], ids: dict[str, str]) -> None:
    assert rows[f"{ids['idle']}#0"]["state"] == "busy"  # launched a moment ago: idle for 0 min only


@pytest.fixture(scope="module")
def later(environ: dict[str, str], ids: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The same account after two more hours of the same."""
    global NOW  # noqa: PLW0603 - samples are dated by it
    NOW += timedelta(hours=2)
    for name in ("idle", "half"):
        cards_of(environ, ids[name], 0, 0, 0 if name == "idle" else 80, 0)
    for name in ("kept", "expired", "node", "scaled"):
        cards_of(environ, ids[name], 0)
    for name, calls, gpu, cpu in (
        ("cold", None, 0.0, 2.0),
        ("warm", 3.0, 0.0, 2.0),
        ("plain", None, None, 2.0),
    ):
        said = {"EndpointName": name, "VariantName": "all"}
        for space, metric, value in (
            ("AWS/SageMaker", "Invocations", calls),
            ("/aws/sagemaker/Endpoints", "GPUUtilization", gpu),
            ("/aws/sagemaker/Endpoints", "CPUUtilization", cpu),
        ):
            if value is not None:
                measure(environ, space, metric, samples(value, 2), **said)
    result = look(environ, at=NOW)
    assert not result.failed, result.diagnostics
    return {row["gpu"]: row for row in result.rows}


def test_verdicts_guards_and_commands(later: dict[str, dict[str, Any]], ids: dict[str, str]) -> None:
    row = later[f"{ids['idle']}#3"]
    assert (row["state"], row["verdict"], row["owner"]) == ("held-idle", True, "vision")
    assert row["job"] == f"EC2/{ids['idle']} (idle)"
    assert row["reclaim"] == f"aws ec2 stop-instances --instance-ids {ids['idle']} --region us-east-1"
    assert row["idle_seconds"] >= 3600
    assert "8.8 GiB resident" in row["evidence"]
    assert row["price_basis"].startswith("on-demand list price of g4dn.12xlarge")
    assert [later[f"{ids['half']}#{place}"]["state"] for place in range(4)].count("busy") == 1
    # A machine is given back as a whole: a busy card keeps its three idle ones.
    assert {later[f"{ids['half']}#{place}"]["reclaim"] for place in range(4)} == {None}
    assert later[f"{ids['kept']}#0"]["guard"] == f"protected by {PROTECTED}"
    assert f"{KEEP_UNTIL} has passed" in later[f"{ids['expired']}#0"]["evidence"]


def test_nodes_of_clusters_are_not_stopped_behind_their_backs(
    later: dict[str, dict[str, Any]], ids: dict[str, str]
) -> None:
    row = later[f"{ids['node']}#0"]
    assert (row["verdict"], row["reclaim"]) == (True, None)
    assert "node of prod" in row["job"]
    assert "terminate-instance-in-auto-scaling-group" in later[f"{ids['scaled']}#0"]["reclaim"]


def test_endpoints(later: dict[str, dict[str, Any]]) -> None:
    cold, plain = later["cold/all#0"], later["plain/all#1"]
    assert (cold["state"], cold["verdict"], cold["owner"]) == ("held-idle", True, "amy")
    assert cold["reclaim"] == "aws sagemaker delete-endpoint --endpoint-name cold --region us-east-1"
    assert "no request served" in cold["evidence"]
    assert cold["price_basis"].startswith("at least: EC2's on-demand list price of g4dn.2xlarge")
    assert plain["evidence"].startswith("no request came, for ")
    assert (later["warm/all#0"]["guard"] or "").startswith("warm replica: ")
    assert later["dark/all#0"]["state"] == "unknown"


def test_a_working_endpoint_and_a_notebook(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["works/all#1"]["state"] == "busy"
    assert rows["notebook/lab#0"]["state"] == "unknown"
    assert "publishes no metric" in rows["notebook/lab#0"]["evidence"]


def test_instances_with_a_part_of_a_card() -> None:
    assert share_of("g6f.large") == Fraction(1, 8)
    assert share_of("g6.48xlarge") == 1
    assert share_of("p99.new") == 1


def test_as_a_shell_asks(environ: dict[str, str], ids: dict[str, str]) -> None:
    nothing = {"PATH": "/nonexistent", "KUBECONFIG": "", "PROMETHEUS_URL": ""}
    for words in (("--aws",), ("--aws", "us-east-1"), ("--aws", "/us-east-1"), ()):
        run = gpuledger("--format", "json", "zombies", *words, environ={**nothing, **environ})
        assert any(row["gpu"] == f"{ids['quiet']}#0" for row in run.document["rows"]), words
    run = gpuledger("--format", "json", "zombies", "--aws", "/mars", environ={**nothing, **environ})
    assert (run.code, run.document["diagnostics"][0]["code"]) == (3, "zombies-source-failed")
    assert "no region" in run.document["diagnostics"][0]["message"]


def test_services_that_refuse_are_told_and_the_others_answer(
    environ: dict[str, str], ids: dict[str, str], httpserver: HTTPServer
) -> None:
    assert ids
    httpserver.expect_request("/").respond_with_data(
        '{"__type":"com.amazon#AccessDeniedException","Message":"User: x is not authorized"}', 400
    )
    found = look({**environ, "AWS_ENDPOINT_URL_SAGEMAKER": httpserver.url_for("/")})
    assert found.failed
    assert found.totals["gpus"] > 0
    refused = [told for told in found.diagnostics if told.severity == "error"]
    assert len(refused) == 2
    assert all("AccessDeniedException" in told.message and "sagemaker:List" in told.hint for told in refused)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, '{"__type":"ExpiredTokenException","message":"expired"}', "log in again"),
        (403, '{"__type":"UnrecognizedClientException"}', "doesn't know these keys"),
        (403, '{"__type":"InvalidSignatureException"}', "clock"),
        (503, "", "Try again later"),
        (400, '{"__type":"ThrottlingException"}', "Try again later"),
        (200, '{"Endpoints": [', "proxy"),
        (200, "<html>login</html>", "proxy"),
    ],
)
def test_answers_that_are_none(httpserver: HTTPServer, status: int, body: str, words: str) -> None:
    httpserver.expect_request("/").respond_with_data(body, status)
    asked = AwsClient(
        "sagemaker", "us-east-1", None, {"AWS_ENDPOINT_URL": httpserver.url_for("/")}, sleep=lambda _: None
    )
    with pytest.raises(GpuledgerError) as caught:
        list(asked.listed("ListEndpoints", "Endpoints"))
    assert words in (caught.value.hint or "")


@pytest.mark.parametrize("body", ["", "<a><b>", "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", "no xml"])
def test_xml_that_is_none(httpserver: HTTPServer, body: str) -> None:
    httpserver.expect_request("/").respond_with_data(body)
    asked = AwsClient("ec2", "us-east-1", None, {"AWS_ENDPOINT_URL": httpserver.url_for("/")})
    with pytest.raises(GpuledgerError):
        asked.query("DescribeInstances")
