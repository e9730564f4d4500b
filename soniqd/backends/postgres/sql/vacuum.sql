-- name: wear
-- look at the dead rows of the table of jobs
-- horizon: what sessions of this database, prepared transactions, standbys and replication slots may still see. Not of
-- vacuums, which hold nothing back (PostgreSQL manual, section 25.1).
SELECT pg_stat_get_live_tuples(c.oid) AS live_rows, pg_stat_get_dead_tuples(c.oid) AS dead_rows,
       pg_stat_get_vacuum_count(c.oid) + pg_stat_get_autovacuum_count(c.oid) AS vacuums,
       extract(epoch FROM clock_timestamp()
         - greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)))::float8
         AS vacuumed_ago_s,
       now.next AS next_transaction,
       least(now.oldest, now.next - greatest(
         (SELECT max(greatest(age(a.backend_xmin), age(a.backend_xid))) FROM pg_stat_get_activity(NULL) a
          WHERE (a.datid = d.oid OR a.backend_type = 'walsender') AND a.pid <> pg_backend_pid()
            AND a.pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)),
         (SELECT max(age(p.transaction)) FROM pg_prepared_xacts p WHERE p.database = d.datname),
         (SELECT max(age(s.xmin)) FROM pg_replication_slots s), 0)) AS horizon,
       pg_has_role(c.relowner, 'USAGE') OR pg_has_role(d.datdba, 'USAGE')
         OR CASE WHEN current_setting('server_version_num')::int >= 170000
                 THEN has_table_privilege(c.oid, 'MAINTAIN') ELSE false END AS may_vacuum
FROM (SELECT pg_snapshot_xmin(s)::text::bigint AS oldest, pg_snapshot_xmax(s)::text::bigint AS next
      FROM pg_current_snapshot() s) now
CROSS JOIN pg_class c CROSS JOIN pg_database d
WHERE c.oid = 'soniq_jobs'::regclass AND d.datname = current_database();
