-- The base: jobs, workers, and who knows which task, with the columns of Soniq 0.1.0.
--
-- Versions 0001 to 0005 are Soniq's. On a database that its own setup made, they are recorded already and this file
-- is skipped; on a new one, recording them keeps Soniq's setup from putting back what 1001 and later take away.
-- Producers of Soniq infer the two partial unique indexes in ON CONFLICT: their predicates may never change.

CREATE TABLE IF NOT EXISTS soniq_jobs (
  id uuid PRIMARY KEY,
  job_name text NOT NULL,
  args jsonb NOT NULL,
  args_hash text,
  status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'processing', 'done', 'cancelled')),
  attempts integer DEFAULT 0,
  max_attempts integer DEFAULT 3,
  queue text DEFAULT 'default',
  priority integer DEFAULT 100,
  unique_job boolean DEFAULT false,
  dedup_key text,
  scheduled_at timestamptz,
  expires_at timestamptz,
  last_error text,
  result jsonb,
  producer_id text,
  created_at timestamptz DEFAULT now(),
  updated_at timestamptz DEFAULT now(),
  worker_id uuid
);

CREATE UNIQUE INDEX IF NOT EXISTS idx_soniq_jobs_unique_queued
  ON soniq_jobs (job_name, args_hash) WHERE status = 'queued' AND unique_job = TRUE;

CREATE UNIQUE INDEX IF NOT EXISTS idx_soniq_jobs_dedup_key
  ON soniq_jobs (dedup_key) WHERE status = 'queued' AND dedup_key IS NOT NULL;

CREATE TABLE IF NOT EXISTS soniq_workers (
  id uuid PRIMARY KEY,
  hostname text NOT NULL,
  pid integer NOT NULL,
  queues text[] DEFAULT '{}',
  concurrency integer NOT NULL DEFAULT 1,
  status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'stopping', 'stopped')),
  last_heartbeat timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz NOT NULL DEFAULT now(),
  version text,
  metadata jsonb DEFAULT '{}'
);

CREATE TABLE IF NOT EXISTS soniq_task_registry (
  task_name text NOT NULL,
  worker_id text NOT NULL,
  last_seen_at timestamptz NOT NULL,
  args_model_repr text,
  PRIMARY KEY (task_name, worker_id)
);
