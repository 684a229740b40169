"""Errors of the store itself."""

from __future__ import annotations

from perdure.errors.roots import StoreError, UsageError

# --- the store ---------------------------------------------------------------------------------


class StoreUnavailable(StoreError):
    """The store is closed, poisoned or unreachable; nothing was written by this call."""

    code = "store-unavailable"
    retryable = True


class StoreNotFound(StoreError):
    """There is no store at this URL; check it, or let `open_store` create one."""

    code = "store-not-found"


class StoreBusy(StoreError):
    """Another process held the write lock for longer than the limit; nothing was written."""

    code = "store-busy"
    retryable = True


class StoreFull(StoreError):
    """The disk is full; nothing was written. Make room and repeat the call."""

    code = "store-full"
    retryable = True


class StoreCorrupt(StoreError):
    """The file is not a Perdure store, or its content is damaged. Restore it from a backup."""

    code = "store-corrupt"


class StoreWentBack(StoreError):
    """The database lost commits that it had acknowledged. Stop, and find out which server answers."""

    code = "store-went-back"


class OutcomeUnknown(StoreError):
    """Whether the transaction was committed is not known; reopen the store and ask `Store.settle`."""

    code = "outcome-unknown"

    def __init__(self, *, node: str, batch: int, cause: str) -> None:
        super().__init__(
            f"batch {batch} of writer {node}: its outcome is unknown ({cause}); reopen the store, then "
            f"`await store.settle(error)` tells whether it was committed"
        )
        self.node = node
        self.batch = batch
        self.cause = cause


class LeaseLost(StoreError):
    """Somebody else holds the right to do this now; a newer holder goes on with it."""

    code = "lease-lost"
    retryable = True


class Overloaded(StoreError):
    """A queue is at its limit; nothing was written. Repeat later."""

    code = "overloaded"
    retryable = True


class TransactionTooLarge(StoreError):
    """One transaction is larger than a batch may be; split it."""

    code = "transaction-too-large"


class TransactionRefused(StoreError):
    """The database refused this transaction, and only this one; the cause is in the text."""

    code = "transaction-refused"


class SchemaTooNew(StoreError):
    """A newer Perdure has changed this store, and this one cannot work with it; use that version or a later one."""

    code = "schema-too-new"


class MigrationChanged(StoreError):
    """A migration that this store has applied differs from the one in this installation."""

    code = "migration-changed"


class CopyUnfinished(StoreError):
    """The copy into this store is not finished; run `perdure store copy` again, it goes on where it was."""

    code = "copy-unfinished"


class CopyFailed(StoreError):
    """What arrived is not what the source has; the target cannot be used. Remove it, and begin again."""

    code = "copy-failed"


class CopyRefused(UsageError):
    """This store cannot be copied into that one; the text says why, and nothing was changed that counts."""

    code = "copy-refused"


class UnknownScheme(UsageError):
    """The store URL names no backend."""

    code = "unknown-scheme"
