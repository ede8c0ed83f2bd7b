-- The views: what is asked of the tables. Base views put an event's before and after together;
-- the others each answer one question. Times are UTC, shares are between 0 and 1, and a figure that
-- nothing is known about is null, never 0.

-- rounds --
-- One row: a round of a mission, its plan and its end.
CREATE VIEW rounds (
    mission, -- Id of the mission.
    round, -- Number of the round, from 1.
    started_at, -- When it began.
    planned_at, -- When its plan was made.
    ended_at, -- When it ended; null: it did not yet.
    planner, -- Which planner.
    planning_seconds, -- How long planning took.
    n_units, -- Units of its plan, those of replans included.
    n_landed, -- Units satisfied at its end.
    n_not_landed -- Units not satisfied at its end.
) AS
WITH sizes AS (
    SELECT mission, round, count(DISTINCT unit) AS n_units
    FROM plans JOIN planned_units USING (mission, seq) GROUP BY ALL
),
planned AS (
    SELECT mission, round, min(recorded_at) AS planned_at, arg_max(planner, seq) AS planner,
        sum(planning_seconds) AS planning_seconds, coalesce(any_value(n_units), 0) AS n_units
    FROM plans LEFT JOIN sizes USING (mission, round) GROUP BY ALL
),
begun AS (SELECT mission, round, min(recorded_at) AS started_at FROM round_starts GROUP BY ALL),
over AS (
    SELECT mission, round, max(recorded_at) AS ended_at, arg_max(n_landed, seq) AS n_landed,
        arg_max(n_not_landed, seq) AS n_not_landed
    FROM round_ends GROUP BY ALL
)
SELECT mission, round, started_at, planned_at, ended_at, planner, planning_seconds, n_units,
    n_landed, n_not_landed
FROM begun LEFT JOIN planned USING (mission, round) LEFT JOIN over USING (mission, round);

-- landed_units --
-- One row: a unit that landed, with the attempt and the commit that did.
CREATE VIEW landed_units (
    mission, -- Id of the mission.
    unit, -- Id of the unit.
    seq, -- Number of the landing's event.
    landed_at, -- When `green` took it.
    attempt, -- The attempt that landed.
    commit_id, -- Its commit in `green`.
    probe -- The probe that its tree passed in.
) AS
SELECT l.mission, l.unit, l.seq, g.recorded_at, s.attempt, s.commit_id, g.probe
FROM landing_units AS l
JOIN landings AS g ON g.mission = l.mission AND g.seq = l.seq
ASOF LEFT JOIN stackings AS s ON s.mission = l.mission AND s.unit = l.unit AND s.seq < l.seq;

-- attempts --
-- One row: an attempt at a unit, from its start to what became of it.
CREATE VIEW attempts (
    mission, -- Id of the mission.
    unit, -- Id of the unit; of a repair, its own name.
    attempt, -- Number of the attempt, from 1.
    purpose, -- `work`, or `fixup`: a repair of refused work.
    agent, -- Agent of the mission file.
    place, -- Host that it ran on.
    slot, -- Slot of that place, from 0.
    started_at, -- When it was started.
    ended_at, -- When it was over; null: not yet, or its driver died.
    until_at, -- `ended_at`; without one, when it cannot have gone on any more.
    run_seconds, -- From start to `ended_at`: workspace, agent and collecting.
    prepare_seconds, -- Time to get the workspace ready.
    agent_seconds, -- Wall time of the agent.
    collect_seconds, -- Time to bring the result home.
    cpu_seconds, -- CPU time of the agent's processes.
    peak_memory_bytes, -- Largest resident set.
    output_bytes, -- What the agent printed.
    cost_usd, -- What the agent said it cost; null: it did not say.
    outcome, -- How the run ended; null: not yet.
    fate, -- What became of it: `landed`, `rejected`, `conflicted`, `empty`, or its outcome.
    resolved_at, -- When that was certain; null: it is still with the train.
    charged, -- Whether it was the work's own fault and used up one of `max_attempts`.
    detail, -- Why, for people.
    head, -- Commit with the result.
    files, -- Paths that it changed.
    session, -- The agent's own id of its session.
    turns, -- Turns of the model; null: not told.
    input_tokens, -- Tokens that went in, cached ones included; null: not told.
    output_tokens, -- Tokens that came out; null: not told.
    cached_tokens, -- Tokens of the input that came from a cache; null: not told.
    limited_until, -- When the agent's account has quota again; null: it had.
    task_run_id -- Prefect task run.
) AS
WITH begun AS (
    SELECT mission, unit, attempt, min(seq) AS seq, min(recorded_at) AS started_at,
        arg_min(agent, seq) AS agent, arg_min(place, seq) AS place, arg_min(slot, seq) AS slot
    FROM attempt_starts GROUP BY ALL
),
following AS (
    SELECT *, lead(started_at) OVER (PARTITION BY mission, unit ORDER BY seq) AS next_at FROM begun
),
over AS (
    SELECT * FROM attempt_ends
    QUALIFY row_number() OVER (PARTITION BY mission, unit, attempt ORDER BY seq) = 1
),
greens AS (SELECT mission, seq, new_commit FROM landings),
places AS (
    SELECT mission, seq, string_agg(file, ', ' ORDER BY position) AS files
    FROM conflict_files GROUP BY ALL
),
refused AS (
    SELECT mission, unit, attempt, recorded_at, 'rejected' AS fate, true AS charged,
        reason AS detail
    FROM ejections
    UNION ALL
    SELECT c.mission, c.unit, c.attempt, c.recorded_at, 'conflicted', false,
        coalesce(nullif(c.detail, ''), 'in ' || p.files)
    FROM conflicts AS c
    LEFT JOIN places AS p ON p.mission = c.mission AND p.seq = c.seq
    ASOF JOIN greens AS g ON g.mission = c.mission AND g.seq < c.seq
    WHERE c.onto = g.new_commit
    UNION ALL
    SELECT e.mission, e.unit, e.attempt, e.recorded_at, 'empty', false,
        'what it does is there already'
    FROM empties AS e
    ASOF JOIN greens AS g ON g.mission = e.mission AND g.seq < e.seq
    WHERE e.onto = g.new_commit
    UNION ALL
    SELECT mission, unit, attempt, landed_at, 'landed', false, '' FROM landed_units
),
fates AS (
    SELECT mission, unit, attempt, first(fate) AS fate, bool_or(charged) AS charged,
        first(detail) AS detail, min(recorded_at) AS resolved_at
    FROM refused GROUP BY ALL
),
mending AS (SELECT DISTINCT mission, unnest(candidates) AS unit FROM repairs),
last_events AS (SELECT mission, max(recorded_at) AS last_at FROM events GROUP BY ALL)
SELECT b.mission, b.unit, b.attempt, CASE WHEN r.unit IS NULL THEN 'work' ELSE 'fixup' END, b.agent, b.place, b.slot, b.started_at, o.recorded_at,
    coalesce(o.recorded_at, b.next_at, l.last_at), epoch(o.recorded_at - b.started_at),
    o.prepare_seconds, o.agent_seconds, o.collect_seconds, o.cpu_seconds, o.peak_memory_bytes,
    o.output_bytes, o.cost_usd, o.outcome, coalesce(f.fate, o.outcome),
    coalesce(f.resolved_at, CASE WHEN o.outcome <> 'collected' THEN o.recorded_at END),
    coalesce(f.charged, false) OR coalesce(
        o.outcome IN ('failed', 'timed out', 'refused', 'rejected')
        OR (o.outcome = 'no change' AND NOT o.proven), false),
    coalesce(nullif(f.detail, ''), o.detail), o.head, o.files, o.session, o.turns, o.input_tokens,
    o.output_tokens, o.cached_tokens, o.limited_until, o.task_run_id
