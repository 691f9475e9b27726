SELECT 1 AS one
FROM payments a
JOIN changes a ON TRUE;
