"""Ways into a cluster: kubeconfigs of every sort, a pod's service account, TLS and client certificates."""

import base64
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.telemetry.fake_api_server import FakeApiServer

from gpuledger.errors import ConfigError, SourceError
from gpuledger.telemetry.kubernetes import Options, connect
from gpuledger.telemetry.kubernetes.access import Access, find, from_kubeconfig, in_cluster
from gpuledger.telemetry.kubernetes.api import Api
from gpuledger.telemetry.kubernetes.cluster import ALWAYS, OPTIONAL

pytestmark = pytest.mark.server


def config(
    folder: Path, user: Mapping[str, Any] | None = None, cluster: Mapping[str, Any] | None = None
) -> Path:
    """Write a kubeconfig with one context `dev` of cluster `c` and user `u`."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "dev",
        "contexts": [{"name": "dev", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_current_context_is_used(tmp_path: Path) -> None:
    access = from_kubeconfig([config(tmp_path, {"token": "secret-token"})])
    assert (access.server, access.name, access.token) == ("https://127.0.0.1:6443", "c", "secret-token")
    assert "secret-token" not in repr(access)


def test_files_are_merged_and_the_first_to_name_a_thing_decides(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.write_text(
        yaml.safe_dump({"current-context": "other", "users": [{"name": "u", "user": {"token": "first"}}]})
    )
    second = config(tmp_path, {"token": "second"})
    extra = yaml.safe_load(second.read_text())
    extra["contexts"].append({"name": "other", "context": {"cluster": "c", "user": "u"}})
    second.write_text(yaml.safe_dump(extra))
    environ = {"KUBECONFIG": f"{first}:{tmp_path / 'absent'}:{second}"}
    assert find(None, None, environ).token == "first"  # noqa: S105 - a test's
    assert find(None, "dev", environ).where.endswith("context dev")
    assert find(str(second), None, environ).token == "second"  # noqa: S105


def test_relative_paths_are_relative_to_their_file(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "ca.pem").write_text("CA")
    (tmp_path / "token").write_text("t")
    access = from_kubeconfig(
        [config(tmp_path, {"tokenFile": "token"}, {"certificate-authority": "pki/ca.pem"})]
    )
    assert (access.ca, access.token_file) == ("CA", tmp_path / "token")


def test_inline_data_outranks_files(tmp_path: Path) -> None:
    data = base64.b64encode(b"INLINE").decode()
    access = from_kubeconfig(
        [config(tmp_path, None, {"certificate-authority-data": data, "certificate-authority": "nowhere.pem"})]
    )
    assert access.ca == "INLINE"


def test_impersonation_proxy_and_names(tmp_path: Path) -> None:
    user = {"token": "t", "as": "ann", "as-groups": ["a", "b"]}
    more = {"tls-server-name": "kube", "proxy-url": "http://proxy:3128", "insecure-skip-tls-verify": True}
    access = from_kubeconfig([config(tmp_path, user, more)])
    assert (access.as_user, access.as_groups) == ("ann", ("a", "b"))
    assert (access.server_name, access.proxy, access.insecure) == ("kube", "http://proxy:3128", True)


@pytest.mark.parametrize(
    ("user", "cluster", "says"),
    [
        (
            {"exec": {"command": "aws-iam-authenticator"}},
            {},
            r"exec plugin \(aws-iam-authenticator\), which isn't supported(.|\n)*kubectl create token",
        ),
        ({"auth-provider": {"name": "gcp"}}, {}, r"auth provider \(gcp\)"),
        ({"username": "admin", "password": "x"}, {}, "password"),
        ({"client-certificate-data": base64.b64encode(b"x").decode()}, {}, "go together"),
        ({"client-key-data": "%%%"}, {}, "no base64"),
        ({"client-key": "nowhere.key"}, {}, "can't read client-key: No such file"),
        ({}, {"server": "http://cluster.example.com"}, "clear text"),
        ({}, {"server": "cluster:6443"}, "no address"),
        ({}, {"server": ""}, "no address"),
    ],
)
def test_what_cannot_work_is_told(
    tmp_path: Path, user: Mapping[str, Any], cluster: Mapping[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        from_kubeconfig([config(tmp_path, user, cluster)])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a: [", "not valid YAML, line 1"),
        ("[]", "no kubeconfig"),
        ("{}", "no current context"),
        ("current-context: x", "no context 'x'"),
        (
            "{current-context: x, contexts: [{name: y, context: {}}]}",
            "no context 'x'(.|\n)*Hint: There are: y",
        ),
        ("{current-context: x, contexts: [{name: x, context: {}}]}", "names no cluster"),
        ("{current-context: x, contexts: [{name: x, context: {cluster: c}}]}", "no cluster 'c'"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(ConfigError, match=says):
        from_kubeconfig([path])


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such kubeconfig(.|\n)*set KUBECONFIG"):
        find(str(tmp_path / "absent"), None, {})


def test_the_service_account_of_a_pod(tmp_path: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    with pytest.raises(ConfigError, match="no service account"):
        in_cluster(environ, tmp_path)
    (tmp_path / "token").write_text("t")
    (tmp_path / "ca.crt").write_text("CA")
    access = in_cluster(environ, tmp_path)
    assert (access.server, access.ca, access.name) == ("https://[fd00::1]:6443", "CA", None)
    assert access.token_file == tmp_path / "token"
    # A kubeconfig that is named outranks the pod's own account.
    assert find(str(config(tmp_path)), None, environ).server == "https://127.0.0.1:6443"
    with pytest.raises(ConfigError, match="no service account"):
        find(None, None, environ)


def test_the_role_in_the_docs_allows_what_is_watched() -> None:
    page = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text("utf-8")
    role = yaml.safe_load(page.split("```yaml")[1].split("```")[0])
    allowed = {
        (group, resource)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert all(rule["verbs"] == ["get", "list", "watch"] for rule in role["rules"])
    assert {(one.group, one.plural) for one in ALWAYS} <= allowed
    assert set(OPTIONAL) <= {group for group, _ in allowed}


# ---- TLS


class Authority:
    """A certificate authority that lives as long as a test."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._sign(self.name, self.key, x509.BasicConstraints(ca=True, path_length=None))

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, name: str) -> tuple[str, str]:
        """Return certificate and key for a name, at 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1")), x509.DNSName(name)])
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._sign(subject, key, names).public_bytes(
            serialization.Encoding.PEM
        ).decode(), private.decode()

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
        )
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        builder = builder.add_extension(extension, critical=False)
        identifier = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
        if subject == self.name:
            builder = builder.add_extension(identifier, critical=False)
        return builder.add_extension(authority, critical=False).sign(self.key, hashes.SHA256())


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def server_tls(authority: Authority, folder: Path) -> ssl.SSLContext:
    """A server that takes only clients whose certificate the authority signed."""
    certificate, key = authority.issue("api.example")
    chain = folder / "server.pem"
    chain.write_text(certificate + key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.pem)
    context.load_cert_chain(chain)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_client_certificates_over_tls(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("meter")

    def data(pem: str) -> str:
        return base64.b64encode(pem.encode()).decode()

    with FakeApiServer().running(server_tls(authority, tmp_path)) as server:
        user = {"client-certificate-data": data(certificate), "client-key-data": data(key)}
        path = config(
            tmp_path, user, {"server": server.url, "certificate-authority-data": data(authority.pem)}
        )
        api = connect(Options(kubeconfig=str(path)))
        assert api.get("/apis")["kind"] == "APIGroupList"
        api.close()
        named = config(
            tmp_path,
            user,
            {
                "server": server.url,
                "certificate-authority-data": data(authority.pem),
                "tls-server-name": "api.example",
            },
        )
        api = connect(Options(kubeconfig=str(named)))
        assert api.get("/apis")["kind"] == "APIGroupList"
        api.close()


def test_a_server_of_another_authority_is_not_trusted(tmp_path: Path, authority: Authority) -> None:
    with FakeApiServer().running(server_tls(authority, tmp_path)) as server:
        waits: list[float] = []
        api = Api(Access(server.url, "test", ca=Authority().pem), sleep=waits.append)
        with pytest.raises(SourceError, match=r"CERTIFICATE_VERIFY_FAILED(.|\n)*certificate-authority"):
            api.get("/apis")
        assert waits == []
        api.close()
    for access, says in (
        (Access("https://127.0.0.1:1", "test", ca="no PEM"), "no certificate"),
        (Access("https://127.0.0.1:1", "test", certificate="x", key="y"), "don't fit"),
    ):
        with pytest.raises(ConfigError, match=says):
            Api(access).get("/apis")
