SELECT FLOOR(event_time TO) AS h
FROM payments;