FROM following AS b
LEFT JOIN mending AS r USING (mission, unit)
LEFT JOIN over AS o USING (mission, unit, attempt)
LEFT JOIN fates AS f USING (mission, unit, attempt)
JOIN last_events AS l USING (mission);

-- units --
-- One row: a unit of a mission and where it stands.
CREATE VIEW units (
    mission, -- Id of the mission.
    unit, -- Id of the unit.
    round, -- Round that planned it last.
    position, -- Place in that plan, from 0.
    title, -- What it is about, in a line.
    depends_on, -- Ids of the units it needs first.
    planned_at, -- When it was first planned.
    ended_at, -- When it ended; null: it did not yet.
    status, -- `landed`, `no change`, `failed`, `blocked`, or `waiting`, `running`, `landing`.
    reason, -- Why it ended so, for people.
    n_attempts, -- Attempts started.
    n_charged, -- Attempts that were the work's own fault.
    cost_usd, -- What its agents said they cost; null: none said.
    attempt, -- The attempt that landed; null: none did.
    commit_id, -- Its commit in `green`; null: it did not land.
    landed_at -- When `green` took it.
) AS
WITH planned AS (
    SELECT u.mission, u.unit, min(p.recorded_at) AS planned_at, arg_max(p.round, p.seq) AS round,
        arg_max(u.position, p.seq) AS position, arg_max(u.title, p.seq) AS title,
        arg_max(u.depends_on, p.seq) AS depends_on
    FROM planned_units AS u JOIN plans AS p USING (mission, seq) GROUP BY ALL
),
ended AS (
    SELECT mission, unit, max(recorded_at) AS ended_at, arg_max(status, seq) AS status,
        arg_max(reason, seq) AS reason
    FROM unit_ends GROUP BY ALL
),
tried AS (
    SELECT mission, unit, count(*) AS n_attempts, count_if(charged) AS n_charged,
        sum(cost_usd) AS cost_usd, arg_max(outcome, attempt) AS last_outcome,
        arg_max(fate, attempt) AS last_fate, bool_or(ended_at IS NULL) AS unfinished
    FROM attempts GROUP BY ALL
),
landed AS (
    SELECT * FROM landed_units
    QUALIFY row_number() OVER (PARTITION BY mission, unit ORDER BY seq) = 1
)
SELECT p.mission, p.unit, p.round, p.position, p.title, p.depends_on, p.planned_at, e.ended_at,
    CASE
        WHEN e.status IS NOT NULL THEN e.status
        WHEN l.unit IS NOT NULL THEN 'landed'
        WHEN t.unfinished THEN 'running'
        WHEN t.last_fate = 'collected' THEN 'landing'
        ELSE 'waiting'
    END,
    e.reason, coalesce(t.n_attempts, 0), coalesce(t.n_charged, 0), t.cost_usd, l.attempt,
    l.commit_id, l.landed_at
FROM planned AS p
LEFT JOIN ended AS e USING (mission, unit)
LEFT JOIN tried AS t USING (mission, unit)
LEFT JOIN landed AS l USING (mission, unit);

