"""`[keys]`: an operator's own keys for actions, each checked against the table of actions."""

from __future__ import annotations

from console import config_values as read
from console.config_source import Section


def own_keys(root: Section) -> dict[str, str]:
    """Keys by the action's name. Raises ConfigurationError naming file, line and key of what cannot be."""
    raw = root.table("keys")
    if not raw:
        return {}
    from console import actions  # only who changes keys pays for the table of actions

    section = Section(root.source, ("keys",), raw, tuple(actions.BY_NAME))
    written = {name: section.take(name, read.text) for name in raw}
    try:
        return actions.checked_keys(written)
    except actions.KeyRefused as refused:
        name, why = refused.args
        raise section.refuse(name, why) from None
