"""The same bytes on other processors: tiny stages, here and under emulated processors.

    python -m benchmarks.portable [--processors EPYC-v3 Haswell-v4] [--numerics native]

Every file that the stages write is compared by its hash, the logs left out. The emulator is
`qemu-x86_64` (Debian's package qemu-user); without it nothing can be compared. With
`--numerics native` the files differ on a processor with AVX-512, which shows that the comparison
can fail. Some minutes.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from stages.parts.run.files import file_hash
from stages.parts.run.numerics import CHOSEN, PORTABLE, THREADS

ROOT = Path(__file__).parents[1]
EMULATOR = "qemu-x86_64"
STAGES = (
    "synthesize",
    "prepare",
    "prepare.source",
    "pseudo_label",
    "train",
    "evaluate",
    "export",
    "report",
)
TINY: dict[str, dict[str, Any]] = {
    "synthesize": {
        "train_persons": 10,
        "val_persons": 3,
        "test_persons": 6,
        "images_per_camera": 3,
        "source_persons": 8,
        "source_images": 6,
        "height": 48,
        "width": 32,
    },
    "images": {"height": 48, "width": 24},
    "spcl": {
        "epochs": 2,
        "steps": 3,
        "warmup_epochs": 2,
        "batch": 16,
        "k1": 8,
        "k2": 2,
        "radius": 0.7,
    },
    "train": {"epochs": 2, "steps": 3, "persons": 3, "images": 4, "warmup_epochs": 1},
    "evaluate": {"trials": 3},
    "export": {"int8": True},
}


def run(folder: Path, numerics: str, processor: str | None) -> dict[str, str]:
    """Run the stages in a new `folder`; return the hash of every file that they wrote, by path."""
    folder.mkdir()
    for name in ("stages", "dvc.yaml"):
        (folder / name).symlink_to(ROOT / name)
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, leaves in TINY.items():
        tree[section] |= leaves
    tree["device"] |= {"name": "cpu", "precision": "float32", "numerics": numerics}
    (folder / "params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    emulator = [] if processor is None else [EMULATOR, "-cpu", processor]
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in (*PORTABLE, *THREADS, CHOSEN)
    }
    for stage in STAGES:
        command = [*emulator, sys.executable, "-m", f"stages.{stage}"]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False
        )
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    written = [folder / name for name in ("data", "metrics", "models")]
    paths = [path for top in written for path in sorted(top.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): file_hash(path) for path in paths}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare this processor with the emulated ones; the exit code is 1 if a file differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.portable", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--processors", nargs="+", default=["EPYC-v3", "Haswell-v4"])
    parser.add_argument("--numerics", choices=["portable", "native"], default="portable")
    given = parser.parse_args(arguments)
    if shutil.which(EMULATOR) is None:
        print(f"skipped: {EMULATOR} is not on PATH (Debian's package qemu-user)")
        return 0
    differing = 0
    with tempfile.TemporaryDirectory() as place:
        here = run(Path(place) / "here", given.numerics, None)
        print(f"this processor: {len(here)} files, device.numerics {given.numerics}")
        for processor in given.processors:
            there = run(Path(place) / processor, given.numerics, processor)
            names = [name for name in here | there if here.get(name) != there.get(name)]
            listed = "".join(f"\n  {name}" for name in names[:10])
            print(f"{processor}: {len(there)} files, {len(names)} differ{listed}")
            differing += len(names)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
