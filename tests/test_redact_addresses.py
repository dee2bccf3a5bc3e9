"""The mapping of addresses: a bijection that keeps prefixes and kinds."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snet_nb.record.addresses import AddressMap
from k8snet_nb.record.pseudonyms import Pseudonyms
from k8snet_nb.record.redact_node import NodeRedaction

v4 = st.integers(0, 2**32 - 1).map(lambda n: ".".join(str(n >> s & 255) for s in (24, 16, 8, 0)))
MAP = AddressMap(b"of this test")


def common(one: str, other: str) -> int:
    a, b = (int.from_bytes(bytes(map(int, text.split("."))), "big") for text in (one, other))
    return 32 - (a ^ b).bit_length()


@given(
    st.sampled_from(["10.0.0.0", "172.16.0.0", "192.168.0.0", "8.0.0.0"]),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**16 - 1),
)
def test_prefixes_are_preserved(block: str, one: int, other: int) -> None:
    base = ".".join(block.split(".")[:2])
    first, second = (f"{base}.{n >> 8}.{n & 255}" for n in (one, other))
    assert common(MAP.address(first), MAP.address(second)) == common(first, second)


@given(v4)
def test_private_stays_private_and_special_stays_itself(address: str) -> None:
    old, new = ipaddress.ip_address(address), ipaddress.ip_address(MAP.address(address))
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "224.0.0.0/4"):
        assert (old in ipaddress.ip_network(network)) == (new in ipaddress.ip_network(network))
    if old.is_loopback or old.is_multicast or old.is_link_local:
        assert new == old


def test_addresses_made_from_a_mac_are_made_from_the_new_one() -> None:
    mac = MAP.mac("22:b8:15:b9:e5:aa")
    parts = [int(part, 16) for part in mac.split(":")]
    host = f"{parts[0] ^ 2:02x}{parts[1]:02x}:{parts[2]:02x}ff:fe{parts[3]:02x}:{parts[4]:02x}{parts[5]:02x}"
    expected = ipaddress.ip_address(f"fe80::{host}")
    assert ipaddress.ip_address(MAP.address("fe80::20b8:15ff:feb9:e5aa")) == expected
    group = MAP.address("ff02::1:ffb9:e5aa")
    assert int(ipaddress.ip_address(group)) & 0xFFFFFF == int(expected) & 0xFFFFFF
    assert MAP.mac("33:33:ff:b9:e5:aa").split(":")[3:] == mac.split(":")[3:]


def test_networks_stay_networks() -> None:
    assert MAP.text("via 10.244.3.0/24 dev x").split()[1].endswith(".0/24")
    assert MAP.text("10.244.0.0/16").endswith(".0.0/16")
    assert MAP.text("0.0.0.0/0 ::/0 127.0.0.0/8 fe80::/64") == "0.0.0.0/0 ::/0 127.0.0.0/8 fe80::/64"
    assert MAP.text("v1.36.2 1.2.3.4.5 12:30:45") == "v1.36.2 1.2.3.4.5 12:30:45"


near = st.sampled_from(
    "10.0.0.0 172.16.0.0 192.168.0.0 100.64.0.0 198.18.0.0 169.254.0.0 127.0.0.0 224.0.0.0 8.0.0.0".split()
)
KINDS = "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 198.18.0.0/15 127.0.0.0/8 169.254.0.0/16 224.0.0.0/3"


@given(near, st.integers(-(2**20), 2**20), near, st.integers(-(2**20), 2**20))
def test_it_is_one_to_one_and_keeps_every_common_prefix_also_beside_private_blocks(
    first: str, one: int, second: str, other: int
) -> None:
    a, b = (
        ipaddress.IPv4Address(max(0, int(ipaddress.IPv4Address(x)) + n)) for x, n in ((first, one), (second, other))
    )
    new_a, new_b = (ipaddress.IPv4Address(MAP.address(str(x))) for x in (a, b))
    assert common(str(new_a), str(new_b)) == common(str(a), str(b))
    for text in KINDS.split():
        assert (a in ipaddress.ip_network(text)) == (new_a in ipaddress.ip_network(text))


@given(st.integers(0, 2**128 - 1), st.integers(0, 127), st.sampled_from([0xFD << 120, 0x2001 << 112, 0xFC << 120]))
def test_prefixes_of_ipv6_are_kept_too(number: int, length: int, block: int) -> None:
    one = ipaddress.IPv6Address(block | number & (1 << 112) - 1)
    other = ipaddress.IPv6Address(int(one) ^ 1 << (127 - length) if length >= 16 else int(one))
    made_of_mac = [int(x) >> 24 & 0xFFFF == 0xFFFE for x in (one, other)]
    new_one, new_other = (ipaddress.IPv6Address(MAP.address(str(x))) for x in (one, other))
    if not any(made_of_mac):
        same = 128 - (int(one) ^ int(other)).bit_length()
        assert 128 - (int(new_one) ^ int(new_other)).bit_length() == same


@given(v4, st.integers(0, 32), v4)
def test_who_is_in_a_network_is_in_its_image(address: str, length: int, other: str) -> None:
    network = ipaddress.ip_network(f"{address}/{length}", strict=False)
    image = ipaddress.ip_network(MAP.text(str(network)))
    for one in (address, other):
        assert (ipaddress.ip_address(one) in network) == (ipaddress.ip_address(MAP.address(one)) in image)


@given(st.lists(st.integers(0, 2**24 - 1), min_size=2, max_size=2, unique=True))
def test_macs_made_of_addresses_tell_nothing_of_their_differences(hosts: list[int]) -> None:
    macs = ["0a:58:0a:" + ":".join(f"{host >> shift & 255:02x}" for shift in (16, 8, 0)) for host in hosts]
    one, other = (int(MAP.mac(mac).replace(":", ""), 16) for mac in macs)
    assert one != other
    assert one >> 24 == other >> 24
    if all(host > 0xFF for host in hosts):
        assert MAP._low24(hosts[0]) > 0xFF
        assert MAP._shuffled("x", hosts[0], 24) != MAP._shuffled("x", hosts[1], 24)


def test_a_mask_would_show_them() -> None:
    differences = {MAP._low24(0xF40304 ^ n) ^ MAP._low24(0xF40304) for n in (1, 2, 3)}
    assert differences != {1, 2, 3}


def test_ranges() -> None:
    assert MAP.strict("10.1.0.0-10.1.255.255").endswith(".255.255")
    assert MAP.strict("--to-source fd00::-fd00::ffff").count("-") == 4
    assert [str(one) for one in MAP.networks("0.0.0.0", "255.255.255.255")] == ["0.0.0.0/0"]
    with pytest.raises(ValueError, match="no image that is a range"):
        MAP.strict("--to-source 10.0.0.1-10.0.0.9")
    assert MAP.address("64:ff9b::10.1.2.3") == str(ipaddress.IPv6Address(f"64:ff9b::{MAP.address('10.1.2.3')}"))
    assert MAP.address("fe80::20b8:15ff:feb9:e5aa%eth0").endswith("%eth0")


def test_settings_name_interfaces_too() -> None:
    names = Pseudonyms(b"k")
    told = NodeRedaction(names, MAP).settings(
        "net.ipv4.ip_forward = 1\nnet.ipv4.conf.all.rp_filter = 1\nnet.ipv4.conf.secret0/7.rp_filter = 2\n"
    )
    new = names.interface("secret0.7").replace(".", "/")
    assert told == f"net.ipv4.ip_forward = 1\nnet.ipv4.conf.all.rp_filter = 1\nnet.ipv4.conf.{new}.rp_filter = 2\n"
    assert "secret" not in told
