SELECT SUM(MAX(amount)) AS s
FROM payments
GROUP BY card_id, TUMBLE(event_time, INTERVAL '5' MINUTE);
