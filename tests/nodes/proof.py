"""What has to hold of nodes that were killed and stopped, and how it is found out.

Triggers note who owned a process's shard at the moment of each write to it, and each change of an owner. Nodes and server
are on one machine, so the moment at which a node began an effect compares with the server's.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import asyncpg
import msgspec

from perdure import Address, Joined, open_store
from perdure.conversations.events import StepCompleted, decode_event
from perdure.conversations.writes import shard_of
from perdure.engine import queries
from perdure.engine.versions import Versions
from tests.nodes.app import Account, Answer, make_app

PATIENCE = 600  # looks for quiet, each some 100 ms
LOOK = 0.1
SQL = r"""
create schema proof;
create table proof.owner (at float8 not null default extract(epoch from clock_timestamp()), shard bigint not null, node text);
create table proof.stale (at float8 not null default extract(epoch from clock_timestamp()), node text, place text, shard bigint, owner text);
create table proof.effect (at float8 not null, arrived float8 not null default extract(epoch from clock_timestamp()),
    node text not null, process_id text not null, ref text not null, step_id text not null, key text not null, attempt int not null,
    recorded bool not null);
create table proof.event (at float8 not null default extract(epoch from clock_timestamp()), tenant_id text, stream_no bigint, seq bigint);
create index process_of_stream on perdure.process (tenant_id, stream_no);

create function proof.note_recorded() returns trigger language plpgsql as $$
begin
    new.recorded := exists (select 1 from perdure.event join perdure.process using (tenant_id, stream_no) where process_id = new.process_id
        and position(convert_to(new.ref, 'UTF8') in data) > 0 and position(convert_to(new.step_id, 'UTF8') in data) > 0);
    return new;
end $$;
create trigger note_recorded before insert on proof.effect for each row execute function proof.note_recorded();

create function proof.note_owner() returns trigger language plpgsql as $$
begin
    insert into proof.owner (shard, node) values (new.shard, new.node);
    return null;
end $$;
create trigger note_owner after update on perdure.shard for each row when (old.node is distinct from new.node) execute function proof.note_owner();

create function proof.note_stale(place text, tenant text, process text) returns void language plpgsql as $$
declare
    writer text := substr(current_setting('application_name'), 9);
    part bigint := get_byte(sha256(convert_to(tenant, 'UTF8') || '\x00'::bytea || convert_to(process, 'UTF8')), 7) & 63;
    owned text;
begin
    select node into owned from perdure.shard where shard = part;
    if owned is distinct from writer then
        insert into proof.stale (node, place, shard, owner) values (writer, place, part, owned);
    end if;
end $$;
create function proof.check_process() returns trigger language plpgsql as $$
begin
    perform proof.note_stale(tg_table_name, new.tenant_id, new.process_id);
    return null;
end $$;
create function proof.check_event() returns trigger language plpgsql as $$
begin
    -- Its own `at` is the time of its node's batch, which an answer that came late has set back.
    insert into proof.event (tenant_id, stream_no, seq) values (new.tenant_id, new.stream_no, new.seq);
    -- A process that is made in the same statement is not seen yet; it has no other owner who writes.
    perform proof.note_stale(tg_table_name, tenant_id, process_id) from perdure.process
    where tenant_id = new.tenant_id and stream_no = new.stream_no;
    return null;
end $$;
create trigger check_owner after insert or update on perdure.turn for each row execute function proof.check_process();
-- The first fields are inserted with their process, by whoever starts it.
create trigger check_owner after update on perdure.process_state for each row execute function proof.check_process();
create trigger check_owner after insert on perdure.event for each row execute function proof.check_event();
"""
LEFT = """
select 'message ' || status, message_id from perdure.message m where status in ('delayed', 'queued', 'open') or (status = 'parked'
    and exists (select 1 from perdure.registry_key where process_id is not null and 'key ' || key = m.parked_under))
