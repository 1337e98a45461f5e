"""The folder of an exported model: what `model.json` says, and that its files are those it says."""

from pathlib import Path
from typing import Any, NamedTuple

from stages.parts.run.files import file_hash, read_json
from stages.parts.run.stage import InputError

FACTS = "model.json"
FORMAT = 1
WEIGHTS = "network.safetensors"
MODALITIES = ("visible", "infrared")
# What `stages/prepare/decode.py` does to a picture; another value would need other code.
INPUT = {
    "name": "images",
    "dtype": "uint8",
    "layout": "NCHW",
    "channels": "RGB",
    "resize": "lanczos",
    "orientation": "exif",
}
OUTPUT = {"name": "embeddings", "dtype": "float32", "unit": True}


class Model(NamedTuple):
    """An exported model: its folder and what a program must know of it."""

    folder: Path
    facts: dict[str, Any]  # all of model.json
    files: dict[str, str]  # modality → name of its ONNX file
    height: int  # of the pictures that the network takes
    width: int
    dimensions: int  # D of an embedding
    flip: bool  # the embedding is the mean of a picture's and its mirror image's
    int8: bool  # the files are the quantized networks

    @property
    def two_stream(self) -> bool:
        """Whether infrared pictures have a network of their own."""
        return self.files["visible"] != self.files["infrared"]

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the embedding of a picture: equal for equal embeddings."""
        hashes = self.facts["sha256"]
        return {
            "files": {modality: hashes[self.files[modality]] for modality in MODALITIES},
            "input": {"height": self.height, "width": self.width},
            "dimensions": self.dimensions,
            "flip": self.flip,
        }

    def check_file(self, name: str) -> Path:
        """Return the path of the file `name`.

        InputError if it is missing or its bytes are not those that model.json has the hash of.
        """
        path = self.folder / name
        expected = self.facts["sha256"].get(name)
        if expected is None:
            raise InputError(f"{self.folder / FACTS} has no sha256 of {name}")
        if not path.is_file():
            raise InputError(f"{path} is not here; {FACTS} names it")
        if file_hash(path) != expected:
            raise InputError(f"{path} has changed since it was written: its SHA-256 is another one")
        return path


def open_model(folder: Path, int8: bool = False) -> Model:
    """Return the model in `folder`; with `int8`, its quantized networks.

    Raises:
        InputError: if there is no model, or its facts are not those that this search can follow.
            Names the file, the fact and what was expected.
    """
    path = folder / FACTS
    if not path.is_file():
        raise InputError(f"{folder} holds no model ({FACTS}); the stage export writes one")
    try:
        facts = read_json(path)
    except ValueError as error:  # not JSON, or not UTF-8
        raise InputError(str(error)) from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        found = facts.get("format") if isinstance(facts, dict) else type(facts).__name__
        raise InputError(f"{path}: format {found!r}; expected {FORMAT}")
    for section, expected in (("input", INPUT), ("output", OUTPUT)):
        _check_section(path, facts, section, expected)
    if not isinstance(facts.get("sha256"), dict):
        raise InputError(f"{path}: no sha256 of its files")
    files = facts.get("models_int8" if int8 else "models")
    if int8 and files is None:
        raise InputError(f"{path}: no int8 networks; the parameter export.int8 makes them")
    if not isinstance(files, dict) or not all(_is_name(files.get(each)) for each in MODALITIES):
        raise InputError(f"{path}: models {files!r}; expected file names of visible and infrared")
    for modality in MODALITIES:
        if files[modality] not in facts["sha256"]:
            raise InputError(f"{path} has no sha256 of {files[modality]}")
    height, width = (_size(path, facts["input"], key) for key in ("height", "width"))
    dimensions = _size(path, facts, "dimensions")
    flip = facts.get("flip") is True
    return Model(folder, facts, files, height, width, dimensions, flip, int8)


def _check_section(path: Path, facts: dict[str, Any], name: str, expected: dict[str, Any]) -> None:
    section = facts.get(name)
    if not isinstance(section, dict):
        raise InputError(f"{path}: {name} {section!r}; expected a section")
    for key, value in expected.items():
        found = section.get(key)
        known = found.lower() if key == "resize" and isinstance(found, str) else found
        if known != value:
            raise InputError(f"{path}: {name}.{key} {found!r}; this search can do {value!r}")


def _size(path: Path, section: dict[str, Any], key: str) -> int:
    value = section.get(key)
    if type(value) is not int or not 0 < value < 2**16:
        raise InputError(f"{path}: {key} {value!r}; expected a whole number above 0")
    return value


def _is_name(name: object) -> bool:
    """Return whether `name` is that of a file in the folder itself."""
    return isinstance(name, str) and name == Path(name).name and name.endswith(".onnx")
