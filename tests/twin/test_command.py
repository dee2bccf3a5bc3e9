"""The command itself: what it loads before it does anything, and what it says where it cannot."""

from __future__ import annotations

import subprocess
import sys

import pytest

from k8snet_nb.cli import main


@pytest.mark.parametrize("module", ["k8snet_nb.cli", "k8snet_nb.twin.making"])
def test_the_command_does_not_wait_for_tables(module: str) -> None:
    said = f"import sys, {module}; print(sorted({{'pandas', 'numpy', 'matplotlib', 'kubernetes'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_node_starts_without_the_dns_library_and_the_planner() -> None:
    said = (
        "import sys, k8snet_nb.twin.keeper; "
        "print([n for n in sys.modules if n.split('.')[0] in ('dns', 'pandas') or '.planning' in n])"
    )
    assert subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("platform", ["darwin", "win32"])
@pytest.mark.parametrize("verb", ["up", "down", "list"])
def test_elsewhere_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], platform: str, verb: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert main(["twin", verb]) == 2
    assert capsys.readouterr().err == (
        "k8snet: a twin needs a Linux kernel. Elsewhere use the container: docs/twin.md\n"
    )


def test_the_other_commands_need_nothing_that_only_linux_has() -> None:
    without = "".join(f"sys.modules[{name!r}] = None; " for name in ("fcntl", "resource", "termios", "tty"))
    code = f"import sys; {without}from k8snet_nb.cli import main; sys.exit(main(['lab', '--dry-run', '--no-browser']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
