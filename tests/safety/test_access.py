from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.safety.heads import TOKEN, head
from trainyard.errors import InputError, IntegrityError, MachineError, ServiceError
from trainyard.training import access
from trainyard.training.access import check_cluster, head_of, host_of, is_loopback, read_token
from trainyard.training.private_access import private_access
from trainyard.training.ray_start import join


@pytest.fixture
def on_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the loopback address for one of a network."""
    monkeypatch.setattr(access, "is_loopback", lambda host: False)


@pytest.fixture
def token_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that gives this process a token in a file."""

    def give(token: str) -> Path:
        path = tmp_path / "token"
        path.write_text(f"{token}\n")
        path.chmod(0o600)
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
        monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
        return path

    return give


@pytest.fixture(autouse=True)
def without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_USE_TLS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("on_a_network")
def test_a_cluster_on_a_network_that_asks_for_no_token_is_refused_with_the_fix() -> None:
    with head(None) as address, pytest.raises(IntegrityError, match=r"RAY_AUTH_MODE=token.*cluster.insecure: true"):
        check_cluster(address, insecure=False)


@pytest.mark.usefixtures("on_a_network")
def test_it_is_refused_also_where_this_user_has_a_token(token_in: Callable[[str], Path]) -> None:
    token_in(TOKEN)
    with head(None) as address, pytest.raises(IntegrityError, match="asks for no token"):
        check_cluster(address, insecure=False)


@pytest.mark.usefixtures("on_a_network")
def test_it_is_used_where_the_user_accepts_the_risk() -> None:
    with head(None) as address:
        check_cluster(address, insecure=True)


def test_on_this_machine_no_token_is_asked_for() -> None:
    with head(None) as address:
        check_cluster(address, insecure=False)


@pytest.mark.usefixtures("on_a_network")
def test_a_cluster_that_cannot_be_asked_is_refused_without_a_token(token_in: Callable[[str], Path]) -> None:
    with pytest.raises(IntegrityError):
        check_cluster("ray://127.0.0.1", insecure=False)
    token_in(TOKEN)
    check_cluster("ray://127.0.0.1", insecure=False)


@pytest.mark.usefixtures("on_a_network")
def test_the_right_token_is_welcome(token_in: Callable[[str], Path]) -> None:
    token_in(TOKEN)
    with head(TOKEN) as address:
        check_cluster(address, insecure=False)


def test_a_wrong_token_is_refused_and_not_shown(token_in: Callable[[str], Path]) -> None:
    token_in("f00d" * 16)
    with head(TOKEN) as address, pytest.raises(ServiceError, match="refuses this token") as refused:
        check_cluster(address, insecure=False)
    assert "f00d" not in str(refused.value)


def test_a_cluster_that_asks_for_a_token_says_so() -> None:
    with head(TOKEN) as address, pytest.raises(ServiceError, match=r"asks for a token; .*RAY_AUTH_TOKEN_PATH"):
        check_cluster(address, insecure=False)


def test_a_token_that_others_can_read_is_made_private(token_in: Callable[[str], Path]) -> None:
    path = token_in(TOKEN)
    path.chmod(0o644)
    assert read_token() == TOKEN
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_token_that_cannot_be_made_private_is_refused(
    token_in: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = token_in(TOKEN)
    path.chmod(0o640)

    def not_mine(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", not_mine)
    with pytest.raises(IntegrityError, match=rf"{path}: .* \(mode 0640\).*chmod 600") as refused:
        read_token()
    assert TOKEN not in str(refused.value)


def test_a_missing_token_names_the_file_and_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(MachineError, match=rf"{tmp_path}/none: .*RAY_AUTH_TOKEN_PATH"):
        check_cluster("127.0.0.1:1", insecure=False)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_private_ray_gets_a_token_of_its_own_and_leaves_everything_as_it_was(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray  # sets a variable of its own

    assert ray.__version__
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    before, old = dict(os.environ), os.umask(umask)
    try:
        with ExitStack() as stack:
            stack.enter_context(private_access(tmp_path))
            assert "RAY_AUTH_TOKEN" not in os.environ
            path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
            assert path.stat().st_mode & 0o777 == 0o600
            assert len(path.read_text()) == 64
    finally:
        os.umask(old)
    assert dict(os.environ) == before


def test_hosts_are_read_from_every_form_of_address() -> None:
    addresses = ["10.0.0.1:6379", "ray://head:10001", "http://head:8265", "[fd00::1]:6379", "auto"]
    assert [host_of(address) for address in addresses] == ["10.0.0.1", "head", "head", "fd00::1", "auto"]


def test_only_this_machines_own_addresses_are_loopback() -> None:
    assert is_loopback("127.0.0.1") and is_loopback("::1") and is_loopback("127.8.8.8")
    assert not is_loopback("0.0.0.0") and not is_loopback("10.0.0.1")


@pytest.mark.parametrize(
    ("address", "head"), [("10.0.0.1:6379", ("10.0.0.1", 6379)), ("head:6379", ("head", 6379)), ("[::1]:6379", ("::1", 6379))]
)
def test_a_head_is_a_host_and_a_port(address: str, head: tuple[str, int]) -> None:
    assert head_of(address) == head


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nonsense", ""),
        ("auto", ""),
        (":6379", ""),
        ("10.0.0.1", ""),
        ("10.0.0.1:99999", ""),
        ("10.0.0.1:6379 ", ""),
        ("http://head:8265", ", which is the dashboard's, for `trainyard submit`"),
        ("ray://head:10001", ", which is Ray Client's: through it no training can see the nodes"),
    ],
)
def test_what_is_no_address_of_a_head_is_the_users_mistake_and_nothing_is_asked(address: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        join(address, insecure=False)
    expected = f"cluster.address: found {address!r}{said}; expected host:port of the head, such as 10.0.0.1:6379, or local"
    assert str(refused.value) == expected