-- asks --
-- One row: a question to an agent that gives an answer instead of work.
CREATE VIEW asks (
    mission, -- Id of the mission.
    ask, -- Number of the question in the mission, from 1.
    purpose, -- `plan` or `evaluate`.
    round, -- Number of the round, from 1.
    replan, -- How often the round's plan had been made anew.
    node, -- Part of the plan, such as `0.2`.
    agent, -- Agent of the mission file.
    place, -- Host that it ran on.
    slot, -- Slot of that place for questions, from 0.
    started_at, -- When it was asked.
    ended_at, -- When it was over; null: not yet, or its driver died.
    outcome, -- How it ended, such as `answered` or `unusable`; null: not yet.
    problem, -- What was wrong with the answer, for people.
    ask_seconds, -- From start to `ended_at`.
    agent_seconds, -- Wall time of the agent.
    cpu_seconds, -- CPU time of the agent's processes.
    cost_usd, -- What the agent said it cost; null: it did not say.
    session, -- The agent's own id of its session.
    turns, -- Turns of the model; null: not told.
    input_tokens, -- Tokens that went in, cached ones included; null: not told.
    output_tokens, -- Tokens that came out; null: not told.
    cached_tokens, -- Tokens of the input that came from a cache; null: not told.
    limited_until, -- When the agent's account has quota again; null: it had.
    task_run_id -- Prefect task run.
) AS
WITH begun AS (
    SELECT * FROM ask_starts QUALIFY row_number() OVER (PARTITION BY mission, ask ORDER BY seq) = 1
),
over AS (
    SELECT * FROM ask_ends QUALIFY row_number() OVER (PARTITION BY mission, ask ORDER BY seq) = 1
)
SELECT b.mission, b.ask, b.purpose, b.round, b.replan, b.node, b.agent, b.place, b.slot,
    b.recorded_at, o.recorded_at, o.outcome, o.problem, epoch(o.recorded_at - b.recorded_at),
    o.agent_seconds, o.cpu_seconds, o.cost_usd, o.session, o.turns, o.input_tokens,
    o.output_tokens, o.cached_tokens, o.limited_until, o.task_run_id
FROM begun AS b LEFT JOIN over AS o USING (mission, ask);

-- probes --
-- One row: a verification of one exact tree, from its start to what its verdict was good for
-- (that of the base and of `green` itself: `base`, `control`).
CREATE VIEW probes (
    mission, -- Id of the mission.
    probe, -- Number of the probe, from 1.
    seq, -- Number of its first event.
    kind, -- What it was asked about: `base`, `stack`, `screen`, `confirm`, …
    commit_id, -- The commit.
    tree, -- Its tree.
    n_units, -- How many units the tree holds above `green`.
    units, -- Their ids, bottom first.
    started_at, -- When it was started.
    ended_at, -- When there was a verdict; null: not yet, or its driver died.
    verdict, -- `passed`, `red` or `not a run`; null: none.
    reason, -- Why, for people.
    failing, -- Ids of failing tests.
    probe_seconds, -- From start to verdict.
    verify_seconds, -- Wall time of the verification.
    prepare_seconds, -- Time to get the workspace ready.
    cached, -- Whether an earlier pass of the same tree was taken, and nothing was run.
    good_for -- `landed`, `cleared`, `culprit`, `search`, `rejection`, `clash`, `flake`, …
) AS
WITH contents AS (
    SELECT mission, probe, list(unit ORDER BY position) AS units FROM probe_units GROUP BY ALL
),
landers AS (SELECT DISTINCT mission, probe FROM landings),
culprit_finders AS (SELECT DISTINCT mission, probe FROM culprits),
rejecters AS (SELECT DISTINCT mission, probe FROM ejections),
clashers AS (SELECT DISTINCT mission, probe FROM clashes),
flaked AS (
    SELECT mission, red_probe AS probe FROM flakes
    UNION SELECT mission, green_probe FROM flakes
),
over AS (
    SELECT * FROM probe_ends
    QUALIFY row_number() OVER (PARTITION BY mission, probe ORDER BY seq) = 1
)
SELECT s.mission, s.probe, s.seq, s.kind, s.commit_id, s.tree, s.n_units, coalesce(c.units, []),
    s.recorded_at, e.recorded_at, e.verdict, e.reason, e.failing,
    epoch(e.recorded_at - s.recorded_at), e.verify_seconds, e.prepare_seconds,
    coalesce(e.cached, false),
    CASE
        WHEN s.kind IN ('base', 'control', 'partner', 'repair') THEN s.kind
        WHEN e.verdict IS NULL THEN 'nothing'
        WHEN e.verdict = 'not a run' THEN 'not a run'
        WHEN f.probe IS NOT NULL THEN 'flake'
        WHEN l.probe IS NOT NULL THEN 'landed'
        WHEN r.probe IS NOT NULL THEN 'rejection'
        WHEN k.probe IS NOT NULL THEN 'culprit'
        WHEN x.probe IS NOT NULL THEN 'clash'
        WHEN s.kind IN ('screen', 'alone') AND e.verdict = 'passed' THEN 'cleared'
        WHEN s.kind IN ('stack', 'screen') AND e.verdict = 'red' THEN 'search'
        ELSE 'nothing'
    END
FROM probe_starts AS s
LEFT JOIN over AS e USING (mission, probe)
LEFT JOIN contents AS c USING (mission, probe)
LEFT JOIN landers AS l USING (mission, probe)
LEFT JOIN culprit_finders AS k USING (mission, probe)
LEFT JOIN rejecters AS r USING (mission, probe)
LEFT JOIN clashers AS x USING (mission, probe)
LEFT JOIN flaked AS f USING (mission, probe);

