LEFT JOIN (
    SELECT replica, start, "end",
        map_from_entries(list((le, exact_quantity(value)) ORDER BY le::DOUBLE) FILTER ("column" = 'ttft')) AS ttft_buckets,
        map_from_entries(list((le, exact_quantity(value)) ORDER BY le::DOUBLE) FILTER ("column" = 'tpot')) AS tpot_buckets
    FROM (
        SELECT replica, start, "end", "column", le, sum(value) AS value FROM cell WHERE part = 'bucket'
        GROUP BY replica, start, "end", "column", le
    )
    GROUP BY replica, start, "end"
) AS b USING (replica, start, "end")
