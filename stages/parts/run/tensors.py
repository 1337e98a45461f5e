"""Tensors on disk as safetensors: equal content gives equal bytes, and nothing is unpickled."""

import json
import os
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from stages.parts.run.files import whole_file
from stages.parts.run.stage import InputError


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: Any = None) -> None:
    """Write tensors and JSON-able `facts` as one safetensors file, whole or not at all.

    All facts share one metadata key, because safetensors does not keep the order of several.

    Raises:
        OSError: if there is no room or no permission for the file.
    """
    ordered = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    metadata = None if facts is None else {"facts": json.dumps(facts)}
    with whole_file(path) as part:
        try:
            save_file(ordered, part, metadata=metadata)
        except SafetensorError as error:  # also on a full disk: "… (os error 28)"
            code = re.search(r"os error (\d+)", str(error))
            if code is None:
                raise
            raise OSError(int(code[1]), os.strerror(int(code[1]))) from None


def load_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Return the tensors (on the CPU) and the facts that `save_tensors` wrote.

    Raises:
        InputError: if there is no such file or it is not a safetensors file.
    """
    facts = load_facts(path)
    return load_file(path), facts


def load_facts(path: Path) -> Any:
    """Return the facts alone, whatever the size of the tensors; None if the file has none.

    Raises:
        InputError: as `load_tensors`.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            return json.loads((opened.metadata() or {}).get("facts", "null"))
    except FileNotFoundError:
        raise InputError(f"{path} is not here") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from None


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
