-- Learning analytics: what learners did (event), counted by day (daily_aggregate), and what the counts say (signal).
-- The schema is the pack's own and names nothing of the core's. Days are days in UTC.

-- A fact that a learning platform reported. Inserted once, deleted when old, never changed: a correction is an event too.
-- One plain table: the natural key has to hold whatever the day is, which a table split by month could not promise.
CREATE TABLE analytics.event (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source      text        NOT NULL,               -- where it came from; keeps the keys of two platforms apart
    source_key  text        NOT NULL,               -- what names it there; says nothing of our dates
    course_id   text        NOT NULL,
    learner_id  text        NOT NULL,
    kind        text        NOT NULL,
    value       jsonb       NOT NULL DEFAULT '{}',
    occurred_at timestamptz NOT NULL,
    CONSTRAINT an_event_is_stored_once UNIQUE (source, source_key),
    CONSTRAINT an_event_has_a_course_and_a_learner CHECK (course_id <> '' AND learner_id <> ''),
    CONSTRAINT a_name_fits_an_index CHECK (
        length(source) <= 100 AND length(source_key) <= 500 AND length(course_id) <= 200 AND length(learner_id) <= 200),
    CONSTRAINT a_kind_is_a_lower_case_word CHECK (kind ~ '^[a-z][a-z0-9_]{0,49}$'),
    CONSTRAINT an_event_is_between_1900_and_2200 CHECK (
        occurred_at >= '1900-01-01 00:00+00' AND occurred_at < '2200-01-01 00:00+00'),
    CONSTRAINT a_value_is_an_object CHECK (jsonb_typeof(value) = 'object'),
    CONSTRAINT a_score_is_0_to_100 CHECK (
        CASE jsonb_typeof(value -> 'score')
            WHEN 'number' THEN (value ->> 'score')::numeric BETWEEN 0 AND 100
            ELSE value -> 'score' IS NULL
        END)
);
CREATE INDEX event_of_day ON analytics.event (course_id, occurred_at);  -- serves RECOUNT

-- The days that have events which are not counted yet. Each insert of events leaves its own rows here, in its own
-- transaction, so they appear together however late it commits: a watermark of ids or times would pass over the rows of
-- a slow transaction, one of transaction ids would not survive a dump and restore. No unique key on purpose: an insert
-- that found the day already noted, and added nothing, would be lost to a count that is taking that note just now.
CREATE TABLE analytics.touched_day (
    day       date   NOT NULL,
    course_id text   NOT NULL,
    events    bigint NOT NULL,
    CONSTRAINT a_touch_counts_events CHECK (events >= 0)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
CREATE INDEX touched_day_in_order ON analytics.touched_day (day, course_id);  -- serves TAKE

CREATE TABLE analytics.daily_aggregate (
    day         date             NOT NULL,
    course_id   text             NOT NULL,
    kind        text             NOT NULL,
    events      bigint           NOT NULL,
    scored      bigint           NOT NULL,           -- of them, how many had a score
    score_sum   numeric          NOT NULL,
    passes      bigint           NOT NULL,           -- scored at `pass_mark` or more
    pass_mark   double precision NOT NULL,
    learners    bigint           NOT NULL,           -- different ones on this day: days do not add up
    counted_at  timestamptz      NOT NULL DEFAULT now(),
    archived_at timestamptz,                         -- past its retention: kept, no longer read
    CONSTRAINT one_aggregate_per_day_course_and_kind PRIMARY KEY (day, course_id, kind),
    CONSTRAINT counts_contain_each_other CHECK (
        events > 0 AND scored BETWEEN 0 AND events AND passes BETWEEN 0 AND scored AND learners BETWEEN 1 AND events)
) WITH (fillfactor = 85);

-- What a rule found. It stays when it no longer holds, with `cleared_at`, because what was made of it refers to it.
CREATE TABLE analytics.signal (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule        text        NOT NULL,
    course_id   text        NOT NULL,
    period      text        NOT NULL,                -- 'whole' (the course's whole life) or a month, '2014-03'
    severity    text        NOT NULL,
    evidence    jsonb       NOT NULL,                -- the figures it was judged by
    key         text        NOT NULL GENERATED ALWAYS AS (rule || '|' || period || '|' || course_id) STORED,
    raised_at   timestamptz NOT NULL DEFAULT now(),
    changed_at  timestamptz NOT NULL DEFAULT now(),
    cleared_at  timestamptz,
    archived_at timestamptz,                         -- past its retention, or put away by hand: kept, never changed
    CONSTRAINT one_signal_per_rule_course_and_period UNIQUE (key),
    CONSTRAINT a_rule_is_a_lower_case_word CHECK (rule ~ '^[a-z][a-z0-9_]{0,49}$'),
    CONSTRAINT a_period_is_whole_or_a_month CHECK (period ~ '^(whole|\d{4}-\d{2})$'),
    CONSTRAINT a_severity_is_one_of_two CHECK (severity IN ('warning', 'critical'))
) WITH (fillfactor = 85);

-- How the aggregates and signals stand. One row; who counts or derives locks it, so that two of them take turns.
CREATE TABLE analytics.standing (
    only_row      boolean          PRIMARY KEY DEFAULT true,
    aggregated_at timestamptz,                       -- every event committed before is counted
    pass_mark     double precision NOT NULL DEFAULT 40,
    rules         jsonb,                             -- of the last generate_signals; null: none has run yet
    CONSTRAINT there_is_one_standing CHECK (only_row)
);
INSERT INTO analytics.standing DEFAULT VALUES;

-- ---------------------------------------------------------------------------------------------------------------
-- What must hold whoever writes.

CREATE FUNCTION analytics.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO analytics.touched_day (day, course_id, events)
    SELECT (occurred_at AT TIME ZONE 'UTC')::date, course_id, count(*)
      FROM fresh
  GROUP BY 1, 2;
    RETURN NULL;
END $$;

CREATE TRIGGER new_events_touch_their_days AFTER INSERT ON analytics.event
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION analytics.touch();

CREATE FUNCTION analytics.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of %.%: %', lower(TG_OP), TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_ARGV[0]
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER an_event_never_changes BEFORE UPDATE ON analytics.event
    FOR EACH STATEMENT EXECUTE FUNCTION analytics.refuse('an event never changes; insert another one');
CREATE TRIGGER an_archived_signal_never_changes BEFORE UPDATE ON analytics.signal
    FOR EACH ROW WHEN (OLD.archived_at IS NOT NULL) EXECUTE FUNCTION analytics.refuse('an archived signal never changes');
CREATE TRIGGER the_standing_stays BEFORE DELETE OR TRUNCATE ON analytics.standing
    FOR EACH STATEMENT EXECUTE FUNCTION analytics.refuse('there is always one row');
