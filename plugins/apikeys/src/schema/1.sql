-- The number that grows with every change, so that the host can tell old answers from new ones.
CREATE TABLE generation (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    number INTEGER NOT NULL
) STRICT;
INSERT INTO generation VALUES (1, 0);

-- Tells whether `hmac.key` is the one that the digests below were made with. No row before the first start is over.
CREATE TABLE hmac_key (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    fingerprint BLOB NOT NULL
) STRICT;

-- `scopes`, `models` and `plugins`, here and below, are JSON lists of texts; times are milliseconds since 1970.
CREATE TABLE roles (
    name TEXT PRIMARY KEY,
    scopes TEXT NOT NULL,
    built_in INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO roles VALUES
    ('admin', '["admin"]', 1),
    ('operator', '["llm.*","plugin:manage","key:manage","audit:read","metrics"]', 1),
    ('user', '["llm.*","key:own"]', 1),
    ('viewer', '["plugin:read","metrics"]', 1);

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    role TEXT NOT NULL REFERENCES roles (name),
    password TEXT NOT NULL,
    disabled INTEGER NOT NULL,
    must_change_password INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    last_login_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX users_by_role ON users (role);

-- `previous_digest` is the secret before the last rotation, which works until `previous_until`.
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    digest BLOB NOT NULL,
    previous_digest BLOB,
    previous_until INTEGER,
    scopes TEXT NOT NULL,
    models TEXT,
    plugins TEXT,
    requests_per_minute INTEGER,
    tokens_per_day INTEGER,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_by_user ON keys (user_id, created_at);

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    digest BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    refresh_digest BLOB NOT NULL,
    refresh_expires_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER,
    address TEXT,
    user_agent TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_user ON sessions (user_id, created_at);
CREATE INDEX sessions_by_end ON sessions (refresh_expires_at);

-- Refresh tokens that were used and have not expired: whoever shows one again is not the only one who has it.
CREATE TABLE spent_refresh_tokens (
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    digest BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (session_id, digest)
) STRICT, WITHOUT ROWID;

-- Changes that the host asked for by an id of its own.
CREATE TABLE operations (
    id TEXT PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX operations_by_time ON operations (at);
