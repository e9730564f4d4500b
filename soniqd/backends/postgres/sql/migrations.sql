-- name: wait_for_setup
-- wait for another setup
SELECT pg_advisory_xact_lock(%(key)s::bigint);

-- name: create_migrations_table
-- create the table of migrations
CREATE TABLE IF NOT EXISTS soniq_migrations (
  id serial PRIMARY KEY,
  version varchar(255) NOT NULL UNIQUE,
  name text NOT NULL,
  applied_at timestamp DEFAULT now(),
  checksum text
);

-- name: applied_migrations
-- read the applied migrations
SELECT version, checksum FROM soniq_migrations ORDER BY version;

-- name: record_migration
-- record a migration
INSERT INTO soniq_migrations (version, name, checksum) VALUES (%(version)s, %(name)s, %(checksum)s);

-- name: find_database
-- find a database
SELECT 1 FROM pg_database WHERE datname = %(name)s;
