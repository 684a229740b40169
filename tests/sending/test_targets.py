"""Which URLs and addresses may be sent to; that whatever is given is taken or refused by a typed error."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import limits
from perdure.errors import TargetRefused
from perdure.sending.targets import Allowed, is_public, parsed, redacted

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.0.1",
    "172.32.0.1",
    "198.20.0.0",
    "223.255.255.255",
]
PUBLIC_6 = ["2606:4700:4700::1111", "2a00:1450::1", "2003::1", "2400::1"]
PRIVATE = {
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12::1"],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "link-local": ["169.254.169.254", "fe80::1", "fe80::1%eth0"],
    "provider's": ["100.64.0.1", "100.100.100.200", "100.127.255.255"],
    "multicast": ["224.0.0.1", "239.255.255.250", "ff02::1"],
    "reserved": [
        "240.0.0.1",
        "255.255.255.255",
        "192.0.0.192",
        "198.18.0.1",
        "192.0.2.1",
        "203.0.113.1",
        "198.51.100.1",
        "2001:db8::1",
        "100::1",
    ],
    "mapped": ["::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "::ffff:0:127.0.0.1"],
    "translated": ["64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:7f00:1::", "192.88.99.1"],
    "site-local": ["fec0::1"],
}


@pytest.mark.parametrize("address", [*PUBLIC, *PUBLIC_6])
def test_an_address_of_the_public_internet_may_be_sent_to(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", [address for addresses in PRIVATE.values() for address in addresses])
def test_no_other_address_may_be_sent_to(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@given(st.ip_addresses())
def test_what_python_knows_as_not_global_is_not_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if not address.is_global or address.is_multicast:
        assert not is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example",
        "//hooks.example/",
        "ftp://hooks.example/",
        "file:///etc/passwd",
        "unix:///run/docker.sock",
        "http:///path",
        "http://",
        "http://:80/",
        "http://user@hooks.example/",
        "http://user:sesame@hooks.example/",
        "http://@hooks.example/",
        "http://1.1.1.1@127.0.0.1/",
        "http://hooks.example:0/",
        "http://hooks.example:65536/",
        "http://hooks.example:/",
        "http://hooks.example:x/",
        "http://hooks.example:-1/",
        "http://hooks example/",
        "http://hooks.example/a b",
        "http://hooks.example\\@127.0.0.1/",
        "http://hooks.example/\r\nX: y",
        "http://hooks.example/\x00",
        "http://hööks.example/",
        "http://a..example/",
        "http://-a.example/",
        "http://%31%32%37.0.0.1/",
        "http://a%00.example/",
        "http://[::1",
        "http://[::1]x/",
        "http://[v1.a]/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.0.1.:80/x/../",
        "http://a.0x/",
        "http://1.2.3.4.5/",
        "http://256.1.1.1/",
        "http://" + "a" * 64 + ".example/",
        "http://" + "a." * 130 + "example/",
        "http://hooks.example/" + "a" * limits.SEND_URL_MAX,
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://[fe80::1%25eth0]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://hooks.example:22/",
        "http://hooks.example:6/",
    ],
)
def test_a_url_that_could_lead_elsewhere_is_refused_and_its_secrets_are_not_told(url: str) -> None:
    with pytest.raises(TargetRefused) as caught:
        Allowed().target(url)

    assert caught.value.code == "target-refused"
    assert "sesame" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://hooks.example", "hooks.example", 80),
        ("https://HOOKS.Example./a?b#c", "hooks.example", 443),
        ("https://xn--hks-tna.example:8443/", "xn--hks-tna.example", 8443),
        ("HTTP://a_b.example:1024/", "a_b.example", 1024),
        ("http://1.1.1.1/", "1.1.1.1", 80),
        ("http://[2606:4700:4700::1111]:443/", "2606:4700:4700::1111", 443),
    ],
)
def test_a_url_of_the_public_internet_is_taken(url: str, host: str, port: int) -> None:
    target = Allowed().target(url)

    assert (target.url, target.host, target.port) == (url, host, port)


def test_networks_hosts_and_ports_may_be_allowed() -> None:
    allowed = Allowed(networks=("10.1.0.0/16", "fd00::/8"), hosts=("Localhost", "127.0.0.2", "[::1]", "db.internal:25"), ports=(587,))

    for url in (
        "http://10.1.2.3/",
        "http://[fd00::1]/",
        "http://localhost/",
        "http://localhost:22/",
        "http://127.0.0.2/",
        "http://[::1]/",
        "http://db.internal:25/",
        "http://hooks.example:587/",
    ):
        allowed.target(url)
    for url in ("http://10.2.0.1/", "http://127.0.0.1/", "http://db.internal:26/", "http://hooks.example:588/", "http://[::2]/"):
        with pytest.raises(TargetRefused):
            allowed.target(url)
    allowed.check(parsed("http://localhost/"), ipaddress.ip_address("127.0.0.1"))
    allowed.check(parsed("http://db.internal:25/"), ipaddress.ip_address("10.9.9.9"))
    for url in ("http://db.internal:8080/", "http://hooks.example/"):
        with pytest.raises(TargetRefused):
            allowed.check(parsed(url), ipaddress.ip_address("10.9.9.9"))


@pytest.mark.parametrize("network", ["10.0.0.1/8", "x", "10.0.0.0/33", ""])
def test_a_network_that_is_none_is_refused(network: str) -> None:
    with pytest.raises(TargetRefused):
        Allowed(networks=(network,))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:sesame@hooks.example:8443/a/b?token=sesame#sesame", "https://hooks.example:8443/a/b"),
        ("https://hooks.example?sesame", "https://hooks.example"),
        ("https://a@b@hooks.example#sesame", "https://hooks.example"),
        ("sesame", "a URL without scheme"),
        ("mailto:sesame", "a URL without scheme"),
        ("http://a/\x1b[31m", "http://a/\\x1b[31m"),
    ],
)
def test_a_url_is_told_without_what_may_be_secret(url: str, shown: str) -> None:
    assert redacted(url) == shown


PIECES = st.sampled_from(
    [
        "http",
        "https",
        "://",
        "//",
        ":",
        "/",
        "@",
        "?",
        "#",
        "[",
        "]",
        "127.0.0.1",
        "1.1.1.1",
        "a.example",
        "%",
        "0x7f",
        "80",
        ".",
        "\\",
        "é",
        "\x00",
        "::1",
    ]
)


@given(st.text() | st.lists(PIECES, max_size=10).map("".join) | st.lists(PIECES, max_size=8).map(lambda more: "http://" + "".join(more)))
def test_whatever_url_is_given_is_taken_or_refused_by_a_typed_error(url: str) -> None:
    assert redacted(url).isprintable()
    try:
        target = Allowed().target(url)
    except TargetRefused:
        return
    assert target.scheme in {"http", "https"}
    assert "@" not in url.partition("://")[2].partition("/")[0].partition("?")[0].partition("#")[0]
    assert target.address is None or is_public(target.address)
