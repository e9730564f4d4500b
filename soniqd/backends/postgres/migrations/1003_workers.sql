-- Workers are incarnations: a row for each process that ever claimed, named by its own id.
--
-- Soniq's unique index on (hostname, pid) made a container that restarts as pid 1 fight with its predecessor's row.
-- Heartbeats are frequent updates of few rows: without an index on what they change, and with room in the page, they
-- are heap-only updates that leave no index entry behind.

DROP INDEX IF EXISTS idx_soniq_workers_host_pid;
DROP INDEX IF EXISTS idx_soniq_workers_last_heartbeat;
DROP INDEX IF EXISTS idx_soniq_workers_status;
DROP INDEX IF EXISTS idx_soniq_task_registry_task_name;

ALTER TABLE soniq_workers
  ADD COLUMN machine_id text NOT NULL DEFAULT '',
  ADD COLUMN boot_id text NOT NULL DEFAULT '',
  ADD COLUMN pid_namespace bigint NOT NULL DEFAULT 0,
  ADD COLUMN start_ticks bigint NOT NULL DEFAULT 0,
  ADD COLUMN supervised boolean NOT NULL DEFAULT false,
  ADD COLUMN slot text NOT NULL DEFAULT '';

ALTER TABLE soniq_workers SET (
  fillfactor = 50,
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 200,
  autovacuum_vacuum_cost_delay = 0
);

CREATE INDEX soniq_task_registry_worker_id ON soniq_task_registry (worker_id);
