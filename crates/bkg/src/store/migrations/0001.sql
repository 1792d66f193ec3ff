-- The first version of the host's database. Times are microseconds since 1970. Never edited: what is
-- to change comes in the next file. `audit` owns the tables `audit…`, `settings` and `usage` theirs.

CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('intended', 'done', 'failed', 'unknown')),
    intent TEXT,
    user TEXT NOT NULL,
    key_id TEXT,
    session_id TEXT,
    address TEXT,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL,
    request_id TEXT,
    previous BLOB NOT NULL,
    mac BLOB NOT NULL
) STRICT;

-- An intent is begun once and ends once.
CREATE UNIQUE INDEX audit_begun ON audit (intent) WHERE kind = 'intended';
CREATE UNIQUE INDEX audit_ended ON audit (intent) WHERE intent IS NOT NULL AND kind <> 'intended';

CREATE TABLE audit_head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL,
    mac BLOB NOT NULL,
    seal BLOB NOT NULL
) STRICT;

CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE usage (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    user TEXT NOT NULL,
    key_id TEXT,
    plugin TEXT,
    capability TEXT NOT NULL,
    model TEXT,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    first_byte_ms INTEGER,
    total_ms INTEGER NOT NULL,
    streamed INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    status INTEGER NOT NULL
) STRICT;

CREATE INDEX usage_at ON usage (at);
CREATE INDEX usage_request ON usage (request_id);
CREATE INDEX usage_key ON usage (key_id) WHERE key_id IS NOT NULL;
