"""Builds are found again, refused when a byte is wrong, and removed only when nobody needs them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from atelier_engines.local.builds import manifest as manifests
from atelier_engines.local.builds.key import BuildKey, digest_values, digest_weights
from atelier_engines.local.builds.manifest import BuildRefusedError, Deviation, Manifest
from atelier_engines.local.builds.store import Build, BuildStore
from tests.small_disk import MountError, make_read_only, mounted

KEY = BuildKey(
    network="denoiser",
    weights=("1" * 64,),
    loras=(),
    settings=digest_values({"layers": 2}),
    precision="float32",
    shapes=("latents float32 [rows from 1 to 32, 4]",),
    device="cpu",
    runtime="onnx",
    versions={"torch": "2.15.0"},
    options={"opset": "20"},
)
BYTES = bytes(range(256)) * 4


@pytest.fixture
def store(tmp_path: Path) -> BuildStore:
    """An empty one."""
    return BuildStore(directory=tmp_path / "builds")


def silent() -> None:
    """Say nothing of a wait."""


def describe(folder: Path, key: BuildKey) -> Manifest:
    """The manifest of what is in a directory."""
    return Manifest(
        key=key,
        files=manifests.describe_files(folder, ["model.onnx", "model.onnx.data"]),
        deviations=(Deviation(output="prediction", largest_error=1e-6, largest_value=4.0),),
        tolerance=1e-4,
        built_at="2026-11-28T05:00:00+00:00",
        seconds=1.5,
    )


def add(store: BuildStore, key: BuildKey = KEY) -> Build:
    """Build something: two files."""
    with store.turn(key, silent), store.writing(key) as folder:
        (folder / "model.onnx").write_bytes(BYTES)
        (folder / "model.onnx.data").write_bytes(BYTES[:100])
        store.keep(folder, describe(folder, key))
    held = store.hold(key)
    assert held is not None
    held.release()
    return held.build


def test_build_is_found_by_an_equal_key(store: BuildStore) -> None:
    """With its files and what its manifest says; nothing else is left in the directory."""
    assert store.hold(KEY) is None
    build = add(store)
    held = store.hold(BuildKey.model_validate_json(KEY.model_dump_json()))
    assert held is not None
    assert held.require().read_bytes() == BYTES
    assert held.build == build
    assert build.size_bytes == len(BYTES) + 100
    assert build.manifest.deviations[0].relative == 2.5e-7
    assert {path.name for path in store.directory.iterdir()} == {KEY.digest, "locks"}
    assert store.digests() == (KEY.digest,)


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": ("2" * 64,)},
        {"weights": ("1" * 64, "2" * 64)},
        {"loras": ("1" * 64,)},
        {"settings": digest_values({"layers": 3})},
        {"precision": "float16"},
        {"shapes": ("latents float32 [rows from 1 to 8, 4]",)},
        {"device": "NVIDIA H100 sm_90"},
        {"runtime": "tensorrt_rtx"},
        {"versions": {"torch": "2.15.1"}},
        {"options": {"opset": "21"}},
        {"network": "denoiser with residuals"},
    ],
)
def test_any_other_key_is_another_build(store: BuildStore, changes: dict[str, object]) -> None:
    """Whatever differs."""
    add(store)
    assert store.hold(KEY.model_copy(update=changes)) is None


def test_key_follows_the_bytes_of_weights(tmp_path: Path) -> None:
    """Not their names and times; a file that is written anew is read anew."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"weights")
    other.write_bytes(b"weights")
    os.utime(other, (1, 1))
    before = digest_weights([one])
    assert before == digest_weights([other])
    one.write_bytes(b"changed")
    os.utime(one, (2, 2))
    assert digest_weights([one]) != before


