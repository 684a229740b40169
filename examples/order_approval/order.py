"""The process: one order, from placing to parcel or refund."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import msgspec

import perdure
from examples.order_approval.services import CardDeclined, ask_approver, charge_card, refund, remind_approver, ship
from perdure import Retry

REMIND_AFTER: Final = timedelta(days=2)
GIVE_UP_AFTER: Final = timedelta(days=3)
PATIENT: Final = Retry(max_attempts=20, maximum=3600, give_up_on=(CardDeclined,))


class PlaceOrder(msgspec.Struct, tag="place-order", frozen=True):
    """A customer has ordered something; `total` is in cents."""

    order_id: str
    customer: str
    total: int


class Approve(msgspec.Struct, tag="approve", frozen=True):
    """A person lets the order go."""

    order_id: str
    by: str


class Reject(msgspec.Struct, tag="reject", frozen=True):
    """A person does not."""

    order_id: str
    by: str
    reason: str


class Summary(msgspec.Struct, frozen=True):
    """What is known of an order. `parcel` is empty unless it was shipped."""

    status: str
    parcel: str = ""
    note: str = ""


def key_of(message: PlaceOrder | Approve | Reject) -> str:
    """Return the key under which the order's process is found."""
    return f"order:{message.order_id}"


app: Final = perdure.App("order approval")


@app.process
class Order(perdure.Process):
    """One order. Its fields are durable; queries read them while it waits."""

    status: str = "new"
    parcel: str = ""
    note: str = ""

    @perdure.on(PlaceOrder, start=True, key=key_of)
    async def place(self, message: PlaceOrder) -> Summary:
        """Charge, ask, wait for a person, and ship or refund."""
        self.attributes["order"], self.attributes["customer"] = message.order_id, message.customer
        try:
            receipt = await self.step(charge_card, message.order_id, message.total, retry=PATIENT)
        except CardDeclined as declined:
            return self.now_is("declined", str(declined))

        self.now_is("waits for approval")
        await self.step(ask_approver, message.order_id, message.total, retry=PATIENT)
        decision = await self.receive(Approve, Reject, timeout=REMIND_AFTER)
        if decision is None:
            await self.step(remind_approver, message.order_id, retry=PATIENT)
            decision = await self.receive(Approve, Reject, timeout=GIVE_UP_AFTER - REMIND_AFTER)

        match decision:
            case Approve(by=by):
                self.reply(decision, self.now_is("approved", f"by {by}"))
                self.parcel = await self.step(ship, message.order_id, retry=PATIENT)
                return self.now_is("shipped", f"approved by {by}")
            case Reject(by=by, reason=reason):
                self.reply(decision, self.now_is("rejected", f"{by}: {reason}"))
            case None:
                self.now_is("expired", "nobody decided within three days")
        await self.step(refund, receipt, retry=PATIENT)
        return self.summary()

    @perdure.on(Approve, key=key_of)
    async def approve_late(self, message: Approve) -> Summary:
        """Tell a person who comes when all is decided what was decided."""
        self.log.info("%s approves an order that is %s", message.by, self.status)
        return self.summary()

    @perdure.on(Reject, key=key_of)
    async def reject_late(self, message: Reject) -> Summary:
        """Do the same."""
        self.log.info("%s rejects an order that is %s", message.by, self.status)
        return self.summary()

    @perdure.query
    def summary(self) -> Summary:
        """Return what is known by now."""
        return Summary(self.status, self.parcel, self.note)

    def now_is(self, status: str, note: str = "") -> Summary:
        """Go to another status, also for searches."""
        self.status = self.attributes["status"] = status
        self.note = note
        return self.summary()
