"""A whole study through a pooler that lends a connection for each transaction."""

import shutil
from collections.abc import Callable

import pytest
from sqlalchemy import URL

from studies.database import open_engine
from studies.errors import DatabaseError
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
    with pooled(postgres_url, connections=4) as pooler:
        url = pooler.update_query_dict({"prepare_threshold": "none"})
        ended = onecycle(*run_arguments(url, 4))
        assert ended.code == 0, ended.err
    assert_exact(postgres_url)
    hours = query(
        postgres_url,
        "SELECT extract(epoch FROM now() - created_at AT TIME ZONE 'UTC') / 3600 FROM study",
    )
    assert 0 <= hours[0][0] < 0.5, "moments are UTC, whatever zone the server's connection had"


def test_another_threshold_of_preparing_is_refused(postgres_url: URL) -> None:
    with pytest.raises(DatabaseError, match="prepare_threshold may be none, got '5'"):
        open_engine(postgres_url.update_query_dict({"prepare_threshold": "5"}))
