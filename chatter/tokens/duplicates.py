"""Messages that are said again and again, of which only the first few are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pyarrow as pa

from chatter.tokens.chat import clean


def drop_duplicates(columns: Mapping[str, pa.Array], seen: Counter, max_duplicates: int) -> dict[str, pa.Array]:
    """Return the rows of the first `max_duplicates` identical messages. `seen` counts messages across calls."""
    kept = []
    for message in map(clean, columns["message"].to_pylist()):
        seen[message] += 1
        kept.append(seen[message] <= max_duplicates or not message)
    return {name: column.filter(pa.array(kept, pa.bool_())) for name, column in columns.items()}
