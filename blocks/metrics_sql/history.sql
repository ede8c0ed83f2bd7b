-- What earlier missions of a repository tell about the next one.

-- verifications --
-- How many missions there were, and quantiles of how long a verification that ran took.
SELECT (SELECT count(*) FROM mission_starts WHERE repository = $repository),
    quantile_cont(p.verify_seconds, [0.1, 0.5, 0.9])
FROM probes AS p JOIN mission_starts AS m USING (mission)
WHERE m.repository = $repository AND p.verdict IN ('passed', 'red') AND NOT p.cached;

-- agents_attempts --
-- For each agent its attempts at units that ended by themselves, those that told a cost, the units
-- that are satisfied by them, and quantiles; units with a command of their own are put together.
WITH commanded AS (
    SELECT mission, unit, bool_or(definition ->> '$.command' IS NOT NULL) AS is_command
    FROM planned_units GROUP BY ALL
)
SELECT CASE WHEN c.is_command THEN $commands ELSE a.agent END AS agent, count(*),
    count(a.cost_usd),
    count(DISTINCT (a.mission, a.unit)) FILTER (u.status IN ('landed', 'no change')),
    quantile_cont(a.agent_seconds, [0.1, 0.5, 0.9]), quantile_cont(a.cost_usd, [0.1, 0.5, 0.9])
FROM attempts AS a
JOIN mission_starts AS m USING (mission)
LEFT JOIN units AS u ON u.mission = a.mission AND u.unit = a.unit
LEFT JOIN commanded AS c ON c.mission = a.mission AND c.unit = a.unit
WHERE m.repository = $repository AND a.purpose = 'work' AND a.ended_at IS NOT NULL
    AND a.outcome NOT IN ('infrastructure', 'rate limited', 'stopped')
GROUP BY 1 ORDER BY 1;
