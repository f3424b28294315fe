-- What the incidents in `un_top` share with owned resources: rule, the value that is shared, whose it is, how many
-- owned resources share it and what they cost in the window. One row per incident, rule, value and owner.
WITH shared AS (
    SELECT incident, clue.rule, clue.value, min(clue.shown) AS shown
    FROM (SELECT incident, unnest({clues}) AS clue FROM un_part WHERE incident IN (SELECT incident FROM un_top))
    WHERE clue.value IS NOT NULL
    GROUP BY ALL
), known AS (
    SELECT * EXCLUDE (clue), clue.rule, clue.value
    FROM (SELECT team, cost_center, owner, project, thing, cost, unnest({clues}) AS clue FROM un_own)
    WHERE clue.value IS NOT NULL
)
SELECT
    s.incident, s.rule, s.value, any_value(s.shown) AS shown, k.team, k.cost_center, k.owner, k.project,
    count(DISTINCT k.thing) AS resources, sum(k.cost) AS cost
FROM shared AS s
JOIN known AS k USING (rule, value)
GROUP BY s.incident, s.rule, s.value, k.team, k.cost_center, k.owner, k.project;
