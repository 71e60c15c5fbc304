"""Writes what the examples of the chart render, which a test compares: `python -m tests.chart.write_golden`."""

from __future__ import annotations

from contextlib import closing

import yaml

from tests.chart.charts import EXAMPLES, GOLDEN, Helm, read_example


def render_example(helm: Helm, name: str) -> str:
    """The objects of the example, as YAML."""
    return yaml.safe_dump_all(helm.render(read_example(name)).objects, sort_keys=False, width=120)


if __name__ == "__main__":
    with closing(Helm()) as running:
        for example in EXAMPLES:
            (GOLDEN / f"{example}.yaml").write_text(render_example(running, example))
