"""What steps did to the world, for tests that count it."""

from __future__ import annotations

from collections import Counter

import msgspec

from perdure.engine.steps import step_info


class Effect(msgspec.Struct, frozen=True):
    """One effect: what was done, by which step of which process, at which of its attempts. `step` is its name in the timeline."""

    what: str
    idempotency_key: str
    attempt: int
    step: str


class EffectLedger:
    """A record of effects that no crash touches, as a bank or a mail server would keep it.

    A step notes what it does: `ledger.note(f"charge {order_id}")`. A repetition of the same step is recognised by its
    idempotency key: `counts` has it once, `repeated` tells of it.

    Attributes:
        effects: all of them, in order.
    """

    def __init__(self) -> None:
        self.effects: list[Effect] = []

    def note(self, what: str, /) -> None:
        """Note an effect of the step that runs. Raises NotInTurn outside a step."""
        info = step_info()
        self.effects.append(Effect(what, info.idempotency_key, info.attempt, info.step_id))

    @property
    def counts(self) -> Counter[str]:
        """How many steps did each thing, repetitions of one step aside."""
        return Counter(what for what, _ in {(one.what, one.idempotency_key) for one in self.effects})

    @property
    def repeated(self) -> Counter[str]:
        """What the same attempt of the same step did more than once, and how many times more."""
        times = Counter(self.effects)
        return Counter({one.what: count - 1 for one, count in times.items() if count > 1})

    @property
    def windows(self) -> Counter[str]:
        """The steps, by name, that did so, and how many times more: those that a crash found between effect and record."""
        windows: Counter[str] = Counter()
        for one, count in Counter(self.effects).items():
            windows[one.step] += count - 1
        return +windows

    def clear(self) -> None:
        """Forget all."""
        self.effects.clear()
