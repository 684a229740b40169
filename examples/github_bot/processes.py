"""The processes of the bot: one per pull request, per issue, per repository, per account.

Webhooks come in any order, so nothing here depends on it: counters count, sets grow, and what is a state of its own (a
title, a conclusion) is taken from the newest event by GitHub's own times.
"""

from __future__ import annotations

import asyncio

import msgspec

import perdure
from examples.github_bot import effects
from examples.github_bot.events import AccountEvent, CommitEvent, Event, IssueEvent, Payload, PullRequestEvent, RepositoryEvent, part, text
from perdure import Address

app = perdure.App("github-bot")


class Handled(msgspec.Struct, frozen=True):
    """The reply to a webhook: what was done."""

    what: str
    done: list[str]


class Tally(msgspec.Struct, frozen=True, tag="tally"):
    """For a repository: something was opened, closed or reopened in it."""

    repository: str
    what: str


class Check(msgspec.Struct, frozen=True):
    """The state of one check of one commit, and the event that it is from."""

    state: str
    newest: str


class Subject(perdure.Process):
    """What all of them have: how often each event came, and which one was the newest."""

    subject: str = ""
    counts: dict[str, int] = {}
    newest: str = ""

    def count(self, event: Event) -> bool:
        """Count an event; return whether it is the newest so far. Of two at one time, always the same one is."""
        self.counts[event.what] = self.counts.get(event.what, 0) + 1
        if place_of(event) <= self.newest:
            return False
        self.newest = place_of(event)
        return True


@app.process(on_error="fail_turn")
class PullRequest(Subject):
    """A pull request: its state, and the checks of its commits."""

    title: str = ""
    state: str = ""
    labels: list[str] = []
    heads: list[str] = []
    checks: dict[str, Check] = {}

    @perdure.on(PullRequestEvent, start=True, key=lambda event: event.subject)
    async def changed(self, event: PullRequestEvent) -> Handled:
        """Label it by its text and size, and tell those whom it concerns."""
        self.subject = event.subject
        snapshot = part(event.payload, "pull_request") or part(event.payload, "issue")
        if self.count(event):
            self.title, self.state, self.labels = text(snapshot, "title"), state_of(snapshot), names(snapshot, "labels", "name")
        if event.head:
            self.heads = sorted({*self.heads, event.head})
            self.tag(f"commit:{event.head}")
        if event.name == "pull_request" and event.action in {"opened", "closed", "reopened"}:
            self.send(Tally(event.repository, event.what), to=Address.start(Repository, key=event.repository))
        lines = sum(value for name in ("additions", "deletions") if isinstance(value := snapshot.get(name), int))
        labels = await self.step(effects.triage, self.subject, words(snapshot), lines)
        people = names(snapshot, "requested_reviewers", "login") + names(snapshot, "assignees", "login")
        told = await self.step(effects.notify, self.subject, people, event.what)
        return Handled(event.what, [*labels, f"{told} told"])

    @perdure.on(CommitEvent, tag=lambda event: event.subject)
    async def checked(self, event: CommitEvent) -> Handled:
        """Show the state of a check of its commit."""
        self.count(event)
        check, state = check_of(event)
        name = f"{event.sha} {check}"
        if name not in self.checks or place_of(event) > self.checks[name].newest:
            self.checks[name] = Check(state, place_of(event))
        shown = await self.step(effects.set_status, self.subject, event.sha, check, state)
        await self.step(effects.notify, self.subject, [actor(event)], f"{check} is {shown}")
        return Handled(event.what, [f"{check} is {shown}"])


