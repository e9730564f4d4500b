-- How many jobs each queue has in each status, kept up to date by triggers, so that nobody counts a million rows.
--
-- A trigger costs half a microsecond a row: a job costs 2 to 3 in all, of some 40. Counting by the code that writes
-- would cost nothing, but a process of an older release, still running, would make the counts wrong for good.

CREATE TABLE soniq_counts (
  queue  TEXT    NOT NULL,
  status TEXT    NOT NULL,
  jobs   INTEGER NOT NULL,
  PRIMARY KEY (queue, status)
) WITHOUT ROWID;

INSERT INTO soniq_counts
SELECT queue, status, count(*) FROM soniq_jobs GROUP BY queue, status
UNION ALL
SELECT queue, status, count(*) FROM soniq_finished_jobs GROUP BY queue, status
UNION ALL
SELECT queue, 'dead_letter', count(*) FROM soniq_dead_letter_jobs GROUP BY queue;

CREATE TRIGGER soniq_count_stored AFTER INSERT ON soniq_jobs BEGIN
  INSERT INTO soniq_counts VALUES (new.queue, new.status, 1) ON CONFLICT (queue, status) DO UPDATE SET jobs = jobs + 1
; END;

CREATE TRIGGER soniq_count_moved AFTER UPDATE OF status, queue ON soniq_jobs
WHEN old.status <> new.status OR old.queue <> new.queue BEGIN
  UPDATE soniq_counts SET jobs = jobs - 1 WHERE queue = old.queue AND status = old.status
; INSERT INTO soniq_counts VALUES (new.queue, new.status, 1) ON CONFLICT (queue, status) DO UPDATE SET jobs = jobs + 1
; END;

CREATE TRIGGER soniq_count_gone AFTER DELETE ON soniq_jobs BEGIN
  UPDATE soniq_counts SET jobs = jobs - 1 WHERE queue = old.queue AND status = old.status
; END;

CREATE TRIGGER soniq_count_finished AFTER INSERT ON soniq_finished_jobs BEGIN
  INSERT INTO soniq_counts VALUES (new.queue, new.status, 1) ON CONFLICT (queue, status) DO UPDATE SET jobs = jobs + 1
; END;

CREATE TRIGGER soniq_count_pruned AFTER DELETE ON soniq_finished_jobs BEGIN
  UPDATE soniq_counts SET jobs = jobs - 1 WHERE queue = old.queue AND status = old.status
; END;

CREATE TRIGGER soniq_count_buried AFTER INSERT ON soniq_dead_letter_jobs BEGIN
  INSERT INTO soniq_counts VALUES (new.queue, 'dead_letter', 1) ON CONFLICT (queue, status) DO UPDATE SET jobs = jobs + 1
; END;

CREATE TRIGGER soniq_count_unearthed AFTER DELETE ON soniq_dead_letter_jobs BEGIN
  UPDATE soniq_counts SET jobs = jobs - 1 WHERE queue = old.queue AND status = 'dead_letter'
; END;
