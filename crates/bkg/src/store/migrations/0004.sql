-- The fourth version: what requests cost, how they went, and sums that outlive the rows. Times are
-- microseconds since 1970, money is in millionths of a unit. Never edited: what is to change comes in the
-- next file. `usage` owns all of it.

ALTER TABLE usage ADD COLUMN route TEXT;
ALTER TABLE usage ADD COLUMN served_model TEXT;
ALTER TABLE usage ADD COLUMN estimated INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN cost INTEGER;
ALTER TABLE usage ADD COLUMN attempts TEXT;
ALTER TABLE usage ADD COLUMN error TEXT;

-- Sums of the rows of an hour, which is counted from 1970. Nothing is an empty text here: a part of a
-- primary key is never NULL.
CREATE TABLE usage_hours (
    hour INTEGER NOT NULL,
    user TEXT NOT NULL,
    key_id TEXT NOT NULL,
    plugin TEXT NOT NULL,
    model TEXT NOT NULL,
    requests INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    estimated INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    PRIMARY KEY (hour, user, key_id, plugin, model)
) STRICT, WITHOUT ROWID;

INSERT INTO usage_hours
SELECT
    at / 3600000000, user, coalesce(key_id, ''), coalesce(plugin, ''),
    CASE WHEN plugin IS NULL THEN '' ELSE coalesce(model, '') END,
    count(*), sum(outcome <> 'ok'), 0,
    -- No plugin has used more, whatever it says; and so the sum fits.
    sum(min(coalesce(prompt_tokens, 0), 1000000000000)),
    sum(min(coalesce(completion_tokens, 0), 1000000000000)),
    0
FROM usage GROUP BY 1, 2, 3, 4, 5;

-- What was asked and answered, for keys that an operator has it written down for. It goes with its row.
CREATE TABLE usage_bodies (
    id INTEGER PRIMARY KEY REFERENCES usage (id) ON DELETE CASCADE,
    request TEXT,
    answer TEXT
) STRICT;
