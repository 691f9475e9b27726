SELECT COUNT(*) OVER (PARTITION BY crad_id ORDER BY event_time) AS n
FROM payments;
