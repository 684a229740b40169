"""Faults in what a package's bytes are checked for."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure/packages"
ARCHIVE: Final = "tests/packages/test_archive.py"
CANONICAL: Final = "tests/packages/test_canonical.py"
HOSTILE: Final = "tests/packages/test_hostile.py"
MANIFEST: Final = "tests/packages/test_manifest.py"
PATHS: Final = "tests/packages/test_paths.py"
SIGNING: Final = "tests/packages/test_signing.py"

FAULTS: Final = (
    # --- archive
    Fault(
        "package-of-any-size",
        f"{HERE}/archive.py",
        '    _check_size("bytes", len(archive), limits.PACKAGE_ARCHIVE_MAX)\n',
        "",
        (HOSTILE,),
    ),
    Fault(
        "package-of-any-number-of-entries",
        f"{HERE}/archive.py",
        '    _check_size("entries", count, limits.PACKAGE_FILES_MAX + len(_OWN))\n',
        "",
        (HOSTILE,),
    ),
    Fault(
        "package-that-declares-any-size",
        f"{HERE}/archive.py",
        '    _check_size("unpacked bytes", sum(size for _, size in found), limits.PACKAGE_UNPACKED_MAX)\n',
        "",
        (HOSTILE,),
    ),
    Fault(
        "package-with-two-files-too-many",
        f"{HERE}/archive.py",
        "sum(name not in _OWN for name, _ in found), limits.PACKAGE_FILES_MAX)",
        "len(found), limits.PACKAGE_FILES_MAX + 2)",
        (HOSTILE,),
    ),
    Fault(
        "package-headers-not-compared",
        f"{HERE}/archive.py",
        "        _expect(_LOCAL, local, archive[at : at + len(local)], ",
        "        _expect(_LOCAL, local, local, ",
        (HOSTILE,),
    ),
    Fault(
        "package-records-not-compared",
        f"{HERE}/archive.py",
        "        _expect(_RECORD, record, archive[at : at + len(record)], ",
        "        _expect(_RECORD, record, record, ",
        (HOSTILE,),
    ),
    Fault(
        "package-end-not-compared",
        f"{HERE}/archive.py",
        '    _expect(_END, _end(heads, start), archive[at:], "end record")\n',
        "",
        (HOSTILE,),
    ),
    Fault(
        "package-entries-in-any-order",
        f"{HERE}/archive.py",
        "        if _order(before) > _order(entry) or ",
        "        if ",
        (HOSTILE,),
    ),
    Fault(
        "package-with-two-manifests",
        f"{HERE}/archive.py",
        " or (before.name == entry.name and entry.name in _OWN):",
        ":",
        (HOSTILE,),
    ),
    Fault(
        "package-paths-of-the-archive-not-checked",
        f"{HERE}/archive.py",
        "    check_paths(paths)\n    listed",
        "    listed",
        (HOSTILE,),
    ),
    Fault(
        "package-paths-of-the-manifest-not-checked",
        f"{HERE}/archive.py",
        "        check_paths([file.path for file in manifest.files])\n",
        "        pass\n",
        (HOSTILE,),
    ),
    Fault(
        "package-path-twice-in-the-manifest",
        f"{HERE}/archive.py",
        " or len(listed) != len(manifest.files):",
        ":",
        (HOSTILE,),
    ),
    Fault(
        "package-with-a-file-that-is-not-listed",
        f"{HERE}/archive.py",
        "        if path not in listed:\n",
        "        if False:\n",
        (HOSTILE,),
    ),
    Fault(
        "package-without-a-file-that-is-listed", f"{HERE}/archive.py", "        if path not in found:\n", "        if False:\n", (HOSTILE,)
    ),
    Fault(
        "package-with-other-bytes-than-listed",
        f"{HERE}/archive.py",
        "    if found != expected:\n        text",
        "    if found.size != expected.size:\n        text",
        (HOSTILE,),
    ),
    Fault(
        "package-of-any-identity",
        f"{HERE}/archive.py",
        "    if identity not in {None, found}:\n",
        "    if False:\n",
        (ARCHIVE,),
    ),
    Fault(
        "package-that-nobody-has-signed",
        f"{HERE}/archive.py",
        "trust.check(found, signatures) if trust is not None else ()",
        "()",
        (SIGNING,),
    ),
    Fault(
        "package-untrusted-before-it-is-whole",
        f"{HERE}/archive.py",
        "    files = _files(entries[len(parts) :], manifest)\n    found = identity_of(parts[_MANIFEST])\n",
        "    found = identity_of(parts[_MANIFEST])\n"
        "    _ = trust.check(found, signatures) if trust is not None else ()\n"
        "    files = _files(entries[len(parts) :], manifest)\n",
        (HOSTILE,),
    ),
    Fault("package-names-all-marked-as-utf8", f"{HERE}/archive.py", "(0 if name.isascii() else _UTF8)", "_UTF8", (ARCHIVE,)),
    Fault(
        "package-order-depends-on-the-caller",
        f"{HERE}/archive.py",
        "for path in sorted(files, key=bytes_of)]",
        "for path in files]",
        (ARCHIVE,),
    ),
    # --- manifest
    Fault(
        "manifest-of-any-size",
        f"{HERE}/manifest.py",
        "    if len(data) > limits.PACKAGE_MANIFEST_MAX:\n",
        "    if False:\n",
        (HOSTILE, MANIFEST),
    ),
    Fault("manifest-of-any-format", f"{HERE}/manifest.py", "    if found != FORMAT:\n", "    if False:\n", (HOSTILE, MANIFEST)),
    Fault(
        "manifest-of-format-true",
        f"{HERE}/manifest.py",
        "    if type(found) is not int:\n",
        "    if not isinstance(found, int):\n",
        (MANIFEST,),
    ),
    Fault("manifest-files-in-any-order", f"{HERE}/manifest.py", "    if paths != sorted(paths):", "    if False:", (MANIFEST,)),
    Fault(
        "manifest-lists-in-any-order",
        f"{HERE}/manifest.py",
        "    if list(names) != sorted(set(names), key=bytes_of):\n",
        "    if False:\n",
        (MANIFEST,),
    ),
    Fault(
        "manifest-with-schemas-of-nobody",
        f"{HERE}/manifest.py",
        "    if extra := manifest.schemas.keys() - reached.keys():\n",
        "    if extra := set[str]():\n",
        (MANIFEST,),
    ),
    Fault(
        "manifest-without-the-schemas-of-results",
        f"{HERE}/manifest.py",
        "for name in (message.schema, message.result))",
        "for name in (message.schema,))",
        (MANIFEST,),
    ),
    Fault(
        "manifest-schemas-that-take-any-time",
        f"{HERE}/manifest.py",
        "    if work > limits.PACKAGE_SCHEMA_WORK_MAX:\n",
        "    if False:\n",
        (MANIFEST,),
    ),
    Fault("manifest-requires-a-url", f"{HERE}/ranges.py", "    if found.url is not None:\n", "    if False:\n", (MANIFEST,)),
    Fault(
        "manifest-identity-depends-on-how-a-range-is-spelled",
        f"{HERE}/ranges.py",
        "sorted(specifiers, key=_rank)",
        "list(specifiers)",
        (MANIFEST,),
    ),
    Fault(
        "manifest-of-any-number-of-parts",
        f"{HERE}/canonical.py",
        "    if parts > limits.PACKAGE_PARTS_MAX:\n",
        "    if False:\n",
        (CANONICAL,),
    ),
    # --- paths
    Fault(
        "package-path-not-composed", f"{HERE}/paths.py", '    if unicodedata.normalize("NFC", path) != path:\n', "    if False:\n", (PATHS,)
    ),
    Fault(
        "package-path-of-a-device",
        f"{HERE}/paths.py",
        "    if any(map(_DEVICE.fullmatch, parts)):\n",
        "    if _DEVICE.fullmatch(path):\n",
        (PATHS,),
    ),
    Fault(
        "package-path-size-in-characters",
        f"{HERE}/paths.py",
        "        size = len(path.encode())\n",
        "        size = len(path.encode() and path)\n",
        (PATHS,),
    ),
    Fault(
        "package-paths-differ-in-lower-case-only",
        f"{HERE}/paths.py",
        'unicodedata.normalize("NFD", part).casefold())',
        'unicodedata.normalize("NFD", part).lower())',
        (PATHS,),
    ),
    Fault("package-folders-differ-in-case-only", f"{HERE}/paths.py", " or spelled != part:\n", ":\n", (PATHS,)),
    Fault("package-file-is-a-folder", f"{HERE}/paths.py", "            if number == _FILE or ", "            if ", (PATHS,)),
    Fault("package-code-compiled-in-capitals", f"{HERE}/paths.py", 'dylib|pyc)", re.IGNORECASE)', 'dylib|pyc)")', (PATHS,)),
    Fault(
        "package-name-reserved-by-this-python-only",
        f"{HERE}/paths.py",
        "sys.stdlib_module_names | _STANDARD_ELSEWHERE",
        "sys.stdlib_module_names",
        (PATHS,),
    ),
    Fault(
        "package-name-reserved-for-folders-only",
        f"{HERE}/paths.py",
        '    return first.removesuffix(".py") if ',
        '    return "" if ',
        (PATHS,),
    ),
    # --- signing
    Fault(
        "signature-of-the-bare-identity",
        f"{HERE}/signing.py",
        "    return _PREFIX + bytes.fromhex(identity)\n",
        "    return bytes.fromhex(identity)\n",
        (SIGNING,),
    ),
    Fault(
        "signature-by-a-trusted-key-taken-at-its-word",
        f"{HERE}/signing.py",
        "for signature in claimed if is_valid(identity, signature))",
        "for signature in claimed)",
        (SIGNING,),
    ),
    Fault(
        "signature-by-any-key",
        f"{HERE}/signing.py",
        "for signature in signatures if signature.key in self.keys]",
        "for signature in signatures]",
        (SIGNING,),
    ),
    Fault("signature-required-by-nobody", f"{HERE}/signing.py", "    required: bool = True\n", "    required: bool = False\n", (SIGNING,)),
    Fault(
        "signature-wrong-where-none-is-required",
        f"{HERE}/signing.py",
        "        if not found and (self.required or claimed):\n",
        "        if not found and self.required:\n",
        (SIGNING,),
    ),
    Fault(
        "signature-merged-over-a-right-one",
        f"{HERE}/signing.py",
        "        if known != signature and not is_valid(identity, known):\n",
        "        if known != signature:\n",
        (SIGNING,),
    ),
    Fault(
        "signature-wrong-one-kept-for-ever",
        f"{HERE}/signing.py",
        "        if known != signature and not is_valid(identity, known):\n            found",
        "        if False:\n            found",
        (SIGNING,),
    ),
    Fault(
        "signatures-in-any-order",
        f"{HERE}/signing.py",
        " or keys != sorted(set(keys)):\n",
        ":\n",
        (HOSTILE,),
    ),
)
