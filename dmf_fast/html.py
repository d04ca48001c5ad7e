"""HTML tables for notebooks."""

from __future__ import annotations

from html import escape
from typing import Any

import pyarrow as pa

_MOST_ROWS, _MOST_COLUMNS = 10, 12


def html_table(table: pa.Table, caption: str = "") -> str:
    """Return a table as HTML: at most its first and last five rows, and its first twelve columns.

    The text is escaped, and no color is set, so that it can be read on light and on dark backgrounds.

    >>> html_table(pa.table({"model": ["<b>"], "RMSE": [0.9]}))[-62:]
    '<tbody><tr><td>&lt;b&gt;</td><td>0.9</td></tr></tbody></table>'
    """
    half, more = _MOST_ROWS // 2, table.num_columns > _MOST_COLUMNS
    shown = table.select(range(min(table.num_columns, _MOST_COLUMNS)))
    if table.num_rows > _MOST_ROWS:
        shown = pa.concat_tables([shown[:half], shown[table.num_rows - half :]])
    lines = [[_text(column[row].as_py()) for column in shown.columns] for row in range(shown.num_rows)]
    if table.num_rows > _MOST_ROWS:
        lines.insert(half, ["⋮"] * shown.num_columns)
        caption = f"{caption or 'table'}, {table.num_rows:,} rows"
    head, *body = ([*line, *(["…"] if more else [])] for line in (shown.column_names, *lines))
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    rows = "".join(_line(line, "td") for line in body)
    return f"<table>{title}<thead>{_line(head, 'th')}</thead><tbody>{rows}</tbody></table>"


def _line(cells: list[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.5g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
