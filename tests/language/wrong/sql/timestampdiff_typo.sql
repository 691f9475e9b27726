SELECT TIMESTAMPDIFF(MINUT, event_time, event_time) AS m
FROM payments;
