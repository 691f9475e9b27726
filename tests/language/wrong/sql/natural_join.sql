SELECT 1 AS one
FROM payments
NATURAL JOIN changes;
