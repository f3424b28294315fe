"""AWS Signature Version 4 against AWS' documented examples, and against AWS' own SDK as an oracle."""

from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuledger.core.aws_signing import Credentials, Scope, signed

# The keys and time of AWS' "Signature Version 4 test suite" and of its worked example (IAM's ListUsers).
KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
HOST = "https://example.amazonaws.com"


@pytest.mark.parametrize(
    ("method", "url", "headers", "body", "service", "signature"),
    [
        ("GET", f"{HOST}/", {}, b"", "service", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "GET", f"{HOST}/?Param2=value2&Param1=value1", {}, b"", "service",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        ("POST", f"{HOST}/", {}, b"", "service", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "POST", f"{HOST}/", FORM, b"Param1=value1", "service",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "GET", "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
            {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}, b"", "iam",
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        ),
    ],
)  # fmt: skip
def test_documented_examples(
    method: str, url: str, headers: dict[str, str], body: bytes, service: str, signature: str
) -> None:
    found = signed(method, url, headers, body, KEYS, Scope(service, "us-east-1", AT))
    assert found["authorization"].endswith(f"Signature={signature}")
    assert f"Credential=AKIDEXAMPLE/20150830/us-east-1/{service}/aws4_request" in found["authorization"]


words = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)


@given(
    st.dictionaries(words.filter(bool), words, max_size=4),
    st.text("abcXYZ019-_.~ é", max_size=10),
    st.binary(max_size=40),
    st.none() | st.just("a/session+token=="),
)
def test_as_the_vendors_sdk_signs(
    params: dict[str, str], segment: str, body: bytes, token: str | None
) -> None:
    auth = pytest.importorskip("botocore.auth")
    request = pytest.importorskip("botocore.awsrequest").AWSRequest
    keys = pytest.importorskip("botocore.credentials").Credentials(KEYS.access_key, KEYS.secret_key, token)
    from urllib.parse import quote

    url = f"{HOST}/{quote(segment.strip('.'))}" + (
        f"?{urlencode(params)}".replace("+", "%20") if params else ""
    )
    asked = request(method="POST", url=url, data=body, headers={"Content-Type": "text/plain"})
    signer = auth.SigV4Auth(keys, "ec2", "eu-west-1")
    scope = Scope("ec2", "eu-west-1", AT)
    asked.context["timestamp"] = scope.moment
    asked.headers["X-Amz-Date"] = scope.moment
    if token:
        asked.headers["X-Amz-Security-Token"] = token
    expected = signer.signature(signer.string_to_sign(asked, signer.canonical_request(asked)), asked)
    own = Credentials(KEYS.access_key, KEYS.secret_key, token)
    found = signed("POST", url, {"Content-Type": "text/plain"}, body, own, scope)
    assert found["authorization"].endswith(f"Signature={expected}")


def test_secrets_are_not_in_what_is_printed() -> None:
    shown = repr(Credentials("AKID", "hush", "hush"))
    assert "hush" not in shown
