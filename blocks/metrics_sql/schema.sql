-- The tables: what ledgers state, and nothing else.
--
-- One event is one row, found by (mission, seq); an event's list is a table of its own, found by
-- (mission, seq, position). Rows are only ever added, so a store that follows a ledger step by step
-- holds what one that reads it at once holds. What belongs together is put together by views.
--
-- A changed text of this file or of views.sql rebuilds every store from its ledgers.
-- Raise this number when rows are made in another way for the same columns: 1.

-- metrics_schema --
-- One row: which schema this database was made with.
CREATE TABLE metrics_schema (
    digest VARCHAR NOT NULL -- Digest of the schema's text.
);

-- events --
-- One row: a record of a ledger, of whatever type; the last one says how far a mission is synced.
CREATE TABLE events (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    type VARCHAR NOT NULL, -- Name of the event, such as `landed`.
    other_fields JSON, -- What the event says that no table has a column for.
    PRIMARY KEY (mission, seq)
);

-- mission_starts --
-- One row: a mission began, with settings frozen.
CREATE TABLE mission_starts (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    name VARCHAR, -- Name in the mission file.
    objective VARCHAR, -- What the mission is for, in its author's words.
    repository VARCHAR, -- Path or URL of the target repository.
    base_branch VARCHAR, -- Branch that the mission starts from.
    base_commit VARCHAR, -- Tip of that branch at the start.
    green_branch VARCHAR, -- Branch that takes landed work.
    start_commit VARCHAR, -- Commit that units start from first.
    settings JSON, -- The whole mission file as understood.
    version VARCHAR, -- Version of the scheduler.
    restarted_green BOOLEAN, -- Whether an older `green` was saved and begun anew.
    reverts VARCHAR[], -- Ids of landed units that it is to take out, and nothing else.
    PRIMARY KEY (mission, seq)
);

-- mission_resumes --
-- One row: another driver went on with a mission.
CREATE TABLE mission_resumes (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    pid BIGINT, -- Process id of the driver.
    settings JSON, -- The settings from here on.
    changed VARCHAR[], -- Keys that differ from before.
    PRIMARY KEY (mission, seq)
);

-- mission_interruptions --
-- One row: a driver ended in an orderly way before the mission did.
CREATE TABLE mission_interruptions (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    reason VARCHAR, -- Why.
    PRIMARY KEY (mission, seq)
);

-- mission_ends --
-- One row: a mission ended.
CREATE TABLE mission_ends (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    stop_reason VARCHAR, -- Why, from a closed set.
    exit_code INTEGER, -- Exit code of the command.
    green_commit VARCHAR, -- Tip of `green`; null: nothing ever passed.
    counts JSON, -- Units by final status.
    elapsed_seconds DOUBLE, -- Time that drivers were at work.
    cost_usd DOUBLE, -- What agents said they cost; null: none said.
    detail VARCHAR, -- More about the reason.
    PRIMARY KEY (mission, seq)
);

-- round_starts --
-- One row: a round began.
CREATE TABLE round_starts (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    round INTEGER NOT NULL, -- Number of the round, from 1.
    green_commit VARCHAR, -- Tip of `green` then.
    PRIMARY KEY (mission, seq)
);

-- round_ends --
-- One row: a round ended: all its units have ended, the train is empty.
CREATE TABLE round_ends (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    round INTEGER NOT NULL, -- Number of the round, from 1.
    n_landed INTEGER, -- Units satisfied.
    n_not_landed INTEGER, -- Units not satisfied.
    green_commit VARCHAR, -- Tip of `green` then.
    PRIMARY KEY (mission, seq)
);

-- plans --
-- One row: a round was planned.
CREATE TABLE plans (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    round INTEGER NOT NULL, -- Number of the round, from 1.
    planner VARCHAR, -- Which planner.
    planning_seconds DOUBLE, -- How long it took.
    notes VARCHAR[], -- What the planner says to people.
    replan INTEGER, -- How often the plan of the round had been made anew.
    PRIMARY KEY (mission, seq)
);

