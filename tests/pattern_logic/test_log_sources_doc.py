"""The documentation's tables say what the catalogue says."""

from __future__ import annotations

from pathlib import Path

from sharing_protocol.pattern_logic.catalogue import Category, Field, fields_in
from sharing_protocol.pattern_logic.detections import check_detection
from sharing_protocol.pattern_logic.issues import IssueList
from sharing_protocol.strict_json import Json

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "log-sources.md").read_text(encoding="utf-8")
WINDOWS = "### Windows"


def section(heading: str) -> str:
    """What stands below a heading, up to the next one."""
    return PAGE.split(f"\n{heading}\n")[1].split("\n#")[0]


def row(field: Field) -> str:
    otel = f"`{field.otel}`" if field.otel else ""
    return f"| `{field.name}` | {field.type} | {field.unit} | {field.meaning} | {otel} |"


def rows(heading: str) -> list[str]:
    return [line for line in section(heading).splitlines() if line.startswith("| `")]


def test_each_category_has_exactly_the_documented_fields() -> None:
    shared = rows(WINDOWS)
    for category in Category:
        heading = f"### `category: {category}`"
        documented = rows(heading) if category is Category.REQUEST else shared + rows(heading)
        assert documented == [row(field) for field in fields_in(category).values()]


def test_every_refused_modifier_is_documented() -> None:
    first_cells = [line.split("|")[1] for line in section("### Modifiers").splitlines() if line.startswith("|")]
    documented = {word.strip("` ") for cell in first_cells for word in cell.split(",")}
    for modifier in ("base64", "base64offset", "wide", "utf16", "utf16be", "windash", "expand", "minute", "year"):
        issues = IssueList()
        detection: dict[str, Json] = {"s": {f"prompt.text|{modifier}": "x"}, "condition": "s"}
        check_detection(detection, Category.REQUEST, "", issues)
        assert len(issues) == 1
        assert modifier in documented
