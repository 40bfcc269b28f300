-- Access: who may ask over TCP. Of a token only its hash is kept, so nobody reads one here, in a dump or in a backup.

CREATE TABLE jobsd.api_token (
    name           text        PRIMARY KEY,                -- the audit's "token:NAME": never given to another one
    hash           bytea       NOT NULL,                   -- SHA-256 of the token, which is 256 random bits
    scope          text        NOT NULL,
    created_by     text        NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz,                            -- null: never
    last_used_at   timestamptz,                            -- to the minute
    revoked_at     timestamptz,
    revoked_by     text,
    CONSTRAINT one_token_per_hash UNIQUE (hash),
    CONSTRAINT a_hash_is_of_sha_256 CHECK (octet_length(hash) = 32),
    CONSTRAINT a_scope_is_one_of_four CHECK (scope IN ('read', 'trigger', 'operate', 'admin')),
    CONSTRAINT a_name_is_a_short_word CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
    CONSTRAINT a_revoked_token_says_who CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
) WITH (fillfactor = 70);

CREATE TRIGGER a_token_stays_what_it_was BEFORE UPDATE ON jobsd.api_token
    FOR EACH ROW WHEN (
        (OLD.name, OLD.hash, OLD.scope, OLD.created_by, OLD.created_at) IS DISTINCT FROM
        (NEW.name, NEW.hash, NEW.scope, NEW.created_by, NEW.created_at)
        OR OLD.expires_at IS DISTINCT FROM NEW.expires_at)
    EXECUTE FUNCTION jobsd.refuse('a token is revoked and another one made, not changed');
CREATE TRIGGER a_revoked_token_stays_revoked BEFORE UPDATE ON jobsd.api_token
    FOR EACH ROW WHEN (OLD.revoked_at IS NOT NULL AND OLD.revoked_at IS DISTINCT FROM NEW.revoked_at)
    EXECUTE FUNCTION jobsd.refuse('a revoked token stays revoked');
CREATE TRIGGER tokens_are_not_deleted BEFORE DELETE OR TRUNCATE ON jobsd.api_token
    FOR EACH STATEMENT EXECUTE FUNCTION jobsd.refuse('a token is revoked, not deleted: the audit names it');
