"""What every test run shares: the notebooks' source, and what the machine must have."""

from __future__ import annotations

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Lessons and tests read the bundled recording, whatever the shell says; nbval's kernels inherit this."""
    os.environ.pop("K8SNET_SOURCE", None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """A worker a core, four at most: many tests wait for kernels of notebooks, a browser, a guest."""
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run, saying what it lacks; fail where everything is required."""
    from needs import lacking, stop  # on the path only once pytest has read its options

    missing = [name for mark in item.iter_markers("needs") for name in lacking(**mark.kwargs)]
    stop(list(dict.fromkeys(missing)))
