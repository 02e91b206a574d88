"""A head that is refused."""

from __future__ import annotations

from idemproxy.errors import IdemproxyError


class BadHead(IdemproxyError):
    """A head that is refused. `status` is the answer's; `detail` never echoes what came."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
