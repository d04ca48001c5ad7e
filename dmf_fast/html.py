"""Tables that notebooks show."""

from __future__ import annotations

from html import escape
from typing import Any

import pyarrow as pa

_MOST_ROWS = 10


def html_table(table: pa.Table, caption: str = "") -> str:
    """Return a table as HTML; of more than ten rows the first and the last five.

    The text is escaped, and no color is set, so that it can be read on light and on dark backgrounds.

    >>> html_table(pa.table({"model": ["<b>"], "RMSE": [0.9]}))[-62:]
    '<tbody><tr><td>&lt;b&gt;</td><td>0.9</td></tr></tbody></table>'
    """
    half = _MOST_ROWS // 2
    rows = table.num_rows
    shown = table if rows <= _MOST_ROWS else pa.concat_tables([table[:half], table[rows - half :]])
    lines = [_line([_text(value) for value in row.values()], "td") for row in shown.to_pylist()]
    if rows > _MOST_ROWS:
        lines.insert(half, _line(["⋮"] * table.num_columns, "td"))
        caption = f"{caption} ({rows:,} rows)" if caption else f"{rows:,} rows"
    head = _line(table.column_names, "th")
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead>{head}</thead><tbody>{''.join(lines)}</tbody></table>"


def _line(cells: list[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.5g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
