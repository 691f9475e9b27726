SELECT FLOOR(event_time TO HOURZ) AS h
FROM payments;
