"""Tensors on disk as safetensors: equal content gives equal bytes, and nothing is unpickled."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from stages.parts.run.files import whole_file
from stages.parts.run.stage import InputError


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: Any = None) -> None:
    """Write tensors and JSON-able `facts` as one safetensors file, whole or not at all.

    A hash of both is stored too, so that `load_tensors` notices a changed file. Everything shares
    one metadata key, because safetensors does not keep the order of several.

    Raises:
        OSError: if there is no room or no permission for the file.
    """
    ordered = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    stored = {"facts": facts, "sha256": _digest(ordered, facts)}
    with whole_file(path) as part:
        try:
            save_file(ordered, part, metadata={"stored": json.dumps(stored)})
        except SafetensorError as error:  # also on a full disk: "… (os error 28)"
            code = re.search(r"os error (\d+)", str(error))
            if code is None:
                raise
            raise OSError(int(code[1]), os.strerror(int(code[1]))) from None


def load_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Return the tensors (on the CPU) and the facts that `save_tensors` wrote.

    Raises:
        InputError: if there is no such file, it is not a safetensors file, or its content is not
            what was written. A file of another program holds no hash, and none is compared.
    """
    stored = _load_stored(path)
    facts, expected = stored.get("facts"), stored.get("sha256")
    tensors = load_file(path)
    if expected is not None and _digest(tensors, facts) != expected:
        raise InputError(f"{path} has changed since it was written: its SHA-256 is another one")
    return tensors, facts


def load_facts(path: Path) -> Any:
    """Return the facts alone, whatever the size of the tensors; None if the file has none.

    Raises:
        InputError: as `load_tensors`.
    """
    return _load_stored(path).get("facts")


def require_facts(path: Path, facts: Any, expected: dict[str, Any], again: str) -> None:
    """Refuse a network that was made from something else than what is here now.

    Args:
        path: the file of the network.
        facts: what `load_tensors` or `load_facts` returned.
        expected: the fact that each name must have. A name says what it is of: `images`, `seed`.
        again: the stage that writes the file.

    Raises:
        InputError: names the file and the first fact that differs.
    """
    known = facts if isinstance(facts, dict) else {}
    for name, value in expected.items():
        if known.get(name) != value:
            made = f"{_short(known.get(name))}, here {_short(value)}"
            raise InputError(f"{path} belongs to other {name}: {made}; run the stage {again} again")


def _short(value: Any) -> str:
    """Return a fact as text, of a hash the first digits."""
    text = str(value)
    return f"{text[:8]}…" if len(text) > 32 else text


def _load_stored(path: Path) -> dict[str, Any]:
    """Return the facts and the hash of a file, without its tensors; {} if it has none."""
    try:
        with safe_open(path, framework="pt") as opened:
            stored = json.loads((opened.metadata() or {}).get("stored", "{}"))
    except FileNotFoundError:
        raise InputError(f"{path} is not here") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from None
    return stored if isinstance(stored, dict) else {}


def _digest(tensors: dict[str, Tensor], facts: Any) -> str:
    """Return the SHA-256 of names, types, shapes and bytes of all tensors, and of the facts."""
    seen = hashlib.sha256(json.dumps(facts).encode())
    for name, value in sorted(tensors.items()):
        seen.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        seen.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return seen.hexdigest()


def with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with `prefix` before their names."""
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, under the rest of their names."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
