-- :register_worker Store an incarnation, or its news; a stopped one stays stopped.
INSERT INTO soniq_workers (id, machine_id, hostname, boot_id, pid_namespace, pid, start_ticks, queues, concurrency,
                           status, version, supervised, slot, metadata, last_heartbeat, started_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE
SET queues = excluded.queues, concurrency = excluded.concurrency, status = excluded.status,
    version = excluded.version, supervised = excluded.supervised, slot = excluded.slot,
    metadata = excluded.metadata, last_heartbeat = excluded.last_heartbeat
WHERE soniq_workers.status <> 'stopped'

-- :forget_names Forget the task names of a worker.
DELETE FROM soniq_task_registry WHERE worker_id = ?

-- :register_names Note the task names of a worker.
INSERT INTO soniq_task_registry (worker_id, task_name, defaults)
SELECT ?, json_extract(value, '$.name'), json_extract(value, '$.defaults') FROM json_each(?)

-- :beat Mark workers as alive that are not stopped.
UPDATE soniq_workers SET last_heartbeat = ? WHERE id IN (SELECT value FROM json_each(?)) AND status <> 'stopped'

-- :living Which of these workers are not stopped.
SELECT json_group_array(id) FROM soniq_workers WHERE id IN (SELECT value FROM json_each(?)) AND status <> 'stopped'

-- :set_worker_status Set the status of workers that are not stopped.
UPDATE soniq_workers SET status = ?, last_heartbeat = ?
WHERE id IN (SELECT value FROM json_each(?)) AND status <> 'stopped'

-- :workers Workers that are not stopped, or those that are, with the number of jobs in hand.
SELECT w.*, :now - last_heartbeat AS age,
       (SELECT count(*) FROM soniq_jobs j WHERE j.worker_id = w.id AND j.status = 'processing') AS jobs_processing
FROM soniq_workers w
WHERE (status = 'stopped') = :stopped AND (:stale_after_s IS NULL OR :now - last_heartbeat > :stale_after_s)
  AND (:machine_id IS NULL OR machine_id = :machine_id) AND (:hostname IS NULL OR hostname = :hostname)
ORDER BY started_at, id

-- :stop_workers Mark workers as stopped, whatever they are.
UPDATE soniq_workers SET status = 'stopped' WHERE id IN (SELECT value FROM json_each(?))

-- :note_end Keep how workers ended.
UPDATE soniq_workers SET metadata = json_set(coalesce(metadata, '{}'), '$.ended', ?)
WHERE id IN (SELECT value FROM json_each(?)) AND status <> 'stopped'

-- :silent_workers Workers whose heartbeat is too old.
SELECT json_group_array(id) FROM soniq_workers WHERE status <> 'stopped' AND ? - last_heartbeat > ?

-- :holders_not_living Holders of jobs that are stopped or unknown.
SELECT json_group_array(worker_id) FROM (
  SELECT DISTINCT worker_id FROM soniq_jobs WHERE status = 'processing'
    AND worker_id NOT IN (SELECT id FROM soniq_workers WHERE status <> 'stopped')
)

-- :prune_workers Delete workers stopped long ago that hold nothing.
DELETE FROM soniq_workers WHERE id IN (
  SELECT id FROM soniq_workers w WHERE status = 'stopped' AND last_heartbeat < ?
    AND NOT EXISTS (SELECT 1 FROM soniq_jobs j WHERE j.worker_id = w.id AND j.status = 'processing')
  LIMIT ?
)

-- :prune_ticks Delete ticks fired long ago.
DELETE FROM soniq_schedule_ticks WHERE (schedule, tick_at) IN (
  SELECT schedule, tick_at FROM soniq_schedule_ticks WHERE tick_at < ? LIMIT ?
)
