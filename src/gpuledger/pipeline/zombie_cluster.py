"""What a Prometheus knows of pods, nodes and servers: kube-state-metrics, requests of model servers, counters of progress."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from gpuledger.core.card_facts import canonical, own
from gpuledger.core.metric_names import resource_name, shown_labels
from gpuledger.core.metric_owners import owner_edges, root
from gpuledger.core.zombies import KEEP_UNTIL, PROTECTED, Holding, Progress
from gpuledger.pipeline.zombie_holders import Known, Machine, is_notebook
from gpuledger.pipeline.zombie_metrics import Place, Reader, Serving

# Requests that were served, as model servers count them: vLLM, SGLang, TGI, Triton, NIM, TorchServe, Ray Serve.
REQUESTS: Final = (
    *("vllm:request_success_total", "sglang:num_requests_total", "tgi_request_success", "tgi_request_success_total"),
    *("nv_inference_request_success", "request_success_total", "ts_inference_requests_total"),
    "ray_serve_deployment_request_counter_total",
)  # fmt: skip
# Counters that move while a server gets on: tokens of vLLM, SGLang, TGI and NIM, inferences of Triton.
PROGRESS: Final = (
    *("vllm:generation_tokens_total", "sglang:generation_tokens_total", "tgi_request_generated_tokens_sum"),
    *("generation_tokens_total", "nv_inference_count"),
)
_MOMENT: Final = timedelta(minutes=5)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Asks through a Reader, for the same time and the same labels. `progress` adds counters of one's own jobs."""

    reader: Reader
    progress: Sequence[str] = ()

    def serving(self) -> Serving:
        """Return what counters tell. A counter that is younger than the look-back counts from its start."""
        back, early = (
            _seconds(self.reader.look_back),
            _seconds(max(self.reader.look_back - _MOMENT, timedelta(0))),
        )
        requests: dict[Place, Decimal] = defaultdict(Decimal)
        for metric in REQUESTS:
            one = self.reader.selector(metric)
            grown = self._by_pod(f"increase({one}[{back}])")
            for place, value in grown.items():
                requests[place] += value
            if grown or metric == REQUESTS[0]:
                # `increase` doesn't see what came before the first scrape.
                for place, value in self._by_pod(f"{one} unless {one} offset {early}").items():
                    requests[place] = max(requests[place], value)
        still: dict[Place, Progress] = {}
        for metric in (*PROGRESS, *self.progress):
            for span in sorted({self.reader.limits.no_progress, self.reader.look_back}):
                one = self.reader.selector(metric)
                stuck = f"sum by (namespace, pod, exported_namespace, exported_pod) (increase({one}[{_seconds(span)}])) == 0"
                there = self._by_pod(stuck)
                if not there:
                    break
                for place in there:
                    still[place] = Progress(metric, span)
        return Serving(requests, still)

    def _by_pod(self, expression: str) -> dict[Place, Decimal]:
        found: dict[Place, Decimal] = defaultdict(Decimal)
        for labels, value in self.reader.client.instant(expression, self.reader.at):
            told = own(labels)
            if told.get("pod"):
                found[told.get("namespace"), told["pod"]] += value
        return found

    def known(self) -> Known | None:
        """Return what kube-state-metrics tells of pods with cards and of nodes, None when it isn't there."""
        reader = self.reader
        cards = [
            (own(labels), value)
            for labels, value in reader.client.instant(
                self._latest("kube_pod_container_resource_requests"), reader.at
            )
            if "gpu" in labels.get("resource", "") or "_mig_" in labels.get("resource", "")
        ]
        nodes = self._labelled("kube_node_labels")
        if not cards and not nodes:
            return None
        owners = {
            name: [own(labels) for labels, _ in reader.client.instant(self._latest(metric), reader.at)]
            for name, metric in (
                ("pod_owner", "kube_pod_owner"),
                ("replicaset_owner", "kube_replicaset_owner"),
                ("job_owner", "kube_job_owner"),
            )
        }
        edges = owner_edges("", owners)
        told: dict[Place, dict[str, str]] = defaultdict(dict)
        for metric in ("kube_pod_labels", "kube_pod_annotations"):
            for labels in self._labelled(metric):
                told[labels.get("namespace"), labels.get("pod")].update(labels)
        starts = {
            (own(labels).get("namespace"), own(labels).get("pod")): _EPOCH + timedelta(seconds=float(value))
            for labels, value in reader.client.instant(reader.selector("kube_pod_start_time"), reader.at)
        }
        known = Known(machines=self._machines(nodes))
        for labels, count in cards:
            space, pod = labels.get("namespace"), labels.get("pod")
            if not pod:
                continue
            kind, name = root(edges, space or "", pod)
            held = _pod(space, pod, (kind, name), told[space, pod], starts.get((space, pod)))
            known.pods[space, pod] = held
            if labels.get("node"):
                known.held[labels["node"]].append((held, count))
        return known

    def _latest(self, metric: str) -> str:
        return f"last_over_time({self.reader.selector(metric)}[5m])"

    def _labelled(self, metric: str) -> list[dict[str, str]]:
        answer = self.reader.client.instant(self._latest(metric), self.reader.at)
        return [own(labels) for labels, _ in answer]

    def _machines(self, nodes: Iterable[dict[str, str]]) -> dict[str, Machine]:
        labels = {one["node"]: shown_labels(one) for one in nodes if one.get("node")}
        bills = {
            one["node"]: one["provider_id"].rpartition("/")[2]
            for one in self._labelled("kube_node_info")
            if one.get("node") and one.get("provider_id")
        }
        capacity: dict[str, Decimal] = {}
        asked = self.reader.selector("kube_node_status_capacity")
        for said, value in self.reader.client.instant(asked, self.reader.at):
            if resource_name(said.get("resource", "")) in {"nvidia.com/gpu", "amd.com/gpu"}:
                capacity[own(said).get("node", "")] = value
        found = {}
        for node in {*labels, *capacity}:
            said = labels.get(node, {})
            spot = said.get("karpenter.sh/capacity-type") or said.get("eks.amazonaws.com/capacityType")
            found[node] = Machine(
                cards=capacity.get(node),
                instance_type=said.get("node.kubernetes.io/instance-type"),
                region=said.get("topology.kubernetes.io/region"),
                spot=None if spot is None else spot.lower() == "spot",
                gpu_model=canonical(said.get("nvidia.com/gpu.product")),
                resource=bills.get(node),
            )
        return found


def _pod(
    space: str | None, pod: str, job: tuple[str, str], labels: Mapping[str, str], started: datetime | None
) -> Holding:
    marks = {}
    for name, maimed in ((PROTECTED, "gpuledger_io_protected"), (KEEP_UNTIL, "gpuledger_io_keep_until")):
        for part in ("label_", "annotation_"):
            if (said := labels.get(part + maimed)) is not None:
                marks[name] = said
    owner = next(
        (labels[f"label_{key}"] for key in ("owner", "team", "user") if labels.get(f"label_{key}")), None
    )
    notebook = "label_notebook_name" in labels or is_notebook(job[0], pod, job[1], labels.get("label_app"))
    return Holding(job[1], job[0], space, pod, None, owner, started, notebook, marks, None, live=True)


def _seconds(span: timedelta) -> str:
    return f"{int(span.total_seconds())}s"
