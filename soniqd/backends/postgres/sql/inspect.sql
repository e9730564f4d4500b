-- name: get_job
-- look a job up
SELECT id, job_name, args::text, status, queue, priority, attempts, max_attempts, crashes, interruptions, unique_job,
       dedup_key, producer_id, worker_id, last_error, result::text, created_at, updated_at, scheduled_at, due_at,
       started_at, finished_at, expires_at
FROM soniq_job_records WHERE id = %(id)s::uuid LIMIT 1;

-- name: list_jobs
-- list jobs
-- Ids of version 7 begin with the time and sort below 02000000 until 2039: of those the newest, and some more since
-- clocks differ a little, come from the primary keys. Other ids (Soniq's producers make random ones) say nothing of
-- the time: those rows are all looked at. A few in a thousand of them sort below, too, and may be listed too late.
WITH newest AS (
  (SELECT id, seq, job_name, args, status, queue, priority, attempts, max_attempts, crashes, interruptions, unique_job,
          dedup_key, producer_id, worker_id, last_error, result, created_at, updated_at, scheduled_at, due_at,
          started_at, finished_at, expires_at
   FROM soniq_job_records
   WHERE id < '02000000-0000-0000-0000-000000000000'
     AND (%(queue)s::text IS NULL OR queue = %(queue)s::text)
     AND (%(status)s::text IS NULL OR status = %(status)s::text)
     AND (%(name)s::text IS NULL OR job_name = %(name)s::text)
     AND (%(worker_id)s::uuid IS NULL OR worker_id = %(worker_id)s::uuid)
   ORDER BY id DESC LIMIT %(limit)s::bigint + %(offset)s::bigint + 1000)
  UNION ALL
  (SELECT id, seq, job_name, args, status, queue, priority, attempts, max_attempts, crashes, interruptions, unique_job,
          dedup_key, producer_id, worker_id, last_error, result, created_at, updated_at, scheduled_at, due_at,
          started_at, finished_at, expires_at
   FROM soniq_job_records
   WHERE id >= '02000000-0000-0000-0000-000000000000'
     AND (%(queue)s::text IS NULL OR queue = %(queue)s::text)
     AND (%(status)s::text IS NULL OR status = %(status)s::text)
     AND (%(name)s::text IS NULL OR job_name = %(name)s::text)
     AND (%(worker_id)s::uuid IS NULL OR worker_id = %(worker_id)s::uuid)
   ORDER BY created_at DESC, seq DESC LIMIT %(limit)s::bigint + %(offset)s::bigint)
)
SELECT id, job_name, args::text, status, queue, priority, attempts, max_attempts, crashes, interruptions, unique_job,
       dedup_key, producer_id, worker_id, last_error, result::text, created_at, updated_at, scheduled_at, due_at,
       started_at, finished_at, expires_at
FROM newest ORDER BY created_at DESC, seq DESC LIMIT %(limit)s::bigint OFFSET %(offset)s::bigint;

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
-- Of each table up to a number of rows; "whole" tells whether that were all.
WITH hot AS MATERIALIZED (
  SELECT queue, status, CASE WHEN status = 'queued' AND scheduled_at IS NULL THEN created_at END AS since
  FROM soniq_jobs LIMIT %(counted)s::bigint
), finished AS MATERIALIZED (
  SELECT queue, status FROM soniq_finished_jobs LIMIT %(counted)s::bigint
), dead AS MATERIALIZED (
  SELECT queue FROM soniq_dead_letter_jobs LIMIT %(counted)s::bigint
)
SELECT 'soniq_jobs' AS place, queue, status, count(*),
       extract(epoch FROM clock_timestamp() - min(since))::float8 AS oldest_s,
       (SELECT count(*) FROM hot) < %(counted)s::bigint AS whole
FROM hot GROUP BY queue, status
UNION ALL
SELECT 'soniq_finished_jobs', queue, status, count(*), NULL,
       (SELECT count(*) FROM finished) < %(counted)s::bigint
FROM finished GROUP BY queue, status
UNION ALL
SELECT 'soniq_dead_letter_jobs', queue, 'dead_letter', count(*), NULL,
       (SELECT count(*) FROM dead) < %(counted)s::bigint
FROM dead GROUP BY queue;

-- name: sample_jobs
-- estimate the number of jobs of each queue
-- From a share of the table's pages, in percent, spread evenly over it.
SELECT queue, status, round(count(*) * 100 / %(share)s::float8)::bigint AS count
FROM soniq_jobs TABLESAMPLE SYSTEM (%(share)s::float4) GROUP BY queue, status;

-- name: sample_finished
-- estimate the number of finished jobs of each queue
SELECT queue, status, round(count(*) * 100 / %(share)s::float8)::bigint AS count
FROM soniq_finished_jobs TABLESAMPLE SYSTEM (%(share)s::float4) GROUP BY queue, status;

-- name: sample_dead
-- estimate the number of dead letters of each queue
SELECT queue, 'dead_letter' AS status, round(count(*) * 100 / %(share)s::float8)::bigint AS count
FROM soniq_dead_letter_jobs TABLESAMPLE SYSTEM (%(share)s::float4) GROUP BY queue;

-- name: count_pages
-- look how large a table is
SELECT pg_relation_size(%(table)s::regclass) / current_setting('block_size')::int AS pages;

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
