from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest
from tests.web import Web

from trainyard.data.addresses import check_url, guarded_session, is_public, shown_url
from trainyard.errors import IntegrityError


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("64:ff9b::5db8:d822", True),
        ("127.0.0.1", False),
        ("127.9.9.9", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::7f00:1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:7f00:1::", False),
        ("2001:0:7f00:1::", False),
        ("fc00::1", False),
        ("fe80::1", False),
        ("ff02::1", False),
    ],
)
def test_only_addresses_of_the_public_internet_are_public_in_whatever_form(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


def test_a_name_that_changes_its_address_between_is_caught_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    lookup = socket.getaddrinfo
    answers = [[(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 80))]]

    def rebinding(*arguments: Any, **keys: Any) -> Any:
        return answers.pop() if answers else lookup(*arguments, **keys)

    with Web({"/a": b"x"}) as web:
        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        url = web.url.replace("127.0.0.1", "localhost") + "/a"
        monkeypatch.setenv("no_proxy", "localhost")
        check_url(url, None)
        with pytest.raises(IntegrityError, match=r"localhost: refused, because (127\.0\.0\.1|::1) is not a public address"):
            guarded_session(None).get(url)
        assert web.asked == []


def test_the_users_own_mirror_may_be_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with Web({"/a": b"x"}) as web:
        check_url(f"{web.url}/a", web.host)
        assert guarded_session(web.host).get(f"{web.url}/a").content == b"x"
        with pytest.raises(IntegrityError, match="not a public address"):
            check_url(f"{web.url}/a", "127.0.0.1:1")


def test_through_a_proxy_names_are_not_looked_up_and_addresses_are_still_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with Web({"http://data.invalid/a": b"x"}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        check_url("http://data.invalid/a", None)
        assert guarded_session(None).get("http://data.invalid/a").content == b"x"
        for host in ("127.0.0.1", "[::1]", "2130706433", "0x7f.1", "localhost", "169.254.169.254"):
            with pytest.raises(IntegrityError, match="not a public address"):
                check_url(f"http://{host}/a", None)


def test_an_address_is_shown_without_what_is_secret() -> None:
    assert shown_url("https://me:pass@example.org:8443/a/b.zip?token=x#y") == "https://example.org:8443/a/b.zip"
