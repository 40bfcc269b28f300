-- Roles of least privilege for one installation, to be run by a superuser:
--
--     psql -d DATABASE -v schema=jobsd -f roles.sql
--
-- SCHEMA_owner     owns schema, tables and functions: for `jobsd db migrate` alone
-- SCHEMA_runtime   what the daemon needs: no DDL, and of the history (attempts, audit, seals) no UPDATE, DELETE, TRUNCATE
-- SCHEMA_enqueuer  calls jobsd.enqueue() and jobsd.enqueue_many(), and nothing else
-- SCHEMA_reader    reads the documented views, and nothing else
--
-- Nobody logs in as one of them: a login is made a member (`GRANT jobsd_runtime TO app`). It may be run again at any
-- time, and must be after each migration: what is new has no grants yet. Packs' schemas belong to the owner too.

\set ON_ERROR_STOP on
\if :{?schema}
\else
    \set schema jobsd
\endif

BEGIN;
SET LOCAL client_min_messages = warning;
SELECT set_config('jobsd.schema', :'schema', true) AS schema \gset

-- The roles themselves.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['owner', 'runtime', 'enqueuer', 'reader'] LOOP
        name := current_setting('jobsd.schema') || '_' || name;
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), name);
    END LOOP;
    EXECUTE format('GRANT CREATE ON DATABASE %I TO %I', current_database(), current_setting('jobsd.schema') || '_owner');
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO %I', current_database(),
                   current_setting('jobsd.schema') || '_runtime');
END $$;

-- Which schemas: this installation's, and the packs', which keep a list of their migrations and no audit.
CREATE TEMPORARY VIEW ours AS
SELECT n.oid, n.nspname AS name, n.nspname = current_setting('jobsd.schema') AS core
  FROM pg_namespace n
 WHERE n.nspname = current_setting('jobsd.schema')
    OR (SELECT array_agg(a.attname::text ORDER BY a.attnum)
          FROM pg_class c
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE c.relnamespace = n.oid AND c.relname = 'migration') = '{number,name,checksum,applied_at}'
   AND NOT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'audit_seal');

CREATE TEMPORARY VIEW our_relations AS
SELECT c.oid, s.core, c.relname AS name, format('%I.%I', s.name, c.relname) AS place, c.relkind AS kind
  FROM ours s
  JOIN pg_class c ON c.relnamespace = s.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'S');

CREATE TEMPORARY VIEW our_functions AS
SELECT p.oid, s.core, p.proname AS name, p.oid::regprocedure::text AS place, p.prosecdef AS definer
  FROM ours s
  JOIN pg_proc p ON p.pronamespace = s.oid;

-- The owner. A table's own sequences follow it.
DO $$
DECLARE
    owner text := current_setting('jobsd.schema') || '_owner';
    each  record;
BEGIN
    FOR each IN SELECT name FROM ours LOOP
        EXECUTE format('ALTER SCHEMA %I OWNER TO %I', each.name, owner);
    END LOOP;
    FOR each IN SELECT r.kind, r.place FROM our_relations r
                 WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = r.oid AND d.deptype IN ('i', 'a')
                                                             AND r.kind = 'S') LOOP
        EXECUTE format('ALTER %s %s OWNER TO %I',
                       CASE each.kind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
                                      ELSE 'TABLE' END, each.place, owner);
    END LOOP;
    FOR each IN SELECT place FROM our_functions LOOP
        EXECUTE format('ALTER ROUTINE %s OWNER TO %I', each.place, owner);
    END LOOP;
END $$;

-- Everything that was granted before goes, so that what is granted is what stands here.
DO $$
DECLARE
    prefix text := current_setting('jobsd.schema');
    all_of text := format('%I, %I, %I, PUBLIC', prefix || '_runtime', prefix || '_enqueuer', prefix || '_reader');
    each   record;
BEGIN
    FOR each IN SELECT name FROM ours LOOP
        EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %s', each.name, all_of);
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %s', each.name, all_of);
        EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA %I FROM %s', each.name, all_of);
        EXECUTE format('REVOKE ALL ON ALL ROUTINES IN SCHEMA %I FROM %s', each.name, all_of);
    END LOOP;
END $$;

-- The runtime: of an audit entry it writes what happened, but neither when nor where in the order of sealing. Seals are
-- made by seal_audit() alone, and the mark of how far they go is only read.
DO $$
DECLARE
    runtime text := current_setting('jobsd.schema') || '_runtime';
    each    record;
BEGIN
    FOR each IN SELECT name FROM ours LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', each.name, runtime);
        EXECUTE format('GRANT EXECUTE ON ALL ROUTINES IN SCHEMA %I TO %I', each.name, runtime);
    END LOOP;
    FOR each IN SELECT * FROM our_relations LOOP
        EXECUTE format('GRANT %s ON %s TO %I', CASE
            WHEN each.kind = 'S' AND each.name = 'audit_sealed' AND each.core THEN 'SELECT'
            WHEN each.kind = 'S' THEN 'USAGE, SELECT'
            WHEN each.kind IN ('v', 'm') OR each.name = 'migration' THEN 'SELECT'
            WHEN NOT each.core THEN 'SELECT, INSERT, UPDATE, DELETE'
            WHEN each.name = 'audit_seal' THEN 'SELECT'
            WHEN each.name = 'audit' THEN 'SELECT, INSERT (run, sequence, act, actor, job, fence, reason, detail)'
            WHEN each.name = 'attempt' THEN 'SELECT, INSERT'
            ELSE 'SELECT, INSERT, UPDATE, DELETE' END,
            CASE WHEN each.kind = 'S' THEN 'SEQUENCE ' || each.place ELSE each.place END, runtime);
    END LOOP;
END $$;

-- The enqueuer and the reader.
DO $$
DECLARE
    prefix text := current_setting('jobsd.schema');
    each   record;
BEGIN
    FOR each IN SELECT name FROM ours WHERE core LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I, %I', each.name, prefix || '_enqueuer', prefix || '_reader');
    END LOOP;
    FOR each IN SELECT place FROM our_functions
                 WHERE core AND definer AND name IN ('enqueue', 'enqueue_many') LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', each.place, prefix || '_enqueuer');
    END LOOP;
    FOR each IN SELECT place FROM our_relations WHERE core AND kind = 'v' LOOP
        EXECUTE format('GRANT SELECT ON %s TO %I', each.place, prefix || '_reader');
    END LOOP;
END $$;

DROP VIEW our_functions, our_relations, ours;
COMMIT;