-- drives --
-- One row: a span of time in which a driver was at work on a mission.
CREATE VIEW drives (
    mission, -- Id of the mission.
    drive, -- Number of the span, from 1.
    started_at, -- When the driver took the mission up.
    ended_at, -- The last that it recorded.
    drive_seconds, -- From one to the other.
    slots -- Agents that it could run at once: as set, or as seen when more were in use.
) AS
WITH begun AS (
    SELECT mission, seq, recorded_at, settings FROM mission_starts
    UNION ALL SELECT mission, seq, recorded_at, settings FROM mission_resumes
),
spans AS (
    SELECT mission, seq, recorded_at AS started_at,
        TRY_CAST(settings ->> '$.backend.slots' AS INTEGER) AS slots,
        row_number() OVER w AS drive, coalesce(lead(seq) OVER w, 9223372036854775807) AS next_seq
    FROM begun WINDOW w AS (PARTITION BY mission ORDER BY seq)
),
seen AS (
    SELECT s.mission, s.drive, count(DISTINCT (a.place, a.slot)) AS lanes
    FROM spans AS s JOIN attempt_starts AS a
        ON a.mission = s.mission AND a.seq >= s.seq AND a.seq < s.next_seq
    GROUP BY ALL
)
SELECT s.mission, s.drive, s.started_at, max(e.recorded_at),
    epoch(max(e.recorded_at) - s.started_at), greatest(s.slots, n.lanes)
FROM spans AS s
JOIN events AS e ON e.mission = s.mission AND e.seq >= s.seq AND e.seq < s.next_seq
LEFT JOIN seen AS n ON n.mission = s.mission AND n.drive = s.drive
GROUP BY s.mission, s.drive, s.started_at, s.slots, n.lanes;

-- missions --
-- One row: a mission, how it stands or ended, and what it took.
CREATE VIEW missions (
    mission, -- Id of the mission.
    name, -- Name in the mission file.
    objective, -- What it is for.
    repository, -- Path or URL of the target repository.
    base_branch, -- Branch that it started from.
    base_commit, -- Tip of that branch at the start.
    green_branch, -- Branch that takes landed work.
    green_commit, -- Tip of `green` by the last landing; null: nothing ever passed.
    started_at, -- When it began.
    last_at, -- When something was last recorded.
    state, -- `finished`, `interrupted` or `unfinished` (driven now, or its driver died).
    stop_reason, -- Why it ended.
    detail, -- More about the reason.
    exit_code, -- Exit code of the command.
    active_seconds, -- Time that drivers were at work.
    n_rounds, -- Rounds begun.
    n_units, -- Units planned.
    n_landed, -- Units landed.
    n_no_change, -- Units that needed no change.
    n_failed, -- Units that failed.
    n_blocked, -- Units that depend on a failed one.
    n_open, -- Units that have not ended.
    n_attempts, -- Attempts started.
    n_attempts_without_cost, -- Attempts whose agent did not say what it cost.
    n_asks, -- Questions asked of agents: for plans and judgements.
    n_asks_without_cost, -- Questions whose agent did not say what it cost.
    cost_usd, -- What agents said attempts and questions cost; null: none said.
    version -- Version of the scheduler.
) AS
WITH turns AS (
    SELECT mission, seq, 'unfinished' AS state FROM mission_resumes
    UNION ALL SELECT mission, seq, 'interrupted' FROM mission_interruptions
    UNION ALL SELECT mission, seq, 'finished' FROM mission_ends
),
standing AS (SELECT mission, arg_max(state, seq) AS state FROM turns GROUP BY ALL),
ends AS (
    SELECT * FROM mission_ends
    QUALIFY row_number() OVER (PARTITION BY mission ORDER BY seq DESC) = 1
),
times AS (
    SELECT mission, sum(drive_seconds) AS active_seconds, max(ended_at) AS last_at
    FROM drives GROUP BY ALL
),
greens AS (SELECT mission, arg_max(new_commit, seq) AS green_commit FROM landings GROUP BY ALL),
began AS (SELECT mission, count(DISTINCT round) AS n_rounds FROM round_starts GROUP BY ALL),
counts AS (
    SELECT mission, count(*) AS n_units, count_if(status = 'landed') AS n_landed,
        count_if(status = 'no change') AS n_no_change, count_if(status = 'failed') AS n_failed,
        count_if(status = 'blocked') AS n_blocked,
        count_if(status IN ('waiting', 'running', 'landing')) AS n_open
    FROM units GROUP BY ALL
),
tries AS (
    SELECT mission, count(*) AS n_attempts, sum(cost_usd) AS cost_usd,
        count_if(cost_usd IS NULL) AS n_attempts_without_cost
    FROM attempts GROUP BY ALL
),
questions AS (
    SELECT mission, count(*) AS n_asks, sum(cost_usd) AS cost_usd,
        count_if(cost_usd IS NULL) AS n_asks_without_cost
    FROM asks GROUP BY ALL
)
SELECT m.mission, m.name, m.objective, m.repository, m.base_branch, m.base_commit, m.green_branch,
    g.green_commit, m.recorded_at, t.last_at, coalesce(s.state, 'unfinished'),
    CASE WHEN s.state = 'finished' THEN e.stop_reason END,
    CASE WHEN s.state = 'finished' THEN e.detail END,
    CASE WHEN s.state = 'finished' THEN e.exit_code END,
    t.active_seconds, coalesce(b.n_rounds, 0), coalesce(c.n_units, 0), coalesce(c.n_landed, 0),
    coalesce(c.n_no_change, 0), coalesce(c.n_failed, 0), coalesce(c.n_blocked, 0),
    coalesce(c.n_open, 0), coalesce(a.n_attempts, 0), coalesce(a.n_attempts_without_cost, 0),
    coalesce(q.n_asks, 0), coalesce(q.n_asks_without_cost, 0),
    coalesce(a.cost_usd + q.cost_usd, a.cost_usd, q.cost_usd), m.version
