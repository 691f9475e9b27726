SELECT card_id
FROM payments
WHERE SUM(amount) > 100
GROUP BY card_id, TUMBLE(event_time, INTERVAL '5' MINUTE);
