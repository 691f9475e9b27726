SELECT TIMESTAMPDIFF(FORTNIGHT, event_time, event_time) AS m
FROM payments;
