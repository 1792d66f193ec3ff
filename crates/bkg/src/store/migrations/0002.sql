-- The second version: what was saved of plugin entries. Times are microseconds since 1970. Never edited:
-- what is to change comes in the next file. `revisions`, `vault` and `mirror` own a table each.

CREATE TABLE revisions (
    plugin TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number > 0),
    at INTEGER NOT NULL,
    author TEXT NOT NULL,
    note TEXT NOT NULL,
    overlay TEXT NOT NULL,
    PRIMARY KEY (plugin, number)
) STRICT;

CREATE TRIGGER revisions_stay BEFORE UPDATE ON revisions
BEGIN
    SELECT RAISE(ABORT, 'a saved revision is never changed');
END;

-- A value that only the right `secrets.key` opens.
CREATE TABLE vault (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    proof TEXT NOT NULL
) STRICT;

-- Digests of `plugins.json`: as it was last written, and as it is being written.
CREATE TABLE mirror (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    written BLOB,
    writing BLOB
) STRICT;