def flip(path: Path, place: int) -> None:
    """Change one bit of a byte."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def put_elsewhere(path: Path) -> None:
    """Leave a link in the place of a file."""
    elsewhere = path.parent.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped bit": (lambda build: flip(build / "model.onnx", 500), "model.onnx is damaged"),
    "flipped bit of external data": (
        lambda build: flip(build / "model.onnx.data", 0),
        "model.onnx.data is damaged",
    ),
    "truncated": (
        lambda build: (build / "model.onnx").write_bytes(BYTES[:-1]),
        "has 1023 bytes and not 1024",
    ),
    "longer": (
        lambda build: (build / "model.onnx").write_bytes(BYTES + b"x"),
        "has 1025 bytes and not 1024",
    ),
    "absent file": (
        lambda build: (build / "model.onnx.data").unlink(),
        "model.onnx.data is absent",
    ),
    "absent manifest": (
        lambda build: (build / "manifest.json").unlink(),
        "manifest.json is absent",
    ),
    "foreign file": (
        lambda build: (build / "plugin.so").write_bytes(b"code"),
        "plugin.so is not in the manifest",
    ),
    "link": (lambda build: put_elsewhere(build / "model.onnx"), "model.onnx is not a plain file"),
    "writable by everyone": (lambda build: build.chmod(0o777), "written to by everyone"),
    "directory writable by everyone": (
        lambda build: build.parent.chmod(0o777),
        "written to by everyone",
    ),
    "empty manifest": (
        lambda build: (build / "manifest.json").write_bytes(b""),
        "manifest.json is damaged",
    ),
    "manifest with another digest": (
        lambda build: replace_text(build / "manifest.json", '"seconds": 1.5', '"seconds": 1.6'),
        "its digest does not match",
    ),
    "manifest with a key too much": (
        lambda build: replace_text(
            build / "manifest.json", '"seconds": 1.5', '"seconds": 1.5, "hook": 1'
        ),
        "manifest.hook: Extra inputs",
    ),
    "manifest with another type": (
        lambda build: replace_text(build / "manifest.json", '"seconds": 1.5', '"seconds": "1.5"'),
        "manifest.seconds: Input should be a valid number",
    ),
}


def replace_text(path: Path, old: str, new: str) -> None:
    """Change a text that is there."""
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_anything_else_is_refused_by_name(
    store: BuildStore, damage: Callable[[Path], object], message: str
) -> None:
    """And replaced by the next build."""
    build = add(store)
    damage(build.folder)
    with pytest.raises(BuildRefusedError, match=message):
        store.hold(KEY)
    store.directory.chmod(0o700)
    assert add(store) == build


def test_every_byte_of_a_manifest_counts(store: BuildStore) -> None:
    """A manifest that differs anywhere is refused."""
    path = add(store).folder / "manifest.json"
    text = path.read_bytes()
    for place in range(0, len(text), 7):
        flip(path, place)
        with pytest.raises(BuildRefusedError):
            manifests.read(path)
        path.write_bytes(text)


def test_build_of_another_key_is_refused(store: BuildStore) -> None:
    """Valid files, in a place that is not theirs."""
    other = KEY.model_copy(update={"precision": "float16"})
    add(store).folder.rename(store.directory / other.digest)
    with pytest.raises(BuildRefusedError, match="that of another build"):
        store.hold(other)


def test_file_that_changes_while_it_is_held_is_refused(store: BuildStore) -> None:
    """When it is opened again."""
    add(store)
    held = store.hold(KEY)
    assert held is not None
    flip(held.require(), 3)
    with pytest.raises(BuildRefusedError, match="damaged"):
        held.require()


def test_pruning_keeps_what_is_needed_or_used(store: BuildStore) -> None:
    """And removes the rest, valid or not, and what killed builders left."""
    keys = [KEY.model_copy(update={"device": name}) for name in ("a", "b", "c", "d")]
    needed, held, spare, building = (add(store, key) for key in keys)
    (store.directory / f".unfinished-{'0' * 64}").mkdir()
    (store.directory / "notes.txt").write_text("somebody's own")
    flip(spare.path, 0)
    with used(store, keys[1]), store.turn(keys[3], silent), store.writing(keys[3]):
        removed = list(store.prune({needed.folder.name}))
    assert removed == [spare.folder.name]
    assert store.digests() == tuple(sorted(one.folder.name for one in (needed, held, building)))
    assert sorted(store.prune(())) == sorted(one.folder.name for one in (needed, held, building))
    assert {path.name for path in store.directory.iterdir()} == {"locks", "notes.txt"}


@contextmanager
def used(store: BuildStore, key: BuildKey) -> Iterator[None]:
    """Another process holds the build."""
    program = (
        "import sys; from pathlib import Path\n"
        "from atelier_engines.local.builds.key import BuildKey\n"
        "from atelier_engines.local.builds.store import BuildStore\n"
        "store = BuildStore(directory=Path(sys.argv[1]))\n"
        "held = store.hold(BuildKey.model_validate_json(sys.argv[2]))\n"
        "print(held.require(), flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(store.directory), key.model_dump_json()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip()
        yield
        process.send_signal(signal.SIGKILL)


def test_store_on_a_read_only_file_system_is_read(tmp_path: Path) -> None:
    """As in an image that was made with the builds in it."""
    store = BuildStore(directory=tmp_path / "small" / "builds")
    try:
        with mounted(tmp_path / "small", 2**20):
            build = add(store)
            shutil.rmtree(store.directory / "locks")
            make_read_only(tmp_path / "small")
            held = store.hold(KEY)
            assert held is not None
            assert held.require() == build.path
            held.release()
    except MountError as error:
        pytest.skip(str(error))


def test_full_disk_leaves_no_build(tmp_path: Path) -> None:
    """And nothing that takes its space; the next attempt succeeds."""
    store = BuildStore(directory=tmp_path / "small" / "builds")
    try:
        with mounted(tmp_path / "small", 2**16):
            ballast = tmp_path / "small" / "ballast"
            ballast.write_bytes(bytes(15 * 4096))
            with pytest.raises(OSError, match="No space left"):
                add(store)
            assert store.digests() == ()
            assert [path.name for path in store.directory.iterdir()] in (["locks"], [])
            ballast.unlink()
            add(store)
    except MountError as error:
        pytest.skip(str(error))
