"""What is at hand on this machine and in its cluster: tools, schedulers, accounts, and a Prometheus that nobody named.

Inside a cluster the usual service names are tried by DNS; outside, services are listed and asked through the API
server's proxy, which takes the right `get services/proxy`. Names are those of kube-prometheus, the Prometheus
operator, its charts, and the charts of Prometheus, Thanos and VictoriaMetrics.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gpuledger.core.workload.fields import at, metadata, text
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import GpuledgerError
from gpuledger.pipeline.aws_login import at_hand
from gpuledger.pipeline.zombie_metrics import opened

RUN: Final = ""  # an input that is a tool to run, not a file to read
# Namespace, service, port.
NAMES: Final = (
    ("monitoring", "prometheus-k8s", 9090),
    ("monitoring", "kube-prometheus-stack-prometheus", 9090),
    ("monitoring", "prometheus-kube-prometheus-prometheus", 9090),
    ("monitoring", "prometheus-operated", 9090),
    ("monitoring", "prometheus-server", 80),
    ("monitoring", "prometheus", 9090),
    ("prometheus", "prometheus-server", 80),
    ("prometheus", "prometheus-kube-prometheus-prometheus", 9090),
    ("prometheus-system", "prometheus-server", 80),
    ("kube-prometheus-stack", "kube-prometheus-stack-prometheus", 9090),
    ("gmp-system", "frontend", 9090),
    ("monitoring", "thanos-query", 9090),
    ("monitoring", "vmsingle-victoria-metrics-k8s-stack", 8429),
    ("opencost", "prometheus-server", 80),
    ("default", "prometheus-server", 80),
    ("istio-system", "prometheus", 9090),
)
_WORDS: Final = frozenset({name for _, name, _ in NAMES})
_MOST: Final = 12
_SOON: Final = 4.0


@dataclass(frozen=True, slots=True)
class Inputs:
    """What to look at. `nvidia_smi` and `amd_smi` are files, or RUN; None: leave it out.

    `aws` has accounts as [PROFILE][/REGION]. `serving` has model servers' metrics pages as [[NAMESPACE/]POD=]URL|FILE.
    `find`: look for a Prometheus in the cluster when none is named.
    """

    prometheus: str | None = None
    kube: bool = False
    slurm: bool = False
    nvidia_smi: str | None = None
    amd_smi: str | None = None
    dcgm: tuple[str, ...] = ()
    aws: tuple[str, ...] = ()
    serving: tuple[str, ...] = ()
    find: bool = True

    def __bool__(self) -> bool:
        return bool(
            self.prometheus
            or self.kube
            or self.slurm
            or self.nvidia_smi is not None
            or self.amd_smi is not None
            or self.dcgm
            or self.aws
        )


def detect(environ: Mapping[str, str]) -> tuple[Inputs, list[Diagnostic]]:
    """Look for what is at hand, and tell what was looked for."""
    kubeconfig = environ.get("KUBECONFIG") or str(Path(environ.get("HOME", "/")) / ".kube" / "config")
    path = environ.get("PATH")
    found = {
        "nvidia-smi": bool(shutil.which("nvidia-smi", path=path)),
        "amd-smi or rocm-smi": any(shutil.which(tool, path=path) for tool in ("amd-smi", "rocm-smi")),
        "a kubeconfig or a pod's service account": bool(environ.get("KUBERNETES_SERVICE_HOST"))
        or any(Path(part).is_file() for part in kubeconfig.split(os.pathsep) if part),
        "Slurm (sinfo)": bool(shutil.which("sinfo", path=path)),
        "PROMETHEUS_URL": bool(environ.get("PROMETHEUS_URL")),
        "AWS keys": _aws(environ),
    }
    nvidia, amd, kube, slurm, prometheus, aws = found.values()
    there = ", ".join(name for name, yes in found.items() if yes) or "nothing"
    missing = ", ".join(name for name, yes in found.items() if not yes) or "nothing"
    told = Diagnostic(
        "zombies-looked-for",
        "info" if any(found.values()) else "warning",
        "zombies",
        f"found {there}; did not find {missing}",
        "Name more with --prometheus URL, --dcgm URL, --kube, --slurm, --aws, --nvidia-smi FILE or --amd-smi FILE.",
    )
    inputs = Inputs(
        prometheus=environ.get("PROMETHEUS_URL") if prometheus else None,
        kube=kube,
        slurm=slurm,
        nvidia_smi=RUN if nvidia else None,
        amd_smi=RUN if amd else None,
        aws=("",) if aws else (),
    )
    return inputs, [told]


def _aws(environ: Mapping[str, str]) -> bool:
    try:
        return at_hand(environ)
    except GpuledgerError:
        return True  # files that can't be read are told of when they are read


@contextmanager
def prometheus_of_cluster(
    environ: Mapping[str, str], progress: Callable[[str], None] = lambda _: None
) -> Iterator[Any | None]:
    """Yield a client of the cluster's Prometheus, None when none of the usual ones answers.

    Raises GpuledgerError when the cluster can't be asked at all.
    """
    if environ.get("KUBERNETES_SERVICE_HOST") and not environ.get("KUBECONFIG"):
        for space, name, port in NAMES:
            url = f"http://{name}.{space}.svc:{port}"
            progress(f"trying {url}")
            with opened(url, {}, timeout=2.0, tries=1) as client:
                if _answers(client):
                    yield client
                    return
    yield from _through_api(progress)


def _through_api(progress: Callable[[str], None]) -> Iterator[Any | None]:
    from gpuledger.telemetry import kubernetes

    api = kubernetes.connect(kubernetes.Options(timeout=10.0, tries=2))
    try:
        for space, name, port in _services(api):
            url = f"{api.access.server}/api/v1/namespaces/{space}/services/{name}:{port}/proxy"
            progress(f"trying {name} in {space}")
            if not _passes(api, url):
                continue
            with opened(url, {}, timeout=60.0, tries=2) as client:
                client.http.close()
                client.http = api.client()  # with its certificates and its token
                yield client
                return
        yield None
    finally:
        api.close()


def _passes(api: Any, url: str) -> bool:  # noqa: ANN401 - telemetry's client
    """Tell whether a Prometheus answers behind the proxy, soon: a service without pods may keep one waiting."""
    import httpx

    with api.client() as http:
        try:
            answer = http.get(f"{url}/api/v1/query", params={"query": "time()"}, timeout=_SOON)
            return bool(answer.json().get("status") == "success")
        except (httpx.HTTPError, ValueError, AttributeError):
            return False


def _services(api: Any) -> Iterable[tuple[str, str, int]]:  # noqa: ANN401 - telemetry's client
    """Return services that look like a Prometheus; the usual ones where they can't be listed."""
    try:
        listed = api.get("/api/v1/services", {"limit": "2000"}, what="services", verb="list").get("items")
    except GpuledgerError:
        return NAMES
    found = []
    for one in listed if isinstance(listed, list) else ():
        meta = metadata(one)
        name, space = text(meta.get("name")), text(meta.get("namespace"))
        raw = meta.get("labels")
        labels = raw if isinstance(raw, Mapping) else {}
        said = {labels.get("app.kubernetes.io/name"), labels.get("app"), labels.get("component")}
        if not name or not space or not (name in _WORDS or "prometheus" in said):
            continue
        ports = at(one, "spec", "ports")
        for port in ports if isinstance(ports, list) else ():
            number = port.get("port") if isinstance(port, Mapping) else None
            if isinstance(number, int) and port.get("name") in {
                None,
                "http",
                "web",
                "http-web",
                "http-query",
            }:
                found.append((space, name, number))
    order = {name: place for place, (_, name, _) in enumerate(NAMES)}
    return sorted(found, key=lambda one: (order.get(one[1], len(order)), one))[:_MOST]


def _answers(client: Any) -> bool:  # noqa: ANN401 - telemetry's client
    try:
        client.clock()
    except GpuledgerError:
        return False
    return True
