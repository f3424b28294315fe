"""Who we are to AWS: the order of keys, files, roles and endpoints, as AWS' own tools take them."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from tests.pipeline.moto_server import moto

from gpuledger.errors import ConfigError, GpuledgerError
from gpuledger.pipeline.aws import parse_region
from gpuledger.pipeline.aws_login import at_hand, login

CONFIG = """\
[default]
region = eu-west-1
[profile base]
aws_access_key_id = BASE
aws_secret_access_key = hush
region = us-west-2
s3 =
    max_concurrent_requests = 10
[profile role]
role_arn = arn:aws:iam::123456789012:role/reader
source_profile = base
[profile mfa]
role_arn = arn:aws:iam::123456789012:role/reader
source_profile = base
mfa_serial = arn:aws:iam::123456789012:mfa/amy
[profile loop]
role_arn = arn:aws:iam::123456789012:role/reader
source_profile = pool
[profile pool]
role_arn = arn:aws:iam::123456789012:role/reader
source_profile = loop
[profile process]
credential_process = /bin/something
[profile sso]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = Reader
[sso-session corp]
sso_start_url = https://corp.awsapps.com/start
sso_region = us-east-1
"""
CREDENTIALS = "[default]\naws_access_key_id = FILE\naws_secret_access_key = hush\n"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(CONFIG)
    (tmp_path / ".aws/credentials").write_text(CREDENTIALS)
    return {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.mark.parametrize(
    ("more", "profile", "key", "region"),
    [
        ({}, None, "FILE", "eu-west-1"),
        ({"AWS_PROFILE": "base"}, None, "BASE", "us-west-2"),
        ({"AWS_PROFILE": "base", "AWS_REGION": "ap-south-1"}, None, "BASE", "ap-south-1"),
        ({"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "hush"}, None, "ENV", "eu-west-1"),
        # A profile that is named beats the environment's keys.
        ({"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "hush"}, "base", "BASE", "us-west-2"),
    ],
)
def test_order(
    home: dict[str, str], more: dict[str, str], profile: str | None, key: str, region: str
) -> None:
    found = login({**home, **more}, profile)
    assert (found.credentials.access_key, found.region) == (key, region)


@pytest.mark.parametrize(
    ("more", "profile", "words"),
    [
        ({}, "nobody", "no AWS profile 'nobody'"),
        ({}, "mfa", "MFA"),
        ({}, "process", "has no keys"),
        ({}, "loop", "has no keys"),
        ({}, "sso", "not signed on"),
        ({"AWS_ACCESS_KEY_ID": "ENV"}, None, "go together"),
        ({"HOME": "/nonexistent"}, None, "no AWS keys"),
        ({"AWS_CONFIG_FILE": "/proc/self/mem"}, None, "can't be read"),
        (
            {"HOME": "/nonexistent", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://evil.example/keys"},
            None,
            "not an address of container credentials",
        ),
    ],
)
def test_what_can_not_work_is_said(
    home: dict[str, str], more: dict[str, str], profile: str | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        login({**home, **more}, profile)
    assert caught.value.hint
    assert "hush" not in str(caught.value)


def test_a_sign_on_that_is_over(home: dict[str, str]) -> None:
    cache = Path(home["HOME"]) / ".aws/sso/cache"
    cache.mkdir(parents=True)
    name = hashlib.sha1(b"corp", usedforsecurity=False).hexdigest()
    past = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    (cache / f"{name}.json").write_text(json.dumps({"accessToken": "hush", "expiresAt": past}))
    with pytest.raises(ConfigError, match="is over") as caught:
        login(home, "sso")
    assert caught.value.hint == "aws sso login --profile sso"


KEYS = {"AccessKeyId": "GIVEN", "SecretAccessKey": "hush", "Token": "t", "Expiration": "2030-01-01T00:00:00Z"}


def test_a_container(httpserver: HTTPServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("let me in\n")
    httpserver.expect_request("/keys", headers={"Authorization": "let me in"}).respond_with_json(KEYS)
    found = login(
        {
            "HOME": str(tmp_path),
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": httpserver.url_for("/keys"),
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
            "AWS_REGION": "us-east-1",
        }
    ).credentials
    assert (found.access_key, found.session_token) == ("GIVEN", "t")
    assert found.expires == datetime(2030, 1, 1, tzinfo=UTC)


def test_an_instance(httpserver: HTTPServer, tmp_path: Path) -> None:
    said = {"x-aws-ec2-metadata-token": "tok"}
    folder = "/latest/meta-data/iam/security-credentials/"
    httpserver.expect_request("/latest/api/token", method="PUT").respond_with_data("tok")
    httpserver.expect_request(folder, headers=said).respond_with_data("gpu-role")
    httpserver.expect_request(f"{folder}gpu-role", headers=said).respond_with_json(KEYS)
    httpserver.expect_request("/latest/meta-data/placement/region", headers=said).respond_with_data(
        "eu-north-1"
    )
    environ = {"HOME": str(tmp_path), "AWS_EC2_METADATA_SERVICE_ENDPOINT": httpserver.url_for("/")}
    found = login(environ)
    assert (found.credentials.access_key, found.region) == ("GIVEN", "eu-north-1")
    httpserver.clear()
    with pytest.raises(GpuledgerError):
        login(environ)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with moto(tmp_path_factory.mktemp("sts")) as found:
        yield found


@pytest.mark.server
def test_roles_are_assumed(server: dict[str, str], home: dict[str, str], tmp_path: Path) -> None:
    environ = {**home, "AWS_ENDPOINT_URL": server["AWS_ENDPOINT_URL"]}
    found = login(environ, "role").credentials
    assert found.access_key.startswith("ASIA")
    assert found.session_token
    (tmp_path / "jwt").write_text("a.b.c")
    web = {
        **environ,
        "HOME": str(tmp_path / "nobody"),
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/pod",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "jwt"),
        "AWS_REGION": "us-east-1",
    }
    assert login(web).credentials.access_key.startswith("ASIA")


def test_whether_keys_are_at_hand_asks_nobody(home: dict[str, str]) -> None:
    assert at_hand(home)
    assert at_hand({"AWS_WEB_IDENTITY_TOKEN_FILE": "x"})
    assert not at_hand({"HOME": "/nonexistent"})


@pytest.mark.parametrize("text", ["mars", "us-east-1.evil.example/", "us_east_1", ""])
def test_a_region_is_part_of_an_address(text: str) -> None:
    with pytest.raises(ConfigError, match="no region"):
        parse_region(text, "--aws")
