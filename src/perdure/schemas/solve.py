"""All pairs of a plan together: recursion, upcasters, and what is left to say at the end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import msgspec

from perdure.errors import Incompatibility
from perdure.schemas.canonical import text_of
from perdure.schemas.decide import Context, Decision, Pair, decide, name_of
from perdure.schemas.loading import NamedTypes
from perdure.schemas.steps import Step, Target, Upcast, Upcasting

Upcasters = Mapping[str, tuple[Upcast, str]]
"""From the hash of an old type to a pure function on builtins, and the hash of the type that its results have."""


class _Attempt(msgspec.Struct):
    """One way to read a pair: upcast by these functions, and then read `pair`, whose writer is what they return."""

    upcasts: tuple[Upcast, ...]
    pair: Pair
    harm: int = 0  # 0 when every value can be read, 1 when that depends on the value, 2 when none can


class _State(msgspec.Struct):
    attempts: list[_Attempt]
    target: Target
    chosen: int = 0

    @property
    def attempt(self) -> _Attempt:
        return self.attempts[self.chosen]


class Solver:
    """Decides every pair that a root pair leads to.

    Each pair is assumed possible until something speaks against it, which is right for recursive types: it looks for the
    greatest set of pairs that are possible together. Each is decided once, so the work is bounded by the number of types
    of one side times that of the other.
    """

    def __init__(self, types: NamedTypes, upcasters: Upcasters) -> None:
        self._types = types
        self._upcasters = upcasters
        self._context = Context(types, upcasters, lambda pair: self._state(pair).target)
        self._states: dict[Pair, _State] = {}
        self._decisions: dict[Pair, Decision] = {}

    def solve(self, root: Pair) -> list[Incompatibility]:
        """Return what speaks against reading `root`, with paths from there, after every upcaster that may help was tried."""
        while True:
            reached = self._reached(root)
            harm = self._harm(reached)
            for pair in reached:
                self._state(pair).attempt.harm = harm[pair]
            # The cause before what only depends on it, and the inner before the outer.
            failing = [pair for pair in reversed(reached) if harm[pair]]
            failing.sort(key=lambda pair: not self._decision(pair).issues)
            if not any(map(self._upcast, failing)):
                break
        for state in self._states.values():
            # Of attempts with equal harm the last: it is what the author of the upcasters meant to be read.
            state.chosen = min(range(len(state.attempts)), key=lambda place: (state.attempts[place].harm, -place))
        return list(self._issues(root))

    def settle(self, root: Pair) -> Step:
        """Return the step for `root`; call it after `solve`."""
        states = [self._state(pair) for pair in self._reached(root)]
        for state in states:
            step = self._decided(state.attempt.pair).step
            state.target.step = Upcasting(state.attempt.upcasts, step) if state.attempt.upcasts else step
        while still := [state for state in states if not state.target.moves and state.target.step.moves()]:
            for state in still:
                state.target.moves = True
        for state in states:
            state.target.step = state.target.step.settled()
        return self._state(root).target.step

    def _state(self, pair: Pair) -> _State:
        if pair not in self._states:
            self._states[pair] = _State([_Attempt((), pair)], Target())
        return self._states[pair]

    def _decision(self, pair: Pair) -> Decision:
        return self._decided(self._state(pair).attempt.pair)

    def _decided(self, pair: Pair) -> Decision:
        if pair not in self._decisions:
            self._decisions[pair] = decide(pair, self._context)
        return self._decisions[pair]

    def _reached(self, root: Pair) -> dict[Pair, str]:
        """Return every pair that the chosen attempts lead to, with the first path to it."""
        reached = {root: "$"}
        for pair in (order := [root]):
            for path, linked in self._decision(pair).links:
                if linked not in reached:
                    reached[linked] = reached[pair] + path
                    order.append(linked)
        return reached

    def _harm(self, reached: Mapping[Pair, str]) -> dict[Pair, int]:
        links = {pair: [linked for _, linked in self._decision(pair).links] for pair in reached}
        harm = {pair: max((1 if issue.partial else 2 for issue in self._decision(pair).issues), default=0) for pair in reached}
        worse = dict(harm)
        while worse:
            worse = {pair: worst for pair in links if (worst := max((harm[linked] for linked in links[pair]), default=0)) > harm[pair]}
            harm |= worse
        return harm

    def _upcast(self, pair: Pair) -> bool:
        """Make an attempt with one more upcaster; tell whether there was one."""
        state = self._state(pair)
        last = state.attempts[-1]
        name = name_of(json.loads(last.pair.writer))
        if name not in self._upcasters:
            return False
        function, result = self._upcasters[name]
        writer = text_of(self._types.load(result))
        if any(attempt.pair.writer == writer for attempt in state.attempts):  # upcasters that go in a circle
            return False
        state.attempts.append(_Attempt((*last.upcasts, function), last.pair._replace(writer=writer)))
        state.chosen = len(state.attempts) - 1
        return True

    def _issues(self, root: Pair) -> Iterator[Incompatibility]:
        for pair, path in self._reached(root).items():
            for issue in self._decision(pair).issues:
                yield issue._replace(path=path + issue.path)
