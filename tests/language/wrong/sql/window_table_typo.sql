SELECT COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE paymens, DESCRIPTOR(event_time), INTERVAL '5' MINUTE))
GROUP BY window_start, window_end;