FROM mission_starts AS m
LEFT JOIN times AS t USING (mission)
LEFT JOIN standing AS s USING (mission)
LEFT JOIN ends AS e USING (mission)
LEFT JOIN greens AS g USING (mission)
LEFT JOIN began AS b USING (mission)
LEFT JOIN counts AS c USING (mission)
LEFT JOIN tries AS a USING (mission)
LEFT JOIN questions AS q USING (mission);

-- landed_per_hour --
-- How many units land per hour that a driver is at work?
CREATE VIEW landed_per_hour (
    mission, -- Id of the mission.
    n_landed, -- Units landed.
    active_hours, -- Time that drivers were at work.
    landed_per_hour -- One by the other; null: no time has passed.
) AS
SELECT mission, n_landed, active_seconds / 3600, n_landed / nullif(active_seconds / 3600, 0)
FROM missions;

-- cost_per_landed_unit --
-- What does a landed unit cost, failed attempts, repairs, plans and judgements included?
CREATE VIEW cost_per_landed_unit (
    mission, -- Id of the mission.
    n_landed, -- Units landed.
    cost_usd, -- What agents said attempts and questions cost; null: none said.
    n_attempts_without_cost, -- Attempts that are missing in it.
    n_asks_without_cost, -- Questions that are missing in it.
    cost_per_landed_unit_usd -- One by the other; null: nothing landed or no cost known.
) AS
SELECT mission, n_landed, cost_usd, n_attempts_without_cost, n_asks_without_cost,
    cost_usd / nullif(n_landed, 0)
FROM missions;

-- first_time_right --
-- What share of the units that were tried and are resolved landed without a charged attempt?
CREATE VIEW first_time_right (
    mission, -- Id of the mission.
    n_resolved, -- Units tried that landed or failed.
    n_first_time_right, -- Of these, landed without an attempt that was the work's own fault.
    first_time_right_share -- One by the other; null: none resolved.
) AS
SELECT mission, count(*), count_if(status = 'landed' AND n_charged = 0),
    count_if(status = 'landed' AND n_charged = 0) / count(*)
FROM units
WHERE status IN ('landed', 'failed') AND n_attempts > 0
GROUP BY mission;

-- unit_times --
-- Where does a unit's time go? The five spans of a landed unit add up to `total_seconds`.
CREATE VIEW unit_times (
    mission, -- Id of the mission.
    unit, -- Id of the unit.
    planned_at, -- When it was planned.
    ready_at, -- When the last unit it depends on had ended; null: one has not.
    started_at, -- When its first attempt was started.
    collected_at, -- When the attempt that landed (else the last one) was collected.
    landed_at, -- When `green` took it.
    dependency_seconds, -- Planned to ready.
    wait_seconds, -- Ready to started: for a free slot.
    run_seconds, -- Its attempts up to `collected_at`.
    between_seconds, -- Between its attempts: back-off, and the train refusing what did not land.
    landing_seconds, -- Collected to landed: queue and verification.
    total_seconds -- Planned to landed.
) AS
WITH needs AS (
    SELECT u.mission, u.unit, max(d.ended_at) AS needs_at,
        bool_or(n.need IS NOT NULL AND d.unit IS NOT NULL AND d.ended_at IS NULL) AS open
    FROM units AS u
    LEFT JOIN LATERAL (SELECT unnest(u.depends_on) AS need) AS n ON true
    LEFT JOIN units AS d ON d.mission = u.mission AND d.unit = n.need
    GROUP BY ALL
),
collected AS (
    SELECT a.mission, a.unit, max(a.ended_at) AS collected_at
    FROM attempts AS a LEFT JOIN units AS u USING (mission, unit)
    WHERE a.outcome = 'collected' AND (u.attempt IS NULL OR a.attempt = u.attempt) GROUP BY ALL
),
runs AS (
    SELECT a.mission, a.unit, min(a.started_at) AS started_at,
        sum(a.run_seconds) FILTER (c.collected_at IS NULL OR a.ended_at <= c.collected_at)
            AS run_seconds
    FROM attempts AS a LEFT JOIN collected AS c USING (mission, unit) GROUP BY ALL
),
times AS (
    SELECT u.mission, u.unit, u.planned_at, u.landed_at, r.started_at, c.collected_at,
        r.run_seconds, CASE WHEN NOT n.open THEN greatest(u.planned_at, n.needs_at) END AS ready_at
    FROM units AS u
    JOIN needs AS n USING (mission, unit)
    LEFT JOIN runs AS r USING (mission, unit)
    LEFT JOIN collected AS c USING (mission, unit)
)
SELECT mission, unit, planned_at, ready_at, started_at, collected_at, landed_at,
    epoch(ready_at - planned_at), epoch(started_at - ready_at), run_seconds,
    epoch(collected_at - started_at) - run_seconds, epoch(landed_at - collected_at),
    epoch(landed_at - planned_at)
