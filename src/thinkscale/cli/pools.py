"""What the commands on recorded pools share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from thinkscale.errors import StoreError
from thinkscale.settings import load
from thinkscale.store import Store


@contextmanager
def opened(store: str | None) -> Iterator[Store]:
    """The store that settings or a flag name.

    Raises:
        StoreError: they name none.
    """
    path = load({"store": store}).store_path
    if path is None:
        raise StoreError("pools are kept in the store, and `none` keeps nothing: name a file with `--store`")
    found = Store(path)
    try:
        yield found
    finally:
        found.close()
