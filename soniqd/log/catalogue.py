"""Every event that soniqd logs, with its level and wording, grouped by the layer that emits it."""

from __future__ import annotations

from logging import DEBUG, ERROR, INFO, WARNING

from soniqd.log.event import Event

# jobs (worker/)
JOB_FENCED = Event(
    "job_fenced", WARNING, "job {job_id} was taken away from worker {worker_id}: its late {outcome} is refused"
)

JOB_RETRIED = Event(
    "job_retried",
    WARNING,
    "{job_name} ({job_id}) failed in attempt {attempt} of {max_attempts}, again in {delay_s:.1f} s: {error}",
)
JOB_DEAD_LETTERED = Event("job_dead_lettered", ERROR, "{job_name} ({job_id}) is a dead letter now, {reason}: {error}")
JOB_INTERRUPTED = Event("job_interrupted", INFO, "{job_name} ({job_id}) was cut short and is queued again")
JOB_OVERRUN = Event(
    "job_overrun", WARNING, "{job_name} ({job_id}) {what} after {ran_s:.1f} s, with a timeout of {timeout_s:g} s"
)
JOB_RESULT_DROPPED = Event(
    "job_result_dropped", WARNING, "{job_name} ({job_id}) is done, its result is not kept: {error}"
)
JOB_LEFT_BEHIND = Event(
    "job_left_behind", WARNING, "{job_name} ({job_id}) does not end: its code is left behind, its job queued again"
)
JOB_FORKED = Event(
    "job_forked",
    ERROR,
    "job {job_id} has called os.fork(), and its copy of the worker went on as if it were one: the copy is ended; "
    "end such processes with os._exit(), or use subprocess",
)
JOB_ENDED_TOO_LATE = Event(
    "job_ended_too_late", WARNING, "{job_name} ({job_id}) ended after its job was given back: what it did is not kept"
)
HOOKS_CUT_SHORT = Event("hooks_cut_short", WARNING, "the hooks after {job_name} ({job_id}) were cut short: {error}")
RETRY_POLICY_FAILED = Event(
    "retry_policy_failed", ERROR, "the retry policy failed for {job_name} ({job_id}), its task's rule is used: {error}"
)
OUTCOME_REFUSED = Event(
    "outcome_refused", ERROR, "the database refuses what job {job_id} ended with, {outcome} is kept without: {error}"
)
OUTCOMES_UNWRITTEN = Event(
    "outcomes_unwritten", ERROR, "worker {worker_id} leaves with {count} outcomes unwritten: those jobs will run again"
)
LOST_CLAIMS_FOUND = Event(
    "lost_claims_found", WARNING, "worker {worker_id} found {count} jobs that a broken claim had taken: it runs them"
)
SUSPECT_STARTED = Event(
    "suspect_started", WARNING, "job {job_id} ({job_name}) runs alone, since workers were lost while it ran: {crashes}"
)
PREFETCHED_GIVEN_BACK = Event(
    "prefetched_given_back", DEBUG, "worker {worker_id} gave {count} jobs back that found no slot in time"
)
WORKER_RENEWED = Event(
    "worker_renewed", WARNING, "worker {worker_id} was declared lost though it lives: it goes on as {successor_id}"
)
WORKER_DATABASE_LOST = Event("worker_database_lost", WARNING, "worker {worker_id} lost the database: {error}")
WORKER_DATABASE_BACK = Event(
    "worker_database_back", INFO, "worker {worker_id} has the database back after {outage_s:.1f} s"
)
WORKER_DUTY_FAILED = Event("worker_duty_failed", WARNING, "worker {worker_id} cannot {duty} now: {error}")

# applications (queue/, app/)
HOOK_FAILED = Event("hook_failed", WARNING, "hook {hook} failed for {job_name} ({job_id}): {error}")
METRICS_SINK_FAILED = Event(
    "metrics_sink_failed", WARNING, "metrics sink failed in {method} for {job_name} ({job_id}): {error}"
)
UNREGISTERED_TASK = Event(
    "unregistered_task",
    WARNING,
    'enqueueing {job_name}, which is not declared here (setting enqueue_validation is "warn"); said once a name',
)
POOL_TOO_SMALL = Event("pool_too_small", WARNING, "{problem}: jobs will wait for each other's connections")

