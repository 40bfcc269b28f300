-- Into the queue from inside anybody's transaction: jobsd.enqueue and jobsd.enqueue_many, with the rules that they share
-- with the API: how many runs of a job may be active, how many may start in a time, how a lock key's template is filled.

-- Held by whoever is about to add runs to a job with max_active, so that no two count at once. Written, not only locked:
-- a transaction that looks at an older snapshot is refused by the server instead of counting too few.
CREATE TABLE jobsd.cap (
    job   text   PRIMARY KEY,
    asked bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- The starts that a job with a rate has. A start takes the ticket that was not used for longest, and only if that is the
-- rate's time ago or more: so no stretch of that time has more starts than there are tickets, over all nodes.
CREATE TABLE jobsd.ticket (
    job     text        NOT NULL,
    n       integer     NOT NULL,
    used_at timestamptz NOT NULL DEFAULT '-infinity',
    CONSTRAINT one_ticket_per_number PRIMARY KEY (job, n)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX ticket_oldest ON jobsd.ticket (job, used_at);  -- serves CLAIM

-- The places left of a job's max_active. Whoever asks holds the job's cap until the end of the transaction; the count is
-- a statement of its own, and so sees all that those before have committed.
CREATE FUNCTION jobsd.room(of_job text, max_active bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO jobsd.cap AS c (job) VALUES (of_job)
        ON CONFLICT (job) DO UPDATE SET asked = c.asked + 1;
    RETURN max_active - (SELECT count(*)
                           FROM (SELECT FROM jobsd.run r WHERE r.job = of_job AND r.capped LIMIT max_active) AS active);
END $$;

-- Has that many tickets for the job, neither more nor fewer; the longest unused ones go first.
CREATE FUNCTION jobsd.fit_tickets(of_job text, starts integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM jobsd.job j WHERE j.name = of_job FOR NO KEY UPDATE;
    DELETE FROM jobsd.ticket t
     USING (SELECT k.n FROM jobsd.ticket k WHERE k.job = of_job ORDER BY k.used_at DESC, k.n OFFSET starts) AS surplus
     WHERE t.job = of_job AND t.n = surplus.n;
    INSERT INTO jobsd.ticket (job, n)
    SELECT of_job, s.n
      FROM generate_series(1, starts) AS s(n)
     WHERE NOT EXISTS (SELECT FROM jobsd.ticket t WHERE t.job = of_job AND t.n = s.n)
     LIMIT greatest(0, starts - (SELECT count(*) FROM jobsd.ticket t WHERE t.job = of_job));
END $$;

-- ---------------------------------------------------------------------------------------------------------------
-- Lock keys, as domain/lock_key.py fills them in; a test compares the two.

-- A number without exponent and trailing zeros, so that 1, 1.0 and 1e0 are one key.
CREATE FUNCTION jobsd.plain_number(v jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE SET extra_float_digits = 1 AS $$
DECLARE
    written CONSTANT text := v::text;
BEGIN
    IF written !~ '\.' AND written::numeric BETWEEN -9223372036854775808 AND 18446744073709551615 THEN
        RETURN written;
    END IF;
    RETURN trim_scale(written::float8::text::numeric)::text;
END $$;

-- JSON without spaces, its names in the order of their bytes.
CREATE FUNCTION jobsd.canonical(v jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    CASE jsonb_typeof(v)
        WHEN 'object' THEN
            RETURN '{' || coalesce((SELECT string_agg(to_json(e.k)::text || ':' || jobsd.canonical(e.x), ','
                                                      ORDER BY e.k COLLATE "C")
                                      FROM jsonb_each(v) AS e(k, x)), '') || '}';
        WHEN 'array' THEN
            RETURN '[' || coalesce((SELECT string_agg(jobsd.canonical(e.x), ',' ORDER BY e.n)
                                      FROM jsonb_array_elements(v) WITH ORDINALITY AS e(x, n)), '') || ']';
        WHEN 'number' THEN RETURN jobsd.plain_number(v);
        ELSE RETURN v::text;
    END CASE;
END $$;

CREATE FUNCTION jobsd.lock_key_of(template text, params jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    field CONSTANT text := '\{([^{}]*)\}';
    fixed text[];
    named text;
    value jsonb;
    key   text;
    n     integer := 1;
BEGIN
    IF template IS NULL OR strpos(template, '{run_id}') > 0 THEN
        RETURN NULL;
    END IF;
    fixed := regexp_split_to_array(template, field);
    key := fixed[1];
    FOR named IN SELECT (regexp_matches(template, field, 'g'))[1] LOOP
        n := n + 1;
        value := params -> named;
        IF value IS NULL OR value = 'null' THEN
            RAISE EXCEPTION 'the job''s lock key needs the parameter "%"', named
                USING ERRCODE = 'invalid_parameter_value', HINT = 'jobsd explain E0504';
        END IF;
        key := key || CASE jsonb_typeof(value) WHEN 'string' THEN value #>> '{}' ELSE jobsd.canonical(value) END || fixed[n];
    END LOOP;
    IF length(key) > 500 THEN
        RAISE EXCEPTION 'the lock key "%" would have % characters, at most 500 are allowed', template, length(key)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'jobsd explain E0504';
    ELSIF starts_with(key, 'seat:') THEN
        RAISE EXCEPTION 'a lock key cannot begin with "seat:"; "%" became "%"', template, left(key, 80)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'jobsd explain E0504';
    END IF;
    RETURN key;
END $$;

-- ---------------------------------------------------------------------------------------------------------------
-- What is asked for.

-- The schema that all this is in, whatever its name.
CREATE FUNCTION jobsd.here() RETURNS name LANGUAGE sql STABLE AS $$
    SELECT n.nspname
      FROM pg_catalog.pg_type t
      JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
     WHERE t.oid = pg_catalog.pg_typeof(NULL::jobsd.run)
$$;

-- What must be equal for an idempotency key to stand for the same request.
CREATE FUNCTION jobsd.digest(asked jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT left(encode(sha256(convert_to(asked::text, 'UTF8')), 'hex'), 16)
$$;

-- Why one of the runs that are asked for cannot be; null when it can. The same limits as in operations/enqueue.py.
CREATE FUNCTION jobsd.misfit(item jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    known CONSTANT text[] := '{params,priority,due_at,key,tags,dry_run}';
    name  text;
    value jsonb;
BEGIN
    IF jsonb_typeof(item) <> 'object' THEN
        RETURN 'expected an object with some of: ' || array_to_string(known, ', ');
    END IF;
    FOR name, value IN SELECT e.key, e.value FROM jsonb_each(item) AS e WHERE e.value <> 'null' LOOP
        IF name <> ALL (known) THEN
            RETURN format('there is no "%s", only: %s', left(name, 80), array_to_string(known, ', '));
        ELSIF name IN ('params', 'tags') AND jsonb_typeof(value) <> 'object' THEN
            RETURN format('%s: expected an object', name);
        ELSIF name = 'params' AND jsonb_path_exists(value, 'strict $.**{32 to last}') THEN
            RETURN 'params: nested too deeply, at most 32 levels are allowed';
        ELSIF name = 'params' AND jsonb_path_exists(value,
                'strict $.** ? (@.type() == "number" && (@ > 1.7e308 || @ < -1.7e308))') THEN
            RETURN 'params: a number is too large';
        ELSIF name = 'params' AND length(value::text) > 1048576 THEN
            RETURN 'params: at most 1 MiB is allowed';
        ELSIF name = 'tags' AND (SELECT count(*) > 20 OR bool_or(length(t.key) > 63 OR t.key !~ '^[a-z_][a-z0-9_.-]*$'
                OR jsonb_typeof(t.value) <> 'string' OR length(t.value #>> '{}') > 200) FROM jsonb_each(value) AS t) THEN
            RETURN 'tags: expected at most 20 names like "language", each with a text of at most 200 characters';
        ELSIF name = 'priority' AND value::text !~ '^[0-9]$' THEN
            RETURN 'priority: expected 0 (first) to 9 (last)';
        ELSIF name = 'due_at' AND (jsonb_typeof(value) <> 'string'
                OR value #>> '{}' !~ '^2[01]\d\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)$') THEN
            RETURN 'due_at: expected a time between 2000 and 2199 with its offset, like 2026-11-22T02:30:00+01:00';
        ELSIF name = 'key' AND (jsonb_typeof(value) <> 'string' OR length(value #>> '{}') NOT BETWEEN 1 AND 200) THEN
            RETURN 'key: expected a text of 1 to 200 characters';
        ELSIF name = 'dry_run' AND jsonb_typeof(value) <> 'boolean' THEN
            RETURN 'dry_run: expected true or false';
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- The job, if it is registered and all of `runs` may be asked for.
CREATE FUNCTION jobsd.job_for(of_job text, runs jsonb, reason text) RETURNS jobsd.job LANGUAGE plpgsql STABLE AS $$
DECLARE
    declared jobsd.job;
    wrong    record;
BEGIN
    SELECT * INTO declared FROM jobsd.job j WHERE j.name = of_job AND j.removed_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no job named "%" is registered', left(of_job, 100)
            USING ERRCODE = 'undefined_object', HINT = 'jobsd explain E0501';
    ELSIF jsonb_typeof(runs) IS DISTINCT FROM 'array' OR jsonb_array_length(runs) > 10000 THEN
        RAISE EXCEPTION 'runs: expected a list of at most 10,000'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'jobsd explain E0507';
    ELSIF length(reason) > 1000 THEN
        RAISE EXCEPTION 'reason: at most 1000 characters are allowed'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'jobsd explain E0507';
    END IF;
    SELECT e.n - 1 AS n, m.why INTO wrong
      FROM jsonb_array_elements(runs) WITH ORDINALITY AS e(item, n)
     CROSS JOIN LATERAL (SELECT jobsd.misfit(e.item) AS why) AS m
     WHERE m.why IS NOT NULL
     ORDER BY e.n
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '%', CASE jsonb_array_length(runs) WHEN 1 THEN '' ELSE wrong.n || ': ' END || wrong.why
            USING ERRCODE = 'invalid_parameter_value', HINT = 'jobsd explain E0507';
    END IF;
    RETURN declared;
END $$;

-- Many runs of one job, all or none: '[{"params": {…}, "priority": 3, "due_at": …, "key": …, "tags": {…}, "dry_run": …}]'.
-- Gives their ids in that order; for a key that was used for the same request, the id of the run that there is.
CREATE FUNCTION jobsd.enqueue_many(job text, runs jsonb, reason text DEFAULT NULL) RETURNS SETOF bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    declared jobsd.job;
    template text;
    most     bigint;
    places   bigint;
    ids      regclass;
    added    bigint := 0;
    due      boolean := false;
    new_ids  bigint[];
    asked    jsonb[];
    keys     text[];
    names    text[];
BEGIN
    declared := jobsd.job_for(job, runs, reason);
    template := coalesce(declared.definition ->> 'lock_key',
                         CASE WHEN declared.definition ->> 'concurrency' IS NULL THEN declared.name END);
    SELECT array_agg(a.asked ORDER BY e.n), array_agg(e.item ->> 'key' ORDER BY e.n), array_agg(k.name ORDER BY e.n)
      INTO asked, keys, names
      FROM jsonb_array_elements(runs) WITH ORDINALITY AS e(item, n)
     CROSS JOIN LATERAL (SELECT jsonb_build_object(
                'params', coalesce(nullif(e.item -> 'params', 'null'), '{}'),
                'priority', e.item -> 'priority',
                'due_at', to_char((e.item ->> 'due_at')::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                'tags', coalesce(nullif(e.item -> 'tags', 'null'), '{}'),
                'dry_run', coalesce((e.item ->> 'dry_run')::boolean, false)) AS asked) AS a
     CROSS JOIN LATERAL (SELECT jobsd.lock_key_of(template, declared.defaults || (a.asked -> 'params')) AS name) AS k;

    ids := pg_get_serial_sequence(quote_ident(jobsd.here()) || '.run', 'id')::regclass;
    new_ids := ARRAY(SELECT nextval(ids) FROM generate_series(1, jsonb_array_length(runs)));

    INSERT INTO jobsd.lock_key (name)
    SELECT DISTINCT k.name FROM unnest(names) AS k(name)
     WHERE k.name IS NOT NULL AND NOT EXISTS (SELECT FROM jobsd.lock_key l WHERE l.name = k.name)
     ORDER BY k.name
        ON CONFLICT DO NOTHING;
    UPDATE jobsd.run r SET idempotency_key = NULL
     WHERE r.job = declared.name AND r.finished_at IS NOT NULL AND r.created_at < now() - interval '24 hours'
       AND r.idempotency_key = ANY (array_remove(keys, NULL));
    most := (declared.definition ->> 'max_active')::bigint;
    IF most IS NOT NULL THEN
        places := jobsd.room(declared.name, most);
    END IF;

    WITH given AS MATERIALIZED (
        SELECT g.*, coalesce((g.asked ->> 'due_at')::timestamptz, now()) AS due_at
          FROM unnest(new_ids, asked, keys, names) WITH ORDINALITY AS g(id, asked, key, lock_key, n)
    ), inserted AS (
        INSERT INTO jobsd.run AS r (id, job, actor, priority, due_at, params, tags, dry_run, permanent, capped, lock_key,
                                    idempotency_key)
        SELECT g.id, declared.name, 'sql:' || session_user,
               coalesce((g.asked ->> 'priority')::smallint, (declared.definition ->> 'priority')::smallint, 5),
               g.due_at, declared.defaults || (g.asked -> 'params'), g.asked -> 'tags',
               (g.asked ->> 'dry_run')::boolean OR declared.definition @> '{"dry_run": true}',
               declared.definition @> '{"atomic": true}' OR declared.definition @> '{"keep": "forever"}',
               CASE WHEN most IS NOT NULL THEN true END, k.id, g.key
          FROM given g
          LEFT JOIN jobsd.lock_key k ON k.name = g.lock_key
         ORDER BY g.n
            ON CONFLICT DO NOTHING
        RETURNING r.id, r.due_at
    ), told AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, job, reason, detail)
        SELECT g.id, 1, 'queued', 'sql:' || session_user, declared.name, nullif(enqueue_many.reason, ''),
               CASE WHEN g.key IS NOT NULL THEN jsonb_build_object('key', g.key, 'request', jobsd.digest(g.asked)) END
          FROM given g
          JOIN inserted i ON i.id = g.id
    )
    SELECT count(*), coalesce(bool_or(i.due_at <= now()), false) INTO added, due FROM inserted i;
    IF added > places THEN
        RAISE EXCEPTION '% may have % active runs: there is room for % more, % were asked for', declared.name, most,
            greatest(0, places), added USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'jobsd explain E0514';
    END IF;
    IF added < cardinality(new_ids) THEN
        new_ids := jobsd.made_before(declared.name, new_ids, asked, keys);
    END IF;
    IF due THEN
        PERFORM pg_notify(jobsd.here() || '_wake', 'run');
    END IF;
    RETURN QUERY SELECT unnest(new_ids);
END $$;

-- `ids`, with those of the runs that the keys had made before in place of what was not taken for that. Refuses a key that
-- stands for another request.
CREATE FUNCTION jobsd.made_before(of_job text, ids bigint[], asked jsonb[], keys text[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    other record;
BEGIN
    SELECT g.key, r.id INTO other
      FROM unnest(asked, keys) WITH ORDINALITY AS g(asked, key, n)
      JOIN jobsd.run r ON r.job = of_job AND r.idempotency_key = g.key
      LEFT JOIN jobsd.audit a ON a.run = r.id AND a.sequence = 1
     WHERE a.detail ->> 'request' IS DISTINCT FROM jobsd.digest(g.asked)
     ORDER BY g.n
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the idempotency key "%" belongs to run %, which was asked for differently', other.key, other.id
            USING ERRCODE = 'unique_violation', HINT = 'jobsd explain E0507';
    END IF;
    RETURN ARRAY(SELECT coalesce(r.id, g.id)
                   FROM unnest(ids, keys) WITH ORDINALITY AS g(id, key, n)
                   LEFT JOIN jobsd.run r ON r.job = of_job AND r.idempotency_key = g.key
                  ORDER BY g.n);
END $$;

-- One run of a job; its id. With an idempotency key that was used for the same request: the run that there is.
CREATE FUNCTION jobsd.enqueue(job text, params jsonb DEFAULT '{}', priority integer DEFAULT NULL,
                              due_at timestamptz DEFAULT NULL, idempotency_key text DEFAULT NULL,
                              tags jsonb DEFAULT '{}', dry_run boolean DEFAULT false, reason text DEFAULT NULL)
RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT jobsd.enqueue_many(enqueue.job, jsonb_build_array(jsonb_build_object(
        'params', enqueue.params, 'priority', enqueue.priority,
        'due_at', to_char(enqueue.due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'key', enqueue.idempotency_key, 'tags', enqueue.tags, 'dry_run', enqueue.dry_run)), enqueue.reason)
$$;

-- Only for those to whom it is granted: sql/roles.sql has a role for it.
REVOKE ALL ON FUNCTION jobsd.enqueue_many(text, jsonb, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION jobsd.enqueue(text, jsonb, integer, timestamptz, text, jsonb, boolean, text) FROM PUBLIC;
