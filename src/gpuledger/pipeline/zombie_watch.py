"""What earlier looks of the same process saw: with it, looking again and again becomes a look-back."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from gpuledger.core.zombies import Limits, Observation
from gpuledger.pipeline.zombie_serving import Earlier


@dataclass(slots=True)
class Memory:
    """What earlier looks of the same process saw: with it, repeated single looks become a look-back."""

    first: dict[str, datetime] = field(default_factory=dict)
    busy: dict[str, datetime] = field(default_factory=dict)
    last: dict[str, datetime] = field(default_factory=dict)
    pages: Earlier = field(default_factory=Earlier)

    def remember(self, one: Observation, limits: Limits) -> Observation:
        """Return the observation with what was seen of its card before; a long pause between looks forgets it."""
        if one.measured_from is not None or one.activity is None:
            return one
        last = self.last.get(one.gpu)
        if last is None or one.now - last > limits.fresh:
            self.first[one.gpu] = one.now
            self.busy.pop(one.gpu, None)
        self.last[one.gpu] = one.now
        if one.activity > limits.idle:
            self.busy[one.gpu] = one.now
        if self.first[one.gpu] == one.now:
            return one
        return replace(
            one,
            measured_from=self.first[one.gpu],
            measured_to=one.now,
            last_busy=self.busy.get(one.gpu),
            loads=tuple(load for load in one.loads if load.seconds),  # one look isn't steadiness
        )