# database (backends/)
LISTENER_LIVE = Event("listener_live", DEBUG, "the database tells of new jobs as they come")
LISTENER_LOST = Event(
    "listener_lost", WARNING, "the database tells of new jobs no longer, looking for them meanwhile: {error}"
)
LISTENER_DEAF = Event(
    "listener_deaf",
    WARNING,
    "notifications of the database do not arrive (a pooler in transaction mode?): looking for jobs each second instead",
)
VACUUMED = Event("vacuumed", DEBUG, "removed {removed} dead rows of jobs in {took_s:.2f} s, {left} are left")
VACUUM_FAILED = Event(
    "vacuum_failed", WARNING, "{error}; autovacuum goes on, and this is tried again ever more rarely, said once"
)
VACUUM_NOT_PERMITTED = Event(
    "vacuum_not_permitted",
    WARNING,
    "soniqd may not vacuum the table of jobs, which has {dead_rows} dead rows: autovacuum alone removes them, once a "
    "minute, and claims get slower until then; grant the role that owns soniq_jobs to soniqd's role, which is noticed "
    "within minutes; said once",
)

# schedules (scheduler/)
SCHEDULER_LEADS = Event("scheduler_leads", INFO, "this scheduler leads now: it fires what is due")
SCHEDULER_FOLLOWS = Event("scheduler_follows", INFO, "this scheduler does not lead any more")
SCHEDULE_FIRED = Event(
    "schedule_fired", INFO, "schedule {schedule} enqueued {job_name}, due ticks: {count}, the last {late_s:.3f} s late"
)
SCHEDULE_REFUSED = Event("schedule_refused", ERROR, "cannot fire schedule {schedule}: {value!r} means no time: {error}")
SCHEDULER_DATABASE_LOST = Event("scheduler_database_lost", WARNING, "the scheduler lost the database: {error}")
SCHEDULER_DATABASE_BACK = Event(
    "scheduler_database_back", INFO, "the scheduler has the database back after {outage_s:.1f} s"
)

# children (roles/, forkserver/)
DESCRIPTORS_SHARED = Event(
    "descriptors_shared",
    WARNING,
    "the jobs modules left descriptors open at import, which all children of generation {generation} share: "
    "{descriptors}",
)
FORK_REQUEST_REFUSED = Event("fork_request_refused", ERROR, "cannot serve the master's request: {error}")
LINK_BROKEN = Event("link_broken", ERROR, "cannot follow the master: {error}")
MASTER_GONE = Event(
    "master_gone", WARNING, "{slot} lost its master: leaving, running jobs have {timeout_s:g} s to finish"
)
CHILD_OVERDUE = Event(
    "child_overdue", WARNING, "{slot} leaves with {unfinished} jobs not given back: its drain took too long"
)
CHILD_CANNOT_WORK = Event("child_cannot_work", ERROR, "{slot} cannot work: {error}")
CHILD_FAILED = Event("child_failed", ERROR, "{slot} failed: {error}")
LOOP_BLOCKED = Event(
    "loop_blocked", WARNING, "{slot} is kept from all its other work for {blocked_s:.1f} s by {what}: {where}"
)
LOOP_FREE = Event("loop_free", WARNING, "{slot} goes on with its other work, {what} keeps it no longer")
MONITOR_FAILED = Event("monitor_failed", ERROR, "{slot} cannot look after its event loop: {error}")
DATABASE_AWAITED = Event("database_awaited", WARNING, "{slot} waits for the database: {error}")
SCHEMA_UNUSABLE = Event("schema_unusable", WARNING, "{slot} waits for the database's schema: {error}")
ORPHAN_HEARTBEAT_FAILED = Event(
    "orphan_heartbeat_failed", WARNING, "{slot} cannot heartbeat without its master: {error}"
)

