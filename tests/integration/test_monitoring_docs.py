"""docs/monitoring: every metric and event is explained, and alerts and dashboard name none that isn't there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.devices import insert
from tests.support.http import http_client
from tests.support.network import running_server, streaming

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGE = (DOCS / "monitoring.md").read_text()
ALERTS = yaml.safe_load((DOCS / "monitoring" / "alerts.yml").read_text())
DASHBOARD = json.loads((DOCS / "monitoring" / "grafana.json").read_text())

RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
TARGETS: list[str] = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
_NAME = re.compile(r"\b(?:kora|process)_\w+")
_MATCHER = re.compile(r"(\w+)\{([^}]*)\}")


@pytest.fixture
async def scraped() -> str:
    """What a server says that has had a device."""
    async with running_server() as host, http_client(host.port) as client:
        async with streaming(host.url, "a") as a:
            await a.upload(insert("a", 1))
            await a.hear()
            return (await client.ask("/__kora/metrics")).body.decode()


def series(text: str) -> dict[str, set[str]]:
    """The names of all samples, and the names of their labels."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


async def test_every_metric_is_explained_and_no_other(scraped: str) -> None:
    told = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in text_string_to_metric_families(scraped)
        if not family.name.endswith(("_gcount", "_gsum"))
    }
    explained = set(re.findall(r"^\| `((?:kora|process)_\w+)` \|", PAGE, re.M))
    assert explained == told


def test_every_event_is_explained_and_no_other() -> None:
    source = "".join(path.read_text() for path in (ROOT / "kora_daemon").rglob("*.py"))
    told = set(re.findall(r'journal\.(?:record|repeat)\(\s*f?"([\w.{}]+)"', source))
    told = {one for name in told for one in _spelled_out(name)}
    table = PAGE.split("## Events")[1].split("## ")[0]
    explained = {name for line in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`([^`]+)`", line)}
    assert explained == told


def _spelled_out(name: str) -> list[str]:
    return [name.replace("{outcome}", outcome) for outcome in ("refused", "unavailable")] if "{" in name else [name]


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_alerts_are_whole(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("page", "warn")
    assert rule["annotations"]["summary"]
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in RULES), *TARGETS])
async def test_what_is_asked_for_is_there(expression: str, scraped: str) -> None:
    known = series(scraped)
    for name in _NAME.findall(expression):
        assert name in known, name
    for name, matchers in _MATCHER.findall(expression):
        labels = set(re.findall(r"(\w+)\s*=", matchers))
        assert labels <= known.get(name, set()) | {"job", "instance"}, name
    for opening, closing in ("()", "[]", "{}"):
        assert expression.count(opening) == expression.count(closing)
    if "histogram_quantile" in expression:
        assert "_bucket" in expression


@pytest.mark.parametrize("expression", [rule["expr"] for rule in RULES])
async def test_alerts_name_values_of_labels_that_are_there(expression: str, scraped: str) -> None:
    for name, label, value in re.findall(r'(\w+)\{(\w+)="([^"]*)"\}', expression):
        if label != "job":
            assert re.search(rf'{name}{{[^}}]*{label}="{value}"', scraped), expression


def test_the_dashboard_is_whole() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in DASHBOARD["panels"]:
        assert panel["targets"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    assert {one["name"] for one in DASHBOARD["templating"]["list"]} == {"datasource", "instance"}
