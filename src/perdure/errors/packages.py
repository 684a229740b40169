"""Errors of packages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from perdure.errors.roots import NotFoundError, PerdureError, RejectedError, UsageError

_SHOWN = 200  # characters of a path in a text
_PLACES = 5  # lines of source in a text

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


class PackageWithoutTypes(PackageRefused):
    """A package defines no process type, so that nothing could be started from it."""

    code = "package-without-types"


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


class PackageIsolationUnavailable(PackageRefused):
    """A package asks for an interpreter of its own (`isolation: process`), and cannot have one; nothing of it was run."""

    code = "package-isolation-unavailable"

    def __init__(self, package: str, reason: str) -> None:
        super().__init__(f"package {package}: it asks for an interpreter of its own (isolation: process): {reason}")


class PackageImportsByText(PackageRefused):
    """Code of a package gives the package's own name to a function as text, which would find another package or none; nothing of it was run.

    Attributes:
        places: where, as `path:line: what stands there`.
    """

    code = "package-imports-by-text"

    def __init__(self, package: str, places: Sequence[str]) -> None:
        shown = "; ".join(places[:_PLACES]) + (f"; and {len(places) - _PLACES:,} more" if len(places) > _PLACES else "")
        super().__init__(
            f"package {package}: {shown}: its code has no public name: write an import statement, __package__, or "
            f"importlib.import_module('.x', __package__)"
        )
        self.places = tuple(places)


class SigningUnavailable(UsageError):
    """Signatures of packages need a distribution that is not installed: `pip install 'perdure[signing]'`."""

    code = "signing-unavailable"


# --- packages: building one ----------------------------------------------------------------------------


class PackageBuildRefused(UsageError):
    """No package can be made of a folder; the text names the file, or the key of `pyproject.toml`, and what to do."""

    code = "package-build-refused"


class PackageUnstable(UsageError):
    """A type comes out otherwise in another interpreter: something in it depends on the order of a set, or on chance. Give it one order."""

    code = "package-unstable"

    def __init__(self, package: str, where: str, first: str, second: str) -> None:
        text = f"package {package}: {where}: {first:.{_SHOWN}} in one interpreter, {second:.{_SHOWN}} in the next"
        super().__init__(f"{text}; leave out what depends on the order of a set, or on chance")
        self.where = where


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


class PackageEnvironmentFailed(PerdureError):
    """The environment of a package with an interpreter of its own cannot be built here; nothing of its code ran. The text has the last lines of pip.

    Correct `requirements.lock` and build the package anew, or give this node what pip needs, and retry the stranded.
    """

    code = "package-environment-failed"

    def __init__(self, package: str, reason: str) -> None:
        super().__init__(f"package {package}: its environment cannot be built: {reason}")


class PackageImportFailed(PerdureError):
    """Code of the version raised while it was imported; nothing of it stays. Correct it, and deploy what comes of that.

    Attributes:
        package: what errors call the version.
        module: whose import raised, by its public name.
        error: class and text of what it raised.
        traceback: of it, at most `limits.PACKAGE_TRACEBACK_MAX` characters.
    """

    code = "package-import-failed"

    def __init__(self, package: str, *, module: str, error: str, traceback: str = "") -> None:
        text = f"package {package}: the import of {module} failed: {error}; correct it, and deploy the package anew"
        super().__init__(f"{text}\n{traceback}" if traceback else text)
        self.package = package
        self.module = module
        self.error = error
        self.traceback = traceback


class PackageEntryMissing(PerdureError):
    """The version has no such object, although it names it as one of its own. Build it anew, from code that has it."""

    code = "package-entry-missing"

    def __init__(self, package: str, entry: str) -> None:
        super().__init__(f"package {package}: it names {entry}, and has no such object; expected MODULE:NAME of its own, build it anew")
        self.entry = entry


class PackageSchemaDrift(PerdureError):
    """A type comes out other than when the package was built: one of a distribution's has changed. Build it anew, or narrow its ranges."""

    code = "package-schema-drift"

    def __init__(self, package: str, where: str, expected: str, found: str) -> None:
        text = f"package {package}: {where}: built with {expected:.{_SHOWN}}, found {found:.{_SHOWN}}"
        super().__init__(f"{text}; build it anew, or narrow the range of the distribution that the type is from")
        self.where = where
        self.expected = expected
        self.found = found


class NodeNotReady(PerdureError):
    """Open processes are on packages that this node cannot load; deploy them, install what they need, or start it with `strict` off."""

    code = "node-not-ready"
    retryable = True

    def __init__(self, packages: Sequence[str]) -> None:
        shown = ", ".join(packages[:10]) + (", …" if len(packages) > 10 else "")  # noqa: PLR2004  # as many as fit a line
        super().__init__(f"open processes are on packages that this node cannot load: {shown}; its log says why")
        self.packages = tuple(packages)


class PackageUnloaded(PerdureError, ImportError):
    """Code of a version was asked for that this process has not loaded, or has evicted; who uses a version has to hold a pin."""

    code = "package-unloaded"

    def __init__(self, name: str, tag: str) -> None:
        super().__init__(f"{name} of package {tag}: that version is not loaded in this process")
        self.name = name


