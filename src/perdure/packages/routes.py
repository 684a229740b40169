"""Routes: which version a new process starts on, and the pure decisions that change that.

Source: packages.md, "Routes".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from perdure import limits
from perdure.core.table import Index, Read, Scan
from perdure.core.view import View
from perdure.errors import PackageMissing, ProcessTypeRetired, RouteConflict, RouteMissing, RouteRefused
from perdure.packages.contract import Action, RouteRule
from perdure.packages.tables import LOG, PACKAGE, ROUTE, RULE, RULES, RULES_OF_KIND, LogRow, RouteRow, RuleKind, RuleRow

replace = msgspec.structs.replace


def point_of(workflow_type: str, key: str) -> int:
    """Return where a process is among those that weights are shared out to: 0..9,999.

    SHA-256 over the UTF-8 bytes of the type, one NUL, and those of the key, as one number with the first byte in front, modulo 10,000.
    """
    digest = hashlib.sha256(f"{workflow_type}\0{key}".encode()).digest()
    return int.from_bytes(digest, "big") % limits.ROUTE_BASIS_POINTS


def choose(rules: Iterable[RouteRule], *, workflow_type: str, key: str, tenant: str) -> str | None:
    """Return the package that a new process of a type starts on; None when no rule is for it.

    A rule of the process's tenant goes before all others. Then the rules with weights, in the order given: the first takes the points
    from 0 to its weight, the next so many from there on. Whoever's point (`point_of`) nobody has taken follows the default.

    So the choice depends on nothing but its arguments, a rule whose weight grows keeps those that it had, and so do the rules before
    it in order. It is made once, in the transaction that starts the process; what it was is kept in the process's own row.

    Args:
        rules: of the type, as `PackageStore.route_of` returns them.
        workflow_type: the type.
        key: the registry key that the process is started for, or else its id.
        tenant: of the process.

    Source: packages.md, "Routes".
    """
    given = tuple(rules)
    for rule in given:
        if rule.tenant is not None and rule.tenant == tenant:
            return rule.content_hash
    point, taken = point_of(workflow_type, key), 0
    for rule in given:
        if rule.tenant is None and rule.weight is not None:
            taken += rule.weight
            if point < taken:
                return rule.content_hash
    return next((rule.content_hash for rule in given if rule.tenant is None and rule.weight is None), None)


# --- for whoever starts processes -----------------------------------------------------------------------------


def route_for(view: View, workflow_type: str, *, key: str, tenant: str) -> str | None:
    """Return the package that a process starts on which the caller is about to insert; None when the type has no route.

    Whoever changes a rule writes what is read here, so that a process whose commit comes after it follows the new one. A type
    without a route gets an empty one, for its first deploy to write.

    Raises:
        ProcessTypeRetired: no rule is for it any more.
    """
    route = ROUTE.key(workflow_type)
    row = view.get(route)
    if row is None:
        view.insert(route, RouteRow())
        return None
    rules = []
    own = view.get(RULE.key(workflow_type, RuleKind.TENANT, tenant)) if row.tenants else None
    if own is not None:
        rules.append(RouteRule(content_hash=own.content_hash, tenant=tenant))
    if row.weights:
        rules += weighted(view.scan(_weights(workflow_type)))
    found = choose([*rules, *default_rules(row)], workflow_type=workflow_type, key=key, tenant=tenant)
    if found is None and row.retired:
        raise ProcessTypeRetired(workflow_type)
    return found


class MakeRoutes(msgspec.Struct, frozen=True, gc=False):
    """Make an empty route of each type that has none: who starts the first process of a type has something to read, and writes nothing."""

    types: tuple[str, ...]

    def reads(self) -> Iterable[Read]:
        """Name them all."""
        return [ROUTE.key(each) for each in self.types]

    def decide(self, view: View) -> None:
        """Add those that are missing."""
        for each in self.types:
            if view.get(ROUTE.key(each)) is None:
                view.insert(ROUTE.key(each), RouteRow())


def default_of(row: RouteRow | None) -> str | None:
    """Return where the default rule leads; None without one."""
    return None if row is None or row.retired else row.content_hash


def default_rules(row: RouteRow) -> list[RouteRule]:
    """Return the default rule, if there is one."""
    default = default_of(row)
    return [] if default is None else [RouteRule(content_hash=default)]


def weighted(found: Iterable[tuple[Any, RuleRow]]) -> list[RouteRule]:
    """Return rules with weights in the order in which they were made: one that is added moves nobody from those before it."""
    rows = sorted((row for _, row in found), key=lambda row: row.since)
    return [RouteRule(content_hash=row.content_hash, weight=row.weight) for row in rows]


def _weights(workflow_type: str) -> Scan[RuleRow]:
    return Scan(RULES_OF_KIND, (workflow_type, RuleKind.WEIGHT), limits.ROUTE_WEIGHTS_MAX, guard=ROUTE.key(workflow_type))


# --- for whoever changes something -----------------------------------------------------------------------------


class By(msgspec.Struct, frozen=True):
    """Who changes something, and what was found when the package was built: JSON, or empty."""

    actor: str
    built_with: str = ""

    def record(
        self,
        view: View,
        workflow_type: str,
        action: Action,
        *,
        content_hash: str | None = None,
        previous: str | None = None,
        tenant: str = "",
        weight: int | None = None,
    ) -> None:
        """Write it into the type's log."""
        row = LogRow(
            action=action,
            content_hash=content_hash,
            previous=previous,
            tenant=tenant,
            weight=weight,
            actor=self.actor,
            built_with=self.built_with,
            at=view.now,
        )
        view.insert(LOG.key(workflow_type, view.tick()), row)


