"""`key=value` pairs in comments, as Slurm jobs carry what other schedulers have labels for."""

import re


def pairs(text: str | None) -> dict[str, str]:
    """Read `key=value` pairs of a comment: `gpuledger:team=nlp;owner=amy`, separated by semicolons, commas or spaces.

    Text that isn't made of pairs gives none: other tools keep their own notes in comments.
    """
    body = (text or "").strip().removeprefix("gpuledger:")
    if ";" in body:
        items = body.split(";")
    elif re.search(r",\s*[A-Za-z][\w./-]*=", body):
        items = body.split(",")
    else:
        items = body.split()
    found: dict[str, str] = {}
    for item in items:
        key, equals, value = item.strip().partition("=")
        if equals and value.strip() and re.fullmatch(r"[A-Za-z][\w./-]*", key.strip()):
            found.setdefault(key.strip(), value.strip().strip("\"'"))
    return found
