"""A Kubernetes cluster that is asked again and again: listed first, watched from then on.

A list sees what there is at that moment; a watch also sees the pod that came and went between two questions.
"""

from collections.abc import Iterator

from gpuledger.core.telling import Asked, Covered, Kept, Told
from gpuledger.telemetry import kubernetes

_ENDED = "kubernetes-watch-ended"


def tell(asked: Asked, options: kubernetes.Options) -> Iterator[Told]:
    """Yield what the cluster says of the time asked for: by its watch where one is kept and complete, else by a list."""
    if asked.kept is None:
        yield from kubernetes.collect(asked.since, asked.until, options=options)
    else:
        yield from _by_watch(asked, options, asked.kept)
    yield Covered(asked.since, asked.until)


def _by_watch(asked: Asked, options: kubernetes.Options, kept: Kept) -> Iterator[Told]:
    watch = kept.get(asked.name)
    if watch is None:
        kept.open(asked.name, kubernetes.watching(options=options))
        yield from kubernetes.collect(asked.since, asked.until, options=options)
        return
    troubles = watch.update()
    yield from troubles
    if any(one.code == _ENDED for one in troubles):
        kept.drop(asked.name)  # the next question starts another
        yield from kubernetes.collect(asked.since, asked.until, options=options)
    elif watch.whole:
        yield from kubernetes.records(watch.timeline.records(asked.since, asked.until))
    else:
        yield from kubernetes.collect(asked.since, asked.until, options=options)
