SELECT EXTRACT(HOURS FROM event_time) AS h
FROM payments;
