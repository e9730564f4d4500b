-- name: register_worker
-- register a worker
WITH worker AS (
  INSERT INTO soniq_workers AS w
    (id, hostname, pid, queues, concurrency, status, version, metadata, machine_id, boot_id, pid_namespace,
     start_ticks, supervised, slot)
  VALUES (%(id)s::uuid, %(hostname)s, %(pid)s::int, %(queues)s::text[], %(concurrency)s::int, %(status)s, %(version)s,
          %(metadata)s::text::jsonb, %(machine_id)s, %(boot_id)s, %(pid_namespace)s::bigint, %(start_ticks)s::bigint,
          %(supervised)s::boolean, %(slot)s)
  ON CONFLICT (id) DO UPDATE
    SET hostname = excluded.hostname, pid = excluded.pid, queues = excluded.queues,
        concurrency = excluded.concurrency, status = excluded.status, version = excluded.version,
        metadata = excluded.metadata, machine_id = excluded.machine_id, boot_id = excluded.boot_id,
        pid_namespace = excluded.pid_namespace, start_ticks = excluded.start_ticks,
        supervised = excluded.supervised, slot = excluded.slot, last_heartbeat = now()
    WHERE w.status <> 'stopped'
  RETURNING w.id
), forgotten AS (
  DELETE FROM soniq_task_registry r USING worker w
  WHERE r.worker_id = w.id::text AND r.task_name <> ALL (%(names)s::text[])
)
INSERT INTO soniq_task_registry (task_name, worker_id, last_seen_at, defaults)
SELECT DISTINCT ON (n.name) n.name, w.id::text, now(), n.defaults::jsonb
FROM worker w CROSS JOIN unnest(%(names)s::text[], %(defaults)s::text[]) AS n (name, defaults)
ON CONFLICT (task_name, worker_id) DO UPDATE
  SET last_seen_at = excluded.last_seen_at, defaults = excluded.defaults;

-- name: heartbeat
-- tell that workers live
UPDATE soniq_workers SET last_heartbeat = now()
WHERE id = ANY (%(ids)s::uuid[]) AND status <> 'stopped'
RETURNING id::text;

-- name: set_worker_status
-- change the status of workers
UPDATE soniq_workers SET status = %(status)s, last_heartbeat = now()
WHERE id = ANY (%(ids)s::uuid[]) AND status <> 'stopped';

-- name: list_workers
-- list workers
SELECT w.id::text, w.machine_id, w.hostname, w.boot_id, w.pid_namespace, w.pid, w.start_ticks, w.queues,
       w.concurrency, w.status, w.version, w.supervised, w.slot,
       extract(epoch FROM clock_timestamp() - w.last_heartbeat)::float8 AS heartbeat_age_s, w.started_at,
       (SELECT count(*) FROM soniq_jobs j WHERE j.worker_id = w.id AND j.status = 'processing') AS jobs_processing,
       w.metadata::text
FROM soniq_workers w
WHERE (w.status = 'stopped') = %(stopped)s::boolean
  AND (%(stale_after_s)s::float8 IS NULL
       OR w.last_heartbeat < clock_timestamp() - %(stale_after_s)s::float8 * interval '1 second')
  AND (%(hostname)s::text IS NULL OR (w.machine_id = %(machine_id)s::text AND w.hostname = %(hostname)s::text))
ORDER BY w.started_at, w.id;

-- name: lock_workers
-- stop workers
-- FOR UPDATE waits for claims of theirs that are under way; whoever claims later sees that they are stopped.
WITH gone AS (
  SELECT id FROM soniq_workers WHERE id = ANY (%(ids)s::uuid[]) ORDER BY id FOR UPDATE
)
UPDATE soniq_workers
SET status = 'stopped',
    metadata = CASE WHEN %(ended)s::text IS NULL THEN metadata
                    ELSE coalesce(metadata, '{}') || jsonb_build_object('ended', %(ended)s::text) END
WHERE id IN (SELECT id FROM gone) AND status <> 'stopped';

