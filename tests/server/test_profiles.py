"""What the top of a configuration says about all engines: tests without models, and where models are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_server.config.configuration_files import ConfigurationError
from atelier_server.config.load import load
from atelier_server.config.settings import Settings

REMOTE = {
    "engines": {
        "dear": {
            "type": "fal",
            "api_key": "${NO_SUCH_KEY}",
            "queue_limit": 7,
            "fallbacks": ["mine"],
        },
        "mine": {"type": "diffusion", "model": "owner/name", "result_cache_bytes": 1},
    }
}


def read(folder: Path, config: object, **overrides: object) -> Settings:
    """The settings of a configuration."""
    path = folder / "atelier.yaml"
    path.write_text(yaml.safe_dump(config))
    return load(path, **overrides)  # type: ignore[arg-type]  # settings by name


@pytest.mark.parametrize(
    ("testing", "overrides"),
    [(True, {}), ("${TESTING:-false}", {}), (False, {"testing": True})],
    ids=["configured", "environment", "option"],
)
def test_in_tests_every_engine_is_a_sketch_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, testing: object, overrides: dict[str, object]
) -> None:
    """With the settings that every engine has; keys that are not set are not asked for."""
    monkeypatch.setenv("TESTING", "true")
    settings = read(tmp_path, {**REMOTE, "testing": testing}, **overrides)
    assert {name: engine.type for name, engine in settings.engines.items()} == {
        "dear": "sketch",
        "mine": "sketch",
    }
    dear = settings.engines["dear"]
    assert (dear.queue_limit, list(dear.fallbacks)) == (7, ["mine"])


def test_a_configuration_has_the_styles_that_it_names(tmp_path: Path) -> None:
    """Those of the default engines are for a configuration without styles and engines."""
    assert list(read(tmp_path, {"styles": {"ink": {}}}).styles) == ["ink"]
    assert list(read(tmp_path, {"engines": {"a": {"type": "sketch"}}}).styles) == []


def test_an_option_replaces_one_key_of_its_section(tmp_path: Path) -> None:
    """The others are as configured."""
    log = read(tmp_path, {"log": {"format": "json"}}, log={"level": "error"}).log
    assert (log.format, log.level) == ("json", "error")


def test_an_option_does_not_repair_a_section_that_is_wrong(tmp_path: Path) -> None:
    """Which is named, as without the option."""
    with pytest.raises(ConfigurationError, match="log: "):
        read(tmp_path, {"log": 3}, log={"level": "info"})


def test_otherwise_engines_are_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the variable is set and the configuration does not name it."""
    monkeypatch.setenv("TESTING", "true")
    with pytest.raises(ConfigurationError, match="NO_SUCH_KEY is not set"):
        read(tmp_path, REMOTE)


def test_weights_are_looked_up_in_the_directory_of_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the whole server, of the environment, or of the engine; other names stay as they are."""
    for name in ("a/ink.safetensors", "b/ink.safetensors", "a/loras/x.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    section = {
        "type": "diffusion",
        "model": "ink.safetensors",
        "vae": "owner/name",
        "loras": {"x": "loras/x.safetensors"},
    }

    def find(top: dict[str, str], **own: str) -> DiffusionConfig:
        config = read(tmp_path, {**top, "engines": {"e": {**section, **own}}}).engines["e"].config
        assert isinstance(config, DiffusionConfig)
        return config

    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    found = find({"models_dir": a})
    assert (found.model, found.vae) == (f"{a}/ink.safetensors", "owner/name")
    assert found.loras == {"x": f"{a}/loras/x.safetensors"}
    assert find({"models_dir": a}, models_dir=b).model == f"{b}/ink.safetensors"
    monkeypatch.setenv("MODELS_DIR", b)
    assert find({}).model == f"{b}/ink.safetensors"
    assert find({"models_dir": a}).model == f"{a}/ink.safetensors"


@pytest.mark.parametrize("elsewhere", ["", "/elsewhere"])
def test_downloads_are_kept_in_the_directory_of_models(tmp_path: Path, elsewhere: str) -> None:
    """Unless the environment names another place; the client of the hub, imported later, reads that."""
    (tmp_path / "atelier.yaml").write_text(
        yaml.safe_dump({"models_dir": str(tmp_path), "engines": {"e": {"type": "diffusion"}}})
    )
    script = (
        "import sys, json; from pathlib import Path;"
        "from atelier_server.config.load import load;"
        "from atelier_server.config.profiles import keep_downloads;"
        "keep_downloads(load(Path(sys.argv[1], 'atelier.yaml')));"
        "early = 'huggingface_hub' in sys.modules;"
        "import huggingface_hub.constants as hub; print(json.dumps([early, hub.HF_HUB_CACHE]))"
    )
    setting = [f"HF_HUB_CACHE={elsewhere}"] if elsewhere else ["--unset=HF_HUB_CACHE"]
    command = ["/usr/bin/env", *setting, sys.executable, "-c", script, str(tmp_path)]
    made = subprocess.run(command, capture_output=True, check=True, text=True)
    assert json.loads(made.stdout) == [False, elsewhere or str(tmp_path / "hub")]
