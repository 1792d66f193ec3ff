-- The third version: the story of plugins. Times are microseconds since 1970. Never edited: what is to
-- change comes in the next file. `runs` owns both tables and keeps them small.

CREATE TABLE plugin_runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    plugin TEXT NOT NULL,
    outcome TEXT NOT NULL,
    head TEXT NOT NULL,
    card TEXT NOT NULL
) STRICT;

CREATE INDEX plugin_runs_of ON plugin_runs (plugin, number);

CREATE TABLE plugin_events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    plugin TEXT NOT NULL,
    run TEXT,
    seat INTEGER NOT NULL,
    at INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT
) STRICT;

CREATE INDEX plugin_events_of ON plugin_events (plugin, number);