# --- packages: the store of archives, and routes -------------------------------------------------------


class InvalidContentHash(UsageError):
    """The name of a package is 64 lower-case hex digits; nothing was read or written."""

    code = "invalid-content-hash"


class ArchiveSizeRefused(UsageError):
    """An archive is empty, or larger than one may be; nothing was written."""

    code = "archive-size-refused"

    def __init__(self, *, size: int, limit: int) -> None:
        super().__init__(f"archive: expected 1 to {limit:,} bytes, found {size:,}; leave data out that the code does not need")
        self.size = size
        self.limit = limit


class ArchiveConflict(RejectedError):
    """Another archive of this package was put since it was looked at; look at it again, and decide again."""

    code = "archive-conflict"


class PackageAmbiguous(RejectedError):
    """The hashes of several packages begin with what was given; give more digits."""

    code = "package-ambiguous"


class PackageMissing(NotFoundError):
    """The store has no package of this hash; deploy it again, or choose another version."""

    code = "package-missing"

    def __init__(self, content_hash: str, *, needed_by: str = "") -> None:
        whom = f", which {needed_by} needs," if needed_by else ""
        super().__init__(f"package {content_hash}{whom} is not stored; deploy it again, or choose a version that is")
        self.content_hash = content_hash


class RouteMissing(NotFoundError):
    """There is nothing that this could be done to: the type has no route, or none before the present one."""

    code = "route-missing"


class RouteConflict(RejectedError):
    """Somebody else has changed the route since it was read; look at it and decide again."""

    code = "route-conflict"

    def __init__(self, workflow_type: str, *, expected: str | None, found: str | None) -> None:
        super().__init__(
            f"route of {workflow_type!r}: expected {expected or 'none'}, found {found or 'none'}; look at it again, and decide again"
        )
        self.workflow_type = workflow_type
        self.expected = expected
        self.found = found


class RouteRefused(RejectedError):
    """The rules of a type's route would not fit together; the text says which; nothing was written."""

    code = "route-refused"


class PinHolder(NamedTuple):
    """A process that needs a package; `status` is what it is doing."""

    tenant_id: str
    process_id: str
    process_type: str
    status: str


class PackagePinned(RejectedError):
    """Processes still need this package; let them end, or move them to another version.

    Attributes:
        content_hash: of the package.
        counts: how many there are, by status.
        holders: the first of them, 100 at most.
        more: whether there are even more than were counted.
    """

    code = "package-pinned"

    def __init__(self, content_hash: str, *, counts: Mapping[str, int], holders: Sequence[PinHolder], more: bool = False) -> None:
        total = sum(counts.values())
        told = ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items()))
        first = "".join(f", {one.process_id!r} of tenant {one.tenant_id!r} among them" for one in holders[:1])
        super().__init__(
            f"package {content_hash}: {'over ' if more else ''}{total:,} {'process needs' if total == 1 else 'processes need'} it ({told}{first}); "
            f"let them end, or move them to another version"
        )
        self.content_hash = content_hash
        self.counts = dict(counts)
        self.holders = tuple(holders)
        self.more = more


class PackageRouted(RejectedError):
    """Routes still lead to this package; route these types elsewhere, or retire them.

    Attributes:
        content_hash: of the package.
        workflow_types: the types, the first 100 of them.
    """

    code = "package-routed"

    def __init__(self, content_hash: str, workflow_types: Sequence[str]) -> None:
        named = ", ".join(map(repr, workflow_types[:5])) + (", …" if len(workflow_types) > 5 else "")  # noqa: PLR2004  # a line of text
        super().__init__(f"package {content_hash}: the routes of {named} lead to it; route them elsewhere, or retire them")
        self.content_hash = content_hash
        self.workflow_types = tuple(workflow_types)


class ProcessIncompatible(RejectedError):
    """A process cannot go on with that code: nothing was written. Correct the code, or leave the process where it is.

    Attributes:
        process_id: which.
        target: the hash of the package, None for the app's own code.
        verdict: `diverges`, `undecodable` or `no-handler`, as a check of the code says it.
        step: where its open turn diverges, what the record calls it; empty when that is before the first record.
        path: of what is undecodable, the place in it, such as `$.total`.
        reason: in what it differs.
    """

    code = "process-incompatible"

    def __init__(self, process_id: str, target: str | None, *, verdict: str, reason: str, step: str = "", path: str = "") -> None:
        where = f" at step {step}" if step else f" at {path}" if path else ""
        code = "the app's own code" if target is None else f"package {target}"
        super().__init__(
            f"process {process_id!r} cannot go on with {code}: {verdict}{where}: {reason}; correct that code, or leave the process where it is"
        )
        self.process_id = process_id
        self.target = target
        self.verdict = verdict
        self.step = step
        self.path = path
        self.reason = reason


class ProcessTypeRetired(RejectedError):
    """No process of this type is started any more; those that run go on. Deploy or route it again to bring it back."""

    code = "process-type-retired"

    def __init__(self, workflow_type: str) -> None:
        super().__init__(f"process type {workflow_type!r} was retired: none is started any more; deploy or route it again to bring it back")
        self.workflow_type = workflow_type
