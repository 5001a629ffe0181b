"""Published pickles, read by an unpickler that resolves nothing but an allow-list."""

import io
import pickle
from collections.abc import Mapping
from typing import IO, Any

from bench.table import TableError


def restricted_load(
    data: bytes | IO[bytes], allowed: Mapping[tuple[str, str], Any] | None = None
) -> Any:
    """Unpickle, resolving no global but those in `allowed`, (module, name) -> object.

    Raises:
        TableError: the pickle is damaged, or asks for anything else.
    """

    class Restricted(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if allowed is None or (module, name) not in allowed:
                raise TableError(
                    f"refused: the file asks for {module}.{name}, which could run code"
                )
            return allowed[module, name]

    try:
        return Restricted(io.BytesIO(data) if isinstance(data, bytes) else data).load()
    except TableError:
        raise
    except Exception as error:  # a damaged pickle may raise nearly anything
        raise TableError(f"damaged pickle: {error}") from None
