"""An index is whole at every moment: killed runs, two writers, readers beside a writer."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from search.archive import open_state
from search.lookup import open_lookup
from search.writer import open_writer
from stages.parts.run.stage import InputError
from tests.builders import ROOT
from tests.search_model import Workplace, picture

# A run that publishes often and takes its time: what it does is read from its own lines.
SLOW = """if True:
    import sys, time
    import search
    from search import embedding, update
    from stages.parts.run import console
    console.end_on_signals()
    embedding.BATCH = update.CHECKPOINT = 4
    publish = update._Run._publish
    def tell(run):
        publish(run)
        print("published", run.writer.archive().count, flush=True)
        time.sleep(0.05)
    update._Run._publish = tell
    from search.__main__ import main
    main(sys.argv[1:])
"""


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path, 60)


def start(place: Workplace, *more: str, code: str = SLOW) -> subprocess.Popen[str]:
    """The run, in a process of its own."""
    words = ["index", str(place.pictures), "--index", str(place.index), "--processes", "1"]
    command = [sys.executable, "-c", code, *words, "--model", str(place.model), *more]
    return subprocess.Popen(
        command,
        cwd=place.pictures.parent,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for printed in process.stdout:
        if printed.strip() == line:
            return
    pytest.fail(f"no line {line!r}: {process.communicate()}")


def count(place: Workplace) -> int:
    return open_state(place.index, lambda opened: opened.count)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_leaves_a_whole_index_and_the_next_goes_on(
    place: Workplace, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    with start(place) as process:
        wait_for(process, "published 20")
        process.send_signal(number)
        _, complaint = process.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert "goes on from what is finished" in complaint
        assert "Traceback" not in complaint
    done = count(place)
    assert 20 <= done < 60
    assert len(open_lookup(place.index).find(np.eye(12, dtype=np.float32)[:1], 60)[0]) == done
    place.update()
    assert f"60 pictures: {60 - done} new" in capsys.readouterr().out
    named = open_state(place.index, lambda opened: opened.manifest.files())
    assert set(os.listdir(place.index)) == named | {"manifest.json", "lock"}


def test_ctrl_c_during_the_imports_leaves_no_traceback(tmp_path: Path) -> None:
    interrupt = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / "tqdm.py").write_text(interrupt)  # the first package that is imported
    done = subprocess.run(
        [sys.executable, "-m", "search", "query", "image.png", "--index", "nowhere"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


def test_a_run_that_is_killed_at_any_moment_ends_as_a_quiet_one(place: Workplace) -> None:
    generator = np.random.default_rng(0)
    for _ in range(4):
        with start(place) as process:
            wait_for(process, f"published {count(place) if place.index.exists() else 0}")
            time.sleep(generator.uniform(0, 0.3))
            process.kill()
        assert 0 <= count(place) <= 60
    place.update()
    assert count(place) == 60
    quiet = place.index.with_name("quiet")
    place.run("index", place.pictures, "--processes", 1)
    rows = [np.concatenate(open_state(place.index, lambda opened: opened.rows))]
    place.index = quiet
    place.update()
    rows.append(np.concatenate(open_state(quiet, lambda opened: opened.rows)))
    order = [np.lexsort(each.T) for each in rows]
    np.testing.assert_allclose(rows[0][order[0]], rows[1][order[1]], atol=1e-6)


def test_queries_are_answered_while_a_run_writes(place: Workplace) -> None:
    """Two at once, again and again; each sees one whole state."""
    query = place.pictures.parent / "query.png"
    picture(0).save(query)
    seen = set()
    with start(place) as process:
        wait_for(process, "published 4")
        while process.poll() is None:
            first, second = open_lookup(place.index), open_lookup(place.index)
            for opened in (first, second):
                found = opened.find(np.eye(12, dtype=np.float32)[:2], 100)
                assert [len(each) for each in found] == [opened.archive.count] * 2
                seen.add(opened.archive.count)
        process.communicate()
    assert process.returncode == 0
    assert len(seen) > 2
    assert count(place) == 60


def test_two_writers_refuse_in_one_line(place: Workplace) -> None:
    with start(place) as process:
        wait_for(process, "published 4")
        with pytest.raises(InputError, match="is being written by another process") as error:
            place.update()
        assert "\n" not in str(error.value)
        process.communicate()
    place.update()


def test_a_reader_keeps_the_state_that_it_opened(place: Workplace) -> None:
    place.update()
    opened = open_lookup(place.index)
    before = opened.find(np.eye(12, dtype=np.float32)[:1], 60)
    for path in sorted(place.pictures.rglob("*.png"))[:50]:
        path.unlink()
    place.update()
    assert opened.find(np.eye(12, dtype=np.float32)[:1], 60) == before
    assert count(place) == 10


def test_a_folder_that_is_no_index_is_left_alone(place: Workplace, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/000001.rows.npy").write_text("mine")
    place.index = tmp_path / "mine"
    with pytest.raises(InputError, match="is not an index and not empty"):
        place.update()
    assert [path.name for path in place.index.iterdir()] == ["000001.rows.npy"]


@pytest.mark.parametrize("mine", ["000123.png", "notes.txt"])
def test_a_foreign_file_beside_a_lock_is_left_alone(
    place: Workplace, tmp_path: Path, mine: str
) -> None:
    """Other programs have files named `lock`, and pictures may be named by numbers alone."""
    place.index = tmp_path / "mine"
    place.index.mkdir()
    (place.index / "lock").touch()
    (place.index / mine).write_text("mine")
    with pytest.raises(InputError, match="is not an index and not empty"):
        place.update()
    assert (place.index / mine).read_text() == "mine"


def test_a_picture_that_came_into_the_folder_of_an_index_stays(place: Workplace) -> None:
    place.update()
    picture(0).save(place.index / "000123.png")
    place.update()
    assert (place.index / "000123.png").exists()


def test_a_copy_of_an_index_needs_no_lock(place: Workplace) -> None:
    """Some programs that copy leave empty files out."""
    place.update()
    (place.index / "lock").unlink()
    place.update()
    assert count(place) == 60


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1M", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


# A run whose disk has two pages left when it comes to merge segments.
FULL = """if True:
    import os, sys
    import search
    from search import embedding, update, writer
    embedding.BATCH = update.CHECKPOINT = 30
    merge = writer.Writer.merge
    def fill(run):
        disk = os.statvfs(run.folder)
        with open(run.folder.parent / "fill", "wb") as opened:
            os.posix_fallocate(opened.fileno(), 0, (disk.f_bavail - 2) * disk.f_bsize)
        merge(run)
    writer.Writer.merge = fill
    from search.__main__ import main
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(str(error))
"""


def test_a_full_disk_ends_in_one_line_when_segments_are_merged(disk: Path, tmp_path: Path) -> None:
    """A process that writes through a memory map would be ended by SIGBUS."""
    place = Workplace(tmp_path / "place", 300)
    place.index = disk / "index"
    with start(place, code=FULL) as process:
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 1
    assert complaint.startswith("[Errno 28] No space left on device")
    assert count(place) == 300


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("manifest.json", "{", "is not a JSON file"),
        ("manifest.json", "{}", "is not a manifest of format 1"),
        ("manifest.json", '{"format": 1}', "is damaged"),
        ("rows", "", "cannot be read"),
        ("rows", "\x93NUMPY\x01\x00v\x00{'descr': '<f4',", "cannot be read"),
        ("pictures", None, "is missing"),
    ],
)
def test_a_damaged_index_ends_in_one_line(
    place: Workplace, name: str, text: str | None, line: str
) -> None:
    place.update()
    path = next(place.index.glob(f"*{name}*"))
    if text is None:
        path.unlink()
    else:
        path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=line) as error:
        place.run("query", place.pictures / "cam1/000000.png")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("segments.0.rows", "../000001.rows.npy"),
        ("segments.0.rows", 5),
        ("unreadable", "/etc/passwd"),
        ("roots.0.rules", []),
        ("model", []),
        ("next_id", "7"),
        ("kind", None),
    ],
)
def test_a_manifest_that_leads_elsewhere_is_refused(
    place: Workplace, where: str, value: object
) -> None:
    place.update()
    path = place.index / "manifest.json"
    tree = json.loads(path.read_text())
    *parents, name = where.split(".")
    part = tree
    for parent in parents:
        part = part[int(parent) if parent.isdigit() else parent]
    part[name] = value
    path.write_text(json.dumps(tree))
    for words in (["query", place.pictures / "cam1/000000.png"], ["index", place.pictures]):
        with pytest.raises(InputError, match=r"manifest.json is damaged"):
            place.run(*words)


@pytest.mark.parametrize(("name", "value"), [("position", 60), ("position", -1), ("root", 1)])
def test_a_table_that_leads_nowhere_is_refused(place: Workplace, name: str, value: int) -> None:
    place.update()
    path = next(place.index.glob("*.pictures.npy"))
    table = np.load(path)
    table[name][5] = value
    np.save(path, table)
    with pytest.raises(InputError, match="is not what was written"):
        place.run("query", place.pictures / "cam1/000000.png")


def test_a_damaged_list_of_the_unreadable_is_refused(place: Workplace) -> None:
    (place.pictures / "broken.png").write_text("broken")
    place.update()
    path = next(place.index.glob("*.unreadable.json"))
    path.write_text(path.read_text().replace("mtime_ns", "mtime"))
    with pytest.raises(InputError, match=r"unreadable.json is damaged"):
        place.update()


def test_a_writer_starts_with_what_is_complete(place: Workplace) -> None:
    place.update()
    model = open_state(place.index, lambda opened: opened.manifest.model)
    (place.index / "999999.rows.npy").write_text("left by a killed run")
    with open_writer(place.index, model) as writer:
        assert writer.archive().count == 60
        assert not (place.index / "999999.rows.npy").exists()


def test_bad_input_is_one_line_of_the_command(place: Workplace) -> None:
    def run(*words: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "search", *words, "--model", str(place.model)],
            cwd=place.pictures.parent,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    done = run("query", "nothing.png", "--index", "nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: nowhere holds no index; python -m search index FOLDER --index nowhere makes one\n"
    )
    done = run("index", str(place.pictures), "--index", "place")
    assert (done.returncode, done.stderr) == (0, "")  # no bar where no terminal is
    assert done.stdout == "place: 60 pictures: 60 new, 0 changed, 0 gone\n"

    closed = f"'{sys.executable}' -m search query {place.pictures}/cam1/000000.png --index place"
    done = subprocess.run(
        ["sh", "-c", f"{closed} --model {place.model} >&- 2>&-"],
        cwd=place.pictures.parent,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0

    reader, writer = os.pipe()
    os.close(reader)  # as `… | head` that has ended
    done = run("query", str(place.pictures / "cam1/000000.png"), "--index", "place", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
