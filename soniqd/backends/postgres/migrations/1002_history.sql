-- The history: done jobs until their result expires, cancelled ones for a day.
--
-- A job leaves the hot table in the statement that finishes it, so that table stays as small as its backlog.
-- result is json and not jsonb: it is stored as it came, and json takes every text that is JSON, \u0000 included.
-- Two indexes: by id to look a job up, by expires_at to prune; both are written once a job.

CREATE TABLE soniq_finished_jobs (
  id uuid PRIMARY KEY,
  seq bigint NOT NULL,
  job_name text NOT NULL,
  args jsonb NOT NULL,
  status text NOT NULL CHECK (status IN ('done', 'cancelled')),
  queue text NOT NULL,
  priority integer NOT NULL,
  attempts integer NOT NULL,
  max_attempts integer NOT NULL,
  crashes integer NOT NULL,
  interruptions integer NOT NULL,
  unique_job boolean NOT NULL,
  dedup_key text,
  producer_id text,
  worker_id uuid,
  outcome_no bigint NOT NULL,
  last_error text,
  result json,
  created_at timestamptz NOT NULL,
  due_at timestamptz,
  started_at timestamptz,
  finished_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
) WITH (
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 20000,
  autovacuum_vacuum_insert_scale_factor = 0,
  autovacuum_vacuum_insert_threshold = 500000,
  autovacuum_vacuum_cost_delay = 0
);

CREATE INDEX soniq_finished_jobs_expires_at ON soniq_finished_jobs (expires_at);

WITH finished AS (
  DELETE FROM soniq_jobs WHERE status IN ('done', 'cancelled') RETURNING *
)
INSERT INTO soniq_finished_jobs
  (id, seq, job_name, args, status, queue, priority, attempts, max_attempts, crashes, interruptions, unique_job,
   dedup_key, producer_id, worker_id, outcome_no, last_error, result, created_at, due_at, finished_at, expires_at)
SELECT id, seq, job_name, args, status, queue, priority, attempts, max_attempts, 0, 0, unique_job,
       dedup_key, producer_id, worker_id, 0, last_error, result::json, created_at, scheduled_at, updated_at,
       coalesce(expires_at, now() + interval '1 day')
FROM finished;

ALTER TABLE soniq_dead_letter_jobs
  ADD COLUMN seq bigint NOT NULL DEFAULT 0,
  ADD COLUMN crashes integer NOT NULL DEFAULT 0,
  ADD COLUMN interruptions integer NOT NULL DEFAULT 0,
  ADD COLUMN unique_job boolean NOT NULL DEFAULT false,
  ADD COLUMN dedup_key text,
  ADD COLUMN producer_id text,
  ADD COLUMN worker_id uuid,
  ADD COLUMN outcome_no bigint NOT NULL DEFAULT 0,
  ADD COLUMN due_at timestamptz,
  ADD COLUMN started_at timestamptz;

UPDATE soniq_dead_letter_jobs SET resurrection_count = 0 WHERE resurrection_count IS NULL;

DROP INDEX IF EXISTS idx_soniq_dead_letter_jobs_job_name;
DROP INDEX IF EXISTS idx_soniq_dead_letter_jobs_queue;
DROP INDEX IF EXISTS idx_soniq_dead_letter_jobs_reason;

-- Every job, wherever it is: for get, list and counts.
CREATE VIEW soniq_job_records AS
SELECT id, seq, job_name, args, status, queue, priority, attempts, max_attempts, crashes, interruptions, unique_job,
       dedup_key, producer_id, worker_id, outcome_no, last_error, result::json AS result, created_at, updated_at,
       scheduled_at, due_at, started_at, NULL::timestamptz AS finished_at, expires_at
FROM soniq_jobs
UNION ALL
SELECT id, seq, job_name, args, status, queue, priority, attempts, max_attempts, crashes, interruptions, unique_job,
       dedup_key, producer_id, worker_id, outcome_no, last_error, result, created_at, finished_at,
       NULL, due_at, started_at, finished_at, expires_at
FROM soniq_finished_jobs
UNION ALL
SELECT id, seq, job_name, args, 'dead_letter', queue, priority, attempts, max_attempts, crashes, interruptions,
       unique_job, dedup_key, producer_id, worker_id, outcome_no, last_error, NULL, original_created_at,
       moved_to_dead_letter_at, NULL, due_at, started_at, moved_to_dead_letter_at, NULL
FROM soniq_dead_letter_jobs;
