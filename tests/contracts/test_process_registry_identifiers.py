"""Contract 1: what a key, a tag and an identity may be, the same on every store.

`r` and `n` number the behaviours of the seed's system and the holes in its tests, `defect` its defects.
Source: the lists of both in the research on routing.
"""

from __future__ import annotations

import asyncio
import unicodedata
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.clock import VirtualClock
from perdure.errors import InvalidIdentifier
from perdure.identity import (
    MAX_REGISTRY_KEY_LEN,
    ProcessId,
    ProcessIdentity,
    RegistryKey,
    Tag,
    TenantId,
    decode_identifier,
    encode_identifier,
)
from perdure.routing.contract import ProcessRegistry
from perdure.routing.registry import Registry
from perdure.store import Store, open_store
from tests.contracts.registry import ACME, ORDER, P1, P3, process

PRINTABLE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60).filter(lambda text: len(text.encode()) <= 256)
# Each of these has been taken for another by some system: separators, prefixes, patterns, quotes, cases, forms.
NEIGHBOURS = (
    "a",
    "A",
    "a/",
    "a/b",
    "ab",
    "a0",
    "a:b",
    "a|b",
    "a%",
    "a_",
    "a*",
    "a\\",
    "a'",
    'a"',
    "a ",
    " a",
    "a\N{NO-BREAK SPACE}",
    "a\N{ZERO WIDTH SPACE}",
    "\N{LATIN SMALL LETTER E WITH ACUTE}",
    "e\N{COMBINING ACUTE ACCENT}",
    "\N{LATIN SMALL LETTER SHARP S}",
    "ss",
    "\N{PILE OF POO}",
    "\uf8ff",
    "\U0010ffff",
    "0",
    "00",
    "1e0",
    "NULL",
    "--",
)
REFUSED: list[Any] = [
    "",
    "a\0b",
    "\0",
    "a\x01",
    "a\n",
    "\t",
    "\x7f",
    "\x85",
    "\ud800",
    "x" * 257,
    "\N{PILE OF POO}" * 64 + "x",
    "é" * 129,
    None,
    17,
    b"bytes",
]


@pytest.fixture
def registry(store: Store) -> ProcessRegistry:
    return Registry(store.access)


# --- identifiers by themselves ---------------------------------------------------------------------------


def test_r07_the_key_of_a_conversation_begins_with_its_sender() -> None:
    key = RegistryKey.from_conversation_and_sender("0190b5a2-0000-7000-8000-000000000001", "9900357000004")

    assert str(key) == "9900357000004:0190b5a2-0000-7000-8000-000000000001"


@pytest.mark.parametrize("sender", ["a:b", ":", "", "a\0", "x" * 257])
def test_n04_a_sender_that_could_make_another_senders_key_is_refused(sender: str) -> None:
    with pytest.raises(InvalidIdentifier):
        RegistryKey.from_conversation_and_sender("1", sender)


@given(st.tuples(PRINTABLE, PRINTABLE), st.tuples(PRINTABLE, PRINTABLE))
@settings(deadline=None)
def test_n04_two_conversations_never_have_one_key(first: tuple[str, str], second: tuple[str, str]) -> None:
    keys = set()
    for conversation, sender in {first, second}:
        short = sender.replace(":", "")[:20] or "s"
        keys.add((conversation[:20], short, RegistryKey.from_conversation_and_sender(conversation[:20], short)))

    assert len({key for _, _, key in keys}) == len(keys)


def test_n05_a_key_is_its_text_whoever_made_it() -> None:
    text = "0190b5a2-0000-7000-8000-000000000001"

    made = {RegistryKey.parse(text), RegistryKey.from_correlation(text), RegistryKey.from_process(ProcessId(text)), RegistryKey(text)}

    assert made == {RegistryKey(text)}


@pytest.mark.parametrize("text", REFUSED)
@pytest.mark.parametrize("kind", [RegistryKey, Tag, ProcessId, RegistryKey.parse, RegistryKey.from_correlation, RegistryKey.from_process])
def test_r10_and_n01_every_constructor_refuses_the_same(kind: Any, text: Any) -> None:
    with pytest.raises(InvalidIdentifier):
        kind(text)


@pytest.mark.parametrize("text", ["x" * 255, "x" * MAX_REGISTRY_KEY_LEN, "\N{PILE OF POO}" * 64, "é" * 128, *NEIGHBOURS])
def test_r10_and_n01_every_printable_text_up_to_256_bytes_is_a_key_and_a_tag(text: str) -> None:
    assert str(RegistryKey(text)) == str(Tag(text)) == text


def test_the_tenant_of_a_party_is_the_same_everywhere() -> None:
    assert TenantId.from_party_id("9900357000004") == "f521f352-7cef-5322-a675-743e63cef514"
    assert TenantId.from_party_id("4012345000023") == "7885ae60-036d-5632-82ec-8a6aec810656"
    assert TenantId.from_party_id("9900123456789") == "5699ab15-89c8-5ff7-8ac2-fe77399c5425"


def test_r18_an_identity_survives_json() -> None:
    encoded = msgspec.json.Encoder(enc_hook=encode_identifier).encode(P3)

    decoded = msgspec.json.Decoder(ProcessIdentity, dec_hook=decode_identifier).decode(encoded)

    assert decoded == P3
    assert decoded.stream_id == "process/acme/p3"
    assert b"stream_id" not in encoded