# supervision (supervisor/)
DAEMON_STARTED = Event("daemon_started", INFO, "soniqd {version} started with pid {pid}, jobs in {location}")
DAEMON_STOPPING = Event("daemon_stopping", INFO, "stopping on {reason}: running jobs have {timeout_s:g} s to finish")
DAEMON_STOPPING_NOW = Event("daemon_stopping_now", WARNING, "stopping now on {reason}: running jobs are given back")
DAEMON_STOPPED = Event("daemon_stopped", INFO, "soniqd has stopped with exit code {exit_code}")
GENERATION_BOOTED = Event(
    "generation_booted", INFO, "generation {generation} is ready to fork, tasks: {tasks}, imported in {import_s:.2f} s"
)
GENERATION_HAS_THREADS = Event(
    "generation_has_threads",
    WARNING,
    "the jobs modules start threads at import ({threads}): each child gets a fresh interpreter instead of a fork",
)
BOOT_FAILED = Event("boot_failed", ERROR, "generation {generation} cannot boot: {reason}")
BOOT_TRACEBACK = Event("boot_traceback", WARNING, "why generation {generation} cannot boot:")
FORK_SERVER_LOST = Event(
    "fork_server_lost", ERROR, "the fork server of generation {generation} ended with {cause}: starting it again"
)
FORK_SERVER_HUNG = Event(
    "fork_server_hung",
    ERROR,
    "the fork server of generation {generation} hangs, pid {pid}: no answer for {silent_s:.0f} s, killing it",
)
FORK_FAILED = Event("fork_failed", ERROR, "cannot fork {slot}: {reason}")
CHILD_FORKED = Event("child_forked", DEBUG, "{slot} has pid {pid} after {fork_ms:.0f} ms")
CHILD_READY = Event("child_ready", INFO, "{slot} is ready, pid {pid}, {ready_ms:.0f} ms after the fork request")
CHILD_LEFT = Event("child_left", INFO, "{slot} left, pid {pid}: {cause}")
CHILD_DIED = Event("child_died", WARNING, "{slot} died, pid {pid}: {cause}")
CHILD_HUNG = Event("child_hung", ERROR, "{slot} hangs, pid {pid}: its loop stood still for {silent_s:.0f} s")
CHILD_STACKS = Event("child_stacks", WARNING, "what {slot} did when it ended, pid {pid}, {running} jobs running:")
CHILD_KILLED = Event("child_killed", WARNING, "{slot} is killed, pid {pid}: it was {state} for too long")
CHILD_MISCONFIGURED = Event(
    "child_misconfigured", ERROR, "{slot} cannot run with this configuration: not starting it again before a reload"
)
CRASH_LOOP = Event(
    "crash_loop", ERROR, "{slot} crashed {failures} times in a row, last with {cause}: restarting it more slowly"
)
ORPHAN_REAPED = Event("orphan_reaped", DEBUG, "reaped pid {pid}, left behind by a child: {cause}")
JOBS_RELEASED = Event(
    "jobs_released", WARNING, "{slot} left jobs behind: {requeued} requeued, {dead_lettered} dead-lettered ({cause})"
)
LEFTOVERS_RELEASED = Event(
    "leftovers_released",
    WARNING,
    "{workers} workers of another soniqd on this host are gone: {requeued} jobs requeued, {dead_lettered} dead",
)
REMAINS_KILLED = Event(
    "remains_killed",
    WARNING,
    "killed {count} processes that jobs of {slot}, whose worker {worker_id} and master are gone, had left running",
)
WORKERS_SWEPT = Event(
    "workers_swept", WARNING, "{workers} workers are lost: {requeued} jobs requeued, {dead_lettered} dead-lettered"
)
WORKER_DISOWNED = Event(
    "worker_disowned", WARNING, "{slot} was declared lost by another host though it lives: replacing it, pid {pid}"
)
DATABASE_DOWN = Event("database_down", ERROR, "the database is away, jobs wait until it is back: {error}")
DATABASE_UNUSABLE = Event("database_unusable", ERROR, "jobs wait until the database can be used: {error}")
DATABASE_UP = Event("database_up", INFO, "the database is there: {location}")
DUTY_FAILED = Event("duty_failed", ERROR, "cannot {duty}: {error}")
SOCKETS_NOT_USED = Event(
    "sockets_not_used", WARNING, "the service manager passed sockets that soniqd has no use for: {sockets}"
)
RELOAD_STARTED = Event("reload_started", INFO, "reloading on {reason}")
RELOAD_DONE = Event(
    "reload_done", INFO, "reload done: generation {generation}, {replaced} children replaced, {kept} not concerned"
)
RELOAD_CHANGED_NOTHING = Event(
    "reload_changed_nothing",
    INFO,
    "neither code nor configuration has changed, so all children stay, and the next ones come from generation "
    '{generation}; "soniqctl reload --all" replaces them all the same',
)
CODE_CHANGED_UNASKED = Event(
    "code_changed_unasked",
    WARNING,
    "the fork server of generation {generation} had to import again, and found other code ({parts}): new children run "
    "that, the others do not; a reload ends this",
)
CONNECTIONS_SHORT = Event("connections_short", ERROR, "the database server may run out of connections: {problem}")
CONNECTIONS_SUFFICE = Event("connections_suffice", INFO, "the database server leaves connections enough again")
RELOAD_FAILED = Event("reload_failed", ERROR, "reload failed, generation {generation} goes on: {error}")
CANARIES_PASSED = Event(
    "canaries_passed", INFO, "generation {generation} has lasted its probation of {probation_s:g} s, replacing the rest"
)
GROUP_STILL_DOWN = Event(
    "group_still_down", ERROR, "{group} did not run before the reload, and does not with it; the others go on: {reason}"
)
RESTART_STARTED = Event("restart_started", INFO, "restarting {groups} on {reason}, child by child")
RESTART_DONE = Event("restart_done", INFO, "restarted {groups}: {replaced} children replaced")
RESTART_FAILED = Event("restart_failed", ERROR, "cannot restart {groups}, {replaced} children were replaced: {error}")
GROUP_SCALED = Event("group_scaled", INFO, "{group} gets {processes} processes instead of {before}, on {reason}")
SCALE_REFUSED = Event("scale_refused", WARNING, "not scaling on {reason}: {error}")
MEMORY_UNREADABLE = Event(
    "memory_unreadable", ERROR, "cannot measure the memory of workers, so max_memory does nothing: {error}"
)
CHILD_RECYCLED = Event("child_recycled", INFO, "{slot} is replaced after {reason}, pid {pid}")
CONNECTIONS_EXHAUSTED = Event("connections_exhausted", ERROR, "{slot} cannot be started: {reason}")
UPGRADE_STARTED = Event(
    "upgrade_started", INFO, "upgrading in place on {reason}: asking the soniqd on disk whether it could go on"
)
UPGRADE_LEAVES = Event("upgrade_leaves", INFO, "soniqd {version} hands over to soniqd {successor}")
UPGRADE_DONE = Event(
    "upgrade_done",
    INFO,
    "soniqd {version} goes on where soniqd {before} stood, with {children} children, pid {pid}; {gap_ms:.0f} ms "
    "without a master",
)
UPGRADE_FAILED = Event("upgrade_failed", ERROR, "upgrade failed, soniqd {version} goes on: {error}")
TAKEOVER_FAILED = Event(
    "takeover_failed",
    ERROR,
    "soniqd {version} cannot go on where its predecessor stood, and starts anew; the children finish what runs and "
    "leave: {error}",
)
FORK_SERVER_OUTDATED = Event(
    "fork_server_outdated",
    WARNING,
    "the fork server of generation {generation} speaks protocol {theirs}, soniqd {version} speaks {ours}: starting it "
    "again, with the code on disk now; its children go on",
)
PAUSED = Event("paused", INFO, "claiming nothing more in {groups}")
RESUMED = Event("resumed", INFO, "claiming again in {groups}")

# control (control/)
CONTROL_ACCEPT_FAILED = Event("control_accept_failed", WARNING, "cannot accept on the control socket: {error}")
CONTROL_PEER_REFUSED = Event(
    "control_peer_refused", WARNING, "refused pid {pid} of user {uid} on the control socket: it may not control soniqd"
)
CONTROL_BUSY = Event("control_busy", WARNING, "refused a client of the control socket: it has {clients} already")
CONTROL_HANDLER_FAILED = Event("control_handler_failed", ERROR, "cannot carry out {command}: {error}")
STATE_DUMPED = Event("state_dumped", INFO, "state: {state}")