-- planned_units --
-- One row: a unit of a plan.
CREATE TABLE planned_units (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    position INTEGER NOT NULL, -- Place in the event's list, from 0.
    unit VARCHAR NOT NULL, -- Id of the unit.
    title VARCHAR, -- What it is about, in a line.
    agent VARCHAR, -- Agent it asks for.
    depends_on VARCHAR[], -- Ids of the units it needs first.
    writes VARCHAR[], -- Globs of what it may write; null: anything.
    definition JSON, -- The whole unit as planned.
    PRIMARY KEY (mission, seq, position)
);

-- plan_nodes --
-- One row: one node of the tree of an agent's plan.
CREATE TABLE plan_nodes (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the plan's event in the ledger, from 1.
    position INTEGER NOT NULL, -- Place in the tree, pre-order, from 0.
    path VARCHAR NOT NULL, -- The root is `0`, its children `0.1`, `0.2`, …
    parent VARCHAR, -- Path of the node above; empty: the root.
    depth INTEGER NOT NULL, -- The root has 0.
    title VARCHAR, -- What it is about.
    kind VARCHAR NOT NULL, -- `parts`: it has children; `units`; `leaf`: its answers were unusable.
    n_units INTEGER NOT NULL, -- Units that it has itself.
    PRIMARY KEY (mission, seq, position)
);

-- round_judgements --
-- One row: how far the objective was reached after a round.
CREATE TABLE round_judgements (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    round INTEGER NOT NULL, -- Number of the round, from 1.
    met BOOLEAN NOT NULL, -- Whether the objective is met.
    score DOUBLE, -- From what was measured, 0 to 1; null: nothing was.
    judged DOUBLE, -- By an agent's judgement, 0 to 1; null: no answer.
    remains VARCHAR[], -- What is still to be done, the most important first.
    summary VARCHAR, -- The agent's words.
    PRIMARY KEY (mission, seq)
);

-- round_signals --
-- One row: one figure that a round's score was made of, 0 to 1.
CREATE TABLE round_signals (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the judgement's event in the ledger, from 1.
    position INTEGER NOT NULL, -- Place in the event, from 0.
    round INTEGER NOT NULL, -- Number of the round, from 1.
    name VARCHAR NOT NULL, -- Which, such as `units` or `tests`.
    signal_value DOUBLE NOT NULL, -- 1 is best.
    PRIMARY KEY (mission, seq, position)
);

-- round_findings --
-- One row: how many findings of a kind there were after a round.
CREATE TABLE round_findings (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the judgement's event in the ledger, from 1.
    position INTEGER NOT NULL, -- Place in the event, from 0.
    round INTEGER NOT NULL, -- Number of the round, from 1.
    kind VARCHAR NOT NULL, -- Which, such as `lint`.
    n INTEGER NOT NULL, -- How many.
    PRIMARY KEY (mission, seq, position)
);

-- replans --
-- One row: the rest of a round was planned anew.
CREATE TABLE replans (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    round INTEGER NOT NULL, -- Number of the round, from 1.
    replan INTEGER NOT NULL, -- How often in the round, from 1.
    trigger_name VARCHAR NOT NULL, -- Why.
    units VARCHAR[], -- The units that gave reason.
    PRIMARY KEY (mission, seq)
);

-- review_requests --
-- One row: a person was asked.
CREATE TABLE review_requests (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    review VARCHAR NOT NULL, -- Which question, such as `canary`.
    about VARCHAR, -- What was asked.
    units VARCHAR[], -- The units that it is about.
    PRIMARY KEY (mission, seq)
);

-- review_answers --
-- One row: a person answered.
CREATE TABLE review_answers (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    review VARCHAR NOT NULL, -- Which question.
    answer VARCHAR NOT NULL, -- `approved` or `rejected`.
    answered_by VARCHAR, -- Who.
    note VARCHAR, -- In their words.
    PRIMARY KEY (mission, seq)
);

-- attempt_starts --
-- One row: an agent was about to work on a unit.
CREATE TABLE attempt_starts (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    unit VARCHAR NOT NULL, -- Id of the unit.
    attempt INTEGER NOT NULL, -- Number of the attempt at the unit, from 1.
    base_commit VARCHAR, -- Commit that it started from.
    agent VARCHAR, -- Agent of the mission file.
    place VARCHAR, -- Host that it ran on.
    slot INTEGER, -- Slot of that place, from 0.
    PRIMARY KEY (mission, seq)
);

