SELECT TUMBLE_END(event_time, INTERVAL '6' MINUTE) AS e
FROM payments
GROUP BY card_id, TUMBLE(event_time, INTERVAL '5' MINUTE);
