"""Everything that can go wrong, as one tree; the class answers "may I try again?".

SextantError
├── ConfigurationError         definite: what the operator wrote cannot be run (exit code 2)
├── DeskUnusable               definite: state on disk is not ours, newer, read-only (exit code 3)
│   └── DeskHeld               definite while it lasts: another engine commands this desk; the message names it
├── StoreError
│   ├── StoreUnavailable       transient: nothing was written
│   ├── CommitUnknown          nobody knows whether the transaction holds; settle it by tombstone
│   └── DuplicateKey           definite: somebody already holds this natural key
├── LinkError
│   ├── LinkDown               transient: the request provably never left
│   ├── AnswerLost             the request may have been executed: the order is in doubt
│   ├── LockedOut              the broker refused unexecuted and names when to come back
│   └── QueryFailed            transient: a question got no complete answer; it proves nothing
├── IllegalCommand             definite: our own table of order states forbids what we asked
├── StartOver                  nothing failed: a session has to go through its start again
└── StrategyFailed             definite for this candle: the strategy raised or ran away
"""

from __future__ import annotations


class SextantError(Exception):
    """Base of every error this program raises on purpose."""


class ConfigurationError(SextantError):
    """The settings cannot be run; the message names file, line, key and the way out."""


class DeskUnusable(SextantError):
    """The state directory or database must not be touched; the message says why."""


class DeskHeld(DeskUnusable):
    """Another engine commands this desk or one of its accounts; one may look on, and send nothing."""


class StoreError(SextantError):
    """The audit trail did not take or give what was asked.

    `machine`: a disk, memory or the server is why, and proves nothing against the row that met it.
    """

    def __init__(self, message: str = "", *, machine: bool = False) -> None:
        super().__init__(message)
        self.machine = machine


class StoreUnavailable(StoreError):
    """The database does not answer; nothing was written."""


class CommitUnknown(StoreError):
    """The answer to a commit was lost; the rows may or may not be there."""


class DuplicateKey(StoreError):
    """The natural key is taken: this was written before."""


class LinkError(SextantError):
    """A request to a broker did not end in an answer."""


class LinkDown(LinkError):
    """The link is down and the request provably never left."""


class AnswerLost(LinkError):
    """The request may have reached the broker; its outcome is unknown."""


class LockedOut(LinkError):
    """The broker refused without executing and will not listen until a stated time."""

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class QueryFailed(LinkError):
    """A question to the broker got no complete, successful answer."""


class IllegalCommand(SextantError):
    """Our own state table forbids this command for an order in this state."""


class StartOver(SextantError):
    """A session has to go through its start again; nothing of it failed."""


class StrategyFailed(SextantError):
    """A strategy raised, returned nonsense, or ran longer than it may."""
