-- Jobs that failed for good, with the columns of Soniq 0.1.0.

CREATE TABLE IF NOT EXISTS soniq_dead_letter_jobs (
  id uuid PRIMARY KEY,
  job_name text NOT NULL,
  args jsonb NOT NULL,
  queue text NOT NULL,
  priority integer NOT NULL,
  max_attempts integer NOT NULL,
  attempts integer NOT NULL,
  last_error text,
  dead_letter_reason text NOT NULL,
  original_created_at timestamptz NOT NULL,
  moved_to_dead_letter_at timestamptz NOT NULL,
  resurrection_count integer DEFAULT 0,
  last_resurrection_at timestamptz,
  tags jsonb,
  created_at timestamptz DEFAULT now()
);

CREATE INDEX IF NOT EXISTS idx_soniq_dead_letter_jobs_moved_at
  ON soniq_dead_letter_jobs (moved_to_dead_letter_at);
