"""The faults of faults.py as tests: python -m pytest -m slow tests/faults"""

import pytest
from faults.faults import FAULTS, Bench

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    return Bench(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_after_a_fault_the_tables_are_those_of_a_sweep_that_nobody_disturbed(bench, fault):
    assert fault(bench)