-- attempt_ends --
-- One row: an attempt was over.
CREATE TABLE attempt_ends (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    unit VARCHAR NOT NULL, -- Id of the unit.
    attempt INTEGER NOT NULL, -- Number of the attempt at the unit, from 1.
    outcome VARCHAR NOT NULL, -- How, such as `collected` or `timed out`.
    head VARCHAR, -- Commit with the result; null: none.
    tree VARCHAR, -- Its tree.
    files VARCHAR[], -- Paths that it changed.
    detail VARCHAR, -- Why, for people.
    proven BOOLEAN, -- Whether no change was needed: the unit's verification passes.
    exit_code INTEGER, -- Exit code of the agent.
    agent_seconds DOUBLE, -- Wall time of the agent.
    cpu_seconds DOUBLE, -- CPU time of the agent's processes.
    peak_memory_bytes BIGINT, -- Largest resident set.
    output_bytes BIGINT, -- What the agent printed.
    prepare_seconds DOUBLE, -- Time to get the workspace ready.
    collect_seconds DOUBLE, -- Time to bring the result home.
    cost_usd DOUBLE, -- What the agent said it cost; null: it did not say.
    task_run_id VARCHAR, -- Prefect task run.
    agent_ended_at TIMESTAMP, -- When the agent itself ended, UTC.
    report JSON, -- The agent's result line.
    review VARCHAR, -- Of a reviewing agent: `accepted`, `refused`, `no answer`; empty: none.
    session VARCHAR, -- The agent's own id of its session.
    turns INTEGER, -- Turns of the model; null: not told.
    input_tokens BIGINT, -- Tokens that went in, cached ones included; null: not told.
    output_tokens BIGINT, -- Tokens that came out; null: not told.
    cached_tokens BIGINT, -- Tokens of the input that came from a cache; null: not told.
    limited_until TIMESTAMP, -- When the account has quota again, UTC; null: it had.
    PRIMARY KEY (mission, seq)
);

-- ask_starts --
-- One row: an agent is asked something that it answers in words.
CREATE TABLE ask_starts (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    ask INTEGER NOT NULL, -- Number of the question in the mission, from 1.
    purpose VARCHAR NOT NULL, -- `plan` or `evaluate`.
    round INTEGER NOT NULL, -- Number of the round, from 1.
    replan INTEGER, -- How often the round's plan had been made anew.
    node VARCHAR, -- Part of the plan, such as `0.2`.
    agent VARCHAR, -- Name of the agent in the mission file.
    place VARCHAR, -- Where it ran.
    slot INTEGER, -- Which of that place's slots for questions.
    green_commit VARCHAR, -- What it looked at.
    PRIMARY KEY (mission, seq)
);

-- ask_ends --
-- One row: a question ended, with or without an answer.
CREATE TABLE ask_ends (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    ask INTEGER NOT NULL, -- Number of the question in the mission, from 1.
    outcome VARCHAR NOT NULL, -- How, such as `answered` or `unusable`.
    answer JSON, -- The answer as it was understood.
    problem VARCHAR, -- What was wrong with it, for people.
    exit_code INTEGER, -- Exit code of the agent.
    agent_seconds DOUBLE, -- Wall time of the agent.
    cpu_seconds DOUBLE, -- CPU time of the agent's processes.
    cost_usd DOUBLE, -- What the agent said it cost; null: it did not say.
    task_run_id VARCHAR, -- Prefect task run.
    session VARCHAR, -- The agent's own id of its session.
    turns INTEGER, -- Turns of the model; null: not told.
    input_tokens BIGINT, -- Tokens that went in, cached ones included; null: not told.
    output_tokens BIGINT, -- Tokens that came out; null: not told.
    cached_tokens BIGINT, -- Tokens of the input that came from a cache; null: not told.
    limited_until TIMESTAMP, -- When the account has quota again, UTC; null: it had.
    PRIMARY KEY (mission, seq)
);

