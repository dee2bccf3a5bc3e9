"""What tests of every kind share."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

import k8snet_nb as kn
from k8snet_nb.sources.opening import BUNDLED

# made-up examples a property: a few each time the tests run; K8SNET_EXAMPLES=500 looks longer
settings.register_profile("k8snet", max_examples=int(os.environ.get("K8SNET_EXAMPLES", "30")))
settings.load_profile("k8snet")


@pytest.fixture(scope="session")
def hello() -> kn.Cluster:
    """The bundled recording, opened (and each of its facts parsed) once for all tests; nobody changes it."""
    return kn.open(BUNDLED)
