"""A full connection table, in a kernel that is not this machine's."""

from __future__ import annotations

from pathlib import Path

import pytest
from needs import need

from k8snet_nb.errors import GuestError
from k8snet_nb.twin.guest import guest as guests
from k8snet_nb.twin.guest.full_table import FullTable, full_table

MAXIMUM = Path("/proc/sys/net/netfilter/nf_conntrack_max")
guest_needed = need(commands=["linux.uml", "unshare", "ip", "iptables-legacy-restore"])


def own_maximum() -> str | None:
    return MAXIMUM.read_text() if MAXIMUM.exists() else None


@pytest.fixture(scope="module")
def full() -> FullTable:
    before = own_maximum()
    found = full_table(64, 90, unanswered=16, raised=128)
    assert own_maximum() == before
    return found


@pytest.mark.slow
@guest_needed
class TestFullTable:
    def test_the_table_fills_and_stays_full(self, full: FullTable) -> None:
        filling = full.frame[full.frame["phase"] == "fill"]
        assert len(filling) == 90
        assert set(filling["maximum"]) == {64}
        assert filling["count"].max() == 64
        assert full.frame["seconds"].is_monotonic_increasing

    def test_new_connections_fail_and_are_counted(self, full: FullTable) -> None:
        filling = full.frame[full.frame["phase"] == "fill"]
        failed = filling[~filling["answered"]]
        assert len(failed) > 0
        assert failed["drop"].iloc[-1] >= len(failed)
        assert full.after.drops == full.frame["drop"].iloc[-1]
        assert (full.before.drops, full.before.early_drops) == (0, 0)

    def test_unanswered_entries_go_first(self, full: FullTable) -> None:
        assert full.frame["phase"].iloc[0] == "unanswered"
        assert full.after.early_drops is not None
        assert full.after.early_drops > 0
        assert full.frame[full.frame["phase"] == "fill"]["answered"].sum() > 64 - 16

    def test_old_connections_go_on(self, full: FullTable) -> None:
        assert full.old_answered == full.old_asked > 40

    def test_the_kernel_says_so(self, full: FullTable) -> None:
        assert full.log
        assert all("table full, dropping packet" in line.text for line in full.log)
        assert full.after.full == full.log

    def test_room_helps_at_once(self, full: FullTable) -> None:
        raised = full.frame[full.frame["phase"] == "raised"]
        assert len(raised) == 5
        assert raised["answered"].all()
        assert full.after.maximum == 128


@pytest.mark.parametrize(
    "numbers", [{"maximum": 31}, {"maximum": 10**6}, {"connections": 0}, {"unanswered": -1}, {"raised": 10**6}]
)
def test_numbers_out_of_range_are_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be from"):
        full_table(**numbers)


def test_without_user_mode_linux_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests.shutil, "which", lambda name: None)
    with pytest.raises(GuestError, match="apt install user-mode-linux"):
        full_table()
