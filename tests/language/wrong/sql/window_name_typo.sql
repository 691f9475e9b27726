SELECT SUM(amount) OVER v AS s
FROM payments
WINDOW w AS (PARTITION BY card_id ORDER BY event_time);
