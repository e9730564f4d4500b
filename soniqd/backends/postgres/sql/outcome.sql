-- name: complete_done
-- write the results of jobs that are done
-- found: one probe of the primary key each, whatever the planner believes about the table's size; materialized, since a
-- planner left free (behind a pooler) may join by claim numbers first, of which most are the same. The fence is checked
-- again by the DELETE, on the newest version of the row if it has to wait for another writer.
-- The answer is a number; only if some were not changed, it names those that were.
WITH answer AS MATERIALIZED (
  SELECT * FROM unnest(
    %(ids)s::uuid[], %(claim_nos)s::bigint[], %(results)s::text[], %(ttls_s)s::float8[]
  ) AS a (id, claim_no, result, ttl_s)
), found AS MATERIALIZED (
  SELECT a.claim_no, a.result, a.ttl_s, r.row
  FROM answer a CROSS JOIN LATERAL (SELECT j.ctid AS row FROM soniq_jobs j WHERE j.id = a.id LIMIT 1) r
), gone AS (
  DELETE FROM soniq_jobs j USING found a
  WHERE j.ctid = a.row AND j.worker_id = %(worker_id)s::uuid AND j.claim_no = a.claim_no
  RETURNING j.id, j.seq, j.job_name, j.args, j.queue, j.priority, j.attempts, j.max_attempts, j.crashes,
            j.interruptions, j.unique_job, j.dedup_key, j.producer_id, j.worker_id, j.claim_no, j.last_error,
            j.created_at, j.due_at, j.started_at, a.result, a.ttl_s
), kept AS (
  INSERT INTO soniq_finished_jobs
    (id, seq, job_name, args, status, queue, priority, attempts, max_attempts, crashes, interruptions, unique_job,
     dedup_key, producer_id, worker_id, outcome_no, last_error, result, created_at, due_at, started_at, finished_at,
     expires_at)
  SELECT id, seq, job_name, args, 'done', queue, priority, attempts + 1, max_attempts, crashes, interruptions,
         unique_job, dedup_key, producer_id, worker_id, claim_no, last_error, result::json, created_at, due_at,
         started_at, now(), now() + ttl_s * interval '1 second'
  FROM gone WHERE ttl_s > 0
)
SELECT count(*)::int, CASE WHEN count(*) < (SELECT count(*) FROM answer) THEN array_agg(id::text) END FROM gone;

