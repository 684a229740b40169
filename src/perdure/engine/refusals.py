"""Why a package cannot be used, as one interpreter tells it another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from perdure.errors import (
    DefinitionError,
    PackageEntryMissing,
    PackageImportFailed,
    PackageImportsByText,
    PackageRequirementUnmet,
    PackageSchemaDrift,
    PerdureError,
    Unmet,
)


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """A package that cannot be used, with what the error of this code is made of.

    Attributes:
        code: of the error.
        text: of the error.
        texts: what it is made of besides, where that is text.
        unmet: what is missing, for `package-requirement-unmet`.
    """

    code: str
    text: str = ""
    texts: tuple[str, ...] = ()
    unmet: tuple[Unmet, ...] = ()

    @classmethod
    def by(cls, error: PerdureError) -> Failed:
        """Return what is told of an error."""
        texts = _TEXTS.get(type(error), lambda _: ())(error)
        return cls(code=error.code, text=str(error), texts=texts, unmet=error.unmet if isinstance(error, PackageRequirementUnmet) else ())

    def error(self, package: str) -> PerdureError:
        """Return the error that this was made of.

        Args:
            package: what its text calls the package.
        """
        make = _ERRORS.get(self.code)
        return PackageImportFailed(package, module=package, error=f"{self.code}: {self.text}") if make is None else make(package, self)


_TEXTS: Final[Mapping[type[PerdureError], Callable[[Any], tuple[str, ...]]]] = {
    PackageEntryMissing: lambda error: (error.entry,),
    PackageImportFailed: lambda error: (error.module, error.error, error.traceback),
    PackageImportsByText: lambda error: error.places,
    PackageSchemaDrift: lambda error: (error.where, error.expected, error.found),
}
_ERRORS: Final[Mapping[str, Callable[[str, Failed], PerdureError]]] = {
    DefinitionError.code: lambda _, failed: DefinitionError(failed.text),
    PackageEntryMissing.code: lambda package, failed: PackageEntryMissing(package, *failed.texts),
    PackageImportFailed.code: lambda package, failed: _import_failed(package, *failed.texts),
    PackageImportsByText.code: lambda package, failed: PackageImportsByText(package, failed.texts),
    PackageRequirementUnmet.code: lambda package, failed: PackageRequirementUnmet(package, failed.unmet),
    PackageSchemaDrift.code: lambda package, failed: PackageSchemaDrift(package, *failed.texts),
}


def _import_failed(package: str, module: str, error: str, traceback: str) -> PackageImportFailed:
    return PackageImportFailed(package, module=module, error=error, traceback=traceback)
