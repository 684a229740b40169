"""Faults in blobs, and in params and results that are kept apart."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure"
BLOBS: Final = "tests/blobs/test_blobs.py"
REFERENCES: Final = "tests/blobs/test_references.py"
FLOWS: Final = "tests/blobs/test_flows.py"
HTTP: Final = "tests/blobs/test_http.py"
LEASES: Final = "tests/blobs/test_leases.py"

FAULTS: Final = (
    Fault(
        "blob-of-any-hash",
        f"{HERE}/blobs/store.py",
        "    if sha256 not in {None, found.sha256}:\n",
        "    if False:\n",
        (BLOBS, HTTP),
    ),
    Fault("blob-of-any-size", f"{HERE}/blobs/store.py", "    if size not in {None, found.size}:\n", "    if False:\n", (BLOBS, HTTP)),
    Fault(
        "blob-limit-without-what-waits-for-its-part",
        f"{HERE}/blobs/store.py",
        "self._size + len(part) + len(chunk))",
        "self._size + len(chunk))",
        (BLOBS,),
    ),
    Fault(
        "blob-slot-never-given-back",
        f"{HERE}/blobs/store.py",
        "            self._under_way -= 1\n",
        "            pass\n",
        (BLOBS,),
    ),
    Fault(
        "blob-upload-not-given-up",
        f"{HERE}/uploads.py",
        "                await self._writer.run(GiveUp(of=self._of, key=self.key))\n",
        "                pass\n",
        (BLOBS,),
    ),
    Fault(
        "blob-upload-goes-on-after-its-sweep-began",
        f"{HERE}/uploads.py",
        "            view.update(key, msgspec.structs.replace(row, parts=0))",
        "            pass",
        (BLOBS,),
    ),
    Fault(
        "blob-upload-keeps-its-first-time",
        f"{HERE}/uploads.py",
        "            view.update(self.key, after)\n",
        "            view.update(self.key, UploadRow(after.parts, row.removed_at if row else 0))\n",
        (BLOBS,),
    ),
    Fault(
        "blob-parts-of-the-second-upload-stay",
        f"{HERE}/blobs/writes.py",
        "            UPLOADS.leave(view, self.key, upload)\n",
        "            view.delete(self.key)\n",
        (BLOBS,),
    ),
    Fault(
        "blob-put-again-keeps-its-time",
        f"{HERE}/blobs/writes.py",
        "            view.update(self._blob, replace(found, removed_at=removed_at))\n",
        "            pass\n",
        (BLOBS,),
    ),
    Fault(
        "blob-removed-with-its-parts-left",
        f"{HERE}/blobs/writes.py",
        "    view.delete(key)\n    if row.parts:\n",
        "    view.delete(key)\n    if False:\n",
        (BLOBS,),
    ),
    Fault(
        "blob-of-another-size-is-there",
        f"{HERE}/blobs/writes.py",
        "    if row is None or row.size != blob.size:\n",
        "    if row is None:\n",
        (REFERENCES,),
    ),
    Fault(
        "blob-that-is-referred-to-has-its-time",
        f"{HERE}/blobs/writes.py",
        "    view.update(key, replace(row, refs=row.refs + 1, removed_at=None))\n",
        "    view.update(key, replace(row, refs=row.refs + 1, removed_at=row.removed_at))\n",
        (REFERENCES,),
    ),
    Fault("blob-removed-by-the-first-who-lets-go", f"{HERE}/blobs/writes.py", "    if row.refs == 1:\n", "    if True:\n", (REFERENCES,)),
    Fault("blob-removed-by-nobody", f"{HERE}/blobs/writes.py", "    if row.refs == 1:\n", "    if False:\n", (REFERENCES,)),
    Fault(
        "blob-not-referred-to",
        f"{HERE}/commands/queueing.py",
        "        apart.refer(view, holder_of(key), blob)\n",
        "        pass\n",
        (REFERENCES,),
    ),
    Fault(
        "blob-not-let-go-by-retention",
        f"{HERE}/commands/writes.py",
        "                    self.apart.let_go(view, holder_of(body), blob)\n",
        "                    pass\n",
        (REFERENCES,),
    ),
    Fault(
        "blob-forged-by-an-inline-result",
        f"{HERE}/blob.py",
        '    return b" " + data if data.startswith(_PREFIX) else data\n',
        "    return data\n",
        (REFERENCES,),
    ),
    Fault(
        "blob-commits-a-turn-without-it",
        f"{HERE}/engine/commanding.py",
        "    if row is None and blob is not None and not is_there(view, asker.tenant_id, blob):\n",
        "    if False:\n",
        (f"{REFERENCES}::test_a_process_sends_a_blob_and_hears_when_it_is_not_there",),
        hangs=True,
    ),
    Fault(
        "upload-of-a-body-of-any-size",
        f"{HERE}/blobs/store.py",
        '        _check_size("blob", expected_size or 0)\n',
        "",
        (f"{HTTP}::test_who_announces_too_much_is_refused_before_it_comes",),
    ),
    Fault(
        "upload-in-pieces-of-any-time",
        f"{HERE}/server/intake.py",
        "            async with asyncio.timeout(limits.HTTP_BODY_SECONDS):\n                # The time",
        "            async with asyncio.timeout(None):\n                # The time",
        (f"{HTTP}::test_who_sends_too_slowly_is_not_waited_for",),
        hangs=True,
    ),
    Fault(
        "upload-digest-not-looked-at",
        f"{HERE}/server/payloads.py",
        "            found.add(digest.hex())\n",
        "            pass\n",
        (HTTP,),
    ),
    Fault(
        "upload-of-a-result-without-the-lease",
        f"{HERE}/server/payloads.py",
        '    await commands_of(call).check_lease(call.parts["id"], call.query.token, tenant_id=call.tenant)\n',
        "",
        (HTTP,),
    ),
    Fault(
        "download-of-params-by-any-worker",
        f"{HERE}/server/payloads.py",
        "    await check_work(call)\n    return await _given(call, await commands_of(call).get_params(",
        "    return await _given(call, await commands_of(call).get_params(",
        (HTTP,),
    ),
    Fault(
        "download-of-any-bytes",
        f"{HERE}/client/connection.py",
        "    if digest_header(found) != expected:\n",
        "    if False:\n",
        (f"{FLOWS}::test_other_bytes_than_the_server_has_are_refused",),
    ),
    Fault(
        "worker-without-renewals-while-it-uploads",
        f"{HERE}/worker/attempt.py",
        "asyncio.ensure_future(self._renew())",
        "asyncio.ensure_future(asyncio.Event().wait())",
        (LEASES,),
        hangs=True,
    ),
)
