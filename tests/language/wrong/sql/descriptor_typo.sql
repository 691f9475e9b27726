SELECT COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(evnt_time), INTERVAL '5' MINUTE))
GROUP BY window_start, window_end;
