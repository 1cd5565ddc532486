import pytest

from tests.odr.small_runs import make_run


@pytest.fixture
def runs(tmp_path):
    make_run(tmp_path / "runs", "base", loss=2.0, gflops=1.26)
    make_run(tmp_path / "runs", "cand", loss=1.8, gflops=1.0)
    return tmp_path / "runs"
