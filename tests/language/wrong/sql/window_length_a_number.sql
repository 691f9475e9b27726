SELECT COUNT(*) AS n
FROM payments
GROUP BY TUMBLE(event_time, 5);
