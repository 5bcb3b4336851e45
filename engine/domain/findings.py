"""What a look at something kept found: one line each, with the way out when it is not well."""

from __future__ import annotations

from msgspec import Struct


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was looked at; `way_out` says what a person can do, and is empty when all is well."""

    check: str
    ok: bool
    detail: str
    way_out: str = ""