union all select 'process ' || status, process_id from perdure.process where status in ('runnable', 'waiting', 'paused', 'stuck')
union all select 'word', process_id from perdure.inbox
union all select 'timer', process_id from perdure.timer
"""


class Findings(msgspec.Struct, kw_only=True):
    """What was found; all lists are empty when everything holds.

    `clock_off` is by how many seconds an event's own time was before or after the server's, at most.
    """

    left: list[str] = []
    lost: list[str] = []
    twice: list[str] = []
    dead: list[str] = []
    after_record: list[str] = []
    stale_effects: list[str] = []
    stale_writes: list[str] = []
    writes: int = 0
    effects: int = 0
    again: int = 0
    acknowledged: int = 0
    handled: int = 0
    clock_off: float = 0.0

    @property
    def holds(self) -> bool:
        return not (self.left or self.lost or self.twice or self.dead or self.after_record or self.stale_effects or self.stale_writes)


async def prepare(url: str) -> None:
    async with open_store(url):
        pass
    connection = await asyncpg.connect(url)
    await connection.execute(SQL)
    await connection.close()


async def answer_who_waits(connection: asyncpg.Connection[Any]) -> None:
    """Give the talks that wait their answers: who would have given them was killed."""
    app = make_app(None)
    for (name,) in await connection.fetch("select message_id from perdure.message where kind = 'begin' and status in ('queued', 'open')"):
        answer = f"{name}/answer"
        async with connection.transaction():
            await Joined(connection, app=app).deliver(Answer(answer), id=answer, to=Address.key(f"talk:{name}"))


async def until_quiet(connection: asyncpg.Connection[Any]) -> list[str]:
    """Wait until nothing is under way; return what still is."""
    left: list[Any] = []
    for _ in range(PATIENCE):
        left = await connection.fetch(LEFT)
        if not left:
            return []
        await asyncio.sleep(LOOK)
    return [f"{what} {name}" for what, name in left]


async def examine(url: str, acknowledged: set[str]) -> Findings:
    connection = await asyncpg.connect(url)
    try:
        await answer_who_waits(connection)
        found = Findings(left=await until_quiet(connection), acknowledged=len(acknowledged))
        statuses = {name: status for name, status in await connection.fetch("select message_id, status from perdure.message")}  # noqa: C416  # a row is no pair
        found.handled = len(statuses)
        found.dead = sorted(name for name, status in statuses.items() if status in {"dead", "expired"})
        found.lost = sorted(name for name in acknowledged if statuses.get(name) != "done")
        await _compare_accounts(url, connection, found)
        await _look_at_effects(connection, found)
        rows = await connection.fetch("select at, node, place, shard, owner from proof.stale order by at")
        found.stale_writes = [f"{place} in {shard} by {node} at {at}, owned by {owner}" for at, node, place, shard, owner in rows]
        found.clock_off = await connection.fetchval(
            "select coalesce(max(abs(proof.event.at - perdure.event.at / 1e6)), 0) from perdure.event join proof.event using (tenant_id, stream_no, seq)"
        )
        found.writes = await connection.fetchval("select (select count(*) from perdure.event) + (select count(*) from perdure.turn)")
        return found
    finally:
        await connection.close()


async def _compare_accounts(url: str, connection: asyncpg.Connection[Any], found: Findings) -> None:
    """Each message to an account is remembered by one of them, once."""
    wanted = {
        name if kind == "add" else msgspec.json.decode(payload)["id"]
        for name, kind, payload in await connection.fetch(
            "select message_id, kind, payload from perdure.message where kind in ('add', 'note') and status = 'done'"
        )
    }
    seen: Counter[str] = Counter()
    app = make_app(None)
    async with open_store(url) as store:
        for (process_id,) in await connection.fetch("select process_id from perdure.process where process_type = 'Shared'"):
            seen.update(await queries.ask(store, Versions(store, app), Account.all, (), process_id=process_id, tenant="default"))
    found.lost += sorted(wanted - seen.keys())
    found.twice += sorted(name for name, count in seen.items() if count > 1)


async def _look_at_effects(connection: asyncpg.Connection[Any], found: Findings) -> None:
    owners: dict[int, list[tuple[float, str | None]]] = defaultdict(list)
    for at, shard, node in await connection.fetch("select at, shard, node from proof.owner order by at"):
        owners[shard].append((at, node))
    recorded = await _records(connection)
    began: Counter[str] = Counter()
    effects = await connection.fetch("select at, node, process_id, ref, step_id, key, recorded from proof.effect order by at")
    for at, node, process_id, ref, step_id, key, was_recorded in effects:
        began[key] += 1
        if owner_at(owners[shard_of("default", process_id)], at) != node:
            found.stale_effects.append(f"{process_id} {step_id} by {node} at {at}")
        # One that began before its node stood still may arrive when another has run the step again: that one is no mistake.
        if was_recorded and at > recorded.get((process_id, ref, step_id), at):
            runs = [f"{who} at {when}" for when, who, *_, same, _ in effects if same == key]
            found.after_record.append(f"{process_id} {ref} {step_id}, recorded at {recorded[process_id, ref, step_id]}: {runs}")
    found.effects = began.total()
    found.again = found.effects - len(began)


async def _records(connection: asyncpg.Connection[Any]) -> dict[tuple[str, str, str], float]:
    """When the server took the outcome of each step."""
    records = {}
    for process_id, at, data, seq in await connection.fetch(
        "select process_id, proof.event.at, data, seq from perdure.event join perdure.process using (tenant_id, stream_no)"
        " join proof.event using (tenant_id, stream_no, seq)"
    ):
        event = decode_event(data, stream=process_id, seq=seq)
        if isinstance(event, StepCompleted):
            records[process_id, event.message_id, event.name] = at
    return records


def owner_at(changes: Iterable[tuple[float, str | None]], at: float) -> str | None:
    owner = None
    for when, node in changes:
        if when > at:
            break
        owner = node
    return owner
