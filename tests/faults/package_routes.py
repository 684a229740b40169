"""Faults in routes, and in how packages go that nobody needs."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure/packages"
TESTS: Final = "tests/contracts/test_package_store"
ROUTES: Final = f"{TESTS}_routes.py"
CHOICE: Final = f"{TESTS}_choice.py"
PINS: Final = f"{TESTS}_pins.py"
NODES: Final = f"{TESTS}_nodes.py"

FAULTS: Final = (
    # --- routes
    Fault(
        "route-choice-by-the-key-alone",
        f"{HERE}/routes.py",
        '    digest = hashlib.sha256(f"{workflow_type}\\0{key}".encode()).digest()\n',
        "    digest = hashlib.sha256(key.encode()).digest()\n",
        (CHOICE,),
    ),
    Fault(
        "route-weight-takes-one-more", f"{HERE}/routes.py", "            if point < taken:\n", "            if point <= taken:\n", (CHOICE,)
    ),
    Fault(
        "route-weights-before-tenants",
        f"{HERE}/routes.py",
        "    for rule in given:\n        if rule.tenant is not None and rule.tenant == tenant:\n            return rule.content_hash\n    point",
        "    point",
        (CHOICE, ROUTES),
    ),
    Fault(
        "route-weights-in-the-order-of-their-hashes",
        f"{HERE}/routes.py",
        "key=lambda row: row.since)",
        "key=lambda row: row.content_hash)",
        (ROUTES,),
    ),
    Fault(
        "route-of-any-expectation",
        f"{HERE}/routes.py",
        "        if self.expected is not msgspec.UNSET and found != self.expected:\n",
        "        if False:\n",
        (ROUTES,),
    ),
    Fault(
        "route-none-is-no-expectation",
        f"{HERE}/routes.py",
        "        if self.expected is not msgspec.UNSET and found != self.expected:\n",
        "        if self.expected and found != self.expected:\n",
        (ROUTES,),
    ),
    Fault(
        "route-set-keeps-its-weights",
        f"{HERE}/routes.py",
        "    if row is not None and before == content_hash and not row.weights:\n",
        "    if row is not None and before == content_hash:\n",
        (ROUTES,),
    ),
    Fault(
        "route-previous-is-itself",
        f"{HERE}/routes.py",
        "    previous = row.previous if row.content_hash in {None, content_hash} else row.content_hash\n",
        "    previous = row.content_hash\n",
        (ROUTES,),
    ),
    Fault(
        "route-rolled-back-to-what-is-gone",
        f"{HERE}/routes.py",
        '        if view.get(PACKAGE.key(target)) is None:\n            raise PackageMissing(target, needed_by=f"the rollback of {self.workflow_type!r}")\n',
        "",
        (ROUTES,),
    ),
    Fault(
        "route-retired-rolls-back-one-too-far",
        f"{HERE}/routes.py",
        "row.content_hash if row.retired else row.previous\n",
        "row.previous\n",
        (ROUTES,),
    ),
    Fault(
        "route-retired-with-a-tenant-left",
        f"{HERE}/routes.py",
        "        _drop(view, RULES, (self.workflow_type,))\n",
        "        _drop(view, RULES_OF_KIND, (self.workflow_type, RuleKind.WEIGHT))\n",
        (ROUTES,),
    ),
    Fault(
        "route-retired-starts-local-code",
        f"{HERE}/routes.py",
        "    if found is None and row.retired:\n",
        "    if False:\n",
        (ROUTES,),
    ),
    Fault(
        "route-weights-over-a-whole",
        f"{HERE}/routes.py",
        "        if total > limits.ROUTE_BASIS_POINTS or len(others)",
        "        if len(others)",
        (ROUTES,),
    ),
    Fault(
        "route-rule-leads-to-nothing",
        f"{HERE}/routes.py",
        "        if self.content_hash is not None and not use(view, self.content_hash):\n            raise PackageMissing(self.content_hash)\n",
        "",
        (ROUTES,),
    ),
    Fault(
        "route-changed-behind-its-guard",
        f"{HERE}/routes.py",
        "    fresh = replace(row, changed=view.tick())\n    if before is None:\n",
        "    fresh = replace(row, changed=view.tick())\n    if before is not None and before.tenants and row.tenants:\n        return\n    if before is None:\n",
        (ROUTES, NODES),
    ),
    Fault(
        "route-that-is-missing-is-not-guarded",
        f"{HERE}/routes.py",
        "        view.insert(route, RouteRow())\n",
        "",
        (f"{NODES}::test_a_start_that_commits_after_the_first_deploy_of_its_type_follows_it",),
    ),
    # --- who needs it, and how it goes
    Fault(
        "unload-without-a-word-before",
        f"{HERE}/writes.py",
        "        if not row.unloading and not self.dry_run:\n",
        "        if False:\n",
        (f"{NODES}::test_a_start_that_comes_between_the_look_and_the_removal_is_seen",),
    ),
    Fault(
        "hold-leaves-the-word-standing",
        f"{HERE}/writes.py",
        "    if row.unloading:\n        view.update(key, replace(row, unloading=0))\n",
        "",
        (PINS, NODES),
    ),
    Fault(
        "rule-leaves-the-word-standing",
        f"{HERE}/routes.py",
        "    view.update(key, replace(row, used_at=view.now, unloading=0))\n    return True\n",
        "    return True\n",
        (NODES,),
    ),
    Fault(
        "hold-writes-the-package-each-time",
        f"{HERE}/writes.py",
        "    if row.unloading:\n        view.update",
        "    if True:\n        view.update",
        (f"{NODES}::test_starts_of_one_package_on_two_nodes_do_not_get_in_each_others_way",),
    ),
    Fault(
        "hold-of-what-is-not-there",
        f"{HERE}/writes.py",
        "    if row is None:\n        raise PackageMissing(content_hash)\n    if row.unloading",
        "    if row is None:\n        return\n    if row.unloading",
        (PINS, ROUTES),
    ),
    Fault(
        "unload-of-what-is-routed",
        f"{HERE}/writes.py",
        "            raise PackageRouted(self.content_hash, routed[:most])\n",
        "            pass\n",
        (PINS,),
    ),
    Fault(
        "unload-sees-only-defaults",
        f"{HERE}/writes.py",
        "        leading: list[Key[Any]] = [*(each for each, _ in defaults), *(each for each, _ in rules)]\n",
        "        leading: list[Key[Any]] = [each for each, _ in defaults]\n",
        (PINS,),
    ),
    Fault(
        "unload-of-what-is-pinned",
        f"{HERE}/writes.py",
        "        if found := view.scan(self._pinned):\n",
        "        if (found := view.scan(self._pinned)) and False:\n",
        (PINS,),
    ),
    Fault(
        "pins-without-what-failed",
        "src/perdure/conversations/tables.py",
        "    where=lambda row: row.package_hash is not None and row.status not in {ProcessStatus.ENDED, ProcessStatus.REMOVED},\n"
        "    where_sql=\"package_hash is not null and status <> 'ended' and status <> 'removed'\",\n",
        "    where=lambda row: row.package_hash is not None and row.status not in OVER,\n"
        "    where_sql=\"package_hash is not null and status <> 'ended' and status <> 'removed' and status <> 'failed'\",\n",
        (PINS,),
    ),
    Fault(
        "pins-of-whoever-has-ended",
        "src/perdure/conversations/tables.py",
        "    where=lambda row: row.package_hash is not None and row.status not in {ProcessStatus.ENDED, ProcessStatus.REMOVED},\n"
        "    where_sql=\"package_hash is not null and status <> 'ended' and status <> 'removed'\",\n",
        "    where=lambda row: row.package_hash is not None and row.status != ProcessStatus.REMOVED,\n"
        "    where_sql=\"package_hash is not null and status <> 'removed'\",\n",
        (PINS,),
    ),
    Fault(
        "unload-leaves-the-other-types",
        f"{HERE}/writes.py",
        "        while rows := view.scan(Scan(OF_PACKAGE, (self.content_hash,), limits.READ_PAGE, after=tuple(gone[-1:]) or None, guard=key)):\n",
        "        for rows in [view.scan(Scan(OF_PACKAGE, (self.content_hash,), 1, guard=key))]:\n",
        (PINS,),
    ),
    Fault(
        "collect-of-what-was-routed-until-now",
        f"{HERE}/routes.py",
        "    use(view, before)\n    if row.weights:\n",
        "    if row.weights:\n",
        (PINS,),
    ),
    Fault(
        "collect-keeps-one-too-few",
        f"{HERE}/store.py",
        "each[max(0, len(each) - keep_last) :]",
        "each[max(0, len(each) - keep_last + 1) :]",
        (PINS,),
    ),
    Fault(
        "collect-of-any-age",
        f"{HERE}/store.py",
        "            if row is None or row.used_at > unused_until:\n                continue\n            write = Unload(content_hash=name, pins=self._pins, unused_until=unused_until,",
        "            write = Unload(content_hash=name, pins=self._pins,",
        (PINS,),
    ),
)
