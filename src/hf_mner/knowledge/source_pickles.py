"""What a pickle of a source holds: its settings and the state of its files, nothing that it opened or noted in use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar


class PickledUnopened:
    """A source whose pickle is the same before and after its use, so that `datasets` finds what it computed before.

    A copy in another process opens model or file again. The digest of the files belongs to the pickle: other contents
    give another fingerprint.

    Attributes:
        before_use: attributes that use changes, and what they hold before.
        digest: the cached property with the digest of the files, `""` without one.
    """

    before_use: ClassVar[Mapping[str, Any]] = {}
    digest: ClassVar[str] = ""

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes as they were before the first use, sorted, since a pickle shows the order."""
        kept = {name: value for name, value in vars(self).items() if not self._is_cached(name)}
        state = {**kept, **{name: value for name, value in self._unopened().items() if name in kept}}
        if self.digest:
            state[self.digest] = getattr(self, self.digest)
        return dict(sorted(state.items()))

    def _unopened(self) -> Mapping[str, Any]:
        return self.before_use

    def _is_cached(self, name: str) -> bool:
        return isinstance(getattr(type(self), name, None), cached_property)
