"""Shows parameters, and the engine that was selected."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from atelier_client.cli.printable import strip_control_characters
from atelier_client.enums import Disposition
from atelier_client.results import Parameter, Selection


def build_parameter_table(parameters: tuple[Parameter, ...]) -> Table:
    """A table of the parameters, as requested and as used."""
    table = Table("parameter", "value", "disposition", "explanation", box=None)
    for parameter in parameters:
        value = "" if parameter.value is None else str(parameter.value)
        asked = parameter.requested
        how = str(parameter.disposition)
        if parameter.disposition is not Disposition.APPLIED and asked is not None:
            how = f"{how} from {asked}"
        table.add_row(
            *(
                Text(strip_control_characters(cell))
                for cell in (parameter.name, value, how, parameter.explanation)
            )
        )
    return table


def describe_engine(name: str, selection: Selection | None) -> str:
    """The engine, and why it was selected."""
    return f"{name} ({selection.explanation})" if selection is not None else name
