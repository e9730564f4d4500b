-- name: checkup_tables
-- look at the tables
-- wanted: rows by their average width, with the tuple header (24 bytes) and line pointer (4), over the fill factor.
SELECT c.relname AS name, greatest(c.reltuples, s.n_live_tup, 0)::bigint AS rows, coalesce(s.n_dead_tup, 0) AS dead_rows,
       pg_table_size(c.oid) AS bytes,
       (SELECT (greatest(c.reltuples, 0) * (28 + sum(a.avg_width * (1 - a.null_frac))) * 100
               / coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions)
                           WHERE option_name = 'fillfactor')::int, 100))::bigint
        FROM pg_stats a WHERE a.schemaname = n.nspname AND a.tablename = c.relname) AS wanted_bytes,
       current_setting('track_counts')::boolean AND coalesce(
         (SELECT option_value FROM pg_options_to_table(c.reloptions)
          WHERE option_name = 'autovacuum_enabled')::boolean, true) AS autovacuum,
       (coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions)
                  WHERE option_name = 'autovacuum_vacuum_threshold'),
                 current_setting('autovacuum_vacuum_threshold'))::float8
        + greatest(c.reltuples, 0) * coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions)
                                               WHERE option_name = 'autovacuum_vacuum_scale_factor'),
                                              current_setting('autovacuum_vacuum_scale_factor'))::float8
       )::bigint AS vacuum_at,
       extract(epoch FROM clock_timestamp() - greatest(s.last_vacuum, s.last_autovacuum))::float8 AS vacuumed_ago_s,
       EXISTS (SELECT FROM pg_stat_progress_vacuum p WHERE p.relid = c.oid) AS vacuuming
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE c.relkind = 'r' AND c.relname LIKE 'soniq\_%%' AND pg_table_is_visible(c.oid)
ORDER BY c.relname;

-- name: checkup_indexes
-- look at the indexes
-- wanted: entries by their average width, with header (8), line pointer (4) and the usual fill of 90 %%. An index that
-- stores equal keys once needs less.
SELECT i.relname AS name, t.relname AS table, pg_relation_size(i.oid) AS bytes,
       (SELECT 16384 + (greatest(i.reltuples, 0) * (12 + sum(a.avg_width)) / 0.9)::bigint
        FROM pg_attribute k JOIN pg_stats a
          ON a.schemaname = n.nspname AND a.tablename = t.relname AND a.attname = k.attname
        WHERE k.attrelid = t.oid AND k.attnum = ANY (x.indkey)) AS wanted_bytes,
       x.indisvalid AS valid, x.indisunique AS unique, coalesce(s.idx_scan, 0) AS scans,
       coalesce(r.n_tup_ins, 0) AS written, EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.oid) AS of_constraint
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
LEFT JOIN pg_stat_all_indexes s ON s.indexrelid = i.oid LEFT JOIN pg_stat_all_tables r ON r.relid = t.oid
WHERE t.relkind = 'r' AND t.relname LIKE 'soniq\_%%' AND pg_table_is_visible(t.oid)
ORDER BY t.relname, i.relname;

-- name: checkup_server
-- look at the server
SELECT current_setting('server_version') AS version,
       current_setting('autovacuum')::boolean AND current_setting('track_counts')::boolean AS autovacuum,
       current_setting('fsync')::boolean AS fsync, current_setting('full_page_writes')::boolean AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       pg_notification_queue_usage() AS notify_queue_usage, age(d.datfrozenxid) AS xid_age,
       current_setting('autovacuum_freeze_max_age')::int AS freeze_max_age,
       pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all
FROM pg_database d WHERE d.datname = current_database();

-- name: checkup_sessions
-- look at the sessions that hold the horizon
-- A snapshot holds back the removal of dead rows in its own database; a standby's in all of them. What vacuum itself
-- holds does not count (PostgreSQL manual, section 25.1).
SELECT CASE WHEN backend_type = 'walsender' THEN 'standby' ELSE 'transaction' END AS kind, pid::text AS name,
       greatest(age(backend_xmin), age(backend_xid)) AS age_transactions,
       extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age_s,
       application_name AS application, usename AS user, host(client_addr) AS client, state,
       left(regexp_replace(query, '\s+', ' ', 'g'), 200) AS query
FROM pg_stat_activity
WHERE (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND pid <> pg_backend_pid()
  AND (datname = current_database() OR backend_type = 'walsender')
  AND backend_type <> 'autovacuum worker' AND query !~* '^\s*vacuum\M'
ORDER BY age_transactions DESC, xact_start LIMIT 20;

-- name: checkup_prepared
-- look at the prepared transactions
SELECT 'prepared transaction' AS kind, gid AS name, age(transaction) AS age_transactions,
       extract(epoch FROM clock_timestamp() - prepared)::float8 AS age_s, owner AS user
FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared LIMIT 20;

-- name: checkup_slots
-- look at the replication slots
SELECT slot_name AS name, active, age(xmin) AS age_transactions,
       CASE WHEN NOT pg_is_in_recovery()
            THEN pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint END AS kept_bytes
FROM pg_replication_slots;

-- name: checkup_connections
-- count the connections
SELECT coalesce(application_name, '') AS application, coalesce(usename, '') AS user, count(*) AS count,
       coalesce(application_name, '') ~ '^soniqd( |$)' AND datname = current_database() AS ours
FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
GROUP BY 1, 2, 4 ORDER BY count(*) DESC, 1, 2;