def use(view: View, content_hash: str | None) -> bool:
    """Note that a rule begins or ceases to lead to a package, and return whether that is stored.

    It is written: somebody who is about to remove it has not seen this rule.
    """
    key = PACKAGE.key(content_hash)
    row = None if content_hash is None else view.get(key)
    if row is None:
        return False
    view.update(key, replace(row, used_at=view.now, unloading=0))
    return True


class Pointed(NamedTuple):
    """Where a default led before, and whether new starts go elsewhere now."""

    before: str | None
    changed: bool


def point(view: View, workflow_type: str, content_hash: str) -> Pointed:
    """Let the default of a type lead to a package. Weights go: they were shares beside another default."""
    key = ROUTE.key(workflow_type)
    row = view.get(key)
    before = default_of(row)
    if row is not None and before == content_hash and not row.weights:
        return Pointed(before, changed=False)
    use(view, content_hash)
    if row is None:
        view.insert(key, RouteRow(content_hash=content_hash, changed=view.tick()))
        return Pointed(None, changed=True)
    use(view, before)
    if row.weights:
        _drop(view, RULES_OF_KIND, (workflow_type, RuleKind.WEIGHT))
    previous = row.previous if row.content_hash in {None, content_hash} else row.content_hash
    view.update(key, replace(row, content_hash=content_hash, previous=previous, retired=0, weights=0, changed=view.tick()))
    return Pointed(before, changed=True)


def _drop(view: View, index: Index[RuleRow], prefix: tuple[str, ...]) -> None:
    while rows := view.scan(Scan(index, prefix, limits.READ_PAGE, guard=ROUTE.key(prefix[0]))):
        for key, row in rows:
            use(view, row.content_hash)
            view.delete(key)


class _OnRoute(msgspec.Struct, frozen=True, kw_only=True):
    workflow_type: str
    by: By

    def reads(self) -> Iterable[Read]:
        """Name the route."""
        yield ROUTE.key(self.workflow_type)


class PutRoute(_OnRoute, frozen=True, kw_only=True):
    """Let the default of a type lead to a package; `stored`: only to one that is."""

    content_hash: str
    expected: str | msgspec.UnsetType | None = msgspec.UNSET
    stored: bool = False

    def decide(self, view: View) -> bool:
        """Return whether new starts go elsewhere now. Raises RouteConflict, PackageMissing."""
        found = default_of(view.get(ROUTE.key(self.workflow_type)))
        if self.expected is not msgspec.UNSET and found != self.expected:
            raise RouteConflict(self.workflow_type, expected=self.expected, found=found)
        if self.stored and view.get(PACKAGE.key(self.content_hash)) is None:
            raise PackageMissing(self.content_hash)
        pointed = point(view, self.workflow_type, self.content_hash)
        self.by.record(view, self.workflow_type, Action.ROUTED, content_hash=self.content_hash, previous=pointed.before)
        return pointed.changed


class SetTenantRule(_OnRoute, frozen=True, kw_only=True):
    """Let processes of one tenant start on a package; with None for it, on what others do."""

    tenant: str
    content_hash: str | None

    def decide(self, view: View) -> bool:
        """Return whether that is new. Raises PackageMissing, RouteRefused."""
        route, key = ROUTE.key(self.workflow_type), RULE.key(self.workflow_type, RuleKind.TENANT, self.tenant)
        row, rule = view.get(route), view.get(key)
        before = None if rule is None else rule.content_hash
        if self.content_hash is not None and not use(view, self.content_hash):
            raise PackageMissing(self.content_hash)
        if before == self.content_hash:
            return False
        use(view, before)
        tenants = (0 if row is None else row.tenants) + (rule is None) - (self.content_hash is None)
        if tenants > limits.ROUTE_TENANTS_MAX:
            raise RouteRefused(
                f"route of {self.workflow_type!r}: {limits.ROUTE_TENANTS_MAX:,} tenants have a rule of their own already; take one away first"
            )
        if self.content_hash is None:
            view.delete(key)
        elif rule is None:
            view.insert(key, RuleRow(self.content_hash, 0, view.tick()))
        else:
            view.update(key, replace(rule, content_hash=self.content_hash))
        _save(view, self.workflow_type, row, replace(row or RouteRow(), tenants=tenants))
        action = Action.TENANT_UNROUTED if self.content_hash is None else Action.TENANT_ROUTED
        self.by.record(view, self.workflow_type, action, content_hash=self.content_hash, previous=before, tenant=self.tenant)
        return True


