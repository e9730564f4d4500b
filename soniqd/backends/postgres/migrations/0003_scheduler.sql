-- Recurring jobs, with the columns of Soniq 0.1.0.

CREATE TABLE IF NOT EXISTS soniq_recurring_jobs (
  id uuid PRIMARY KEY,
  job_name text NOT NULL,
  schedule_type text NOT NULL CHECK (schedule_type IN ('interval', 'cron')),
  schedule_value text NOT NULL,
  priority integer NOT NULL DEFAULT 100,
  queue text NOT NULL DEFAULT 'default',
  max_attempts integer NOT NULL DEFAULT 3,
  job_kwargs jsonb NOT NULL DEFAULT '{}'::jsonb,
  status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused')),
  created_at timestamptz DEFAULT now(),
  last_run timestamptz,
  next_run timestamptz,
  run_count integer NOT NULL DEFAULT 0,
  last_job_id uuid,
  updated_at timestamptz DEFAULT now()
);
