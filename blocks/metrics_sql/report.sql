-- What the report of one mission says.

-- known_missions --
-- All missions, newest first.
SELECT mission FROM missions ORDER BY started_at DESC, mission;

-- mission --
-- The mission and its figures, in one row.
SELECT *
FROM missions
JOIN (SELECT mission, landed_per_hour FROM landed_per_hour) USING (mission)
JOIN (SELECT mission, cost_per_landed_unit_usd FROM cost_per_landed_unit) USING (mission)
LEFT JOIN first_time_right USING (mission)
LEFT JOIN flake_rate USING (mission)
LEFT JOIN slot_utilisation USING (mission)
LEFT JOIN (SELECT * EXCLUDE (n_landed) FROM probes_per_landed_unit) USING (mission)
WHERE mission = $mission;

-- landed --
-- The units that landed, in their order.
SELECT u.unit, u.title, u.commit_id, u.n_attempts, u.cost_usd, t.total_seconds
FROM units AS u JOIN unit_times AS t USING (mission, unit)
WHERE mission = $mission AND u.commit_id IS NOT NULL ORDER BY u.landed_at, u.position;

-- not_landed --
-- The units that did not land, in plan order.
SELECT unit, title, status, n_attempts, reason FROM units
WHERE mission = $mission AND commit_id IS NULL ORDER BY round, position;

-- refused --
-- The attempts that came to nothing, in their order.
SELECT unit, attempt, agent, fate, charged, detail FROM attempts
WHERE mission = $mission AND fate NOT IN ('landed', 'collected', 'no change')
ORDER BY coalesce(ended_at, until_at), unit, attempt;

-- train --
-- The probes, in their order, with the seconds since the mission began.
SELECT p.probe, epoch(p.started_at - m.started_at) AS began_seconds, p.kind, p.n_units, p.units,
    p.verdict, p.reason, p.failing, p.probe_seconds, p.cached, p.good_for
FROM probes AS p JOIN missions AS m USING (mission)
WHERE mission = $mission ORDER BY p.seq;

-- times --
-- The mean spans of the units that landed.
SELECT count(*) AS n, avg(dependency_seconds) AS dependency, avg(wait_seconds) AS wait,
    avg(run_seconds) AS run, avg(between_seconds) AS between_attempts,
    avg(landing_seconds) AS landing
FROM unit_times WHERE mission = $mission AND landed_at IS NOT NULL;

-- hot_files --
-- Where this mission's units got into each other's way, worst first.
SELECT file, count(*) AS n_conflicts FROM conflict_files
WHERE mission = $mission GROUP BY file ORDER BY n_conflicts DESC, file LIMIT 10;

-- flaked --
-- The tests that contradicted themselves, worst first; the probes are red and green by turns.
SELECT t.test, count(*) AS n_flakes, arg_max(f.tree, f.seq) AS last_tree,
    flatten(list([f.red_probe, f.green_probe] ORDER BY f.seq)) AS probes
FROM flake_tests AS t JOIN flakes AS f USING (mission, seq)
WHERE mission = $mission GROUP BY t.test ORDER BY n_flakes DESC, t.test LIMIT 10;

-- delivery --
-- The last try at bringing `green` to the target repository.
SELECT branch, commit_id, delivered, reason FROM deliveries
WHERE mission = $mission ORDER BY seq DESC LIMIT 1;

-- remarks --
-- What people should know, oldest first.
SELECT text FROM (
    SELECT seq, text FROM warnings WHERE mission = $mission
    UNION ALL SELECT seq, unnest(notes) FROM plans WHERE mission = $mission
    UNION ALL SELECT seq, 'stopped by ' || requested_by || coalesce(': ' || nullif(reason, ''), '')
    FROM stops WHERE mission = $mission
) ORDER BY seq;

-- rounds --
-- The rounds, in their order: where their time went and what came of them.
SELECT p.round, r.n_landed, r.n_not_landed, p.plan_seconds, p.run_seconds, p.fixup_seconds,
    p.evaluate_seconds, p.total_seconds, s.score, s.judged, s.met
FROM round_phases AS p
JOIN rounds AS r USING (mission, round)
LEFT JOIN round_scores AS s USING (mission, round)
WHERE mission = $mission ORDER BY round;

-- findings --
-- What was found after the first round that was judged and after the last, the most first.
SELECT kind, first_n, last_n, change FROM convergence
WHERE mission = $mission ORDER BY last_n DESC, first_n DESC, kind;

-- judgement --
-- What was said of the last round that was judged.
SELECT round, remains, summary FROM round_judgements
WHERE mission = $mission ORDER BY seq DESC LIMIT 1;

-- plan_tree --
-- The parts of agents' plans, plan by plan, each before its own parts.
SELECT p.seq, p.round, p.replan, n.path, n.depth, n.title, n.kind, n.n_units
FROM plan_nodes AS n JOIN plans AS p USING (mission, seq)
WHERE mission = $mission ORDER BY n.seq, n.position;

-- unanswered --
-- The questions to agents that came to nothing, in their order.
SELECT ask, purpose, round, node, agent, outcome, problem FROM asks
WHERE mission = $mission AND outcome NOT IN ('answered', 'stopped') ORDER BY ask;

-- agent_costs --
-- What each agent took for what it was used for.
SELECT * FROM agent_costs WHERE mission = $mission ORDER BY agent, purpose;

-- limits --
-- When agents' accounts were out of quota, in order.
SELECT agent, purpose, met_at, limited_until, rest_seconds FROM limits_met
WHERE mission = $mission ORDER BY met_at, agent;
