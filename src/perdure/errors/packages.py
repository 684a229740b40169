"""Errors of packages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from perdure.errors.roots import PerdureError, UsageError

_SHOWN = 200  # characters of a path in a text

# --- packages: what their archives are refused for ---------------------------------------------------


class PackageRefused(UsageError):
    """An archive is no package that is taken here; nothing was stored, and nothing in it was run."""

    code = "package-refused"


class PackageTooLarge(PackageRefused):
    """An archive, or a part of it, is over its limit; leave out what the processes do not need."""

    code = "package-too-large"

    def __init__(self, what: str, *, found: int, limit: int) -> None:
        super().__init__(f"{what}: {found:,}, the limit is {limit:,}; leave out what the processes do not need")
        self.found = found
        self.limit = limit


class PackageArchiveMalformed(PackageRefused):
    """An archive has a byte that `perdure package build` does not write; the text says where. Build it anew."""

    code = "package-archive-malformed"


class PackageManifestMissing(PackageRefused):
    """An archive has no `perdure.json`: it is no package, or was made by something else than `perdure package build`."""

    code = "package-manifest-missing"


class PackageManifestMalformed(PackageRefused):
    """A manifest is not canonical JSON, or breaks a rule of its fields; the text has the path."""

    code = "package-manifest-malformed"


class PackageFormatUnknown(PackageRefused):
    """A manifest is of a format that this Perdure does not know; a newer one may."""

    code = "package-format-unknown"

    def __init__(self, *, found: int, known: int) -> None:
        super().__init__(f"perdure.json: format {found}, this Perdure knows format {known}; upgrade it, or build the package for it")
        self.found = found
        self.known = known


class PackagePathRefused(PackageRefused):
    """A path breaks a rule of its own, or with another path of its package.

    Attributes:
        path: as it stands in the package, below `src/`.
    """

    code = "package-path-refused"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path[:_SHOWN]!a}: {reason}")
        self.path = path


class PackagePathInvalid(PackagePathRefused):
    """A path is not one that means the same file on every system; rename the file."""

    code = "package-path-invalid"


class PackagePathDuplicate(PackagePathRefused):
    """Two paths are one, or a file and a folder are, on some system; rename one of them."""

    code = "package-path-duplicate"


class PackageModuleAmbiguous(PackagePathRefused):
    """One name is a module and a package of modules; rename one of them."""

    code = "package-module-ambiguous"


class PackageNativeCode(PackagePathRefused):
    """A package holds compiled code; it belongs into a distribution that the package requires."""

    code = "package-native-code"


class PackageNameReserved(PackagePathRefused):
    """A name at the top of a package is one of the standard library's, of the interpreter's or of Perdure's; rename it."""

    code = "package-name-reserved"


class PackageFileUnlisted(PackagePathRefused):
    """A file is in the archive and not in its manifest."""

    code = "package-file-unlisted"


class PackageFileMissing(PackagePathRefused):
    """A file is in the manifest and not in its archive."""

    code = "package-file-missing"


class PackageFileCorrupt(PackagePathRefused):
    """A file is not the one that the manifest names by size and SHA-256."""

    code = "package-file-corrupt"


class PackageIdentityMismatch(PackageRefused):
    """An archive is not the package that was asked for."""

    code = "package-identity-mismatch"

    def __init__(self, *, expected: str, found: str) -> None:
        super().__init__(f"expected package {expected}, found {found}; fetch the archive again, or name the package that it is")
        self.expected = expected
        self.found = found


class PackageUntrusted(PackageRefused):
    """No key that is trusted here has signed a package.

    Attributes:
        trusted: the keys that are.
        signed: the keys of its signatures, right or wrong.
    """

    code = "package-untrusted"

    def __init__(self, identity: str, reason: str, *, trusted: Sequence[str], signed: Sequence[str]) -> None:
        names = [", ".join(keys) or "none" for keys in (trusted, signed)]
        super().__init__(
            f"package {identity}: {reason}; trusted keys: {names[0]}; keys that signed: {names[1]}; sign it with a trusted key"
        )
        self.trusted = tuple(trusted)
        self.signed = tuple(signed)


class SigningUnavailable(UsageError):
    """Signatures of packages need a distribution that is not installed: `pip install 'perdure[signing]'`."""

    code = "signing-unavailable"


# --- packages: loading a version -----------------------------------------------------------------------


class Unmet(NamedTuple):
    """One thing that a version needs and this node has not: a distribution or Python, the range, the version found (None: none)."""

    distribution: str
    expected: str
    found: str | None


class PackageRequirementUnmet(PerdureError):
    """This node has not what the version needs; nothing of its code ran. Install it and restart the node, or use another node.

    Attributes:
        unmet: all that is missing or out of range; at least one.
    """

    code = "package-requirement-unmet"

    def __init__(self, package: str, unmet: Sequence[Unmet]) -> None:
        lacking = "; ".join(
            f"{one.distribution}: expected {one.expected or 'any version'}, found {'none' if one.found is None else one.found}"
            for one in unmet
        )
        super().__init__(f"package {package}: {lacking}; install what it needs and restart this node, or leave it to another one")
        self.unmet = tuple(unmet)


class PackageImportFailed(PerdureError):
    """Code of the version raised while it was imported; nothing of it stays. Correct it, and deploy what comes of that.

    Attributes:
        module: whose import raised, by its public name.
        error: class and text of what it raised.
        traceback: of it, at most `limits.PACKAGE_TRACEBACK_MAX` characters.
    """

    code = "package-import-failed"

    def __init__(self, package: str, *, module: str, error: str, traceback: str = "") -> None:
        text = f"package {package}: the import of {module} failed: {error}; correct it, and deploy the package anew"
        super().__init__(f"{text}\n{traceback}" if traceback else text)
        self.module = module
        self.error = error
        self.traceback = traceback


class PackageEntryMissing(PerdureError):
    """The version has no such object, although it names it as one of its own. Build it anew, from code that has it."""

    code = "package-entry-missing"

    def __init__(self, package: str, entry: str) -> None:
        super().__init__(f"package {package}: it names {entry}, and has no such object; expected MODULE:NAME of its own, build it anew")
        self.entry = entry


class PackageUnloaded(PerdureError, ImportError):
    """Code of a version was asked for that this process has not loaded, or has evicted; who uses a version has to hold a pin."""

    code = "package-unloaded"

    def __init__(self, name: str, tag: str) -> None:
        super().__init__(f"{name} of package {tag}: that version is not loaded in this process")
        self.name = name
