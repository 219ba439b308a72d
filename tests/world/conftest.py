"""The scene of a clip is generated once in a test session, although benchmarks of several sizes share their clips."""

from functools import cache

import pytest

from qtablate.world import benchmark


@pytest.fixture(scope="session", autouse=True)
def scenes_generated_once():
    """Cache `scene_of`, the function by which benchmarks and training data generate the scene of a clip."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "scene_of", cache(benchmark.scene_of))
        yield