FROM times;

-- conflict_hot_files --
-- In which files do units get into each other's way?
CREATE VIEW conflict_hot_files (
    repository, -- Path or URL of the target repository.
    file, -- Path in it.
    n_conflicts, -- Merges that failed there.
    n_units, -- Units that it happened to.
    n_missions, -- Missions that it happened in.
    last_at -- When it last happened.
) AS
SELECT m.repository, f.file, count(*), count(DISTINCT (f.mission, f.unit)),
    count(DISTINCT f.mission), max(c.recorded_at)
FROM conflict_files AS f
JOIN conflicts AS c USING (mission, seq)
JOIN mission_starts AS m ON m.mission = f.mission
GROUP BY m.repository, f.file;

-- flake_rate --
-- How often does the verification contradict itself on the same tree?
CREATE VIEW flake_rate (
    mission, -- Id of the mission.
    n_runs, -- Verifications that ran and gave a verdict.
    n_red, -- Of these, red.
    n_flakes, -- Trees that were red, then green.
    flakes_per_run, -- Flakes by runs; null: none ran.
    flaky_share_of_red -- Flakes by red runs; null: none was red.
) AS
WITH flaked AS (SELECT mission, count(*) AS n FROM flakes GROUP BY ALL)
SELECT p.mission, count(*), count_if(p.verdict = 'red'), coalesce(any_value(f.n), 0),
    coalesce(any_value(f.n), 0) / count(*),
    coalesce(any_value(f.n), 0) / nullif(count_if(p.verdict = 'red'), 0)
FROM probes AS p LEFT JOIN flaked AS f USING (mission)
WHERE p.verdict IN ('passed', 'red') AND NOT p.cached
GROUP BY p.mission;

-- flaky_tests --
-- Which tests flake?
CREATE VIEW flaky_tests (
    repository, -- Path or URL of the target repository.
    test, -- Id of the test.
    n_flakes, -- How often it was red, then green on the same tree.
    n_missions, -- Missions that it happened in.
    last_at -- When it last happened.
) AS
SELECT m.repository, t.test, count(*), count(DISTINCT t.mission), max(f.recorded_at)
FROM flake_tests AS t
JOIN flakes AS f USING (mission, seq)
JOIN mission_starts AS m ON m.mission = t.mission
GROUP BY m.repository, t.test;

-- slot_utilisation --
-- What share of the slots' time did agents use while a driver was at work?
CREATE VIEW slot_utilisation (
    mission, -- Id of the mission.
    slots, -- Slots, the most of any driver.
    slot_seconds, -- Time that slots were there: slots by time, over all drivers.
    busy_seconds, -- Time that they were taken by an attempt.
    utilisation -- One by the other; null: no slots or no time.
) AS
WITH busy AS (
    SELECT d.mission, sum(epoch(least(a.until_at, d.ended_at)
        - greatest(a.started_at, d.started_at))) AS busy_seconds
    FROM drives AS d JOIN attempts AS a
        ON a.mission = d.mission AND a.started_at < d.ended_at AND a.until_at > d.started_at
    GROUP BY ALL
),
there AS (
    SELECT mission, max(slots) AS slots, sum(slots * drive_seconds) AS slot_seconds
    FROM drives GROUP BY ALL
)
SELECT t.mission, t.slots, t.slot_seconds, coalesce(b.busy_seconds, 0),
    coalesce(b.busy_seconds, 0) / nullif(t.slot_seconds, 0)
FROM there AS t LEFT JOIN busy AS b USING (mission);

-- agents_compared --
-- Which agent, with which model, lands what share of its attempts, how fast and at what cost?
-- (What questions cost is no part of it: see `agent_costs`.)
CREATE VIEW agents_compared (
    repository, -- Path or URL of the target repository.
    agent, -- Agent of the mission file.
    profile, -- Its profile, such as `claude`; null: not set.
    model, -- Its model; null: not set.
    n_attempts, -- Attempts that have ended.
    n_collected, -- Of these, with a commit for the train.
    n_landed, -- Of these, landed.
    n_charged, -- Attempts that were the work's own fault.
    landed_share, -- Landed by landed and charged; null: neither.
    mean_agent_seconds, -- Mean wall time of the agent.
    cost_usd, -- What it said its attempts cost; null: it never said.
    cost_per_landed_usd -- Cost by landed; null: nothing landed or no cost known.
) AS
SELECT m.repository, a.agent,
    any_value(m.settings ->> ('$.agents."' || a.agent || '".profile')) AS profile,
    m.settings ->> ('$.agents."' || a.agent || '".model') AS model,
    count(*), count_if(a.outcome = 'collected'), count_if(a.fate = 'landed'), count_if(a.charged),
    count_if(a.fate = 'landed') / nullif(count_if(a.fate = 'landed' OR a.charged), 0),
    avg(a.agent_seconds), sum(a.cost_usd), sum(a.cost_usd) / nullif(count_if(a.fate = 'landed'), 0)
FROM attempts AS a JOIN mission_starts AS m USING (mission)
WHERE a.ended_at IS NOT NULL
GROUP BY m.repository, a.agent, model;