@app.process(on_error="fail_turn")
class Issue(Subject):
    """An issue."""

    title: str = ""
    state: str = ""
    labels: list[str] = []

    @perdure.on(IssueEvent, start=True, key=lambda event: event.subject)
    async def changed(self, event: IssueEvent) -> Handled:
        """Label it by its text, and tell those whom it concerns."""
        self.subject = event.subject
        snapshot = part(event.payload, "issue")
        if self.count(event):
            self.title, self.state, self.labels = text(snapshot, "title"), state_of(snapshot), names(snapshot, "labels", "name")
        if event.name == "issues" and event.action in {"opened", "closed", "reopened"}:
            self.send(Tally(event.repository, event.what), to=Address.start(Repository, key=event.repository))
        labels = await self.step(effects.triage, self.subject, words(part(event.payload, "comment") or snapshot), None)
        told = await self.step(effects.notify, self.subject, names(snapshot, "assignees", "login"), event.what)
        return Handled(event.what, [*labels, f"{told} told"])


@app.process(on_error="fail_turn")
class Repository(Subject):
    """A repository: everything that is about no pull request or issue of it, and how many were opened and closed."""

    tallies: dict[str, int] = {}

    @perdure.on(RepositoryEvent, start=True, key=lambda event: event.subject)
    async def changed(self, event: RepositoryEvent) -> Handled:
        """Index the event and write it into the audit log, both at the same time."""
        self.subject = event.subject
        self.count(event)
        done = await asyncio.gather(
            self.step(effects.index, self.subject, event.what, title_of(event)),
            self.step(effects.audit, self.subject, event.what, actor(event)),
        )
        return Handled(event.what, [*done])

    @perdure.on(Tally, start=True, key=lambda tally: tally.repository)
    async def tallied(self, tally: Tally) -> None:
        """Count what one of its pull requests or issues says."""
        self.subject = tally.repository
        self.tallies[tally.what] = self.tallies.get(tally.what, 0) + 1


@app.process(on_error="fail_turn")
class Account(Subject):
    """An organisation or a user: memberships, teams, installations, purchases, sponsorships."""

    @perdure.on(AccountEvent, start=True, key=lambda event: event.subject)
    async def changed(self, event: AccountEvent) -> Handled:
        """Write the event into the audit log, and tell who did it."""
        self.subject = event.subject
        self.count(event)
        line = await self.step(effects.audit, self.subject, event.what, actor(event))
        await self.step(effects.notify, self.subject, [actor(event)], line)
        return Handled(event.what, [line])


# --- what a payload says -------------------------------------------------------------------------------


def place_of(event: Event) -> str:
    """Return the place of an event among those of its subject: by time, then by name."""
    return f"{event.at} {event.delivery}"


def state_of(snapshot: Payload) -> str:
    """Return the state of a pull request or an issue in one word."""
    state = text(snapshot, "state")
    if text(snapshot, "merged_at"):
        return "merged"
    return "draft" if state == "open" and snapshot.get("draft") is True else state


def check_of(event: CommitEvent) -> tuple[str, str]:
    """Return the name of a check, and its state."""
    check = part(event.payload, event.name) or event.payload
    return first(check, "name", "context", "ref") or event.name, first(check, "conclusion", "status", "state") or "seen"


def title_of(event: Event) -> str:
    """Return the title or name of what an event is about, if it has one."""
    return first(part(event.payload, event.name), "title", "name", "tag_name")


def words(snapshot: Payload) -> str:
    """Return what people wrote."""
    return f"{text(snapshot, 'title')} {text(snapshot, 'body')}"


def actor(event: Event) -> str:
    """Return the login of who did it, empty when nobody is named."""
    return text(event.payload, "sender", "login")


def first(payload: Payload, *fields: str) -> str:
    """Return the first of these fields that has a text."""
    return next((found for field in fields if (found := text(payload, field))), "")


def names(snapshot: Payload, list_name: str, field: str) -> list[str]:
    """Return one field of each entry of a list in a payload, sorted."""
    entries = snapshot.get(list_name)
    found = (text(entry, field) for entry in entries if isinstance(entry, dict)) if isinstance(entries, list) else ()
    return sorted(name for name in found if name)