-- unit_ends --
-- One row: a unit will not be tried again.
CREATE TABLE unit_ends (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    unit VARCHAR NOT NULL, -- Id of the unit.
    status VARCHAR NOT NULL, -- `landed`, `no change`, `failed` or `blocked`.
    reason VARCHAR, -- Why, for people.
    PRIMARY KEY (mission, seq)
);

-- stackings --
-- One row: a candidate was merged on top of the train's stack.
CREATE TABLE stackings (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    unit VARCHAR NOT NULL, -- Id of the unit.
    attempt INTEGER NOT NULL, -- Number of the attempt at the unit, from 1.
    onto VARCHAR, -- Commit that it was merged on top of.
    commit_id VARCHAR, -- The commit.
    tree VARCHAR, -- Tree of the commit.
    line INTEGER, -- Line of the train: 0 lands, others screen, -1 tries culprits, -2 repairs.
    changed_lines INTEGER, -- Lines that it adds and removes; known of repairs.
    PRIMARY KEY (mission, seq)
);

-- conflicts --
-- One row: a candidate did not merge.
CREATE TABLE conflicts (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    unit VARCHAR NOT NULL, -- Id of the unit.
    attempt INTEGER NOT NULL, -- Number of the attempt at the unit, from 1.
    onto VARCHAR, -- Commit that it was merged on top of.
    detail VARCHAR, -- What git said.
    line INTEGER, -- Line of the train: 0 lands, others screen, -1 tries culprits, -2 repairs.
    PRIMARY KEY (mission, seq)
);

-- conflict_files --
-- One row: a file in which a candidate did not merge.
CREATE TABLE conflict_files (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    position INTEGER NOT NULL, -- Place in the event's list, from 0.
    unit VARCHAR NOT NULL, -- Id of the unit.
    file VARCHAR NOT NULL, -- Path in the repository.
    PRIMARY KEY (mission, seq, position)
);

-- empties --
-- One row: merged, a candidate changed nothing.
CREATE TABLE empties (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    unit VARCHAR NOT NULL, -- Id of the unit.
    attempt INTEGER NOT NULL, -- Number of the attempt at the unit, from 1.
    onto VARCHAR, -- Commit that it was merged on top of.
    line INTEGER, -- Line of the train: 0 lands, others screen, -1 tries culprits, -2 repairs.
    PRIMARY KEY (mission, seq)
);

-- culprits --
-- One row: a candidate was set aside, since the first red prefix ends with it.
CREATE TABLE culprits (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    unit VARCHAR NOT NULL, -- Id of the unit.
    attempt INTEGER NOT NULL, -- Number of the attempt at the unit, from 1.
    commit_id VARCHAR, -- The commit.
    tree VARCHAR, -- Tree of the commit.
    probe INTEGER, -- The red probe.
    line INTEGER, -- Line of the train: 0 lands, others screen, -1 tries culprits, -2 repairs.
    PRIMARY KEY (mission, seq)
);

-- ejections --
-- One row: a candidate was red twice on the same tree.
CREATE TABLE ejections (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    unit VARCHAR NOT NULL, -- Id of the unit.
    attempt INTEGER NOT NULL, -- Number of the attempt at the unit, from 1.
    probe INTEGER, -- The second red probe.
    reason VARCHAR, -- What was red.
    failing VARCHAR[], -- Ids of failing tests.
    PRIMARY KEY (mission, seq)
);

-- clearances --
-- One row: a screened culprit passed alone, and went on.
CREATE TABLE clearances (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    unit VARCHAR NOT NULL, -- Id of the unit.
    attempt INTEGER NOT NULL, -- Number of the attempt at the unit, from 1.
    probe INTEGER, -- The probe that passed.
    PRIMARY KEY (mission, seq)
);

-- clashes --
-- One row: a candidate was good alone and red with a unit that landed first.
CREATE TABLE clashes (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    unit VARCHAR NOT NULL, -- Id of the unit.
    attempt INTEGER NOT NULL, -- Number of the attempt at the unit, from 1.
    partner VARCHAR, -- Id of the unit that landed first.
    probe INTEGER, -- The second red probe.
    reason VARCHAR, -- What was red.
    failing VARCHAR[], -- Ids of failing tests.
    PRIMARY KEY (mission, seq)
);

