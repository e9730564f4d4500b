-- name: get_job
-- look a job up
SELECT id, job_name, args::text, status, queue, priority, attempts, max_attempts, crashes, interruptions, unique_job,
       dedup_key, producer_id, worker_id, last_error, result::text, created_at, updated_at, scheduled_at, due_at,
       started_at, finished_at, expires_at
FROM soniq_job_records WHERE id = %(id)s::uuid LIMIT 1;

-- name: list_jobs
-- list jobs
SELECT id, job_name, args::text, status, queue, priority, attempts, max_attempts, crashes, interruptions, unique_job,
       dedup_key, producer_id, worker_id, last_error, result::text, created_at, updated_at, scheduled_at, due_at,
       started_at, finished_at, expires_at
FROM soniq_job_records
WHERE (%(queue)s::text IS NULL OR queue = %(queue)s::text)
  AND (%(status)s::text IS NULL OR status = %(status)s::text)
  AND (%(name)s::text IS NULL OR job_name = %(name)s::text)
  AND (%(worker_id)s::uuid IS NULL OR worker_id = %(worker_id)s::uuid)
ORDER BY created_at DESC, seq DESC
LIMIT %(limit)s::bigint OFFSET %(offset)s::bigint;

-- name: cancel_job
-- cancel a queued job
WITH gone AS (
  DELETE FROM soniq_jobs WHERE id = %(id)s::uuid AND status = 'queued' RETURNING *
), kept AS (
  INSERT INTO soniq_finished_jobs
    (id, seq, job_name, args, status, queue, priority, attempts, max_attempts, crashes, interruptions, unique_job,
     dedup_key, producer_id, outcome_no, last_error, created_at, due_at, finished_at, expires_at)
  SELECT id, seq, job_name, args, 'cancelled', queue, priority, attempts, max_attempts, crashes, interruptions,
         unique_job, dedup_key, producer_id, outcome_no, last_error, created_at, coalesce(scheduled_at, due_at), now(),
         now() + %(kept_s)s::float8 * interval '1 second'
  FROM gone
)
SELECT (SELECT count(*) FROM gone), (SELECT status FROM soniq_job_records WHERE id = %(id)s::uuid LIMIT 1);

-- name: delete_job
-- delete a job
WITH hot AS (
  DELETE FROM soniq_jobs WHERE id = %(id)s::uuid AND status <> 'processing' RETURNING id
), finished AS (
  DELETE FROM soniq_finished_jobs WHERE id = %(id)s::uuid RETURNING id
), dead AS (
  DELETE FROM soniq_dead_letter_jobs WHERE id = %(id)s::uuid RETURNING id
)
SELECT (SELECT count(*) FROM hot) + (SELECT count(*) FROM finished) + (SELECT count(*) FROM dead);

-- name: queue_stats
-- count the jobs of each queue
SELECT queue, status, count(*),
       extract(epoch FROM clock_timestamp() - min(created_at)
                                  FILTER (WHERE status = 'queued' AND scheduled_at IS NULL))::float8 AS oldest_s
FROM soniq_job_records GROUP BY queue, status;

-- name: paused_queues
-- list the paused queues
SELECT name FROM soniq_queues WHERE paused;

-- name: pause_queue
-- pause a queue
INSERT INTO soniq_queues AS q (name, paused) VALUES (%(queue)s::text, true)
ON CONFLICT (name) DO UPDATE SET paused = true, updated_at = now() WHERE NOT q.paused
RETURNING q.name;

-- name: resume_queue
-- resume a queue
WITH resumed AS (
  UPDATE soniq_queues SET paused = false, updated_at = now() WHERE name = %(queue)s::text AND paused RETURNING name
)
SELECT pg_notify('soniq_new_job', name) FROM resumed;

-- name: unclaimable_names
-- count the queued jobs that no live worker knows
WITH known AS MATERIALIZED (
  SELECT DISTINCT r.task_name FROM soniq_task_registry r JOIN soniq_workers w ON w.id::text = r.worker_id
  WHERE w.status <> 'stopped'
)
SELECT j.job_name, count(*) FROM soniq_jobs j
WHERE j.status = 'queued' AND j.job_name NOT IN (SELECT task_name FROM known)
GROUP BY j.job_name ORDER BY count(*) DESC, j.job_name LIMIT %(limit)s::int;

-- name: now
-- read the clock
SELECT clock_timestamp();

-- name: ping
-- reach the database
SELECT 1;

-- name: reset
-- delete all rows
TRUNCATE soniq_jobs, soniq_finished_jobs, soniq_dead_letter_jobs, soniq_workers, soniq_task_registry,
         soniq_recurring_jobs, soniq_queues, soniq_schedule_ticks;
