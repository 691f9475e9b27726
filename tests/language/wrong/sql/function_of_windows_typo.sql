SELECT COUNT(*) AS n
FROM TABLE(TUMBEL(TABLE payments, DESCRIPTOR(event_time), INTERVAL '5' MINUTE))
GROUP BY window_start, window_end;