-- probes_per_landed_unit --
-- How many verifications does a landed unit take? The probe of the base is not counted.
CREATE VIEW probes_per_landed_unit (
    mission, -- Id of the mission.
    n_landed, -- Units landed.
    n_probes, -- Verifications that ran.
    probe_seconds, -- What they took.
    probes_per_landed_unit, -- Probes by landed; null: nothing landed.
    probe_seconds_per_landed_unit -- Seconds by landed; null: nothing landed.
) AS
WITH ran AS (
    SELECT mission, count(*) AS n, sum(probe_seconds) AS seconds FROM probes
    WHERE kind <> 'base' AND NOT cached AND ended_at IS NOT NULL GROUP BY ALL
)
SELECT m.mission, m.n_landed, coalesce(r.n, 0), coalesce(r.seconds, 0),
    coalesce(r.n, 0) / nullif(m.n_landed, 0), coalesce(r.seconds, 0) / nullif(m.n_landed, 0)
FROM missions AS m LEFT JOIN ran AS r USING (mission);

-- queue_losses --
-- What was the time of verification good for, and what of it was lost?
CREATE VIEW queue_losses (
    mission, -- Id of the mission.
    good_for, -- What the verdicts were good for, as in `probes`.
    n_probes, -- Verifications that ran to a verdict.
    probe_seconds -- What they took.
) AS
SELECT mission, good_for, count(*), sum(probe_seconds)
FROM probes WHERE NOT cached AND ended_at IS NOT NULL GROUP BY ALL;

