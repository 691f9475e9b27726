WITH large AS (SELECT * FROM payments WHERE amount > 100)
SELECT * FROM lrage;
