"""Where requests may go: addresses that only this machine or its segment reaches are refused unless they are named."""

import pytest

from jobsd.domain.destination import refusal

METADATA, LINK, LOOP = "a cloud's metadata service", "a link-local address", "a loopback address"


@pytest.mark.req("P11")
@pytest.mark.fault(48)
@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("93.184.216.34", None),
        ("2606:2800:220:1::1", None),
        ("10.1.2.3", None),
        ("172.16.0.9", None),
        ("192.168.1.1", None),
        ("fd12:3456::1", None),
        ("127.0.0.1", LOOP),
        ("127.8.9.10", LOOP),
        ("::1", LOOP),
        ("169.254.169.254", LINK),
        ("fe80::1", LINK),
        ("fe80::1%eth0", LINK),
        ("fd00:ec2::254", METADATA),
        ("100.100.100.200", METADATA),
        ("0.0.0.0", "no host's address"),
        ("0.0.0.1", "no host's address"),
        ("::", "no host's address"),
        ("224.0.0.251", "a multicast address"),
        ("ff02::1", "a multicast address"),
        ("255.255.255.255", "a reserved address"),
        ("::ffff:127.0.0.1", LOOP),
        ("::ffff:169.254.169.254", LINK),
        ("::127.0.0.1", LOOP),
        ("2002:a9fe:a9fe::1", LINK),
        ("64:ff9b::a9fe:a9fe", LINK),
        ("64:ff9b::808:808", None),
    ],
)
def test_a_name_may_lead_to_no_address_that_only_this_machine_or_segment_reaches(
    address: str, kind: str | None
) -> None:
    assert refusal(address, "partner.example") == kind


@pytest.mark.req("P11")
@pytest.mark.fault(48)
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "db.localhost", "127.0.0.1", "127.0.0.2", "::1", "[::1]"])
def test_a_url_that_says_this_machine_means_it(host: str) -> None:
    assert refusal("127.0.0.1", host) is None
    assert refusal("169.254.169.254", host) == LINK


@pytest.mark.parametrize("host", ["localhost.evil.test", "notlocalhost", "127.0.0.1.evil.test", "0x7f.1", "2130706433"])
def test_what_only_looks_like_this_machine_does_not(host: str) -> None:
    assert refusal("127.0.0.1", host) == LOOP


@pytest.mark.parametrize("allow", ["169.254.169.254", "169.254.0.0/16"])
def test_what_is_named_is_allowed_and_no_more(allow: str) -> None:
    assert refusal("169.254.169.254", "meta", [allow]) is None
    assert refusal("::ffff:169.254.169.254", "meta", [allow]) is None
    assert refusal("127.0.0.1", "meta", [allow]) == LOOP