-- round_phases --
-- Where does a round's time go? Planning, running and evaluating add up to `total_seconds`.
-- Only time counts in which a driver was at work; what goes on counts up to the last event.
CREATE VIEW round_phases (
    mission, -- Id of the mission.
    round, -- Number of the round, from 1.
    plan_seconds, -- From its start to its plan, and from each wish to replan to the new plan.
    run_seconds, -- From its first plan to its end, without the replans; null: no plan yet.
    fixup_seconds, -- While any repair was under way, replans or not; it is no part of the total.
    evaluate_seconds, -- From its end to the judgement; null: nobody judges, or not yet.
    total_seconds -- From its start to the judgement, or to its end without one.
) AS
WITH lasts AS (SELECT mission, max(recorded_at) AS last_at FROM events GROUP BY ALL),
judged AS (
    SELECT mission, round, max(recorded_at) AS judged_at FROM round_judgements GROUP BY ALL
),
asked AS (SELECT DISTINCT mission, round FROM asks WHERE purpose = 'evaluate'),
begun AS (SELECT mission, round, min(seq) AS seq FROM round_starts GROUP BY ALL),
limits AS (
    SELECT r.mission, r.round, b.seq, r.started_at, r.planned_at, r.ended_at, j.judged_at,
        q.round IS NOT NULL AS is_asked,
        coalesce(lead(r.started_at) OVER w, l.last_at) AS next_at,
        coalesce(lead(b.seq) OVER w, 9223372036854775807) AS next_seq
    FROM rounds AS r
    JOIN begun AS b USING (mission, round)
    JOIN lasts AS l USING (mission)
    LEFT JOIN judged AS j USING (mission, round)
    LEFT JOIN asked AS q USING (mission, round)
    WINDOW w AS (PARTITION BY r.mission ORDER BY b.seq)
),
bounds AS ( -- clocks are set back at times: nothing ends before it began
    SELECT mission, round, seq, next_seq, started_at, is_asked,
        CASE WHEN planned_at IS NOT NULL THEN least(planned_at, coalesce(ended_at, next_at)) END
            AS planned_at,
        coalesce(ended_at, next_at) AS over_at, ended_at, judged_at, next_at
    FROM limits
),
replanned AS (
    SELECT w.mission, w.round, w.recorded_at AS began_at,
        least(coalesce(min(p.recorded_at), b.over_at), b.over_at) AS until_at
    FROM replans AS w
    JOIN bounds AS b USING (mission, round)
    LEFT JOIN plans AS p ON p.mission = w.mission AND p.round = w.round AND p.seq > w.seq
    GROUP BY w.mission, w.round, w.seq, w.recorded_at, b.over_at
),
mended AS (
    SELECT r.mission, b.round, r.recorded_at AS began_at,
        least(coalesce(min(e.recorded_at), b.over_at), b.over_at) AS until_at
    FROM repairs AS r
    JOIN bounds AS b ON b.mission = r.mission AND r.seq > b.seq AND r.seq < b.next_seq
    LEFT JOIN repair_ends AS e
        ON e.mission = r.mission AND e.unit = r.unit AND e.repair = r.repair AND e.seq > r.seq
    GROUP BY r.mission, b.round, r.seq, r.recorded_at, b.over_at
),
stretches AS (
    SELECT mission, round, 'first plan' AS phase, started_at AS began_at,
        coalesce(planned_at, over_at) AS until_at
    FROM bounds
    UNION ALL SELECT mission, round, 'run', planned_at, over_at FROM bounds
    UNION ALL
    SELECT mission, round, 'evaluate', ended_at, coalesce(judged_at, next_at) FROM bounds
    WHERE judged_at IS NOT NULL OR is_asked
    UNION ALL SELECT mission, round, 'replan', began_at, until_at FROM replanned
    UNION ALL SELECT mission, round, 'fixup', began_at, until_at FROM mended
),
apart AS ( -- what overlaps counts once: of each stretch the part that none before it covers
    SELECT mission, round, phase, greatest(began_at, max(until_at) OVER w) AS began_at,
        greatest(began_at, until_at) AS until_at
    FROM stretches
    WINDOW w AS (
        PARTITION BY mission, round, phase ORDER BY began_at, until_at
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
),
spent AS (
    SELECT a.mission, a.round, a.phase,
        coalesce(sum(epoch(least(a.until_at, d.ended_at) - greatest(a.began_at, d.started_at))), 0)
            AS phase_seconds
    FROM apart AS a LEFT JOIN drives AS d
        ON d.mission = a.mission AND d.started_at < a.until_at AND d.ended_at > a.began_at
    WHERE a.began_at IS NOT NULL AND (a.until_at > a.began_at OR a.phase IN ('run', 'evaluate'))
    GROUP BY ALL
),
sums AS (
    SELECT mission, round,
        coalesce(sum(phase_seconds) FILTER (phase = 'first plan'), 0) AS planning,
        sum(phase_seconds) FILTER (phase = 'run') AS running,
        coalesce(sum(phase_seconds) FILTER (phase = 'replan'), 0) AS replanning,
        coalesce(sum(phase_seconds) FILTER (phase = 'fixup'), 0) AS mending,
        sum(phase_seconds) FILTER (phase = 'evaluate') AS evaluating
    FROM bounds LEFT JOIN spent USING (mission, round) GROUP BY ALL
)
SELECT mission, round, planning + replanning, running - replanning, mending, evaluating,
    planning + coalesce(running, 0) + coalesce(evaluating, 0)
FROM sums;

-- round_scores --
-- How near does each round come to the objective, and what did it land?
CREATE VIEW round_scores (
    mission, -- Id of the mission.
    round, -- Number of the round, from 1.
    score, -- From what was measured, 0 to 1; null: nothing was.
    judged, -- By an agent's judgement, 0 to 1; null: no answer.
    met, -- Whether the objective is met.
    n_landed, -- Units satisfied at the round's end.
    n_not_landed, -- Units not satisfied at its end.
    n_remains -- Things that are still to be done, as far as somebody said.
) AS
SELECT j.mission, j.round, j.score, j.judged, j.met, r.n_landed, r.n_not_landed,
    coalesce(len(j.remains), 0)
FROM round_judgements AS j LEFT JOIN rounds AS r USING (mission, round)
QUALIFY row_number() OVER (PARTITION BY j.mission, j.round ORDER BY j.seq DESC) = 1;

-- convergence --
-- Do the findings become fewer, from the first round that was judged to the last?
CREATE VIEW convergence (
    mission, -- Id of the mission.
    kind, -- Kind of finding, such as `lint`.
    first_n, -- How many after the first round; a kind that is not named there: 0.
    last_n, -- How many after the last round; a kind that is not named there: 0.
    change -- The last less the first: below 0 is better.
) AS
WITH ends AS (
    SELECT mission, arg_min(seq, (round, -seq)) AS first_seq,
        arg_max(seq, (round, seq)) AS last_seq
    FROM round_judgements GROUP BY ALL
),
counts AS (
    SELECT f.mission, f.kind, coalesce(sum(f.n) FILTER (f.seq = e.first_seq), 0) AS first_n,
        coalesce(sum(f.n) FILTER (f.seq = e.last_seq), 0) AS last_n
    FROM round_findings AS f JOIN ends AS e USING (mission) GROUP BY ALL
)
SELECT mission, kind, first_n, last_n, last_n - first_n FROM counts;

-- agent_costs --
-- What does each agent take for what it is used for?
CREATE VIEW agent_costs (
    mission, -- Id of the mission.
    agent, -- Agent of the mission file.
    purpose, -- `work`, `fixup`, `plan` or `evaluate`.
    n_runs, -- Attempts or questions started.
    n_runs_without_cost, -- Of these, without a word on what it cost.
    agent_seconds, -- Wall time of the agent; null: none has ended.
    cost_usd, -- What it said it cost; null: it never said.
    input_tokens, -- Tokens that went in, cached ones included; null: never told.
    output_tokens, -- Tokens that came out; null: never told.
    cached_tokens, -- Tokens of the input that came from a cache; null: never told.
    turns -- Turns of the model; null: never told.
) AS
WITH runs AS (
    SELECT mission, agent, purpose, agent_seconds, cost_usd, input_tokens, output_tokens,
        cached_tokens, turns
    FROM attempts
    UNION ALL
    SELECT mission, agent, purpose, agent_seconds, cost_usd, input_tokens, output_tokens,
        cached_tokens, turns
    FROM asks
)
SELECT mission, agent, purpose, count(*), count_if(cost_usd IS NULL), sum(agent_seconds),
    sum(cost_usd), sum(input_tokens), sum(output_tokens), sum(cached_tokens), sum(turns)
FROM runs GROUP BY mission, agent, purpose;

-- limits_met --
-- When was an agent's account out of quota, and for how long?
CREATE VIEW limits_met (
    mission, -- Id of the mission.
    agent, -- Agent of the mission file.
    purpose, -- What it was used for: `work`, `fixup`, `plan` or `evaluate`.
    unit, -- Unit that it worked on; null: it was asked a question.
    ask, -- Number of the question; null: it worked on a unit.
    met_at, -- When the limit was met.
    limited_until, -- When there is quota again; null: not told.
    rest_seconds -- From one to the other; null: not told.
) AS
SELECT mission, agent, purpose, unit, NULL, ended_at, limited_until,
    epoch(limited_until - ended_at)
FROM attempts WHERE outcome = 'rate limited' OR limited_until IS NOT NULL
UNION ALL
SELECT mission, agent, purpose, NULL, ask, ended_at, limited_until,
    epoch(limited_until - ended_at)
FROM asks WHERE outcome = 'rate limited' OR limited_until IS NOT NULL;
