"""Faults in how packages are deployed, by a program, over HTTP and on the command line."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

DEPLOY: Final = "src/perdure/deploying/deploy.py"
DOOR: Final = "src/perdure/deploying/door.py"
SERVER: Final = "src/perdure/server"
PACKAGES: Final = "src/perdure/packages"
DEPLOYS: Final = "tests/deploying/test_deploy.py"
CLI: Final = "tests/deploying/test_cli.py"
HTTP: Final = "tests/server/test_packages.py"
REFUSED: Final = "tests/server/test_packages_refused.py"
NAMES: Final = "tests/contracts/test_package_store_names.py"

FAULTS: Final = (
    # --- the store
    Fault(
        "deploy-replaces-what-it-has-not-seen",
        f"{PACKAGES}/writes.py",
        "        if not there and self.replaces not in",
        "        if False and self.replaces not in",
        (NAMES,),
    ),
    Fault("deploy-leaves-what-is-damaged", f"{PACKAGES}/writes.py", " and before.upload_id != self.damaged:", ":", (NAMES,)),
    Fault("collection-that-only-tells-removes", f"{PACKAGES}/writes.py", "in () if self.dry_run else rows:", "in rows:", (NAMES,)),
    Fault(
        "package-named-by-what-several-begin-with",
        f"{PACKAGES}/store.py",
        "        if len(found) > 1:\n            raise PackageAmbiguous",
        "        if False:\n            raise PackageAmbiguous",
        (NAMES,),
    ),
    # --- one deploy
    Fault(
        "deploy-without-its-trial",
        DEPLOY,
        "(await try_load(archive, environments=environments)).warnings if load else ()",
        "()",
        (DEPLOYS,),
    ),
    Fault("deploy-without-its-schemas", DEPLOY, "[PutSchemas(schemas)] if schemas else []", "[]", (DEPLOYS,)),
    Fault(
        "deploy-drops-what-others-signed",
        DEPLOY,
        "    merged = with_signatures(stored, package.signatures)\n",
        "    merged = archive\n",
        (DEPLOYS,),
    ),
    Fault("deploy-of-any-stored-archive", DEPLOY, "        replaces=merged.replaces,\n", "", (DEPLOYS,)),
    Fault("deploy-of-whoever-signed", DEPLOY, "identity=expected, trust=trust)", "identity=expected)", (DEPLOYS,)),
    Fault("deploy-of-another-package", DEPLOY, "identity=expected, trust=trust)", "trust=trust)", (DEPLOYS,)),
    Fault("deploy-routes-types-of-others", DEPLOY, "        if each not in types:\n", "        if False:\n", (DEPLOYS,)),
    Fault("share-without-the-default", DOOR, " + (rest if default else 0)", "", (HTTP,)),
    # --- HTTP
    Fault(
        "archive-before-its-token",
        f"{SERVER}/package_table.py",
        '        name="deployPackage",\n        method="POST",\n        path=_PACKAGES,\n        capability="deploy",',
        '        name="deployPackage",\n        method="POST",\n        path=_PACKAGES,\n        capability="read",',
        (REFUSED,),
    ),
    Fault(
        "deploy-of-any-size",
        f"{SERVER}/intake.py",
        '        if len(data) > route.archive_max:\n            raise PackageTooLarge("body: bytes, so far"',
        '        if False:\n            raise PackageTooLarge("body: bytes, so far"',
        (REFUSED,),
    ),
    Fault("deploy-that-announces-any-size", f"{SERVER}/intake.py", "int(announced) > route.archive_max:", "False:", (REFUSED,)),
    Fault("archive-of-a-page", f"{SERVER}/intake.py", "    if kind not in ARCHIVE_TYPES:\n", "    if False:\n", (REFUSED,)),
    Fault(
        "archives-without-number",
        f"{SERVER}/application.py",
        "        if self._archives == limits.HTTP_ARCHIVES:\n",
        "        if False:\n",
        (REFUSED,),
    ),
    Fault("archive-never-counted-out", f"{SERVER}/application.py", "            self._archives -= 1\n", "            pass\n", (REFUSED,)),
    Fault(
        "archive-not-in-its-key",
        f"{SERVER}/application.py",
        "await asyncio.to_thread(_hash_of, data) if route.archive_max else",
        'b"" if route.archive_max else',
        (HTTP,),
    ),
    Fault(
        "key-of-no-tenant-is-a-tenants",
        f"{SERVER}/idempotency.py",
        '(DEFAULT_TENANT, f"{_OF_NO_TENANT}{key}")',
        "(DEFAULT_TENANT, key)",
        (HTTP,),
    ),
    Fault("server-trusts-everybody", f"{SERVER}/packages.py", "trust=versions.trust, ", "", (REFUSED,)),
    Fault(
        "dev-serves-pages-of-others",
        f"{SERVER}/doorkeeper.py",
        "            if origin:\n",
        "            if False:\n",
        ("tests/server/test_authorisation.py",),
    ),
    # --- the command line
    Fault("share-in-the-wrong-unit", "src/perdure/cli/deploying.py", "int(found[1]) * _POINTS", "int(found[1])", (CLI,)),
    Fault(
        "command-line-trusts-everybody",
        "src/perdure/cli/deploying.py",
        "trust=trust_in(self._trusted_keys)",
        "trust=None",
        (CLI,),
    ),
    Fault(
        "version-held-by-who-has-ended",
        "src/perdure/engine/owner.py",
        "        self.versions.give_back(resident)\n        self.dispatcher.release",
        "        self.dispatcher.release",
        ("tests/deploying/test_following.py",),
    ),
)