-- base_moves --
-- One row: somebody pushed to the base branch.
CREATE TABLE base_moves (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    branch VARCHAR, -- Name of the base branch.
    commit_id VARCHAR, -- Its new tip.
    PRIMARY KEY (mission, seq)
);

-- base_refusals --
-- One row: what was pushed to the base branch was red with what landed, and left out.
CREATE TABLE base_refusals (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    commit_id VARCHAR, -- The tip of the base branch.
    probe INTEGER, -- The second red probe.
    reason VARCHAR, -- What was red.
    PRIMARY KEY (mission, seq)
);

-- repairs --
-- One row: fix-up agents started on refused work.
CREATE TABLE repairs (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    unit VARCHAR NOT NULL, -- Id of the unit.
    repair INTEGER NOT NULL, -- Number of the repair of this work, from 1.
    head VARCHAR, -- Commit that they start from.
    base_commit VARCHAR, -- Value of `green` that the work was made from.
    reason VARCHAR, -- What was red.
    candidates VARCHAR[], -- Names of their attempts.
    PRIMARY KEY (mission, seq)
);

-- repair_ends --
-- One row: the best of the repairs was chosen, or there was none.
CREATE TABLE repair_ends (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    unit VARCHAR NOT NULL, -- Id of the unit.
    repair INTEGER NOT NULL, -- Number of the repair of this work, from 1.
    winner VARCHAR, -- Name of the chosen one; empty: none.
    attempt INTEGER, -- Number of the unit's attempt that it goes on as.
    reason VARCHAR, -- Why, for people.
    PRIMARY KEY (mission, seq)
);

-- revert_requests --
-- One row: a person wanted a landed unit taken out again.
CREATE TABLE revert_requests (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    unit VARCHAR NOT NULL, -- Id of the unit.
    requested_by VARCHAR, -- Who asked.
    PRIMARY KEY (mission, seq)
);

-- reverts --
-- One row: the change that takes a landed unit out became a candidate, or could not.
CREATE TABLE reverts (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    unit VARCHAR NOT NULL, -- Id of the unit.
    revert VARCHAR, -- Id that it goes by; empty: it could not be made.
    commit_id VARCHAR, -- The landed commit that is taken out.
    head VARCHAR, -- The change.
    reason VARCHAR, -- Why it could not be made.
    PRIMARY KEY (mission, seq)
);

-- flakes --
-- One row: the same tree was red, then green.
CREATE TABLE flakes (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    unit VARCHAR NOT NULL, -- Id of the unit.
    attempt INTEGER NOT NULL, -- Number of the attempt at the unit, from 1.
    tree VARCHAR, -- Tree of the commit.
    red_probe INTEGER, -- The probe that was red.
    green_probe INTEGER, -- The probe that was green.
    PRIMARY KEY (mission, seq)
);

-- flake_tests --
-- One row: a test that flaked.
CREATE TABLE flake_tests (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    position INTEGER NOT NULL, -- Place in the event's list, from 0.
    test VARCHAR NOT NULL, -- Id of the test.
    PRIMARY KEY (mission, seq, position)
);

-- probe_starts --
-- One row: a tree was about to be verified.
CREATE TABLE probe_starts (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    probe INTEGER NOT NULL, -- Number of the probe in its mission, from 1.
    kind VARCHAR NOT NULL, -- What it was asked about: `base`, `stack`, `screen`, `confirm`, …
    commit_id VARCHAR, -- The commit.
    tree VARCHAR, -- Tree of the commit.
    n_units INTEGER, -- How many units the tree holds above `green`.
    PRIMARY KEY (mission, seq)
);

-- probe_units --
-- One row: a unit that a probed tree held above `green`.
CREATE TABLE probe_units (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    position INTEGER NOT NULL, -- Place in the event's list, from 0.
    probe INTEGER NOT NULL, -- Number of the probe in its mission, from 1.
    unit VARCHAR NOT NULL, -- Id of the unit.
    PRIMARY KEY (mission, seq, position)
);

