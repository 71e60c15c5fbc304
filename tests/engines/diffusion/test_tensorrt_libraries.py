"""TensorRT's libraries are fetched from a Maven repository: all of their bytes, or nothing of them."""

from __future__ import annotations

import hashlib
import io
import ssl
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from atelier_engines.diffusion.runtimes.tensorrt.fetching import fetch, unpack
from atelier_engines.diffusion.runtimes.tensorrt.releases import RELEASES, Release
from atelier_engines.errors import EngineFailedError
from atelier_engines.local.builds.store import BuildStore
from atelier_server.commands.build import build
from tests.certificates import Authority
from tests.small_disk import MountError, mounted, resize

FOLDER = "org/bytedeco/tensorrt/linux-x86_64/"
LIBRARIES = {
    "libnvonnxparser.so.11": b"reads graphs",
    "libnvinfer_builder_resource_ptx.so.11.2.1": b"kernels" * 20_000,
    "libnvinfer_plugin.so.11": b"more layers",
    "libnvinfer.so.11": b"runs plans",
}
ORDER = [
    "libnvinfer.so.11",
    "libnvinfer_plugin.so.11",
    "libnvonnxparser.so.11",
    "libnvinfer_builder_resource_ptx.so.11.2.1",
]


def pack(members: Mapping[str, bytes]) -> bytes:
    """A jar with these files, stored as they are."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()


JAR = pack({"META-INF/MANIFEST.MF": b"", **{FOLDER + name: LIBRARIES[name] for name in LIBRARIES}})


def describe(jar: bytes) -> Release:
    """A release whose jar it is."""
    return replace(
        RELEASES[0],
        sha256=hashlib.sha256(jar).hexdigest(),
        size=len(jar),
        unpacked_size=200_000,
    )


RELEASE = describe(JAR)


@dataclass
class Repository:
    """A Maven repository, which a test tells what to answer."""

    url: str
    certificates: ssl.SSLContext
    jar: bytes = JAR
    cut_after: int | None = None
    """Bytes after which a response ends, whatever it promised."""
    takes_ranges: bool = True
    location: str | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """The path and the range of each request."""


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    """One over https."""
    authority = Authority()
    pair = authority.issue().write(tmp_path / "certificates")
    trusted = ssl.create_default_context(cafile=authority.write(tmp_path / "certificates"))
    told = Repository("", trusted)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append((self.path, self.headers["Range"]))
            begin = int((self.headers["Range"] or "bytes=0-")[6:-1]) if told.takes_ranges else 0
            if told.location is not None:
                self.send_response(302)
                self.send_header("Location", told.location)
            elif self.path != f"/maven2/{RELEASE.jar}":
                self.send_response(404)
            elif begin:
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {begin}-{len(told.jar) - 1}/*")
            else:
                self.send_response(200)
            body = told.jar[begin:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: told.cut_after])

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair["certificate"], pair["key"])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    told.url = f"https://localhost:{server.server_port}/maven2"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield told
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def store(tmp_path: Path) -> BuildStore:
    """An empty one."""
    return BuildStore(directory=tmp_path / "builds")


def get(repository: Repository, store: BuildStore) -> list[str]:
    """Fetch from it; all steps."""
    steps: list[str] = []
    fetch(RELEASE, repository.url, store, steps.append, certificates=repository.certificates)
    return steps


def list_names(store: BuildStore) -> set[str]:
    """Everything in the directory, but for its locks."""
    return {path.name for path in store.directory.iterdir()} - {"locks"}


def test_libraries_are_fetched_once(repository: Repository, store: BuildStore) -> None:
    """From where Maven has them; the one to load first comes first; nothing else of the jar is kept."""
    steps = get(repository, store)
    assert steps[-3:-1] == ["checking", "unpacking"]
    assert "downloading: 100 %" in steps
    build = store.verify(RELEASE.key.digest)
    assert [file.name for file in build.manifest.files] == ORDER
    found = {name: (build.folder / name).read_bytes() for name in ORDER}
    assert found == LIBRARIES
    assert list_names(store) == {RELEASE.key.digest}
    assert get(repository, store) == ["already there"]
    assert repository.asked == [(f"/maven2/{RELEASE.jar}", None)]


@pytest.mark.parametrize("takes_ranges", [True, False])
def test_a_download_that_was_cut_is_continued(
    repository: Repository, store: BuildStore, *, takes_ranges: bool
) -> None:
    """From where it ended; from the beginning where the host knows no ranges."""
    repository.cut_after = 100_000
    with pytest.raises(EngineFailedError, match=f"100000 of {len(JAR)} bytes are here"):
        get(repository, store)
    assert store.digests() == ()
    repository.cut_after, repository.takes_ranges = None, takes_ranges
    get(repository, store)
    assert [asked for _, asked in repository.asked] == [None, "bytes=100000-"]
    assert store.verify(RELEASE.key.digest).size_bytes == sum(map(len, LIBRARIES.values()))
    assert list_names(store) == {RELEASE.key.digest}


def test_prune_removes_what_a_cut_download_left(repository: Repository, store: BuildStore) -> None:
    """Which nobody may continue."""
    repository.cut_after = 100_000
    with pytest.raises(EngineFailedError):
        get(repository, store)
    assert list_names(store) == {f".partial-{RELEASE.key.digest}"}
    assert list(store.prune(())) == []
    assert list_names(store) == set()


REFUSED: dict[str, tuple[Mapping[str, object], str]] = {
    "other bytes": ({"jar": JAR[:-1] + b"!"}, "nothing of it was kept"),
    "more bytes": ({"jar": JAR + b"!"}, f"it has more than {len(JAR)} bytes"),
    "nobody there": ({"url": "https://localhost:1"}, "cannot be downloaded"),
    "not encrypted": ({"url": "http://localhost:1"}, "is not https"),
    "led elsewhere": (
        {"location": "http://localhost:1/jar"},
        "http://localhost:1/jar is not https",
    ),
    "led in a circle": ({"location": f"/maven2/{RELEASE.jar}"}, "more than 5 redirections"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_another_jar_is_refused(repository: Repository, store: BuildStore, case: str) -> None:
    """And a host that cannot be trusted or reached; nothing is left, so that the next call begins anew."""
    changes, problem = REFUSED[case]
    for name, value in changes.items():
        setattr(repository, name, value)
    for _ in range(2):
        with pytest.raises(EngineFailedError, match=problem):
            get(repository, store)
    assert list_names(store) == set()
    assert {asked for _, asked in repository.asked} <= {None}


def test_absent_jar_is_named(repository: Repository, store: BuildStore, tmp_path: Path) -> None:
    """Of an address and of a directory, for which Maven's own command is given."""
    repository.url += "/wrong"
    with pytest.raises(EngineFailedError, match="404"):
        get(repository, store)
    with pytest.raises(EngineFailedError, match=r"mvn dependency:get -Dartifact=org\.bytedeco"):
        fetch(RELEASE, str(tmp_path), store, print)


