"""Timers as rows: what is due wakes the process that waits."""