-- name: complete_mixed
-- write outcomes of jobs
-- gone: leaves the hot table, for the history (done) or the dead letters (dead).
-- held: goes back to its queue; locked first, so that two of one batch cannot both keep the same key.
WITH answer AS (
  SELECT * FROM unnest(
    %(kinds)s::text[], %(ids)s::uuid[], %(worker_ids)s::uuid[], %(claim_nos)s::bigint[], %(outcome_nos)s::bigint[],
    %(attempts)s::int[], %(crashes)s::int[], %(interruptions)s::int[], %(delays_s)s::float8[], %(texts)s::text[],
    %(reasons)s::text[], %(ttls_s)s::float8[]
  ) AS a (kind, id, worker_id, claim_no, outcome_no, attempts, crashes, interruptions, delay_s, words, reason, ttl_s)
), found AS MATERIALIZED (
  SELECT a.*, r.row
  FROM answer a CROSS JOIN LATERAL (SELECT j.ctid AS row FROM soniq_jobs j WHERE j.id = a.id LIMIT 1) r
  WHERE a.kind <> 'back'
), gone AS (
  DELETE FROM soniq_jobs j USING found a
  WHERE j.ctid = a.row AND j.worker_id IS NOT DISTINCT FROM a.worker_id AND j.claim_no = a.claim_no
    AND j.status <> 'queued'
  RETURNING j.*, a.kind, a.attempts AS tried, a.crashes AS lost, a.interruptions AS halted,
            coalesce(a.outcome_no, j.outcome_no) AS said, a.words, a.reason, a.ttl_s
), kept AS (
  INSERT INTO soniq_finished_jobs
    (id, seq, job_name, args, status, queue, priority, attempts, max_attempts, crashes, interruptions, unique_job,
     dedup_key, producer_id, worker_id, outcome_no, last_error, result, created_at, due_at, started_at, finished_at,
     expires_at)
  SELECT id, seq, job_name, args, 'done', queue, priority, attempts + tried, max_attempts, crashes,
         interruptions, unique_job, dedup_key, producer_id, worker_id, said, last_error, words::json, created_at,
         due_at, started_at, now(), now() + ttl_s * interval '1 second'
  FROM gone WHERE kind = 'done' AND ttl_s > 0
), buried AS (
  INSERT INTO soniq_dead_letter_jobs
    (id, seq, job_name, args, queue, priority, max_attempts, attempts, crashes, interruptions, unique_job, dedup_key,
     producer_id, worker_id, outcome_no, last_error, dead_letter_reason, original_created_at,
     moved_to_dead_letter_at, due_at, started_at)
  SELECT id, seq, job_name, args, queue, priority, max_attempts, attempts + tried, crashes + lost,
         interruptions + halted, unique_job, dedup_key, producer_id, worker_id, said,
         coalesce(words, last_error, ''), reason, created_at, now(), due_at, started_at
  FROM gone WHERE kind = 'dead'
), held AS MATERIALIZED (
  SELECT a.*, r.*
  FROM answer a CROSS JOIN LATERAL (
    SELECT j.ctid AS row, j.job_name, j.args_hash, j.unique_job, j.dedup_key FROM soniq_jobs j
    WHERE j.id = a.id AND j.worker_id IS NOT DISTINCT FROM a.worker_id AND j.claim_no = a.claim_no
      AND j.status <> 'queued'
    FOR UPDATE) r
  WHERE a.kind = 'back'
), keyed AS (
  SELECT h.*,
         h.unique_job AND NOT %(give_up_keys)s::boolean
           AND row_number() OVER (PARTITION BY h.unique_job, h.job_name, h.args_hash ORDER BY h.id) = 1
           AND NOT EXISTS (SELECT FROM soniq_jobs t WHERE t.status = 'queued' AND t.unique_job
                             AND t.job_name = h.job_name AND t.args_hash = h.args_hash) AS keeps_unique,
         NOT %(give_up_keys)s::boolean
           AND row_number() OVER (PARTITION BY h.dedup_key ORDER BY h.id) = 1
           AND NOT EXISTS (SELECT FROM soniq_jobs t WHERE t.status = 'queued' AND t.dedup_key IS NOT NULL
                             AND t.dedup_key = h.dedup_key) AS keeps_dedup
  FROM held h
), back AS (
  UPDATE soniq_jobs j
  SET status = 'queued', worker_id = NULL, started_at = NULL, updated_at = now(),
      outcome_no = coalesce(k.outcome_no, j.outcome_no),
      attempts = j.attempts + k.attempts, crashes = j.crashes + k.crashes,
      interruptions = j.interruptions + k.interruptions,
      scheduled_at = CASE WHEN k.delay_s > 0 THEN now() + k.delay_s * interval '1 second' END,
      due_at = CASE WHEN k.delay_s IS NULL THEN j.due_at WHEN k.delay_s <= 0 THEN now() END,
      last_error = coalesce(k.words, j.last_error),
      unique_job = k.keeps_unique,
      dedup_key = CASE WHEN k.keeps_dedup THEN j.dedup_key END
  FROM keyed k WHERE j.ctid = k.row
  RETURNING j.id, j.queue, j.scheduled_at
), told_now AS (
  SELECT pg_notify('soniq_new_job', queue) AS told FROM back WHERE scheduled_at IS NULL GROUP BY queue
), told_due AS (
  SELECT pg_notify('soniq_due', extract(epoch FROM min(scheduled_at))::text) AS told
  FROM back WHERE scheduled_at IS NOT NULL HAVING count(*) > 0
)
SELECT c.id::text, (SELECT count(told) FROM told_now), (SELECT count(told) FROM told_due)
FROM (SELECT id FROM gone UNION ALL SELECT id FROM back) c;

-- name: settled
-- look whether outcomes were written
SELECT a.id::text
FROM unnest(%(ids)s::uuid[], %(claim_nos)s::bigint[], %(kept)s::boolean[]) AS a (id, claim_no, kept)
LEFT JOIN LATERAL (SELECT r.outcome_no FROM soniq_job_records r WHERE r.id = a.id LIMIT 1) r ON true
WHERE CASE WHEN r.outcome_no IS NULL THEN NOT a.kept ELSE r.outcome_no = a.claim_no END;
