SELECT payment_id
FROM payments
WHERE COUNT(*) OVER (PARTITION BY card_id ORDER BY event_time) > 5;