-- probe_ends --
-- One row: the verdict on a tree.
CREATE TABLE probe_ends (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    probe INTEGER NOT NULL, -- Number of the probe in its mission, from 1.
    verdict VARCHAR NOT NULL, -- `passed`, `red` or `not a run`.
    reason VARCHAR, -- Why, for people.
    failing VARCHAR[], -- Ids of failing tests.
    exit_code INTEGER, -- Exit code of the verification.
    verify_seconds DOUBLE, -- Wall time of the verification.
    prepare_seconds DOUBLE, -- Time to get the workspace ready.
    cpu_seconds DOUBLE, -- CPU time of the verification's processes.
    peak_memory_bytes BIGINT, -- Largest resident set.
    coverage DOUBLE, -- Covered share of the code; null: not measured.
    reading VARCHAR, -- File with the full reading.
    log VARCHAR, -- File with the output.
    output VARCHAR, -- The end of what a red one printed.
    cached BOOLEAN, -- Whether an earlier pass of the same tree was taken.
    place VARCHAR, -- Host that it ran on.
    PRIMARY KEY (mission, seq)
);

-- readings --
-- One row: a count that a probe's reports gave.
CREATE TABLE readings (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    position INTEGER NOT NULL, -- Place in the event's list, from 0.
    probe INTEGER NOT NULL, -- Number of the probe in its mission, from 1.
    source VARCHAR NOT NULL, -- `tests` or `findings`.
    name VARCHAR NOT NULL, -- What was counted, such as `passed` or `ruff`.
    n BIGINT, -- The count.
    PRIMARY KEY (mission, seq, position)
);

-- landing_intents --
-- One row: `green` was about to move.
CREATE TABLE landing_intents (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    old_commit VARCHAR, -- Tip before; null: none.
    new_commit VARCHAR, -- Tip after.
    tree VARCHAR, -- Tree of the commit.
    probe INTEGER, -- The probe that the tree passed in.
    n_units INTEGER, -- How many units it brings.
    units VARCHAR[], -- Their ids, bottom first.
    PRIMARY KEY (mission, seq)
);

-- landings --
-- One row: `green` moved.
CREATE TABLE landings (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    old_commit VARCHAR, -- Tip before; null: none.
    new_commit VARCHAR, -- Tip after.
    tree VARCHAR, -- Tree of the commit.
    probe INTEGER, -- The probe that the tree passed in.
    n_units INTEGER, -- How many units it brings.
    PRIMARY KEY (mission, seq)
);

-- landing_units --
-- One row: a unit that landed.
CREATE TABLE landing_units (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    position INTEGER NOT NULL, -- Place in the event's list, from 0.
    unit VARCHAR NOT NULL, -- Id of the unit.
    PRIMARY KEY (mission, seq, position)
);

-- adoptions --
-- One row: another mission had moved `green` on, and this one went on from there.
CREATE TABLE adoptions (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    old_commit VARCHAR, -- What `green` was before.
    new_commit VARCHAR, -- What it is now.
    PRIMARY KEY (mission, seq)
);

-- deliveries --
-- One row: the target repository's branch was pushed, or refused.
CREATE TABLE deliveries (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    branch VARCHAR, -- Branch of the target repository.
    commit_id VARCHAR, -- The commit.
    delivered BOOLEAN NOT NULL, -- Whether the target took it.
    reason VARCHAR, -- Why not.
    PRIMARY KEY (mission, seq)
);

-- stops --
-- One row: a person asked a mission to stop.
CREATE TABLE stops (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    requested_by VARCHAR, -- Who.
    reason VARCHAR, -- Why.
    PRIMARY KEY (mission, seq)
);

-- warnings --
-- One row: something that a person should know.
CREATE TABLE warnings (
    mission VARCHAR NOT NULL, -- Id of the mission.
    seq BIGINT NOT NULL, -- Number of the event in its ledger, from 1.
    recorded_at TIMESTAMP NOT NULL, -- When it was recorded, UTC.
    text VARCHAR NOT NULL, -- What.
    PRIMARY KEY (mission, seq)
);
