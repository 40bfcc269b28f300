-- What a job's own transaction calls, so that its effect and its run's record are one (P4, P9).
-- Both take, for the transaction, a shared advisory lock (oid of run, id of the run) that excludes nobody: it shows in
-- pg_locks which session stands on which run, so that the rescuer of a dead node can end it.

-- Raises JD517 unless `run_id` is running under `fence`. Until the transaction ends nobody can settle the run: what is
-- written besides is this attempt's, or nobody's.
CREATE FUNCTION jobsd.assert_fence(run_id bigint, fence bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(r.tableoid::bigint::bit(32)::integer, r.id::bit(32)::integer)
       FROM jobsd.run r
      WHERE r.id = assert_fence.run_id AND r.fence = assert_fence.fence AND r.state = 'running'
        FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run % has moved on: fence % is not that of a running attempt', run_id, fence
            USING ERRCODE = 'JD517', HINT = 'another attempt has it, or it is over: stop the work';
    END IF;
END $$;

-- Completes the run as the daemon's settlement does: run, attempt and audit, in the caller's transaction. Returns when
-- the attempt ended. Raises JD517 unless `run_id` is running under `fence`; then the transaction cannot be committed.
CREATE FUNCTION jobsd.complete(run_id bigint, fence bigint, result jsonb DEFAULT NULL) RETURNS timestamptz
LANGUAGE plpgsql SET lock_timeout = '10s' AS $$
DECLARE
    over_at timestamptz := clock_timestamp();
BEGIN
    WITH old AS MATERIALIZED (
        SELECT r.id, r.fence, r.node,
               pg_advisory_xact_lock_shared(r.tableoid::bigint::bit(32)::integer, r.id::bit(32)::integer)
          FROM jobsd.run r
         WHERE r.id = complete.run_id AND r.fence = complete.fence AND r.state = 'running'
           FOR UPDATE
    ), moved AS (
        UPDATE jobsd.run r
           SET state = 'completed', held = NULL, seat = NULL, node = NULL, ready = NULL, capped = NULL,
               version = r.version + 1, finished_at = over_at
          FROM old
         WHERE r.id = old.id
     RETURNING r.id, r.fence, r.version, r.job, r.attempt, r.started_at, old.node
    ), kept AS (
        INSERT INTO jobsd.attempt (run, fence, number, node, outcome, started_at, ended_at, result)
        SELECT m.id, m.fence, m.attempt, m.node, 'completed', m.started_at, over_at, complete.result FROM moved m
    )
    INSERT INTO jobsd.audit (run, sequence, act, actor, job, fence)
    SELECT m.id, m.version, 'completed', 'node:' || n.name, m.job, m.fence
      FROM moved m
      JOIN jobsd.node n ON n.id = m.node;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run % has moved on: fence % is not that of a running attempt', run_id, fence
            USING ERRCODE = 'JD517', HINT = 'another attempt has it, or it is over: stop the work';
    END IF;
    RETURN over_at;
END $$;
