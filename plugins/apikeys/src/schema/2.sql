-- Limits as one JSON object each, of users too; and whether what a key asks and is answered is written down.
ALTER TABLE keys ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';
UPDATE keys SET limits =
    json_patch('{}', json_object('requestsPerMinute', requests_per_minute, 'tokensPerDay', tokens_per_day));
ALTER TABLE keys DROP COLUMN requests_per_minute;
ALTER TABLE keys DROP COLUMN tokens_per_day;
ALTER TABLE keys ADD COLUMN log_bodies INTEGER NOT NULL DEFAULT 0;

ALTER TABLE users ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';
