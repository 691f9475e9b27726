SELECT SUM(amount) OVER (PARTITION BY card_id) AS s
FROM payments;
