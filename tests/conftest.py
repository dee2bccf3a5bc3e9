"""What tests of every kind share."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings
from needs import required

import k8snet_nb as kn
from k8snet_nb.sources.opening import BUNDLED

# examples a property, where it does not say itself: few at a desk, more where everything is required (CI), or as asked
settings.register_profile("k8snet", max_examples=int(os.environ.get("K8SNET_EXAMPLES") or (100 if required() else 30)))
settings.load_profile("k8snet")


@pytest.fixture(scope="session")
def hello() -> kn.Cluster:
    """The bundled recording, opened (and each of its facts parsed) once for all tests; nobody changes it."""
    return kn.open(BUNDLED)
