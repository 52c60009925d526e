"""Tables as Markdown, and documents with tables between marks, which are made and not typed."""

import re
from pathlib import Path

from .errors import UserError
from .files import atomic

BLOCK = re.compile(r"(<!-- table (\w+)(?: of ([^>\n]*?))? -->\n).*?(<!-- end -->)", re.DOTALL)
"""A table in a document, `<!-- table NAME -->` … `<!-- end -->`; after `of` the first cells of its rows."""


def table(head: list[str], rows: list[list[str]]) -> str:
    """Rows of text as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def with_tables(text: str, tables: dict[str, str], path: Path) -> str:
    """The text with what stands between its marks filled in, whole or the rows that are asked for.

    Raises UserError on an unknown name or row; `path` is where it stands.
    """

    def fill(match: re.Match) -> str:
        opening, name, wanted, end = match.groups()
        if name not in tables:
            raise UserError(f"{path}: expected one of {', '.join(tables)}, found table {name!r}")
        if wanted is None:
            return opening + tables[name] + end
        lines = tables[name].splitlines(keepends=True)
        by_first = [(line.split("|")[1].strip(), line) for line in lines[2:]]
        kept = []
        for row in wanted.split(";"):
            found = [line for first, line in by_first if first == row.strip()]
            if not found:
                raise UserError(f"{path}: expected a row of table {name}, found {row.strip()!r}")
            kept += found
        return opening + "".join([*lines[:2], *kept]) + end

    return BLOCK.sub(fill, text)


def fill_document(path: Path, tables: dict[str, str]) -> None:
    """Fill the tables of a Markdown file in place. Raises UserError on an unknown name or row."""
    text = with_tables(path.read_text(), tables, path)
    with atomic(path) as draft:
        draft.write_text(text)
