SELECT SUMM(amount) OVER (PARTITION BY card_id ORDER BY event_time) AS s
FROM payments;
