"""Tables and sizes as commands print them."""

from collections.abc import Sequence


def aligned(table: Sequence[Sequence[str]], sides: str) -> list[str]:
    """The rows with columns of one width each.

    Args:
        sides: of every column, l or r: where its cells stand.
    """
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(row, widths, sides, strict=True)
        ).rstrip()
        for row in table
    ]


def how_much(size: float) -> str:
    """Bytes in the largest unit of which there is one: 532 B, 1.4 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