def test_nothing_is_written_outside_of_the_directory(tmp_path: Path) -> None:
    """Paths in a jar are not followed: what has no library's name where libraries are is left out."""
    outside = {
        "../escaped": b"",
        str(tmp_path / "escaped"): b"",
        f"{FOLDER}../../libnvinfer.so.9": b"",
        f"{FOLDER}libnvinfer.so.11/../../x": b"",
        f"{FOLDER}libnvinfer.so.11\\..\\x": b"",
        f"{FOLDER}readme.txt": b"",
        "lib/libnvinfer.so.11": b"",
    }
    jar = pack({**outside, **{FOLDER + name: data for name, data in LIBRARIES.items()}})
    folder = tmp_path / "folder"
    folder.mkdir()
    assert unpack(io.BytesIO(jar), RELEASE, folder) == tuple(ORDER)
    assert sorted(path.name for path in folder.iterdir()) == sorted(LIBRARIES)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


BROKEN = {
    "too large": (pack({FOLDER + "libnvinfer.so.11": b"0" * 200_001}), "more than 200000 bytes"),
    "one alone": (pack({FOLDER + "libnvinfer.so.11": b""}), "no libnvinfer_plugin.so, or several"),
    "one twice": (
        pack({FOLDER + name: b"" for name in (*ORDER, "libnvinfer.so.10")}),
        "or several",
    ),
    "cut": (JAR[:-10], "cannot be unpacked"),
    "damaged": (JAR.replace(b"runs plans", b"runs PLANS"), "cannot be unpacked: Bad CRC-32"),
    "larger than it says": (
        JAR.replace((140_000).to_bytes(4, "little"), (1000).to_bytes(4, "little")),
        "cannot be unpacked: Bad CRC-32",
    ),
    "a page": (b"<html>", "cannot be unpacked"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_other_jars_are_refused(tmp_path: Path, case: str) -> None:
    """Too large, damaged, and without the libraries."""
    jar, problem = BROKEN[case]
    with pytest.raises(EngineFailedError, match=problem):
        unpack(io.BytesIO(jar), RELEASE, tmp_path)


def put(folder: Path, jar: bytes = JAR) -> Path:
    """Put a jar where Maven would."""
    path = folder / RELEASE.jar
    path.parent.mkdir(parents=True)
    path.write_bytes(jar)
    return folder


def test_two_at_once_fetch_them_once(store: BuildStore, tmp_path: Path) -> None:
    """The second waits and finds what the first has fetched."""
    folder = put(tmp_path / "maven")
    steps: list[str] = []
    threads = [
        threading.Thread(target=fetch, args=(RELEASE, str(folder), store, steps.append))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert steps.count("unpacking") == 1
    assert steps.count("already there") == 3
    assert store.verify(RELEASE.key.digest).manifest.key == RELEASE.key


def test_damaged_libraries_are_fetched_anew(store: BuildStore, tmp_path: Path) -> None:
    """A library is code: it is loaded only as it was fetched."""
    folder = put(tmp_path / "maven")
    fetch(RELEASE, str(folder), store, print)
    (store.directory / RELEASE.key.digest / "libnvinfer.so.11").write_bytes(b"runs others")
    steps: list[str] = []
    fetch(RELEASE, str(folder), store, steps.append)
    assert "fetching them anew, since" in steps[0]
    assert store.verify(RELEASE.key.digest).manifest.key == RELEASE.key


def test_full_disk_leaves_nothing_half_done(repository: Repository, tmp_path: Path) -> None:
    """What was downloaded remains, and the next call goes on from there."""
    place = tmp_path / "small"
    try:
        with mounted(place, 200_000):
            store = BuildStore(directory=place / "builds")
            with pytest.raises(OSError, match="No space left on device"):
                get(repository, store)
            assert list_names(store) == {f".partial-{RELEASE.key.digest}"}
            resize(place, 1_000_000)
            get(repository, store)
            assert len(repository.asked) == 1
            assert list_names(store) == {RELEASE.key.digest}
    except MountError as error:
        pytest.skip(str(error))


def call(tmp_path: Path, *options: str, runtime: str = "tensorrt") -> Result:
    """Run the command with a configuration of an engine that TensorRT runs."""
    path = tmp_path / "atelier.yaml"
    small = f"{{type: diffusion, runtime: {runtime}, builds_directory: {tmp_path}}}"
    path.write_text(f"engines: {{small: {small}, other: {{type: sketch}}}}", "utf-8")
    return CliRunner().invoke(build, ["--config", str(path), *options])


def test_command_checks_what_it_fetches(tmp_path: Path) -> None:
    """For the bindings that are installed, and for engines that need them alone."""
    if find_spec("tensorrt_bindings") is None:  # it cannot be imported without its libraries
        pytest.skip("the extra `tensorrt` is not installed")
    folder = put(tmp_path / "maven")
    refused = call(tmp_path, "--fetch-tensorrt", str(folder))
    assert refused.exit_code == 1
    assert f"has the SHA-256 {RELEASE.sha256} and not {RELEASES[0].sha256}" in refused.output
    both = call(tmp_path, "--fetch-tensorrt", str(folder), "--list")
    assert (both.exit_code, "exclude each other" in both.output) == (2, True)
    unneeded = call(tmp_path, "--fetch-tensorrt", str(folder), runtime="torch")
    assert (unneeded.exit_code, unneeded.output) == (
        0,
        "small libraries of TensorRT: no component is run by tensorrt\n",
    )
