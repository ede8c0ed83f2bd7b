-- The store's own queries.

-- relations --
-- What is in the database, views first, so that it can be dropped in this order.
SELECT view_name, 'VIEW' FROM duckdb_views()
WHERE NOT internal AND database_name = current_database()
UNION ALL
SELECT table_name, 'TABLE' FROM duckdb_tables()
WHERE NOT internal AND database_name = current_database();

-- columns --
-- The tables and their columns' types, in order.
SELECT table_name, column_name, data_type FROM duckdb_columns()
WHERE NOT internal AND database_name = current_database()
    AND table_name IN (SELECT table_name FROM duckdb_tables()
        WHERE database_name = current_database())
ORDER BY table_name, column_index;

-- marks --
-- How far each mission is synced.
SELECT mission, max(seq), arg_max(recorded_at, seq) FROM events GROUP BY mission;
