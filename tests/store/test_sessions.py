"""What the server does with the work sessions of a node that sleeps."""

import pytest

from jobsd.store.db import Db, Unavailable

HOLD = "INSERT INTO jobsd.alert (fingerprint, type, summary) VALUES ('one', 'HEALTH', 'as it happens')"


@pytest.mark.req("P7")
@pytest.mark.fault(2, 3)
async def test_a_transaction_whose_node_sleeps_ends_by_itself_and_lets_the_others_go_on(database_url: str) -> None:
    """Its settlement had written an alert that the rescuer's raises too: the rescue would wait as long as it sleeps."""
    async with Db.open(database_url, statement_timeout_s=1) as sleeper, Db.open(database_url) as other:
        with pytest.raises(Unavailable):
            async with sleeper.transaction() as within:
                await within.execute(HOLD)
                await other.execute(HOLD)  # waits for the row until the server has ended the first one
                await within.execute("SELECT")

        assert await other.fetchval("SELECT count(*) FROM jobsd.alert") == 1
