"""How to reach a cluster: a kubeconfig's context, or the service account of the pod that we run in.

Sources: Kubernetes documentation, "Organizing Cluster Access Using kubeconfig Files" (merging, relative paths) and
"Accessing the Kubernetes API from a Pod". Exec and auth provider plugins aren't run: they start other programs.
"""

import base64
import binascii
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from gpuledger.errors import ConfigError

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LOGIN_HINT: Final = (
    "Make a token with `kubectl create token SERVICEACCOUNT --duration 24h`, put it into a file that only you can "
    "read, and name that file as `tokenFile` of a user in a kubeconfig."
)


@dataclass(frozen=True, slots=True)
class Access:
    """One cluster and who we are to it. `name` is the cluster's name in the kubeconfig, None inside a pod.

    `ca`, `certificate` and `key` are PEM texts. `token_file` is read again as it changes. `as_user` and `as_groups`
    are impersonated. Secrets aren't shown by `repr`.
    """

    server: str
    where: str
    name: str | None = None
    ca: str | None = None
    insecure: bool = False
    server_name: str | None = None
    proxy: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    certificate: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    as_user: str | None = None
    as_groups: tuple[str, ...] = ()


def find(kubeconfig: str | None, context: str | None, environ: Mapping[str, str] | None = None) -> Access:
    """Return the access that is meant: the kubeconfig given, `$KUBECONFIG`, this pod's account, or ~/.kube/config.

    Raises ConfigError when there is none, or it needs what isn't supported.
    """
    environ = os.environ if environ is None else environ
    if kubeconfig is None and not environ.get("KUBECONFIG") and environ.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster(environ)
    given = kubeconfig or environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    return from_kubeconfig([Path(part) for part in given.split(os.pathsep) if part], context)


def in_cluster(environ: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Access:
    """Return the access of the service account of the pod that we run in."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    token, ca = folder / "token", folder / "ca.crt"
    if not host or not token.is_file():
        raise ConfigError(
            "no service account of a pod here",
            where=str(folder),
            hint="Outside a cluster, give a kubeconfig. Inside, set automountServiceAccountToken: true for the pod.",
        )
    address = f"[{host}]" if ":" in host else host
    pem = _read(ca, "the certificate authority") if ca.is_file() else None
    return Access(f"https://{address}:{port}", str(folder), ca=pem, token_file=token)


def from_kubeconfig(paths: list[Path], context: str | None = None) -> Access:
    """Return the access of a context of kubeconfig files, the current one by default.

    Of several files, the first to name a thing decides. Raises ConfigError that names file and field.
    """
    loaded = [(path, _load(path)) for path in paths if path.exists()]
    if not loaded:
        raise ConfigError(
            "no such kubeconfig",
            where=os.pathsep.join(str(path) for path in paths),
            hint="Give its path, set KUBECONFIG, or run inside the cluster.",
        )
    where = os.pathsep.join(str(path) for path, _ in loaded)
    wanted = context or next((str(name) for _, one in loaded if (name := one.get("current-context"))), None)
    if not wanted:
        raise ConfigError(
            "no current context", where=where, hint="Name one, or `kubectl config use-context`."
        )
    entry, _ = _named(loaded, "contexts", "context", wanted, where)
    if not isinstance(entry.get("cluster"), str):
        raise ConfigError(f"context {wanted} names no cluster", where=where, hint="Mend the kubeconfig.")
    cluster, base = _named(loaded, "clusters", "cluster", str(entry["cluster"]), where)
    user, home = (
        _named(loaded, "users", "user", str(entry["user"]), where) if entry.get("user") else ({}, base)
    )
    who = f"{where}: user {entry.get('user')}"
    _refuse_plugins(user, who)
    access = Access(
        server=_server(cluster, f"{where}: cluster {entry['cluster']}"),
        where=f"{where}: context {wanted}",
        name=str(entry["cluster"]),
        ca=_pem(cluster, "certificate-authority", base, where),
        insecure=cluster.get("insecure-skip-tls-verify") is True,
        server_name=_text(cluster, "tls-server-name"),
        proxy=_text(cluster, "proxy-url"),
        token=_text(user, "token") if not user.get("tokenFile") else None,
        token_file=_path(user, "tokenFile", home),
        certificate=_pem(user, "client-certificate", home, who),
        key=_pem(user, "client-key", home, who),
        as_user=_text(user, "as"),
        as_groups=tuple(str(group) for group in user.get("as-groups") or ()),
    )
    if (access.certificate is None) != (access.key is None):
        raise ConfigError("client certificate and key go together", where=who, hint="Give both or neither.")
    return access


def _load(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(_read(path, "the kubeconfig"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"not valid YAML{line}", where=str(path), hint="Mend that line.") from error
    if not isinstance(content, Mapping):
        raise ConfigError("no kubeconfig", where=str(path), hint="It should begin with `apiVersion: v1`.")
    return content


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigError(
            f"can't read {what}: {said}", where=str(path), hint="Check path and rights."
        ) from error


def _named(
    loaded: list[tuple[Path, Mapping[str, Any]]], section: str, part: str, wanted: str, where: str
) -> tuple[Mapping[str, Any], Path]:
    """Return a named entry of a section, and the folder to which its paths are relative."""
    names = []
    for path, content in loaded:
        listed = content.get(section)
        for entry in listed if isinstance(listed, list) else []:
            if isinstance(entry, Mapping) and isinstance(entry.get(part), Mapping):
                if entry.get("name") == wanted:
                    return entry[part], path.parent
                names.append(str(entry.get("name")))
    raise ConfigError(
        f"no {part} {wanted!r}",
        where=where,
        hint=f"There are: {', '.join(names)}." if names else "There is none.",
    )


def _refuse_plugins(user: Mapping[str, Any], who: str) -> None:
    for key, what in (("exec", "an exec plugin"), ("auth-provider", "an auth provider")):
        if isinstance(plugin := user.get(key), Mapping):
            command = plugin.get("command") or plugin.get("name") or "?"
            raise ConfigError(
                f"logs in with {what} ({command}), which isn't supported", where=who, hint=_LOGIN_HINT
            )
    if user.get("username") or user.get("password"):
        raise ConfigError(
            "logs in with a password, which clusters no longer accept", where=who, hint=_LOGIN_HINT
        )


def _server(cluster: Mapping[str, Any], where: str) -> str:
    server = str(cluster.get("server") or "").rstrip("/")
    parts = urlsplit(server)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(
            f"{server or 'nothing'} is no address of an API server",
            where=where,
            hint="Such as https://host:6443.",
        )
    if parts.scheme == "http" and not _is_here(parts.hostname):
        raise ConfigError(
            "the login would travel in clear text", where=where, hint="Give server as https://…"
        )
    return server


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _pem(entry: Mapping[str, Any], key: str, base: Path, where: str) -> str | None:
    """Return a PEM text given inline (base64) or as a file; inline wins, as in kubectl."""
    inline = entry.get(f"{key}-data")
    if inline:
        try:
            return base64.b64decode(str(inline), validate=True).decode("ascii")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{key}-data is no base64 of a PEM text", where=where, hint="Mend the kubeconfig."
            ) from error
    path = _path(entry, key, base)
    return None if path is None else _read(path, key)


def _path(entry: Mapping[str, Any], key: str, base: Path) -> Path | None:
    given = _text(entry, key)
    return None if given is None else base / Path(given).expanduser()


def _text(entry: Mapping[str, Any], key: str) -> str | None:
    value = entry.get(key)
    return value if isinstance(value, str) and value else None
