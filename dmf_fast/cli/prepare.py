"""``dmf-fast prepare``: turns ratings of any size into row blocks."""

from __future__ import annotations

import click

from dmf_fast.checks import printable
from dmf_fast.cli.options import PrepareOptions
from dmf_fast.cli.streams import say, shown
from dmf_fast.cli.targets import check_apart, check_utf8
from dmf_fast.data.blocks import prepare_blocks


def prepare(options: PrepareOptions) -> None:
    """Distribute the rows of ratings over blocks."""
    out = options.out
    if out is None:
        raise ValueError("prepare needs --out: name a folder to write, such as ratings.blocks")
    name = f"--out {printable(out)}"
    if out.exists() and not out.is_dir():
        raise ValueError(f"{name} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not options.overwrite:
        raise ValueError(f"{name} exists and is not empty; name another folder or pass --overwrite")
    context = click.get_current_context(silent=True)
    config = None if context is None else context.params.get("config")
    check_utf8("--out", out)
    check_apart(name, out, {"RATINGS": options.ratings, "--config": config})
    facts = prepare_blocks(
        options.ratings,
        out,
        options.blocks,
        options.read_options(dtype=options.dtype),
        duplicates=options.duplicates,
        memory=options.memory,
        threads=options.threads,
    )
    if facts.bad_rows:
        say(f"{options.ratings}: {facts.bad_rows}")
    click.echo(
        shown(
            f"{facts.entries:,} ratings of {facts.rows:,} rows and {facts.columns:,} columns in "
            f"{facts.blocks:,} blocks, the largest of {max(facts.block_entries):,}: {out}"
        )
    )
