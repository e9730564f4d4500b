-- Names and columns follow the PostgreSQL schema. Times are seconds since the epoch, booleans 0 or 1.

CREATE TABLE soniq_jobs (
  seq           INTEGER PRIMARY KEY,
  id            TEXT    NOT NULL UNIQUE,
  job_name      TEXT    NOT NULL,
  status        TEXT    NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'processing')),
  queue         TEXT    NOT NULL DEFAULT 'default',
  priority      INTEGER NOT NULL DEFAULT 100,
  attempts      INTEGER NOT NULL DEFAULT 0,
  max_attempts  INTEGER NOT NULL DEFAULT 4,
  crashes       INTEGER NOT NULL DEFAULT 0,
  interruptions INTEGER NOT NULL DEFAULT 0,
  worker_id     TEXT,
  claim_no      INTEGER NOT NULL DEFAULT 0,
  outcome_no    INTEGER NOT NULL DEFAULT 0,
  unique_job    INTEGER NOT NULL DEFAULT 0,
  args_hash     TEXT,
  dedup_key     TEXT,
  scheduled_at  REAL,
  due_at        REAL,
  started_at    REAL,
  created_at    REAL    NOT NULL,
  updated_at    REAL    NOT NULL,
  producer_id   TEXT,
  last_error    TEXT,
  args          TEXT    NOT NULL
);

-- The claim's order within one pair; the rowid at the end of every index is seq.
CREATE INDEX soniq_jobs_claim ON soniq_jobs (queue, job_name, priority)
  WHERE status = 'queued' AND scheduled_at IS NULL;

CREATE INDEX soniq_jobs_due ON soniq_jobs (scheduled_at)
  WHERE status = 'queued' AND scheduled_at IS NOT NULL;

CREATE UNIQUE INDEX soniq_jobs_unique_queued ON soniq_jobs (job_name, args_hash)
  WHERE status = 'queued' AND unique_job = 1;

CREATE UNIQUE INDEX soniq_jobs_dedup_key ON soniq_jobs (dedup_key)
  WHERE status = 'queued' AND dedup_key IS NOT NULL;

CREATE INDEX soniq_jobs_held ON soniq_jobs (worker_id)
  WHERE status = 'processing';

CREATE TABLE soniq_finished_jobs (
  id            TEXT    NOT NULL PRIMARY KEY,
  seq           INTEGER NOT NULL,
  job_name      TEXT    NOT NULL,
  status        TEXT    NOT NULL CHECK (status IN ('done', 'cancelled')),
  queue         TEXT    NOT NULL,
  priority      INTEGER NOT NULL,
  attempts      INTEGER NOT NULL,
  max_attempts  INTEGER NOT NULL,
  crashes       INTEGER NOT NULL,
  interruptions INTEGER NOT NULL,
  worker_id     TEXT,
  outcome_no    INTEGER NOT NULL,
  unique_job    INTEGER NOT NULL,
  dedup_key     TEXT,
  due_at        REAL,
  started_at    REAL,
  created_at    REAL    NOT NULL,
  finished_at   REAL    NOT NULL,
  expires_at    REAL    NOT NULL,
  producer_id   TEXT,
  last_error    TEXT,
  args          TEXT    NOT NULL,
  result        TEXT
);

CREATE INDEX soniq_finished_jobs_expiry ON soniq_finished_jobs (expires_at);

CREATE INDEX soniq_finished_jobs_created ON soniq_finished_jobs (created_at, seq);

CREATE TABLE soniq_dead_letter_jobs (
  id                      TEXT    NOT NULL PRIMARY KEY,
  seq                     INTEGER NOT NULL,
  job_name                TEXT    NOT NULL,
  queue                   TEXT    NOT NULL,
  priority                INTEGER NOT NULL,
  attempts                INTEGER NOT NULL,
  max_attempts            INTEGER NOT NULL,
  crashes                 INTEGER NOT NULL,
  interruptions           INTEGER NOT NULL,
  worker_id               TEXT,
  outcome_no              INTEGER NOT NULL,
  unique_job              INTEGER NOT NULL,
  dedup_key               TEXT,
  due_at                  REAL,
  started_at              REAL,
  producer_id             TEXT,
  last_error              TEXT,
  dead_letter_reason      TEXT    NOT NULL,
  original_created_at     REAL    NOT NULL,
  moved_to_dead_letter_at REAL    NOT NULL,
  resurrection_count      INTEGER NOT NULL DEFAULT 0,
  last_resurrection_at    REAL,
  tags                    TEXT,
  created_at              REAL    NOT NULL,
  args                    TEXT    NOT NULL
);

CREATE INDEX soniq_dead_letter_jobs_moved ON soniq_dead_letter_jobs (moved_to_dead_letter_at, seq);

CREATE INDEX soniq_dead_letter_jobs_created ON soniq_dead_letter_jobs (original_created_at, seq);

CREATE TABLE soniq_workers (
  id             TEXT    NOT NULL PRIMARY KEY,
  machine_id     TEXT    NOT NULL,
  hostname       TEXT    NOT NULL,
  boot_id        TEXT    NOT NULL,
  pid_namespace  INTEGER NOT NULL,
  pid            INTEGER NOT NULL,
  start_ticks    INTEGER NOT NULL,
  queues         TEXT    NOT NULL,
  concurrency    INTEGER NOT NULL,
  status         TEXT    NOT NULL CHECK (status IN ('active', 'stopping', 'stopped')),
  version        TEXT    NOT NULL,
  supervised     INTEGER NOT NULL,
  slot           TEXT    NOT NULL,
  metadata       TEXT    NOT NULL,
  last_heartbeat REAL    NOT NULL,
  started_at     REAL    NOT NULL
);

CREATE TABLE soniq_task_registry (
  task_name TEXT NOT NULL,
  worker_id TEXT NOT NULL REFERENCES soniq_workers (id) ON DELETE CASCADE,
  PRIMARY KEY (worker_id, task_name)
) WITHOUT ROWID;

CREATE TABLE soniq_queues (
  name   TEXT    NOT NULL PRIMARY KEY,
  paused INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE soniq_recurring_jobs (
  name           TEXT    NOT NULL PRIMARY KEY,
  job_name       TEXT    NOT NULL,
  schedule_type  TEXT    NOT NULL CHECK (schedule_type IN ('interval', 'cron')),
  schedule_value TEXT    NOT NULL,
  timezone       TEXT    NOT NULL,
  missed         TEXT    NOT NULL,
  queue          TEXT    NOT NULL,
  priority       INTEGER NOT NULL,
  max_attempts   INTEGER NOT NULL,
  job_kwargs     TEXT    NOT NULL,
  status         TEXT    NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused')),
  next_run       REAL    NOT NULL,
  last_run       REAL,
  last_job_id    TEXT,
  run_count      INTEGER NOT NULL DEFAULT 0,
  created_at     REAL    NOT NULL,
  updated_at     REAL    NOT NULL
);

CREATE TABLE soniq_schedule_ticks (
  schedule TEXT NOT NULL,
  tick_at  REAL NOT NULL,
  job_id   TEXT NOT NULL,
  PRIMARY KEY (schedule, tick_at)
) WITHOUT ROWID;

CREATE INDEX soniq_schedule_ticks_age ON soniq_schedule_ticks (tick_at);
