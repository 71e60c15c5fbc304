"""`atelier init`: writes a configuration to begin with."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import click

from atelier_server.commands.configuration_options import UnusableError

_FOLDER = files("atelier_server.commands") / "configurations"
_DEFAULT = "default"
_REQUIRED_VARIABLE = re.compile(r"^[^#\n]*\$\{([A-Za-z_][A-Za-z0-9_]*)\}", re.MULTILINE)


def list_kinds() -> tuple[str, ...]:
    """The configurations that there are."""
    names = (name.name.removesuffix(".yaml") for name in _FOLDER.iterdir())
    return tuple(sorted(name for name in names if not name.startswith("__")))


@click.command()
@click.argument("kind", type=click.Choice(list_kinds()), default=_DEFAULT, metavar="[KIND]")
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path),
    default=Path("atelier.yaml"),
    show_default=True,
    help="File to write.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def init(kind: str, path: Path, *, force: bool) -> None:
    """Write a commented configuration, and say what to set.

    KIND is default, sdxl or lightning for models on this machine, comfyui, invokeai, fal, replicate, runpod, vastai,
    openai, ideogram or bfl for services, cluster for other Atelier servers.
    """
    text = (_FOLDER / f"{kind}.yaml").read_text(encoding="utf-8")
    try:
        _write(path, text, force=force)
    except FileExistsError as error:
        raise UnusableError(
            f"{path} exists: --force overwrites it, -o names another file"
        ) from error
    except OSError as error:
        raise UnusableError(f"cannot write {path}: {error.strerror}") from error
    click.echo(f"wrote {path}")
    variables = list(dict.fromkeys(_REQUIRED_VARIABLE.findall(text)))
    if variables:
        click.echo(f"set {', '.join(variables)} in {path.with_name('.env')} or in the environment")
    click.echo(f"next: atelier config check {path}; atelier serve --config {path}")


def _write(path: Path, text: str, *, force: bool) -> None:
    """Write the file; of a new one that cannot be written nothing is left."""
    is_new = not path.exists()
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        if is_new:
            path.unlink(missing_ok=True)
        raise