-- name: lock_stale_workers
-- stop workers without a heartbeat
WITH gone AS (
  SELECT id FROM soniq_workers
  WHERE status <> 'stopped' AND last_heartbeat < now() - %(timeout_s)s::float8 * interval '1 second'
  ORDER BY id FOR UPDATE
)
UPDATE soniq_workers SET status = 'stopped' WHERE id IN (SELECT id FROM gone) RETURNING id::text;

-- name: held_by_workers
-- list the jobs that workers hold
SELECT id::text, worker_id::text, claim_no, crashes FROM soniq_jobs
WHERE status = 'processing' AND worker_id = ANY (%(ids)s::uuid[])
ORDER BY seq;

-- name: held_by_nobody
-- list the jobs whose workers are gone
-- Of a worker that marked itself stopped, whose row is gone, or that never had one: as Soniq leaves them.
SELECT j.id::text, j.worker_id::text, j.claim_no, j.crashes FROM soniq_jobs j
WHERE j.status = 'processing'
  AND NOT EXISTS (SELECT FROM soniq_workers w WHERE w.id = j.worker_id AND w.status <> 'stopped')
  AND (j.worker_id IS NOT NULL OR j.updated_at < now() - %(timeout_s)s::float8 * interval '1 second')
ORDER BY j.seq LIMIT 1000;

-- name: try_sweep
-- take the turn to sweep
SELECT pg_try_advisory_xact_lock(%(key)s::bigint);

-- name: prune_left_behind
-- move what Soniq finished in place to the history
WITH old AS MATERIALIZED (
  SELECT ctid AS row FROM soniq_jobs WHERE status IN ('done', 'cancelled') ORDER BY updated_at
  LIMIT %(limit)s::int FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM soniq_jobs WHERE ctid = ANY (ARRAY(SELECT row FROM old)) RETURNING *
)
INSERT INTO soniq_finished_jobs
  (id, seq, job_name, args, status, queue, priority, attempts, max_attempts, crashes, interruptions, unique_job,
   dedup_key, producer_id, worker_id, outcome_no, last_error, result, created_at, due_at, started_at, finished_at,
   expires_at)
SELECT id, seq, job_name, args, status, queue, priority, attempts, max_attempts, crashes, interruptions, unique_job,
       dedup_key, producer_id, worker_id, outcome_no, last_error, result::json, created_at,
       coalesce(scheduled_at, due_at), started_at, updated_at,
       coalesce(expires_at, updated_at + %(kept_s)s::float8 * interval '1 second')
FROM gone
ON CONFLICT (id) DO NOTHING;

-- name: prune_history
-- delete expired history
-- Rows are not locked first: that would write as much again. Of two hosts at it, one waits, and deletes nothing.
DELETE FROM soniq_finished_jobs WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM soniq_finished_jobs WHERE expires_at <= now() ORDER BY expires_at LIMIT %(limit)s::int));

-- name: prune_workers
-- delete old stopped workers
WITH old AS MATERIALIZED (
  SELECT w.id FROM soniq_workers w
  WHERE w.status = 'stopped' AND w.last_heartbeat < now() - %(kept_s)s::float8 * interval '1 second'
    AND NOT EXISTS (SELECT FROM soniq_jobs j WHERE j.worker_id = w.id AND j.status = 'processing')
  LIMIT %(limit)s::int FOR UPDATE SKIP LOCKED
), names AS (
  DELETE FROM soniq_task_registry WHERE worker_id IN (SELECT id::text FROM old)
)
DELETE FROM soniq_workers WHERE id IN (SELECT id FROM old);

-- name: prune_registry
-- delete task names of workers that are gone
DELETE FROM soniq_task_registry r
WHERE r.last_seen_at < now() - %(kept_s)s::float8 * interval '1 second'
  AND NOT EXISTS (SELECT FROM soniq_workers w WHERE w.id::text = r.worker_id);

-- name: prune_ticks
-- delete old ticks
DELETE FROM soniq_schedule_ticks WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM soniq_schedule_ticks WHERE tick_at < now() - %(kept_s)s::float8 * interval '1 second'
  LIMIT %(limit)s::int));
