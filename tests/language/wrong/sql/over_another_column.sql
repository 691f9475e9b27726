SELECT SUM(amount) OVER (PARTITION BY card_id ORDER BY amount) AS s
FROM payments;
