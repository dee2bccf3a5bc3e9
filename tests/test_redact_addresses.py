"""The mapping of addresses: a bijection that keeps prefixes and kinds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from k8snet_nb.record.addresses import AddressMap

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
    import ipaddress

    old, new = ipaddress.ip_address(address), ipaddress.ip_address(MAP.address(address))
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "224.0.0.0/4"):
        assert (old in ipaddress.ip_network(network)) == (new in ipaddress.ip_network(network))
    if old.is_loopback or old.is_multicast or old.is_link_local:
        assert new == old


def test_addresses_made_from_a_mac_are_made_from_the_new_one() -> None:
    mac = MAP.mac("22:b8:15:b9:e5:aa")
    parts = [int(part, 16) for part in mac.split(":")]
    host = f"{parts[0] ^ 2:02x}{parts[1]:02x}:{parts[2]:02x}ff:fe{parts[3]:02x}:{parts[4]:02x}{parts[5]:02x}"
    import ipaddress

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