class SetWeight(_OnRoute, frozen=True, kw_only=True):
    """Let so many of 10,000 processes of a type start on a package, beside the default; none at all with 0."""

    content_hash: str
    weight: int

    def decide(self, view: View) -> bool:
        """Return whether that is new. Raises PackageMissing, RouteMissing, RouteRefused."""
        row, key = view.get(ROUTE.key(self.workflow_type)), RULE.key(self.workflow_type, RuleKind.WEIGHT, self.content_hash)
        rule = view.get(key)
        if self.weight == (0 if rule is None else rule.weight):
            return False
        if self.weight:
            self._check(view, row)
        else:
            use(view, self.content_hash)
        weights = (0 if row is None else row.weights) + (rule is None) - (self.weight == 0)
        if self.weight == 0:
            view.delete(key)
        elif rule is None:
            view.insert(key, RuleRow(self.content_hash, self.weight, view.tick()))
        else:
            view.update(key, replace(rule, weight=self.weight))
        _save(view, self.workflow_type, row, replace(row or RouteRow(), weights=weights))
        self.by.record(view, self.workflow_type, Action.WEIGHTED, content_hash=self.content_hash, weight=self.weight)
        return True

    def _check(self, view: View, row: RouteRow | None) -> None:
        if not use(view, self.content_hash):
            raise PackageMissing(self.content_hash)
        if default_of(row) is None:
            raise RouteMissing(f"route of {self.workflow_type!r}: a weight is a share beside a default, and there is none; set that first")
        others = [rule for rule in weighted(view.scan(_weights(self.workflow_type))) if rule.content_hash != self.content_hash]
        total = self.weight + sum(rule.weight or 0 for rule in others)
        if total > limits.ROUTE_BASIS_POINTS or len(others) >= limits.ROUTE_WEIGHTS_MAX:
            raise RouteRefused(
                f"route of {self.workflow_type!r}: {len(others) + 1} weights of {total:,} basis points together; "
                f"expected at most {limits.ROUTE_WEIGHTS_MAX}, of at most {limits.ROUTE_BASIS_POINTS:,}"
            )


def _save(view: View, workflow_type: str, before: RouteRow | None, row: RouteRow) -> None:
    """Write the row that guards the rules, which have changed."""
    key = ROUTE.key(workflow_type)
    fresh = replace(row, changed=view.tick())
    if before is None:
        view.insert(key, fresh)
    else:
        view.update(key, fresh)


class Rollback(_OnRoute, frozen=True, kw_only=True):
    """Let the default of a type lead to where it led before."""

    def decide(self, view: View) -> str:
        """Return where that is. Raises RouteMissing, PackageMissing."""
        row = view.get(ROUTE.key(self.workflow_type))
        target = None if row is None else row.content_hash if row.retired else row.previous
        if target is None:
            raise RouteMissing(f"route of {self.workflow_type!r}: it led to nothing else before; its deployment log shows what there was")
        if view.get(PACKAGE.key(target)) is None:
            raise PackageMissing(target, needed_by=f"the rollback of {self.workflow_type!r}")
        pointed = point(view, self.workflow_type, target)
        self.by.record(view, self.workflow_type, Action.ROLLED_BACK, content_hash=target, previous=pointed.before)
        return target


class Retire(_OnRoute, frozen=True, kw_only=True):
    """Take all rules of a type away."""

    def decide(self, view: View) -> bool:
        """Return whether there were any. Raises RouteMissing."""
        key = ROUTE.key(self.workflow_type)
        row = view.get(key)
        before = default_of(row)
        if row is None or (before is None and not row.tenants):
            if row is not None and row.retired:
                return False
            raise RouteMissing(f"process type {self.workflow_type!r} has no route; there is nothing to retire")
        use(view, before)
        _drop(view, RULES, (self.workflow_type,))
        view.update(key, replace(row, retired=1, tenants=0, weights=0, changed=view.tick()))
        self.by.record(view, self.workflow_type, Action.RETIRED, previous=before)
        return True
