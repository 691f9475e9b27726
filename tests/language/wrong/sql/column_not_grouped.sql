SELECT card_id, amount, COUNT(*) AS n
FROM payments
GROUP BY card_id, TUMBLE(event_time, INTERVAL '5' MINUTE);
