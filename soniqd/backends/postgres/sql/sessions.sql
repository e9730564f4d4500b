-- name: watch_leader
-- watch a leader's connection
-- For the server to notice a leader whose host is gone.
SELECT set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '2', false),
       set_config('tcp_keepalives_count', '5', false);

-- name: call_itself
-- name a session
SELECT set_config('application_name', %(name)s, false);

-- name: try_lead
-- ask for the leadership
SELECT CASE WHEN EXISTS (
         SELECT FROM pg_locks
         WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted AND objsubid = 1
           AND (classid::bigint << 32) | objid::bigint = %(key)s::bigint)
       THEN true ELSE pg_try_advisory_lock(%(key)s::bigint) END;

-- name: is_leading
-- check the leadership
SELECT EXISTS (
  SELECT FROM pg_locks
  WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted AND objsubid = 1
    AND (classid::bigint << 32) | objid::bigint = %(key)s::bigint);

-- name: try_lead_by_transaction
-- ask for the leadership
-- Behind a pooler, where a transaction is all that is ours: it stays open, without a snapshot, as long as we lead.
SELECT set_config('idle_in_transaction_session_timeout', '0', true),
       CASE WHEN EXISTS (
         SELECT FROM pg_locks
         WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted AND objsubid = 1
           AND (classid::bigint << 32) | objid::bigint = %(key)s::bigint)
       THEN true ELSE pg_try_advisory_xact_lock(%(key)s::bigint) END;

-- name: stop_leading
-- give the leadership back
SELECT pg_advisory_unlock(%(key)s::bigint);

-- name: echo
-- hear whether notifications arrive
SELECT pg_notify(%(channel)s, '');

-- name: clock
-- prove that the listener's connection stands
SELECT extract(epoch FROM clock_timestamp())::float8;

-- name: next_due
-- look when the next job for later is due
-- As the text of soniq_due's payload, so that both can be compared.
SELECT (SELECT extract(epoch FROM scheduled_at)::text FROM soniq_jobs
        WHERE status = 'queued' AND scheduled_at IS NOT NULL ORDER BY scheduled_at LIMIT 1);

-- name: connection_limits
-- read the connection limits
-- A limit of -1 is none, and superusers have none; reserved_connections is new in PostgreSQL 16.
SELECT pg_backend_pid(), current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int
         + coalesce(current_setting('reserved_connections', true)::int, 0),
       CASE WHEN r.rolconnlimit >= 0 AND NOT r.rolsuper THEN r.rolconnlimit END,
       CASE WHEN d.datconnlimit >= 0 AND NOT r.rolsuper THEN d.datconnlimit END
FROM pg_roles r, pg_database d
WHERE r.rolname = session_user AND d.datname = current_database();

-- name: poll
-- look for jobs that nobody tells of
-- One row for each queue that has claimable jobs and is not paused, with its first one; due: of the next job for later,
-- as in soniq_due's payload.
WITH RECURSIVE walk AS (
  (SELECT queue, job_name, priority, seq, 1 AS n FROM soniq_jobs WHERE status = 'queued' AND scheduled_at IS NULL
   ORDER BY queue, job_name, priority, seq LIMIT 1)
  UNION ALL
  SELECT j.queue, j.job_name, j.priority, j.seq, walk.n + 1 FROM walk CROSS JOIN LATERAL (
    SELECT queue, job_name, priority, seq FROM soniq_jobs
    WHERE status = 'queued' AND scheduled_at IS NULL AND queue > walk.queue
    ORDER BY queue, job_name, priority, seq LIMIT 1) j
  WHERE walk.n < %(most_queues)s::int
)
SELECT walk.queue, due.at, walk.job_name, walk.priority, walk.seq
FROM (SELECT (SELECT extract(epoch FROM scheduled_at)::text FROM soniq_jobs
              WHERE status = 'queued' AND scheduled_at IS NOT NULL ORDER BY scheduled_at LIMIT 1) AS at) due
LEFT JOIN walk ON NOT EXISTS (SELECT FROM soniq_queues q WHERE q.name = walk.queue AND q.paused);
