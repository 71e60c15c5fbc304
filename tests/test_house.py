"""House rules that no linter knows."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("server/atelier_server", "engines/atelier_engines", "clients/python/atelier_client")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
RUNS_CODE = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "eval", "exec"}
RUNS_CODE |= {"torch.load", "allow_pickle", "trust_remote_code"}
WALL_CLOCK_READERS = {
    "engines/diffusion/builds/network_builder.py": "dates builds, for people",
    "engines/diffusion/runtimes/tensorrt/fetching.py": "dates what was fetched, for people",
    "engines/vendors/openai/config.py": "compares with the days on which models are shut down",
    "engines/vendors/responses.py": "compares dates of a service",
    "engines/vendors/vastai/credentials.py": "dates certificates and keys",
    "engines/vendors/vastai/exclusions.py": "keeps dates over restarts",
    "engines/vendors/vastai/instances.py": "compares with a date of the service",
    "server/artifacts/artifact_store.py": "dates what is uploaded and made; files have dates of their own",
    "server/auth/tokens.py": "compares with the dates of tokens",
    "server/clock.py": "starts the steady clock, and tells the date to those below",
    "server/commands/keys.py": "dates new keys",
    "server/engines/recall.py": "how long ago the generations of an earlier process ended",
    "server/engines/status.py": "the day (UTC) of a daily budget",
    "server/execution/attempt.py": "dates attempts",
    "server/generations/submissions.py": "dates generations",
    "server/ids.py": "ids sort by time; none is less than the one before",
    "server/store/sql/expiry.py": "dates the end of what has run out of time",
    "server/store/sql/moves.py": "dates the event of a move",
    "server/store/sql/operations.py": "dates events and ends",
    "server/store/sql/queues.py": "dates pauses, and ends with the queue",
    "server/store/sql/recovery.py": "dates the end of an attempt",
    "server/store/sql/rows.py": "converts the date at which something expires into steady time",
    "server/store/sql/sql_store.py": "dates the end of an attempt that is released",
    "server/store/sql/usage.py": "the day (UTC) of a quota",
    "server/rpc/interceptors/observe.py": "dates the spans of traces",
    "server/rpc/interceptors/audit.py": "dates what callers did",
    "server/sweep.py": "compares with the dates of files",
}
"""Files of server and engines that read the wall clock, and why; durations and deadlines are no reason."""
EVERYTHING = [
    path
    for folder in (
        "server",
        "engines",
        "clients",
        "models",
        "tests",
        "examples",
        "bench",
        "scripts",
    )
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "_pb2" not in path.name
]
SUPPRESSION = re.compile(r"#.*?\b(noqa|type: ignore)\b(.*)")
REPEATED_STEMS = {"__init__", "capabilities", "config", "engine", "errors"}  # one a package


def calls_in_async_for(tree: ast.AST) -> Iterator[int]:
    """Lines where `async for` runs over a call, so that nobody closes what the call made."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFor | ast.comprehension) and isinstance(node.iter, ast.Call):
            if isinstance(node, ast.comprehension) and not node.is_async:
                continue
            yield node.iter.lineno


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_async_generators_are_closed_by_whoever_consumes_them(path: Path) -> None:
    """`async for` runs over a name that `aclosing` bound, never over a call."""
    assert list(calls_in_async_for(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    """A file has at most 400 lines, a function at most 60."""
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_FILE
    long = [
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
    ]
    assert long == []


def find_code_runners(tree: ast.AST) -> Iterator[str]:
    """What makes code of bytes that somebody sends, or of a model's files."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name in RUNS_CODE)
            case ast.ImportFrom(module=str(module)) if module in RUNS_CODE:
                yield module
            case ast.Call(func=function, keywords=keywords):
                if ast.unparse(function) in RUNS_CODE:
                    yield ast.unparse(function)
                yield from (word.arg for word in keywords if word.arg and word.arg in RUNS_CODE)
            case _:
                pass


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_received_or_loaded_becomes_code(path: Path) -> None:
    """Files of models are safetensors, and what goes over a socket is protobuf or JSON."""
    assert list(find_code_runners(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "line",
    [
        *("import pickle", "from pickle import loads", "eval('1')", "torch.load(path)"),
        "Model.from_pretrained(name, trust_remote_code=True)",
    ],
)
def test_code_runners_are_found(line: str) -> None:
    """In each of their forms."""
    assert list(find_code_runners(ast.parse(line)))


def test_names_are_not_used_again_and_again() -> None:
    """No name of a file or of a public class stands in more than three places, or nobody knows which one is meant."""
    stems = Counter(path.stem for path in SOURCES if path.stem not in REPEATED_STEMS)
    classes = Counter(
        node.name
        for path in SOURCES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in (stems + classes).items() if count > 3] == []


def test_the_wall_clock_is_read_for_dates_alone() -> None:
    """It may change at any time: durations stand on `time.monotonic`, deadlines and retention on the steady clock."""
    reads = {"time.time", "time.time_ns", "datetime.now", "datetime.today", "date.today"}
    reads |= {"datetime.utcnow", "time.localtime", "time.gmtime", "current_timestamp"}
    readers = {
        str(path.relative_to(ROOT)).replace("atelier_", "", 1).partition("/")[2]
        for path in SOURCES
        if not path.is_relative_to(ROOT / "clients")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute | ast.Name)
        and (getattr(node, "attr", "") == "GetCurrentTime" or ast.unparse(node) in reads)
    }
    assert readers == WALL_CLOCK_READERS.keys()


def test_every_suppression_of_a_check_has_a_reason() -> None:
    """What follows `noqa: CODE` or `type: ignore[code]` on the line says why."""
    unexplained = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in EVERYTHING
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for found in [SUPPRESSION.search(line)]
        if found and path != Path(__file__) and not _find_reason(found[2])
    ]
    assert unexplained == []


def _find_reason(text: str) -> str:
    """What is left of the end of a line without codes and punctuation."""
    words = re.sub(r"\[[a-z, -]+\]|: [A-Z]+\d+(, [A-Z]+\d+)*|noqa|type: ignore", "", text)
    return words.strip(" #()-:")


def test_no_lock_names_a_registry() -> None:
    """Whoever installs decides where from."""
    locks = [*ROOT.glob("requirements/*.txt"), *ROOT.glob("clients/*/package-lock.json")]
    assert len(locks) > 10
    for lock in locks:
        assert not re.search(
            r'registry\+|"resolved": "http|index-url|find-links', lock.read_text()
        ), lock
    assert "/clients/rust/Cargo.lock" in (ROOT / ".gitignore").read_text().split()
