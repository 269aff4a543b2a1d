"""A whole study through a pooler that lends a connection for each transaction."""

import shutil
from collections.abc import Callable

import pytest
from sqlalchemy import URL

from tests.conftest import Ended, unavailable
from tests.pgbouncer import pooled
from tests.rows import query
from tests.test_processes import assert_exact, run_arguments


@pytest.mark.slow
@pytest.mark.first_start
def test_a_study_is_searched_by_many_workers_through_few_connections(
    postgres_url: URL, onecycle: Callable[..., Ended]
) -> None:
    if shutil.which("pgbouncer") is None:
        unavailable("pgbouncer is not installed")
    with pooled(postgres_url, connections=4) as url:
        ended = onecycle(*run_arguments(url, 4))
        assert ended.code == 0, ended.err
        assert_exact(url)
    hours = query(
        postgres_url,
        "SELECT extract(epoch FROM now() - created_at AT TIME ZONE 'UTC') / 3600 FROM study",
    )
    assert 0 <= hours[0][0] < 0.5, "moments are UTC, whatever zone the server's connection had"
