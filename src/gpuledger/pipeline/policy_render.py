"""Rendering a policy file for a plane, and writing what comes out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpuledger.core.policy.render import Rendered
from gpuledger.errors import UsageError


def texts(target: str, rendered: Rendered) -> dict[str, str]:
    """Return the files' text by relative path; notes stand at the head of YAML files."""
    return {path: _text(target, path, content, rendered) for path, content in rendered.files.items()}


def _text(target: str, path: str, content: object, rendered: Rendered) -> str:
    if isinstance(content, str):
        return content
    documents = list(content) if isinstance(content, tuple) else []
    if path.endswith(".json"):
        return json.dumps(documents[0], indent=2, ensure_ascii=False) + "\n"
    import yaml

    head = [f"# Rendered by `gpuledger policy render --target {target}`: change the policy, not this."]
    head += [f"# {note.text}" for note in rendered.notes]
    body: str = yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=1 << 20)
    return "\n".join(head) + "\n" + body


def write(folder: Path, files: Mapping[str, str]) -> list[dict[str, Any]]:
    """Write files below a folder and return a row per file. Raises UsageError when that can't be."""
    for path, text in files.items():
        try:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, "utf-8")
        except OSError as error:
            raise UsageError(
                f"can't be written: {error.strerror}",
                where=str(folder / path),
                hint="Give another --out DIR.",
            ) from error
    return [{"file": str(folder / path), "bytes": len(text.encode())} for path, text in files.items()]
