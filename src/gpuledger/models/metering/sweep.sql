-- What is known of each of {keys} over time, from all who tell of it, without overlaps: where several tell at once, each
-- attribute is the word of the best informed who knows it. {told} has the keys, start, end, teller, facts (a number that
-- stands for the attributes) and the attributes.
WITH marked AS (
    -- Neighbours that say the same are one, so that a machine told in short steps costs no more than one told at once.
    SELECT
        *,
        CASE
            WHEN max("end") OVER (
                PARTITION BY {keys}, teller, facts ORDER BY start, "end" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) >= start THEN 0
            ELSE 1
        END AS _begins
    FROM {told}
), numbered AS (
    SELECT
        {keys}, teller, facts, start, "end",
        sum(_begins) OVER (PARTITION BY {keys}, teller, facts ORDER BY start, "end" ROWS UNBOUNDED PRECEDING) AS _run
    FROM marked
), span AS (
    SELECT {keys}, teller, facts, min(start) AS start, max("end") AS "end"
    FROM numbered
    GROUP BY {keys}, teller, facts, _run
), meant AS (
    SELECT facts, {meant} FROM {told} GROUP BY facts
), run AS (
    SELECT * FROM span JOIN meant USING (facts)
), edge AS (
    SELECT DISTINCT {keys}, unnest([start, "end"]) AS _at FROM run
), piece AS (
    SELECT {keys}, _at AS _from, lead(_at) OVER (PARTITION BY {keys} ORDER BY _at) AS _until FROM edge
), heard AS (
    SELECT
        piece.*, run.* EXCLUDE ({keys}, start, "end"),
        concat_ws(' ', CAST(provider_id IS NULL AS INTEGER), CAST(instance_type IS NULL AS INTEGER), teller, {texts}) AS _rank
    FROM piece
    JOIN run USING ({keys})
    WHERE run.start <= piece._from AND run."end" >= piece._until
)
SELECT {keys}, _from AS start, _until AS "end", min(teller) AS teller, {best}
FROM heard
GROUP BY {keys}, _from, _until
