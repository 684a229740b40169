"""Faults in the package store."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure/packages"
UPLOADS: Final = "src/perdure/uploads.py"
TESTS: Final = "tests/contracts/test_package_store"
STORE: Final = f"{TESTS}.py"
LOG: Final = f"{TESTS}_log.py"
ARCHIVES: Final = f"{TESTS}_archives.py"
PACKING: Final = f"{TESTS}_packing.py"
CRASHES: Final = f"{TESTS}_crashes.py"
NODES: Final = f"{TESTS}_nodes.py"
UPKEEP: Final = f"{TESTS}_upkeep.py"

FAULTS: Final = (
    # --- putting and deleting
    Fault(
        "package-put-without-its-route",
        f"{HERE}/store.py",
        "            routes=types if routes is None else checked_types",
        "            routes=() if routes is None else checked_types",
        (STORE,),
    ),
    Fault(
        "package-put-again-keeps-its-time",
        f"{HERE}/writes.py",
        "            view.update(key, row)\n        return before is None\n",
        "            pass\n        return before is None\n",
        (STORE,),
    ),
    Fault(
        "package-put-again-keeps-its-bytes",
        f"{HERE}/writes.py",
        "        there = before is not None and (before.sha256, before.size) == (self.sha256, self.size)\n",
        "        there = before is not None\n",
        (STORE,),
    ),
    Fault(
        "package-replaced-with-its-parts-left",
        f"{HERE}/writes.py",
        "        if before is not None:\n            _leave_archive(view, before)\n",
        "",
        (ARCHIVES,),
    ),
    Fault(
        "package-parts-of-the-second-put-stay",
        f"{HERE}/writes.py",
        "            UPLOADS.leave(view, self.staged.key, upload)\n            return before\n",
        "            view.delete(self.staged.key)\n            return before\n",
        (ARCHIVES, NODES),
    ),
    Fault(
        "package-visible-with-parts-missing",
        f"{HERE}/writes.py",
        "        check_whole(self.staged.key, upload, self.staged.parts)\n        assert",
        "        assert",
        (f"{ARCHIVES}::test_an_upload_that_rested_for_too_long_ends_and_leaves_nothing", CRASHES),
    ),
    Fault(
        "package-upload-goes-on-after-its-sweep-began",
        UPLOADS,
        "            view.update(key, msgspec.structs.replace(row, parts=0))",
        "            pass",
        (ARCHIVES,),
    ),
    Fault(
        "package-upload-keeps-its-first-time",
        UPLOADS,
        "            view.update(self.key, after)\n",
        "            view.update(self.key, UploadRow(after.parts, row.removed_at if row else 0))\n",
        (ARCHIVES,),
    ),
    Fault(
        "package-upload-not-given-up",
        UPLOADS,
        "                await self._writer.run(GiveUp(of=self._of, key=self.key))\n",
        "                pass\n",
        (ARCHIVES,),
    ),
    Fault(
        "package-that-went-is-taken-for-there",
        f"{HERE}/writes.py",
        "        if self.staged is None and not there:\n            raise ArchiveGone\n",
        "",
        (ARCHIVES,),
    ),
    Fault(
        "package-routed-in-a-commit-of-its-own",
        f"{HERE}/store.py",
        "            results = await self._access.writer.commit(replace(put, staged=staged, damaged=damaged), *also, size=size)\n",
        "            results = await self._access.writer.commit(replace(put, staged=staged, routes=()), *also, size=0)\n"
        "            for each in put.routes:\n"
        "                await self._access.writer.run(PutRoute(workflow_type=each, content_hash=put.content_hash, by=put.by))\n",
        (CRASHES,),
    ),
    Fault(
        "package-archive-gone-with-its-first-type",
        f"{HERE}/writes.py",
        "        if row.types > 1:\n",
        "        if False:\n",
        (STORE,),
    ),
    Fault(
        "package-types-counted-once-too-often",
        f"{HERE}/writes.py",
        "        added = [each for each in self.types if self._add(view, each)]\n",
        "        added = [each for each in self.types if (self._add(view, each), True)[1]]\n",
        (STORE,),
    ),
    Fault(
        "package-deleted-with-its-route",
        f"{HERE}/writes.py",
        "        view.delete(key)\n        if row.types > 1:\n",
        "        view.delete(key)\n        if view.get(ROUTE.key(self.workflow_type)) is not None:\n"
        "            view.delete(ROUTE.key(self.workflow_type))\n        if row.types > 1:\n",
        (STORE,),
    ),
    Fault(
        "package-listed-by-key",
        f"{HERE}/store.py",
        "key=lambda record: (record.deployed_at, record.workflow_type, record.content_hash)",
        "key=lambda record: (record.workflow_type, record.content_hash)",
        (STORE,),
    ),
    Fault(
        "package-time-to-the-millisecond",
        f"{HERE}/arguments.py",
        "    return micros_of(when)\n",
        "    return micros_of(when) // 1_000 * 1_000\n",
        (STORE,),
    ),
    # --- reading
    Fault(
        "package-half-of-two",
        f"{HERE}/store.py",
        "            if again is not None and again.changed == row.changed:\n                if archive is None:",
        "            if again is not None:\n                if archive is None:",
        (ARCHIVES,),
    ),
    Fault(
        "package-of-any-bytes",
        f"{HERE}/store.py",
        "        return archive if archive is not None and await digest_of(archive) == row.sha256 else None\n",
        "        return archive\n",
        (ARCHIVES,),
    ),
    Fault(
        "package-page-short-of-what-went",
        f"{HERE}/store.py",
        "            if len(rows) < most:\n                break\n            key, row = rows[-1]\n",
        "            break\n            key, row = rows[-1]\n",
        (ARCHIVES,),
    ),
    Fault(
        "package-info-with-the-archive",
        f"{HERE}/store.py",
        "                routed=default_of(routes.get(each)) == name,\n",
        "                routed=default_of(routes.get(each)) == name and await self._archive(packages[name]) is not None,\n",
        (ARCHIVES,),
    ),
    Fault("package-never-compressed", f"{HERE}/packing.py", "if len(packed) < len(archive) else", "if False else", (ARCHIVES,)),
    Fault("package-always-compressed", f"{HERE}/packing.py", "if len(packed) < len(archive) else", "if True else", (PACKING,)),
    Fault(
        "package-packed-in-one-go",
        f"{HERE}/packing.py",
        "        packed += packer.compress(piece)\n        await asyncio.sleep(0)\n",
        "        packed += packer.compress(piece)\n",
        (PACKING,),
    ),
    Fault(
        "package-unpacked-short-of-its-end",
        f"{HERE}/packing.py",
        "if len(found) == size and unpacker.eof and not unpacker.unused_data else",
        "if len(found) == size else",
        (PACKING,),
    ),
    # --- the log, and the door
    Fault(
        "deployment-log-without-what-was-before",
        f"{HERE}/writes.py",
        "content_hash=self.content_hash, previous=pointed.before)\n        return pointed.changed",
        "content_hash=self.content_hash)\n        return pointed.changed",
        (LOG, STORE),
    ),
    Fault(
        "deployment-log-oldest-first",
        f"{HERE}/store.py",
        "Scan(DEPLOYMENTS, prefix, most, after=place, backwards=True)",
        "Scan(DEPLOYMENTS, prefix, most, after=place)",
        (LOG,),
    ),
    Fault(
        "deploy-says-that-all-is-new",
        f"{HERE}/writes.py",
        "        return Deployed(freshly_stored=not there, ",
        "        return Deployed(freshly_stored=True, ",
        (LOG,),
    ),
    Fault(
        "archive-of-any-size",
        f"{HERE}/arguments.py",
        "    if not 1 <= len(record.archive) <= limits.PACKAGE_ARCHIVE_MAX:\n",
        "    if not 0 <= len(record.archive) <= limits.PACKAGE_ARCHIVE_MAX + 1:\n",
        (LOG,),
    ),
    Fault(
        "deployed-at-of-no-zone",
        f"{HERE}/arguments.py",
        "    if not isinstance(when, datetime) or when.utcoffset() is None:\n",
        "    if when.utcoffset() is None and (when := when.replace(tzinfo=UTC)) is None:\n",
        (LOG,),
    ),
    Fault(
        "packages-swept-by-nobody",
        "src/perdure/engine/engine.py",
        "            package_clock(store.access, store.packages, self._owner),\n",
        "",
        (f"{UPKEEP}::test_an_engine_removes_what_nobody_needs",),
        hangs=True,
    ),
)
