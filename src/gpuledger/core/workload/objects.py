"""The objects of one cluster that are known, found by uid or by kind, namespace and name."""

from collections.abc import Iterable, Iterator

from gpuledger.core.workload.fields import Json, items, kind, name, namespace, uid

Key = tuple[str, str | None, str]


class Objects:
    """Known objects. A later object of the same uid or name takes the place of the earlier one."""

    def __init__(self, objects: Iterable[Json] = ()) -> None:
        self._by_uid: dict[str, Json] = {}
        self._by_name: dict[Key, Json] = {}
        self.version = 0  # counts changes, for those who keep what they worked out
        for obj in objects:
            self.put(obj)

    def __iter__(self) -> Iterator[Json]:
        return iter([*self._by_uid.values(), *(obj for obj in self._by_name.values() if uid(obj) is None)])

    def put(self, obj: Json) -> None:
        """Add or replace an object."""
        self.version += 1
        own = uid(obj)
        if own is not None:
            self._by_uid[own] = obj
        self._by_name[kind(obj), namespace(obj), name(obj)] = obj

    def drop(self, obj: Json) -> None:
        """Forget an object; one of the same name that came after it stays."""
        self.version += 1
        own = uid(obj)
        if own is not None:
            self._by_uid.pop(own, None)
        key = (kind(obj), namespace(obj), name(obj))
        if (held := self._by_name.get(key)) is not None and uid(held) == own:
            del self._by_name[key]

    def of_uid(self, own: str | None) -> Json | None:
        """Return the object with that uid."""
        return None if own is None else self._by_uid.get(own)

    def named(self, wanted: str, space: str | None, called: str) -> Json | None:
        """Return the object of that kind, namespace (None for cluster-wide kinds) and name."""
        return self._by_name.get((wanted, space, called))

    def of_kind(self, wanted: str) -> list[Json]:
        """Return all objects of a kind, in the order in which they came."""
        return [obj for obj in self if kind(obj) == wanted]


def flatten(obj: Json) -> list[Json]:
    """Return the objects of a List (`kubectl get -o json`), and any other object itself."""
    if kind(obj) == "List" or (kind(obj).endswith("List") and isinstance(obj.get("items"), list)):
        return [found for item in items(obj.get("items")) for found in flatten(item)]
    return [obj]
