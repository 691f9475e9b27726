SELECT event_time + INTERVAL '5' MINUTEZ AS t
FROM payments;
