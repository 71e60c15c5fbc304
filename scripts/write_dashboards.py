"""Writes the dashboards of the chart, for Grafana: helm/atelier/dashboards/*.json.

python -m scripts.write_dashboards [--check]
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.dashboards import DASHBOARDS, Dashboard, Panel

FOLDER = Path(__file__).parent.parent / "helm" / "atelier" / "dashboards"
WIDTH = 24  # columns of Grafana's grid
HEIGHT = 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def write(dashboard: Dashboard) -> str:
    """The dashboard in Grafana's format."""
    panels: list[Mapping[str, Any]] = []
    for y, row in enumerate(dashboard.rows):
        width = WIDTH // len(row)
        for x, panel in enumerate(row):
            place = {"x": x * width, "y": y * HEIGHT, "w": width, "h": HEIGHT}
            panels.append(_panel(panel, number=len(panels) + 1, place=place))
    model = {
        "uid": f"atelier-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["atelier"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_data_source(), _variable("namespace"), _variable("job")]},
        "panels": panels,
    }
    return json.dumps(model, indent=1) + "\n"


def _panel(panel: Panel, *, number: int, place: Mapping[str, int]) -> Mapping[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + index),
            "expr": query,
            "legendFormat": legend,
            "datasource": SOURCE,
        }
        for index, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": targets,
    }


def _data_source() -> Mapping[str, Any]:
    return {
        "name": "datasource",
        "type": "datasource",
        "query": "prometheus",
        "label": "Prometheus",
    }


def _variable(name: str) -> Mapping[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": f"label_values(atelier_build_info, {name})",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def main() -> None:
    """Write them, or with --check fail if they are out of date."""
    stale = []
    for dashboard in DASHBOARDS:
        path = FOLDER / f"{dashboard.name}.json"
        text = write(dashboard)
        if not path.exists() or path.read_text() != text:
            stale.append(path)
            if "--check" not in sys.argv:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
    names = ", ".join(path.name for path in stale)
    if stale and "--check" in sys.argv:
        sys.exit(f"out of date: {names}; run `make chart-files`")


if __name__ == "__main__":
    main()
