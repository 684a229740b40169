"""An order that a person has to approve within three days: durable waiting, a reminder, and a refund."""