@pytest.mark.parametrize("field", ["tenant_id", "process_id", "process_type", "package_hash"])
def test_n06_a_decoded_identity_goes_through_the_rules(field: str) -> None:
    fields = {"tenant_id": "acme", "process_id": "p1", "process_type": "order", "package_hash": None} | {field: "a\0b"}

    with pytest.raises((InvalidIdentifier, msgspec.ValidationError)):
        msgspec.convert(fields, ProcessIdentity, dec_hook=decode_identifier)


def test_n10_an_identity_with_fields_of_a_newer_version_is_readable() -> None:
    text = b'{"tenant_id":"acme","process_id":"p1","process_type":"order","stream_id":"process/evil/p9","new":1}'

    decoded = msgspec.json.decode(text, type=ProcessIdentity, dec_hook=decode_identifier)

    assert decoded == P1
    assert decoded.stream_id == "process/acme/p1"


# --- in a store ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", REFUSED)
async def test_n01_and_defect_07_hostile_text_is_refused_before_anything_is_written(registry: ProcessRegistry, text: Any) -> None:
    identity = process("p1")
    calls = [
        registry.register(ACME, text, identity),
        registry.register_if_absent(ACME, text, identity),
        registry.replace(ACME, text, identity.process_id, identity),
        registry.replace(ACME, ORDER, text, identity),
        registry.lookup(ACME, text),
        registry.contains(ACME, text),
        registry.remove(ACME, text),
        registry.remove_if(ACME, text, identity.process_id),
        registry.remove_if(ACME, ORDER, text),
        registry.register_correlated(ACME, text, identity.process_id, identity),
        registry.register_correlated(ACME, "t", text, identity),
        registry.lookup_correlated(ACME, text),
        registry.page_correlated(ACME, text),
        registry.remove_correlated(ACME, text, identity.process_id),
        registry.remove_correlated(ACME, "t", text),
        registry.keys_of(ACME, text),
        registry.tags_of(ACME, text),
        registry.release(ACME, text),
        registry.lookup(text, ORDER),
        registry.register_correlated(text, "t", identity.process_id, identity),
        registry.rebuild(text),
        registry.verify(text),
    ]

    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [InvalidIdentifier] * len(calls)
    assert await registry.is_empty()
    assert await registry.verify(ACME) == []


async def test_n02_neighbours_never_see_one_another(registry: ProcessRegistry) -> None:
    for number, text in enumerate(NEIGHBOURS):
        await registry.register(ACME, RegistryKey(text), process(f"k{number}"))
        await registry.register_correlated(ACME, text, ProcessId(f"t{number}"), process(f"t{number}"))

    for number, text in enumerate(NEIGHBOURS):
        assert await registry.lookup(ACME, RegistryKey(text)) == process(f"k{number}")
        assert await registry.lookup_correlated(ACME, text) == [process(f"t{number}")]
        assert await registry.keys_of(ACME, ProcessId(f"k{number}")) == [text]
        assert await registry.tags_of(ACME, ProcessId(f"t{number}")) == [text]
    assert await registry.len() == len(NEIGHBOURS)
    assert await registry.verify(ACME) == []


async def test_n02_neighbouring_tenants_and_processes_never_see_one_another(registry: ProcessRegistry) -> None:
    tenants = [TenantId(text) for text in ("a", "A", "a.", "a.b", "ab", "a-", "a_", "0", "00")]
    for tenant_id in tenants:
        for text in NEIGHBOURS:
            await registry.register(tenant_id, RegistryKey(f"of {text}"), process(text, tenant_id=tenant_id))

    for tenant_id in tenants:
        for text in NEIGHBOURS:
            assert await registry.keys_of(tenant_id, ProcessId(text)) == [f"of {text}"]


async def test_n01_the_longest_texts_fit(registry: ProcessRegistry) -> None:
    long = "\N{PILE OF POO}" * 64
    identity = process(long, tenant_id=TenantId("t" * 128), process_type="é" * 128)

    await registry.register(identity.tenant_id, RegistryKey(long), identity)
    await registry.register_correlated(identity.tenant_id, long, identity.process_id, identity)

    assert await registry.lookup(identity.tenant_id, RegistryKey(long)) == identity
    assert await registry.lookup_correlated(identity.tenant_id, long) == [identity]


async def test_n01_forms_of_one_character_are_two_keys(registry: ProcessRegistry) -> None:
    composed = "\N{LATIN SMALL LETTER E WITH ACUTE}"
    decomposed = unicodedata.normalize("NFD", composed)
    await registry.register(ACME, RegistryKey(composed), P1)

    assert await registry.lookup(ACME, RegistryKey(decomposed)) is None
    assert await registry.keys_of(ACME, P1.process_id) == [composed]


@given(st.sets(PRINTABLE, min_size=1, max_size=12))
@settings(deadline=None, max_examples=40)
def test_n02_keys_and_tags_of_any_printable_characters_never_see_one_another(texts: set[str]) -> None:
    async def scene() -> None:
        async with open_store("sqlite:///:memory:", clock=VirtualClock()) as store:
            registry = Registry(store.access)
            for number, text in enumerate(sorted(texts)):
                await registry.register(ACME, RegistryKey(text), process(f"k{number}"))
                await registry.register_correlated(ACME, text, ProcessId(f"t{number}"), process(f"t{number}"))

            for number, text in enumerate(sorted(texts)):
                assert await registry.lookup(ACME, RegistryKey(text)) == process(f"k{number}")
                assert await registry.lookup_correlated(ACME, text) == [process(f"t{number}")]
            assert await registry.len() == len(texts)
            assert await registry.verify(ACME) == []

    asyncio.run(scene())
