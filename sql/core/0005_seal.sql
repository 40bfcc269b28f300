-- The audit's seals: a chain of SHA-256 hashes over its entries, so that whoever changes, removes or adds one afterwards
-- is found out (`jobsd audit verify`). domain/chain.py computes the same hashes; a test compares the two.

CREATE TABLE jobsd.audit_seal (
    number   bigint      PRIMARY KEY,
    from_tx  bigint      NOT NULL,                -- of all entries from here …
    to_tx    bigint      NOT NULL,                -- … up to, not including, here
    entries  bigint      NOT NULL,
    sealer   text        NOT NULL,                -- the node that asked for it
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    previous bytea       NOT NULL,                -- the hash of the seal before; zeros in the first
    hash     bytea       NOT NULL,
    CONSTRAINT a_seal_covers_entries CHECK (number >= 1 AND to_tx > from_tx AND entries >= 1),
    CONSTRAINT hashes_are_of_sha_256 CHECK (octet_length(previous) = 32 AND octet_length(hash) = 32)
);
CREATE TRIGGER seals_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON jobsd.audit_seal
    FOR EACH STATEMENT EXECUTE FUNCTION jobsd.refuse('the seals of the audit are append-only');

-- Times as they are hashed.
CREATE FUNCTION jobsd.audit_time(at timestamptz) RETURNS text STABLE LANGUAGE sql AS $$
    SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;
-- An entry's digest: of the JSON array of its fields, as PostgreSQL writes it.
CREATE FUNCTION jobsd.audit_digest(e jobsd.audit) RETURNS bytea STABLE LANGUAGE sql AS $$
    SELECT sha256(convert_to(json_build_array(e.tx, e.run, e.sequence, jobsd.audit_time(e.at), e.act, e.actor, e.job,
                                              e.fence, e.reason, e.detail::text)::text, 'UTF8'))
$$;
-- A seal's hash: of the JSON array of its fields, followed by its entries' digests in the order of tx, run, sequence.
CREATE FUNCTION jobsd.seal_hash(s jobsd.audit_seal, digests bytea) RETURNS bytea STABLE LANGUAGE sql AS $$
    SELECT sha256(convert_to(json_build_array(s.number, s.from_tx, s.to_tx, s.entries, s.sealer, jobsd.audit_time(s.at),
                                              encode(s.previous, 'hex'))::text, 'UTF8') || digests)
$$;

-- Seals what is not sealed yet, about `most` entries, and answers with the new seal; without one when there is nothing,
-- or when another session is at it. Who may call it may not write a seal of his own.
--
-- An entry is sealed once no transaction of a lower or the same `tx` can come in any more: below the oldest id that is
-- still running. Where the table was restored into a cluster of lower ids, `tx` goes on above a multiple of 2^48: first
-- for all who write from then on; sealing goes on when those who wrote before are over, that is when no transaction
-- before `since` is running, which the call that finds this out answers as `wait_for`.
CREATE FUNCTION jobsd.seal_audit(sealer text, most integer, since bigint DEFAULT NULL)
RETURNS TABLE (number bigint, entries bigint, hash bytea, wait_for bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
    mark    regclass := ' jobsd.audit_sealed';
    before  jobsd.audit_seal;
    made    jobsd.audit_seal;
    oldest  bigint;
    era     bigint;
    bound   bigint;
    digests bytea;
BEGIN
    IF NOT pg_try_advisory_xact_lock(mark::oid::integer, 0) THEN
        RETURN;
    END IF;
    oldest := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;  -- under the lock: never below an earlier one
    SELECT * INTO before FROM jobsd.audit_seal s ORDER BY s.number DESC LIMIT 1;
    made.from_tx := coalesce(before.to_tx, 0);
    IF pg_sequence_last_value(mark) < made.from_tx THEN
        PERFORM setval(mark, made.from_tx);  -- it was lost after the seal before was written
    END IF;
    era := made.from_tx >> 48;
    bound := jobsd.audit_tx(oldest::text::xid8);
    IF pg_sequence_last_value(mark) >> 48 > era THEN
        IF since IS NULL OR oldest <= since THEN
            RETURN QUERY SELECT NULL::bigint, NULL::bigint, NULL::bytea,
                                coalesce(since, pg_current_xact_id()::text::bigint);
            RETURN;
        END IF;
    ELSIF bound >> 48 > era OR EXISTS (SELECT FROM jobsd.audit a WHERE a.tx >= (era + 1) << 48) THEN
        PERFORM setval(mark, (era + 1) << 48);
        RETURN;
    END IF;

    SELECT CASE WHEN count(*) < most THEN bound ELSE max(few.tx) + 1 END, count(*)
      INTO made.to_tx, made.entries
      FROM (SELECT a.tx FROM jobsd.audit a WHERE a.tx >= made.from_tx AND a.tx < bound LIMIT most) few;
    IF made.entries = 0 THEN
        RETURN;
    END IF;
    SELECT count(*), string_agg(jobsd.audit_digest(a), ''::bytea ORDER BY a.tx, coalesce(a.run, 0), a.sequence)
      INTO made.entries, digests
      FROM jobsd.audit a
     WHERE a.tx >= made.from_tx AND a.tx < made.to_tx;
    made.number := coalesce(before.number, 0) + 1;
    made.sealer := sealer;
    made.at := clock_timestamp();
    made.previous := coalesce(before.hash, decode(repeat('00', 32), 'hex'));
    made.hash := jobsd.seal_hash(made, digests);
    INSERT INTO jobsd.audit_seal VALUES (made.*);
    PERFORM setval(mark, made.to_tx);
    RETURN QUERY SELECT made.number, made.entries, made.hash, NULL::bigint;
END $$;

REVOKE ALL ON FUNCTION jobsd.seal_audit(text, integer, bigint) FROM PUBLIC;

CREATE VIEW jobsd.audit_seals AS
SELECT number, from_tx, to_tx, entries, sealer, at, encode(previous, 'hex') AS previous, encode(hash, 'hex') AS hash
  FROM jobsd.audit_seal;
