SELECT card_id, SUM(merchant_country) AS s
FROM payments
GROUP BY card_id, TUMBLE(event_time, INTERVAL '5' MINUTE);
